"""Whether two hosts use one key: one is heard, and handshakes come from somewhere else.

The stamps of two such hosts are in one order, so one host's handshakes are stale while the other
has the session. A handshake that was overtaken on its way comes once; one that another host has
begun is followed by the next within seconds.
"""

from __future__ import annotations

from typing import Optional, Tuple

from ropeway.core.endpoint import Endpoint

#: Handshakes come from elsewhere for this time, in seconds, before that is reported ...
CLONE_S = 15.0
#: ... without a longer pause than this, after which they are over. Nor was the host itself heard
#: there for as long.
CLONE_PAUSE_S = 60.0
#: It is reported again after this time, in seconds, if it has not ended.
CLONE_REPORT_PAUSE_S = 3600.0

_INF = float("inf")


class Clones:
    """What speaks for another host with the key of one peer. Times are monotonic seconds."""

    __slots__ = ("_last_at", "_places", "_reported_at", "_since")

    def __init__(self) -> None:
        self._since = _INF
        self._last_at = -_INF
        self._reported_at = -_INF
        self._places: Optional[Tuple[Endpoint, Endpoint]] = None

    def note(self, here: Endpoint, there: Endpoint, now: float) -> bool:
        """Note that the host is heard ``here`` and has begun a handshake ``there``.

        True if this has to be reported now.
        """
        if now - self._last_at >= CLONE_PAUSE_S:
            self._since = now
        self._last_at = now
        self._places = (here, there)
        if self.places(now) is None or now - self._reported_at < CLONE_REPORT_PAUSE_S:
            return False
        self._reported_at = now
        return True

    def places(self, now: float) -> Optional[Tuple[Endpoint, Endpoint]]:
        """Return where the two hosts are; None if there is one only, as far as is known."""
        lasting = self._last_at - self._since >= CLONE_S
        return self._places if lasting and now - self._last_at < CLONE_PAUSE_S else None
