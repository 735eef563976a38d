"""The secure encapsulation's node: the facade that the engine drives.

Packets and frames take the way of :mod:`ropeway.core.data`, which knows nothing of
:mod:`ropeway.core.peers`, the control side. Both know :mod:`ropeway.core.tables`. What follows from
a batch of packets is done here once the batch is through: see ``_settle``.
"""

from __future__ import annotations

import random as random_module
from dataclasses import replace
from typing import Any, Callable, Dict, Hashable, Iterable, List, Mapping, Optional, Sequence, Tuple

from ropeway.core import events, link_report, status, tuning
from ropeway.core.data.classed import ClassedSender
from ropeway.core.data.receive import Receiver, packets_in, without_packets
from ropeway.core.data.router import Router
from ropeway.core.data.send import Sender
from ropeway.core.data.several import Several
from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, SocketKey
from ropeway.core.explain import Question, explain
from ropeway.core.frame.control import TAKES_IPV6
from ropeway.core.frame.data import OVERHEAD, Received, Train
from ropeway.core.frame.label import LABEL_SIZE
from ropeway.core.frame.outer import IPV4_SIZE, IPV6_SIZE, UDP_SIZE
from ropeway.core.frame.parity import PARITY_SIZE
from ropeway.core.link import Link
from ropeway.core.link_report import LinkReport
from ropeway.core.network.leases import Change
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4, ipv6
from ropeway.core.packet.traffic_class import TrafficClass
from ropeway.core.peers.lease_client import LeaseClient
from ropeway.core.peers.lease_server import LeaseServer
from ropeway.core.peers.peers import SecurePeers
from ropeway.core.redundancy import LinkHealth, Watch
from ropeway.core.session.aead import CIPHER_NAME, PROVIDER
from ropeway.core.session.noise import KeyPair
from ropeway.core.settings import UNASSIGNED, SecureSettings
from ropeway.core.strand.path_mtu import BASE_MTU
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE


