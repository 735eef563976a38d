"""Packets by classes of traffic: each goes over the connections that carry its class.

This comes between the router and the encapsulation's sender where there are classes.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Iterable, Iterator, Optional, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.data.parity import ParitySender
from ropeway.core.data.send import Sender
from ropeway.core.drops import Drop
from ropeway.core.frame.control import TAKES_PARITY
from ropeway.core.packet import ipv4
from ropeway.core.packet.traffic_class import PLAIN, Classifier
from ropeway.core.session.session import Session
from ropeway.core.strand.class_table import ClassTable, Recent, Sealed, Share
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.tables import Tables

#: Refuses packets of a class that no link may carry: the packets, a time in monotonic seconds, and
#: whether their checksums are partial.
Prohibit = Callable[[Sequence[bytes], float, bool], None]


class ClassedSender:
    """Sends runs over the connections that carry their class."""

    __slots__ = ("_class_of", "_prohibit", "_put", "_seal_lane", "_send", "_tables", "parity")

    def __init__(
        self,
        sender: Sender,
        tables: Tables[SecureStrand],
        classifier: Classifier,
        prohibit: Prohibit,
    ) -> None:
        self._tables = tables
        self._prohibit = prohibit
        self.parity = ParitySender(sender)
        # Looked up once instead of for each packet.
        self._send = sender.send_over
        self._put = sender.put
        self._seal_lane = sender.seal_lane
        self._class_of = classifier.class_of

    def send_over(
        self,
        strand: SecureStrand,
        connections: Iterable[SecureConnection],
        run: Sequence[bytes],
        now: float,
        partial: bool,
        labels: Optional[Sequence[bytes]] = None,
    ) -> None:
        """Send a run over those of the connections that carry its class."""
        if len(run) == 1 and connections is strand.carrying:
            # A lone packet is what somebody waits for.
            table = strand.classes[self._class_of(run[0])]
            if table.direct:
                table.packets += 1
                self._send(strand, table.direct, run, now, partial, labels)
                return
        at = 0
        for number, part in self._parts(run):
            those = None if labels is None else labels[at : at + len(part)]
            at += len(part)
            self._send_part(strand, connections, strand.classes[number], part, now, partial, those)

    def prohibits(self, strand: SecureStrand, packet: bytes) -> bool:
        """Return whether no link may carry a packet of its class to a host now."""
        return not strand.classes[self._class_of(packet)].carrying

    def _send_part(
        self,
        strand: SecureStrand,
        connections: Iterable[SecureConnection],
        table: ClassTable,
        part: Sequence[bytes],
        now: float,
        partial: bool,
        labels: Optional[Sequence[bytes]],
    ) -> None:
        """Send packets of one class, and keep them if other connections may have to repeat them."""
        chosen = table.carrying
        if connections is not strand.carrying:
            chosen = tuple(c for c in connections if c in chosen)
        if not chosen:
            if table.carrying:
                # They are too large for the links that carry the class, and others may not.
                self._tables.dropped[Drop.TOO_BIG] += len(part)
            else:
                self._prohibit(part, now, partial)
            return
        table.packets += len(part)
        session, lane = strand.session, table.lane
        shares: Sequence[Share] = table.shares
        if lane is None or session is None or not _takes(session, table):
            # Out of order, packets that are spread do more harm than good.
            sealed = self._send(
                strand, chosen[:1] if shares else chosen, part, now, partial, labels
            )
        else:
            if partial and not session.takes_partial:
                part, partial = [ipv4.complete(packet) for packet in part], False
            sealed = self._seal_lane(strand, lane, part, now, partial, labels)
            shares = [share for share in shares if share.connection in chosen]
            if sealed is not None and shares:
                self._spread(table, shares, sealed, now)
            elif sealed is not None:
                self._put(chosen, *sealed)
            if sealed is not None and table.parity and session.features & TAKES_PARITY:
                if labels is not None:
                    part = list(map(bytes.__add__, labels, part))
                self.parity.cover(strand, table, sealed, part, now)
            if shares:
                return
        if table.kept and sealed is not None:
            _keep(table, Recent(now, sealed, sum(map(len, sealed.texts))))

    def _spread(
        self, table: ClassTable, shares: Sequence[Share], sealed: Sealed, now: float
    ) -> None:
        """Put each of the packets into the outbox of the connection by which it arrives first."""
        texts, start = sealed.texts, 0
        share = quickest(shares, len(texts[0]), now)
        for at in range(1, len(texts) + 1):
            following = quickest(shares, len(texts[at]), now) if at < len(texts) else None
            if following is share:
                continue
            part = sealed._replace(first=sealed.first + start, texts=texts[start:at])
            self._put((share.connection,), *part)
            if table.kept:
                _keep(table, Recent(now, part, sum(map(len, part.texts)), share.connection))
            if following is not None:
                share, start = following, at

    def repeat(self, now: float) -> None:
        """Send again what may be lost, over the connections that were added."""
        repeats, self._tables.repeats = self._tables.repeats, []
        for table, connections, since, lost in repeats:
            for number, recent in enumerate(table.recent or ()):
                if lost and recent.over not in lost:
                    continue
                if recent.at >= since and recent.at >= now - tuning.RECENT_S:
                    self._put(connections, *recent.sealed)
                    if lost:
                        # That one may fail as well, and not be known to yet.
                        table.recent[number] = recent._replace(at=now, over=connections[0])
                    table.repeated += len(recent.sealed.texts)

    def _parts(self, run: Sequence[bytes]) -> Iterator[Tuple[int, Sequence[bytes]]]:
        """Yield the class of each part of a run, and the part; most runs are of one flow."""
        class_of = self._class_of
        number, start = class_of(run[0]), 0
        known, ports = run[0][:4], run[0][20:24]
        # Behind options, ports are elsewhere.
        plain = known[0] == PLAIN
        for at in range(1, len(run)):
            packet = run[at]
            if packet[20:24] == ports and packet[:4] == known and plain:
                continue
            known, ports = packet[:4], packet[20:24]
            other = class_of(packet)
            if other != number:
                yield number, run[start:at]
                number, start = other, at
        yield number, run[start:] if start else run


def _takes(session: Session, table: ClassTable) -> bool:
    """Return whether the other end takes frames of the lane of a class."""
    if table.unordered and not session.features & TAKES_PARITY:
        return False
    return session.takes_lanes


def quickest(shares: Sequence[Share], size: int, now: float) -> Share:
    """Return by which share a packet of ``size`` bytes arrives first, and give it to that one.

    So the quickest connection is filled first, and another one takes part once the queue of that
    one would take longer than the other's way.
    """
    best, best_free, best_at = shares[0], 0.0, float("inf")
    for share in shares:
        free_at = (share.free_at if share.free_at > now else now) + size / share.rate
        if free_at + share.delay_s < best_at:
            best, best_free, best_at = share, free_at, free_at + share.delay_s
    best.free_at = best_free
    return best


def _keep(table: ClassTable, one: Recent) -> None:
    """Keep what may have to be sent again, and forget what is too old or too much."""
    recent = table.recent
    if recent is None:
        recent = table.recent = deque()
    recent.append(one)
    table.recent_bytes += one.size
    while recent[0].at < one.at - tuning.RECENT_S or table.recent_bytes > tuning.RECENT_BYTES:
        table.recent_bytes -= recent.popleft().size
        if not recent:
            break
