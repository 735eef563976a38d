"""Where hosts announce that they can be called, and the questions that are asked there.

An announced endpoint is asked only if a link does not reach the host otherwise; it is called once
it has answered.
"""

from __future__ import annotations

from typing import Dict, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, Place, is_ipv6, parse_endpoint
from ropeway.core.frame.control import CONTROL_SIZE, Control, encode_control
from ropeway.core.frame.data import OVERHEAD
from ropeway.core.frame.outer import outer_size
from ropeway.core.link import Link
from ropeway.core.peers.connections import INDEX_MAX, Connections
from ropeway.core.peers.dialogue import Dialogue, seal
from ropeway.core.peers.links import Links
from ropeway.core.peers.outgoing import Outgoing
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import NEVER


class Questions:
    """Takes announcements, and asks announced endpoints to answer."""

    def __init__(
        self, links: Links, connections: Connections, dialogue: Dialogue, outgoing: Outgoing
    ) -> None:
        self._links = links
        self._connections = connections
        self._dialogue = dialogue
        self._outgoing = outgoing

    def take_announcement(
        self, strand: SecureStrand, announced: Sequence[Place], size: int, now: float
    ) -> None:
        """Take where a host says that it can be called; ask there if no link reaches it.

        ``size`` is that of the outer packet, in bytes.
        """
        places: Dict[Endpoint, Tuple[int, ...]] = {}
        for index, (address, port) in announced:
            try:
                endpoint = parse_endpoint(address, port)
            except ValueError:
                continue
            if 0 < index <= INDEX_MAX:
                places[endpoint] = (*places.get(endpoint, ()), index)
        strand.announced.take(places, size)
        self._connections.keep_candidates(strand, now)
        for link in self._links:
            self.ask_if_unreached(strand, link, now)

    def ask_if_unreached(self, strand: SecureStrand, link: Link, now: float) -> None:
        """Ask where a host has announced itself, if a link calls it in vain.

        That is a link that did reach it there before, or that reaches it nowhere.
        """
        there = [c for c in strand.connections.values() if c.link == link.index]
        works = any(c.state == State.ESTABLISHED for c in there)
        called = [c for c in there if c.calls and (c.heard_at != NEVER or not works)]
        # One that was greeted only now may come up in a moment.
        in_vain = any(
            c.state == State.SENDING and c.greet_pause_s >= tuning.PROBE_S for c in called
        )
        left = any(c.endpoint in strand.announced.withdrawn for c in there)
        if link.up and (in_vain or left):
            self._ask(strand, link, there, now)

    def _ask(
        self, strand: SecureStrand, link: Link, there: Sequence[SecureConnection], now: float
    ) -> None:
        """Ask a host to answer where it has announced itself and this link does not reach it."""
        announced, questions = strand.announced, []
        called = {endpoint for c in there for endpoint in c.candidates}
        known = {(c.remote, c.ipv6): c for c in there}
        for endpoint, indices in announced.places.items():
            ipv6 = is_ipv6(endpoint[0])
            met = [known[index, ipv6] for index in indices if (index, ipv6) in known]
            lost = [c for c in met if not c.state or c.endpoint in announced.withdrawn]
            if endpoint in called or self._links.holds(endpoint[0]):
                continue
            if lost or len(met) < len(indices):
                questions.append((lost, endpoint))
        # What takes the place of a lost connection comes first.
        for lost, endpoint in sorted(questions, key=lambda one: not one[0]):
            way = lost[0].way if lost else strand.free_way()
            self._send_question(strand, link, way, endpoint, now)

    def _send_question(
        self, strand: SecureStrand, link: Link, way: int, endpoint: Endpoint, now: float
    ) -> None:
        session, source = strand.session, self._links.source_for(link, endpoint)
        size = outer_size(endpoint[0]) + OVERHEAD + CONTROL_SIZE
        if session is None or source is None or not way:
            return
        if strand.announced.may_ask(link.index, endpoint, size, now):
            mark = self._dialogue.draw_mark()
            strand.announced.note(mark, (endpoint, source), now)
            question = Control(
                state=State.SENDING,
                src_index=link.index,
                dst_index=0,
                way=way,
                pause_s=tuning.PROBE_S,
                answer=True,
                challenge=True,
                mark=mark,
                takes_partial=self._dialogue.takes_partial,
            )
            frame = seal(session, encode_control(question))
            self._outgoing.put((link.index, source), endpoint, frame)
