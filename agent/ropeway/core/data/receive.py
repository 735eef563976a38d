"""The first steps into a secure node: frames are told apart, opened, and judged.

1. ``inbound``: take a train of frames apart, find the session by bytes 4 to 7;
2. ``_inbound_data``: its replay window, so that a later copy costs no cryptography; open the frame,
   then mark it;
3. ``_deliver``: see that the sender may send the packets, then ``Router.arrived``; before that
   packets of a lane are put in order (``reorder.py``);
4. whatever is no data frame of a known session is handed to the control side.
"""

from __future__ import annotations

import functools
from typing import Hashable, Iterable, List, Optional, Protocol, Sequence, Tuple

from cryptography.exceptions import InvalidTag

from ropeway.core import tuning
from ropeway.core.data.reorder import Part, Reorder
from ropeway.core.data.repair import Repair, Repaired
from ropeway.core.data.router import Router
from ropeway.core.data.several import Several, alongside
from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, SocketKey
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    HEADER_SIZE,
    LANE_NONCE,
    MESSAGE,
    MESSAGE_AD,
    NONCE,
    OVERHEAD,
    PACKET_TYPES,
    PARITY,
    PARITY_AD,
    PARTIAL_TYPES,
    SESSION_TYPES,
    Form,
    Received,
    form_of,
    lane_of,
    take_apart,
)
from ropeway.core.frame.label import LABEL_SIZE
from ropeway.core.frame.parity import decode_parity
from ropeway.core.packet import ipv4, ipv6, runs, version
from ropeway.core.packet.version import version_of
from ropeway.core.session.replay import ReplayWindow
from ropeway.core.session.session import Session
from ropeway.core.strand.arrivals import SAMPLED_ONE_IN
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables

#: The first bytes of data frames where the device needs whole checksums, and where it does not.
_WHOLE = frozenset(bytes((kind,)) for kind in PACKET_TYPES - PARTIAL_TYPES)
_ALL = frozenset(bytes((kind,)) for kind in PACKET_TYPES)
#: And with those from which packets are made.
_CARRYING = _ALL | {PARITY_AD}
#: The first bytes of what control sides say.
_SPOKEN = frozenset((CONTROL_AD, MESSAGE_AD))
#: By type of frame.
_LANE_OF = tuple(map(lane_of, range(256)))
_FORM_OF = tuple(map(form_of, range(256)))
#: As :func:`ropeway.core.frame.data.take_apart` returns it.
Frame = Tuple[bytes, int, bytes, int, bytes]


