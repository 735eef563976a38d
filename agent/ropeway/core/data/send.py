"""The last step out of a secure node: a run is sealed once, and each connection gets a train."""

from __future__ import annotations

import functools
from typing import Dict, Hashable, Iterable, List, Optional, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.frame.data import (
    DATA,
    DATA_AD,
    HEADER,
    HEADER_SIZE,
    LANE,
    LANE_PARTIAL,
    PARTIAL,
    PARTIAL_AD,
    Train,
    labelled,
)
from ropeway.core.packet import ipv6, version
from ropeway.core.strand.class_table import Sealed
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.tables import Tables

#: The bits of the DS field that are the DSCP (RFC 2474, section 3).
DSCP_MASK = 0xFC
#: Makes a train without the steps of its constructor.
_train = functools.partial(tuple.__new__, Train)


class Sender:
    """Seals packets, and keeps the trains of all connections until they are taken."""

    __slots__ = ("_copies_dscp", "_tables")

    def __init__(self, tables: Tables[SecureStrand]) -> None:
        self._tables = tables
        self._copies_dscp = False

    def copy_dscp(self, copied: bool) -> None:
        """Have outer headers carry the DSCP of the packets in them, or 0.

        The uniform model of RFC 2983, section 3.1, on the way in. The ECN bits stay 0: a router on
        the way may set them only if the receiver carries that inwards (RFC 6040, section 4.1).
        """
        self._copies_dscp = copied

    def send_over(
        self,
        strand: SecureStrand,
        connections: Iterable[SecureConnection],
        run: Sequence[bytes],
        now: float,
        partial: bool,
        labels: Optional[Sequence[bytes]] = None,
    ) -> Optional[Sealed]:
        """Put one copy of each packet of a run into the outbox of each connection.

        The copies differ in the three bytes that name connection and sequence. With ``partial``
        the checksums of the packets cover only the pseudo-header so far. Each packet may have a
        label. Returns what was sealed, None without a session.
        """
        session = strand.session
        if session is None:
            return None
        self._note_sent(strand, now)
        kind, ad = DATA, DATA_AD
        if partial and session.takes_partial:
            kind, ad = PARTIAL, PARTIAL_AD
        elif partial:
            run = [version.complete(packet) for packet in run]
        ds_field = _dscp_of(run[0]) if self._copies_dscp else 0
        if labels is not None:
            kind = labelled(kind)
            ad, run = bytes((kind,)), list(map(bytes.__add__, labels, run))
        first, texts = session.seal_run(ad, run)
        sealed = Sealed(kind, session.remote_index, first, texts, ds_field)
        self.put(connections, *sealed)
        return sealed

    def seal_lane(
        self,
        strand: SecureStrand,
        lane: int,
        run: Sequence[bytes],
        now: float,
        partial: bool,
        labels: Optional[Sequence[bytes]] = None,
    ) -> Optional[Sealed]:
        """Seal a run of packets of a lane, 0 to 7; None without a session."""
        session = strand.session
        if session is None:
            return None
        self._note_sent(strand, now)
        kind = LANE + lane
        if partial and session.takes_partial:
            kind = LANE_PARTIAL + lane
        elif partial:
            run = [version.complete(packet) for packet in run]
        ds_field = _dscp_of(run[0]) if self._copies_dscp else 0
        if labels is not None:
            kind, run = labelled(kind), list(map(bytes.__add__, labels, run))
        first, texts = session.seal_lane(bytes((kind,)), lane, run)
        return Sealed(kind, session.remote_index, first, texts, ds_field)

    def _note_sent(self, strand: SecureStrand, now: float) -> None:
        if now >= strand.idle_at:
            self._tables.woken.append(strand)
        strand.idle_at = now + tuning.ACTIVE_S

    def put(
        self,
        connections: Iterable[SecureConnection],
        kind: int,
        index: bytes,
        first: int,
        texts: List[bytes],
        ds_field: int,
    ) -> None:
        """Put a copy of sealed packets into the outbox of each connection; see :class:`Sealed`."""
        count = len(texts)
        size = HEADER_SIZE + len(texts[0])
        total = (count - 1) * size + HEADER_SIZE + len(texts[-1])
        pack, touched = HEADER.pack, self._tables.touched
        for connection in connections:
            outbox = connection.outbox
            if not outbox:
                touched.append(connection)
            sequence, way, counter = connection.sequence, connection.report.way, first
            parts: List[bytes] = []
            for text in texts:
                sequence += 1
                parts += pack(kind, way, sequence & 0xFFFF, index, counter), text
                counter += 1
            connection.sequence = sequence
            traffic = connection.traffic
            traffic.sent += count
            traffic.sent_bytes += total
            outbox.append(_train((size, count, parts, ds_field)))

    def take_trains(self) -> Dict[Tuple[Hashable, Hashable], List[Train]]:
        """Return what has to be sent: (socket's key, endpoint) -> trains of frames, in order."""
        result: Dict[Tuple[Hashable, Hashable], List[Train]] = {}
        touched = self._tables.touched
        for connection in touched:
            if connection.outbox and connection.source is not None:
                key = ((connection.link, connection.source), connection.endpoint)
                result.setdefault(key, []).extend(connection.outbox)
            connection.outbox = []
        touched.clear()
        return result

    def expire_frames(self) -> int:
        """Drop all trains that wait; return how many packets that were."""
        packets: Dict[SecureStrand, int] = {}
        for connection in self._tables.touched:
            count = sum(train.count for train in connection.outbox)
            packets[connection.strand] = max(count, packets.get(connection.strand, 0))
            connection.outbox = []
        self._tables.touched.clear()
        return sum(packets.values())


def _dscp_of(packet: bytes) -> int:
    """Return the DS field of a packet without ECN, as its outer headers have it."""
    return (packet[1] if packet[0] < version.FIRST_IPV6 else ipv6.ds_field(packet)) & DSCP_MASK
