"""How long a connection without data may be quiet before what is on the way forgets it.

NATs and firewalls drop what they have not seen for a while (RFC 4787, section 4.3), and none tells
when. So the end that calls makes longer and longer pauses, and the end that was called speaks
just before each pause is over: if that arrives, the pause held.
"""

from __future__ import annotations

from ropeway.core.tuning import (
    IDLE_ANSWER_SHARE,
    IDLE_GROWTH,
    IDLE_MAX_S,
    IDLE_MIN_S,
    IDLE_RETRY_S,
    IDLE_START_S,
)

#: Single frames may be lost for other reasons.
_MISSED_MAX = 3
#: A frame that came after this share of the pause proves it.
_PROOF_SHARE = 0.9 * IDLE_ANSWER_SHARE


class Keepalive:
    """The pause between two frames of a connection without data, in seconds."""

    __slots__ = ("_ceiling_s", "_ceiling_until", "_missed", "pause_s", "trying")

    def __init__(self) -> None:
        self.pause_s = IDLE_START_S
        #: Whether nothing has proven yet that the present pause holds, though a shorter one did.
        self.trying = False
        self._missed = 0
        self._ceiling_s = IDLE_MAX_S
        self._ceiling_until = float("-inf")

    def proves(self, quiet_s: float) -> bool:
        """Return whether a frame proves the pause that came when this end was quiet so long."""
        if quiet_s < _PROOF_SHARE * self.pause_s:
            return False
        self._missed = 0
        self.trying = False
        return True

    def settled(self, now: float) -> bool:
        """Return whether there is no longer pause to be tried."""
        longest_s = self._ceiling_s if now < self._ceiling_until else IDLE_MAX_S
        return self.pause_s >= longest_s

    def lengthen(self, now: float) -> None:
        """Try a longer pause, up to what has not failed lately."""
        if now >= self._ceiling_until:
            self._ceiling_s = IDLE_MAX_S
        before_s = self.pause_s
        self.pause_s = min(before_s * IDLE_GROWTH, self._ceiling_s)
        self.trying = self.pause_s > before_s

    def missed(self, now: float) -> None:
        """Take note that a pause ended without the frame that proves it."""
        self._missed += 1
        if self._missed < _MISSED_MAX:
            return
        self._missed = 0
        self.trying = False
        self.pause_s = max(self.pause_s / IDLE_GROWTH, IDLE_MIN_S)
        self._ceiling_s = self.pause_s
        self._ceiling_until = now + IDLE_RETRY_S
