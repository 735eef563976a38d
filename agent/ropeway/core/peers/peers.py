"""The secure encapsulation's control side: sessions, links, connections and their endpoints.

It writes :mod:`ropeway.core.tables`, each strand's session and its carrying connections. Its parts
each own their state, and use only those named before them:

1. :mod:`links <ropeway.core.peers.links>`: the local interfaces, and where they lead;
2. :mod:`troubles <ropeway.core.peers.troubles>`: which links and interfaces fail together;
3. :mod:`policies <ropeway.core.peers.policies>`: which connections carry each class of traffic;
4. :mod:`settling <ropeway.core.peers.settling>`: what follows from changes, once for each batch;
5. :mod:`connections <ropeway.core.peers.connections>`: their life, state and path;
6. :mod:`dialogue <ropeway.core.peers.dialogue>`: control frames of a connection;
7. :mod:`questions <ropeway.core.peers.questions>`: endpoints that a host has announced;
8. :mod:`connection_upkeep <ropeway.core.peers.connection_upkeep>`: what is due on a connection;
9. :mod:`sessions <ropeway.core.peers.sessions>`: when one is asked for, and which one seals;
10. :mod:`control_frames <ropeway.core.peers.control_frames>`: control frames as they arrive;
11. :mod:`messages <ropeway.core.peers.messages>`: what hosts say to each other of the network;
12. :mod:`handshake_datagrams <ropeway.core.peers.handshake_datagrams>`: what belongs to no session;
13. :mod:`calls <ropeway.core.peers.calls>`: which endpoints are called over which links;
14. :mod:`members <ropeway.core.peers.members>`: the hosts that belong to the network;
15. :mod:`lease_server <ropeway.core.peers.lease_server>`: who gets an address from this host;
16. :mod:`lease_client <ropeway.core.peers.lease_client>`: the address that this host gets;
17. :mod:`route_exchange <ropeway.core.peers.route_exchange>`: which networks are behind hosts;
18. :mod:`directory <ropeway.core.peers.directory>`: on a router, where hosts can be called;
19. :mod:`direct <ropeway.core.peers.direct>`: hosts that are met without a router;
20. :mod:`who_has <ropeway.core.peers.who_has>`: the messages about both.

Two things are kept apart. A **session** belongs to a host and proves who it is; its handshake goes
over all connections at once. A **connection** is one path to that host; where it leads is learnt
only from control frames that a session has sealed, and of those only from newer ones.
"""

from __future__ import annotations

import random as random_module
from typing import Callable, Hashable, Optional, Union

from ropeway.core import events, tuning
from ropeway.core.endpoint import Endpoint, SocketKey
from ropeway.core.frame.message import Kind
from ropeway.core.network.routes import Routes
from ropeway.core.peers.calls import Calls
from ropeway.core.peers.connection_upkeep import ConnectionUpkeep
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.control_frames import ControlFrames
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.direct import Direct
from ropeway.core.peers.directory import Directory
from ropeway.core.peers.handshake_datagrams import HandshakeDatagrams
from ropeway.core.peers.lease_client import LeaseClient
from ropeway.core.peers.lease_server import LeaseServer
from ropeway.core.peers.links import Links
from ropeway.core.peers.members import Members, check_peers
from ropeway.core.peers.messages import Messages
from ropeway.core.peers.outgoing import Outgoing
from ropeway.core.peers.policies import Policies
from ropeway.core.peers.questions import Questions
from ropeway.core.peers.route_exchange import RouteExchange
from ropeway.core.peers.sessions import Sessions
from ropeway.core.peers.settling import Settling
from ropeway.core.peers.troubles import Troubles
from ropeway.core.peers.who_has import WhoHas
from ropeway.core.redundancy import Watch
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.session.noise import KeyPair
from ropeway.core.session.session import Session
from ropeway.core.settings import UNASSIGNED, SecureSettings
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.tables import Tables
from ropeway.core.timers import Timers


