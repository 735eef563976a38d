"""The way of a packet between the device and the strands, of either encapsulation.

1. ``outbound``, or ``outbound_own`` of a secure network: packets that are alike make a run, which
   looks up its next hop's strand once;
2. ``send``: over all connections that carry, each one's copy is put into its outbox;
3. the encapsulation's sender keeps those until they are taken;
4. the encapsulation's receiver finds strand and packets, and drops duplicates;
5. ``arrived``: the device, or the next hop's strand;
6. ``take_packets`` and ``take_partial_packets``: what has to be written to the device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4, ipv6, runs, version
from ropeway.core.packet.version import V4, V6, Refused, version_of
from ropeway.core.settings import Settings
from ropeway.core.strand.strand import Strand
from ropeway.core.tables import Tables
from ropeway.core.token_bucket import SharedBudget

#: Where packets have their destination.
_TO, _TO6 = V4.destination, V6.destination
#: The limited broadcast address (RFC 919).
_EVERYBODY = bytes((255, 255, 255, 255))

#: Sends a run of packets of one size: the strand, some of its connections, the packets, a time in
#: monotonic seconds, whether the packets' checksums are partial, and in a secure network the labels
#: of the packets if they have some.
SendOver = Callable[..., Any]
#: Says whether no link of a strand may carry a packet.
Prohibits = Callable[[Any, bytes], bool]


class Several(Protocol):
    """Sends packets over several next hops at once."""

    def send(
        self, hops: Sequence[Any], run: Sequence[bytes], now: float, partial: bool
    ) -> Optional[int]:
        """Send a run to several next hops; None where only one of them can have it."""


class Router:
    """Sends packets of the device and of other hosts on, and keeps those for the device.

    Packets may be anything: they are counted and dropped, they never raise.
    """

    __slots__ = (
        "_aside",
        "_delivered",
        "_forwarded",
        "_icmp",
        "_icmp_too_big",
        "_own",
        "_routes",
        "_settings",
        "_tables",
        "carried",
        "forwards",
        "own6",
        "packets",
        "partial_packets",
        "prefix6",
        "prohibits",
        "send_over",
        "several",
    )

    def __init__(
        self,
        settings: Settings,
        tables: Tables[Any],
        routes: Routes,
        send_over: SendOver,
        now: float,
    ) -> None:
        """``send_over`` is the encapsulation's."""
        self._settings = settings
        self._tables = tables
        self._routes = routes
        #: Sends a run over connections of a strand, with labels if there is one more argument.
        self.send_over = send_over
        #: Whether no link of a strand may carry a packet.
        self.prohibits: Prohibits = _nothing
        #: Whether packets between other hosts are passed on.
        self.forwards = settings.forward
        #: Sends over several next hops at once; None where a network has one at most.
        self.several: Optional[Several] = None
        self._own = ipv4.pack(settings.address)
        #: Empty where the network has no IPv6.
        self.own6 = routes.own6
        #: What comes before the four bytes of a host in its IPv6 address; empty as above.
        self.prefix6 = routes.prefix6
        # IPv6 packets of a batch, until those of IPv4 are through; None where there are none.
        self._aside: Optional[List[bytes]] = [] if routes.own6 else None
        #: What waits to be taken, for a glance; see :meth:`take_packets`.
        self.packets: List[bytes] = []
        self.partial_packets: List[bytes] = []
        self._icmp = _icmp_budget(now)
        self._icmp_too_big = _icmp_budget(now)
        #: How many packets were sent for this host, came for it, or were passed on, for a glance.
        self.carried = 0
        self._delivered = 0
        self._forwarded = 0

    def send_with(self, send_over: SendOver, prohibits: Optional[Prohibits] = None) -> None:
        """Have runs sent by another function from now on, which ``prohibits`` some packets."""
        self.send_over = send_over
        self.prohibits = prohibits or _nothing

    def note_forwarded(self, count: int) -> None:
        """Count packets of other hosts that were passed on."""
        self.carried += count
        self._forwarded += count

    def set_address(self, address: str) -> None:
        """Take another address for this host, which the routes have taken already."""
        self._settings = replace(self._settings, address=address)
        self._own = ipv4.pack(address)
        self.own6 = self._routes.own6

    # The way out.

    def outbound(self, packets: Sequence[bytes], now: float, partial: bool = False) -> None:
        """Send packets that were read from the device.

        With ``partial`` the TCP or UDP checksums in them cover only the pseudo-header so far.
        """
        for run in runs.cut(packets, Drop.NOT_IPV4, self._tables.dropped):
            self.send(run, None, now, partial)

    def outbound_own(self, packets: Sequence[bytes], now: float, partial: bool) -> None:
        """Send packets that were read from the device and have this host's source address.

        Those with another one are dropped: no peer would take them from here.
        """
        own, tables = self._own, self._tables
        # A lone packet is what somebody waits for.
        lone = len(packets) == 1 and ipv4.is_whole(packets[0])
        for run in (
            (packets,) if lone else runs.cut(packets, Drop.NOT_IPV4, tables.dropped, self._aside)
        ):
            if run[0][12:16] == own:
                # Most packets have a known next hop; to take it here saves them a call.
                strand = tables.next_hops.get(run[0][16:20])
                if strand is not None and len(run[0]) <= strand.limit:
                    self.send_over(strand, strand.carrying, run, now, partial)
                    self.carried += len(run)
                else:
                    self.send(run, None, now, partial)
            elif self._routes.subnets.is_here(run[0][12:16]):
                self.send(run, None, now, partial)
            else:
                tables.dropped[Drop.FOREIGN_SOURCE] += len(run)
        if self._aside:
            self._outbound_ipv6(now, partial)

    def _outbound_ipv6(self, now: float, partial: bool) -> None:
        """Send the IPv6 packets of a batch."""
        packets, self._aside = self._aside or (), []
        for run in runs.cut_ipv6(packets):
            first = run[0]
            if first[8:24] == self.own6:
                self.send(run, None, now, partial)
            else:
                # The kernel looks for routers and groups from addresses that only the link has.
                group = ipv6.is_multicast(first[24:40])
                reason = Drop.MULTICAST if group else Drop.FOREIGN_SOURCE
                self._tables.dropped[reason] += len(run)

    def send_released(self, now: float) -> None:
        """Send the packets whose session has come, and refuse those whose session did not."""
        tables = self._tables
        released, tables.released = tables.released, []
        for packet, origin, _ in released:
            self.send((packet,), origin, now, False)
        given_up, tables.given_up = tables.given_up, []
        for packet, origin, _ in given_up:
            self._refuse(Drop.UNREACHABLE, Refused.HOST, packet, origin, now)

    def send(
        self, run: Sequence[bytes], origin: Optional[Strand[Any]], now: float, partial: bool
    ) -> None:
        """Send a run that came from ``origin``, None for this host, and count what went out."""
        first = run[0]
        strand = self._tables.next_hops.get(first[_TO if first[0] < version.FIRST_IPV6 else _TO6])
        if strand is not None and strand is not origin and len(first) <= strand.limit:
            self.send_over(strand, strand.carrying, run, now, partial)
            count = len(run)
        else:
            count = self._send_specially(run, origin, now, partial)
        self.carried += count
        if origin is not None:
            self._forwarded += count

    def _send_specially(
        self, run: Sequence[bytes], origin: Optional[Strand[Any]], now: float, partial: bool
    ) -> int:
        """Send a run that has not simply one next hop that it fits; return how many went out."""
        destination = run[0][version_of(run[0]).destination]
        hops = self._routes.hops(destination) if origin is None and self.several else ()
        if len(hops) > 1 and self.several:
            sent = self.several.send(hops, run, now, partial)
            if sent is not None:
                return sent
            if len(run[0]) <= hops[0].limit:
                self.send_over(hops[0], hops[0].carrying, run, now, partial)
                return len(run)
        if partial:
            run = [version.complete(packet) for packet in run]
        return sum(self._dispatch(packet, origin, now) for packet in run)

    def _dispatch(self, packet: bytes, origin: Optional[Strand[Any]], now: float) -> bool:
        """Send a packet whose next hop is not known yet or which does not simply fit.

        ``origin`` is the strand that it came from, None for this host itself. False if the
        packet went nowhere, or not yet.
        """
        of = version_of(packet)
        destination = packet[of.destination]
        cast = self._cast_of(destination)
        if cast is not None:
            self._tables.dropped[cast] += 1
            return False
        strand = self._routes.next_hop(destination)
        if strand is None:
            holds = self._routes.holds(destination)
            why = Refused.HOST if holds else Refused.NETWORK
            return self._refuse(Drop.NO_ROUTE, why, packet, origin, now)
        if strand is origin:
            return self._refuse(Drop.ECHO, Refused.HOST, packet, origin, now)
        if of is V6 and strand.refuses_ipv6:
            return self._refuse(Drop.IPV6, Refused.HOST, packet, origin, now)
        if not self._routes.may_pass(origin, destination):
            return self._refuse(Drop.UNREACHABLE, Refused.HOST, packet, origin, now)
        if not strand.carrying:
            if strand.hold(packet, origin, now):
                return False
            return self._refuse(Drop.UNREACHABLE, Refused.HOST, packet, origin, now)
        if len(packet) <= strand.limit:
            self.send_over(strand, strand.carrying, (packet,), now, False)
            return True
        pieces = of.pieces(packet, strand.limit)
        if pieces is not None:
            self._send_pieces(pieces, strand, now)
            return True
        # Some links may carry it all the same; its sender learns what all of them do.
        fitting = [c for c in strand.carrying if len(packet) <= c.mtu]
        if fitting:
            self.send_over(strand, fitting, (packet,), now, False)
        else:
            self._tables.dropped[Drop.TOO_BIG] += 1
        self.report_error(Refused.TOO_BIG, packet, origin, now, strand.limit)
        return bool(fitting)

    def _send_pieces(self, pieces: Sequence[bytes], strand: Strand[Any], now: float) -> None:
        """Send the fragments of one packet."""
        aside: List[bytes] = []
        for run in runs.cut(pieces, Drop.MALFORMED_INNER, self._tables.dropped, aside):
            self.send_over(strand, strand.carrying, run, now, False)
        for run in runs.cut_ipv6(aside):
            self.send_over(strand, strand.carrying, run, now, False)

    def _refuse(
        self,
        reason: Drop,
        why: Refused,
        packet: bytes,
        origin: Optional[Strand[Any]],
        now: float,
    ) -> bool:
        self._tables.dropped[reason] += 1
        self.report_error(why, packet, origin, now)
        return False

    def prohibit(self, run: Sequence[bytes], now: float, partial: bool) -> None:
        """Drop packets of a class that no link may carry, and tell their senders."""
        source = run[0][version_of(run[0]).source]
        own = source in (self._own, self.own6)
        # No other host sends what has a source to which no way leads back.
        origin = None if own else self._routes.next_hop(source)
        if origin is None and not own:
            self._tables.dropped[Drop.OFF] += len(run)
            return
        for packet in map(version.complete, run) if partial else run:
            self._refuse(Drop.OFF, Refused.PROHIBITED, packet, origin, now)

    def _cast_of(self, address: bytes) -> Optional[Drop]:
        """Return for which reason nothing is carried to ``address``, of 4 or 16 bytes, if so."""
        family = ipv4 if len(address) == len(self._own) else ipv6
        if family.is_multicast(address):
            return Drop.MULTICAST
        if self._is_broadcast(address):
            return Drop.BROADCAST
        return None if family.is_unicast(address) else Drop.NOT_UNICAST

    def _is_broadcast(self, address: bytes) -> bool:
        if address == _EVERYBODY:
            return True
        network = self._routes.network
        return network.prefixlen < 31 and address == network.broadcast_address.packed

    def report_error(
        self,
        why: Refused,
        packet: bytes,
        origin: Optional[Strand[Any]],
        now: float,
        next_hop_mtu: int = 0,
    ) -> None:
        """Tell the sender of a packet why it went no further; ``origin`` brought it."""
        # The kernel takes no packet with one of its own addresses as the source from a device,
        # so what this host's own packets meet is reported in the name of their destination.
        of = version_of(packet)
        target = packet[of.source]
        own = self._own if of is V4 else self.own6
        source = packet[of.destination] if origin is None else own
        error = of.error(why, packet, source, next_hop_mtu)
        limit = self._icmp_too_big if next_hop_mtu else self._icmp
        if error is None or not limit.take(None if origin is None else origin.host, now):
            return
        if origin is None or target == own:
            self.packets.append(error)
            return
        strand = self._routes.next_hop(target)
        if strand is None:
            return
        if len(error) <= strand.limit:
            self.send_over(strand, strand.carrying, (error,), now, False)
        else:
            self._send_pieces(of.pieces(error, strand.limit) or (), strand, now)

    # The way in.

    def arrived(
        self, run: Sequence[bytes], strand: Strand[Any], now: float, partial: bool = False
    ) -> None:
        """Take a run of packets of one version, first copies, that ``strand`` brought."""
        count = len(run)
        packet = run[0]
        # To ask for the version would be a call for each packet that comes alone.
        of, own = (V4, self._own) if packet[0] < version.FIRST_IPV6 else (V6, self.own6)
        destination = packet[of.destination]
        if destination == own or self._routes.subnets.is_here(destination):
            strand.delivered += count
            self._delivered += count
            self.carried += count
            waiting = self.partial_packets
            if partial:
                waiting.extend(run)
                return
            if waiting:
                self._complete_kin(packet)
            self.packets.extend(run)
        elif not self._settings.forward:
            self._tables.dropped[Drop.NOT_FORWARDING] += count
        elif packet[of.hops] <= 1:
            self._expired(run, strand, now, partial)
        else:
            run = [of.decreased(packet) for packet in run]
            self.send(run, strand, now, partial)

    def _complete_kin(self, packet: bytes) -> None:
        """Complete what waits if a whole packet may be of the same flow: it came before that."""
        waiting, protocol = self.partial_packets, 9 if packet[0] < version.FIRST_IPV6 else 6
        source = version_of(packet).source
        # Its sender no longer sends partial ones.
        if any(
            one[protocol] == packet[protocol] and one[source] == packet[source] for one in waiting
        ):
            self.packets.extend(map(version.complete, waiting))
            waiting.clear()

    def _expired(
        self, run: Sequence[bytes], strand: Strand[Any], now: float, partial: bool
    ) -> None:
        """Drop packets that have passed as many routers as they may, and tell their senders."""
        self._tables.dropped[Drop.TTL] += len(run)
        for packet in map(version.complete, run) if partial else run:
            self.report_error(Refused.HOPS, packet, strand, now)

    def may_relay(self, strand: Strand[Any], source: bytes) -> bool:
        """Return whether packets whose source is not their sender's may come from there."""
        routes = self._routes
        if routes.subnets.may_send(strand.host, source):
            return True
        if strand.host not in routes.routers or source in (self._own, self.own6):
            return False
        return routes.holds(source) or (
            routes.is_learnt(source) and not routes.subnets.is_here(source)
        )

    def take_packets(self) -> List[bytes]:
        """Return the packets to write to the device, in order."""
        packets, self.packets = self.packets, []
        return packets

    def take_partial_packets(self) -> List[bytes]:
        """Return those whose TCP or UDP checksum is yet to be completed, in order."""
        packets, self.partial_packets = self.partial_packets, []
        return packets

    def expire_packets(self) -> int:
        """Drop all packets that wait to be taken; return how many that were."""
        count = len(self.packets) + len(self.partial_packets)
        self.packets.clear()
        self.partial_packets.clear()
        return count

    def status(self, duplicates: int) -> Dict[str, Any]:
        """Return what this host is in its network and what became of packets, ready for JSON.

        ``duplicates`` is how many later copies were received.
        """
        settings, dropped = self._settings, self._tables.dropped
        return {
            "address": settings.address,
            "network": settings.network,
            "address6": ipv6.text(self.own6) if self.own6 else None,
            "network6": settings.network6,
            "router": next(iter(self._routes.routers), None),
            "routers": self._routes.status(),
            "forward": settings.forward,
            "counters": {
                "delivered": self._delivered,
                "forwarded": self._forwarded,
                "duplicates": duplicates,
                "dropped": {reason.value: dropped[reason] for reason in Drop},
            },
        }


def _icmp_budget(now: float) -> SharedBudget:
    return SharedBudget(
        tuning.ICMP_PER_S,
        tuning.ICMP_BURST,
        tuning.ICMP_STRAND_PER_S,
        tuning.ICMP_STRAND_BURST,
        now,
    )


def _nothing(_strand: Any, _packet: bytes) -> bool:
    """Say that every packet may be carried."""
    return False
