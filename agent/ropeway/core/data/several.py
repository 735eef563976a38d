"""Packets that travel through several routers at once, and arrive once.

1. ``send``: a packet of this host gets a label, and goes to the first routers that can be reached;
2. ``arrived``, on a router: it goes on with the same label, over one next hop;
3. ``arrived``, at the destination: the first copy goes on to the device.

Where a router cannot pass a packet on it stays silent: another copy is on its way, and an error
would end a flow that works. Only what concerns every copy is reported to the sender.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.data.origins import Origins
from ropeway.core.data.router import Router
from ropeway.core.drops import Drop
from ropeway.core.frame.label import (
    COUNT_END,
    LABEL_SIZE,
    PIECES_MAX,
    START_END,
    encode_label,
    is_piece,
    is_spare,
    with_piece,
)
from ropeway.core.network.routes import Routes
from ropeway.core.packet import runs, version
from ropeway.core.packet.version import Refused, version_of
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables


class Several:
    """Labels packets, passes them on with their labels, and drops later copies."""

    __slots__ = (
        "_count",
        "_entropy",
        "_origins",
        "_own",
        "_router",
        "_routes",
        "_start",
        "_tables",
    )

    def __init__(
        self,
        own: bytes,
        tables: Tables[SecureStrand],
        routes: Routes,
        router: Router,
        entropy: Callable[[int], bytes],
    ) -> None:
        """``own`` is this host's address, packed."""
        self._own = own
        self._tables = tables
        self._routes = routes
        self._router = router
        self._entropy = entropy
        self._origins = Origins()
        # The first label draws a start.
        self._start, self._count = 0, COUNT_END

    def set_address(self, own: bytes) -> None:
        """Be another host from now on; ``own`` is its address, packed."""
        self._own = own

    def begin_anew(self) -> None:
        """Count from another start: a copy of this machine may use the labels of this one."""
        self._count = COUNT_END

    def send(
        self, hops: Sequence[SecureStrand], run: Sequence[bytes], now: float, partial: bool
    ) -> Optional[int]:
        """Send a run of this host's packets to several next hops; return how many went out.

        None where only one of them can have it: then nothing is done.
        """
        prohibits = self._router.prohibits
        able = [
            hop
            for hop in hops
            if hop.carrying and takes_labels(hop, now) and not prohibits(hop, run[0])
        ]
        if len(able) < 2:
            return None
        limit = min(hop.limit for hop in able) - LABEL_SIZE
        if len(run[0]) <= limit:
            for number, labels in enumerate(self._labels(len(run), len(able))):
                hop = able[number]
                self._router.send_over(hop, hop.carrying, run, now, partial, labels)
            return len(run)
        return sum(
            self._send_large(able, version.complete(packet) if partial else packet, limit, now)
            for packet in run
        )

    def _labels(self, count: int, copies: int) -> Iterator[List[bytes]]:
        """Yield the labels of some packets for each copy, of which all but the first are spare."""
        if self._count + count > COUNT_END:
            self._start = int.from_bytes(self._entropy(3), "little") % START_END
            self._count = 0
        first, own, start = self._count, self._own, self._start
        self._count += count
        for copy in range(copies):
            yield [encode_label(own, start, first + at, copy > 0) for at in range(count)]

    def _send_large(
        self, hops: Sequence[SecureStrand], packet: bytes, limit: int, now: float
    ) -> bool:
        """Send a packet that does not fit all next hops, whose smallest limit is given."""
        pieces = version_of(packet).pieces(packet, limit)
        if pieces is not None:
            for run in in_runs(pieces, self._tables):
                for number, labels in enumerate(self._labels(len(run), len(hops))):
                    self._router.send_over(
                        hops[number], hops[number].carrying, run, now, False, labels
                    )
            return True
        # Some links may carry it all the same; its sender learns what all of them do.
        sent = False
        for number, labels in enumerate(self._labels(1, len(hops))):
            sent |= self._send_fitting(hops[number], packet, labels, now)
        if not sent:
            self._tables.dropped[Drop.TOO_BIG] += 1
        self._report_too_big(packet, None, limit, now)
        return sent

    def _send_fitting(
        self, hop: SecureStrand, packet: bytes, labels: Sequence[bytes], now: float
    ) -> bool:
        fitting = [c for c in hop.carrying if len(packet) + LABEL_SIZE <= c.mtu]
        if fitting:
            self._router.send_over(hop, fitting, (packet,), now, False, labels)
        return bool(fitting)

    def _report_too_big(
        self, packet: bytes, origin: Optional[SecureStrand], limit: int, now: float
    ) -> None:
        self._router.report_error(Refused.TOO_BIG, packet, origin, now, limit)

    # What another host has labelled.

    def may_label(self, strand: SecureStrand, origin: bytes) -> bool:
        """Return whether packets that another host has labelled may come from there."""
        routes = self._routes
        return strand.host in routes.routers and origin != self._own and routes.holds(origin)

    def arrived(
        self,
        run: Sequence[bytes],
        labels: Sequence[bytes],
        strand: SecureStrand,
        now: float,
        partial: bool,
    ) -> int:
        """Take a run of packets, checked, that ``strand`` brought with their labels.

        Returns how many of them had come before.
        """
        packet = run[0]
        of = version_of(packet)
        destination = packet[of.destination]
        own = destination in (self._own, self._routes.own6)
        if own or self._routes.subnets.is_here(destination):
            fresh = self._origins.first_copies(run, labels, strand.host)
            if fresh:
                self._router.arrived(fresh, strand, now, partial)
            return len(run) - len(fresh)
        if not self._router.forwards or packet[of.hops] <= 1:
            # Of several copies that end on their way one is reported.
            kept = [packet for packet, label in zip(run, labels) if not is_spare(label)]
            if kept:
                self._router.arrived(kept, strand, now, partial)
            reason = Drop.TTL if self._router.forwards else Drop.NOT_FORWARDING
            self._tables.dropped[reason] += len(run) - len(kept)
        else:
            run = [of.decreased(packet) for packet in run]
            self._pass_on(run, labels, strand, now, partial)
        return 0

    def _pass_on(
        self,
        run: Sequence[bytes],
        labels: Sequence[bytes],
        origin: SecureStrand,
        now: float,
        partial: bool,
    ) -> None:
        tables, destination = self._tables, run[0][version_of(run[0]).destination]
        hop: Optional[SecureStrand] = tables.next_hops.get(destination)
        if hop is None:
            hops: Sequence[Any] = self._routes.hops(destination)
            hop = hops[0] if hops else None
        takes = None if hop is None else takes_labels(hop, now)
        if takes is False:
            # A copy without its label is one too many, unless it is the only one.
            kept = [packet for packet, label in zip(run, labels) if not is_spare(label)]
            if kept:
                self._router.send(kept, origin, now, partial)
            tables.dropped[Drop.SPARE] += len(run) - len(kept)
            return
        may_pass = self._routes.may_pass(origin, destination)
        if hop is None or not takes or not hop.carrying or hop is origin or not may_pass:
            reason = Drop.ECHO if hop is origin else Drop.UNREACHABLE
            tables.dropped[Drop.NO_ROUTE if hop is None else reason] += len(run)
            return
        limit = hop.limit - LABEL_SIZE
        if len(run[0]) <= limit:
            self._router.send_over(hop, hop.carrying, run, now, partial, labels)
            self._router.note_forwarded(len(run))
            return
        for packet, label in zip(run, labels):
            whole = version.complete(packet) if partial else packet
            self._router.note_forwarded(self._pass_on_large(hop, whole, label, origin, limit, now))

    def _pass_on_large(
        self,
        hop: SecureStrand,
        packet: bytes,
        label: bytes,
        origin: SecureStrand,
        limit: int,
        now: float,
    ) -> int:
        """Pass on a packet that does not simply fit; return how many went on, 0 or 1."""
        pieces = version_of(packet).pieces(packet, limit)
        if pieces is not None:
            if len(pieces) > PIECES_MAX or is_piece(label):
                self._tables.dropped[Drop.TOO_BIG] += 1
                return 0
            labels = [
                with_piece(label, number, number == len(pieces))
                for number in range(1, len(pieces) + 1)
            ]
            for run, those in alongside(pieces, labels, self._tables):
                self._router.send_over(hop, hop.carrying, run, now, False, those)
            return 1
        sent = self._send_fitting(hop, packet, (label,), now)
        if not sent:
            self._tables.dropped[Drop.TOO_BIG] += 1
        self._report_too_big(packet, origin, limit, now)
        return int(sent)


