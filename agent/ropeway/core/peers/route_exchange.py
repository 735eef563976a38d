"""Routes exchanged with the hosts that can be reached, and what follows for packets.

Strands are the neighbours of :class:`ropeway.core.network.exchange.Exchange`: those to routers, on
a router all, and elsewhere those where one end has networks behind it.
"""

from __future__ import annotations

import random as random_module
from typing import Any, Dict, List, Optional, Tuple

from ropeway.core.drops import Drop
from ropeway.core.frame.message import Kind
from ropeway.core.network.exchange import Exchange
from ropeway.core.network.link_cost import LinkCost
from ropeway.core.network.routes import Routes
from ropeway.core.network.subnets import may_be_behind
from ropeway.core.packet import ipv4
from ropeway.core.packet.prefix import Prefix, of_host, parse
from ropeway.core.peers.messages import Messages
from ropeway.core.settings import UNASSIGNED, SecureSettings
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE

#: Strands are looked at this often, in seconds: what they cost, and whether they take messages.
LOOK_S = 1.0
#: So soon after one of them has changed, all that changed by then together.
LOOK_SOON_S = 0.05


class RouteExchange:
    """Tells the exchange of strands and messages, and the routes of what comes of it."""

    def __init__(
        self,
        settings: SecureSettings,
        tables: Tables[SecureStrand],
        routes: Routes,
        messages: Messages,
        random: random_module.Random,
        now: float,
    ) -> None:
        self._tables = tables
        self._routes = routes
        self._messages = messages
        network = self._network = parse(settings.network)
        self._exchange = Exchange(
            ipv4.pack(settings.address),
            settings.epoch,
            settings.forward,
            lambda prefix: not network.covers(prefix),
            lambda prefix: network.covers(prefix) or may_be_behind(prefix),
            random,
        )
        self._costs: Dict[str, LinkCost] = {}
        self._forward = settings.forward
        self._routers: Tuple[str, ...] = ()
        self._look_at = now
        self._version = 0
        self._refused = 0
        #: Whether :meth:`outside` may return others than before.
        self.news = False
        messages.handlers[Kind.ROUTES] = self._take
        self.set_settings(settings, now)

    def set_settings(self, settings: SecureSettings, now: float) -> None:
        """Take what this host announces, and what others may."""
        self._routers = settings.routers
        subnets = tuple(map(parse, settings.announce))
        allowed = {peer.host: tuple(map(parse, peer.allowed)) for peer in settings.peers}
        self._routes.subnets.set(subnets, allowed)
        # With one router at most everybody knows the way to every host.
        several = len(self._routers) + self._forward > 1 and settings.address != UNASSIGNED
        own = (of_host(ipv4.pack(settings.address)),) if several else ()
        self._exchange.announce((*own, *subnets), now)
        self.look(now)

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""
        return min(self._look_at, self._exchange.due)

    def tick(self, now: float) -> None:
        """Look at strands where that is due, and say what has to be said."""
        if now >= self._look_at:
            self.look(now)
        for host, body in self._exchange.take_messages(self._room, now):
            self._messages.send(self._tables.strands[ipv4.text(host)], Kind.ROUTES, body)
        if self._exchange.table.version != self._version:
            self._version = self._exchange.table.version
            self._routes.set_learnt(self.learnt())
            self.news = True
        self._tables.dropped[Drop.NOT_ALLOWED] += self._exchange.refused - self._refused
        self._refused = self._exchange.refused

    def look_soon(self, now: float) -> None:
        """Have it looked at soon which hosts can be reached, if that matters at all."""
        if self._look_at != NOT_DUE:
            self._look_at = min(self._look_at, now + LOOK_SOON_S)

    def look(self, now: float) -> None:
        """Take note of which hosts can be reached, and what the ways there cost."""
        strands = self._tables.strands
        ours = bool(self._forward or self._routes.subnets.own)
        allowed = self._routes.subnets.allowed
        for host in [host for host in self._costs if host not in strands]:
            self._leave(host, now)
        if not (ours or allowed or self._routers):
            for host in list(self._costs):
                self._leave(host, now)
            self._look_at = NOT_DUE
            return
        self._look_at = now + LOOK_S
        for host, strand in strands.items():
            trusted = host in self._routers
            concerned = ours or trusted or host in allowed
            if concerned and self._can_be_told(strand):
                neighbour = self._exchange.neighbours.get(strand.host_bytes)
                permitted = allowed.get(host, ())
                if neighbour is None or (neighbour.trusted, neighbour.allowed) != (
                    trusted,
                    permitted,
                ):
                    cost = _measure(self._costs.setdefault(host, LinkCost()), strand)
                    self._exchange.neighbour_up(strand.host_bytes, trusted, permitted, cost, now)
                elif neighbour.routes:
                    # Of the others, which may be a thousand, the cost is no matter.
                    cost = _measure(self._costs[host], strand)
                    self._exchange.set_cost(strand.host_bytes, cost, now)
            elif host in self._costs:
                self._leave(host, now)

    def learnt(self) -> Dict[Prefix, Tuple[str, ...]]:
        """Return the prefixes that others have announced, with the hosts that lead there."""
        hops = self._exchange.table.hops
        return {prefix: tuple(map(ipv4.text, hosts)) for prefix, hosts in hops.items()}

    def outside(self) -> Tuple[str, ...]:
        """Return the prefixes outside the virtual network that can be reached, as text."""
        self.news = False
        hops = self._exchange.table.hops
        return tuple(
            str(prefix)
            for prefix in sorted(hops)
            if hops[prefix] and not self._network.covers(prefix)
        )

    def status(self, now: float) -> Dict[str, Any]:
        """Return the routes, ready for JSON."""
        table = self._exchange.table
        routes: List[Dict[str, Any]] = []
        for prefix, hosts in sorted(self.learnt().items()):
            selected = table.selected.get(prefix)
            routes.append(
                {
                    "prefix": str(prefix),
                    "origin": None if selected is None else ipv4.text(selected.origin),
                    "next_hops": list(hosts),
                    "metric": None if selected is None else selected.metric,
                    "since_s": round(now - table.since(prefix), 1),
                }
            )
        return {"announced": [str(prefix) for prefix in self._exchange.announced], "learnt": routes}

    def _leave(self, host: str, now: float) -> None:
        del self._costs[host]
        self._exchange.neighbour_down(ipv4.pack(host), now)

    def _room(self, host: bytes) -> int:
        strand = self._tables.strands.get(ipv4.text(host))
        return 0 if strand is None else self._messages.room(strand)

    def _can_be_told(self, strand: SecureStrand) -> bool:
        return strand.best_state == State.ESTABLISHED and self._messages.room(strand) > 0

    def _take(self, strand: SecureStrand, body: bytes, now: float) -> None:
        """Take a message; what comes of it is done with the next tick."""
        if not self._exchange.receive(strand.host_bytes, body, now):
            self._tables.dropped[Drop.MALFORMED] += 1


def _measure(cost: LinkCost, strand: SecureStrand) -> int:
    """Return what the way over a strand costs, by its quickest connection.

    A packet gets lost where it does so on all of them.
    """
    rtt_ms: Optional[float] = None
    lost = 1.0
    for connection in strand.carrying:
        estimate = connection.quality.estimate
        if estimate.rtt_ms is not None and (rtt_ms is None or estimate.rtt_ms < rtt_ms):
            rtt_ms = estimate.rtt_ms
        lost *= estimate.loss_out.share or 0.0
    return cost.note(rtt_ms, lost)
