"""Route exchange: which neighbours lead to which prefixes, without loops.

It is the Babel routing protocol (RFC 8966) between hosts that have strands to each other. Unlike a
link-state flood it never makes a loop, not even while it converges: a route is used only if the
neighbour that tells of it is nearer to the origin than this host has ever told anybody to be
(:mod:`ropeway.core.network.sources`). What differs from the RFC:

- There are no Hellos and IHUs (sections 3.4.1 and 3.4.2): the strand says whether a neighbour can
  be reached, both ways, and what the way there costs (:mod:`ropeway.core.network.link_cost`). A
  cost is 1 or more, so metrics grow with every hop, as section 3.5.2 demands.
- Messages go to one neighbour each, are sealed, and have receipts (section 3.3).
- The router-id is the virtual address of the host that announces (section 2.7). Its sequence
  numbers have 63 bits and begin with the epoch of its start, so they do not wrap around, and a host
  that starts again needs no other router-id (section 3.2.1).
- Hosts that are no routers tell of their own prefixes only, and are believed about nothing else.
- Several neighbours may lead to a prefix at once: all whose routes are feasible.
"""

from __future__ import annotations

import random as random_module
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from ropeway.core.frame.routes import (
    INFINITY,
    SEQNO_MAX,
    Receipt,
    Request,
    Update,
    decode,
)
from ropeway.core.network.neighbour import REFRESH_S, Neighbour, Route
from ropeway.core.network.route_table import RouteTable, margin
from ropeway.core.packet.prefix import Prefix
from ropeway.core.timers import NOT_DUE

#: A sequence number is asked for again after so many seconds (section 3.8.2).
REQUEST_S = 1.0
#: How far a request for a sequence number may go, in hops (section 3.8.1.2).
REQUEST_HOPS = 32
#: Requests of others that are remembered, so that each is passed on once.
MAX_REQUESTS = 1024
#: Hosts of which it is remembered which instance they were told last.
MAX_INSTANCES = 16384
#: So many instances before the last one are late, and not those of another start.
LATE_INSTANCES = 256
#: How often it is looked at what is too old, in seconds.
_SWEEP_S = 1.0


