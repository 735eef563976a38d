"""Reading from the kernel's queues without packets that have waited there for too long.

A controller or a video decoder is better off without packets that were sent seconds ago. While the
loop turns, no packet waits that long. After a standstill of the agent or the whole host, the queues
are full of old packets. The kernel says when each datagram of a socket came, but not when a packet
came to the device; so everything that the device holds when the agent wakes is dropped.
"""

from __future__ import annotations

import heapq
import time
from functools import partial
from typing import Any, Callable, Hashable, Iterable, List, NamedTuple, Optional, Tuple, Union

from ropeway.core.data.sojourn import Polls, QueueAge
from ropeway.kernel.classic_sockets import LinkSockets
from ropeway.kernel.tun import Queue, Tun
from ropeway.kernel.udp import Receiver

# Tuning
#: The loop turns at least so often within the bound: three polls may lie between the last one that
#: found a queue empty and one that finds a packet, which is fresh nonetheless.
WAKES = 5
#: If a socket is never read to its end, the age of a datagram is looked up once in this share of
#: the bound: datagrams behind it are older by no more than that.
DOUBT_SHARE = 1 / 8
#: Datagrams that are read in a turn of a socket whose datagrams are old; they take about 5 ms.
DOUBTED_READS = 1024
#: Reads of the links handled in a turn after a standstill; each is a datagram or a train of them.
MERGED_READS = 32
#: Packets that are read from the device at once in order to drop them.
DROPPED_READS = 32

_INF = float("inf")

#: Drops packets that were read too late from a source, by key; returns what must be handled anyway.
Expire = Callable[[Any, List[Any]], List[Any]]


class Dated(NamedTuple):
    """A read of a link, and when it came."""

    #: In seconds of the loop's clock.
    came_at: float
    #: The same; infinite if it came too late and `reads` has only what was left of it.
    since: float
    #: The datagram or train, as an intake handles it.
    reads: List[Any]


class Bound:
    """How long a packet may wait on this host, and the loop's clock.

    `max_age_s` is in seconds, 0 for no bound; `clock` returns seconds and goes on in suspend.
    """

    def __init__(self, max_age_s: float, clock: Callable[[], float]) -> None:
        #: Returns seconds.
        self.clock = clock
        #: When the loop polled.
        self.polls = Polls(clock())
        self.set(max_age_s)

    def set(self, max_age_s: float) -> None:
        """Change the bound."""
        #: In seconds; infinite if there is no bound.
        self.max_age_s = max_age_s or _INF
        #: The loop turns after this time at the latest.
        self.wake_s = self.max_age_s / WAKES
        #: How far the age of a datagram may be out, in seconds.
        self.doubt_s = self.max_age_s * DOUBT_SHARE

    def note_poll(self, now: float, complete: bool) -> bool:
        """Note that a poll ended, and whether it named all descriptors that were ready.

        Return False if the loop stood still since the poll before. This poll may have looked before
        the standstill, so another one is needed.
        """
        polls = self.polls
        turned = now - polls.began_at <= self.max_age_s
        polls.note(now, complete and turned)
        return turned

    def expired_at(self) -> float:
        """Return the time before which a packet must have come to have waited for too long."""
        return self.clock() - self.max_age_s


class DeviceSource:
    """A queue of the device, read by an intake."""

    def __init__(self, key: Any, queue: Queue, device: Tun, bound: Bound, expire: Expire) -> None:
        self.key = key
        self._queue = queue
        self._device = device
        #: Nothing of the last read came to this host before that time.
        self.since = _INF
        self._bound = bound
        self._expire = expire
        self._age = QueueAge(bound.polls.began_at)
        #: To be called when the queue is about to be read.
        self.look: Callable[[], None] = partial(self._age.look, bound.polls)

    def read(self, limit: int) -> List[bytes]:
        """Return what waits and may be fresh; `OSError` as `Queue.read_batch` raises it."""
        age, bound = self._age, self._bound
        # Should the agent be stopped since: how old this may be is looked at before it goes on.
        now = bound.polls.began_at
        if now - age.since > bound.max_age_s:
            self._drop(now)
        reads = self._queue.read_batch(limit)
        self.since = age.since
        age.note_read(len(reads), self._queue.emptied, now, self._device.capacity)
        return reads

    def _drop(self, now: float) -> None:
        """Drop all that waits now: any of it may be too old."""
        self._device.measure()
        left = self._device.capacity
        while left > 0:
            reads = self._queue.read_batch(DROPPED_READS)
            self._expire(self.key, reads)
            left -= len(reads)
            if self._queue.emptied:
                break
        self._age.emptied(now)


