"""What follows from changed connections and sessions, done once for each batch of work."""

from __future__ import annotations

from collections import Counter
from typing import Dict, List

from ropeway.core.drops import Drop
from ropeway.core.network.routes import Routes
from ropeway.core.redundancy import Watch
from ropeway.core.strand.secure import Held, SecureStrand


class Settling:
    """The strands whose carrying connections have to be chosen again, and their waiting packets.

    Nothing else writes what the data side reads: carrying connections and next hops.
    """

    def __init__(self, routes: Routes, watch: Watch, dropped: Counter[Drop]) -> None:
        self._routes = routes
        self._watch = watch
        self._dropped = dropped
        #: Strands whose carrying connections have to be chosen again, in the order of the changes.
        self.unsettled: Dict[SecureStrand, None] = {}
        #: Packets that waited for a session and can be sent now.
        self.released: List[Held] = []
        #: Packets that waited for a session that did not come.
        self.given_up: List[Held] = []
        #: Packets that have waited for longer than that, in seconds, are not sent any more.
        self.max_age_s = float("inf")

    def note(self, strand: SecureStrand) -> None:
        """Have a strand's carrying connections chosen again."""
        self.unsettled[strand] = None

    def add(self) -> None:
        """Have next hops worked out again, because a strand was added."""
        self._routes.forget()

    def remove(self, strand: SecureStrand) -> None:
        """Give up a strand's packets and the next hops that lead to it."""
        self.give_up(strand)
        self.unsettled.pop(strand, None)
        self._routes.forget()

    def give_up(self, strand: SecureStrand) -> None:
        """Have the senders of a strand's waiting packets learn that these went nowhere."""
        self.given_up += strand.held
        strand.held = []

    def links_changed(self) -> None:
        """Have it looked at soon over which links peers are reached."""
        self._watch.look_soon()

    def settle(self, now: float) -> None:
        """Choose carrying connections again, and release packets that can be sent now."""
        if not self.unsettled:
            return
        self._watch.look_soon()
        for strand in list(self.unsettled):
            if strand.choose():
                self._routes.forget()
            if strand.held and strand.carrying:
                self._release(strand, now)
        self.unsettled.clear()

    def _release(self, strand: SecureStrand, now: float) -> None:
        fresh = [held for held in strand.held if now - held[2] <= self.max_age_s]
        self._dropped[Drop.EXPIRED] += len(strand.held) - len(fresh)
        self.released += fresh
        strand.held = []
