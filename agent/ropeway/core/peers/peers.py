"""The secure encapsulation's control side: sessions, links, connections and their endpoints.

It writes the tables that the data side in :mod:`ropeway.core.node` reads: sessions by index,
``strands``, each strand's session and carrying connections, and the next hops.

Two things are kept apart. A **session** belongs to a host and proves who it is; its handshake goes
over all connections at once. A **connection** is one way to that host; where it leads is learnt
only from control frames that a session has sealed, and of those only from newer ones.
"""

from __future__ import annotations

import ipaddress
import random as random_module
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ropeway.core import events, tuning
from ropeway.core.drops import Drop
from ropeway.core.endpoint import (
    Endpoint,
    Place,
    SocketKey,
    is_ipv6,
    pack_endpoint,
    parse_address,
    parse_endpoint,
    without_prefix,
)
from ropeway.core.frame.control import CONTROL_SIZE, Control, decode_control, encode_control
from ropeway.core.frame.data import CONTROL, CONTROL_AD, LINK_PART, OVERHEAD
from ropeway.core.frame.outer import outer_size
from ropeway.core.link import Link
from ropeway.core.network.routes import Routes
from ropeway.core.redundancy import Watch
from ropeway.core.session.clones import CLONE_PAUSE_S
from ropeway.core.session.handshakes import (
    COOKIE_S,
    PENDING_S,
    Answer,
    Completed,
    CookieReply,
    CookieTaken,
    Forgotten,
    Handshakes,
    Refused,
    Stale,
)
from ropeway.core.session.noise import KEY_BYTES, KeyPair
from ropeway.core.session.session import (
    SKIP_COUNTERS,
    PeerSessions,
    Session,
)
from ropeway.core.strand import announcement
from ropeway.core.strand.secure import Aim, Held, SecureConnection, SecureStrand
from ropeway.core.strand.state import Input, State, answers
from ropeway.core.strand.strand import NEVER, advance
from ropeway.core.timers import Timers
from ropeway.core.token_bucket import SharedBudget, TokenBucket

_INF = float("inf")
_INDEX_MAX = 2**31 - 1
#: Why a connection is lost, by what was heard.
_REASONS = {
    Input.HEARD_RESTART: "the other end started anew",
    Input.HEARD_FALLEN: "the other end no longer hears this one",
}
#: What is wrong where the other end's handshakes are stale, and where this host's are.
_STALE = (
    "its handshakes are genuine but older than ones before: its clock was set back and its state"
    " lost, or somebody plays back old ones; it is called back, but set its clock"
)
_OWN_STALE = (
    "it takes this host's handshakes for old ones, and has called back: this host's clock was set"
    " back and its state lost; set the clock"
)
_SHUT_OUT = "it has shut this host out: this host's key is not among its peers any more"


