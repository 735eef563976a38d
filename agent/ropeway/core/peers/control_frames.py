"""Control frames as they arrive: opened, checked, and handed to their connection."""

from __future__ import annotations

from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, SocketKey
from ropeway.core.frame.control import TAKES_IPV6, TAKES_LABELS, decode_control
from ropeway.core.frame.outer import outer_size
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.links import Links
from ropeway.core.peers.questions import Questions
from ropeway.core.peers.sessions import Sessions
from ropeway.core.session.session import Session
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.strand_parts import SHUT_OUT
from ropeway.core.tables import Tables


class ControlFrames:
    """Takes the control frames of known sessions."""

    def __init__(
        self,
        tables: Tables[SecureStrand],
        links: Links,
        connections: Connections,
        dialogue: Dialogue,
        questions: Questions,
        sessions: Sessions,
    ) -> None:
        self._tables = tables
        self._links = links
        self._connections = connections
        self._dialogue = dialogue
        self._questions = questions
        self._sessions = sessions

    def take(
        self, session: Session, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Take a control frame of a session, which came from ``endpoint`` to a socket."""
        body = self._sessions.open(session, datagram, now)
        if isinstance(body, Drop):
            self._tables.dropped[body] += 1
            return
        strand = self._tables.strands[session.host]
        control = decode_control(body)
        if control is None or key[0] not in self._links:
            self._tables.dropped[Drop.MALFORMED] += 1
            return
        if control.dst_index != key[0] and control.dst_index in self._links:
            # Somebody passed on to this link what was sent to another one of this host.
            self._tables.dropped[Drop.WRONG_DESTINATION] += 1
            return
        if control.shuts_out:
            strand.shut_out = True
            self._sessions.end_all_of(strand, SHUT_OUT, now)
            return
        lanes = control.holds_ms is not None
        strand.sessions.note_takes(session, control.takes_partial, lanes, control.features)
        if control.measured is not None:
            strand.takes_labels = bool(control.features & TAKES_LABELS)
            self._note_ipv6(strand, control.features & TAKES_IPV6 == 0)
        if control.holds_ms is not None:
            strand.holds_ms = control.holds_ms
            strand.parities = control.parities
        counter = int.from_bytes(datagram[8:16], "little")
        size = outer_size(endpoint[0]) + len(datagram)
        # A host that is not called from here finds its paths by itself.
        heeded = control.announced and strand.endpoints
        if heeded and strand.announced.is_due(session, counter, now):
            self._questions.take_announcement(strand, control.announced, size, now)
        connection = self._connections.find(strand, key[0], control.src_index, endpoint, now)
        if connection is None:
            self._tables.dropped[Drop.LIMIT] += 1
            return
        if control.measured is not None:
            connection.controls_heard += 1
        if connection.order.advance(session, counter):
            self._dialogue.take(connection, control, key, endpoint, size, now)
        elif control.answer and control.measured is not None:
            self._dialogue.answer_overtaken(connection, now)

    def _note_ipv6(self, strand: SecureStrand, refuses: bool) -> None:
        """Note whether a host takes IPv6 packets; whoever measures says it with each frame."""
        if strand.refuses_ipv6 != refuses:
            strand.refuses_ipv6 = refuses
            # The table of single next hops has no IPv6 address of who refuses.
            self._tables.forget_next_hops()
