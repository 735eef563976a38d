"""Control frames: what this end says about a connection, and what it makes of what it hears.

A frame is believed if it is newer than all before it. An endpoint is believed only after an answer
from there has repeated a mark that was sent there.
"""

from __future__ import annotations

from typing import Callable, Optional, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, Place, SocketKey
from ropeway.core.frame.control import (
    CLOCK_MS,
    CLOCK_TICKS,
    TAKES_LABELS,
    TAKES_MESSAGES,
    TAKES_PARITY,
    Control,
    Measured,
    encode_control,
)
from ropeway.core.frame.data import CONTROL, CONTROL_AD, LINK_PART, OVERHEAD
from ropeway.core.frame.outer import outer_size
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.links import Links
from ropeway.core.peers.outgoing import Outgoing
from ropeway.core.peers.policies import Policies
from ropeway.core.peers.settling import Settling
from ropeway.core.session.session import Session
from ropeway.core.strand.connection_parts import Path
from ropeway.core.strand.secure import SecureConnection
from ropeway.core.strand.state import Input, State, answers
from ropeway.core.strand.strand import NEVER
from ropeway.core.timers import NOT_DUE

#: When a mark was sent, and over which path.
Echoed = Optional[Tuple[float, Path]]

#: What this version always takes, beside partial checksums, which depend on the device, and lanes.
FEATURES = TAKES_MESSAGES | TAKES_PARITY | TAKES_LABELS
#: Why a connection is lost, by what was heard.
_REASONS = {
    Input.HEARD_RESTART: "the other end started anew",
    Input.HEARD_FALLEN: "the other end no longer hears this one",
}


