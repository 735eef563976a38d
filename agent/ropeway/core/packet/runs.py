"""Runs: packets that are alike, so that one look-up and one sealing loop does for all."""

from __future__ import annotations

from collections import Counter
from typing import Iterable, Iterator, List, Optional, Sequence

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.packet import ipv4, ipv6


def cut(
    packets: Iterable[bytes],
    reason: Drop,
    dropped: Counter[Drop],
    aside: Optional[List[bytes]] = None,
) -> Iterator[Sequence[bytes]]:
    """Yield the packets in runs that can be handled as one; what is not IPv4 is dropped.

    Whole IPv6 packets are put ``aside`` instead, if there is such a list, for :func:`cut_ipv6`.

    The packets of a run agree in addresses, size, protocol, DS field, time to live, flags and
    offset; only the last may be shorter, and further fragments may differ in flags and offset. A
    run fits into one train. Fragments of one packet stay together, so that its end, if it is small,
    does not go ahead of the rest where they wait: who puts them together gives up those that come
    too far apart.

    What is dropped is counted in ``dropped`` for ``reason``, or as IPv6 if it comes from the device
    (``reason`` is :data:`Drop.NOT_IPV4`) and is that.
    """
    run: List[bytes] = []
    head = fragment = addresses = b""
    size = room = 0
    for packet in packets:
        if (
            room > 0
            and packet[:4] == head
            and packet[12:20] == addresses
            and packet[6:10] == fragment
            and len(packet) == size
        ):
            run.append(packet)
            room -= 1
            continue
        if not ipv4.is_whole(packet):
            if aside is not None and ipv6.is_whole(packet):
                aside.append(packet)
                continue
            from_device = reason is Drop.NOT_IPV4 and aside is None
            six = from_device and len(packet) >= ipv6.HEADER_SIZE and packet[0] >> 4 == 6
            dropped[Drop.IPV6 if six else reason] += 1
            continue
        if room > 0 and len(packet) <= size and ipv4.is_next_fragment(packet, run[-1]):
            run.append(packet)
            room = room - 1 if len(packet) == size else 0
            continue
        if (
            room > 0
            and len(packet) < size
            # What is small must not be taken for bulk where it waits, unless it is its end.
            and (
                len(packet) > tuning.SMALL_BYTES
                or size <= tuning.SMALL_BYTES
                or packet[20:24] == run[-1][20:24]
            )
            and packet[12:20] == addresses
            and packet[6:10] == fragment
            and packet[:2] == head[:2]
        ):
            run.append(packet)
            room = 0
            continue
        if run:
            yield run
        run = [packet]
        size = len(packet)
        head, fragment, addresses = packet[:4], packet[6:10], packet[12:20]
        room = min(tuning.MAX_RUN, tuning.MAX_RUN_BYTES // size) - 1
    if run:
        yield run


def cut_ipv6(packets: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield whole IPv6 packets in runs that can be handled as one.

    The packets of a run agree in addresses, size, traffic class, flow label, next header and hop
    limit; only the last may be shorter. A run fits into one train.
    """
    run: List[bytes] = []
    head = middle = b""
    size = room = 0
    for packet in packets:
        if room > 0 and packet[:4] == head and packet[6:40] == middle:
            if len(packet) == size:
                run.append(packet)
                room -= 1
                continue
            # What is small must not be taken for bulk where it waits, unless it is its end.
            if len(packet) < size and (
                len(packet) > tuning.SMALL_BYTES
                or size <= tuning.SMALL_BYTES
                or packet[40:44] == run[-1][40:44]
                or ipv6.is_next_fragment(packet, run[-1])
            ):
                run.append(packet)
                room = 0
                continue
        if run:
            yield run
        run = [packet]
        size = len(packet)
        head, middle = packet[:4], packet[6:40]
        room = min(tuning.MAX_RUN, tuning.MAX_RUN_BYTES // size) - 1
    if run:
        yield run
