"""The facade that the runtime drives: bytes and the time go in, everything else comes out.

The way of a packet from the device, in the order of the functions here:

1. ``outbound``: look up the next hop's strand;
2. ``Strand.send``: one id, one copy for each carrying connection;
3. ``take_datagrams``: what to send on which link.

The way of a frame from a link:

1. ``inbound``: find the connection by bytes 12 to 31, or get to know it (``_introduce``);
2. ``Peers.heard``: the three states;
3. ``_accept``: duplicate window, then the device or the next hop's strand;
4. ``take_packets``: what to write to the device.

``set_links``, ``add_remote``, ``remove_remote`` and ``tick`` are the control side, which
:mod:`ropeway.core.peers` keeps.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ropeway.core import classic, events, ipv4, tuning
from ropeway.core.counters import Drop, TokenBucket
from ropeway.core.handshake import State
from ropeway.core.link import Link
from ropeway.core.peers import Peers
from ropeway.core.routes import Routes
from ropeway.core.strand import Connection, Strand


@dataclass(frozen=True)
class Settings:
    """What a node is told once; addresses and networks are dotted IPv4 text."""

    #: This host's virtual address, inside ``network``.
    address: str
    #: The virtual network, ``10.0.0.0/24``.
    network: str
    #: Next hop for hosts without an established strand of their own.
    router: Optional[str] = None
    #: Whether packets between other hosts are passed on.
    forward: bool = False
    #: The device's MTU in bytes; None follows the links.
    device_mtu: Optional[int] = None


class Node:
    """One host of the virtual network, without its sockets and its clock.

    Every ``now`` is in seconds of one monotonic clock and never goes back. Bytes from links
    and device may be anything: they are counted and dropped, they never raise.
    """

    def __init__(self, settings: Settings, now: float, random: random_module.Random) -> None:
        self.settings = settings
        self._own = ipv4.pack(settings.address)
        strands: Dict[str, Strand] = {}
        self._routes = Routes(settings.network, settings.address, settings.router, strands)
        self._log = events.Log(now)
        self._peers = Peers(self._own, strands, self._routes, self._log, now, random)
        self._packets: List[bytes] = []
        self._icmp = TokenBucket(tuning.ICMP_PER_S, tuning.ICMP_BURST, now)
        self._icmp_too_big = TokenBucket(tuning.ICMP_PER_S, tuning.ICMP_BURST, now)
        self._dropped: Counter[Drop] = Counter()
        self._send_errors: Dict[int, Counter[str]] = {}
        self._delivered = 0
        self._forwarded = 0
        self._duplicates = 0

    # The way out.

    def outbound(self, packets: Iterable[bytes], now: float) -> None:
        """Send packets that were read from the device."""
        next_hops = self._routes.next_hops
        touched = self._peers.touched
        for packet in packets:
            if not ipv4.is_whole(packet):
                self._dropped[Drop.NOT_IPV4] += 1
                continue
            strand = next_hops.get(packet[16:20])
            if strand is None or not strand.send(packet, now, touched):
                self._dispatch(packet, None, now)

    def _dispatch(self, packet: bytes, origin: Optional[Strand], now: float) -> bool:
        """Send a packet whose next hop is not known yet or which does not simply fit.

        ``origin`` is the strand that it came from, None for this host itself. False if the
        packet went nowhere.
        """
        destination = packet[16:20]
        if not ipv4.is_unicast(destination) or self._is_broadcast(destination):
            self._dropped[Drop.NOT_UNICAST] += 1
            return False
        strand = self._routes.next_hop(destination)
        if strand is None:
            holds = self._routes.holds(destination)
            code = ipv4.CODE_HOST if holds else ipv4.CODE_NETWORK
            return self._refuse(Drop.NO_ROUTE, code, packet, origin, now)
        if strand is origin:
            return self._refuse(Drop.ECHO, ipv4.CODE_HOST, packet, origin, now)
        if not strand.carrying:
            return self._refuse(Drop.UNREACHABLE, ipv4.CODE_HOST, packet, origin, now)
        if strand.send(packet, now, self._peers.touched):
            return True
        if ipv4.may_fragment(packet) and strand.limit >= ipv4.MTU_MIN:
            for piece in ipv4.fragments(packet, strand.limit):
                strand.send(piece, now, self._peers.touched)
            return True
        # Some links may carry it all the same; its sender learns what all of them do.
        sent = strand.send_where_it_fits(packet, now, self._peers.touched)
        if not sent:
            self._dropped[Drop.TOO_BIG] += 1
        unreachable, too_big = ipv4.ICMP_UNREACHABLE, ipv4.CODE_TOO_BIG
        self._report_error(unreachable, too_big, packet, origin, now, strand.limit)
        return sent

    def _refuse(
        self,
        reason: Drop,
        code: int,
        packet: bytes,
        origin: Optional[Strand],
        now: float,
    ) -> bool:
        self._dropped[reason] += 1
        self._report_error(ipv4.ICMP_UNREACHABLE, code, packet, origin, now)
        return False

    def _is_broadcast(self, address: bytes) -> bool:
        network = self._routes.network
        return network.prefixlen < 31 and address == network.broadcast_address.packed

    def _report_error(
        self,
        type_: int,
        code: int,
        packet: bytes,
        origin: Optional[Strand],
        now: float,
        next_hop_mtu: int = 0,
    ) -> None:
        # The kernel takes no packet with one of its own addresses as the source from a device,
        # so what this host's own packets meet is reported in the name of their destination.
        source = packet[16:20] if origin is None else self._own
        error = ipv4.icmp_error(type_, code, packet, source, next_hop_mtu)
        limit = self._icmp_too_big if next_hop_mtu else self._icmp
        if error is None or not limit.take(now):
            return
        target = packet[12:16]
        if origin is None or target == self._own:
            self._packets.append(error)
            return
        strand = self._routes.next_hop(target)
        if strand is not None:
            strand.send(error, now, self._peers.touched)

    def take_datagrams(self) -> Dict[Tuple[int, str], List[bytes]]:
        """Give what is to be sent: (link index, remote address) -> datagrams, in order."""
        result: Dict[Tuple[int, str], List[bytes]] = {}
        for connection in self._peers.touched:
            if connection.outbox and connection.address is not None:
                key = (connection.link, connection.address)
                result.setdefault(key, []).extend(connection.outbox)
                connection.outbox = []
        self._peers.touched.clear()
        return result

    def send_failed(self, link: int, reason: str, count: int) -> None:
        """Count datagrams that a link refused; ``reason`` is the errno's name."""
        if link in self._peers.links:
            self._send_errors.setdefault(link, Counter())[reason] += count

    # The way in.

    def inbound(self, datagrams: Iterable[bytes], link: int, now: float) -> None:
        """Take datagrams, from the outer IPv4 header on, that arrived at interface ``link``.

        A classic frame names both its ends, so ``link`` does not decide anything about it.
        """
        peers = self._peers
        by_path = peers.by_path
        answering: Dict[Connection, None] = {}
        for datagram in datagrams:
            fault = classic.fault(datagram)
            if fault is not None:
                self._dropped[fault] += 1
                continue
            length = datagram[2] << 8 | datagram[3]
            state = datagram[32] & classic.STATE_MASK
            connection = by_path.get(datagram[12:32])
            if connection is None:
                connection = self._introduce(datagram, length, now)
                if connection is None:
                    continue
            connection.received += 1
            connection.received_bytes += length
            connection.heard_at = now
            if state:
                connection.confirmed_at = now
            unfinished = state != State.ESTABLISHED or connection.state != State.ESTABLISHED
            if unfinished and peers.heard(connection, state, now):
                answering[connection] = None
            if length > classic.OVERHEAD:
                if self._accept(connection.strand, datagram, length, connection.way, now):
                    connection.first += 1
                else:
                    connection.duplicates += 1
        peers.settle()
        for connection in answering:
            peers.answer(connection, now)

    def _introduce(self, datagram: bytes, length: int, now: float) -> Optional[Connection]:
        """Give the connection of a frame that came over no known path, if it is believed."""
        frame = classic.decode(datagram)
        found = self._peers.introduce(frame, now)
        if isinstance(found, Connection):
            return found
        if isinstance(found, Drop):
            self._dropped[found] += 1
        elif frame.forward:
            self._accept(found, datagram, length, 0, now)
        return None

    def _accept(self, strand: Strand, datagram: bytes, length: int, way: int, now: float) -> bool:
        """Take the packet out of a frame that came by ``way``; False if it is a duplicate."""
        packet = datagram[classic.OVERHEAD : length]
        packet_id = (datagram[32] | datagram[33] << 8) >> classic.ID_SHIFT
        if not strand.window.is_first(packet_id, packet, way, now):
            strand.duplicates += 1
            self._duplicates += 1
            return False
        if not ipv4.is_whole(packet):
            self._dropped[Drop.MALFORMED_INNER] += 1
        elif packet[16:20] == self._own:
            strand.delivered += 1
            self._delivered += 1
            self._packets.append(packet)
        elif not self.settings.forward:
            self._dropped[Drop.NOT_FORWARDING] += 1
        elif packet[8] <= 1:
            self._dropped[Drop.TTL] += 1
            self._report_error(ipv4.ICMP_TIME_EXCEEDED, ipv4.CODE_TRANSIT, packet, strand, now)
        else:
            self._forward(packet, strand, now)
        return True

    def _forward(self, packet: bytes, origin: Strand, now: float) -> None:
        strand = self._routes.next_hops.get(packet[16:20])
        packet = ipv4.with_ttl_decreased(packet)
        if strand is None or strand is origin or not strand.send(packet, now, self._peers.touched):
            self._forwarded += self._dispatch(packet, origin, now)
        else:
            self._forwarded += 1

    def take_packets(self) -> List[bytes]:
        """Give the packets to write to the device, in order."""
        packets = self._packets
        self._packets = []
        return packets

    # The control side.

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        self._peers.set_links(links, now)
        for index in self._send_errors.keys() - self._peers.links.keys():
            del self._send_errors[index]

    def add_remote(self, host: str, address: str, index: int, now: float) -> None:
        """Make an interface of another host known; ``index`` 0 means that it will be learnt.

        Raises ValueError, with a sentence, for an address that cannot be another host's.
        """
        self._peers.add_remote(host, address, index, now)

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a host's interface at ``address``, or with None the whole host.

        Raises ValueError, with a sentence, if there is no such thing. What is still heard is
        learnt again.
        """
        self._peers.remove_remote(host, address, now)

    def deadline(self) -> float:
        """Give the time of the next :meth:`tick`."""
        return self._peers.deadline()

    def tick(self, now: float) -> None:
        """Do what is due: greetings, keepalives, falling back of silent connections."""
        self._peers.tick(now)

    # What can be seen.

    def take_events(self) -> List[events.Event]:
        """Give what has happened since the last call, oldest first."""
        return self._log.take()

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link."""
        if self.settings.device_mtu is not None:
            return self.settings.device_mtu
        mtus = [link.mtu for link in self._peers.links.values() if link.up and link.addresses]
        smallest = min(mtus, default=tuning.DEFAULT_LINK_MTU)
        return min(smallest, ipv4.SIZE_MAX) - classic.OVERHEAD

    def status(self, now: float) -> Dict[str, Any]:
        """Give everything that there is to see, ready for JSON."""
        return {
            "encapsulation": "classic",
            "address": self.settings.address,
            "network": self.settings.network,
            "router": self.settings.router,
            "forward": self.settings.forward,
            "links": [
                {
                    "index": link.index,
                    "name": link.name,
                    "addresses": list(link.addresses),
                    "mtu": link.mtu,
                    "up": link.up,
                    "send_errors": dict(self._send_errors.get(link.index, {})),
                }
                for link in sorted(self._peers.links.values(), key=lambda link: link.index)
            ],
            "peers": [
                _strand_status(strand, now)
                for _, strand in sorted(
                    self._peers.strands.items(), key=lambda item: ipv4.pack(item[0])
                )
            ],
            "counters": {
                "delivered": self._delivered,
                "forwarded": self._forwarded,
                "duplicates": self._duplicates,
                "window_crowded": sum(s.window.crowded for s in self._peers.strands.values()),
                "dropped": {reason.value: self._dropped[reason] for reason in Drop},
            },
        }


def _strand_status(strand: Strand, now: float) -> Dict[str, Any]:
    return {
        "host": strand.host,
        "best_state": int(strand.best_state),
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
                "sent": connection.sent,
                "received": connection.received,
                "sent_bytes": connection.sent_bytes,
                "received_bytes": connection.received_bytes,
                "first": connection.first,
                "duplicates": connection.duplicates,
                "heard_s": None if connection.heard_at < 0 else round(now - connection.heard_at, 3),
            }
            for connection in strand.connections.values()
        ],
    }
