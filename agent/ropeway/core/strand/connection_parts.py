"""The parts of a secure connection: each a group of facts that change together."""

from __future__ import annotations

from typing import Optional, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, Place
from ropeway.core.frame.control import Control
from ropeway.core.session.admission import COOKIE_S
from ropeway.core.session.session import Session
from ropeway.core.strand.keepalive import Keepalive
from ropeway.core.strand.loss import Loss
from ropeway.core.strand.path_mtu import PathMtu
from ropeway.core.strand.strand import NEVER
from ropeway.core.timers import NOT_DUE

#: Where a frame goes: an endpoint, and the local address that it is sent from.
Path = Tuple[Endpoint, Optional[str]]


class FarReport:
    """What the other end said last on a connection."""

    __slots__ = (
        "calls",
        "mark",
        "mark_at",
        "observed",
        "pause_s",
        "probe",
        "received",
        "session",
        "way",
    )

    def __init__(self) -> None:
        #: What it calls this connection, 1 to 255; 0 while it has not said.
        self.way = 0
        #: The longest time until its next frame.
        self.pause_s = tuning.PROBE_S
        #: Whether it knows by itself where this end is.
        self.calls = False
        #: The mark of its last frame, and when that was heard.
        self.mark = 0
        self.mark_at = NEVER
        #: Data frames that it received.
        self.received = 0
        #: Where it sees this end; None while that is not known of the path in use.
        self.observed: Optional[Endpoint] = None
        #: Size in bytes of the last path MTU probe that came from it, 0 before the first.
        self.probe = 0
        #: The newest session when it was believed last.
        self.session: Optional[Session] = None

    def take(self, control: Control, size: int, now: float) -> None:
        """Take a newer control frame; ``size`` is that of the outer packet, in bytes."""
        self.way = control.way
        self.pause_s = min(control.pause_s, tuning.IDLE_MAX_S)
        self.calls = control.calls
        self.received = control.received
        self.observed = control.observed
        self.mark = control.mark
        self.mark_at = now
        if control.probe and control.probe <= size:
            self.probe = control.probe


class Migration:
    """How a connection follows the other end to another path (RFC 9000 calls it migration)."""

    __slots__ = ("asked_at", "challenged_at", "due", "path")

    def __init__(self) -> None:
        #: Where it answered a challenge that was sent at ``asked_at``, and moves to at ``due``.
        self.path: Optional[Path] = None
        self.asked_at = NEVER
        self.due = NOT_DUE
        self.challenged_at = NEVER

    def begin(self, path: Path, asked_at: float, due: float) -> None:
        """Have the connection move to a path at ``due`` unless its own is proven by then."""
        self.path = path
        self.asked_at = asked_at
        self.due = due

    def end(self) -> None:
        """Have the connection move nowhere."""
        self.path = None
        self.due = NOT_DUE


class Pacing:
    """What this end has said on a connection, and how long it may be quiet."""

    __slots__ = (
        "answered_at",
        "awoken_at",
        "keepalive",
        "lost_at",
        "sent_pause_s",
        "sent_places",
    )

    def __init__(self, now: float) -> None:
        self.keepalive = Keepalive()
        #: The pause that the last frame announced.
        self.sent_pause_s = 0.0
        #: Where this host can be called, as it has said.
        self.sent_places: Tuple[Place, ...] = ()
        self.answered_at = NEVER
        #: When data began to flow: from then on frames are expected soon.
        self.awoken_at = now
        #: When the connection was made, or fell back to state 0.
        self.lost_at = now


class Quality:
    """What was measured of the path that a connection uses."""

    __slots__ = ("assumed", "loss", "path_mtu", "reported_mtu", "rtt_ms")

    def __init__(self, link_mtu: int, mtu_min: int, now: float) -> None:
        self.path_mtu = PathMtu(link_mtu, mtu_min, now)
        #: The path MTU that was reported last.
        self.reported_mtu = link_mtu
        #: Whether the largest packet that fits is no more than a hope.
        self.assumed = True
        #: Smoothed round-trip time; None while it was not measured.
        self.rtt_ms: Optional[float] = None
        self.loss = Loss()

    def restart(self, now: float) -> None:
        """Forget what was measured, because the path is another one."""
        self.path_mtu.restart(now)
        self.rtt_ms = None

    def note_rtt(self, passed_s: float, held_ms: int) -> None:
        """Take a round trip of ``passed_s``, of which the other end has waited ``held_ms``."""
        sample_ms = max(0.0, 1000 * passed_s - held_ms)
        before = self.rtt_ms
        self.rtt_ms = (
            sample_ms if before is None else before + tuning.RTT_SHARE * (sample_ms - before)
        )
        self.path_mtu.set_rtt(self.rtt_ms)


class Cookie:
    """Proof, for the host at the other end, that this end can be answered on a path."""

    __slots__ = ("taken_at", "value")

    def __init__(self) -> None:
        self.value = b""
        self.taken_at = NEVER

    def take(self, value: bytes, now: float) -> None:
        """Take a cookie that the other end demands."""
        self.value = value
        self.taken_at = now

    def forget(self) -> None:
        """Forget it, because it is for another path."""
        self.value = b""

    def is_good(self, now: float) -> bool:
        """Return whether there is one that the other end accepts."""
        return bool(self.value) and now - self.taken_at < COOKIE_S

    def may_take(self, now: float) -> bool:
        """Return whether another one may be taken: anybody could send some."""
        return now >= self.taken_at + tuning.COOKIE_PAUSE_S
