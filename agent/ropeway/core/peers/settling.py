"""What follows from changed connections and sessions, done once for each batch of work."""

from __future__ import annotations

from typing import Tuple

from ropeway.core.drops import Drop
from ropeway.core.network.routes import Routes
from ropeway.core.peers.policies import Policies
from ropeway.core.redundancy import Watch
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE
from ropeway.core.tuning import PROBE_S, SPARE_SAID_S


class Settling:
    """The strands whose carrying connections have to be chosen again, and their waiting packets.

    Carrying connections are chosen here alone, and next hops are made invalid here; both are what
    the data side reads.
    """

    def __init__(
        self, tables: Tables[SecureStrand], routes: Routes, policies: Policies, watch: Watch
    ) -> None:
        self._tables = tables
        self._policies = policies
        self._routes = routes
        self._watch = watch
        #: Packets that have waited for longer than that, in seconds, are not sent any more.
        self.max_age_s = float("inf")

    def note(self, strand: SecureStrand) -> None:
        """Have a strand's carrying connections chosen again."""
        self._tables.unsettled[strand] = None

    def note_strand_added(self) -> None:
        """Have next hops worked out again, because a strand was added."""
        self._routes.forget()

    def note_strand_removed(self, strand: SecureStrand) -> None:
        """Give up a strand's packets and the next hops that lead to it."""
        self.give_up(strand)
        self._tables.unsettled.pop(strand, None)
        self._tables.woken[:] = [woken for woken in self._tables.woken if woken is not strand]
        self._policies.forget(strand)
        self._routes.forget()

    def give_up(self, strand: SecureStrand) -> None:
        """Have the senders of a strand's waiting packets learn that these went nowhere."""
        self._tables.given_up += strand.waiting.take()

    def note_links_changed(self) -> None:
        """Have it looked at soon over which links peers are reached."""
        self._watch.look_soon()

    def settle(self, now: float) -> bool:
        """Choose carrying connections again, and release packets that can be sent now.

        Return whether any strand carries or is established otherwise than before.
        """
        if not self._tables.unsettled:
            return False
        changed = False
        self._watch.look_soon()
        for strand in list(self._tables.unsettled):
            before, carried = strand.spares, strand.carrying
            if strand.choose():
                changed = True
                self._routes.forget()
                for connection in carried:
                    if connection not in strand.carrying:
                        connection.probe_s = PROBE_S
            if strand.spares != before:
                self._note_spares(strand, before, now)
            self._policies.look(strand, now)
            if strand.waiting.packets and strand.carrying:
                self._release(strand, now)
        self._tables.unsettled.clear()
        return changed

    def _note_spares(
        self, strand: SecureStrand, before: Tuple[SecureConnection, ...], now: float
    ) -> None:
        """Let connections be quiet that carry nothing now, and look at those that carry again."""
        for connection in strand.spares:
            if connection not in before:
                connection.spare_at = now + SPARE_SAID_S
        again = [connection for connection in before if connection not in strand.spares]
        # Those that were spare for a moment only are lively still: a host that changes its mind
        # with every frame does not make this one speak on all connections each time.
        quiet = any(now >= connection.spare_at for connection in again)
        for connection in again:
            connection.spare_at = NOT_DUE
        if quiet and strand.is_active(now):
            self._tables.woken.append(strand)

    def _release(self, strand: SecureStrand, now: float) -> None:
        waiting = strand.waiting.take()
        fresh = [held for held in waiting if now - held[2] <= self.max_age_s]
        self._tables.dropped[Drop.EXPIRED] += len(waiting) - len(fresh)
        self._tables.released += fresh
