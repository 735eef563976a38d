"""When interfaces are dumped, and routes looked up."""

from __future__ import annotations

from ropeway.steward.interface import Change

# Tuning
#: Netlink may lose an event; a dump this often finds the change.
DUMP_EVERY_S = 30.0
#: Routes are looked up again this often without any event: that is a question for each pair of an
#: own and a far address, and the kernel says when it has dropped events.
LOOKUP_EVERY_S = 300.0
#: A burst of netlink events costs one dump in this time ...
DUMP_GAP_S = 0.05
#: ... and dumps take no more than one part in this of the time, unless one takes very long.
DUMP_SHARE = 10
DUMP_GAP_MAX_S = 2.0
#: Routes to far addresses that the engine has met since the last look are looked up this often.
LOOKUP_GAP_S = 0.05

_INF = float("inf")


class DumpSchedule:
    """When interfaces and routes are dumped, and routes to far addresses looked up.

    All times are seconds of the loop's clock.
    """

    def __init__(self, now: float) -> None:
        self._interfaces_due = now
        self._routes_due = _INF
        self._lookup_due = _INF
        self._looked_up_at = -_INF
        self._gap_s = DUMP_GAP_S
        self._dumped_at = -_INF
        self._hinted = False
        self._outdated_at = -_INF

    def deadline(self) -> float:
        """Return when the next dump is due."""
        return min(self._interfaces_due, self._routes_due, self._lookup_due)

    def soon(self, now: float, change: Change) -> None:
        """Dump what may have changed at once, or as soon as the gap after the last dump allows."""
        due = max(now, self._dumped_at + self._gap_s)
        self._hinted |= change is not Change.NOTHING
        if change is Change.INTERFACES:
            self.by(due)
        elif change is Change.ROUTES:
            self._routes_due = min(self._routes_due, due)

    def by(self, at: float) -> None:
        """Dump everything at `at` at the latest."""
        self._interfaces_due = min(self._interfaces_due, at)

    def look_up_soon(self, now: float) -> None:
        """Look routes up at once, or as soon as the gap after the last time allows."""
        self._lookup_due = max(now, self._looked_up_at + LOOKUP_GAP_S)

    def is_lookup_due(self, now: float) -> bool:
        """Say whether routes have to be looked up now."""
        return now >= self._lookup_due

    def routes_may_differ(self, now: float) -> bool:
        """Say whether all look-ups have to be made again, and take note that they are."""
        if not self._hinted and now < self._outdated_at:
            return False
        self._hinted, self._outdated_at = False, now + LOOKUP_EVERY_S
        return True

    def note_lookup(self, now: float) -> None:
        """Take note that the routes to all far addresses were looked up."""
        self._lookup_due, self._looked_up_at = _INF, now

    def due(self, now: float) -> Change:
        """Return what has to be dumped now, and take note that it is."""
        if now >= self._interfaces_due:
            self._interfaces_due, self._routes_due = now + DUMP_EVERY_S, _INF
            return Change.INTERFACES
        if now >= self._routes_due:
            self._routes_due = _INF
            return Change.ROUTES
        return Change.NOTHING

    def note(self, began_at: float, ended_at: float) -> None:
        """Let the next dump wait the longer the longer this one took, within bounds.

        On a busy host most of that is waiting for a processor; a change must not be seen much later
        for it.
        """
        self._dumped_at = ended_at
        self._gap_s = min(max(DUMP_GAP_S, DUMP_SHARE * (ended_at - began_at)), DUMP_GAP_MAX_S)
