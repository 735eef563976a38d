"""A neighbour of the route exchange: what it has told, what it was told, and what it is yet to be.

Babel sends what must arrive several times, or asks for an acknowledgment (RFC 8966, section 3.3).
Here every message that changes anything has a number, and is answered by a receipt. What is not
answered is said again, as it is by then.
"""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from ropeway.core.frame.routes import (
    HEAD_SIZE,
    INFINITY,
    Everything,
    Receipt,
    Request,
    Update,
    encode,
    encode_record,
)
from ropeway.core.packet.prefix import Prefix
from ropeway.core.timers import NOT_DUE
from ropeway.core.token_bucket import TokenBucket

#: Routes that are taken from a router, and from another host.
MAX_ROUTES = 4096
MAX_ROUTES_UNTRUSTED = 64
#: A host that is no router may change what it announces so often a second, and at once.
CHANGES_PER_S = 0.5
CHANGES_BURST = 64
#: How often a host may begin anew, a second and at once: it is told everything then.
RESTARTS_PER_S = 0.2
RESTARTS_BURST = 8
#: Receipts that wait to be sent; what has none is said again by the other end.
MAX_RECEIPTS = 64
#: Requests without a receipt that are said again; of what is still needed there is a newer one.
MAX_REQUESTS_AGAIN = 1024
#: What has no receipt is said again after so many seconds, and doubled each time up to the second.
RETRY_MIN_S = 0.25
RETRY_MAX_S = 4.0
#: A neighbour is told no more often than this, in seconds.
PACE_S = 0.05
#: Everything is told again after so many seconds, a quarter more or less (section 3.7.1), and a
#: route that was not for so long is dropped (appendix B: three and a half times as long).
REFRESH_S = 30.0
HOLD_S = 3.5 * REFRESH_S
#: Metrics sway by so much, or by that part of them.
MARGIN = 16
MARGIN_SHARE = 8
#: A neighbour that can be sent nothing is tried again after so many seconds.
BLOCKED_S = 0.5


class Route:
    """What a neighbour has told of a prefix."""

    __slots__ = ("expires_at", "neighbour", "number", "origin", "prefix", "said", "seqno")

    def __init__(self, prefix: Prefix, neighbour: Neighbour) -> None:
        self.prefix = prefix
        self.neighbour = neighbour
        self.origin = b""
        self.seqno = 0
        #: The metric that it has told; :data:`INFINITY` if it has taken the route back.
        self.said = 0
        #: The message that has told it: older ones that come later say nothing.
        self.number = 0
        self.expires_at = NOT_DUE

    @property
    def says(self) -> Tuple[bytes, int, int]:
        """Origin, sequence number and metric that the neighbour has told."""
        return (self.origin, self.seqno, self.said)

    @property
    def metric(self) -> int:
        """What the way by this neighbour costs: more than it has told (section 3.5.2)."""
        return min(INFINITY, self.said + self.neighbour.cost)

    @property
    def order(self) -> Tuple[int, bytes]:
        """What routes are sorted by, the best one first."""
        return (self.metric, self.neighbour.host)


class _Sent(NamedTuple):
    """A message without a receipt so far."""

    updates: Tuple[Update, ...]
    requests: Tuple[Request, ...]
    asks: bool
    due: float