class Exchange:
    """What one host knows of routes; messages and times go in, messages and a table come out.

    ``own`` is its virtual address, four bytes, ``epoch`` grows with every start, 0 to 2**32 - 1. A
    host that is no ``router`` tells of no routes but its own. A neighbour that is none is told of
    a prefix only if that ``concerns`` all hosts. What nobody ``permits`` is not taken from any.
    """

    def __init__(
        self,
        own: bytes,
        epoch: int,
        router: bool,
        concerns: Callable[[Prefix], bool],
        permits: Callable[[Prefix], bool],
        random: random_module.Random,
    ) -> None:
        self._host = own
        self._first_seqno = epoch << 31
        self._router = router
        self._concerns = concerns
        self._permits = permits
        self._random = random
        #: By virtual address, four bytes.
        self.neighbours: Dict[bytes, Neighbour] = {}
        #: Where prefixes lead; :attr:`RouteTable.hops` is what this is all for.
        self.table = RouteTable(router)
        # This host's own prefixes, each with its sequence number.
        self._own: Dict[Prefix, int] = {}
        # Those of other hosts that concern everybody.
        self._public: Dict[Prefix, None] = {}
        self._asked: Dict[Prefix, float] = {}
        self._passed_on: Dict[Tuple[Prefix, bytes], Tuple[int, float]] = {}
        # The last instance towards each host, so that the next one follows it.
        self._instances: Dict[bytes, int] = {}
        self._busy: Dict[bytes, Neighbour] = {}
        self._sweep_at = NOT_DUE
        #: How many announcements were ignored, because they were not the neighbour's to make.
        self.refused = 0
        #: A time before which nothing is due, in monotonic seconds.
        self.due = NOT_DUE

    # What this host announces, and its neighbours.

    @property
    def announced(self) -> Tuple[Prefix, ...]:
        """This host's own prefixes."""
        return tuple(self._own)

    def announce(self, prefixes: Iterable[Prefix], now: float) -> None:
        """Announce these prefixes, and no others from now on."""
        before, wanted = self._own, dict.fromkeys(prefixes)
        self._own = {prefix: before.get(prefix, self._first_seqno) for prefix in wanted}
        for prefix in dict.fromkeys((*before, *wanted)):
            if (prefix in before) != (prefix in wanted):
                self.table.remove_of(prefix)
                self._select(prefix, now, everybody=True)
        self._sweep_soon(now)

    def neighbour_up(
        self, host: bytes, trusted: bool, allowed: Tuple[Prefix, ...], cost: int, now: float
    ) -> None:
        """Exchange routes with a host that can be reached now, or by other rules than before.

        A ``trusted`` one is a router, others may announce themselves and what is ``allowed``.
        ``cost`` is that of the way there, 1 or more.
        """
        before = self.neighbours.get(host)
        if before is not None:
            if (before.trusted, before.allowed) == (trusted, allowed):
                self.set_cost(host, cost, now)
                return
            self.neighbour_down(host, now)
        if len(self._instances) >= MAX_INSTANCES:
            self._instances.clear()
        before_it = self._instances.get(host) or self._random.getrandbits(32)
        instance = self._instances[host] = (before_it + 1) & 0xFFFFFFFF
        neighbour = Neighbour(host, trusted, allowed, max(1, cost), instance, now)
        neighbour.refresh_at = now + self._pause_s()
        self.neighbours[host] = neighbour
        self._tell_everything(neighbour)

    def neighbour_down(self, host: bytes, now: float) -> None:
        """Use no routes of a host any more, because it cannot be reached."""
        neighbour = self.neighbours.pop(host, None)
        if neighbour is not None:
            self._busy.pop(host, None)
            self._forget_routes(neighbour, now)

    def set_cost(self, host: bytes, cost: int, now: float) -> None:
        """Take what the way to a neighbour costs now, 1 or more."""
        neighbour = self.neighbours.get(host)
        if neighbour is not None and neighbour.cost != max(1, cost):
            neighbour.cost = max(1, cost)
            for prefix in list(neighbour.routes):
                self._select(prefix, now)

    # Messages.

    def receive(self, host: bytes, body: bytes, now: float) -> bool:
        """Take the body of a message of a host; False if it is none.

        From who is no neighbour, or not yet, nothing is taken: a neighbour says it again.
        """
        message = decode(body)
        if message is None:
            return False
        neighbour = self.neighbours.get(host)
        if neighbour is None:
            return True
        instance, number, records = message
        if 0 < ((neighbour.instance or instance) - instance) & 0xFFFFFFFF < LATE_INSTANCES:
            # On its way since before the neighbour was up again.
            return True
        if instance != neighbour.instance:
            if neighbour.instance is not None:
                if not neighbour.may_begin_anew(now):
                    return True
                neighbour.begin_anew()
                self._forget_routes(neighbour, now)
                self._tell_everything(neighbour)
            neighbour.instance = instance
        complete = True
        for record in records:
            if isinstance(record, Update):
                complete &= self._take_update(neighbour, number, record, now)
            elif isinstance(record, Request):
                self._take_request(neighbour, record, now)
            elif isinstance(record, Receipt):
                neighbour.take_receipt(record.number)
            elif neighbour.may_begin_anew(now):
                neighbour.dirty.update(dict.fromkeys(neighbour.told))
                self._tell_everything(neighbour)
            else:
                complete = False
        if number and complete:
            neighbour.owe_receipt(number)
        self._note_busy(neighbour)
        self._sweep_soon(now)
        return True

    def take_messages(self, room: Callable[[bytes], int], now: float) -> List[Tuple[bytes, bytes]]:
        """Do what is due, and return messages: to which neighbour, and the body.

        ``room`` returns how many bytes a body for a neighbour may have; 0 if it can have none now.
        """
        if now < self.due:
            return []
        if now >= self._sweep_at:
            self._sweep(now)
        messages = []
        for host, neighbour in list(self._busy.items()):
            if neighbour.due > now:
                continue
            neighbour.give_up_waiting(now)
            if neighbour.has_something_to_say and neighbour.flush_at <= now:

                def say(prefix: Prefix, to: Neighbour = neighbour) -> Optional[Update]:
                    return self._say(to, prefix, now)

                bodies = neighbour.take_messages(room(host), say, now)
                messages += [(host, body) for body in bodies]
            if neighbour.due == NOT_DUE:
                del self._busy[host]
        self._sweep_soon(now)
        busy = (neighbour.due for neighbour in self._busy.values())
        self.due = min(self._sweep_at, min(busy, default=NOT_DUE))
        return messages

    # What comes in.

    def _forget_routes(self, neighbour: Neighbour, now: float) -> None:
        for route in list(neighbour.routes.values()):
            self.table.remove(route)
            self._select(route.prefix, now)

    def _take_update(self, neighbour: Neighbour, number: int, update: Update, now: float) -> bool:
        """Take a route (section 3.5.3); False if it has to be told again later."""
        prefix = update.prefix
        if not (self._permits(prefix) and neighbour.may_announce(prefix, update.origin)):
            self.refused += 1
            return True
        if prefix in self._own or update.origin == self._host:
            # It leads back here; but what was told before has ended.
            update = Update(prefix, update.origin, update.seqno, INFINITY)
        route = neighbour.routes.get(prefix)
        if route is not None and not _is_later(number, route.number):
            return True
        changes = route is None or route.says != (update.origin, update.seqno, update.metric)
        if changes and not neighbour.trusted and not neighbour.changes.take(now):
            return False
        route = route or self.table.open(neighbour, prefix)
        if route is None:
            self.refused += 1
            return True
        self.table.fill(route, update, number, now)
        if changes:
            self._select(prefix, now)
        return True

    def _take_request(self, neighbour: Neighbour, request: Request, now: float) -> None:
        """Answer a request for a newer sequence number, or pass it on (section 3.8.1.2)."""
        prefix, origin = request.prefix, request.origin
        if not neighbour.trusted:
            # It tells of nothing but its own, so it never needs one.
            return
        if prefix in self._own:
            if origin == self._host and request.seqno > self._own[prefix]:
                self._own[prefix] = request.seqno
                self._tell(prefix, everybody=True)
            neighbour.dirty[prefix] = None
            return
        selected = self.table.selected.get(prefix)
        if selected is not None and (selected.origin != origin or selected.seqno >= request.seqno):
            neighbour.dirty[prefix] = None
            return
        known = self._passed_on.get((prefix, origin), (-1, 0.0))
        again = known[0] >= request.seqno and known[1] > now
        if not self._router or request.hops <= 1 or again or len(self._passed_on) >= MAX_REQUESTS:
            return
        others = [
            (not self.table.is_feasible(route), route.order)
            for route in self.table.of(prefix)
            if route.neighbour is not neighbour and route.origin == origin
        ]
        if others:
            self._passed_on[prefix, origin] = (request.seqno, now + REQUEST_S)
            further = Request(prefix, origin, request.seqno, request.hops - 1)
            self._request(self.neighbours[min(others)[1][1]], further)

    # What follows.

    def _select(self, prefix: Prefix, now: float, everybody: bool = False) -> None:
        """Choose among the routes to a prefix, and let neighbours know."""
        better = self.table.select(prefix, prefix in self._own, now)
        if prefix in self.table.selected and self._concerns(prefix):
            self._public[prefix] = None
        else:
            self._public.pop(prefix, None)
        if self._router:
            self._ask_for(prefix, better, now)
        self._tell(prefix, everybody)

    def _ask_for(self, prefix: Prefix, better: List[Route], now: float) -> None:
        """Ask for a newer sequence number where better routes may not be used.

        Without it a host whose way became longer would be without a route (section 3.8.2.1), or
        stay with a worse one (section 3.8.2.2) for good.
        """
        if not better:
            self._asked.pop(prefix, None)
            return
        if now < self._asked.get(prefix, 0.0):
            return
        self._asked[prefix] = now + REQUEST_S
        for route in better[:1] if prefix in self.table.selected else better:
            distance = self.table.sources.distance(prefix, route.origin)
            if distance is not None and distance[0] + 1 < SEQNO_MAX:
                wish = Request(prefix, route.origin, distance[0] + 1, REQUEST_HOPS)
                self._request(route.neighbour, wish)

    def _request(self, neighbour: Neighbour, request: Request) -> None:
        neighbour.requests[request.prefix, request.origin] = request
        self._note_busy(neighbour)

    def _wanted(self, neighbour: Neighbour, prefix: Prefix) -> Optional[Update]:
        """Return what a neighbour should know of a prefix, None if it need not know it."""
        seqno = self._own.get(prefix)
        if not (neighbour.trusted or self._concerns(prefix)):
            return None
        if seqno is not None:
            return Update(prefix, self._host, seqno, 0)
        if not self._router:
            return None
        route = self.table.selected.get(prefix)
        # It has a better way itself (split horizon, section 3.7.4).
        if route is None or route.neighbour is neighbour or route.origin == neighbour.host:
            return None
        return Update(prefix, route.origin, route.seqno, route.metric)

    def _say(self, neighbour: Neighbour, prefix: Prefix, now: float) -> Optional[Update]:
        """Return what to tell a neighbour of a prefix, and hold this host to it."""
        wanted, told = self._wanted(neighbour, prefix), neighbour.told.get(prefix)
        if wanted is not None:
            where = (prefix, wanted.origin, wanted.seqno, wanted.metric)
            if prefix in self._own or self.table.sources.note(*where, now):
                return wanted
        return told and Update(prefix, told.origin, told.seqno, INFINITY)

    def _tell(self, prefix: Prefix, everybody: bool = False) -> None:
        """Have those neighbours told of a prefix for whom that is news (section 3.7.2)."""
        everybody = everybody or self._concerns(prefix)
        for neighbour in self.neighbours.values():
            if not everybody and not neighbour.trusted:
                continue
            if _is_news(neighbour.told.get(prefix), self._wanted(neighbour, prefix)):
                neighbour.dirty[prefix] = None
                self._note_busy(neighbour)

    def _tell_everything(self, neighbour: Neighbour) -> None:
        others = self.table.selected if neighbour.trusted else self._public
        for prefix in (*self._own, *(others if self._router else ())):
            if self._wanted(neighbour, prefix) is not None:
                neighbour.dirty[prefix] = None
        self._note_busy(neighbour)

    def _note_busy(self, neighbour: Neighbour) -> None:
        due = neighbour.due
        if due != NOT_DUE:
            self._busy[neighbour.host] = neighbour
            self.due = min(self.due, due)

    # What time brings.

    def _sweep_soon(self, now: float) -> None:
        if self._sweep_at == NOT_DUE and (self.table or self._own):
            self._sweep_at = now + _SWEEP_S
        self.due = min(self.due, self._sweep_at)

    def _sweep(self, now: float) -> None:
        """Forget what is too old, and tell again what has to be."""
        again = [prefix for prefix, until in self._asked.items() if until <= now]
        for prefix in (*self.table.expire(now), *again):
            self._select(prefix, now)
        for key in [one for one, (_, until) in self._passed_on.items() if until <= now]:
            del self._passed_on[key]
        for neighbour in self.neighbours.values():
            if now >= neighbour.refresh_at:
                neighbour.refresh_at = now + self._pause_s()
                self._tell_everything(neighbour)
        self._sweep_at = NOT_DUE

    def _pause_s(self) -> float:
        return REFRESH_S * (0.75 + 0.5 * self._random.random())


def _is_later(number: int, than: int) -> bool:
    """Return whether a message was sent later, by their numbers of 32 bits."""
    return 0 < (number - than) & 0xFFFFFFFF < 1 << 31


def _is_news(told: Optional[Update], wanted: Optional[Update]) -> bool:
    """Return whether it matters soon that a neighbour learns something."""
    was = INFINITY if told is None else told.metric
    if wanted is None or wanted.metric == INFINITY:
        return was != INFINITY
    if told is None or was == INFINITY:
        return True
    if (told.origin, told.seqno) != (wanted.origin, wanted.seqno):
        return True
    return abs(wanted.metric - was) > margin(was)