class SecurePeers:
    """The parts of the control side, and what is due in them.

    Whoever calls a part calls :meth:`settle` after that.
    """

    def __init__(
        self,
        settings: SecureSettings,
        own: bytes,
        tables: Tables[SecureStrand],
        routes: Routes,
        log: events.Log,
        watch: Watch,
        now: float,
        random: random_module.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        """``own`` is the node's virtual address; ``entropy`` returns so many secret bytes."""
        self._timers: Timers[Union[SecureConnection, SecureStrand]] = Timers()
        self._forget_at = now + tuning.FORGET_EVERY_S
        self._tables = tables
        self.links = links = Links(settings.port)
        self.troubles = troubles = Troubles(tables)
        self.policies = policies = Policies(tables, links, troubles)
        self.settling = settling = Settling(tables, routes, policies, watch)
        self.outgoing = outgoing = Outgoing()
        self.handshakes = handshakes = Handshakes(
            KeyPair.of(settings.private_key),
            own,
            settings.epoch,
            entropy,
            now,
            tables.sessions,
            settings.reset_keys,
        )
        connections = Connections(tables, links, settling, troubles, self._timers, log, now)
        self.dialogue = dialogue = Dialogue(
            links, connections, settling, policies, outgoing, entropy
        )
        questions = Questions(links, connections, dialogue, outgoing)
        self._connection_upkeep = ConnectionUpkeep(
            links, connections, dialogue, questions, policies, random
        )
        self.sessions = sessions = Sessions(
            handshakes,
            tables,
            connections,
            dialogue,
            settling,
            outgoing,
            self._timers,
            log,
            random,
            entropy,
        )
        self.control_frames = ControlFrames(
            tables, links, connections, dialogue, questions, sessions
        )
        self.messages = Messages(tables, sessions, outgoing, now)
        self.handshake_datagrams = HandshakeDatagrams(
            handshakes,
            tables,
            links,
            connections,
            dialogue,
            sessions,
            outgoing,
            log,
            now,
        )
        self.calls = calls = Calls(
            handshakes, tables, links, connections, dialogue, sessions, settling, log, now
        )
        self.members = Members(
            handshakes,
            tables,
            connections,
            dialogue,
            sessions,
            calls,
            settling,
            settings.rollover_s,
        )
        self._settings = settings
        self.lease_server = LeaseServer(
            self.messages, handshakes, log, lambda now: self.set_peers(self._settings, now), now
        )
        #: None where this host has an address of its own.
        self.lease_client: Optional[LeaseClient] = None
        if settings.address == UNASSIGNED:
            self.lease_client = LeaseClient(self.messages, tables, settings, log, entropy, now)
        self.set_peers(settings, now)
        self.route_exchange = RouteExchange(settings, tables, routes, self.messages, random, now)
        self.who_has = self._who_has(settings, routes, now)
        self.settle(now)

    def set_peers(self, settings: SecureSettings, now: float) -> None:
        """Take the hosts that belong here, those with a lease included.

        ValueError, with a sentence, for a peer that no node could take; then nothing has changed.
        """
        check_peers(settings.peers)
        if settings is not self._settings or not self.lease_server.is_on:
            self._settings = settings
            self.lease_server.configure(settings, now)
        if self.lease_client is not None:
            self.lease_client.follow(settings)
        self.members.set_peers((*settings.peers, *self.lease_server.peers()), now)

    def _who_has(self, settings: SecureSettings, routes: Routes, now: float) -> WhoHas:
        """Make what finds hosts that are met without a router, as far as the settings want it."""
        tables, messages, members = self._tables, self.messages, self.members
        directory = Directory(tables, messages, members.may_meet) if settings.forward else None
        direct = None
        if settings.direct and settings.routers:
            routes.notes_by_router = True
            direct = Direct(tables, routes, self.links, messages, members, now)
        made = WhoHas(tables, directory, direct, now)
        messages.handlers[Kind.WHO_HAS] = made.take
        return made

    def confirm(self, session: Session, now: float) -> None:
        """Take note of the first authentic frame of a session."""
        self.sessions.confirm(session, now)

    def credible(self, datagram: bytes) -> Hashable:
        """Return the kind of a handshake that no mere stranger has made; None for others."""
        return self.handshakes.credible(datagram)

    def handshake(self, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float) -> None:
        """Take a datagram that is no frame of a session."""
        self.handshake_datagrams.take(datagram, key, endpoint, now)

    def control(
        self, session: Session, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Take a control frame that names a known session."""
        self.control_frames.take(session, datagram, key, endpoint, now)

    def message(self, session: Session, datagram: bytes, now: float) -> None:
        """Take a message that names a known session."""
        self.messages.take(session, datagram, now)

    def unknown_session(
        self, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Tell the sender of a frame that its session is not known here, if it would believe so."""
        for reset in self.handshakes.resets_for(datagram, now):
            self.outgoing.put(key, endpoint, reset)

    def settle(self, now: float) -> None:
        """Do what follows from changes, once; at the end of each batch of work."""
        self._wake(now)
        if self.settling.settle(now):
            self.route_exchange.look_soon(now)
        # Connections that carry again, because others do not, may have been quiet for long.
        self._wake(now)
        if now >= self.route_exchange.deadline():
            self.route_exchange.tick(now)

    def _wake(self, now: float) -> None:
        woken = self._tables.woken
        if woken:
            for strand in woken:
                self._connection_upkeep.wake(strand, now)
                self.sessions.schedule(strand, now)
            woken.clear()

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""
        parts = min(self.lease_server.deadline(), self.route_exchange.deadline())
        due = min(self._timers.next_at(), self._forget_at, parts, self.who_has.deadline())
        return due if self.lease_client is None else min(due, self.lease_client.deadline())

    def tick(self, now: float) -> None:
        """Do what is due: handshakes, greetings, probes, falling back of silent connections."""
        for what in self._timers.take(now):
            if isinstance(what, SecureConnection):
                self._connection_upkeep.look_at(what, now)
            else:
                self.sessions.look_at(what, now)
        if now >= self._forget_at:
            self._forget_at = now + tuning.FORGET_EVERY_S
            self.calls.forget(now)
        self.lease_server.tick(now)
        if self.lease_client is not None:
            self.lease_client.tick(now)
        if now >= self.who_has.deadline():
            self.who_has.tick(now)
        self.settle(now)
