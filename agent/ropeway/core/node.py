"""The facade that the runtime drives: bytes and the time go in, everything else comes out.

The way of a packet from the device, in the order of the functions here:

1. ``outbound``: look up the next hop's strand;
2. ``Strand.send``: one id, one copy for each carrying connection;
3. ``take_datagrams``: what to send on which link.

The way of a frame from a link:

1. ``inbound``: find the connection by bytes 12 to 31, or get to know it (``_introduce``);
2. ``_advance``: the three states;
3. ``_accept``: duplicate window, then the device or the next hop's strand;
4. ``take_packets``: what to write to the device.

``set_links``, ``add_remote``, ``remove_remote`` and ``tick`` are the control side.
"""

from __future__ import annotations

import heapq
import ipaddress
import random as random_module
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ropeway.core import classic, events, ipv4, tuning
from ropeway.core.counters import Drop, TokenBucket
from ropeway.core.handshake import TRANSITIONS, Input, State, answers, heard
from ropeway.core.link import Link
from ropeway.core.routes import Routes
from ropeway.core.strand import Connection, Remote, Strand

_INF = float("inf")


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
        self._random = random
        self._links: Dict[int, Link] = {}
        self._owners: Dict[bytes, int] = {}
        self._strands: Dict[str, Strand] = {}
        self._routes = Routes(settings.network, settings.address, settings.router, self._strands)
        self._by_path: Dict[bytes, Connection] = {}
        self._touched: List[Connection] = []
        self._packets: List[bytes] = []
        self._events: List[events.Event] = []
        self._suppressed = 0
        self._heap: List[Tuple[float, int, Connection]] = []
        self._heap_serial = 0
        self._forget_at = now + tuning.FORGET_EVERY_S
        self._learnt = 0
        self._greetings = TokenBucket(tuning.GREETINGS_PER_S, tuning.GREETINGS_BURST, now)
        self._learning = TokenBucket(tuning.LEARN_PER_S, tuning.LEARN_BURST, now)
        self._icmp = TokenBucket(tuning.ICMP_PER_S, tuning.ICMP_BURST, now)
        self._reporting = TokenBucket(tuning.EVENTS_PER_S, tuning.EVENTS_BURST, now)
        self._dropped: Counter[Drop] = Counter()
        self._send_errors: Dict[int, Counter[str]] = {}
        self._delivered = 0
        self._forwarded = 0
        self._duplicates = 0

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

    def _dispatch(self, packet: bytes, origin: Optional[Strand], now: float) -> bool:
        """Send a packet whose next hop is not known yet or which does not simply fit.

        ``origin`` is the strand that it came from, None for this host itself. False if the
        packet went nowhere.
        """
        destination = packet[16:20]
        if not ipv4.is_unicast(destination) or self._is_broadcast(destination):
            self._dropped[Drop.NOT_UNICAST] += 1
            return False
        strand = self._routes.next_hops.get(destination) or self._routes.resolve(destination)
        if strand is None or destination == self._own:
            holds = self._routes.holds(destination)
            code = ipv4.CODE_HOST if holds else ipv4.CODE_NETWORK
            return self._refuse(Drop.NO_ROUTE, code, packet, origin, now)
        if strand is origin:
            return self._refuse(Drop.ECHO, ipv4.CODE_HOST, packet, origin, now)
        if not strand.carrying:
            return self._refuse(Drop.UNREACHABLE, ipv4.CODE_HOST, packet, origin, now)
        if strand.send(packet, now, self._touched):
            return True
        mtu = max(connection.mtu for connection in strand.carrying)
        if not ipv4.may_fragment(packet):
            return self._refuse(Drop.TOO_BIG, ipv4.CODE_TOO_BIG, packet, origin, now, mtu)
        for piece in ipv4.fragments(packet, mtu):
            strand.send(piece, now, self._touched)
        return True

    def _refuse(
        self,
        reason: Drop,
        code: int,
        packet: bytes,
        origin: Optional[Strand],
        now: float,
        next_hop_mtu: int = 0,
    ) -> bool:
        self._dropped[reason] += 1
        self._report_error(ipv4.ICMP_UNREACHABLE, code, packet, origin, now, next_hop_mtu)
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
        if error is None or not self._icmp.take(now):
            return
        target = packet[12:16]
        if origin is None or target == self._own:
            self._packets.append(error)
            return
        strand = self._routes.next_hops.get(target) or self._routes.resolve(target)
        if strand is not None:
            strand.send(error, now, self._touched)

    def take_datagrams(self) -> Dict[Tuple[int, str], List[bytes]]:
        """Give what is to be sent: (link index, remote address) -> datagrams, in order."""
        result: Dict[Tuple[int, str], List[bytes]] = {}
        for connection in self._touched:
            key = (connection.link, connection.address)
            if key in result:
                result[key].extend(connection.outbox)
            else:
                result[key] = connection.outbox
            connection.outbox = []
        self._touched.clear()
        return result

    def send_failed(self, link: int, reason: str, count: int) -> None:
        """Count datagrams that a link refused; ``reason`` is the errno's name."""
        self._send_errors.setdefault(link, Counter())[reason] += count

    # The way in.

    def inbound(self, datagrams: Iterable[bytes], link: int, now: float) -> None:
        """Take datagrams, from the outer IPv4 header on, that arrived at interface ``link``."""
        by_path = self._by_path
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
                connection = self._introduce(datagram, length, link, now)
                if connection is None:
                    continue
            connection.received += 1
            connection.received_bytes += length
            connection.heard_at = now
            if state == State.ESTABLISHED:
                connection.confirmed_at = now
            if state != State.ESTABLISHED or connection.state != State.ESTABLISHED:
                if answers(connection.state, state):
                    answering[connection] = None
                self._advance(connection, self._input(connection, state, now), now)
            if length > classic.OVERHEAD:
                if self._accept(connection.strand, datagram, length, now):
                    connection.first += 1
                else:
                    connection.duplicates += 1
        for connection in answering:
            if connection.source is not None and self._greetings.take(now):
                self._send_empty(connection, now)

    def _introduce(
        self, datagram: bytes, length: int, link: int, now: float
    ) -> Optional[Connection]:
        """Get to know where a frame of no known connection belongs; None if nowhere."""
        frame = classic.decode(datagram)
        if frame is None:
            return None
        if frame.host == self._own or frame.source in self._owners:
            self._dropped[Drop.REFLECTED] += 1
            return None
        if not self._routes.holds(frame.host):
            self._dropped[Drop.FOREIGN_HOST] += 1
            return None
        if not frame.src_index or not ipv4.is_unicast(frame.source):
            self._dropped[Drop.MALFORMED] += 1
            return None
        strand = self._strands.get(ipv4.text(frame.host))
        local = self._owners.get(frame.destination)
        if local is None:
            # An address that this host has just given up may still be in use at the other end.
            if strand is None or frame.src_index not in strand.remotes:
                self._dropped[Drop.WRONG_DESTINATION] += 1
            else:
                self._accept_payload(strand, frame, datagram, length, now)
            return None
        source = ipv4.text(frame.source)
        remote = strand.remotes.get(frame.src_index) if strand else None
        if strand is not None and remote is None:
            known = _with_address(strand, source)
            if (
                known is not None
                and known.index
                and now - _heard_at(strand, known) < tuning.ADDRESS_HOLD_S
            ):
                self._accept_payload(strand, frame, datagram, length, now)
                return None
        if strand is None or remote is None:
            if not self._learning.take(now):
                self._dropped[Drop.LIMIT] += 1
                return None
            strand = strand or self._open_strand(ipv4.text(frame.host))
            remote = self._learn_remote(strand, frame.src_index, source, now)
            if remote is None:
                self._dropped[Drop.LIMIT] += 1
                self._close_if_empty(strand)
                return None
            self._pair(strand, now)
        remote.heard_at = now
        connection = strand.connections[local, remote.key]
        if connection.address != source:
            if now - connection.heard_at < tuning.ADDRESS_HOLD_S:
                self._accept_payload(strand, frame, datagram, length, now)
                return None
            self._move(connection, source, now)
        return connection

    def _accept_payload(
        self, strand: Strand, frame: classic.Frame, datagram: bytes, length: int, now: float
    ) -> None:
        """Take the packet of a frame from which nothing else is believed."""
        if frame.forward:
            self._accept(strand, datagram, length, now)

    def _input(self, connection: Connection, state: int, now: float) -> Input:
        if state == State.SENDING and now - connection.confirmed_at >= tuning.RESTART_S:
            return Input.HEARD_RESTART
        return heard(state)

    def _advance(
        self, connection: Connection, what: Input, now: float, reason: str = "it was silent"
    ) -> None:
        """Apply the table; all that follows from a new state follows from here."""
        before = connection.state
        after = TRANSITIONS[before, what]
        if after == before:
            return
        connection.state = after
        if after == State.ESTABLISHED:
            self._report(
                events.ConnectionEstablished(
                    connection.strand.host,
                    connection.link,
                    connection.remote.index,
                    connection.address,
                ),
                now,
            )
        else:
            if before == State.ESTABLISHED:
                if what == Input.HEARD_RESTART:
                    reason = "the other end started anew"
                self._report(
                    events.ConnectionLost(
                        connection.strand.host, connection.link, connection.remote.index, reason
                    ),
                    now,
                )
            self._greet_soon(connection, now)
        self._schedule(connection, now)
        self._choose(connection.strand)

    def _accept(self, strand: Strand, datagram: bytes, length: int, now: float) -> bool:
        """Take the packet out of a frame; False if it is a duplicate."""
        packet = datagram[classic.OVERHEAD : length]
        packet_id = (datagram[32] | datagram[33] << 8) >> classic.ID_SHIFT
        if not strand.window.is_first(packet_id, packet, now):
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
        if strand is None or strand is origin or not strand.send(packet, now, self._touched):
            self._forwarded += self._dispatch(packet, origin, now)
        else:
            self._forwarded += 1

    def take_packets(self) -> List[bytes]:
        """Give the packets to write to the device, in order."""
        packets = self._packets
        self._packets = []
        return packets

    # Links and remotes.

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        after = {link.index: link for link in links}
        before = self._links
        if after == before:
            return
        self._links = after
        self._owners = {
            ipv4.pack(address.partition("/")[0]): link.index
            for link in links
            for address in link.addresses
        }
        for index, link in after.items():
            if index not in before:
                self._report(events.LinkAppeared(link), now)
            elif _visible(before[index]) != _visible(link):
                self._report(events.LinkChanged(before[index], link), now)
        for index in before.keys() - after.keys():
            self._report(events.LinkVanished(before[index]), now)
            self._send_errors.pop(index, None)
        for strand in self._strands.values():
            self._pair(strand, now)

    def add_remote(self, host: str, address: str, index: int, now: float) -> None:
        """Make an interface of another host known; ``index`` 0 means that it will be learnt.

        Raises ValueError, with a sentence, for an address that cannot be another host's.
        """
        host, address = str(_address(host)), str(_address(address))
        if not self._routes.holds(ipv4.pack(host)):
            raise ValueError(
                f"host {host} is not an address of the network {self.settings.network}"
            )
        if host == self.settings.address:
            raise ValueError(f"host {host} is this host's own address; name another host")
        if not ipv4.is_unicast(ipv4.pack(address)):
            raise ValueError(f"{address} cannot be the address of a network interface")
        if not 0 <= index <= 0xFFFFFFFF:
            raise ValueError(f"interface index {index} is not between 0 and 4294967295")
        strand = self._strands.get(host) or self._open_strand(host)
        known = strand.remotes.get(index) if index else _with_address(strand, address)
        if known is not None:
            if known.address != address:
                raise ValueError(
                    f"interface {index} of {host} is known at {known.address}; remove that first"
                )
            if not known.configured:
                known.configured = True
                self._learnt -= 1
        elif len(strand.remotes) >= tuning.MAX_REMOTES_PER_PEER:
            raise ValueError(
                f"host {host} has {len(strand.remotes)} remote interfaces, which is the limit"
            )
        else:
            remote = Remote(index, address, True, now)
            strand.remotes[remote.key] = remote
        self._pair(strand, now)

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a host's interface at ``address``, or with None the whole host.

        Raises ValueError, with a sentence, if there is no such thing. What is still heard is
        learnt again.
        """
        host = str(_address(host))
        strand = self._strands.get(host)
        if strand is None:
            raise ValueError(f"host {host} is not known; see `ropeway status`")
        if address is not None:
            address = str(_address(address))
        remotes = [r for r in strand.remotes.values() if address in (None, r.address)]
        if not remotes:
            raise ValueError(f"host {host} has no interface at {address}; see `ropeway status`")
        for remote in remotes:
            self._drop_remote(strand, remote, "it was removed", now)
        self._pair(strand, now)
        self._close_if_empty(strand)

    def _open_strand(self, host: str) -> Strand:
        strand = self._strands[host] = Strand(host, self._random.randrange(classic.ID_MODULUS))
        self._routes.forget()
        return strand

    def _close_if_empty(self, strand: Strand) -> None:
        if not strand.remotes:
            self._strands.pop(strand.host, None)
            self._routes.forget()

    def _learn_remote(
        self, strand: Strand, index: int, address: str, now: float
    ) -> Optional[Remote]:
        """Note an interface that a frame came from; None if no more may be known."""
        known = _with_address(strand, address)
        if known is not None and (not known.index or now - known.heard_at >= tuning.ADDRESS_HOLD_S):
            # A configured address meets its interface, or an interface got another index.
            self._renumber(strand, known, index)
            return known
        if len(strand.remotes) >= tuning.MAX_REMOTES_PER_PEER:
            return None
        if self._learnt >= tuning.MAX_LEARNT_REMOTES and not self._evict(now):
            return None
        remote = Remote(index, address, False, now)
        strand.remotes[remote.key] = remote
        self._learnt += 1
        return remote

    def _renumber(self, strand: Strand, remote: Remote, index: int) -> None:
        moved = [c for c in strand.connections.values() if c.remote is remote]
        for connection in moved:
            del strand.connections[connection.link, remote.key]
            self._by_path.pop(connection.receive_path, None)
        del strand.remotes[remote.key]
        remote.index = index
        strand.remotes[remote.key] = remote
        for connection in moved:
            strand.connections[connection.link, remote.key] = connection
            self._aim(connection)

    def _evict(self, now: float) -> bool:
        """Forget the learnt remote that was silent longest and carries nothing."""
        idle = [
            (_heard_at(strand, remote), strand, remote)
            for strand in self._strands.values()
            for remote in strand.remotes.values()
            if not remote.configured and not _is_established(strand, remote)
        ]
        if not idle:
            return False
        _, strand, remote = min(idle, key=lambda entry: entry[0])
        self._drop_remote(strand, remote, "others took its place", now)
        self._choose(strand)
        self._close_if_empty(strand)
        return True

    def _drop_remote(self, strand: Strand, remote: Remote, reason: str, now: float) -> None:
        for connection in [c for c in strand.connections.values() if c.remote is remote]:
            self._end(connection, reason, now)
        del strand.remotes[remote.key]
        if not remote.configured:
            self._learnt -= 1

    def _end(self, connection: Connection, reason: str, now: float) -> None:
        self._advance(connection, Input.GONE, now, reason)
        connection.due = _INF
        self._by_path.pop(connection.receive_path, None)
        del connection.strand.connections[connection.link, connection.remote.key]

    def _pair(self, strand: Strand, now: float) -> None:
        """Bring the connections in line with links and remotes: their Cartesian product."""
        for connection in list(strand.connections.values()):
            if connection.link not in self._links:
                self._end(connection, "the link vanished", now)
        for index in self._links:
            for key, remote in strand.remotes.items():
                if (index, key) in strand.connections:
                    self._reaim(strand.connections[index, key], now)
                    continue
                connection = Connection(strand, index, remote)
                strand.connections[index, key] = connection
                self._aim(connection)
                self._greet_soon(connection, now)
                self._schedule(connection, now)
        self._choose(strand)

    def _reaim(self, connection: Connection, now: float) -> None:
        """Follow a change of the link's addresses, routes, MTU or carrier."""
        link = self._links[connection.link]
        source = link.source_for(connection.address) if link.up else None
        if source == connection.source:
            connection.mtu = link.mtu - classic.OVERHEAD
            return
        self._by_path.pop(connection.receive_path, None)
        self._aim(connection)
        reason = "the link is down or has no route" if source is None else "its address changed"
        self._advance(connection, Input.GONE, now, reason)
        self._greet_soon(connection, now)
        self._schedule(connection, now)

    def _aim(self, connection: Connection) -> None:
        link = self._links[connection.link]
        source = link.source_for(connection.address) if link.up else None
        connection.aim(self._own, source, link.mtu)
        if source is not None and connection.remote.index:
            self._by_path[connection.receive_path] = connection

    def _move(self, connection: Connection, address: str, now: float) -> None:
        remote = connection.remote
        self._report(
            events.RemoteMoved(connection.strand.host, remote.index, connection.address, address),
            now,
        )
        if not remote.configured:
            remote.address = address
        self._aim_at(connection, address)

    def _aim_at(self, connection: Connection, address: str) -> None:
        self._by_path.pop(connection.receive_path, None)
        connection.address = address
        self._aim(connection)
        self._choose(connection.strand)

    def _choose(self, strand: Strand) -> None:
        if strand.choose():
            self._routes.forget()

    # Time.

    def deadline(self) -> float:
        """Give the time of the next :meth:`tick`."""
        return min(self._heap[0][0] if self._heap else _INF, self._forget_at)

    def tick(self, now: float) -> None:
        """Do what is due: greetings, keepalives, falling back of silent connections."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, connection = heapq.heappop(heap)
            if connection.due == due:
                connection.due = _INF
                self._look_at(connection, now)
        if now >= self._forget_at:
            self._forget_at = now + tuning.FORGET_EVERY_S
            self._forget(now)

    def _look_at(self, connection: Connection, now: float) -> None:
        if connection.source is None:
            return
        if connection.state and now >= connection.heard_at + tuning.SILENCE_S:
            self._advance(connection, Input.SILENT, now)
            remote = connection.remote
            if remote.configured and connection.address != remote.address:
                # The agreed address holds again when the one that was learnt falls silent.
                self._aim_at(connection, remote.address)
        if connection.state == State.ESTABLISHED:
            if now >= connection.sent_at + tuning.KEEPALIVE_S:
                self._send_empty(connection, now)
        elif now >= connection.greet_at:
            if self._greetings.take(now):
                self._send_empty(connection, now)
            pause_s = connection.greet_pause_s
            connection.greet_pause_s = min(2 * pause_s, tuning.GREETING_MAX_S)
            spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
            connection.greet_at = now + pause_s * spread
        self._schedule(connection, now)

    def _greet_soon(self, connection: Connection, now: float) -> None:
        connection.greet_pause_s = tuning.GREETING_MIN_S
        connection.greet_at = now

    def _schedule(self, connection: Connection, now: float) -> None:
        """Put the connection into the heap for the moment at which something is due."""
        if connection.source is None:
            connection.due = _INF
            return
        if connection.state == State.ESTABLISHED:
            due = min(
                connection.sent_at + tuning.KEEPALIVE_S, connection.heard_at + tuning.SILENCE_S
            )
        elif connection.state:
            due = min(connection.greet_at, connection.heard_at + tuning.SILENCE_S)
        else:
            due = connection.greet_at
        due = max(due, now)
        if due != connection.due:
            connection.due = due
            self._heap_serial += 1
            heapq.heappush(self._heap, (due, self._heap_serial, connection))

    def _send_empty(self, connection: Connection, now: float) -> None:
        if not connection.outbox:
            self._touched.append(connection)
        connection.empty_frame(now)

    def _forget(self, now: float) -> None:
        """Forget learnt remotes that have been silent for long."""
        for strand in list(self._strands.values()):
            for remote in list(strand.remotes.values()):
                mine = [c for c in strand.connections.values() if c.remote is remote]
                proven = any(c.confirmed_at >= 0 for c in mine)
                patience_s = tuning.FORGET_S if proven else tuning.FORGET_UNPROVEN_S
                if not remote.configured and now - _heard_at(strand, remote) >= patience_s:
                    self._drop_remote(strand, remote, "it was silent for long", now)
                    self._choose(strand)
            self._close_if_empty(strand)

    # What can be seen.

    def _report(self, event: events.Event, now: float) -> None:
        if self._reporting.take(now):
            self._events.append(event)
        else:
            self._suppressed += 1

    def take_events(self) -> List[events.Event]:
        """Give what has happened since the last call, oldest first."""
        taken = self._events
        self._events = []
        if self._suppressed and taken:
            taken.append(events.EventsSuppressed(self._suppressed))
            self._suppressed = 0
        return taken

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link."""
        if self.settings.device_mtu is not None:
            return self.settings.device_mtu
        mtus = [link.mtu for link in self._links.values() if link.up]
        return min(mtus, default=tuning.DEFAULT_LINK_MTU) - classic.OVERHEAD

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
                for link in sorted(self._links.values(), key=lambda link: link.index)
            ],
            "peers": [
                _strand_status(strand, now)
                for _, strand in sorted(self._strands.items(), key=lambda item: ipv4.pack(item[0]))
            ],
            "counters": {
                "delivered": self._delivered,
                "forwarded": self._forwarded,
                "duplicates": self._duplicates,
                "window_crowded": sum(s.window.crowded for s in self._strands.values()),
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
                "origin": "configured" if remote.configured else "learnt",
            }
            for remote in strand.remotes.values()
        ],
        "connections": [
            {
                "link": connection.link,
                "remote": connection.remote.index,
                "source": connection.source,
                "address": connection.address,
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


def _visible(link: Link) -> Tuple[Any, ...]:
    return link.name, link.addresses, link.mtu, link.up


def _with_address(strand: Strand, address: str) -> Optional[Remote]:
    return next((r for r in strand.remotes.values() if r.address == address), None)


def _heard_at(strand: Strand, remote: Remote) -> float:
    heard = [c.heard_at for c in strand.connections.values() if c.remote is remote]
    return max([remote.heard_at, *heard])


def _is_established(strand: Strand, remote: Remote) -> bool:
    return any(
        c.remote is remote and c.state == State.ESTABLISHED for c in strand.connections.values()
    )


def _address(text: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None