def takes_labels(strand: SecureStrand, now: float) -> Optional[bool]:
    """Return whether a host takes labels; None while it is too early to say."""
    if strand.takes_labels is None and strand.session is not None:
        return False if now - strand.session.created_at >= tuning.FEATURES_SAID_S else None
    return strand.takes_labels


def in_runs(
    packets: Sequence[bytes], tables: Tables[Any], ipv6: bool = True
) -> Iterator[Sequence[bytes]]:
    """Yield packets in runs: first those of IPv4, then those of IPv6, if any are taken."""
    aside: Optional[List[bytes]] = [] if ipv6 else None
    yield from runs.cut(packets, Drop.MALFORMED_INNER, tables.dropped, aside)
    if aside:
        yield from runs.cut_ipv6(aside)


def alongside(
    packets: Sequence[bytes], labels: Sequence[bytes], tables: Tables[Any], ipv6: bool = True
) -> Iterator[Tuple[Sequence[bytes], List[bytes]]]:
    """Yield packets in runs, as :func:`in_runs` does, with their labels."""
    at, was = 0, version.V4
    for run in in_runs(packets, tables, ipv6):
        if version_of(run[0]) is not was:
            at, was = 0, version.V6
        those = []
        for packet in run:
            # What is malformed is left out of the runs.
            while packets[at] is not packet:
                at += 1
            those.append(labels[at])
            at += 1
        yield run, those
