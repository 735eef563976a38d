"""The secure encapsulation's node: the way of its frames.

1. ``inbound``: take a train of frames apart, find the session by bytes 4 to 7;
2. ``_inbound_data``: its replay window, so that a later copy costs no cryptography; open the frame,
   then mark it;
3. ``_opened``: see that the sender may send the packets, ``Node._arrived``;
4. the parts of :class:`ropeway.core.peers.peers.SecurePeers` take all other frames; ``set_links``,
   ``reload`` and ``tick`` go there too.
"""

from __future__ import annotations

import base64
import random as random_module
from collections import Counter
from dataclasses import replace
from typing import Any, Callable, Dict, Hashable, Iterable, List, Mapping, Optional, Sequence, Tuple

from cryptography.exceptions import InvalidTag

from ropeway.core import tuning
from ropeway.core.data.router import Node, peer_links_status
from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, SocketKey, endpoint_text
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    DATA,
    DATA_AD,
    HEADER_SIZE,
    NONCE,
    OVERHEAD,
    PARTIAL,
    PARTIAL_AD,
    Received,
    Train,
    take_apart,
)
from ropeway.core.frame.outer import IPV4_SIZE, IPV6_SIZE, UDP_SIZE
from ropeway.core.link import Link
from ropeway.core.packet import ipv4, runs
from ropeway.core.peers.peers import SecurePeers
from ropeway.core.session.aead import CIPHER_NAME, PROVIDER
from ropeway.core.session.noise import KeyPair
from ropeway.core.session.session import Session
from ropeway.core.settings import SecureSettings
from ropeway.core.strand.path_mtu import BASE_MTU
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import State

_FRAMES = (DATA, PARTIAL, CONTROL)
#: The first bytes of data frames where the device needs whole checksums, and where it does not.
_WHOLE = frozenset((DATA_AD,))
_ALL = frozenset((DATA_AD, PARTIAL_AD))
#: As :func:`ropeway.core.frame.data.take_apart` gives it.
Frame = Tuple[bytes, bytes, int, bytes]


