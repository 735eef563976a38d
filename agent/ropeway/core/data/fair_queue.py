"""What waits while more arrives than can be carried: flow queues, served in turn.

FQ-CoDel (RFC 8290) over items of any kind, in packets instead of bytes: here a packet's cost is
that of its handling and hardly that of its length.

The way of an item: ``put`` finds its flow (section 4.1); a flow that begins to wait stands in the
list of new flows, which is served first; a flow that has used up its quantum goes to the end of
the old ones (section 4.2). CoDel (RFC 8289, section 5) looks at each item on its way out and drops
from a flow whose delay stands, and before that what has waited for too long altogether.

Two things differ from RFC 8290. A flow that is empty keeps what is left of its quantum until the
old list comes round to it, and may use it ahead of the old flows: nobody gets more than a quantum
a round, and a call among many transfers is served at once each time, not once a round. And
flows are told apart exactly, not by a hash, until there are very many.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from operator import attrgetter
from typing import Any, Callable, Deque, Dict, Hashable, List, Optional, Tuple

#: Standing delay that is acceptable, and how long it must stand (RFC 8289, sections 4.2 and 4.3).
TARGET_S = 0.005
INTERVAL_S = 0.1
#: Dropping resumes at its old pace when it ended less than this ago (RFC 8289, section 5.4).
RESUME_S = 16 * INTERVAL_S
#: Packets that a flow may send a round: one super-packet.
QUANTUM = 64
#: Flows told apart; the others share a few more, by their hash. Together 1024, as in RFC 8290,
#: section 5.2.
MAX_OWN_FLOWS = 960
SHARED_FLOWS = 64
#: Why an item was dropped.
OVERLOAD = "overload"
FULL = "full"
EXPIRED = "expired"

_INF = float("inf")


class _Flow:
    """One queue: what waits, what it may still send this round, and its CoDel variables.

    The last five are those of RFC 8289, section 5.3, ``above`` being ``first_above_time_``.
    """

    __slots__ = (
        "above",
        "count",
        "credit",
        "drop_next",
        "dropping",
        "in_new",
        "in_old",
        "items",
        "key",
        "largest",
        "last_count",
        "shared",
        "waiting",
    )

    def __init__(self, key: Hashable, shared: bool) -> None:
        self.key = key
        self.shared = shared
        self.items: Deque[Tuple[Any, int, float, float]] = deque()
        self.waiting = 0
        self.largest = 0
        self.credit = QUANTUM
        self.in_new = False
        self.in_old = False
        self.above = 0.0
        self.drop_next = 0.0
        self.count = 0
        self.last_count = 0
        self.dropping = False

    def overdue(self, now: float) -> bool:
        """Say whether the item just taken out, which waited for TARGET_S or longer, is dropped.

        ``deque`` of RFC 8289, section 5.5, one item at a time.
        """
        if self.above == 0.0:
            self.above = now + INTERVAL_S
            return False
        if now < self.above:
            return False
        if self.dropping:
            if now < self.drop_next:
                return False
            self.count += 1
            self.drop_next += INTERVAL_S / sqrt(self.count)
            return True
        self.dropping = True
        resumed = self.count - self.last_count
        recent = now - self.drop_next < RESUME_S
        self.count = self.last_count = resumed if resumed > 1 and recent else 1
        self.drop_next = now + INTERVAL_S / sqrt(self.count)
        return True


_waiting = attrgetter("waiting")


class FairQueue:
    """Flow queues served in turn, sparse flows first, CoDel per flow (RFC 8290, RFC 8289).

    ``limit``: packets of all flows together, 1 or more. ``dropped`` is called with each item that
    is dropped and why, OVERLOAD by CoDel, FULL for want of room, EXPIRED because of its age; it
    leaves the queue alone. Inside a flow nothing changes its order. Times are monotonic seconds
    that never go back.
    """

    __slots__ = ("_dropped", "_limit", "_new", "_old", "_own", "_shared", "_waiting")

    def __init__(self, limit: int, dropped: Callable[[Any, str], None]) -> None:
        self._limit = limit
        self._dropped = dropped
        self._waiting = 0
        self._own: Dict[Hashable, _Flow] = {}
        self._shared: Dict[Hashable, _Flow] = {}
        # A flow may stand in both: empty in the old list, and with something new in the other.
        self._new: Deque[_Flow] = deque()
        self._old: Deque[_Flow] = deque()

    def __len__(self) -> int:
        """Packets waiting."""
        return self._waiting

    @property
    def flows(self) -> int:
        """Flows that something is remembered of, 0 to 1024."""
        return len(self._own) + len(self._shared)

    def put(self, flow: Hashable, item: Any, size: int, now: float, since: float = _INF) -> None:
        """Let an item of ``size`` packets, 1 or more, wait in ``flow`` (RFC 8290, section 4.1).

        It came to this host at ``since`` or later. Over the limit the
        longest flow loses items from its head.
        """
        found = self._own.get(flow) or self._classify(flow)
        found.items.append((item, size, now, since))
        found.waiting += size
        if size > found.largest:
            found.largest = size
        if not found.in_new and (not found.in_old or (found.credit > 0 and len(found.items) == 1)):
            found.in_new = True
            self._new.append(found)
        self._waiting += size
        if self._waiting > self._limit:
            self._shed()

    def take(self, budget: int, now: float, expired_at: float = -_INF) -> List[Any]:
        """Items in the order to be served (RFC 8290, section 4.2).

        At least one if any is left by CoDel, and no more once they have ``budget`` packets. What
        may have come before ``expired_at`` is dropped.
        """
        taken: List[Any] = []
        new = self._new
        old = self._old
        fresh_at = now - TARGET_S
        left = budget
        while self._waiting:
            if new:
                flow = new[0]
            else:
                flow = old[0]
                if flow.credit <= 0 and flow.items:
                    flow.credit += QUANTUM
            items = flow.items
            credit = flow.credit
            waiting = flow.waiting
            before = waiting
            while items and credit > 0 and (left > 0 or not taken):
                item, size, at, since = items.popleft()
                waiting -= size
                if since < expired_at:
                    self._dropped(item, EXPIRED)
                    continue
                if at > fresh_at or waiting <= flow.largest:
                    flow.above = 0.0
                    flow.dropping = False
                elif flow.overdue(now):
                    self._dropped(item, OVERLOAD)
                    continue
                taken.append(item)
                left -= size
                credit -= size
            flow.waiting = waiting
            flow.credit = credit
            self._waiting -= before - waiting
            if flow.in_new:
                new.popleft()
                flow.in_new = False
                if not flow.in_old:
                    flow.in_old = True
                    if items and credit > 0:
                        # Not emptied by one call, so not sparse: goes on after those that are.
                        old.appendleft(flow)
                    else:
                        old.append(flow)
                if not items:
                    flow.above = 0.0
            elif not items:
                old.popleft()
                del (self._shared if flow.shared else self._own)[flow.key]
            elif credit <= 0:
                old.rotate(-1)
            if left <= 0 and taken:
                break
        if not self._waiting and (old or new):
            # A round over empty flows would remove them one by one.
            new.clear()
            old.clear()
            self._own.clear()
            self._shared.clear()
        return taken

    def _classify(self, key: Hashable) -> _Flow:
        """Give a flow that has no queue one of its own, or else one that it shares.

        As long as the shared one is there something of this flow may wait in it.
        """
        bucket = hash(key) % SHARED_FLOWS
        shared: Optional[_Flow] = self._shared.get(bucket) if self._shared else None
        if shared is not None:
            return shared
        if len(self._own) < MAX_OWN_FLOWS:
            flow = self._own[key] = _Flow(key, shared=False)
        else:
            flow = self._shared[bucket] = _Flow(bucket, shared=True)
        return flow

    def _shed(self) -> None:
        """Drop from the head of the longest flow (RFC 8290, section 4.1) until there is room.

        With many flows, to look for it is dear, so the longest ones make a little more room at
        once, none by more than half.
        """
        flows = sorted((*self._own.values(), *self._shared.values()), key=_waiting, reverse=True)
        limit = self._limit
        room = limit - min(limit, len(flows)) // 16
        while self._waiting > limit:
            for flow in flows:
                half = flow.waiting // 2
                while flow.waiting > half and self._waiting > room:
                    item, size, _, _ = flow.items.popleft()
                    flow.waiting -= size
                    self._waiting -= size
                    self._dropped(item, FULL)
                if self._waiting <= room:
                    break
