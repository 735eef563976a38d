"""The last step out of a classic node: each connection gets a frame of its own for each packet."""

from __future__ import annotations

from typing import Dict, Hashable, Iterable, List, Sequence, Tuple

from ropeway.core.classic import frame as classic
from ropeway.core.classic.strand import ClassicConnection, ClassicStrand
from ropeway.core.packet import ipv4
from ropeway.core.tables import Tables


class ClassicSender:
    """Frames packets, and keeps the frames of all connections until they are taken."""

    __slots__ = ("_tables",)

    def __init__(self, tables: Tables[ClassicStrand]) -> None:
        self._tables = tables

    def send_over(
        self,
        strand: ClassicStrand,
        connections: Iterable[ClassicConnection],
        run: Sequence[bytes],
        now: float,
        partial: bool,
    ) -> None:
        """Put one copy of each packet of a run into the outbox of each connection.

        With ``partial`` the checksums of the packets cover only the pseudo-header so far.
        """
        touched = self._tables.touched
        for packet in run:
            whole = ipv4.complete(packet) if partial else packet
            strand.last_id = strand.last_id + 1 & classic.ID_MASK
            extra = strand.last_id << classic.ID_SHIFT | classic.FORWARD
            for connection in connections:
                outbox = connection.outbox
                if not outbox:
                    touched.append(connection)
                outbox.append(connection.frame(len(whole), extra, now) + whole)

    def take_datagrams(self) -> Dict[Tuple[Hashable, Hashable], List[bytes]]:
        """Return what has to be sent: (link index, remote address) -> datagrams, in order."""
        result: Dict[Tuple[Hashable, Hashable], List[bytes]] = {}
        touched = self._tables.touched
        for connection in touched:
            if connection.outbox and connection.address is not None:
                key = (connection.link, connection.address)
                result.setdefault(key, []).extend(connection.outbox)
                connection.outbox = []
        touched.clear()
        return result

    def expire_frames(self) -> int:
        """Drop frames that wait and carry a packet; return how many packets that were."""
        tables = self._tables
        packets: Dict[ClassicStrand, int] = {}
        for connection in tables.touched:
            left = [frame for frame in connection.outbox if len(frame) <= classic.OVERHEAD]
            count = len(connection.outbox) - len(left)
            packets[connection.strand] = max(count, packets.get(connection.strand, 0))
            connection.outbox = left
        tables.touched = [connection for connection in tables.touched if connection.outbox]
        return sum(packets.values())