class SecureNode(Node):
    """One host of a virtual network whose frames are sealed, between hosts known by their keys.

    A socket's key is (link index, local address), a destination (address, UDP port). Datagrams
    come as :data:`ropeway.core.frame.data.Received`. ``entropy`` gives so many secret random bytes.
    """

    encapsulation = "secure"

    def __init__(
        self,
        settings: SecureSettings,
        now: float,
        random: random_module.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        super().__init__(settings, now)
        self.settings: SecureSettings = settings
        self._peers = SecurePeers(
            settings,
            self._own,
            self._strands,
            self._routes,
            self._dropped,
            self._log,
            self.watch,
            now,
            random,
            entropy,
        )
        self._kinds = _WHOLE

    def take_partial(self) -> None:
        """Have the other hosts leave checksums partial: the device completes them.

        What they send before they are told is complete.
        """
        self._kinds = _ALL
        self._peers.dialogue.takes_partial = True

    # The way out.

    def outbound(self, packets: Sequence[bytes], now: float, partial: bool = False) -> None:
        """Send packets that were read from the device.

        Those with another host's source address are left out: no peer would take them from here.
        """
        own = self._own
        # A lone packet is what somebody waits for.
        lone = len(packets) == 1 and ipv4.is_whole(packets[0])
        for run in (packets,) if lone else runs.cut(packets, Drop.NOT_IPV4, self._dropped):
            if run[0][12:16] == own:
                # Most packets have a known way; to take it here saves them a call.
                strand = self._routes.next_hops.get(run[0][16:20])
                if strand is not None and strand.send(run, now, self.touched, partial):
                    self.carried += len(run)
                else:
                    self._send(run, None, now, partial)
            else:
                self._dropped[Drop.FOREIGN_SOURCE] += len(run)
        if self._peers.woken or self._peers.settling.unsettled:
            self._settle(now)

    def _settle(self, now: float) -> None:
        self._peers.settle(now)
        settling = self._peers.settling
        if settling.released:
            released, settling.released = settling.released, []
            for packet, origin, _ in released:
                self._send((packet,), origin, now, False)
        if settling.given_up:
            given_up, settling.given_up = settling.given_up, []
            for packet, origin, _ in given_up:
                self._refuse(Drop.UNREACHABLE, ipv4.CODE_HOST, packet, origin, now)

    def _expire_frames(self) -> int:
        packets: Dict[SecureStrand, int] = {}
        for connection in self.touched:
            count = sum(train.count for train in connection.outbox)
            packets[connection.strand] = max(count, packets.get(connection.strand, 0))
            connection.outbox = []
        self.touched.clear()
        return sum(packets.values())

    def set_max_age(self, max_age_s: float) -> None:
        """Have no packet wait for a session for longer than that, in seconds."""
        self._peers.settling.max_age_s = max_age_s

    def take_trains(self) -> Dict[Tuple[Hashable, Hashable], List[Train]]:
        """Give what is to be sent: (socket's key, endpoint) -> trains of frames, in order."""
        result: Dict[Tuple[Hashable, Hashable], List[Train]] = {}
        for connection in self.touched:
            if connection.outbox and connection.source is not None:
                key = ((connection.link, connection.source), connection.endpoint)
                result.setdefault(key, []).extend(connection.outbox)
            connection.outbox = []
        self.touched.clear()
        for socket, endpoint, datagram in self._peers.outgoing.take():
            train = Train(len(datagram), 1, [datagram])
            result.setdefault((socket, endpoint), []).append(train)
        return result

    def send_failed(self, key: SocketKey, reason: str, count: int) -> None:
        """Count datagrams that a socket refused; ``reason`` is the errno's name."""
        if key[0] in self._peers.links:
            self._send_errors.setdefault(key[0], Counter())[reason] += count

    # The way in.

    def inbound(self, received: Iterable[Received], key: SocketKey, now: float) -> None:
        """Take datagrams that arrived at a socket."""
        by_index, kinds = self._peers.handshakes.by_index, self._kinds
        for data, endpoint, size in received:
            frames = take_apart(data, size)
            start = 0
            while start < len(frames):
                head, index, _, _ = frames[start]
                end = start + 1
                while end < len(frames) and frames[end][0] == head and frames[end][1] == index:
                    end += 1
                session = by_index.get(index) if head[:1] in kinds else None
                if session is not None:
                    self._inbound_data(frames[start:end], session, now)
                else:
                    for at in range(start * size, end * size, size):
                        self._inbound_other(data[at : at + size], endpoint, key, now)
                start = end
            # What is too short for a frame, one by one; a datagram may be empty.
            for at in range(start * size, len(data) or 1, size):
                self._inbound_other(data[at : at + size], endpoint, key, now)
        if self._peers.woken or self._peers.settling.unsettled:
            self._settle(now)

    def packets_in(self, received: Received) -> int:
        """Give how many frames there are in what a socket gave, 1 or more."""
        data, _, size = received
        return -(-len(data) // size) if len(data) > size else 1

    def flow(self, received: Received) -> Hashable:
        """Give the session of a frame and whether it is small, or a handshake's type; else None.

        Control frames count as small, or bulk and strangers could make a way look silent.
        Handshakes are those that no mere stranger has made: the others wait with his garbage.
        """
        data, _, size = received
        index = data[4:8]
        handshakes = self._peers.handshakes
        if index in handshakes.by_index:
            if data[:1] in self._kinds:
                return (index, size <= tuning.SMALL_BYTES)
            if data[:1] == CONTROL_AD:
                return (index, True)
        if len(data) <= size:
            return handshakes.credible(data)
        # A handshake comes first, or last as the shorter end of a train that nobody can read yet.
        # To look at all would make reading as dear as handling.
        last = (len(data) - 1) // size * size
        return handshakes.credible(data[:size]) or handshakes.credible(data[last:])

    def without_packets(self, received: Sequence[Received]) -> Tuple[List[Received], int]:
        """Give the frames that are no data frames, and how many are.

        Data frames count for no connection's life, and the control side does not see them.
        """
        left: List[Received] = []
        count = 0
        for data, endpoint, size in received:
            for at in range(0, len(data) or 1, size):
                if data[at : at + 1] in _ALL:
                    count += 1
                else:
                    datagram = data[at : at + size]
                    left.append((datagram, endpoint, len(datagram) or 1))
        return left, count

    def _inbound_data(self, frames: List[Frame], session: Session, now: float) -> None:
        """Take data frames of one kind and way that claim to be of a session.

        Only frames that were opened count as received, and later copies of such: to open a copy
        would cost what the replay window saves.
        """
        head = frames[0][0]
        strand: SecureStrand = self._strands[session.host]
        window, decrypt, nonce = session.window, session.decrypt, NONCE.pack
        check, mark, ad = window.check, window.mark, head[:1]
        packets = []
        duplicates = refused = refused_bytes = 0
        for _, _, counter, text in frames:
            known = check(counter)
            if known == 1:
                duplicates += 1
                continue
            if known:
                self._dropped[Drop.TOO_OLD] += 1
                refused += 1
                refused_bytes += len(text)
                continue
            try:
                packet = decrypt(nonce(counter), text, ad)
            except InvalidTag:
                self._dropped[Drop.FORGED] += 1
                refused += 1
                refused_bytes += len(text)
                continue
            mark(counter)
            packets.append(packet)
        strand.duplicates += duplicates
        self._duplicates += duplicates
        connection = strand.by_way.get(head[1])
        if connection is not None:
            good = len(frames) - refused
            connection.received += good
            # All but the last are of one size.
            connection.received_bytes += (
                good * HEADER_SIZE
                + (len(frames) - 1) * len(frames[0][3])
                + len(frames[-1][3])
                - refused_bytes
            )
            connection.duplicates += duplicates
            connection.first += len(packets)
        if packets:
            self._opened(packets, session, strand, now, ad == PARTIAL_AD)

    def _opened(
        self,
        packets: List[bytes],
        session: Session,
        strand: SecureStrand,
        now: float,
        partial: bool,
    ) -> None:
        """Take what authentic frames of a session held."""
        session.heard_at = strand.heard_at = now
        if not session.confirmed:
            self._peers.sessions.confirm(session, now)
        if now >= strand.idle_at:
            self._peers.woken.append(strand)
        strand.idle_at = now + tuning.ACTIVE_S
        lone = len(packets) == 1 and ipv4.is_whole(packets[0])
        for run in (packets,) if lone else runs.cut(packets, Drop.MALFORMED_INNER, self._dropped):
            if partial and not ipv4.may_be_partial(run[-1]):
                # The last may be the only one that is too short; the others are alike.
                good = run[:-1] if ipv4.may_be_partial(run[0]) else []
                self._dropped[Drop.MALFORMED_INNER] += len(run) - len(good)
                run = good
            if not run:
                continue
            source = run[0][12:16]
            if source == strand.host_bytes or self._may_relay(strand, source):
                self._arrived(run, strand, now, partial)
            else:
                self._dropped[Drop.SPOOFED] += len(run)

    def _may_relay(self, strand: SecureStrand, source: bytes) -> bool:
        """Say whether packets whose source is not their sender's may come from there."""
        relays = strand.host == self.settings.router
        return relays and source != self._own and self._routes.holds(source)

    def _inbound_other(
        self, datagram: bytes, endpoint: Endpoint, key: SocketKey, now: float
    ) -> None:
        """Take what is no data frame of a known session."""
        peers = self._peers
        if not datagram or datagram[0] not in _FRAMES:
            peers.handshaking.take(datagram, key, endpoint, now)
            return
        if len(datagram) < OVERHEAD:
            self._dropped[Drop.MALFORMED] += 1
            return
        session = peers.handshakes.by_index.get(datagram[4:8])
        if session is not None and datagram[0] != CONTROL:
            self._dropped[Drop.MALFORMED] += 1
            return
        if session is not None:
            peers.control_frames.take(session, datagram, key, endpoint, now)
            return
        self._dropped[Drop.UNKNOWN_SESSION] += 1
        for reset in peers.handshakes.resets_for(datagram, now):
            peers.outgoing.put(key, endpoint, reset)

    # The control side.

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        self._peers.calls.set_links(links, now)
        self._settle(now)
        for index in self._send_errors.keys() - self._peers.links.by_index.keys():
            del self._send_errors[index]

    def add_remote(self, host: str, address: str, number: int, now: float) -> None:
        """Make another endpoint of a configured host known; ``number`` is the UDP port.

        Raises ValueError, with a sentence, for a host without a key or an impossible endpoint.
        """
        self._peers.members.add_remote(host, address, number, now)
        self._settle(now)

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a host's endpoints at ``address``, or with None all of them.

        Raises ValueError, with a sentence, if there is no such thing.
        """
        self._peers.members.remove_remote(host, address, now)
        self._settle(now)

    def set_resolved(self, host: str, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take the endpoints that a configured host's names have now, instead of those before.

        No session ends, nor any connection that works. Endpoints that cannot be another host's
        are left out. ValueError, with a sentence, for a host without a key.
        """
        self._peers.members.set_resolved(host, endpoints, now)
        self._settle(now)

    def unreached(self) -> List[str]:
        """Return the hosts without an established connection, by their virtual addresses."""
        return [h for h, s in self._strands.items() if s.best_state != State.ESTABLISHED]

    def unanswered(self, now: float) -> bool:
        """Say whether a host does not answer, perhaps because this one's epoch is too low."""
        return self._peers.sessions.unanswered(now)

    def raise_epoch(self, epoch: int) -> None:
        """Begin handshakes with this epoch from now on, if it is greater; 0 to 2**32 - 1."""
        self._peers.sessions.raise_epoch(epoch)

    def reload(self, settings: SecureSettings, now: float) -> None:
        """Take over other peers, keys and endpoints; sessions that are still valid live on.

        Raises ValueError, with a sentence, if anything else differs: that takes a restart. Then
        nothing has changed.
        """
        before = self.settings
        # What a start has for itself is no setting that could differ.
        settings = replace(settings, epoch=before.epoch, reset_keys=before.reset_keys)
        same = replace(settings, private_key=before.private_key, peers=before.peers)
        if same != before:
            names = [name for name in vars(same) if getattr(same, name) != getattr(before, name)]
            raise ValueError(f"{', '.join(names)} cannot change while the agent runs: restart it")
        identity = KeyPair.of(settings.private_key)
        self._peers.members.set_peers(settings.peers, now)
        self.settings = settings
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
        self._peers.sessions.end_all(reason, epoch, reset_keys, now)
        self._settle(now)

    def replace_sessions(self, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """Make new sessions, as there may be a copy of this machine; no packet is lost by it.

        ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self._peers.sessions.replace_all(epoch, reset_keys, now)
        self._settle(now)

    def catch_up(self, now: float) -> None:
        """Give up what has become too old while nothing ran here, before anything is sent."""
        self._peers.sessions.expire_all(now)
        self._settle(now)

    def callers(self) -> Dict[str, Tuple[Endpoint, ...]]:
        """Give where the hosts are that have called, to be recalled at the next start."""
        return self._peers.calls.callers()

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, each once.

        Hosts are called there, or have called from there.
        """
        return self._peers.calls.called()

    @property
    def wants_lookup(self) -> bool:
        """Whether the node met an address of :meth:`called` whose route was not looked up yet.

        It does not call there before :meth:`set_links` brings the answer.
        """
        return self._peers.links.wants_lookup

    def recall(self, callers: Mapping[str, Sequence[Endpoint]], now: float) -> None:
        """Look for hosts where :meth:`callers` of an earlier run says that they were.

        Nothing else is believed of it: whoever answers there has to have the host's key.
        """
        self._peers.calls.recall(callers, now)
        self._settle(now)

    def deadline(self) -> float:
        """Give the time of the next :meth:`tick`."""
        return min(self._peers.deadline(), self._log.due, self.watch.due)

    def tick(self, now: float) -> None:
        """Do what is due: handshakes, greetings, probes, falling back of silent connections."""
        self._peers.tick(now)
        if now >= self.watch.due:
            self._look_at_links(self._peers.links.by_index, now)
        if now >= self._log.due:
            self._log.expire(now)
        self._settle(now)

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link in use."""
        if self.settings.device_mtu is not None:
            return self.settings.device_mtu
        in_use = self._links_in_use()
        carrying = [
            connection
            for strand in self._strands.values()
            for connection in strand.carrying
            if connection.link in in_use
        ]
        over_ipv6 = {connection.link for connection in carrying if connection.ipv6}
        # A path below the base is its packets' matter: fragments, or ICMP to their senders.
        sizes = [max(connection.mtu, BASE_MTU - _added(connection.ipv6)) for connection in carrying]
        for index, link in self._peers.links.by_index.items():
            if index in in_use and link.up and (link.addresses or link.addresses6):
                sizes.append(link.mtu - _added(index in over_ipv6 or not link.addresses))
        return max(min(sizes, default=tuning.DEFAULT_LINK_MTU - _added(False)), ipv4.MTU_MIN)

    # What can be seen.

    def session_keys(self) -> List[Dict[str, str]]:
        """Give the keys of all sessions that can be read now, for who may read the traffic."""
        return [
            {
                "host": session.host,
                "cipher": CIPHER_NAME,
                "receive_index": session.local_index.hex(),
                "receive_key": session.receive_key.hex(),
                "send_index": session.remote_index.hex(),
                "send_key": session.send_key.hex(),
            }
            for session in self._peers.handshakes.by_index.values()
        ]

    def status(self, now: float) -> Dict[str, Any]:
        """Give everything that there is to see, ready for JSON."""
        status = super().status(now)
        status["port"] = self.settings.port
        status["public_key"] = _key_text(self._peers.handshakes.public_key)
        status["cipher"] = {"name": CIPHER_NAME, "provider": PROVIDER}
        status["links"] = self._links_status(self._peers.links.by_index)
        status["peers"] = [
            self._strand_status(strand, now)
            for _, strand in sorted(self._strands.items(), key=lambda item: ipv4.pack(item[0]))
        ]
        return status

    def _strand_status(self, strand: SecureStrand, now: float) -> Dict[str, Any]:
        session = strand.session
        return {
            "host": strand.host,
            "best_state": int(strand.best_state),
            "links": peer_links_status(strand, self._peers.links.by_index),
            "delivered": strand.delivered,
            "duplicates": strand.duplicates,
            "session": session
            and {
                "age_s": round(now - session.created_at, 3),
                "initiated": session.initiated,
                "rollovers": strand.rollovers,
                "peer_key": _key_text(session.public_key),
                "readable": len(strand.sessions.sessions),
            },
            "handshake": strand.handshake_fault(now),
            "endpoints": [endpoint_text(endpoint) for endpoint in strand.endpoints],
            "announced": [
                {"remote": index, "endpoint": endpoint_text(endpoint)}
                for endpoint, indices in strand.announced.places.items()
                for index in indices
            ],
            "connections": [
                _connection_status(strand, connection, now)
                for connection in strand.connections.values()
            ],
        }


def _added(ipv6: bool) -> int:
    """Give the bytes that a frame adds to its packet."""
    return (IPV6_SIZE if ipv6 else IPV4_SIZE) + UDP_SIZE + OVERHEAD


def _connection_status(
    strand: SecureStrand, connection: SecureConnection, now: float
) -> Dict[str, Any]:
    rtt_ms = connection.rtt_ms
    idle = now >= strand.idle_at
    return {
        "link": connection.link,
        "remote": connection.remote,
        "source": connection.source,
        "address": connection.endpoint[0],
        "port": connection.endpoint[1],
        "origin": _origin(connection),
        "state": int(connection.state),
        "carries": connection in strand.carrying,
        "routed": connection.source is not None,
        "mtu": connection.path_mtu.mtu,
        "mtu_settled": connection.path_mtu.settled,
        "rtt_ms": None if rtt_ms is None else round(rtt_ms, 3),
        "observed": connection.observed and endpoint_text(connection.observed),
        "nat": connection.nat,
        "pause_s": connection.keepalive.pause_s if idle else tuning.PROBE_S,
        "sent": connection.sent,
        "received": connection.received,
        "sent_bytes": connection.sent_bytes,
        "received_bytes": connection.received_bytes,
        "far_received": connection.far_received,
        "loss": None if connection.loss.share is None else round(connection.loss.share, 4),
        "first": connection.first,
        "duplicates": connection.duplicates,
        "heard_s": None if connection.heard_at < 0 else round(now - connection.heard_at, 3),
    }


def _origin(connection: SecureConnection) -> str:
    """Say from where it is known that the other end is there."""
    if any(endpoint in connection.strand.endpoints for endpoint in connection.candidates):
        return "configured"
    return "announced" if connection.calls else "learnt"


def _key_text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
