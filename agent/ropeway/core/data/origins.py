"""Which packets of other hosts have come, by their labels: copies come through several routers.

For each start of a host there is a window of the counts that have come. A packet that a router had
to cut comes as pieces of one count. The pieces of one router make it whole; what another router
brings of the packet meanwhile is dropped, unless that one brings it whole.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Dict, List, Sequence

from ropeway.core import tuning
from ropeway.core.frame.label import PIECE_MASK, START_END, piece_of, unpack_all
from ropeway.core.session.replay import ReplayWindow


class _Pieces:
    """The pieces of one packet that have come."""

    __slots__ = ("by", "last", "seen")

    def __init__(self, by: str) -> None:
        #: The router that they come from.
        self.by = by
        #: A bit for each number that has come, and the last number, 0 while it is not known.
        self.seen = 0
        self.last = 0


class _Start:
    """What has come of one start of a host."""

    __slots__ = ("pieces", "window")

    def __init__(self) -> None:
        self.window = ReplayWindow()
        #: By the count of a packet, the oldest first.
        self.pieces: Dict[int, _Pieces] = {}


_NONE = _Start()


class Origins:
    """The windows of all hosts, the least recently heard of first."""

    __slots__ = ("_origins",)

    def __init__(self) -> None:
        self._origins: OrderedDict[bytes, Dict[int, _Start]] = OrderedDict()

    def first_copies(
        self, packets: Sequence[bytes], labels: Sequence[bytes], by: str
    ) -> List[bytes]:
        """Return those of some packets, brought by the router ``by``, that are no copies."""
        fresh: List[bytes] = []
        known_origin, known_tag = b"", -1
        start = _NONE
        check, mark = start.window.check, start.window.mark
        for packet, (origin, tag, count) in zip(packets, unpack_all(labels)):
            if tag != known_tag or origin != known_origin:
                known_origin, known_tag = origin, tag
                start = self._start_of(origin, tag % START_END)
                check, mark = start.window.check, start.window.mark
            if check(count):
                continue
            if tag & PIECE_MASK:
                if not _is_new_piece(start, count, *piece_of(tag), by):
                    continue
            else:
                mark(count)
                if start.pieces:
                    start.pieces.pop(count, None)
            fresh.append(packet)
        return fresh

    def _start_of(self, origin: bytes, number: int) -> _Start:
        origins = self._origins
        starts = origins.get(origin)
        if starts is None:
            starts = origins[origin] = {}
            if len(origins) > tuning.MAX_ORIGINS:
                origins.popitem(last=False)
        else:
            origins.move_to_end(origin)
        start = starts.get(number)
        if start is None:
            start = starts[number] = _Start()
            if len(starts) > tuning.MAX_STARTS:
                del starts[next(iter(starts))]
        return start


def _is_new_piece(start: _Start, count: int, number: int, last: bool, by: str) -> bool:
    """Return whether a piece of a packet is to go on, and note it."""
    pieces = start.pieces.get(count)
    if pieces is None:
        if len(start.pieces) >= tuning.MAX_IN_PIECES:
            del start.pieces[next(iter(start.pieces))]
        pieces = start.pieces[count] = _Pieces(by)
    if pieces.by != by or pieces.seen >> number & 1:
        return False
    pieces.seen |= 1 << number
    if last:
        pieces.last = number
    if pieces.last and pieces.seen == (2 << pieces.last) - 2:
        start.window.mark(count)
        del start.pieces[count]
    return True