class SecurePeers:
    """All strands of a secure node with their sessions and connections, and what is due.

    ``own`` is the node's virtual address, four bytes; ``strands`` is shared with ``routes``, and
    ``touched``, the connections whose outbox holds something, and ``dropped`` with the node.
    ``settings`` are :class:`ropeway.core.node.SecureSettings`; ``entropy`` gives so many
    secret bytes.
    """

    def __init__(
        self,
        settings: Any,
        own: bytes,
        strands: Dict[str, SecureStrand],
        routes: Routes,
        touched: List[SecureConnection],
        dropped: Counter[Drop],
        log: events.Log,
        watch: Watch,
        now: float,
        random: random_module.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._own = own
        self.strands = strands
        self._routes = routes
        self.touched = touched
        self._dropped = dropped
        self._log = log
        self._watch = watch
        self._random = random
        self._rollover_s = settings.rollover_s
        self.links: Dict[int, Link] = {}
        #: Whether an address was met since :meth:`set_links` whose route was not looked up.
        self.wants_lookup = False
        self._port = settings.port
        #: Where this host's links can be called.
        self._places: Tuple[Place, ...] = ()
        self._entropy = entropy
        self._identity = KeyPair.of(settings.private_key)
        self.handshakes = Handshakes(
            self._identity, own, settings.epoch, entropy, now, settings.reset_keys
        )
        #: Whether packets may come here whose checksum is yet to be completed.
        self.takes_partial = False
        #: What belongs to no connection: (socket, endpoint, datagram).
        self.outgoing: List[Tuple[SocketKey, Endpoint, bytes]] = []
        #: Packets that waited for a session: they can be sent now, or it did not come.
        self.released: List[Held] = []
        self.given_up: List[Held] = []
        #: Those that waited for longer than that, in seconds, are not sent any more.
        self.max_age_s = _INF
        #: Strands that began to carry data since the last look.
        self.woken: List[SecureStrand] = []
        #: Strands whose carrying connections are to be chosen anew.
        self.unsettled: Dict[SecureStrand, None] = {}
        self._timers: Timers[Union[SecureConnection, SecureStrand]] = Timers()
        self._forget_at = now + tuning.FORGET_EVERY_S
        self._notes = TokenBucket(1.0, 10, now)
        self._learning = SharedBudget(
            tuning.LEARN_PER_S,
            tuning.LEARN_BURST,
            tuning.LEARN_STRAND_PER_S,
            tuning.LEARN_STRAND_BURST,
            now,
        )
        self._stale = SharedBudget(
            tuning.STALE_PER_S,
            tuning.STALE_BURST,
            tuning.STALE_STRAND_PER_S,
            tuning.STALE_STRAND_BURST,
            now,
        )
        self._added: Dict[str, Dict[Endpoint, None]] = {}
        self._configured: Dict[str, Tuple[Endpoint, ...]] = {}
        self._recalled: Dict[str, Tuple[Endpoint, ...]] = {}
        self._recall_until = now + tuning.FORGET_S
        check_peers(settings.peers)
        self.set_peers(settings.peers, now)

    # Who belongs to the network.

    def set_peers(self, peers: Iterable[Any], now: float) -> None:
        """Take the hosts that belong here, all of them, with their keys and endpoints.

        A host that is missing, or whose key is another one now, is cut off at once; every other
        session and connection lives on.
        """
        listed = {peer.host: peer for peer in peers}
        for known in self.strands.values():
            keys = listed[known.host].public_keys if known.host in listed else ()
            if known.session is not None and known.session.public_key not in keys:
                self._shut_out(known, now)
        for session in self.handshakes.set_peers(listed.values()):
            self._end_session(session, "its key is not valid any more", now)
        for host in [host for host in self.strands if host not in listed]:
            self._close_strand(self.strands[host], now)
        for host, peer in listed.items():
            strand = self.strands.get(host)
            if strand is None:
                sessions = PeerSessions(self._rollover_s)
                strand = self.strands[host] = SecureStrand(host, sessions, self.woken, now)
                self._routes.forget()
            self._configured[host] = tuple(parse_endpoint(*endpoint) for endpoint in peer.endpoints)
            self._set_endpoints(strand, now)
        self.settle(now)

    def set_identity(self, private_key: bytes, now: float) -> None:
        """Prove another key from the next handshake on, and make that one now."""
        self._identity = KeyPair.of(private_key)
        self.handshakes.set_identity(self._identity)
        for strand in self.strands.values():
            if strand.session is not None or strand.endpoints:
                self._want_session(strand, now)

    def _shut_out(self, strand: SecureStrand, now: float) -> None:
        """Tell a host that it belongs here no more: it would be in doubt for a minute."""
        for connection in strand.connections.values():
            frame = self._control_frame(connection, connection.aim, now, shuts_out=True)
            if frame is not None and connection.source is not None and connection.assured:
                key = (connection.link, connection.source)
                self.outgoing.append((key, connection.endpoint, frame))

    def _close_strand(self, strand: SecureStrand, now: float) -> None:
        for connection in list(strand.connections.values()):
            self._end(connection, "the host was removed", now)
        for session in list(strand.sessions.sessions):
            self._end_session(session, "the host was removed", now)
        self._timers.remove(strand)
        self.given_up += strand.held
        strand.held = []
        self.unsettled.pop(strand, None)
        self._added.pop(strand.host, None)
        self._configured.pop(strand.host, None)
        del self.strands[strand.host]
        self._routes.forget()

    def add_remote(self, host: str, address: str, port: int, now: float) -> None:
        """Make another endpoint of a configured host known.

        Raises ValueError, with a sentence, for a host without a key or an impossible endpoint.
        """
        strand = self._known_strand(host)
        endpoint = parse_endpoint(address, port)
        if self._holds(endpoint[0]):
            raise ValueError(f"{address} is an address of this host; name one of {strand.host}")
        if len(strand.endpoints) >= tuning.MAX_REMOTES_PER_PEER:
            raise ValueError(
                f"host {strand.host} has {len(strand.endpoints)} endpoints, which is the limit"
            )
        self._added.setdefault(strand.host, {})[endpoint] = None
        self._set_endpoints(strand, now)
        self.settle(now)

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a host's endpoints at ``address``, or with None all of them.

        Raises ValueError, with a sentence, if there is no such thing.
        """
        strand = self._known_strand(host)
        if address is not None:
            address = str(parse_address(address))
        gone = [e for e in strand.endpoints if address in (None, e[0])]
        learnt = [c for c in strand.connections.values() if address in (None, c.endpoint[0])]
        if not gone and not learnt:
            raise ValueError(f"host {strand.host} has no endpoint at {address or 'all'}")
        strand.announced.forget(address)
        for endpoint in gone:
            self._added.get(strand.host, {}).pop(endpoint, None)
        self._configured[strand.host] = tuple(
            e for e in self._configured[strand.host] if e not in gone
        )
        self._set_endpoints(strand, now)
        for connection in learnt:
            if strand.connections.get((connection.link, _key(connection))) is connection:
                self._end(connection, "it was removed", now)
        self.settle(now)

    def _holds(self, address: str) -> bool:
        return any(link.holds(address) for link in self.links.values())

    def _known_strand(self, host: str) -> SecureStrand:
        strand = self.strands.get(str(parse_address(host)))
        if strand is None:
            raise ValueError(
                f"host {host} has no key here: add it, with its public_key, to peers in the"
                " configuration"
            )
        return strand

    def _set_endpoints(self, strand: SecureStrand, now: float) -> None:
        wanted = dict.fromkeys(self._configured[strand.host])
        wanted.update(self._added.get(strand.host, {}))
        strand.endpoints = wanted
        if not wanted:
            strand.announced.forget(None)
        self._leave_candidates(strand, now)
        self._follow_links(strand, now)

    def _leave_candidates(self, strand: SecureStrand, now: float) -> None:
        """Call no endpoint that is neither configured nor announced any more."""
        called = {*strand.endpoints, *strand.announced.places}
        for connection in list(strand.connections.values()):
            kept = [e for e in connection.candidates if e in called]
            if kept == connection.candidates:
                continue
            connection.candidates = kept
            if not kept and not connection.remote:
                self._end(connection, "its endpoint was removed", now)
            elif connection.state == State.SENDING:
                self._go_home(connection, now)

    def callers(self) -> Dict[str, Tuple[Endpoint, ...]]:
        """Give where the hosts are as no configuration could tell: they called, or moved."""
        callers = {}
        for host, strand in self.strands.items():
            endpoints = tuple(
                connection.endpoint
                for connection in strand.connections.values()
                if connection.state == State.ESTABLISHED and not connection.configured
            )
            if endpoints:
                callers[host] = endpoints
        return callers

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, each once.

        The configured ones come first, and those that hosts have called from last.
        """
        strands = self.strands.values()
        known: List[Iterable[Endpoint]] = [strand.endpoints for strand in strands]
        known += self._recalled.values()
        known += [strand.announced.places for strand in strands]
        known += [[c.endpoint for c in strand.connections.values()] for strand in strands]
        return list(dict.fromkeys(address for some in known for address, _ in some))

    def recall(self, callers: Mapping[str, Sequence[Endpoint]], now: float) -> None:
        """Ask hosts for a session where they were before this host started anew.

        A host that is idle would not notice for long, and could not be reached until then.
        """
        self._recalled = {
            host: tuple(endpoints[: tuning.MAX_REMOTES_PER_PEER])
            for host, endpoints in callers.items()
        }
        self._recall_until = now + tuning.FORGET_S
        for endpoints in self._recalled.values():
            for endpoint in endpoints:
                self.handshakes.know_source(pack_endpoint(endpoint))
        for strand in self.strands.values():
            self._follow_links(strand, now)
        self.settle(now)

    def _seek_again(self, connection: SecureConnection, now: float) -> None:
        """Have a host that was met over a link that vanished looked for there over others.

        Another card in the place of one that is gone has another hardware address, which the other
        end learns at once only from what this one sends.
        """
        if connection.configured or not connection.proven:
            return
        host = connection.strand.host
        endpoints = dict.fromkeys((connection.endpoint, *self._recalled.get(host, ())))
        self._recalled[host] = tuple(endpoints)[: tuning.MAX_REMOTES_PER_PEER]
        self._recall_until = now + tuning.FORGET_S

    # Links.

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        after = {link.index: link for link in links}
        before = self.links
        self.wants_lookup = False
        if after == before:
            return
        self.links = after
        self._watch.look_soon()
        for event in events.of_links(before, after):
            self._log.report(event, now)
        for strand in self.strands.values():
            strand.announced.ask_anew()
            self._follow_links(strand, now)
        places = announcement.of_links(links, self._port) if self._port else ()
        if places != self._places:
            self._places = places
            for strand in self.strands.values():
                for connection in strand.connections.values():
                    self._announce(connection, now)
        self.settle(now)

    def _follow_links(self, strand: SecureStrand, now: float) -> None:
        """Bring a strand's connections in line with links and endpoints."""
        for connection in list(strand.connections.values()):
            link = self.links.get(connection.link)
            if link is None:
                self._seek_again(connection, now)
                self._end(connection, "the link vanished", now)
                continue
            connection.path_mtu.set_link_mtu(link.mtu, now)
            self._fit(connection, now)
            source = self._source(connection)
            if source is None and connection.candidates:
                source = self._take_candidate(connection)
            lost = source is None and not self._may_have_route(connection)
            if lost and not connection.remote:
                self._end(connection, "the link has no route to it", now)
            elif source != connection.source:
                connection.source = source
                connection.cookie = b""
                self._restart_path(connection, now)
                reason = "its address changed"
                if source is None:
                    connection.outbox.clear()
                    reason = "the link is down, or has no address or no route"
                self._advance(connection, Input.GONE, now, reason)
                self._greet_soon(connection, now)
        self._call(strand, now)
        for index, link in self.links.items():
            there = [c for c in strand.connections.values() if c.link == index]
            for endpoint in self._recalled.get(strand.host, ()):
                met = any(c.endpoint == endpoint for c in there)
                if not met and self._source_for(link, endpoint) is not None:
                    self._connect(strand, index, 0, endpoint, now)
        if strand.connections and (strand.session is None or strand.initiate_at != _INF):
            self._want_session(strand, now)
        self.unsettled[strand] = None

    def _call(self, strand: SecureStrand, now: float) -> None:
        """Make connections to the endpoints that a host can be called at.

        Each link gets one before any gets a second. Beyond :data:`tuning.CALLED_ENOUGH` further
        ones of a link that has one would cost more than they are good for.
        """
        known: Dict[int, Dict[Endpoint, None]] = {index: {} for index in self.links}
        for connection in strand.connections.values():
            known[connection.link].update(dict.fromkeys(connection.candidates))
        called = sum(connection.calls for connection in strand.connections.values())
        # Whoever names this host's own address as another's is told so elsewhere.
        endpoints = [one for one in strand.endpoints if not self._holds(one[0])]
        many = len(self.links) * len(endpoints) > tuning.CALLED_ENOUGH
        missing = []
        for number, (index, link) in enumerate(self.links.items()):
            if not link.up:
                continue
            # Where not all can be met over each link, each begins with another one.
            first = number % len(endpoints) if many else 0
            order = endpoints[first:] + endpoints[:first]
            place = len(known[index])
            for endpoint in order:
                if endpoint not in known[index] and self._source_for(link, endpoint) is not None:
                    missing.append((place, number, index, endpoint))
                    place += 1
        for place, _, index, endpoint in sorted(missing, key=lambda one: one[:2]):
            if place and called >= tuning.CALLED_ENOUGH:
                break
            # A host that called, or was called back, may be met there already.
            made = strand.connections.get((index, endpoint))
            made = made or self._connect(strand, index, 0, endpoint, now)
            if made is not None:
                made.candidates = [endpoint]
                called += 1

    def _source_for(self, link: Link, endpoint: Endpoint) -> Optional[str]:
        """Return the link's address to call an endpoint from; None without a known route."""
        self._want_lookup(link, endpoint)
        return link.source_for(endpoint[0])

    def _has_no_route(self, link: Link, endpoint: Endpoint) -> bool:
        """Say whether it is known that the link leads to no such endpoint."""
        self._want_lookup(link, endpoint)
        return link.has_no_route(endpoint[0])

    def _want_lookup(self, link: Link, endpoint: Endpoint) -> None:
        if endpoint[0] not in link.looked_up:
            self.wants_lookup = True

    def _may_have_route(self, connection: SecureConnection) -> bool:
        """Say whether there is a route, or may be, to one of a connection's endpoints."""
        link = self.links[connection.link]
        endpoints = connection.candidates or [connection.endpoint]
        return link.up and not all(link.has_no_route(endpoint[0]) for endpoint in endpoints)

    def _source(self, connection: SecureConnection) -> Optional[str]:
        link = self.links[connection.link]
        if not link.up:
            return None
        source = connection.source
        best = self._source_for(link, connection.endpoint)
        # What the other end speaks to is kept as long as it is there: NATs expect it.
        heard = connection.heard_at != NEVER
        if heard and source is not None and link.holds(source):
            return None if self._has_no_route(link, connection.endpoint) else source
        return best

    def _take_candidate(self, connection: SecureConnection) -> Optional[str]:
        """Go on to the next endpoint that there is a way to; give the source, None without."""
        candidates = connection.candidates
        for _ in range(len(candidates)):
            before = connection.endpoint
            connection.endpoint = candidates[0]
            # What was announced carries nothing where it answered long ago.
            if before != connection.endpoint or not connection.configured:
                connection.proven = False
            candidates.append(candidates.pop(0))
            source = self._source(connection)
            if source is not None:
                return source
        return None

    def _try_next(self, connection: SecureConnection, now: float) -> None:
        """Go on to the link's next address, and after the last one to the next endpoint.

        What the routes prefer comes first, but only an answer tells which address is let through.
        """
        before = connection.aim
        link = self.links[connection.link]
        texts = link.addresses6 if connection.ipv6 else link.addresses
        own = [without_prefix(text) for text in texts]
        best = self._source_for(link, connection.endpoint)
        order = sorted(own, key=lambda address: address != best)
        place = order.index(connection.source) + 1 if connection.source in order else 0
        if best is not None and place < len(order):
            connection.source = order[place]
        else:
            connection.source = None
            connection.source = self._take_candidate(connection)
        if connection.aim != before:
            connection.cookie = b""
            self._restart_path(connection, now)
            self.unsettled[connection.strand] = None

    def _connect(
        self, strand: SecureStrand, link: int, remote: int, endpoint: Endpoint, now: float
    ) -> Optional[SecureConnection]:
        way = strand.free_way()
        if not way:
            return None
        connection = SecureConnection(
            strand, way, link, self.links[link].mtu, remote, endpoint, now
        )
        strand.by_way[way] = connection
        strand.connections[link, _key(connection)] = connection
        connection.source = self._source(connection)
        connection.fit()
        self._greet_soon(connection, now)
        self.unsettled[strand] = None
        return connection

    def _end(self, connection: SecureConnection, reason: str, now: float) -> None:
        strand = connection.strand
        # Nothing follows for the connection itself: its link may be gone.
        advance(connection, Input.GONE, reason, self._log, now)
        self._timers.remove(connection)
        connection.outbox.clear()
        connection.source = None
        strand.by_way.pop(connection.way, None)
        del strand.connections[connection.link, _key(connection)]
        self.unsettled[strand] = None

    # Sessions.

    def _want_session(self, strand: SecureStrand, now: float) -> None:
        """Begin to ask for a session, or ask again soon; nothing if it was asked just now."""
        if strand.initiate_at == _INF:
            strand.wanted_since = now
        strand.initiate_pause_s = tuning.INITIATE_MIN_S
        at = max(now, strand.initiated_at + tuning.INITIATE_GAP_S)
        strand.initiate_at = min(strand.initiate_at, at)
        self._schedule_strand(strand, now)

    def _initiate(self, strand: SecureStrand, now: float) -> None:
        """Ask for a session over every connection that leads anywhere."""
        if strand.session is None and strand.initiate_pause_s > tuning.INITIATE_MIN_S:
            for connection in strand.connections.values():
                answered = connection.cookie and now - connection.cookie_at < COOKIE_S
                if connection.source is not None and connection.calls and not answered:
                    self._try_next(connection, now)
        ways = {
            (connection.link, connection.aim): connection
            for connection in strand.connections.values()
            if connection.source is not None and connection.may_speak
        }
        strand.initiated_at = now
        spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
        strand.initiate_at = now + strand.initiate_pause_s * spread
        asked = now < max(strand.idle_at, strand.asked_at + tuning.ASKED_S)
        longest_s = tuning.INITIATE_ASKED_S if asked else tuning.INITIATE_MAX_S
        pause_s = strand.initiate_pause_s * tuning.INITIATE_GROWTH
        strand.initiate_pause_s = min(pause_s, longest_s)
        if not ways:
            return
        waiting = strand.session is None and now - strand.wanted_since >= tuning.UNANSWERED_S
        reason = self.handshake_status(strand, now) if waiting and not strand.told else None
        if reason is not None:
            strand.told = True
            self._log.report(events.SessionUnanswered(strand.host, reason), now)
        for message in self.handshakes.initiate(strand.host, now):
            for connection in ways.values():
                if connection.source is None:
                    continue
                datagram = message
                if connection.cookie and now - connection.cookie_at < COOKIE_S:
                    datagram = self.handshakes.with_cookie(message, connection.cookie)
                key = (connection.link, connection.source)
                self.outgoing.append((key, connection.endpoint, datagram))

    def handshake(self, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float) -> None:
        """Take a datagram that is no frame of a session."""
        outcome = self.handshakes.receive(datagram, pack_endpoint(endpoint), now)
        if isinstance(outcome, Refused):
            self._dropped[outcome.drop] += 1
            if outcome.note is not None and self._notes.take(now):
                self._log.report(events.HandshakeRefused(outcome.note), now)
        elif isinstance(outcome, Answer):
            self.outgoing.append((key, endpoint, outcome.reply))
            if outcome.session is not None:
                if outcome.says_stale:
                    self._note_own_stale(self.strands[outcome.host], now)
                self._add_session(outcome.session, now)
        elif isinstance(outcome, Completed):
            strand = self.strands[outcome.host]
            strand.says_stale = False
            self._add_session(outcome.session, now)
            self._meet_called_back(strand, key, endpoint, now)
            self._have_session(strand, now)
        elif isinstance(outcome, CookieReply):
            self.outgoing.append((key, endpoint, outcome.reply))
        elif isinstance(outcome, CookieTaken):
            self._take_cookie(self.strands[outcome.host], outcome.cookie, key, endpoint, now)
        elif isinstance(outcome, Forgotten):
            self._want_session(self.strands[outcome.host], now)
        elif isinstance(outcome, Stale):
            self._dropped[Drop.STALE] += 1
            self._take_stale(outcome, datagram, key, endpoint, now)

    def _take_stale(
        self, stale: Stale, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Call back a host whose genuine handshakes are older than others before.

        Whoever plays one back must gain nothing: where it came from gets no more than came, and no
        initiation before somebody there has shown a cookie; a host that is well is left alone.
        """
        strand = self.strands[stale.host]
        if now - strand.heard_at < tuning.STALE_HEARD_S:
            if not stale.repeated:
                self._note_elsewhere(strand, endpoint, now)
            return
        if not self._stale.take((strand.host, stale.proven), now):
            return
        if strand.best_state == State.ESTABLISHED and self._ask_if_there(strand, now):
            return
        strand.stale_at = now
        if now - strand.stale_told_at >= tuning.STALE_TOLD_S and self._notes.take(now):
            strand.stale_told_at = now
            self._log.report(
                events.HandshakeRefused(f"a handshake of {strand.host} was refused: {_STALE}"), now
            )
        if not stale.proven:
            packed = pack_endpoint(endpoint)
            reply = self.handshakes.demand_cookie(datagram, packed, now).reply
            self.outgoing.append((key, endpoint, reply))
            return
        message = self.handshakes.call_back(stale, now)
        if message is not None:
            self.outgoing.append((key, endpoint, message))
            strand.called_back[key, endpoint] = now
            if len(strand.called_back) > tuning.MAX_REMOTES_PER_PEER:
                del strand.called_back[next(iter(strand.called_back))]

    def _note_elsewhere(self, strand: SecureStrand, endpoint: Endpoint, now: float) -> None:
        """Take a host's stale handshake that came while the host itself is heard."""
        heard = {
            c.endpoint: c.heard_at
            for c in strand.connections.values()
            if now - c.heard_at < CLONE_PAUSE_S
        }
        if not heard or endpoint in heard:
            return
        here = max(heard, key=lambda known: heard[known])
        if strand.clones.note(here, endpoint, now):
            self._log.report(events.KeyShared(strand.host, here, endpoint), now)

    def _ask_if_there(self, strand: SecureStrand, now: float) -> bool:
        """Ask a host that is quiet whether it lives; say whether it may still answer."""
        if strand.stale_asked_at > strand.heard_at:
            return now - strand.stale_asked_at < tuning.STALE_ANSWER_S
        strand.stale_asked_at = now
        there = [c for c in strand.connections.values() if c.state == State.ESTABLISHED]
        for connection in sorted(there, key=lambda c: -c.heard_at)[: tuning.STALE_ASKED]:
            frame = self._control_frame(connection, connection.aim, now, challenge=True)
            if frame is not None and connection.source is not None:
                key = (connection.link, connection.source)
                self.outgoing.append((key, connection.endpoint, frame))
        return True

    def _meet_called_back(
        self, strand: SecureStrand, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Have a connection to where a host was called back and has answered, if there is none."""
        called_at = strand.called_back.get((key, endpoint), NEVER)
        strand.called_back.clear()
        link = self.links.get(key[0])
        if link is None or not link.holds(key[1]) or now - called_at >= PENDING_S:
            return
        there = any(
            c.link == key[0] and c.endpoint == endpoint for c in strand.connections.values()
        )
        if there or not self._learning.take(strand.host, now) or not self._has_room(strand, now):
            return
        connection = self._connect(strand, key[0], 0, endpoint, now)
        if connection is not None and connection.source is not None:
            connection.source = key[1]

    def _note_own_stale(self, strand: SecureStrand, now: float) -> None:
        """Tell that a host takes this one's handshakes for old ones, if it did not answer them."""
        if strand.session is not None or strand.initiate_at == _INF or strand.says_stale:
            return
        strand.says_stale = True
        self._log.report(
            events.HandshakeRefused(f"no answer from {strand.host}: {_OWN_STALE}"), now
        )

    def unanswered(self, now: float) -> bool:
        """Say whether a host does not answer, perhaps because this one's epoch is too low."""
        return any(
            strand.says_stale
            or (strand.session is None and now - strand.wanted_since >= tuning.UNANSWERED_S)
            for strand in self.strands.values()
        )

    def raise_epoch(self, epoch: int) -> None:
        """Begin handshakes with this epoch from now on, if it is greater."""
        self.handshakes.raise_epoch(epoch)
        for strand in self.strands.values():
            strand.says_stale = False

    def _take_cookie(
        self,
        strand: SecureStrand,
        cookie: bytes,
        key: SocketKey,
        endpoint: Endpoint,
        now: float,
    ) -> None:
        """Ask again, with the cookie, where it came from; anybody could have sent it, so once."""
        for connection in strand.connections.values():
            known = now < connection.cookie_at + tuning.COOKIE_PAUSE_S
            here = (connection.link, connection.aim) == (key[0], (endpoint, key[1]))
            if not here or known or not connection.may_speak:
                continue
            connection.cookie = cookie
            connection.cookie_at = now
            if strand.initiate_at != _INF:
                for message in self.handshakes.initiate(strand.host, now):
                    repeated = self.handshakes.with_cookie(message, cookie)
                    self.outgoing.append((key, endpoint, repeated))

    def _add_session(self, session: Session, now: float) -> None:
        strand = self.strands[session.host]
        for removed in strand.sessions.add(session, now):
            self.handshakes.release(removed)
        self._schedule_strand(strand, now)

    def confirm(self, session: Session, now: float) -> None:
        """Take the first frame that proves that the other end has a session's keys."""
        strand = self.strands[session.host]
        strand.sessions.confirm(session, now)
        self._have_session(strand, now)

    def _have_session(self, strand: SecureStrand, now: float) -> None:
        """Send under the session that is to be used now, and tell every connection so."""
        before, session = strand.session, strand.sessions.sending
        strand.heard_at = now
        if session is before or session is None:
            return
        strand.session = session
        if before is None:
            self._log.report(events.SessionMade(strand.host), now)
        else:
            strand.rollovers += 1
        strand.initiate_at = strand.wanted_since = _INF
        strand.told = strand.shut_out = False
        strand.initiate_pause_s = tuning.INITIATE_MIN_S
        for connection in strand.connections.values():
            # The other end may have started anew and know nothing.
            connection.told_places = ()
            # The first frame under it tells the other end that it can be used.
            if connection.may_speak:
                self._send_control(connection, now)
                connection.greet_at = max(connection.greet_at, now + connection.greet_pause_s)
            self._schedule(connection, now)
        self.unsettled[strand] = None
        self._schedule_strand(strand, now)

    def _end_session(self, session: Session, reason: str, now: float) -> None:
        self.handshakes.release(session)
        strand = self.strands.get(session.host)
        if strand is None:
            return
        strand.sessions.remove(session)
        if strand.session is session:
            self._lose_session(strand, reason, now)

    def _lose_session(self, strand: SecureStrand, reason: str, now: float) -> None:
        strand.session = strand.sessions.sending
        if strand.session is not None:
            return
        self._log.report(events.SessionLost(strand.host, reason), now)
        for connection in strand.connections.values():
            self._advance(connection, Input.GONE, now, "there is no session")
        self.unsettled[strand] = None
        self._want_session(strand, now)

    def end_sessions(
        self, reason: str, epoch: int, reset_keys: Sequence[bytes], now: float
    ) -> None:
        """End all sessions at once and make new ones: a copy of this machine has their keys.

        ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self.handshakes.start_anew(epoch, reset_keys, now)
        self.handshakes.forget_answers()
        for strand in self.strands.values():
            for session in list(strand.sessions.sessions):
                self._end_session(session, reason, now)
            if strand.initiate_at != _INF:
                self._want_session(strand, now)
        self.settle(now)

    def replace_sessions(self, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """Make new sessions, as there may be a copy of this machine; those that there are carry on.

        Until then they go on with counters that no copy uses.
        """
        self.handshakes.start_anew(epoch, reset_keys, now)
        for strand in self.strands.values():
            for session in strand.sessions.sessions:
                session.skip(int.from_bytes(self._entropy(8), "little") % SKIP_COUNTERS)
            if strand.session is not None or strand.initiate_at != _INF:
                self._want_session(strand, now)

    def catch_up(self, now: float) -> None:
        """Give up sessions that have become too old while nothing ran here."""
        for strand in self.strands.values():
            self._expire_sessions(strand, now)
        self.settle(now)

    # Control frames.

    def control(
        self, session: Session, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Take a control frame of a known session."""
        body = session.open(datagram)
        if isinstance(body, Drop):
            self._dropped[body] += 1
            return
        strand = self.strands[session.host]
        session.heard_at = strand.heard_at = now
        if not session.confirmed:
            self.confirm(session, now)
        control = decode_control(body)
        if control is None or key[0] not in self.links:
            self._dropped[Drop.MALFORMED] += 1
            return
        if control.dst_index != key[0] and control.dst_index in self.links:
            # Somebody passed on to this link what was sent to another one of this host.
            self._dropped[Drop.WRONG_DESTINATION] += 1
            return
        if control.shuts_out:
            strand.shut_out = True
            for one in list(strand.sessions.sessions):
                self._end_session(one, _SHUT_OUT, now)
            return
        strand.sessions.note_partial(session, control.takes_partial)
        counter = int.from_bytes(datagram[8:16], "little")
        size = outer_size(endpoint[0]) + len(datagram)
        # Who is not called from here finds the way by itself.
        heeded = control.announced and strand.endpoints
        if heeded and strand.announced.is_due(session, counter, now):
            self._take_announcement(strand, control.announced, size, now)
        connection = self._find(strand, control, key, endpoint, now)
        if connection is None:
            self._dropped[Drop.LIMIT] += 1
            return
        if connection.order.advance(session, counter):
            self._hear(connection, control, key, endpoint, size, now)

    def _take_announcement(
        self, strand: SecureStrand, announced: Sequence[Place], size: int, now: float
    ) -> None:
        """Take where a host says that it can be called, and ask there if a way to it is lost."""
        places: Dict[Endpoint, Tuple[int, ...]] = {}
        for index, (address, port) in announced:
            try:
                endpoint = parse_endpoint(address, port)
            except ValueError:
                continue
            if 0 < index <= _INDEX_MAX:
                places[endpoint] = (*places.get(endpoint, ()), index)
        strand.announced.take(places, size)
        self._leave_candidates(strand, now)
        for link in self.links.values():
            self._seek(strand, link, now)

    def _seek(self, strand: SecureStrand, link: Link, now: float) -> None:
        """Ask where a host has announced itself, if a link calls it in vain.

        That is where it did reach it, or reaches it nowhere.
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
            if endpoint in called or self._holds(endpoint[0]):
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
        session, source = strand.session, self._source_for(link, endpoint)
        size = outer_size(endpoint[0]) + OVERHEAD + CONTROL_SIZE
        if session is None or source is None or not way:
            return
        if strand.announced.may_ask(link.index, endpoint, size, now):
            mark = self._draw_mark()
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
                takes_partial=self.takes_partial,
            )
            frame = _seal(session, encode_control(question))
            self.outgoing.append(((link.index, source), endpoint, frame))

    def _find(
        self,
        strand: SecureStrand,
        control: Control,
        key: SocketKey,
        endpoint: Endpoint,
        now: float,
    ) -> Optional[SecureConnection]:
        """Give the connection of a control frame, which may be known by its endpoint only."""
        link, index = key[0], control.src_index
        found = strand.connections.get((link, (index, is_ipv6(endpoint[0]))))
        stand_ins = [
            c
            for c in strand.connections.values()
            if c.link == link
            and c is not found
            and (endpoint in c.candidates or endpoint == c.endpoint)
            and (not c.remote or _has_fallen(c, now))
        ]
        if found is None and stand_ins:
            found = stand_ins.pop()
            del strand.connections[link, _key(found)]
            found.remote = index
            if found.endpoint != endpoint:
                found.endpoint, found.proven = endpoint, False
            strand.connections[link, _key(found)] = found
        elif found is None:
            learning = index <= _INDEX_MAX and self._learning.take(strand.host, now)
            if not learning or not self._has_room(strand, now):
                return None
            found = self._connect(strand, link, index, endpoint, now)
            if found is None:
                return None
        # Several endpoints have led to one interface: it keeps them all and is greeted at one.
        for other in stand_ins:
            found.candidates += [e for e in other.candidates if e not in found.candidates]
            self._end(other, "its interface is known", now)
        if stand_ins and found.state == State.SENDING:
            self._go_home(found, now)
        return found

    def _has_room(self, strand: SecureStrand, now: float) -> bool:
        """Say whether one more connection may be learnt, if need be instead of a silent one."""
        learnt = [c for c in strand.connections.values() if not c.calls]
        if len(learnt) < tuning.MAX_REMOTES_PER_PEER:
            return True
        idle = [c for c in learnt if c.state != State.ESTABLISHED]
        if not idle:
            return False
        self._end(min(idle, key=lambda c: c.heard_at), "others took its place", now)
        return True

    def _hear(
        self,
        connection: SecureConnection,
        control: Control,
        key: SocketKey,
        endpoint: Endpoint,
        size: int,
        now: float,
    ) -> None:
        """Believe a control frame that is newer than all before it."""
        quiet_s = now - connection.sent_at
        link = self.links[connection.link]
        # A frame may have waited here while the address that it came to went away.
        routed = not self._has_no_route(link, endpoint) and link.holds(key[1])
        strand = connection.strand
        echoed = connection.marks.get(control.echo) or strand.announced.marks.get(control.echo)
        aim = (endpoint, key[1] if routed else None)
        self._follow(connection, aim, echoed, now)
        there = aim == connection.aim
        heard_back = echoed is not None and echoed[1] == connection.aim
        if heard_back and not connection.proven:
            connection.proven = True
            self.unsettled[strand] = None
        if heard_back:
            self._call_from_now_on(connection)
        connection.heard_at = now
        connection.far_way = control.way
        connection.far_pause_s = min(control.pause_s, tuning.IDLE_MAX_S)
        connection.far_calls = control.calls
        connection.far_received = control.received
        held_s = control.held_ms / 1000
        connection.loss.note(control.echo, held_s, connection.sent, control.received, now)
        connection.observed = control.observed
        connection.far_mark = control.mark
        connection.far_mark_at = now
        if echoed is not None:
            self._measure_rtt(connection, now - echoed[0], control.held_ms)
        if control.probe and control.probe <= size:
            connection.probe_heard = control.probe
        connection.path_mtu.alive(now)
        if control.probe_heard:
            connection.path_mtu.heard(control.probe_heard, now)
        self._fit(connection, now)
        idle = not connection.strand.is_active(now)
        held = idle and connection.keepalive.proves(quiet_s)
        if held and connection.strand.may_lengthen(connection, now):
            connection.keepalive.lengthen(now)
        answer = answers(connection.state, control.state) or control.answer
        rested = now >= connection.answered_at + tuning.ANSWER_PAUSE_S
        what = _input(control.state, heard_back, _is_anew(connection, control.echo, echoed))
        connection.heard_session = connection.order.session
        # One that knows nothing learns nothing of where nobody has answered yet.
        if connection.source is not None and (there or connection.state != State.SENDING):
            self._advance(connection, what, now, _REASONS.get(what, ""))
        # An answer is no probe and no challenge, so these come to an end by themselves. It goes
        # where the frame came from, or where somebody is for certain.
        wanted = control.probe or control.challenge or (answer and rested)
        if wanted and (there or connection.assured):
            connection.answered_at = now
            self._send_control(connection, now)
        self._announce(connection, now)
        self._schedule(connection, now)

    def _call_from_now_on(self, connection: SecureConnection) -> None:
        """Call a host, if it is called, also where it announced itself and has answered."""
        strand, endpoint = connection.strand, connection.endpoint
        if not strand.endpoints or connection.remote not in strand.announced.places.get(
            endpoint, ()
        ):
            return
        there = [c for c in strand.connections.values() if c.link == connection.link]
        # Interfaces are claimed without an end, endpoints are not.
        if not any(endpoint in c.candidates for c in there):
            connection.candidates.append(endpoint)

    def _measure_rtt(self, connection: SecureConnection, passed_s: float, held_ms: int) -> None:
        sample_ms = max(0.0, 1000 * passed_s - held_ms)
        before = connection.rtt_ms
        connection.rtt_ms = (
            sample_ms if before is None else before + tuning.RTT_SHARE * (sample_ms - before)
        )
        connection.path_mtu.set_rtt(connection.rtt_ms)

    def _follow(
        self,
        connection: SecureConnection,
        aim: Aim,
        echoed: Optional[Tuple[float, Aim]],
        now: float,
    ) -> None:
        """See whether the other end is somewhere else now.

        Whoever can pass on frames faster than their own way could pretend so. An endpoint that
        works is left only for one that answers a challenge, and if it does not answer itself.
        """
        if echoed is not None and echoed[1] == connection.aim:
            connection.reached_at = max(connection.reached_at, echoed[0])
            if connection.strand.doubtful:
                self.unsettled[connection.strand] = None
            if connection.reached_at >= connection.move_asked_at:
                connection.move_at = _INF
        if aim == connection.aim:
            return
        answered = echoed is not None and echoed[1] == aim and aim[1] is not None
        # What is called stays where the configuration says until another place has answered.
        free = answered or not connection.calls or aim[0] in connection.candidates
        if connection.state == State.SENDING and free:
            self._move(connection, aim, answered, now)
        elif echoed is not None and answered and echoed[0] > connection.reached_at:
            if connection.move_at == _INF:
                stay_s = tuning.STAY_ROUND_TRIPS * (now - echoed[0]) + tuning.STAY_S
                connection.move_to = aim
                connection.move_asked_at = echoed[0]
                connection.move_at = now + min(stay_s, tuning.STAY_MAX_S)
        elif aim[1] is not None:
            # Who hears nothing repeats what it heard last: that proves nothing of now.
            self._challenge(connection, aim, now)

    def _challenge(self, connection: SecureConnection, aim: Aim, now: float) -> None:
        """Ask for an answer where the other end was heard from, and where it is known to be."""
        if now < connection.challenged_at + tuning.CHALLENGE_PAUSE_S:
            return
        connection.challenged_at = now
        for endpoint, source in (aim, connection.aim) if connection.assured else (aim,):
            frame = self._control_frame(connection, (endpoint, source), now, challenge=True)
            if frame is not None and source is not None:
                self.outgoing.append(((connection.link, source), endpoint, frame))

    def _move(self, connection: SecureConnection, aim: Aim, answered: bool, now: float) -> None:
        """Follow the other end to where it was heard from, or has ``answered`` a challenge."""
        before = connection.endpoint
        connection.endpoint, connection.source = aim
        connection.proven = answered
        connection.move_at = _INF
        connection.move_to = None
        connection.cookie = b""
        self._restart_path(connection, now)
        self.unsettled[connection.strand] = None
        if before != connection.endpoint and connection.heard_at != NEVER:
            moved = events.EndpointMoved(*connection.ends, before, connection.endpoint)
            self._log.report(moved, now)

    def _restart_path(self, connection: SecureConnection, now: float) -> None:
        connection.path_mtu.restart(now)
        connection.rtt_ms = None
        connection.observed = None
        self._fit(connection, now)

    def _fit(self, connection: SecureConnection, now: float) -> None:
        """Have packets fit what is known of the path now."""
        before, path = (connection.mtu, connection.assumed), connection.path_mtu
        connection.fit()
        if (connection.mtu, connection.assumed) != before:
            self.unsettled[connection.strand] = None
        # The sizes that a search goes through are nobody's news.
        if path.settled and path.mtu != connection.told_mtu:
            connection.told_mtu = path.mtu
            self._log.report(events.PathMtuFound(*connection.ends, path.mtu), now)

    def _send_control(
        self,
        connection: SecureConnection,
        now: float,
        probe: int = 0,
        announced: Tuple[Place, ...] = (),
    ) -> None:
        """Say where this end stands; the next frame is due a pause from now.

        With ``probe`` the frame fills an outer packet of that size. ``announced`` goes with it.
        """
        source = connection.source
        frame = self._control_frame(connection, connection.aim, now, probe, announced=announced)
        if source is None or frame is None:
            return
        if announced:
            connection.told_places = announced
        if not probe:
            # A probe may be too large for the path: small frames keep to their times beside it.
            connection.sent_at = now
            connection.told_pause_s = self._pause_s(connection, now)
        self.outgoing.append(((connection.link, source), connection.endpoint, frame))

    def _control_frame(
        self,
        connection: SecureConnection,
        aim: Aim,
        now: float,
        probe: int = 0,
        challenge: bool = False,
        shuts_out: bool = False,
        announced: Tuple[Place, ...] = (),
    ) -> Optional[bytes]:
        strand = connection.strand
        session = strand.session
        if session is None:
            return None
        marks = connection.marks
        mark = self._draw_mark()
        marks[mark] = (now, aim)
        connection.loss.mark(mark, connection.sent, now)
        if len(marks) > tuning.MAX_MARKS:
            del marks[next(iter(marks))]
        known = connection.state != State.SENDING and connection.order.session is session
        heard = connection.heard_at != NEVER
        body = encode_control(
            Control(
                state=connection.state,
                src_index=connection.link,
                # What is known of the other end may be of before it started anew.
                dst_index=connection.remote if known else 0,
                way=connection.way,
                pause_s=self._pause_s(connection, now),
                answer=not probe and self._wants_answer(connection, now),
                calls=connection.calls,
                challenge=challenge,
                mark=mark,
                echo=connection.far_mark,
                held_ms=int(1000 * (now - connection.far_mark_at)) if heard else 0,
                probe=probe,
                probe_heard=connection.probe_heard,
                observed=connection.endpoint if heard else None,
                received=connection.received,
                takes_partial=self.takes_partial,
                shuts_out=shuts_out,
                announced=announced,
            ),
            max(0, probe - outer_size(connection.endpoint[0]) - OVERHEAD),
        )
        return _seal(session, body)

    def _draw_mark(self) -> int:
        return int.from_bytes(self._entropy(4), "little") or 1

    def _announce(self, connection: SecureConnection, now: float) -> None:
        """Say where this host can be called, if the other end was not told on this connection."""
        announced = self._announced_on(connection)
        known = not announced or announced == connection.told_places
        if connection.state == State.ESTABLISHED and not known:
            self._send_control(connection, now, announced=announced)

    def _announced_on(self, connection: SecureConnection) -> Tuple[Place, ...]:
        """Give what a frame that nobody asked for says about where this host can be called.

        That is nothing where the other end does not call: it has no use for it.
        """
        useful = connection.far_calls or not connection.calls
        return self._places if useful and connection.proven else ()

    def _wants_answer(self, connection: SecureConnection, now: float) -> bool:
        """Say whether the other end would otherwise leave this one waiting."""
        if connection.state != State.ESTABLISHED:
            return True
        if connection.strand.is_active(now):
            return connection.far_pause_s > tuning.PROBE_S
        return now - connection.heard_at > connection.far_pause_s

    def _pause_s(self, connection: SecureConnection, now: float) -> float:
        """Give the longest time that this end leaves the connection without a frame."""
        if connection.strand.is_active(now):
            return tuning.PROBE_S
        if connection.calls:
            return tuning.IDLE_MUTUAL_S if connection.far_calls else connection.keepalive.pause_s
        if connection.far_pause_s <= tuning.PROBE_S:
            return tuning.IDLE_START_S
        return connection.far_pause_s

    def _next_at(self, connection: SecureConnection, now: float) -> float:
        """Give when the next control frame of an established connection is due."""
        if connection.told_pause_s <= tuning.PROBE_S:
            return connection.sent_at + tuning.PROBE_S
        far_pause_s = connection.far_pause_s
        called = not connection.calls and far_pause_s > tuning.PROBE_S
        if called and not connection.strand.is_active(now):
            proof_at = connection.heard_at + tuning.IDLE_ANSWER_SHARE * far_pause_s
            if connection.sent_at < connection.heard_at + far_pause_s / 2:
                return proof_at
        return connection.sent_at + self._pause_s(connection, now)

    # States.

    def _advance(
        self, connection: SecureConnection, what: Input, now: float, reason: str = "it was silent"
    ) -> None:
        """Apply the table; all that follows from a new state follows from here."""
        if not advance(connection, what, reason, self._log, now):
            return
        if connection.state == State.SENDING:
            connection.lost_at = now
            self._go_home(connection, now)
        if connection.state != State.ESTABLISHED:
            self._greet_soon(connection, now)
        self.unsettled[connection.strand] = None

    def _go_home(self, connection: SecureConnection, now: float) -> None:
        """Go back to a configured endpoint from one where nobody has answered."""
        if connection.remote and connection.calls and not connection.assured:
            connection.source = self._take_candidate(connection)
            self._restart_path(connection, now)
            self.unsettled[connection.strand] = None

    def settle(self, now: float) -> None:
        """Choose anew where something changed; at the end of each batch of work."""
        if self.woken:
            for strand in self.woken:
                self._wake(strand, now)
            self.woken.clear()
        if not self.unsettled:
            return
        self._watch.look_soon()
        for strand in list(self.unsettled):
            if strand.choose():
                self._routes.forget()
            if strand.held and strand.carrying:
                self._release(strand, now)
        self.unsettled.clear()

    def _release(self, strand: SecureStrand, now: float) -> None:
        """Have packets sent that waited for a session, but for those that waited for too long."""
        fresh = [held for held in strand.held if now - held[2] <= self.max_age_s]
        self._dropped[Drop.EXPIRED] += len(strand.held) - len(fresh)
        self.released += fresh
        strand.held = []

    def _wake(self, strand: SecureStrand, now: float) -> None:
        """Data flows again: find out soon which ways still work."""
        for connection in strand.connections.values():
            connection.awoken_at = now
            connection.greet_pause_s = tuning.GREETING_MIN_S
            if connection.may_speak:
                self._send_control(connection, now)
            self._schedule(connection, now)
        self._schedule_strand(strand, now)

    # Time.

    def deadline(self) -> float:
        """Give the time of the next :meth:`tick`."""
        return min(self._timers.next_at(), self._forget_at)

    def tick(self, now: float) -> None:
        """Do what is due: handshakes, greetings, probes, falling back of silent connections."""
        for what in self._timers.take(now):
            if isinstance(what, SecureConnection):
                self._look_at(what, now)
            else:
                self._look_at_strand(what, now)
        if now >= self._forget_at:
            self._forget_at = now + tuning.FORGET_EVERY_S
            self._forget(now)
        self.settle(now)

    def _look_at(self, connection: SecureConnection, now: float) -> None:
        strand = connection.strand
        if connection.source is None or strand.session is None:
            return
        if now >= connection.move_at and connection.move_to is not None:
            self._move(connection, connection.move_to, True, now)
        if connection.state and now >= self._silent_at(connection, now):
            self._advance(connection, Input.SILENT, now)
        if connection.state == State.ESTABLISHED:
            if now >= self._next_at(connection, now):
                self._judge_pause(connection, now)
                self._send_control(connection, now, announced=self._announced_on(connection))
            probe = connection.path_mtu.probe(now, strand.is_active(now))
            if probe:
                self._send_control(connection, now, probe)
        elif now >= connection.greet_at and connection.may_speak:
            self._greet(connection, now)
        self._fit(connection, now)
        self._schedule(connection, now)

    def _judge_pause(self, connection: SecureConnection, now: float) -> None:
        """See whether the other end's frame came before an idle pause was over."""
        if not connection.calls or connection.far_calls:
            return
        sent_at = connection.sent_at
        idle = sent_at >= connection.strand.idle_at
        if idle and connection.heard_at < sent_at + connection.keepalive.pause_s / 2:
            connection.keepalive.missed(now)

    def _greet(self, connection: SecureConnection, now: float) -> None:
        tried = connection.heard_at != NEVER or connection.greet_pause_s > tuning.GREETING_MIN_S
        if connection.calls and connection.state == State.SENDING and tried:
            self._try_next(connection, now)
        self._send_control(connection, now)
        pause_s = connection.greet_pause_s
        longest_s = tuning.PROBE_S
        if not connection.strand.is_active(now):
            longest_s = tuning.IDLE_START_S
        connection.greet_pause_s = min(2 * pause_s, longest_s)
        spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
        connection.greet_at = now + pause_s * spread
        if connection.strand.announced.places:
            self._seek(connection.strand, self.links[connection.link], now)

    def _silent_at(self, connection: SecureConnection, now: float) -> float:
        since = max(connection.heard_at, connection.awoken_at)
        return since + connection.silence_s(now)

    def _expire_sessions(self, strand: SecureStrand, now: float) -> None:
        for session in strand.sessions.expire(now):
            self.handshakes.release(session)
        if strand.session is not None and strand.sessions.sending is not strand.session:
            self._lose_session(strand, "it was not renewed", now)

    def _look_at_strand(self, strand: SecureStrand, now: float) -> None:
        self._expire_sessions(strand, now)
        if strand.initiate_at == _INF and self._needs_session(strand, now):
            self._want_session(strand, now)
        if now >= strand.initiate_at:
            self._initiate(strand, now)
        if strand.held and now - strand.held_since >= tuning.HELD_S:
            self.given_up += strand.held
            strand.held = []
        self._schedule_strand(strand, now)

    def _needs_session(self, strand: SecureStrand, now: float) -> bool:
        if strand.session is None:
            return bool(strand.connections)
        if strand.sessions.rollover_due(now):
            return True
        woken_at = max((c.awoken_at for c in strand.connections.values()), default=now)
        silent_s = now - max(strand.heard_at, woken_at)
        return strand.is_active(now) and silent_s >= tuning.PEER_SILENCE_S

    def _greet_soon(self, connection: SecureConnection, now: float) -> None:
        connection.greet_pause_s = tuning.GREETING_MIN_S
        connection.greet_at = now
        self._schedule(connection, now)

    def _schedule(self, connection: SecureConnection, now: float) -> None:
        """Put the connection into the heap for the moment at which something is due."""
        if connection.source is None or connection.strand.session is None:
            return
        if connection.state == State.ESTABLISHED:
            due = min(
                self._next_at(connection, now),
                self._silent_at(connection, now),
                connection.path_mtu.deadline(),
            )
        else:
            due = connection.greet_at if connection.may_speak else _INF
            if connection.state:
                due = min(due, self._silent_at(connection, now))
        self._timers.bring_forward(connection, max(min(due, connection.move_at), now))

    def _schedule_strand(self, strand: SecureStrand, now: float) -> None:
        look_s = tuning.SESSION_LOOK_S if strand.is_active(now) else tuning.SESSION_LOOK_IDLE_S
        due = min(strand.initiate_at, now + look_s)
        self._timers.bring_forward(strand, max(due, now))

    def _forget(self, now: float) -> None:
        """Forget learnt connections that have been silent for long."""
        if now >= self._recall_until:
            self._recalled.clear()
        for strand in self.strands.values():
            for connection in list(strand.connections.values()):
                quiet_s = now - max(connection.heard_at, connection.lost_at)
                fallen = not connection.calls and connection.state == State.SENDING
                if fallen and quiet_s >= tuning.FORGET_S:
                    self._end(connection, "it was silent for long", now)

    # What can be seen.

    @property
    def public_key(self) -> bytes:
        """The key that other hosts know this one by."""
        return self._identity.public

    def handshake_status(self, strand: SecureStrand, now: float) -> Optional[str]:
        """Say in a sentence what is wrong with a strand's sessions; None if nothing is."""
        if strand.says_stale:
            return _OWN_STALE
        places = strand.clones.places(now)
        if places is not None:
            return events.key_shared(*places)
        if strand.session is not None:
            return None
        if now - strand.stale_at < tuning.STALE_TOLD_S:
            return _STALE
        if not strand.connections:
            if strand.endpoints:
                return "no link has a route to any of its addresses"
            return "it has no configured address: waiting for it to call"
        if strand.shut_out:
            return _SHUT_OUT
        waiting_s = max(0.0, now - strand.wanted_since)
        return (
            f"no answer for {waiting_s:.0f} s: it is off or cannot be reached over UDP, one of the"
            " two hosts has another key for the other, or it has taken newer handshakes from this"
            " host's key, so this host's clock was set back or another host uses the key"
        )


def check_peers(peers: Iterable[Any]) -> None:
    """Raise ValueError, with a sentence, for a peer that no node could take."""
    for peer in peers:
        if not isinstance(parse_address(peer.host), ipaddress.IPv4Address):
            raise ValueError(f"host {peer.host} is no IPv4 address")
        for key in (*peer.public_keys, peer.psk):
            if len(key) != KEY_BYTES:
                raise ValueError(f"a key of {peer.host} has {len(key)} bytes, not {KEY_BYTES}")
        for endpoint in peer.endpoints:
            parse_endpoint(*endpoint)


def _key(connection: SecureConnection) -> Any:
    """What a connection stands under in its strand, beside its link."""
    return (connection.remote, connection.ipv6) if connection.remote else connection.endpoint


def _seal(session: Session, body: bytes) -> bytes:
    """Give the control frame of a body."""
    return LINK_PART.pack(CONTROL, 0, 0) + session.seal(CONTROL_AD, body)


def _has_fallen(connection: SecureConnection, now: float) -> bool:
    """Say whether another interface may take the place of a connection's at its endpoint.

    One that is idle is not silent: whoever has kept back a frame would end it by forging a source.
    """
    silent = now - connection.heard_at >= tuning.SILENCE_S
    return silent and connection.state == State.SENDING


def _input(state: int, heard_back: bool, anew: bool) -> Input:
    """Give what a state in a frame comes to; ``anew`` where its sender has just begun.

    That the other end hears this one is believed where it repeats what was sent to it there.
    """
    if state == State.SENDING:
        return Input.HEARD_RESTART if anew else Input.HEARD_FALLEN
    return Input(state) if heard_back else Input.HEARD_SENDING


def _is_anew(connection: SecureConnection, echo: int, echoed: Optional[Tuple[float, Aim]]) -> bool:
    """Say whether the other end heard nothing on a connection before the session in use.

    Who only rolled the session over still repeats what it heard last before.
    """
    session = connection.order.session
    if session is None or session is connection.heard_session:
        return False
    return not echo or (echoed is not None and echoed[0] >= session.created_at)
