"""The facade that the runtime drives: bytes and the time go in, everything else comes out.

What is here holds for both encapsulations: the way of a packet between the device and the strands,
which :class:`ropeway.core.classic_node.ClassicNode` and
:class:`ropeway.core.secure_node.SecureNode` complete by the way of frames on links.

1. ``outbound``: look up the next hop's strand;
2. ``Strand.send``: one copy for each carrying connection;
3. ``take_datagrams``: what to send from which socket to where;
4. ``inbound``: the encapsulation finds strand and packet, and drops duplicates;
5. ``_arrived``: the device or the next hop's strand;
6. ``take_packets``: what to write to the device.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Hashable, Iterable, List, Optional, Sequence, Tuple

from ropeway.core import events, ipv4, tuning
from ropeway.core.counters import Drop, TokenBucket
from ropeway.core.link import Link
from ropeway.core.routes import Routes
from ropeway.core.strand import Strand


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

    #: Its name in the configuration and in :meth:`status`.
    encapsulation: str

    def __init__(self, settings: Settings, now: float) -> None:
        self.settings = settings
        self._own = ipv4.pack(settings.address)
        self._strands: Dict[str, Any] = {}
        self._routes = Routes(settings.network, settings.address, settings.router, self._strands)
        self._log = events.Log(now)
        #: The connections whose outbox holds something.
        self._touched: List[Any] = []
        self._packets: List[bytes] = []
        self._icmp = TokenBucket(tuning.ICMP_PER_S, tuning.ICMP_BURST, now)
        self._icmp_too_big = TokenBucket(tuning.ICMP_PER_S, tuning.ICMP_BURST, now)
        self._dropped: Counter[Drop] = Counter()
        self._delivered = 0
        self._forwarded = 0
        self._duplicates = 0

    # What an encapsulation adds.

    def inbound(self, datagrams: Iterable[Any], key: Any, now: float) -> None:
        """Take what arrived at the socket that ``key`` names."""
        raise NotImplementedError

    def take_datagrams(self) -> Dict[Tuple[Hashable, Hashable], List[bytes]]:
        """Give what is to be sent: (socket's key, destination) -> datagrams, in order."""
        raise NotImplementedError

    def send_failed(self, key: Any, reason: str, count: int) -> None:
        """Count datagrams that a socket refused; ``reason`` is the errno's name."""
        raise NotImplementedError

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        raise NotImplementedError

    def add_remote(self, host: str, address: str, number: int, now: float) -> None:
        """Make another way to a host known; ValueError, with a sentence, if it cannot be one."""
        raise NotImplementedError

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a way to a host; ValueError, with a sentence, if there is no such thing."""
        raise NotImplementedError

    def deadline(self) -> float:
        """Give the time of the next :meth:`tick`."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link."""
        raise NotImplementedError

    # The way out.

    def outbound(self, packets: Iterable[bytes], now: float) -> None:
        """Send packets that were read from the device."""
        next_hops = self._routes.next_hops
        touched = self._touched
        for packet in packets:
            if not ipv4.is_whole(packet):
                self._dropped[Drop.NOT_IPV4] += 1
                continue
            strand = next_hops.get(packet[16:20])
            if strand is None or not strand.send(packet, now, touched):
                self._dispatch(packet, None, now)

    def _dispatch(self, packet: bytes, origin: Optional[Strand[Any]], now: float) -> bool:
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
            if strand.hold(packet, origin, now):
                return True
            return self._refuse(Drop.UNREACHABLE, ipv4.CODE_HOST, packet, origin, now)
        if strand.send(packet, now, self._touched):
            return True
        if ipv4.may_fragment(packet) and strand.limit >= ipv4.MTU_MIN:
            for piece in ipv4.fragments(packet, strand.limit):
                strand.send(piece, now, self._touched)
            return True
        # Some links may carry it all the same; its sender learns what all of them do.
        sent = strand.send_where_it_fits(packet, now, self._touched)
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
        origin: Optional[Strand[Any]],
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
        origin: Optional[Strand[Any]],
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
            strand.send(error, now, self._touched)

    # The way in.

    def _arrived(self, packet: bytes, strand: Strand[Any], now: float) -> None:
        """Take a packet, the first copy of it, that ``strand`` brought."""
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

    def _forward(self, packet: bytes, origin: Strand[Any], now: float) -> None:
        strand = self._routes.next_hops.get(packet[16:20])
        packet = ipv4.with_ttl_decreased(packet)
        if strand is None or strand is origin or not strand.send(packet, now, self._touched):
            self._forwarded += self._dispatch(packet, origin, now)
        else:
            self._forwarded += 1

    def take_packets(self) -> List[bytes]:
        """Give the packets to write to the device, in order."""
        packets = self._packets
        self._packets = []
        return packets

    # What can be seen.

    def take_events(self) -> List[events.Event]:
        """Give what has happened since the last call, oldest first."""
        return self._log.take()

    def status(self, now: float) -> Dict[str, Any]:
        """Give everything that there is to see, ready for JSON; an encapsulation adds to it."""
        return {
            "encapsulation": self.encapsulation,
            "address": self.settings.address,
            "network": self.settings.network,
            "router": self.settings.router,
            "forward": self.settings.forward,
            "counters": {
                "delivered": self._delivered,
                "forwarded": self._forwarded,
                "duplicates": self._duplicates,
                "dropped": {reason.value: self._dropped[reason] for reason in Drop},
            },
        }