class LinkSource:
    """A socket, read by an intake."""

    def __init__(
        self,
        sockets: Union[Receiver, LinkSockets],
        bound: Bound,
        expire: Expire,
        wall: Callable[[], float] = time.time,
    ) -> None:
        #: The node's key of the socket.
        self.key: Hashable = sockets.key
        #: The socket, or the two of a link of a classic network.
        self.sockets = sockets
        #: Nothing of the last read came to this host before that time.
        self.since = _INF
        self._bound = bound
        self._expire = expire
        self._wall = wall
        self._age = QueueAge(bound.polls.began_at)
        #: To be called when the socket is about to be read.
        self.look: Callable[[], None] = partial(self._age.look, bound.polls)

    def read(self, limit: int) -> List[Any]:
        """Return what waits, without the packets that are too old; `OSError` where that fails."""
        age, bound = self._age, self._bound
        now = bound.polls.began_at
        lag_s = now - age.since
        if lag_s > bound.max_age_s or (age.behind and lag_s > bound.doubt_s):
            return self._read_doubted(limit, now)
        reads: List[Any] = self.sockets.receive_batch(limit)
        self.since = age.since
        age.note_read(len(reads), self.sockets.emptied, now, _INF)
        return reads

    def read_dated(self) -> Optional[Dated]:
        """Read one datagram and look at its time; None where there was none.

        `OSError` as reading raises it.
        """
        age, bound = self._age, self._bound
        now = bound.clock()
        reads: List[Any] = self.sockets.receive_batch(1)
        if not reads:
            if self.sockets.emptied:
                age.emptied(now)
            return None
        waited_s = age.waited_s(now, self._wall() - self.sockets.arrived_at())
        came_at = now - waited_s
        if waited_s > bound.max_age_s:
            return Dated(came_at, _INF, self._expire(self.key, reads))
        return Dated(came_at, came_at, reads)

    def _read_doubted(self, limit: int, now: float) -> List[Any]:
        """Look at each datagram's time, until one is so young that what follows is no question."""
        bound, sockets = self._bound, self.sockets
        kept: List[Any] = []
        self.since = _INF
        for _ in range(DOUBTED_READS):
            try:
                dated = self.read_dated()
            except OSError:
                # What was read before the failure still counts; one that stays comes again.
                if not kept:
                    raise
                break
            if dated is not None:
                kept += dated.reads
                self.since = min(self.since, dated.since)
                if now - dated.came_at <= bound.doubt_s:
                    return kept + self._read_on(limit - len(kept))
            if sockets.emptied or len(kept) >= limit:
                break
        return kept

    def _read_on(self, limit: int) -> List[Any]:
        """Read what is younger than what was read last, at most `limit` pieces."""
        if limit <= 0:
            return []
        now = self._bound.clock()
        reads: List[Any] = self.sockets.receive_batch(limit)
        self._age.note_read(len(reads), self.sockets.emptied, now, _INF)
        return reads

    def expire(self, dated: Dated) -> List[Any]:
        """Drop what was read before and has become too old; return what is left."""
        return self._expire(self.key, dated.reads)


class LinkMerge:
    """What links hold when the loop goes on after a standstill, in the order in which it came.

    The other end may have sent over fewer links meanwhile, so each holds another part; read one
    after the other, they would give old packets after fresh ones.
    """

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._woke_at = 0.0
        # Of these it is not known when the next one came.
        self._unknown: List[LinkSource] = []
        # The next one of each that has one.
        self._next: List[Tuple[float, int, LinkSource, Dated]] = []
        self._serial = 0

    @property
    def goes_on(self) -> bool:
        """Whether something of then is left; links are not to be read otherwise."""
        return bool(self._unknown or self._next)

    def begin(self, sources: Iterable[LinkSource]) -> None:
        """Take note that the loop stood still until now, and what the links are."""
        known = {id(source) for _, _, source, _ in self._next}
        self._unknown = [source for source in sources if id(source) not in known]
        self._woke_at = self._bound.clock()

    def forget(self, gone: LinkSource) -> None:
        """Give up what was read of a link that is gone."""
        self._unknown = [source for source in self._unknown if source is not gone]
        self._next = [entry for entry in self._next if entry[2] is not gone]
        heapq.heapify(self._next)

    def take(self) -> List[Tuple[LinkSource, Dated]]:
        """Return a batch of what came, in order; nothing where old ones take the whole turn."""
        reads_left = DOUBTED_READS
        while self._unknown and reads_left > 0:
            reads_left -= self._look(self._unknown.pop(), reads_left)
        batch: List[Tuple[LinkSource, Dated]] = []
        expired_at = self._bound.expired_at()
        while self._next and not self._unknown and len(batch) < MERGED_READS:
            _, _, source, dated = heapq.heappop(self._next)
            if dated.since < expired_at:
                dated = Dated(dated.came_at, _INF, source.expire(dated))
            if dated.reads:
                batch.append((source, dated))
            if dated.came_at < self._woke_at:
                self._look(source, 1)
        return batch

    def _look(self, source: LinkSource, limit: int) -> int:
        """Look for the next one of a link, in so many reads at most; return how many those were."""
        for number in range(limit):
            try:
                dated = source.read_dated()
            except OSError:
                # The link is read again after this, and fails again if that stays.
                return number + 1
            if dated is None and source.sockets.emptied:
                return number + 1
            if dated is not None and dated.reads:
                self._serial += 1
                heapq.heappush(self._next, (dated.came_at, self._serial, source, dated))
                return number + 1
        self._unknown.append(source)
        return limit
