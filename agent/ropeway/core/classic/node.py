"""The classic encapsulation's node: the way of its frames.

1. ``inbound``: find the connection by bytes 12 to 31, or get to know it (``_introduce``);
2. ``ClassicPeers.heard``: the three states;
3. ``_accept``: the duplicate window, then ``Router.arrived``.

``set_links``, ``add_remote``, ``remove_remote`` and ``tick`` are the control side, which
:mod:`ropeway.core.classic.peers` keeps.
"""

from __future__ import annotations

import random as random_module
from typing import Any, Dict, Hashable, Iterable, List, Mapping, Optional, Sequence, Tuple

from ropeway.core import events, link_report, tuning
from ropeway.core.classic import frame as classic
from ropeway.core.classic.peers import ClassicPeers
from ropeway.core.classic.send import ClassicSender
from ropeway.core.classic.strand import ClassicConnection, ClassicStrand
from ropeway.core.data.router import Router
from ropeway.core.drops import Drop
from ropeway.core.link import Link
from ropeway.core.link_report import LinkReport
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4
from ropeway.core.redundancy import LinkHealth, Watch
from ropeway.core.settings import Settings
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables


class ClassicNode:
    """One host of a virtual network whose frames are neither authenticated nor encrypted.

    A socket's key is its link's index, a destination an IPv4 address; datagrams go and come from
    the outer IPv4 header on. See :class:`ropeway.core.facade.Node`.
    """

    def __init__(self, settings: Settings, now: float, random: random_module.Random) -> None:
        self.settings = settings
        self.tables: Tables[ClassicStrand] = Tables()
        self._log = events.Log(now)
        self._report = LinkReport(now)
        routes = Routes(settings.network, settings.address, settings.routers, self.tables)
        self._sender = ClassicSender(self.tables)
        self._routes = routes
        self.router = Router(settings, self.tables, routes, self._sender.send_over, now)
        self._peers = ClassicPeers(
            ipv4.pack(settings.address),
            self.tables,
            routes,
            self._log,
            self._report.watch,
            now,
            random,
        )
        self._duplicates = 0
        # These are the parts' own, so that no call is added for each batch.
        self.outbound = self.router.outbound
        self.take_packets = self.router.take_packets
        self.take_partial_packets = self.router.take_partial_packets
        self.take_datagrams = self._sender.take_datagrams

    @property
    def watch(self) -> Watch:
        """Whether links carry and peers are reached over them."""
        return self._report.watch

    def expire_packets(self) -> None:
        """Drop all packets that wait to be taken: it has become too late for them meanwhile."""
        count = self.router.expire_packets() + self._sender.expire_frames()
        self.tables.dropped[Drop.EXPIRED] += count

    def set_max_age(self, max_age_s: float) -> None:
        """Do nothing: no packet waits for a session in a classic network."""

    def send_failed(self, key: int, reason: str, count: int) -> None:
        """Count datagrams that a link refused; ``reason`` is the errno's name."""
        self._report.send_failed(self._peers.links, key, reason, count)

    def inbound(self, datagrams: Iterable[bytes], key: int, now: float) -> None:
        """Take datagrams, from the outer IPv4 header on, that arrived at interface ``key``.

        A classic frame names both its ends, so ``key`` does not decide anything about it.
        """
        peers = self._peers
        by_path = peers.by_path
        answering: Dict[ClassicConnection, None] = {}
        for datagram in datagrams:
            fault = classic.fault(datagram)
            if fault is not None:
                self.tables.dropped[fault] += 1
                continue
            length = datagram[2] << 8 | datagram[3]
            state = classic.state_of(datagram)
            connection = by_path.get(datagram[12:32])
            if connection is None:
                connection = self._introduce(datagram, length, now)
                if connection is None:
                    continue
            connection.traffic.received += 1
            connection.traffic.received_bytes += length
            connection.heard_at = now
            if state:
                connection.confirmed_at = now
            unfinished = state == State.SENDING or connection.state != State.ESTABLISHED
            if unfinished and peers.heard(connection, state, now):
                answering[connection] = None
            if length > classic.OVERHEAD:
                if self._accept(connection.strand, datagram, length, connection.way, now):
                    connection.traffic.first += 1
                else:
                    connection.traffic.duplicates += 1
        peers.settle()
        for connection in answering:
            peers.answer(connection, now)

    def set_routers(self, routers: Sequence[str]) -> None:
        """Take another router from now on, by its virtual address, or none."""
        self._routes.set_routers(routers)

    def packets_in(self, received: bytes) -> int:
        """Return 1: a datagram holds one packet at most."""
        return 1

    def without_packets(self, received: Sequence[bytes]) -> Tuple[List[bytes], int]:
        """Return the frames without the packets in them, and how many there were.

        Each frame says its sender's state, and nothing else does while packets flow.
        """
        count = sum(classic.carries_packet(datagram) for datagram in received)
        return [classic.without_packet(datagram) for datagram in received], count

    def flow(self, received: bytes) -> Hashable:
        """Return the host of a known connection, and whether the frame is small; None for others.

        The end of a packet in fragments counts as large, as the rest of it does: it is not to go
        ahead.
        """
        if received[12:32] in self._peers.by_path:
            small = len(received) <= tuning.SMALL_BYTES
            return (received[20:24], small and not ipv4.is_fragment(received, classic.OVERHEAD))
        return None

    def _introduce(self, datagram: bytes, length: int, now: float) -> Optional[ClassicConnection]:
        """Return the connection of a frame that came over no known path, if it is believed."""
        frame = classic.decode(datagram)
        found = self._peers.introduce(frame, now)
        if isinstance(found, ClassicConnection):
            return found
        if isinstance(found, Drop):
            self.tables.dropped[found] += 1
        elif frame.forward:
            self._accept(found, datagram, length, 0, now)
        return None

    def _accept(
        self, strand: ClassicStrand, datagram: bytes, length: int, way: int, now: float
    ) -> bool:
        """Take the packet out of a frame that came by ``way``; False if it is a duplicate."""
        packet = datagram[classic.OVERHEAD : length]
        packet_id = (datagram[32] | datagram[33] << 8) >> classic.ID_SHIFT
        if not strand.window.is_first(packet_id, packet, way, now):
            strand.duplicates += 1
            self._duplicates += 1
            return False
        if ipv4.is_whole(packet):
            self.router.arrived([packet], strand, now)
        else:
            self.tables.dropped[Drop.MALFORMED_INNER] += 1
        return True

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        self._peers.set_links(links, now)
        self._report.keep(self._peers.links)

    def expect(self, unusable: Sequence[LinkHealth]) -> None:
        """Take the links that should carry and cannot, for a reason that only the outside knows."""
        self._report.expect(unusable)

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, each once.

        Hosts are called there, or have called from there.
        """
        return self._peers.called()

    @property
    def wants_lookup(self) -> bool:
        """Whether the node met an address of :meth:`called` whose route was not looked up yet.

        It does not call there before :meth:`set_links` brings the answer.
        """
        return self._peers.wants_lookup

    def add_remote(self, host: str, address: str, number: int, now: float) -> None:
        """Make an interface of another host known.

        ``number`` is its interface index there; 0 means that it will be learnt.

        Raises ValueError, with a sentence, for an address that cannot be another host's.
        """
        self._peers.add_remote(host, address, number, now)

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a host's interface at ``address``, or with None the whole host.

        Raises ValueError, with a sentence, if there is no such thing. What is still heard is
        learnt again.
        """
        self._peers.remove_remote(host, address, now)

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""
        return min(self._peers.deadline(), self._log.due, self._report.watch.due)

    def tick(self, now: float) -> None:
        """Do what is due: greetings, keepalives, falling back of silent connections."""
        self._peers.tick(now)
        self._report.look(self._peers.links, self.tables.strands.values(), self._log, now)
        if now >= self._log.due:
            self._log.expire(now)

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link in use."""
        if self.settings.device_mtu is not None:
            return self.settings.device_mtu
        in_use = link_report.in_use(self.tables.strands.values())
        mtus = [
            link.mtu
            for index, link in self._peers.links.items()
            if index in in_use and link.up and link.addresses
        ]
        smallest = min(mtus, default=tuning.DEFAULT_LINK_MTU)
        return min(smallest, ipv4.SIZE_MAX) - classic.OVERHEAD

    def note(self, event: events.Event, now: float) -> None:
        """Take note of what has happened outside, to be reported as the node's own events are."""
        self._log.report(event, now)

    def take_events(self) -> List[events.Event]:
        """Return what has happened since the last call, oldest first."""
        return self._log.take()

    def status(self, now: float) -> Dict[str, Any]:
        """Return everything that there is to see, ready for JSON."""
        links, strands = self._peers.links, self.tables.strands
        status = {"encapsulation": "classic", **self.router.status(self._duplicates)}
        status["links"] = self._report.status(links, strands.values())
        status["peers"] = [
            _strand_status(strand, links, now)
            for _, strand in sorted(strands.items(), key=lambda item: ipv4.pack(item[0]))
        ]
        status["counters"]["window_crowded"] = sum(
            strand.window.crowded for strand in strands.values()
        )
        return status


def _strand_status(strand: ClassicStrand, links: Mapping[int, Link], now: float) -> Dict[str, Any]:
    return {
        "host": strand.host,
        "best_state": int(strand.best_state),
        "links": link_report.of_peer(strand, links),
        "delivered": strand.delivered,
        "duplicates": strand.duplicates,
        "remotes": [
            {
                "index": remote.index,
                "address": remote.address,
                "origin": "configured" if strand.has_agreed(remote) else "learnt",
            }
            for remote in strand.remotes.values()
        ],
        "connections": [
            {
                "link": connection.link,
                "remote": connection.remote.index,
                "source": connection.source,
                "address": connection.address or connection.remote.address,
                "state": int(connection.state),
                "carries": connection in strand.carrying,
                "routed": connection.source is not None,
                "sent": connection.traffic.sent,
                "received": connection.traffic.received,
                "sent_bytes": connection.traffic.sent_bytes,
                "received_bytes": connection.traffic.received_bytes,
                "first": connection.traffic.first,
                "duplicates": connection.traffic.duplicates,
                "heard_s": None if connection.heard_at < 0 else round(now - connection.heard_at, 3),
            }
            for connection in strand.connections.values()
        ],
    }