class Neighbour:
    """A host with which routes are exchanged."""

    __slots__ = (
        "_instance",
        "_number",
        "_restarts",
        "_taken_back",
        "_tries",
        "_waiting",
        "allowed",
        "asks",
        "changes",
        "cost",
        "dirty",
        "flush_at",
        "host",
        "instance",
        "receipts",
        "refresh_at",
        "requests",
        "routes",
        "told",
        "trusted",
    )

    def __init__(
        self,
        host: bytes,
        trusted: bool,
        allowed: Tuple[Prefix, ...],
        cost: int,
        instance: int,
        now: float,
    ) -> None:
        """``instance`` has 32 bits, and follows the one before: who hears another begins anew."""
        #: Its virtual address, four bytes.
        self.host = host
        #: Whether it is a router, which may tell of anything.
        self.trusted = trusted
        #: What it may announce besides its own address.
        self.allowed = allowed
        #: What the way there costs, 1 or more.
        self.cost = cost
        #: The instance that it has said last; None before its first message.
        self.instance: Optional[int] = None
        self.routes: Dict[Prefix, Route] = {}
        #: What it was told last of each prefix.
        self.told: Dict[Prefix, Update] = {}
        #: Prefixes of which it has to be told.
        self.dirty: Dict[Prefix, None] = {}
        self.requests: Dict[Tuple[Prefix, bytes], Request] = {}
        self.receipts: List[int] = []
        #: Whether it has to be asked for everything.
        self.asks = True
        self.changes = TokenBucket(CHANGES_PER_S, CHANGES_BURST, now)
        self._restarts = TokenBucket(RESTARTS_PER_S, RESTARTS_BURST, now)
        self.flush_at = now
        self.refresh_at = now
        self._instance = instance
        self._number = 0
        self._waiting: Dict[int, _Sent] = {}
        self._tries = 0
        # Since when it is told that a prefix cannot be reached any more.
        self._taken_back: Dict[Prefix, float] = {}

    def may_announce(self, prefix: Prefix, origin: bytes) -> bool:
        """Return whether it may tell of a route to a prefix that a host has announced."""
        if self.trusted:
            return True
        own = prefix.address == self.host and prefix.length == 8 * len(self.host)
        return origin == self.host and (own or any(one.covers(prefix) for one in self.allowed))

    @property
    def has_room(self) -> bool:
        """Whether one more of its routes is taken."""
        return len(self.routes) < (MAX_ROUTES if self.trusted else MAX_ROUTES_UNTRUSTED)

    def owe_receipt(self, number: int) -> None:
        """Have it learn that a message has come."""
        if len(self.receipts) < MAX_RECEIPTS:
            self.receipts.append(number)

    def take_receipt(self, number: int) -> None:
        """Take note that a message has arrived there."""
        sent = self._waiting.pop(number, None)
        if sent is None:
            return
        self._tries = 0
        for update in sent.updates:
            prefix = update.prefix
            # Not another one, that may have been lost.
            last = update is self.told.get(prefix) and prefix not in self.dirty
            if last and update.metric == INFINITY:
                self._forget(prefix)

    def _forget(self, prefix: Prefix) -> None:
        self.told.pop(prefix, None)
        self._taken_back.pop(prefix, None)

    def _is_over(self, update: Update, now: float) -> bool:
        """Return whether a route was taken back so long ago that it has expired there."""
        if update.metric != INFINITY:
            self._taken_back.pop(update.prefix, None)
            return False
        return now - self._taken_back.setdefault(update.prefix, now) >= HOLD_S

    def may_begin_anew(self, now: float) -> bool:
        """Return whether it may have forgotten what it was told: not so often, unless trusted."""
        return self.trusted or self._restarts.take(now)

    def begin_anew(self) -> None:
        """Have it told everything again that it was told: it may have forgotten that.

        It may as well have heard of some of it by a message that was late, so that all of it has to
        be said, and what holds no more has to be taken back.
        """
        self.dirty.update(dict.fromkeys(self.told))
        self._waiting.clear()
        self.requests.clear()
        self._tries = 0

    @property
    def has_something_to_say(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self.dirty or self.receipts or self.requests or self.asks)

    @property
    def due(self) -> float:
        """When something has to be done for it; infinity if nothing waits."""
        first = min((sent.due for sent in self._waiting.values()), default=NOT_DUE)
        return min(first, self.flush_at) if self.has_something_to_say else first

    def give_up_waiting(self, now: float) -> None:
        """Have it said again what should have had a receipt by now."""
        late = [number for number, sent in self._waiting.items() if sent.due <= now]
        if late:
            self._tries += 1
        for number in late:
            sent = self._waiting.pop(number)
            self.dirty.update((update.prefix, None) for update in sent.updates)
            for request in sent.requests:
                if len(self.requests) >= MAX_REQUESTS_AGAIN:
                    break
                self.requests.setdefault((request.prefix, request.origin), request)
            self.asks = self.asks or sent.asks

    def take_messages(
        self,
        room: int,
        tell: Callable[[Prefix], Optional[Update]],
        now: float,
    ) -> List[bytes]:
        """Return the bodies of messages of at most ``room`` bytes that say all that waits.

        ``tell`` returns what it has to be told of a prefix, None for nothing.
        """
        if room < HEAD_SIZE + len(encode_record(_LONGEST)):
            self.flush_at = now + BLOCKED_S
            return []
        self.flush_at = now + PACE_S
        messages = _Messages(self, self._instance, room)
        for number in self.receipts:
            messages.add(encode_record(Receipt(number)))
        self.receipts.clear()
        if self.asks:
            messages.add(encode_record(Everything()), asks=True)
            self.asks = False
        requests, self.requests = self.requests, {}
        for request in requests.values():
            messages.add(encode_record(request), request=request)
        dirty, self.dirty = self.dirty, {}
        for prefix in dirty:
            update = tell(prefix)
            if update is not None and self._is_over(update, now):
                self._forget(prefix)
            elif update is not None:
                self.told[prefix] = update
                messages.add(encode_record(update), update=update)
        messages.finish()
        for number, (updates, said, asks) in messages.numbered.items():
            pause_s = min(RETRY_MIN_S * 2**self._tries, RETRY_MAX_S)
            self._waiting[number] = _Sent(tuple(updates), tuple(said), asks, now + pause_s)
        return messages.bodies

    def next_number(self) -> int:
        """Return the number of the next message, 1 and up."""
        self._number = self._number % 0xFFFFFFFF + 1
        return self._number


_LONGEST = Update(Prefix(bytes(16), 128), bytes(4), 0, 0)
_Said = Tuple[List[Update], List[Request], bool]


class _Messages:
    """Records put together to messages."""

    def __init__(self, neighbour: Neighbour, instance: int, room: int) -> None:
        self._neighbour = neighbour
        self._instance = instance
        self._room = room
        self._records: List[bytes] = []
        self._size = HEAD_SIZE
        self._said: _Said = ([], [], False)
        self.bodies: List[bytes] = []
        #: What messages say that need a receipt, by number.
        self.numbered: Dict[int, _Said] = {}

    def add(
        self,
        record: bytes,
        update: Optional[Update] = None,
        request: Optional[Request] = None,
        asks: bool = False,
    ) -> None:
        """Put a record into the last message, or into another one."""
        if self._size + len(record) > self._room:
            self.finish()
        self._records.append(record)
        self._size += len(record)
        updates, requests, asked = self._said
        if update is not None:
            updates.append(update)
        if request is not None:
            requests.append(request)
        self._said = (updates, requests, asked or asks)

    def finish(self) -> None:
        """Close the last message."""
        if not self._records:
            return
        number = 0
        if any(self._said):
            number = self._neighbour.next_number()
            self.numbered[number] = self._said
        self.bodies.append(encode(self._instance, number, self._records))
        self._records, self._size, self._said = [], HEAD_SIZE, ([], [], False)
