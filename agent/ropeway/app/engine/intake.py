"""What arrives from the device, or from the links: handled at once, or queued.

As long as everything can be handled, packets are handled in the order in which they came. If more
come, they wait in a fair queue, so that a call does not wait behind a transfer. Reading is much
cheaper than handling, so packets are read first and handled a batch a turn. During a burst only
enough is read and the rest is left in the kernel's queues. If the burst goes on, everything is read
nonetheless, and the longest flow loses packets. A packet that has waited for too long is dropped.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Any, Callable, Dict, Hashable, List, Protocol, Sequence, Tuple

from ropeway.core.data.fair_queue import EXPIRED, FairQueue

# Tuning
#: Packets handled in one turn, of one source or of what waits, so that no other waits long.
BATCH_PACKETS = 32
#: A source that fills its batch so many times in a row is read ahead from then on ...
CROWDED_TURNS = 2
#: ... in so many pieces a turn at most, over all sources, but at least one of each ...
PIECES_AHEAD = 32
# A turn lasts for its reads and the handling of its batches. In a flood it must bring more than
# comes in that time, or the kernel's queue overflows. At 150 000 a second, 2.5 us for a read and
# 0.8 ms for all else, 192 come in a turn: 32 * 32 = 1024 leave room for machines where a read takes
# 5 us. If all of them come, a turn takes 2 or 3 ms.
#: ... of so many reads, which may be super-packets of 64 KiB.
PIECE_READS = 32
#: During a burst, while so many packets wait, no source that fills its batches is read: the kernel
#: keeps the rest.
QUEUE_PACKETS = 1536
#: Reads meanwhile of a source that fills no batch, so that it does not wait for the burst to end.
SPARSE_READS = 8
#: A burst lasts no longer. After that pieces are read however many packets wait, and beyond the
#: limit the longest flow loses what waited longest. Left in the kernel's queues, packets of that
#: flow would push out those of others.
BURST_S = 0.05
#: If nothing has waited for this long, another burst may last as long as the first. A weak flood
#: leaves moments without anything waiting, and goes on.
CALM_S = 0.4
#: A source brings too much if it was not read to its end so many times in a row ...
OVERRUN_TURNS = 8
#: ... and is read as far ahead as any other again after so many turns: the flood may be over.
RETRY_TURNS = 64
#: No more packets wait.
LIMIT_PACKETS = 4096
# A burst fits if a read is at most 64 packets: before the last piece of PIECE_READS fewer than
# QUEUE_PACKETS wait, and sparse sources are read as long as there is room for SPARSE_READS. A link
# gives at most 64 packets in one read; a device gives 64 KiB, so more packets only if they are
# smaller than 1 KiB.
SPARSE_PACKETS = 64 * SPARSE_READS
#: Consecutive packets of one flow wait as one item of at most so many.
ITEM_PACKETS = 16

Handle = Callable[[List[Any], Any, float], None]
Strip = Callable[[List[Any]], Tuple[List[Any], int]]

_INF = float("inf")
_since = itemgetter(3)


class Source(Protocol):
    """Something that an intake reads from."""

    #: Identifies the source.
    key: Hashable
    #: Nothing of the last read came to this host before that time.
    since: float

    def read(self, limit: int) -> List[Any]:
        """Return what waits, at most `limit` reads, 1 or more; `OSError` if reading fails."""


class Intake:
    """One direction of packets. Reads may be of any type.

    `handle` takes reads of a source, its key, and the time in monotonic seconds. `flow` returns the
    flow of a read, `packets` the number of packets in it, 1 or more. `strip` removes the packets
    from reads that have waited for too long; it returns what is left and how many it removed.
    `overrun_pieces`, 1 or more, are read a turn of a source that brings more than can be read: few
    leave time for others, but more of what else comes from that source is lost with the flood.
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
        #: Whether anything waits.
        self.waits = False
        #: No packet that was handled came before that time; reset when all of them were sent on.
        self.oldest = _INF
        # What `strip` left of reads that have just expired in the queue.
        self._remains: List[Tuple[Hashable, List[Any]]] = []
        # Since when packets wait, short pauses aside, and when the queue was empty last.
        self._since = 0.0
        self._empty_at = 0.0
        # In this turn: the pieces read ahead, and the sources that filled one.
        self._turn = 0
        self._pieces = 0
        self._full = 0
        self._crowded: Dict[Hashable, int] = {}
        self._last_turn: Dict[Hashable, int] = {}
        self._unfinished: Dict[Hashable, int] = {}
        self._packets_per_read = 1.0
        #: Packets dropped because too many came, or too late, by source and reason; without sources
        #: that were forgotten.
        self.dropped: Dict[Hashable, Counter[str]] = {}

    def __len__(self) -> int:
        """Return how many packets wait."""
        return len(self._queue)

    def overruns(self, key: Hashable) -> bool:
        """Say whether a source brings more than can be read, so that its queue overflows."""
        return self._unfinished.get(key, 0) >= OVERRUN_TURNS

    def read(self, source: Source, turn: int, now: float) -> None:
        """Read from a source, and handle what comes or queue it.

        `turn` is the number of the loop's turn. A lone packet is handled before the source is asked
        for a second: only one read is made of a source that was not read in the turn before, unless
        something waits or the source is read ahead. Errors of the source are raised.
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
        """Forget a source that is gone."""
        self._crowded.pop(key, None)
        self._unfinished.pop(key, None)
        self._last_turn.pop(key, None)
        self.dropped.pop(key, None)

    def _enqueue(self, source: Source, reads: Sequence[Any], now: float) -> int:
        """Queue one or more reads; return how many packets they have."""
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
