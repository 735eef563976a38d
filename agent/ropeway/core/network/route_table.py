"""The routes that neighbours have told, and which of them are used (RFC 8966, section 3.6)."""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Tuple

from ropeway.core.frame.routes import INFINITY, Update
from ropeway.core.network.neighbour import HOLD_S, MARGIN, MARGIN_SHARE, Neighbour, Route
from ropeway.core.network.sources import Sources, is_better
from ropeway.core.packet.prefix import Prefix

#: Prefixes that are known at most, all neighbours together.
MAX_PREFIXES = 8192
#: Next hops of a prefix that are given, at most.
MAX_HOPS = 4
#: A prefix that nothing leads to any more is unreachable for so long, in seconds, even if a shorter
#: one has it: others may still send its packets here (section 2.8).
UNREACHABLE_S = 10.0
#: A route that was taken back is remembered for so long, in seconds, so that an older message that
#: comes later does not bring it back.
RETRACTED_S = 10.0


class RouteTable:
    """Routes by prefix and neighbour, and the next hops that follow from them."""

    def __init__(self, transit: bool) -> None:
        """``transit`` says whether neighbours are told of routes, and send packets here then."""
        self._transit = transit
        self.sources = Sources()
        self._routes: Dict[Prefix, Dict[bytes, Route]] = {}
        #: The route to each prefix that neighbours are told of.
        self.selected: Dict[Prefix, Route] = {}
        #: The neighbours that lead to each prefix, best first; empty where none does any more.
        self.hops: Dict[Prefix, Tuple[bytes, ...]] = {}
        #: Counts the changes of :attr:`hops`.
        self.version = 0
        self._unreachable: Dict[Prefix, float] = {}
        self._since: Dict[Prefix, float] = {}

    def __bool__(self) -> bool:
        """Return whether there is anything that time changes."""
        return bool(self._routes or self._unreachable or len(self.sources))

    def since(self, prefix: Prefix) -> float:
        """Return since when the next hops of a prefix are what they are, in monotonic seconds."""
        return self._since.get(prefix, 0.0)

    def of(self, prefix: Prefix) -> Iterator[Route]:
        """Give the routes to a prefix, those that were taken back left out."""
        return (one for one in self._routes.get(prefix, {}).values() if one.metric < INFINITY)

    def open(self, neighbour: Neighbour, prefix: Prefix) -> Optional[Route]:
        """Return a new route, to be filled; None if there is no room for it."""
        if not neighbour.has_room:
            return None
        if prefix not in self._routes and len(self._routes) >= MAX_PREFIXES:
            return None
        route = neighbour.routes[prefix] = Route(prefix, neighbour)
        self._routes.setdefault(prefix, {})[neighbour.host] = route
        return route

    def fill(self, route: Route, update: Update, number: int, now: float) -> None:
        """Have a route say what a message says."""
        route.origin, route.seqno, route.said = update.origin, update.seqno, update.metric
        route.number = number
        route.expires_at = now + (RETRACTED_S if update.metric == INFINITY else HOLD_S)

    def remove(self, route: Route) -> None:
        """Forget a route; the prefix has to be selected again then."""
        del route.neighbour.routes[route.prefix]
        routes = self._routes[route.prefix]
        del routes[route.neighbour.host]
        if not routes:
            del self._routes[route.prefix]

    def remove_of(self, prefix: Prefix) -> None:
        """Forget all routes to a prefix, as above."""
        for route in list(self._routes.get(prefix, {}).values()):
            self.remove(route)

    def is_feasible(self, route: Route) -> bool:
        """Return whether a route cannot lead back to this host."""
        return self.sources.is_feasible(route.prefix, route.origin, route.seqno, route.said)

    def select(self, prefix: Prefix, here: bool, now: float) -> List[Route]:
        """Choose among the routes to a prefix; ``here`` if it is this host's own.

        Returns the better ones that must not be used, the best one first. A route that is used is
        kept until another one is better by more than metrics sway (appendix A.3).
        """
        routes = sorted(self.of(prefix), key=lambda one: one.order)
        feasible = [route for route in routes if self.is_feasible(route)]
        before = self.selected.get(prefix)
        chosen = feasible[0] if feasible else None
        if chosen is not None and before is not None and before in feasible:
            keep = before.metric <= chosen.metric + margin(chosen.metric)
            chosen = before if keep else chosen
        if chosen is None or here:
            self.selected.pop(prefix, None)
            self._note_hops(prefix, (), here, now)
        else:
            self.selected[prefix] = chosen
            rest = [one for one in feasible if one is not chosen and self._may_join(one, chosen)]
            hops = tuple(one.neighbour.host for one in (chosen, *rest))
            self._note_hops(prefix, hops[:MAX_HOPS], here, now)
        limit = INFINITY + margin(INFINITY) if chosen is None else chosen.metric
        return [
            route
            for route in routes
            if route not in feasible and route.metric + margin(route.metric) < limit
        ]

    def _may_join(self, route: Route, chosen: Route) -> bool:
        """Return whether a feasible route is still one when neighbours know of the chosen one.

        What another host has announced may lead back here.
        """
        if route.origin != chosen.origin:
            return False
        told = (chosen.seqno, chosen.metric)
        return not self._transit or is_better((route.seqno, route.said), told)

    def _note_hops(self, prefix: Prefix, hops: Tuple[bytes, ...], here: bool, now: float) -> None:
        before = self.hops.get(prefix)
        if here:
            if before is None:
                return
            del self.hops[prefix]
            self._unreachable.pop(prefix, None)
        elif hops:
            if before == hops:
                return
            self.hops[prefix] = hops
            self._unreachable.pop(prefix, None)
        elif before:
            self.hops[prefix] = ()
            self._unreachable[prefix] = now + UNREACHABLE_S
        else:
            return
        self._since[prefix] = now
        self.version += 1

    def expire(self, now: float) -> List[Prefix]:
        """Forget what is too old; return the prefixes that have to be selected again."""
        found: Dict[Prefix, None] = {}
        for prefix, routes in list(self._routes.items()):
            for route in [one for one in routes.values() if one.expires_at <= now]:
                self.remove(route)
                found[prefix] = None
        for prefix in [one for one, until in self._unreachable.items() if until <= now]:
            del self._unreachable[prefix], self.hops[prefix]
            self.version += 1
        for prefix in [one for one in self._since if one not in self.hops]:
            del self._since[prefix]
        self.sources.expire(now)
        return list(found)


def margin(metric: int) -> int:
    """Return by how much metrics differ before it matters."""
    return max(MARGIN, metric // MARGIN_SHARE)
