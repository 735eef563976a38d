"""What comes in from the device, or from the links: handed on at once, or waiting its turn.

As long as everything that comes can be handled, it is, in the order in which it came. Where more
comes, it waits in a fair queue, so that a call does not wait behind a transfer. Reading is so much
cheaper than handling that what waits is read first and handled a batch a turn; when enough waits,
it is left to the kernel's queues.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Any, Callable, Dict, Hashable, List, Sequence

from ropeway.core.fair_queue import FairQueue

# Tuning
BATCH_PACKETS = 64
"""Packets handled of one source in one turn, so that no other waits long."""
CROWDED_TURNS = 4
"""A source that fills its batch so often on end is read ahead from then on."""
READS_AHEAD = 4 * BATCH_PACKETS
"""What is read in one turn of a source that is read ahead."""
QUEUE_PACKETS = 2048
"""No more is read while so many packets wait: as many more wait in the kernel."""
ITEM_PACKETS = 16
"""Packets of one flow that came one after the other wait as one item, so many at most."""

Handle = Callable[[List[Any], Any, float], None]
Read = Callable[[int], List[Any]]


class Intake:
    """One direction. Sources are told apart by keys; what comes from them may be anything.

    `handle` takes what a source gave, its key, and the time in monotonic seconds; `flow` tells
    flows of one source apart; `packets` counts the packets in what was read, 1 or more.
    """

    def __init__(
        self,
        handle: Handle,
        flow: Callable[[Any], Hashable],
        packets: Callable[[Any], int],
    ) -> None:
        self._handle = handle
        self._flow = flow
        self._packets = packets
        self._queue = FairQueue(2 * QUEUE_PACKETS)
        self.waits = False
        """Whether anything waits."""
        self._crowded: Dict[Hashable, int] = {}
        self._last_turn: Dict[Hashable, int] = {}
        self._packets_per_read = 1.0
        self.dropped: Dict[Hashable, Counter[str]] = {}
        """Packets dropped because more came than was handled, by source and reason."""

    def __len__(self) -> int:
        """Return how many packets wait."""
        return len(self._queue)

    def read(self, key: Hashable, read: Read, turn: int, now: float) -> None:
        """Read from a source with `read(limit)`, and handle what comes or have it wait.

        `turn` counts the times that all sources were looked at. What comes alone is handled before
        it is asked whether there is more: 1 is read of a source that had nothing in the turn
        before. What `read` raises is raised.
        """
        last = self._last_turn.get(key, -2)
        self._last_turn[key] = turn
        if turn - last > 1 and not self.waits:
            reads = read(1)
            if reads:
                self._handle(reads, key, now)
            return
        limit = self.limit(key)
        if limit:
            reads = read(limit)
            if reads:
                self.take(key, reads, now)

    def limit(self, key: Hashable) -> int:
        """Return how much may be read of a source that has more, 0 while enough waits."""
        room = QUEUE_PACKETS - len(self._queue)
        if room <= 0:
            return 0
        ahead = self._is_ahead(key)
        most, packets = (READS_AHEAD, room) if ahead else (BATCH_PACKETS, BATCH_PACKETS)
        return min(most, int(packets / self._packets_per_read) + 1)

    def take(self, key: Hashable, reads: List[Any], now: float) -> None:
        """Take what was read, at least something: handle it, or have it wait."""
        counts = [self._packets(read) for read in reads]
        total = sum(counts)
        ahead = self._is_ahead(key)
        self._packets_per_read = total / len(reads)
        if total < BATCH_PACKETS:
            self._crowded.pop(key, None)
        else:
            self._crowded[key] = self._crowded.get(key, 0) + 1
        at = 0
        if not ahead:
            handled = 0
            while at < len(reads) and handled < BATCH_PACKETS:
                handled += counts[at]
                at += 1
            self._handle(reads[:at], key, now)
        if at < len(reads):
            self._enqueue(key, reads[at:], counts[at:], now)

    def serve(self, now: float) -> None:
        """Handle a batch of what waits."""
        taken = self._queue.take(BATCH_PACKETS, now)
        for key, items in groupby(taken, itemgetter(0)):
            self._handle([read for _, reads, _ in items for read in reads], key, now)
        self.waits = len(self._queue) > 0
        for (key, _, count), reason in self._queue.take_dropped():
            self.dropped.setdefault(key, Counter())[reason] += count

    def forget(self, key: Hashable) -> None:
        """Give up what is remembered of a source that is gone."""
        self._crowded.pop(key, None)
        self._last_turn.pop(key, None)
        self.dropped.pop(key, None)

    def _is_ahead(self, key: Hashable) -> bool:
        return self.waits or self._crowded.get(key, 0) >= CROWDED_TURNS

    def _enqueue(
        self, key: Hashable, reads: Sequence[Any], counts: Sequence[int], now: float
    ) -> None:
        put = self._queue.put
        together: List[Any] = []
        flow: Hashable = None
        size = 0
        for read, count in zip(reads, counts):
            other = self._flow(read)
            if together and (other != flow or size + count > ITEM_PACKETS):
                put((key, flow), (key, together, size), size, now)
                together, size = [], 0
            flow = other
            together.append(read)
            size += count
        put((key, flow), (key, together, size), size, now)
        self.waits = True
