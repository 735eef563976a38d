"""The parts of a secure strand: each a group of facts that change together."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, SocketKey
from ropeway.core.strand.strand import NEVER, Held
from ropeway.core.timers import NOT_DUE

#: What is wrong where the other end's handshakes are stale, and where this host's are.
STALE = (
    "its handshakes are genuine but older than ones before: its clock was set back and its state"
    " lost, or somebody plays back old ones; it is called back, but set its clock"
)
OWN_STALE = (
    "it takes this host's handshakes for old ones, and has called back: this host's clock was set"
    " back and its state lost; set the clock"
)
#: What is wrong where the other end has removed this host.
SHUT_OUT = "it has shut this host out: this host's key is not among its peers any more"


class PacketRate:
    """How many packets a second pass, from a count that is looked at now and then.

    It grows at once, since packets are counted before their second is over, and halves in a second
    at most, so that it is still known after a moment without packets.
    """

    __slots__ = ("_at", "_count", "_last", "per_s")

    def __init__(self) -> None:
        #: None in the first second.
        self.per_s: Optional[float] = None
        self._last: Optional[float] = None
        self._at = NEVER
        self._count = 0

    def forget(self) -> None:
        """Forget what was counted: what begins then is another flow."""
        self.per_s = self._last = None
        self._at = NEVER

    def look(self, count: int, now: float) -> None:
        """Take the count of packets so far."""
        passed_s = now - self._at
        grown = count - self._count
        if passed_s < tuning.RATE_S:
            if self._last is not None:
                self.per_s = max(self._last, grown / tuning.RATE_S)
            return
        if self._at == NEVER:
            self._last = None
        else:
            self._last = max(grown / passed_s, (self._last or 0.0) / 2)
        self.per_s = self._last
        self._at, self._count = now, count


class SessionRequest:
    """How a host is asked for a session. Times are monotonic seconds."""

    __slots__ = ("due", "packet_at", "pause_s", "reported", "sent_at", "wanted_since")

    def __init__(self) -> None:
        #: When it is asked next.
        self.due = NOT_DUE
        #: Since when a session is wanted.
        self.wanted_since = NOT_DUE
        self.sent_at = NEVER
        #: The pause after the next question.
        self.pause_s = tuning.INITIATE_MIN_S
        #: When a packet could not be sent at once.
        self.packet_at = NEVER
        #: Whether it was reported that the host does not answer.
        self.reported = False

    @property
    def is_open(self) -> bool:
        """Whether a session is asked for."""
        return self.due != NOT_DUE

    def begin(self, now: float) -> None:
        """Ask soon; nothing if that was done just now."""
        if not self.is_open:
            self.wanted_since = now
        self.pause_s = tuning.INITIATE_MIN_S
        self.due = min(self.due, max(now, self.sent_at + tuning.INITIATE_GAP_S))

    def end(self) -> None:
        """Ask no more: there is a session."""
        self.due = self.wanted_since = NOT_DUE
        self.reported = False
        self.pause_s = tuning.INITIATE_MIN_S


class StaleHandshakes:
    """What is known of handshakes that were genuine but older than others."""

    __slots__ = ("asked_at", "at", "called_back", "own", "reported_at")

    def __init__(self) -> None:
        #: When the host sent some last, and when that was reported.
        self.at = NEVER
        self.reported_at = NEVER
        #: When the host was asked whether it is there all the same.
        self.asked_at = NEVER
        #: Where it was called back, at which socket, and when.
        self.called_back: Dict[Tuple[SocketKey, Endpoint], float] = {}
        #: Whether the host has said that this host's own handshakes are stale there.
        self.own = False


class Waiting:
    """Packets that wait for a session."""

    __slots__ = ("packets", "since")

    def __init__(self) -> None:
        self.packets: List[Held] = []
        #: When the first of them came.
        self.since = NEVER

    def add(self, held: Held) -> bool:
        """Keep a packet if that is not for long; return whether it is kept."""
        now = held[2]
        if not self.packets:
            self.since = now
        if self.is_over(now) or len(self.packets) >= tuning.HELD_PACKETS:
            return False
        self.packets.append(held)
        return True

    def is_over(self, now: float) -> bool:
        """Return whether the first packet has waited for as long as any may."""
        return now - self.since >= tuning.HELD_S

    def take(self) -> List[Held]:
        """Return what waits, and keep nothing of it."""
        packets, self.packets = self.packets, []
        return packets