class Dialogue:
    """Sends control frames, and applies those that were received to their connections."""

    def __init__(
        self,
        links: Links,
        connections: Connections,
        settling: Settling,
        policies: Policies,
        outgoing: Outgoing,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._links = links
        self._connections = connections
        self._settling = settling
        self._policies = policies
        self._outgoing = outgoing
        self._entropy = entropy
        #: Whether packets may come here whose checksum is yet to be completed.
        self.takes_partial = False
        #: What else this host says that it takes.
        self.features = FEATURES

    # What this end says.

    def send(
        self,
        connection: SecureConnection,
        now: float,
        probe: int = 0,
        announced: Tuple[Place, ...] = (),
    ) -> None:
        """Send a control frame; the next one is due a pause from now.

        With ``probe`` the frame fills an outer packet of that size, in bytes. ``announced`` is
        where this host's links can be called.
        """
        source = connection.source
        frame = self._frame(connection, connection.path, now, probe, announced=announced)
        if source is None or frame is None:
            return
        if announced:
            connection.pacing.sent_places = announced
        if not probe:
            # A probe may be too large for the path: small frames keep to their times beside it.
            connection.sent_at = now
            connection.pacing.sent_pause_s = connection.pause_s(now)
        self._outgoing.put((connection.link, source), connection.endpoint, frame)

    def send_due(self, connection: SecureConnection, now: float) -> None:
        """Send the frame that an established connection is due; nobody has asked for it."""
        self.send(connection, now, announced=self._places_for(connection))

    def announce(self, connection: SecureConnection, now: float) -> None:
        """Say where this host can be called, unless that was said on this connection before."""
        announced = self._places_for(connection)
        known = not announced or announced == connection.pacing.sent_places
        if connection.state == State.ESTABLISHED and not known:
            self.send(connection, now, announced=announced)

    def challenge(self, connection: SecureConnection, path: Path, now: float) -> None:
        """Ask the other end to show by an answer that it receives what is sent over a path."""
        frame = self._frame(connection, path, now, challenge=True)
        endpoint, source = path
        if frame is not None and source is not None:
            self._outgoing.put((connection.link, source), endpoint, frame)

    def shut_out(self, connection: SecureConnection, now: float) -> None:
        """Say to a host that it belongs here no more: it would be in doubt for a minute."""
        frame = self._frame(connection, connection.path, now, shuts_out=True)
        if frame is not None and connection.source is not None and connection.assured:
            key = (connection.link, connection.source)
            self._outgoing.put(key, connection.endpoint, frame)

    def draw_mark(self) -> int:
        """Return a mark, 1 to 2**32 - 1, that nobody can guess."""
        return int.from_bytes(self._entropy(4), "little") or 1

    def _frame(
        self,
        connection: SecureConnection,
        path: Path,
        now: float,
        probe: int = 0,
        challenge: bool = False,
        shuts_out: bool = False,
        announced: Tuple[Place, ...] = (),
    ) -> Optional[bytes]:
        session = connection.strand.session
        if session is None:
            return None
        measures = connection.proven and path == connection.path
        measured = None
        if measures and not (probe or challenge or shuts_out):
            measured = _measured(connection, self._policies.answered_pause_s(connection, now), now)
        asks = measured is not None and connection.asks(now)
        if asks:
            connection.asked_at = now
            connection.quality.estimate.note_asked(now)
        mark = self.draw_mark()
        connection.note_mark(mark, path, now)
        known = connection.state != State.SENDING and connection.order.session is session
        heard = connection.heard_at != NEVER
        control = Control(
            state=connection.state,
            src_index=connection.link,
            # What is known of the other end may be of before it started anew.
            dst_index=connection.remote if known else 0,
            way=connection.way,
            pause_s=connection.pause_s(now),
            answer=asks or (not probe and connection.wants_answer(now)),
            calls=connection.calls,
            challenge=challenge,
            mark=mark,
            echo=connection.report.mark,
            held_ms=round(1000 * (now - connection.report.mark_at)) if heard else 0,
            probe=probe,
            probe_heard=connection.report.probe,
            observed=connection.endpoint if heard else None,
            received=connection.traffic.received,
            takes_partial=self.takes_partial,
            shuts_out=shuts_out,
            metered=connection.metering.here,
            announced=announced,
            measured=measured,
            holds_ms=self._policies.holds_ms,
            features=self.features,
            parities=self._policies.parities,
        )
        size = max(0, probe - outer_size(connection.endpoint[0]) - OVERHEAD)
        return seal(session, encode_control(control, size))

    def _places_for(self, connection: SecureConnection) -> Tuple[Place, ...]:
        """Return what a frame that nobody asked for says about where this host can be called.

        That is nothing where the other end does not call: it has no use for it.
        """
        useful = connection.report.calls or not connection.calls
        return self._links.places if useful and connection.proven else ()

    # What it hears.

    def take(
        self,
        connection: SecureConnection,
        control: Control,
        key: SocketKey,
        endpoint: Endpoint,
        size: int,
        now: float,
    ) -> None:
        """Believe a control frame that is newer than all before it; ``size`` is the outer packet's.

        It came from ``endpoint`` to the socket that ``key`` names.
        """
        strand = connection.strand
        quiet_s = now - connection.sent_at
        link = self._links[connection.link]
        # A frame may have waited here while the address that it came to went away.
        routed = not self._links.has_no_route(link, endpoint) and link.holds(key[1])
        marked = connection.marks.get(control.echo)
        echoed = marked[:2] if marked else strand.announced.marks.get(control.echo)
        path = (endpoint, key[1] if routed else None)
        self._follow(connection, path, echoed, now)
        there = path == connection.path
        heard_back = echoed is not None and echoed[1] == connection.path
        if heard_back:
            self._note_proof(connection)
        if heard_back and echoed is not None:
            connection.quality.note_echo(echoed[0], control.held_ms, now)
        self._note_report(connection, control, size, now)
        if heard_back and control.measured is not None:
            sent_then = marked.frames if marked else None
            self._note_measured(connection, control.measured, sent_then, now)
            if marked:
                connection.quality.note_arrived(marked, control.measured, control.held_ms, now)
        self._connections.fit(connection, now)
        idle = not connection.is_active(now)
        lasted = idle and connection.pacing.keepalive.proves(quiet_s)
        if lasted and strand.may_lengthen(connection, now):
            connection.pacing.keepalive.lengthen(now)
        answer = answers(connection.state, control.state) or control.answer
        if control.answer and control.measured is not None:
            rested = _may_answer_quickly(connection, now)
        else:
            rested = now >= connection.pacing.answered_at + tuning.ANSWER_PAUSE_S
        what = _input(control.state, heard_back, _is_anew(connection, control.echo, echoed))
        connection.report.session = connection.order.session
        # One that knows nothing learns nothing of where nobody has answered yet.
        if connection.source is not None and (there or connection.state != State.SENDING):
            self._connections.advance(connection, what, now, _REASONS.get(what, ""))
        # An answer is no probe and no challenge, so these come to an end by themselves. It goes
        # where the frame came from, or where somebody is for certain.
        wanted = control.probe or control.challenge or (answer and rested)
        if wanted and (there or connection.assured):
            connection.pacing.answered_at = now
            self.send(connection, now)
        self.announce(connection, now)
        self._connections.schedule(connection, now)

    def answer_overtaken(self, connection: SecureConnection, now: float) -> None:
        """Answer a frame that a newer one has overtaken: its sender waits for that."""
        if connection.assured and _may_answer_quickly(connection, now):
            self.send(connection, now)

    def _note_proof(self, connection: SecureConnection) -> None:
        """Note that the other end has answered over the path in use."""
        if not connection.proven:
            connection.proven = True
            self._settling.note(connection.strand)
        connection.call_if_announced()

    def _note_report(
        self, connection: SecureConnection, control: Control, size: int, now: float
    ) -> None:
        """Note what the other end says of itself and of what it received."""
        connection.heard_at = now
        duty = (connection.duty, connection.cost)
        connection.report.take(control, size, connection.frames_received, now)
        self._connections.weigh(connection)
        if (connection.duty, connection.cost) != duty:
            self._settling.note(connection.strand)
        connection.quality.path_mtu.alive(now)
        if control.probe_heard:
            connection.quality.path_mtu.heard(control.probe_heard, now)

    def _note_measured(
        self,
        connection: SecureConnection,
        measured: Measured,
        sent_then: Optional[int],
        now: float,
    ) -> None:
        """Take what the other end has measured, and look at what the connection carries."""
        estimate = connection.quality.estimate
        estimate.note_measured(measured, sent_then, connection.frames_received, now)
        estimate.note_traffic(connection.traffic, now)
        strand = connection.strand
        strand.far_pause_s = min(measured.ask_pause_s, tuning.PROBE_S)
        if strand.is_active(now):
            rescued = strand.rescued
            if rescued.look(strand.connections.values(), now):
                strand.copies.look(rescued.best, rescued.best_lost, now)
        self._policies.troubles.note_measured(connection, now)
        self._policies.look(strand, now)

    def _follow(self, connection: SecureConnection, path: Path, echoed: Echoed, now: float) -> None:
        """See whether the other end is somewhere else now.

        Whoever can pass on frames faster than their own path could pretend so. An endpoint that
        works is left only for one that answers a challenge, and if it does not answer itself.
        """
        if echoed is not None and echoed[1] == connection.path:
            connection.reached_at = max(connection.reached_at, echoed[0])
            if connection.strand.doubtful:
                self._settling.note(connection.strand)
            if connection.reached_at >= connection.migration.asked_at:
                connection.migration.end()
        if path == connection.path:
            return
        answered = echoed is not None and echoed[1] == path and path[1] is not None
        # What is called stays where the configuration says until another place has answered.
        free = answered or not connection.calls or path[0] in connection.candidates
        if connection.state == State.SENDING and free:
            self._connections.move(connection, path, answered, now)
        elif echoed is not None and answered and echoed[0] > connection.reached_at:
            if connection.migration.due == NOT_DUE:
                stay_s = tuning.STAY_ROUND_TRIPS * (now - echoed[0]) + tuning.STAY_S
                due = now + min(stay_s, tuning.STAY_MAX_S)
                connection.migration.begin(path, echoed[0], due)
        elif path[1] is not None:
            # Who hears nothing repeats what it heard last: that proves nothing of now.
            self._challenge_both(connection, path, now)

    def _challenge_both(self, connection: SecureConnection, path: Path, now: float) -> None:
        """Ask for an answer where the other end was heard from, and where it is known to be."""
        if now < connection.migration.challenged_at + tuning.CHALLENGE_PAUSE_S:
            return
        connection.migration.challenged_at = now
        for one in (path, connection.path) if connection.assured else (path,):
            self.challenge(connection, one, now)


def _may_answer_quickly(connection: SecureConnection, now: float) -> bool:
    """Return whether a frame that asks in order to measure is answered, and count it."""
    rested = connection.pacing.may_answer_quickly(now)
    return rested and connection.strand.quick_answers.take(now)


def _measured(connection: SecureConnection, ask_pause_s: float, now: float) -> Measured:
    """Return what a frame that goes out now says of the connection; the frame is counted."""
    connection.controls_sent += 1
    estimate = connection.quality.estimate
    return Measured(
        clock=int(now * 1000 / CLOCK_MS) % CLOCK_TICKS,
        sent=connection.frames_sent,
        received=connection.report.received_then,
        queue_ms=estimate.queue_in_ms,
        jitter_ms=estimate.jitter_in_ms,
        role=connection.role,
        ask_pause_s=ask_pause_s,
    )


def seal(session: Session, body: bytes) -> bytes:
    """Return the control frame of a body."""
    return LINK_PART.pack(CONTROL, 0, 0) + session.seal(CONTROL_AD, body)


def _input(state: int, heard_back: bool, anew: bool) -> Input:
    """Return what a state in a frame comes to; ``anew`` where its sender has just begun.

    A state above 0 counts only if the frame repeats a mark that was sent to this endpoint.
    """
    if state == State.SENDING:
        return Input.HEARD_RESTART if anew else Input.HEARD_FALLEN
    return Input(state) if heard_back else Input.HEARD_SENDING


def _is_anew(connection: SecureConnection, echo: int, echoed: Echoed) -> bool:
    """Return whether the other end heard nothing on a connection before the session in use.

    An end that only rolled the session over still repeats what it heard last before.
    """
    session = connection.order.session
    if session is None or session is connection.report.session:
        return False
    return not echo or (echoed is not None and echoed[0] >= session.created_at)
