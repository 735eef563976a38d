"""Direct strands: hosts that are met without a router, because it said where they are.

A host that packets go to by a router is asked for there. What a router has sealed is believed as
much as the configuration of a peer: the host gets a strand, and nothing else before it has proven
its key. Packets go on by a router too, so that none is lost when that strand works no more.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, parse_endpoint
from ropeway.core.frame import who_has
from ropeway.core.frame.message import Kind
from ropeway.core.frame.who_has import Answer, Ask, Here, Verdict
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4
from ropeway.core.peers.links import Links
from ropeway.core.peers.members import Members
from ropeway.core.peers.messages import Messages
from ropeway.core.session.session import Session
from ropeway.core.settings import PeerSettings
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables

_NO_KEY = bytes(32)
#: What was said to a router: under which session, where this host can be called, and when.
_Said = Tuple[Session, Tuple[Endpoint, ...], float]


class _Asked:
    """When a host may be asked for again, in monotonic seconds, and the pause after that."""

    __slots__ = ("due", "pause_s")

    def __init__(self) -> None:
        self.due = 0.0
        self.pause_s = tuning.WHO_HAS_MIN_S


class _Met:
    """A host that was learnt: when, in monotonic seconds, and which routers stand by it."""

    __slots__ = ("learnt_at", "tellers")

    def __init__(self, now: float) -> None:
        self.learnt_at = now
        self.tellers: Set[str] = set()


class Direct:
    """Says to routers where this host can be called, asks for others, and calls these."""

    def __init__(
        self,
        tables: Tables[SecureStrand],
        routes: Routes,
        links: Links,
        messages: Messages,
        members: Members,
        now: float,
    ) -> None:
        self._tables = tables
        self._routes = routes
        self._links = links
        self._messages = messages
        self._members = members
        self._look_at = now
        self._said: Dict[str, _Said] = {}
        #: By virtual address, four bytes; the one that was added first at the beginning.
        self._asked: Dict[bytes, _Asked] = {}
        #: The hosts that were met this way.
        self._met: Dict[str, _Met] = {}

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""
        asked = self._asked
        if any(host not in asked for host in self._routes.by_router):
            return 0.0
        return self._look_at

    def tick(self, now: float) -> None:
        """Ask for hosts that packets go to, and say that this one is here, where that is due."""
        self._ask(now)
        if now < self._look_at:
            return
        self._look_at = now + tuning.WHO_HAS_LOOK_S
        self._say_here(now)
        self._leave_to_configuration()
        own = str(self._routes.address)
        for host in list(self._met):
            # This host may have got another one's address by a lease.
            if host == own or self._is_over(host, now):
                self.forget(host, now)

    def _say_here(self, now: float) -> None:
        endpoints = tuple(endpoint for _, endpoint in self._links.places)
        for router in self._routes.routers:
            strand = self._tables.strands.get(router)
            session = strand.session if strand else None
            if strand is None or session is None:
                continue
            before = self._said.get(router)
            same = before is not None and before[:2] == (session, endpoints)
            if before is not None and same and now - before[2] < tuning.HERE_EVERY_S:
                continue
            if self._messages.send(strand, Kind.WHO_HAS, who_has.encode(Here(endpoints))):
                self._said[router] = (session, endpoints, now)

    def _ask(self, now: float) -> None:
        """Ask for hosts that packets go to by the router, and review those that are met."""
        wanted, asked = self._routes.by_router, self._asked
        for host in [host for host, one in asked.items() if now >= one.due]:
            if ipv4.text(host) in self._met:
                self._send_ask(host, tuning.WHO_HAS_REVIEW_S, now)
            elif host not in wanted:
                del asked[host]
        for host in list(wanted):
            # Whoever sends there again has it in this table again.
            if host in asked and now < asked[host].due:
                continue
            del wanted[host]
            self._routes.forget_host(host)
            one = asked.setdefault(host, _Asked())
            self._send_ask(host, one.pause_s, now)
            one.pause_s = min(2 * one.pause_s, tuning.WHO_HAS_MAX_S)
        while len(asked) > tuning.WHO_HAS_ASKED:
            del asked[next(iter(asked))]

    def _send_ask(self, host: bytes, pause_s: float, now: float) -> None:
        self._asked.setdefault(host, _Asked()).due = now + pause_s
        ask = who_has.encode(Ask(ipv4.text(host)))
        for router in self._routes.routers:
            strand = self._tables.strands.get(router)
            if strand is not None:
                self._messages.send(strand, Kind.WHO_HAS, ask)

    def take(self, strand: SecureStrand, answer: Answer, now: float) -> None:
        """Take what a router says of a host; from any other host it is dropped."""
        if strand.host not in self._routes.routers:
            self._tables.dropped[Drop.UNWANTED] += 1
            return
        host = answer.host
        if answer.verdict == Verdict.REFUSED:
            self._take_refusal(host, strand.host, now)
        if answer.verdict != Verdict.KNOWN or not self._may_learn(answer):
            return
        endpoints = self._possible(answer.endpoints)
        before = self._members.learnt.get(host)
        if before is not None and before.public_keys == (answer.public_key,):
            # Each router sees a host at other endpoints.
            endpoints = tuple(dict.fromkeys((*endpoints, *before.endpoints)))
        endpoints = endpoints[: who_has.MAX_ENDPOINTS]
        if not endpoints or not self._make_room(host, now):
            return
        peer = PeerSettings(host, (answer.public_key,), endpoints=endpoints)
        if peer != before:
            if not self._members.learn(peer, now):
                return
            self._met.setdefault(host, _Met(now))
            self._asked.setdefault(ipv4.pack(host), _Asked()).due = now + tuning.WHO_HAS_REVIEW_S
        self._met[host].tellers.add(strand.host)

    def _take_refusal(self, host: str, router: str, now: float) -> None:
        """Cut a host off, unless a router that is reached has told of it: one may not know it."""
        met, strands = self._met.get(host), self._tables.strands
        if met is None:
            return
        met.tellers.discard(router)
        standing = [strands[one] for one in met.tellers if one in strands]
        if not any(strand.best_state == State.ESTABLISHED for strand in standing):
            self.forget(host, now)

    def _may_learn(self, answer: Answer) -> bool:
        packed = ipv4.pack(answer.host)
        own = answer.host == str(self._routes.address)
        return self._routes.holds(packed) and not own and answer.public_key != _NO_KEY

    def _possible(self, endpoints: Sequence[Endpoint]) -> Tuple[Endpoint, ...]:
        """Return those endpoints that another host can have outside the virtual network."""
        possible: List[Endpoint] = []
        for address, port in endpoints:
            try:
                endpoint = parse_endpoint(address, port)
            except ValueError:
                continue
            inside = ":" not in endpoint[0] and self._routes.holds(ipv4.pack(endpoint[0]))
            if not inside and not self._links.holds(endpoint[0]):
                possible.append(endpoint)
        return tuple(possible)

    def _make_room(self, host: str, now: float) -> bool:
        """Return whether a host may be learnt; the one that is idle longest may have to go."""
        if host in self._met or len(self._met) < tuning.DIRECT_HOSTS:
            return True
        self._leave_to_configuration()
        if len(self._met) < tuning.DIRECT_HOSTS:
            return True
        strands = self._tables.strands
        idle = [known for known in self._met if not strands[known].is_active(now)]
        if not idle:
            return False
        self.forget(min(idle, key=lambda known: strands[known].idle_at), now)
        return True

    def _leave_to_configuration(self) -> None:
        """Know no more of hosts that the configuration has now, or whose keys it has."""
        for host in [host for host in self._met if host not in self._members.learnt]:
            del self._met[host]

    def _is_over(self, host: str, now: float) -> bool:
        """Return whether a host is met no more, or not needed."""
        strand = self._tables.strands[host]
        learnt_at = self._met[host].learnt_at
        if strand.best_state != State.ESTABLISHED:
            return now - max(learnt_at, strand.heard_at) >= tuning.DIRECT_SILENT_S
        return now - max(learnt_at, strand.idle_at) >= tuning.DIRECT_IDLE_S

    def forget(self, host: str, now: float) -> None:
        """Cut off a host that was learnt; nothing if it was not."""
        if self._met.pop(host, None) is not None:
            self._members.unlearn(host, now)