class SecureNode:
    """One host of a virtual network whose frames are sealed, between hosts known by their keys.

    A socket's key is (link index, local address), a destination (address, UDP port). Datagrams
    come as :data:`ropeway.core.frame.data.Received`. ``entropy`` returns so many secret random
    bytes. See :class:`ropeway.core.facade.Node`.
    """

    def __init__(
        self,
        settings: SecureSettings,
        now: float,
        random: random_module.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        self.tables: Tables[SecureStrand] = Tables()
        self._log = events.Log(now)
        self._report = LinkReport(now)
        routes = Routes(
            settings.network,
            settings.address,
            settings.routers,
            self.tables,
            settings.forward,
            settings.network6,
        )
        self._routes = routes
        self._sender = Sender(self.tables)
        self.router = Router(settings, self.tables, routes, self._sender.send_over, now)
        self._peers = SecurePeers(
            settings,
            ipv4.pack(settings.address),
            self.tables,
            routes,
            self._log,
            self._report.watch,
            now,
            random,
            entropy,
        )
        self._several = Several(
            ipv4.pack(settings.address), self.tables, routes, self.router, entropy
        )
        self.router.several = self._several
        self._classed: Optional[ClassedSender] = None
        self._set_classes(settings.classes, now)
        self._sender.copy_dscp(settings.copy_dscp)
        self._receiver = Receiver(self.tables, self.router, self._peers, self._several)
        if settings.network6 is not None:
            self._peers.dialogue.features |= TAKES_IPV6
        # These are the parts' own, so that no call is added for each batch.
        self.take_packets = self.router.take_packets
        self.take_partial_packets = self.router.take_partial_packets
        self.flow = self._receiver.flow

    @property
    def watch(self) -> Watch:
        """Whether links carry and peers are reached over them."""
        return self._report.watch

    def take_partial(self) -> None:
        """Have the other hosts leave checksums partial: the device completes them.

        What they send before they know that is complete.
        """
        self._receiver.take_partial()
        self._peers.dialogue.takes_partial = True

    # Packets and frames.

    def outbound(self, packets: Sequence[bytes], now: float, partial: bool = False) -> None:
        """Send packets that were read from the device.

        Those with another host's source address are left out: no peer would take them from here.
        """
        self.router.outbound_own(packets, now, partial)
        tables = self.tables
        if tables.woken or tables.unsettled:
            self._settle(now)

    def inbound(self, received: Iterable[Received], key: SocketKey, now: float) -> None:
        """Take datagrams that arrived at a socket."""
        self._receiver.inbound(received, key, now)
        tables = self.tables
        if tables.woken or tables.unsettled or tables.repeats:
            self._settle(now)

    def _set_classes(self, classes: Sequence[TrafficClass], now: float) -> None:
        """Take the classes of traffic; without any every packet goes over all connections."""
        self._peers.policies.set_classes(classes, now)
        classifier = self.tables.classifier
        if classifier is None:
            self._classed = None
            self.router.send_with(self._sender.send_over)
        else:
            self._classed = ClassedSender(
                self._sender, self.tables, classifier, self.router.prohibit
            )
            self.router.send_with(self._classed.send_over, self._classed.prohibits)

    def _settle(self, now: float) -> None:
        """Do what follows from what both sides have noted in the tables."""
        self._peers.settle(now)
        if self.tables.repeats and self._classed is not None:
            self._classed.repeat(now)
        self.router.send_released(now)

    def packets_in(self, received: Received) -> int:
        """Return how many frames there are in what a socket gave, 1 or more."""
        return packets_in(received)

    def without_packets(self, received: Sequence[Received]) -> Tuple[List[Received], int]:
        """Return the frames that are no data frames, and how many are."""
        return without_packets(received)

    def take_trains(self) -> Dict[Tuple[Hashable, Hashable], List[Train]]:
        """Return what has to be sent: (socket's key, endpoint) -> trains of frames, in order."""
        result = self._sender.take_trains()
        for socket, endpoint, datagram in self._peers.outgoing.take():
            train = Train(len(datagram), 1, [datagram])
            result.setdefault((socket, endpoint), []).append(train)
        return result

    def expire_packets(self) -> None:
        """Drop all packets that wait to be taken: it has become too late for them meanwhile."""
        count = self.router.expire_packets() + self._sender.expire_frames()
        count += self._receiver.reorder.drop()
        self._receiver.repair.drop()
        self.tables.dropped[Drop.EXPIRED] += count

    def set_max_age(self, max_age_s: float) -> None:
        """Have no packet wait for a session or its turn for longer than that, in seconds."""
        self._peers.settling.max_age_s = max_age_s
        self._receiver.reorder.max_age_s = max_age_s

    def send_failed(self, key: SocketKey, reason: str, count: int) -> None:
        """Count datagrams that a socket refused; ``reason`` is the errno's name."""
        self._report.send_failed(self._peers.links.by_index, key[0], reason, count)

    # The control side.

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        self._peers.calls.set_links(links, now)
        self._settle(now)
        self._report.keep(self._peers.links.by_index)

    def expect(self, unusable: Sequence[LinkHealth]) -> None:
        """Take the links that should carry and cannot, for a reason that only the outside knows."""
        self._report.expect(unusable)

    def set_resolved(self, host: str, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take the endpoints that a configured host's names have now, instead of those before.

        No session ends, nor any connection that works. Endpoints that cannot be another host's
        are left out. ValueError, with a sentence, for a host without a key.
        """
        self._peers.members.set_resolved(host, endpoints, now)
        self._settle(now)

    def unreached(self) -> List[str]:
        """Return the hosts without an established connection, by their virtual addresses."""
        strands = self.tables.strands.items()
        return [host for host, strand in strands if strand.best_state != State.ESTABLISHED]

    def unanswered(self, now: float) -> bool:
        """Return whether a host does not answer, perhaps because this one's epoch is too low."""
        return self._peers.sessions.unanswered(now)

    def raise_epoch(self, epoch: int) -> None:
        """Begin handshakes with this epoch from now on, if it is greater; 0 to 2**32 - 1."""
        self._peers.sessions.raise_epoch(epoch)

    @property
    def lease_server(self) -> LeaseServer:
        """Which hosts get their addresses from this one."""
        return self._peers.lease_server

    @property
    def lease_client(self) -> Optional[LeaseClient]:
        """The address that this host gets; None where it has one of its own."""
        client: Optional[LeaseClient] = self._peers.lease_client
        return client

    def load_leases(self, kept: Iterable[Tuple[str, bytes]], now: float) -> None:
        """Begin to give leases, with those that were on disk at the start."""
        self.lease_server.load(kept, now)
        self._settle(now)

    def leases_written(self, changes: Sequence[Change], now: float) -> None:
        """Take note that leases are on disk: their hosts are let in."""
        self.lease_server.written(changes, now)
        self._settle(now)

    def leases(self, now: float) -> List[Dict[str, Any]]:
        """Return the leases that this host has given, ready for JSON."""
        return self.lease_server.listed(self.tables.strands, now)

    def release_lease(self, address: str, now: float) -> None:
        """End a lease; ValueError, with a sentence, if nobody has that address by one."""
        self.lease_server.release(address, now)
        self._settle(now)

    def set_address(self, address: str) -> None:
        """Be another host from now on, by a lease; sessions live on."""
        self.settings = replace(self.settings, address=address)
        self._routes.set_address(address)
        self.router.set_address(address)
        self._several.set_address(ipv4.pack(address))
        self._peers.handshakes.set_host(ipv4.pack(address))

    def reload(self, settings: SecureSettings, now: float) -> None:
        """Take over other peers, keys and endpoints; sessions that are still valid live on.

        Raises ValueError, with a sentence, if anything else differs: that takes a restart. Then
        nothing has changed.
        """
        before = self.settings
        # What a start has for itself is no setting that could differ.
        settings = replace(settings, epoch=before.epoch, reset_keys=before.reset_keys)
        if settings.address == UNASSIGNED and self.lease_client is not None:
            settings = replace(settings, address=before.address)
        same = replace(
            settings,
            private_key=before.private_key,
            routers=before.routers,
            peers=before.peers,
            tenants=before.tenants,
            leases=before.leases,
            classes=before.classes,
            copy_dscp=before.copy_dscp,
            announce=before.announce,
        )
        if same != before:
            names = [name for name in vars(same) if getattr(same, name) != getattr(before, name)]
            raise ValueError(f"{', '.join(names)} cannot change while the agent runs: restart it")
        identity = KeyPair.of(settings.private_key)
        self._peers.set_peers(settings, now)
        self.settings = settings
        self._routes.set_routers(settings.routers)
        self._set_classes(settings.classes, now)
        self._sender.copy_dscp(settings.copy_dscp)
        self._peers.route_exchange.set_settings(settings, now)
        if settings.private_key != before.private_key:
            self._peers.handshakes.set_identity(identity)
            self._peers.sessions.request_everywhere(now)
        self._settle(now)

    def end_sessions(
        self, reason: str, epoch: int, reset_keys: Sequence[bytes], now: float
    ) -> None:
        """End all sessions at once and make new ones: a copy of this machine has their keys.

        ``reason`` is for the log; ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self._several.begin_anew()
        self._peers.sessions.end_all(reason, epoch, reset_keys, now)
        self._settle(now)

    def replace_sessions(self, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """Make new sessions, as there may be a copy of this machine; no packet is lost by it.

        ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self._several.begin_anew()
        self._peers.sessions.replace_all(epoch, reset_keys, now)
        self._settle(now)

    def catch_up(self, now: float) -> None:
        """Give up what has become too old while nothing ran here, before anything is sent."""
        self._peers.sessions.expire_all(now)
        self._settle(now)

    def routes(self) -> Tuple[str, ...]:
        """Return the networks outside the virtual one that others lead to, "192.168.50.0/24".

        The kernel has to send packets for them to the device too.
        """
        return self._peers.route_exchange.outside()

    def callers(self) -> Dict[str, Tuple[Endpoint, ...]]:
        """Return where the hosts are that have called, to be recalled at the next start."""
        return self._peers.calls.callers()

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, each once.

        Hosts are called there, or have called from there.
        """
        return self._peers.calls.called()

    @property
    def wants_lookup(self) -> bool:
        """Whether the node met an address of :meth:`called` whose route was not looked up yet.

        It does not call there before :meth:`set_links` brings the answer. The same is said where
        :meth:`routes` has changed.
        """
        return self._peers.links.wants_lookup or self._peers.route_exchange.news

    def recall(self, callers: Mapping[str, Sequence[Endpoint]], now: float) -> None:
        """Look for hosts where :meth:`callers` of an earlier run says that they were.

        Nothing else is believed of it: whoever answers there has to have the host's key.
        """
        self._peers.calls.recall(callers, now)
        self._settle(now)

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""
        return min(
            self._peers.deadline(),
            self._log.due,
            self._report.watch.due,
            self._receiver.due,
            NOT_DUE if self._classed is None else self._classed.parity.due,
        )

    def tick(self, now: float) -> None:
        """Do what is due: handshakes, greetings, probes, falling back of silent connections."""
        self._peers.tick(now)
        self._report.look(self._peers.links.by_index, self.tables.strands.values(), self._log, now)
        if now >= self._log.due:
            self._log.expire(now)
        if now >= self._receiver.due:
            self._receiver.expire(now)
        if self._classed is not None and now >= self._classed.parity.due:
            self._classed.parity.expire(now)
        self._settle(now)

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link in use."""
        if self.settings.device_mtu is not None:
            return self.settings.device_mtu
        in_use = link_report.in_use(self.tables.strands.values())
        carrying = [
            connection
            for strand in self.tables.strands.values()
            for connection in strand.carrying
            if connection.link in in_use
        ]
        over_ipv6 = {connection.link for connection in carrying if connection.ipv6}
        # A path below the base is its packets' matter: fragments, or ICMP to their senders.
        sizes = [max(connection.mtu, BASE_MTU - _added(connection.ipv6)) for connection in carrying]
        for index, link in self._peers.links.by_index.items():
            if index in in_use and link.up and (link.addresses or link.addresses6):
                sizes.append(link.mtu - _added(index in over_ipv6 or not link.addresses))
        size = min(sizes, default=tuning.DEFAULT_LINK_MTU - _added(False))
        if self._routes.spreads:
            size -= LABEL_SIZE
        if self._peers.policies.parities:
            # A parity frame has to be larger than the packets that it covers.
            size -= PARITY_SIZE
        lease = None if self.lease_client is None else self.lease_client.lease
        if lease is not None and lease.mtu:
            size = min(size, lease.mtu)
        # Below what every IPv6 path carries, Linux would take the device's IPv6 addresses away.
        return max(size, ipv4.MTU_MIN if self.settings.network6 is None else ipv6.MTU_MIN)

    # What can be seen.

    def note(self, event: events.Event, now: float) -> None:
        """Take note of what has happened outside, to be reported as the node's own events are."""
        self._log.report(event, now)

    def take_events(self) -> List[events.Event]:
        """Return what has happened since the last call, oldest first."""
        return self._log.take()

    def silent(self, limit: int) -> List[Tuple[int, str, str]]:
        """Return connections that have a route and hear nothing, over links that are up.

        Each is its link's index, the address it sends from and the far one; ``limit`` at most.
        """
        links = self._peers.links.by_index
        return status.silent(self.tables.strands.values(), links, limit)

    def session_keys(self) -> List[Dict[str, str]]:
        """Return the keys of all sessions that can be read now, for who may read the traffic."""
        return status.session_keys(self.tables.sessions.by_index.values())

    def explain(self, question: Question, now: float) -> Dict[str, Any]:
        """Return where a packet of this host would go, and why, ready for JSON."""
        links, policies = self._peers.links.by_index, self._peers.policies
        address = self.settings.address
        return explain(question, address, self.tables, self._routes, policies, links, now)

    def status(self, now: float) -> Dict[str, Any]:
        """Return everything that there is to see, ready for JSON."""
        links, strands = self._peers.links.by_index, self.tables.strands
        measured = status.of_links(strands.values())
        return {
            "encapsulation": "secure",
            "lease": None if self.lease_client is None else self.lease_client.status(now),
            "leases": self.lease_server.status(),
            **self.router.status(self._receiver.duplicates),
            "port": self.settings.port,
            "public_key": status.key_text(self._peers.handshakes.public_key),
            "copy_dscp": self.settings.copy_dscp,
            "cipher": {"name": CIPHER_NAME, "provider": PROVIDER},
            "classes": self._peers.policies.status(),
            "joint": self._peers.troubles.of_links(links, now),
            "routes": self._peers.route_exchange.status(now),
            "links": [
                {**link, **measured.get(link["index"], status.UNMEASURED)}
                for link in self._report.status(links, strands.values())
            ],
            "peers": [
                {
                    **status.of_strand(strand, links, now),
                    "classes": self._peers.policies.of_strand(strand),
                    "order": self._receiver.reorder.of_strand(strand),
                    "joint": self._peers.troubles.of_strand(strand, now),
                }
                for _, strand in sorted(strands.items(), key=lambda item: ipv4.pack(item[0]))
            ],
        }


def _added(ipv6: bool) -> int:
    """Return the bytes that a frame adds to its packet."""
    return (IPV6_SIZE if ipv6 else IPV4_SIZE) + UDP_SIZE + OVERHEAD
