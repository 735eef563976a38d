"""The parts of a secure connection: each a group of facts that change together."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, Place
from ropeway.core.frame.control import CLOCK_MS, CLOCK_TICKS, Control, Measured
from ropeway.core.link import Role
from ropeway.core.session.admission import COOKIE_S
from ropeway.core.session.session import Session
from ropeway.core.strand.capacity import Echoed
from ropeway.core.strand.estimate import Estimate
from ropeway.core.strand.keepalive import Keepalive
from ropeway.core.strand.path_mtu import PathMtu
from ropeway.core.strand.strand import NEVER
from ropeway.core.timers import NOT_DUE

#: Where a frame goes: an endpoint, and the local address that it is sent from.
Path = Tuple[Endpoint, Optional[str]]


class Mark(NamedTuple):
    """What is remembered of a control frame that went out."""

    #: In monotonic seconds.
    sent_at: float
    path: Path
    #: Frames that had been sent, as Measured counts them, and bytes of data frames.
    frames: int
    size: int


class FarReport:
    """What the other end said last on a connection."""

    __slots__ = (
        "calls",
        "mark",
        "mark_at",
        "metered",
        "observed",
        "pause_s",
        "probe",
        "received",
        "received_then",
        "role",
        "session",
        "way",
    )

    def __init__(self) -> None:
        #: What it calls this connection, 1 to 255; 0 while it has not said.
        self.way = 0
        #: The longest time until its next frame.
        self.pause_s = tuning.PROBE_S
        #: Which packets it wants over the connection.
        self.role = Role.ALWAYS
        #: Whether the bytes of its link cost money.
        self.metered = False
        #: Whether it knows by itself where this end is.
        self.calls = False
        #: The mark of its last frame, and when that was heard.
        self.mark = 0
        self.mark_at = NEVER
        #: Data frames that it received.
        self.received = 0
        #: Frames that had been received here when its last frame was heard.
        self.received_then = 0
        #: Where it sees this end; None while that is not known of the path in use.
        self.observed: Optional[Endpoint] = None
        #: Size in bytes of the last path MTU probe that came from it, 0 before the first.
        self.probe = 0
        #: The newest session when it was believed last.
        self.session: Optional[Session] = None

    def take(self, control: Control, size: int, frames_received: int, now: float) -> None:
        """Take a newer control frame.

        ``size`` is that of the outer packet, in bytes; so many frames have been received by now.
        """
        self.received_then = frames_received
        self.way = control.way
        self.pause_s = min(control.pause_s, tuning.IDLE_MAX_S)
        self.calls = control.calls
        self.metered = control.metered
        if control.measured is not None:
            self.role = Role(control.measured.role)
        self.received = control.received
        self.observed = control.observed
        self.mark = control.mark
        self.mark_at = now
        if control.probe and control.probe <= size:
            self.probe = control.probe


class Metering:
    """Whether the bytes of this end's link cost money, and when the connection was used last."""

    __slots__ = ("_sent", "_used_at", "here")

    def __init__(self) -> None:
        self.here = False
        self._sent = 0
        self._used_at = NEVER

    def is_used(self, sent: int, now: float) -> bool:
        """Return whether packets were sent lately; ``sent`` is how many there were in all."""
        if sent != self._sent:
            self._sent, self._used_at = sent, now
        return now < self._used_at + tuning.METERED_QUIET_S


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
        "measured_at",
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
        #: When a frame was answered last that asks in order to measure.
        self.measured_at = NEVER
        #: When data began to flow: from then on frames are expected soon.
        self.awoken_at = now
        #: When the connection was made, or fell back to state 0.
        self.lost_at = now

    def may_answer_quickly(self, now: float) -> bool:
        """Return whether a frame that asks in order to measure is answered; note that it is."""
        if now < self.measured_at + tuning.QUICK_ANSWER_PAUSE_S:
            return False
        self.measured_at = now
        return True


class Quality:
    """What was measured of the path that a connection uses."""

    __slots__ = ("assumed", "estimate", "path_mtu", "reported_mtu")

    def __init__(self, link_mtu: int, mtu_min: int, now: float) -> None:
        self.path_mtu = PathMtu(link_mtu, mtu_min, now)
        #: The path MTU that was reported last.
        self.reported_mtu = link_mtu
        #: Whether the largest packet that fits is no more than a hope.
        self.assumed = True
        self.estimate = Estimate()

    def restart(self, now: float) -> None:
        """Forget what was measured, because the path is another one."""
        self.path_mtu.restart(now)
        self.estimate.restart()

    def note_echo(self, sent_at: float, held_ms: int, now: float) -> None:
        """Take the echo of a frame sent at ``sent_at``; the other end held it for ``held_ms``."""
        self.estimate.note_echo(sent_at, held_ms, now)
        if self.estimate.rtt_ms is not None:
            self.path_mtu.set_rtt(self.estimate.rtt_ms)

    def note_arrived(self, mark: Mark, measured: Measured, held_ms: int, now: float) -> None:
        """Take that a frame sent with ``mark`` was echoed after ``held_ms``.

        ``measured`` came with the echo; the estimate has taken it.
        """
        arrived = (measured.clock - round(held_ms / CLOCK_MS)) % CLOCK_TICKS
        queue_ms = self.estimate.queue_ms or 0.0
        sent = (mark.sent_at, mark.frames, mark.size)
        self.estimate.capacity_out.note(Echoed(*sent, measured.received, arrived, queue_ms), now)


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
