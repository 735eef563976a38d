"""What comes in from the device, or from the links: handed on at once, or waiting its turn.

As long as everything that comes can be handled, it is, in the order in which it came. Where more
comes, it waits in a fair queue, so that a call does not wait behind a transfer. Reading is so much
cheaper than handling that what waits is read first and handled a batch a turn. While a burst lasts,
only enough is read and the rest is left to the kernel's queues; where more comes for longer, what
comes is read nonetheless, and the longest flow loses packets. What has waited for too long is
dropped.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Any, Callable, Dict, Hashable, List, Sequence, Tuple

from ropeway.core.data.fair_queue import EXPIRED, FairQueue

# Tuning
BATCH_PACKETS = 32
"""Packets handled in one turn, of one source or of what waits, so that no other waits long."""
CROWDED_TURNS = 2
"""A source that fills its batch so often on end is read ahead from then on ..."""
PIECES_AHEAD = 32
"""... in so many pieces a turn at most, of all sources together, but one of each ..."""
# A turn lasts for its reads and the handling of its batches. In a flood it must bring more than
# comes in that time, or the kernel's queue overflows. At 150 000 a second, 2.5 us for a read and
# 0.8 ms for all else, 192 come in a turn: 32 * 32 = 1024 leave room for machines where a read takes
# 5 us. Where all are there, they make a turn of 2 or 3 ms.
PIECE_READS = 32
"""... of so many reads, that may be super-packets of 64 KiB."""
QUEUE_PACKETS = 1536
"""While a burst lasts, no source that fills its batches is read where so many wait: the kernel
keeps the rest."""
SPARSE_READS = 8
"""Reads then of a source that fills none, so that it does not wait for the burst to end."""
BURST_S = 0.05
"""What waits for longer is no burst. Then so many pieces are read however many wait, and beyond the
limit the longest flow loses what waited longest; left to the kernel's queues, it would push out
whoever comes next."""
CALM_S = 0.4
"""Nothing has waited for this long: another burst may last as long as the first. A flood that is
hardly one leaves nothing waiting now and then, and goes on."""
OVERRUN_TURNS = 8
"""A source brings more than can be read where it was not read to its end so often in a row ..."""
RETRY_TURNS = 64
"""... and is read as far ahead as any again after so many turns: the flood may be over."""
LIMIT_PACKETS = 4096
"""No more packets wait than that."""
# What a burst brings fits, where a read is at most 64 packets. Before the last piece fewer than
# QUEUE_PACKETS wait, and it is PIECE_READS of them; sparse sources are read as long as there is
# room for SPARSE_READS. (Links give 64 as one at most; a device gives 64 KiB, more packets only
# where they are smaller than 1 KiB.)
SPARSE_PACKETS = 64 * SPARSE_READS
ITEM_PACKETS = 16
"""Packets of one flow that came one after the other wait as one item, so many at most."""

Handle = Callable[[List[Any], Any, float], None]
Strip = Callable[[List[Any]], Tuple[List[Any], int]]

_INF = float("inf")
_since = itemgetter(3)


class Source:
    """What an intake reads from."""

    #: What tells it apart from the others.
    key: Hashable
    #: Nothing that was read last came to this host before that.
    since: float = _INF

    def read(self, limit: int) -> List[Any]:
        """Return what waits, at most `limit` reads, 1 or more; `OSError` where that fails."""
        raise NotImplementedError


class Intake:
    """One direction. What comes from its sources may be anything.

    `handle` takes what a source gave, its key, and the time in monotonic seconds; `flow` tells
    flows of one source apart; `packets` counts the packets in what was read, 1 or more; `strip`
    gives what is left of reads that have waited for too long, and how many packets it left out.
    `overrun_pieces` are read a turn of a source that brings more than can be read, 1 or more: few
    leave time for others, and let what else comes from that source get lost with the flood.
    """

    def __init__(
        self,
        handle: Handle,
        flow: Callable[[Any], Hashable],
        packets: Callable[[Any], int],
        strip: Strip,
        overrun_pieces: int = PIECES_AHEAD,
    ) -> None:
        self._handle = handle
        self._flow = flow
        self._packets = packets
        self._strip = strip
        self._overrun_pieces = overrun_pieces
        self._queue = FairQueue(LIMIT_PACKETS, self._note_dropped)
        self.waits = False
        """Whether anything waits."""
        self.oldest = _INF
        """Nothing that was handed on came before that; whoever has carried it on sets it anew."""
        # What is left of what has just expired in the queue.
        self._remains: List[Tuple[Hashable, List[Any]]] = []
        # When what waits began to, had it never stopped for a moment, and when nothing did.
        self._since = 0.0
        self._empty_at = 0.0
        # Of this turn: pieces read ahead, and sources that filled one.
        self._turn = 0
        self._pieces = 0
        self._full = 0
        self._crowded: Dict[Hashable, int] = {}
        self._last_turn: Dict[Hashable, int] = {}
        self._unfinished: Dict[Hashable, int] = {}
        self._packets_per_read = 1.0
        self.dropped: Dict[Hashable, Counter[str]] = {}
        """Packets dropped because more came than was handled, or too late, by source and reason.

        None of sources that were forgotten.
        """

    def __len__(self) -> int:
        """Return how many packets wait."""
        return len(self._queue)

    def overruns(self, key: Hashable) -> bool:
        """Say whether a source brings more than can be read: what it has no room for is lost."""
        return self._unfinished.get(key, 0) >= OVERRUN_TURNS

    def read(self, source: Source, turn: int, now: float) -> None:
        """Read from a source, and handle what comes or have it wait.

        `turn` counts the times that all sources were looked at. What comes alone is handled before
        it is asked whether there is more: 1 is read of a source that was not looked at in the turn
        before, unless something waits or it is read ahead. What the source raises is raised.
        """
        key = source.key
        last = self._last_turn.get(key, -2)
        self._last_turn[key] = turn
        if turn != self._turn:
            self._turn = turn
            self._pieces = self._full = 0
        if self.waits or self._crowded.get(key, 0) >= CROWDED_TURNS:
            self._read_ahead(source, now)
            return
        # What comes now may be larger than what came last, so no more is read than fits anyway.
        if self._unfinished:
            self._unfinished.pop(key, None)
        batch = min(int(BATCH_PACKETS / self._packets_per_read) + 2, PIECE_READS)
        reads = source.read(1 if turn - last > 1 else batch)
        if not reads:
            return
        if source.since < self.oldest:
            self.oldest = source.since
        if len(reads) == 1:
            self._crowded.pop(key, None)
            self._handle(reads, key, now)
        else:
            self._take(source, reads, now)

    def hand_on(self, key: Hashable, reads: List[Any], since: float, now: float) -> None:
        """Handle what was read of a source otherwise, and may have come at `since`."""
        if since < self.oldest:
            self.oldest = since
        self._handle(reads, key, now)

    def _read_ahead(self, source: Source, now: float) -> None:
        key, read = source.key, source.read
        packets = count = 0
        reads: Sequence[Any] = ()
        unfinished = self._unfinished.get(key, 0)
        few = unfinished >= OVERRUN_TURNS and unfinished % RETRY_TURNS
        ahead = self._pieces + (self._overrun_pieces if few else PIECES_AHEAD)
        while self._pieces < min(ahead, PIECES_AHEAD) or not count:
            limit = PIECE_READS
            burst = not self.waits or now - self._since < BURST_S
            if burst and len(self._queue) >= QUEUE_PACKETS:
                room = LIMIT_PACKETS - len(self._queue)
                if count or key in self._crowded or room < SPARSE_PACKETS:
                    return
                limit = SPARSE_READS
            self._pieces += 1
            reads = read(limit)
            if reads:
                count += len(reads)
                packets += self._enqueue(source, reads, now)
            if len(reads) < PIECE_READS:
                self._unfinished.pop(key, None)
                break
            if count == PIECE_READS:
                self._full += 1
            # Beyond the limit, more would push out what was just read.
            if packets >= LIMIT_PACKETS:
                break
        if len(reads) == PIECE_READS:
            self._unfinished[key] = unfinished + 1
        self._note(key, packets, count)

    def _take(self, source: Source, reads: List[Any], now: float) -> None:
        """Handle a batch of what was read, and have the rest wait."""
        key = source.key
        at = handled = 0
        while at < len(reads) and handled < BATCH_PACKETS:
            handled += self._packets(reads[at])
            at += 1
        rest = reads[at:]
        self._note(key, handled + sum(map(self._packets, rest)), len(reads))
        self._handle(reads[:at], key, now)
        if rest:
            self._enqueue(source, rest, now)

    def _note(self, key: Hashable, packets: int, reads: int) -> None:
        self._packets_per_read = packets / (reads or 1) or 1.0
        if packets < BATCH_PACKETS:
            self._crowded.pop(key, None)
        else:
            self._crowded[key] = self._crowded.get(key, 0) + 1

    def serve(self, now: float, expired_at: float) -> None:
        """Handle a batch of what waits, and one for each further source that brought too much.

        What may have come before `expired_at` is dropped.
        """
        # Or else, the more sources are flooded, the less time would be left for the others.
        for _ in range(max(1, self._full)):
            taken = self._queue.take(BATCH_PACKETS, now, expired_at)
            if self._remains:
                remains, self._remains = self._remains, []
                for key, reads in remains:
                    self._handle(reads, key, now)
            if taken:
                self.oldest = min(self.oldest, min(map(_since, taken)))
            for key, items in groupby(taken, itemgetter(0)):
                self._handle([read for _, reads, _, _ in items for read in reads], key, now)
        self._full = 0
        self.waits = len(self._queue) > 0
        if not self.waits:
            self._empty_at = now

    def expire(self, key: Hashable, reads: List[Any]) -> List[Any]:
        """Drop packets of a source that have waited for too long; return what is left."""
        left, count = self._strip(reads)
        self._count(key, EXPIRED, count)
        return left

    def _note_dropped(self, item: Any, reason: str) -> None:
        key, reads, count, _ = item
        if reason != EXPIRED:
            self._count(key, reason, count)
            return
        left = self.expire(key, reads)
        if left:
            self._remains.append((key, left))

    def _count(self, key: Hashable, reason: str, count: int) -> None:
        if count and key in self._last_turn:
            self.dropped.setdefault(key, Counter())[reason] += count

    def forget(self, key: Hashable) -> None:
        """Give up what is remembered of a source that is gone."""
        self._crowded.pop(key, None)
        self._unfinished.pop(key, None)
        self._last_turn.pop(key, None)
        self.dropped.pop(key, None)

    def _enqueue(self, source: Source, reads: Sequence[Any], now: float) -> int:
        """Have something wait, at least one read; give how many packets."""
        put, key, since = self._queue.put, source.key, source.since
        packets = 0
        together: List[Any] = []
        flow: Hashable = None
        size = 0
        for read in reads:
            other, count = self._flow(read), self._packets(read)
            packets += count
            if together and (other != flow or size + count > ITEM_PACKETS):
                put((key, flow), (key, together, size, since), size, now, since)
                together, size = [], 0
            flow = other
            together.append(read)
            size += count
        put((key, flow), (key, together, size, since), size, now, since)
        if not self.waits:
            self.waits = True
            age_s = min(BURST_S, self._empty_at - self._since)
            calm_s = now - self._empty_at
            self._since = now - max(0.0, age_s - calm_s * BURST_S / CALM_S)
        return packets
