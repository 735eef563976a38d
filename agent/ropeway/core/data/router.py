"""The facade that the runtime drives: bytes and the time go in, everything else comes out.

What is here holds for both encapsulations: the way of a packet between the device and the strands,
which :class:`ropeway.core.classic.node.ClassicNode` and
:class:`ropeway.core.node.SecureNode` complete by the way of frames on links.

1. ``outbound``: packets that are alike make a run, which looks up its next hop's strand once;
2. ``Strand.send``: one copy for each carrying connection;
3. ``take_trains`` or ``take_datagrams`` of the encapsulation: what to send from where to where;
4. ``inbound``: the encapsulation finds strand and packets, and drops duplicates;
5. ``_arrived``: the device or the next hop's strand;
6. ``take_packets`` and ``take_partial_packets``: what to write to the device.
"""

from __future__ import annotations

from collections import Counter
from typing import (
    Any,
    Dict,
    Hashable,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ropeway.core import events, redundancy, tuning
from ropeway.core.drops import Drop
from ropeway.core.link import Link
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4, runs
from ropeway.core.redundancy import LinkHealth, Watch
from ropeway.core.settings import Settings
from ropeway.core.strand.strand import NEVER, Strand
from ropeway.core.token_bucket import SharedBudget

#: The limited broadcast address (RFC 919).
_EVERYBODY = bytes((255, 255, 255, 255))


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
        #: Whether links carry and peers are reached over them.
        self.watch = Watch(now)
        self._unusable: Sequence[LinkHealth] = ()
        #: By link index and errno's name.
        self._send_errors: Dict[int, Counter[str]] = {}
        #: The connections whose outbox holds something, for a glance.
        self.touched: List[Any] = []
        #: What waits to be taken, for a glance; see :meth:`take_packets`.
        self.packets: List[bytes] = []
        self.partial_packets: List[bytes] = []
        self._icmp = _icmp_budget(now)
        self._icmp_too_big = _icmp_budget(now)
        self._dropped: Counter[Drop] = Counter()
        #: How many packets were sent for this host, came for it, or were passed on, for a glance.
        self.carried = 0
        self._delivered = 0
        self._forwarded = 0
        self._duplicates = 0

    # What an encapsulation adds.

    def inbound(self, datagrams: Iterable[Any], key: Any, now: float) -> None:
        """Take what arrived at the socket that ``key`` names."""
        raise NotImplementedError

    def packets_in(self, received: Any) -> int:
        """Give how many packets there are in one thing that a socket gave, 1 or more."""
        raise NotImplementedError

    def flow(self, received: Any) -> Hashable:
        """Give what tells apart who waits, where more arrives than can be handled.

        Each host has flows of its own; what is not known to come from one shares a flow.
        """
        raise NotImplementedError

    def without_packets(self, received: Sequence[Any]) -> Tuple[List[Any], int]:
        """Give what is left of things that sockets gave but too late, and how many packets are not.

        Packets are not worth anything any more; what ends say to each other besides is: a
        connection is not to look dead because this host stood still.
        """
        raise NotImplementedError

    def _expire_frames(self) -> int:
        """Drop frames that wait to be taken and carry a packet; give how many packets."""
        raise NotImplementedError

    def set_max_age(self, max_age_s: float) -> None:
        """Have no packet wait for longer than that where an encapsulation has some wait."""

    def send_failed(self, key: Any, reason: str, count: int) -> None:
        """Count datagrams that a socket refused; ``reason`` is the errno's name."""
        raise NotImplementedError

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        raise NotImplementedError

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, each once.

        Hosts are called there, or have called from there.
        """
        raise NotImplementedError

    @property
    def wants_lookup(self) -> bool:
        """Whether the node met an address of :meth:`called` whose route was not looked up yet."""
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
        """The MTU in bytes that the device should have, so that a packet fits every link in use."""
        raise NotImplementedError

    def _links_in_use(self) -> Set[int]:
        """Give the links over which a peer was heard or, while none was, those that greet one.

        What leads to no peer must not make everybody's packets smaller.
        """
        connections = [c for strand in self._strands.values() for c in strand.connections.values()]
        heard = {c.link for c in connections if c.heard_at > NEVER}
        return heard or {c.link for c in connections if c.source is not None}

    # Whether all links carry.

    def expect(self, unusable: Sequence[LinkHealth]) -> None:
        """Take the links that should carry and cannot, for a reason that only the outside knows.

        They may be links that the node has, or some that it will never see.
        """
        if unusable != self._unusable:
            self._unusable = unusable
            self.watch.look_soon()

    def _health(self, links: Mapping[int, Link]) -> List[LinkHealth]:
        """Give whether each of ``links`` carries, then those that are expected besides."""
        known = {one.index: one for one in self._unusable if one.index in links}
        found = redundancy.of_links(links.values(), self._strands.values())
        besides = [one for one in self._unusable if one.index not in links]
        return [one if one.carries else known.get(one.index, one) for one in found] + besides

    def _look_at_links(self, links: Mapping[int, Link], now: float) -> None:
        """Report what has been lacking for a while, and what is there again."""
        peers = [redundancy.of_peer(strand, links) for strand in self._strands.values()]
        for event in self.watch.look(self._health(links), peers, now):
            self._log.report(event, now)

    def _links_status(self, links: Mapping[int, Link]) -> List[Dict[str, Any]]:
        """Give what there is to see of each of ``links`` that holds for both encapsulations."""
        return [
            {
                "index": link.index,
                "name": link.name,
                "addresses": [*link.addresses, *link.addresses6],
                "mtu": link.mtu,
                "up": link.up,
                "carries": health.carries,
                "fault": health.fault or None,
                "send_errors": dict(self._send_errors.get(link.index, {})),
            }
            for health, link in sorted(
                zip(self._health(links), links.values()), key=lambda both: both[1].index
            )
        ]

    # The way out.

    def outbound(self, packets: Sequence[bytes], now: float, partial: bool = False) -> None:
        """Send packets that were read from the device.

        With ``partial`` the TCP or UDP checksums in them cover only the pseudo-header so far.
        """
        for run in runs.cut(packets, Drop.NOT_IPV4, self._dropped):
            self._send(run, None, now, partial)

    def _send(
        self, run: Sequence[bytes], origin: Optional[Strand[Any]], now: float, partial: bool
    ) -> None:
        """Send a run that came from ``origin``, None for this host, and count what went out."""
        strand = self._routes.next_hops.get(run[0][16:20])
        known = strand is not None and strand is not origin
        if known and strand.send(run, now, self.touched, partial):  # type: ignore[union-attr]
            count = len(run)
        else:
            if partial:
                run = [ipv4.complete(packet) for packet in run]
            count = sum(self._dispatch(packet, origin, now) for packet in run)
        self.carried += count
        if origin is not None:
            self._forwarded += count

    def _dispatch(self, packet: bytes, origin: Optional[Strand[Any]], now: float) -> bool:
        """Send a packet whose next hop is not known yet or which does not simply fit.

        ``origin`` is the strand that it came from, None for this host itself. False if the
        packet went nowhere, or not yet.
        """
        destination = packet[16:20]
        if not ipv4.is_unicast(destination) or self._is_broadcast(destination):
            self._dropped[self._cast_of(destination)] += 1
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
                return False
            return self._refuse(Drop.UNREACHABLE, ipv4.CODE_HOST, packet, origin, now)
        if strand.send((packet,), now, self.touched):
            return True
        if ipv4.may_fragment(packet) and strand.limit >= ipv4.MTU_MIN:
            pieces = ipv4.fragments(packet, strand.limit)
            for run in runs.cut(pieces, Drop.MALFORMED_INNER, self._dropped):
                strand.send(run, now, self.touched)
            return True
        # Some links may carry it all the same; its sender learns what all of them do.
        sent = strand.send_where_it_fits(packet, now, self.touched)
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

    def _cast_of(self, address: bytes) -> Drop:
        """Give for which reason nothing is carried to ``address``."""
        if ipv4.is_multicast(address):
            return Drop.MULTICAST
        return Drop.BROADCAST if self._is_broadcast(address) else Drop.NOT_UNICAST

    def _is_broadcast(self, address: bytes) -> bool:
        if address == _EVERYBODY:
            return True
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
        if error is None or not limit.take(None if origin is None else origin.host, now):
            return
        target = packet[12:16]
        if origin is None or target == self._own:
            self.packets.append(error)
            return
        strand = self._routes.next_hop(target)
        if strand is not None:
            strand.send((error,), now, self.touched)

    # The way in.

    def _arrived(
        self, run: Sequence[bytes], strand: Strand[Any], now: float, partial: bool = False
    ) -> None:
        """Take a run of packets, first copies, that ``strand`` brought."""
        count = len(run)
        packet = run[0]
        if packet[16:20] == self._own:
            strand.delivered += count
            self._delivered += count
            self.carried += count
            waiting = self.partial_packets
            if partial:
                waiting.extend(run)
                return
            if waiting and any(_kin(before, packet) for before in waiting):
                # Perhaps of one flow, which its sender no longer sends partial; these come first.
                self.packets.extend(map(ipv4.complete, waiting))
                waiting.clear()
            self.packets.extend(run)
        elif not self.settings.forward:
            self._dropped[Drop.NOT_FORWARDING] += count
        elif packet[8] <= 1:
            self._dropped[Drop.TTL] += count
            for packet in map(ipv4.complete, run) if partial else run:
                self._report_error(ipv4.ICMP_TIME_EXCEEDED, ipv4.CODE_TRANSIT, packet, strand, now)
        else:
            run = [ipv4.with_ttl_decreased(packet) for packet in run]
            self._send(run, strand, now, partial)

    def take_packets(self) -> List[bytes]:
        """Give the packets to write to the device, in order."""
        packets, self.packets = self.packets, []
        return packets

    def take_partial_packets(self) -> List[bytes]:
        """Give those whose TCP or UDP checksum is yet to be completed, in order."""
        packets, self.partial_packets = self.partial_packets, []
        return packets

    def expire_packets(self) -> None:
        """Drop all packets that wait to be taken: it has become too late for them meanwhile."""
        count = len(self.packets) + len(self.partial_packets) + self._expire_frames()
        self._dropped[Drop.EXPIRED] += count
        self.packets.clear()
        self.partial_packets.clear()

    # What can be seen.

    def note(self, event: events.Event, now: float) -> None:
        """Take note of what has happened outside, to be told as the node's own events are."""
        self._log.report(event, now)

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


def peer_links_status(strand: Strand[Any], links: Mapping[int, Link]) -> Dict[str, Any]:
    """Give over which links, by index, a peer is reached, and over which it is not and why."""
    health = redundancy.of_peer(strand, links)
    return {
        "reached": sorted(health.reached),
        "lacking": [
            {"link": index, "fault": fault} for index, fault in sorted(health.lacking.items())
        ],
    }


def _icmp_budget(now: float) -> SharedBudget:
    return SharedBudget(
        tuning.ICMP_PER_S,
        tuning.ICMP_BURST,
        tuning.ICMP_STRAND_PER_S,
        tuning.ICMP_STRAND_BURST,
        now,
    )


def _kin(one: bytes, other: bytes) -> bool:
    """Say whether two packets to one host may be of one flow."""
    return one[9] == other[9] and one[12:16] == other[12:16]