class ControlSide(Protocol):
    """What becomes of frames that hold no packets, and what the first packet of a session means."""

    def confirm(self, session: Session, now: float) -> None:
        """Take note of the first authentic frame of a session."""

    def credible(self, datagram: bytes) -> Hashable:
        """Return the kind of a handshake that no mere stranger has made; None for others."""

    def handshake(self, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float) -> None:
        """Take a datagram that is no frame of a session."""

    def control(
        self, session: Session, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Take a control frame that names a known session."""

    def message(self, session: Session, datagram: bytes, now: float) -> None:
        """Take a message that names a known session."""

    def unknown_session(
        self, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Take a frame of a session that is not known here."""


class Receiver:
    """Turns what arrives at sockets into packets for the router."""

    __slots__ = (
        "_aside",
        "_control",
        "_kinds",
        "_router",
        "_several",
        "_tables",
        "duplicates",
        "reorder",
        "repair",
    )

    def __init__(
        self,
        tables: Tables[SecureStrand],
        router: Router,
        control: ControlSide,
        several: Several,
    ) -> None:
        self._several = several
        self._tables = tables
        self._router = router
        self._control = control
        self._kinds = _WHOLE
        # IPv6 packets of a batch, until those of IPv4 are through; None where none are taken.
        self._aside: Optional[List[bytes]] = [] if router.own6 else None
        self.reorder = Reorder(tables)
        self.repair = Repair(tables)
        #: Later copies of packets that had been received.
        self.duplicates = 0

    def take_partial(self) -> None:
        """Take packets whose TCP or UDP checksum covers only the pseudo-header."""
        self._kinds = _ALL

    def inbound(self, received: Iterable[Received], key: SocketKey, now: float) -> None:
        """Take datagrams that arrived at a socket."""
        by_index, kinds = self._tables.sessions.by_index, self._kinds
        for data, endpoint, size in received:
            frames = take_apart(data, size)
            start = 0
            while start < len(frames):
                head, _, index, _, _ = frames[start]
                end = start + 1
                while end < len(frames) and frames[end][0] == head and frames[end][2] == index:
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

    def flow(self, received: Received) -> Hashable:
        """Return the session of a frame and whether it is small, or a handshake's type; else None.

        What control sides say counts as small, or bulk and strangers could make a connection look
        silent. Handshakes are those that no mere stranger has made: the others wait with his
        garbage.
        """
        data, _, size = received
        index = data[4:8]
        if index in self._tables.sessions.by_index:
            if data[:1] in self._kinds:
                return (index, size <= tuning.SMALL_BYTES)
            if data[:1] in _SPOKEN:
                return (index, True)
            if data[:1] == PARITY_AD:
                return (index, size <= tuning.SMALL_BYTES)
        credible = self._control.credible
        if len(data) <= size:
            return credible(data)
        # A handshake comes first, or last as the shorter end of a train that nobody can read yet.
        # To look at all would make reading as dear as handling.
        last = (len(data) - 1) // size * size
        return credible(data[:size]) or credible(data[last:])

    def _inbound_data(self, frames: List[Frame], session: Session, now: float) -> None:
        """Take data frames of one kind and way that claim to be of a session.

        Only frames that were opened count as received, and later copies of such: to open a copy
        would cost what the replay window saves.
        """
        head = frames[0][0]
        ad = head[:1]
        strand = self._tables.strands[session.host]
        window, decrypt, nonce = session.window, session.decrypt, NONCE.pack
        lane = _LANE_OF[head[0]]
        if lane >= 0:
            window = session.lane_windows.get(lane) or ReplayWindow()
            nonce = functools.partial(LANE_NONCE.pack, lane + 1)
        check, mark = window.check, window.mark
        packets: List[bytes] = []
        counters: List[int] = []
        duplicates = refused = refused_bytes = 0
        for _, sequence, _, counter, text in frames:  # noqa: B007
            known = check(counter)
            if known == 1:
                duplicates += 1
                continue
            if known:
                self._tables.dropped[Drop.TOO_OLD] += 1
                refused += 1
                refused_bytes += len(text)
                continue
            try:
                packet = decrypt(nonce(counter), text, ad)
            except InvalidTag:
                self._tables.dropped[Drop.FORGED] += 1
                refused += 1
                refused_bytes += len(text)
                continue
            mark(counter)
            counters.append(counter)
            packets.append(packet)
        if duplicates:
            strand.duplicates += duplicates
            self.duplicates += duplicates
        connection = strand.by_way.get(head[1])
        if connection is not None:
            count = len(frames)
            good = count - refused
            traffic = connection.traffic
            traffic.received += good
            # All but the last are of one size.
            size = good * HEADER_SIZE + (count - 1) * len(frames[0][4]) + len(text)
            traffic.received_bytes += size - refused_bytes
            traffic.duplicates += duplicates
            traffic.first += len(packets)
            if sequence == traffic.newest + count:
                traffic.newest = sequence
            elif good:
                connection.arrivals.note(frames[0][1], sequence, count, session.local_index, now)
            # Counters follow each other in a train.
            behind = counter % SAMPLED_ONE_IN
            if behind < count and not refused:
                sampled = (lane, counter - behind)
                is_new = strand.copies.note(sampled, head[1], now)
                if is_new and self._tables.within_ms and len(packets) == count:
                    within_ms = self._within_ms(packets[count - 1 - behind])
                    strand.copies.set_limit(sampled, within_ms)
        if packets:
            self._note_opened(session, strand, now)
        form = _FORM_OF[head[0]]
        if lane < 0:
            if packets:
                self._deliver(packets, strand, now, form)
            return
        if packets:
            session.lane_windows[lane] = window
        if packets or duplicates:
            top = max(counters, default=-1) if refused else frames[-1][3]
            numbered = list(zip(counters, packets))
            self._go_on(
                strand,
                self.reorder.take(strand, lane, session, head[1], top, numbered, form, now),
                now,
            )
            if packets and lane < len(strand.parities) and strand.parities[lane]:
                made = self.repair.note(strand, lane, session, numbered, int(form), now)
                self._take_repaired(strand, lane, session, made, now)

    def _inbound_parity(self, frame: bytes, session: Session, now: float) -> None:
        """Take a parity frame that claims to be of a session, and deliver what it makes whole."""
        body = session.open(frame)
        if isinstance(body, Drop):
            self._tables.dropped[body] += 1
            return
        strand = self._tables.strands[session.host]
        self._note_opened(session, strand, now)
        connection = strand.by_way.get(frame[1])
        if connection is not None:
            traffic, sequence = connection.traffic, int.from_bytes(frame[2:4], "little")
            traffic.received += 1
            traffic.received_bytes += len(frame)
            if sequence == traffic.newest + 1:
                traffic.newest = sequence
            else:
                connection.arrivals.note(sequence, sequence, 1, session.local_index, now)
        parity = decode_parity(body)
        if parity is None:
            self._tables.dropped[Drop.MALFORMED] += 1
            return
        lane = parity.lane
        made = self.repair.take(strand, parity, session, now)
        self._take_repaired(strand, lane, session, made, now)
        end = parity.first + parity.count
        self._go_on(strand, self.reorder.note_parity(strand, lane, session, end), now)

    def _take_repaired(
        self,
        strand: SecureStrand,
        lane: int,
        session: Session,
        made: Iterable[Repaired],
        now: float,
    ) -> None:
        """Take packets that were made from others, as if they had come."""
        for counter, packet, form in made:
            number = self._class_of(packet[LABEL_SIZE:] if form >= Form.LABELLED else packet)
            strand.repaired[number] = strand.repaired.get(number, 0) + 1
            parts = self.reorder.take_repaired(strand, lane, session, counter, packet, form, now)
            self._go_on(strand, parts, now)

    def _within_ms(self, packet: bytes) -> float:
        """Return what a packet may take by the classes of this host, of which there are some."""
        return self._tables.within_ms[self._class_of(packet)]

    def _class_of(self, packet: bytes) -> int:
        """Return the class of a packet on this host; -1 for the rest, and without classes."""
        classifier, limits = self._tables.classifier, self._tables.within_ms
        if classifier is None or not version.is_whole(packet):
            return -1
        number = classifier.class_of(packet)
        return number if number < len(limits) - 1 else -1

    @property
    def due(self) -> float:
        """When :meth:`expire` may have something to do, in monotonic seconds."""
        return min(self.reorder.due, self.repair.due)

    def expire(self, now: float) -> None:
        """Let packets go on that have waited long enough for earlier ones."""
        self.repair.expire(now)
        for strand, parts in self.reorder.expire(now):
            self._go_on(strand, parts, now)

    def _go_on(self, strand: SecureStrand, parts: List[Part], now: float) -> None:
        for form, packets in parts:
            self._deliver(packets, strand, now, form)

    def _note_opened(self, session: Session, strand: SecureStrand, now: float) -> None:
        """Take note that authentic frames of a session held packets."""
        session.heard_at = strand.heard_at = now
        if not session.confirmed:
            self._control.confirm(session, now)
        if now >= strand.idle_at:
            self._tables.woken.append(strand)
        strand.idle_at = now + tuning.ACTIVE_S

    def _deliver(self, packets: List[bytes], strand: SecureStrand, now: float, form: Form) -> None:
        """Take the packets of authentic frames, in the order in which they go on."""
        tables = self._tables
        if form >= Form.LABELLED:
            self._deliver_labelled(packets, strand, now, form)
            return
        partial = form == Form.PARTIAL
        lone = len(packets) == 1 and ipv4.is_whole(packets[0])
        for run in (
            (packets,)
            if lone
            else runs.cut(packets, Drop.MALFORMED_INNER, tables.dropped, self._aside)
        ):
            if partial and not ipv4.may_be_partial(run[-1]):
                # The last may be the only one that is too short; the others are alike.
                good = run[:-1] if ipv4.may_be_partial(run[0]) else []
                tables.dropped[Drop.MALFORMED_INNER] += len(run) - len(good)
                run = good
            if not run:
                continue
            source = run[0][12:16]
            if source == strand.host_bytes or self._router.may_relay(strand, source):
                self._router.arrived(run, strand, now, partial)
            else:
                tables.dropped[Drop.SPOOFED] += len(run)
        if self._aside:
            self._deliver_ipv6(strand, now, partial)

    def _deliver_ipv6(self, strand: SecureStrand, now: float, partial: bool) -> None:
        """Take the IPv6 packets of authentic frames."""
        dropped, router = self._tables.dropped, self._router
        packets, self._aside = self._aside or [], []
        host6 = router.prefix6 + strand.host_bytes
        if partial:
            good = [packet for packet in packets if ipv6.may_be_partial(packet)]
            dropped[Drop.MALFORMED_INNER] += len(packets) - len(good)
            packets = good
        for run in runs.cut_ipv6(packets):
            source = run[0][8:24]
            if source == host6 or router.may_relay(strand, source):
                router.arrived(run, strand, now, partial)
            else:
                dropped[Drop.SPOOFED] += len(run)

    def _deliver_labelled(
        self, texts: List[bytes], strand: SecureStrand, now: float, form: Form
    ) -> None:
        """Take packets with labels. A router may bring those of others, a host only its own."""
        dropped, router = self._tables.dropped, self._router
        packets: List[bytes] = []
        labels: List[bytes] = []
        known = strand.host_bytes
        for text in texts:
            origin = text[:4]
            if origin == known or self._several.may_label(strand, origin):
                known = origin
                packets.append(text[LABEL_SIZE:])
                labels.append(text[:LABEL_SIZE])
            else:
                dropped[Drop.MALFORMED_INNER if len(text) < LABEL_SIZE else Drop.SPOOFED] += 1
        partial = Form.PARTIAL in form
        # Without IPv6 both are the same four bytes.
        hosts = (strand.host_bytes, router.prefix6 + strand.host_bytes)
        for run, those in alongside(packets, labels, self._tables, bool(router.prefix6)):
            of = version_of(run[0])
            family = ipv4 if of is version.V4 else ipv6
            if partial and not all(map(family.may_be_partial, run)):
                dropped[Drop.MALFORMED_INNER] += len(run)
                continue
            source = run[0][of.source]
            if source in hosts or router.may_relay(strand, source):
                duplicates = self._several.arrived(run, those, strand, now, partial)
                strand.duplicates += duplicates
                self.duplicates += duplicates
            else:
                dropped[Drop.SPOOFED] += len(run)

    def _inbound_other(
        self, datagram: bytes, endpoint: Endpoint, key: SocketKey, now: float
    ) -> None:
        """Take what is no data frame of a known session."""
        if not datagram or datagram[0] not in SESSION_TYPES:
            self._control.handshake(datagram, key, endpoint, now)
            return
        if len(datagram) < OVERHEAD:
            self._tables.dropped[Drop.MALFORMED] += 1
            return
        session = self._tables.sessions.by_index.get(datagram[4:8])
        if session is None:
            self._tables.dropped[Drop.UNKNOWN_SESSION] += 1
            self._control.unknown_session(datagram, key, endpoint, now)
        elif datagram[0] == CONTROL:
            self._control.control(session, datagram, key, endpoint, now)
        elif datagram[0] == MESSAGE:
            self._control.message(session, datagram, now)
        elif datagram[0] == PARITY:
            self._inbound_parity(datagram, session, now)
        else:
            self._tables.dropped[Drop.MALFORMED] += 1


def packets_in(received: Received) -> int:
    """Return how many frames there are in what a socket gave, 1 or more."""
    data, _, size = received
    return -(-len(data) // size) if len(data) > size else 1


def without_packets(received: Sequence[Received]) -> Tuple[List[Received], int]:
    """Return the frames that are no data frames, and how many are.

    Data frames count for no connection's life, and the control side does not see them.
    """
    left: List[Received] = []
    count = 0
    for data, endpoint, size in received:
        for at in range(0, len(data) or 1, size):
            if data[at : at + 1] in _CARRYING:
                count += 1
            else:
                datagram = data[at : at + size]
                left.append((datagram, endpoint, len(datagram) or 1))
    return left, count
