"""What links have used of their budgets: kept on disk for the engine, period by period.

The engine counts, and says what each link has carried since its start. This end knows the calendar,
and says what of it counts. While the engine runs, up to a reserve more than that is on disk as
used. A start that finds it so, because all processes were killed or the power went, counts it.
"""

from __future__ import annotations

import datetime
import logging
from typing import Callable, Dict, Optional, Tuple

from ropeway.app.config.model import Budget, setting_of
from ropeway.app.store import budgets as store
from ropeway.app.store.budgets import Use
from ropeway.steward import answers, orders, periods
from ropeway.steward.wall_clock import WallClock

log = logging.getLogger("ropeway")

# Tuning
#: The clock may be set, so the ends of periods are looked for this often.
LOOK_EVERY_S = 30.0

#: Budgets of links by interface name or shell pattern.
ByPattern = Tuple[Tuple[str, Budget], ...]


class Budgets:
    """Keeps the use of the links of one agent.

    `boot` gives seconds since boot, `make_clock` a wall clock from the time of the last write.
    """

    def __init__(
        self,
        boot: Callable[[], float],
        say: Callable[[answers.BudgetsKept], None],
        make_clock: Optional[Callable[[float], WallClock]] = None,
    ) -> None:
        self._boot = boot
        self._say = say
        self._make_clock = make_clock or (lambda seen: WallClock(boot, seen))
        self._clock: Optional[WallClock] = None
        self._device_name = ""
        self._budgets: ByPattern = ()
        self._uses: Dict[str, Use] = {}
        # The links that the engine counts by now.
        self._counted: Dict[str, Budget] = {}
        self._due = float("inf")
        self._warned = False

    def take(self, device_name: str, budgets: ByPattern, order: orders.CountUse) -> None:
        """Count what links have carried; keep it, and say what counts of it."""
        clock = self._clock
        if clock is None:
            self._device_name = device_name
            seen, self._uses = store.read(device_name)
            clock = self._clock = self._make_clock(seen)
        now = clock.now()
        self._budgets = budgets
        self._counted = {}
        for name, total in order.totals.items():
            budget = setting_of(budgets, name)
            if budget is not None:
                self._counted[name] = budget
                use = self._use_of(name, budget, now)
                _count(use, order.run, total)
                use.reserved = 0 if order.final else budget.reserve
        for name, used in order.correct.items():
            if name in self._counted:
                self._uses[name].used = used
        self._write(now)
        self._tell()
        self._due = self._boot() + LOOK_EVERY_S

    def deadline(self) -> float:
        """Return when it is looked whether a period has ended."""
        return self._due

    def tick(self, now: float) -> None:
        """See whether a period has ended, and say so."""
        if now < self._due or self._clock is None:
            return
        self._due = now + LOOK_EVERY_S
        wall_s = self._clock.now()
        before = {name: self._uses[name].start for name in self._counted}
        after = {
            name: self._use_of(name, budget, wall_s).start for name, budget in self._counted.items()
        }
        if after != before:
            self._write(wall_s)
            self._tell()

    def _use_of(self, name: str, budget: Budget, wall_s: float) -> Use:
        """Return the use of a link in the period that counts now."""
        start = periods.start_of(budget, wall_s)
        rule = f"{budget.per} {budget.reset_day}"
        use = self._uses.get(name)
        if use is None:
            if len(self._uses) >= store.LINKS_MAX:
                del self._uses[min(self._uses, key=lambda one: self._uses[one].start)]
            use = self._uses[name] = Use(start, rule=rule)
        if use.rule != rule:
            # Other periods than before: what was used is not given again.
            use.rule, use.start, use.earlier = rule, start, []
        _go_to(use, start)
        return use

    def _write(self, wall_s: float) -> None:
        try:
            store.write(self._device_name, wall_s, self._uses)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "what links use of their budgets cannot be written (%s), so it is lost when the"
                    " agent ends: let the user of the agent write there",
                    error.strerror or error,
                )
        else:
            self._warned = False

    def _tell(self) -> None:
        kept = {}
        for name, budget in self._counted.items():
            use = self._uses[name]
            resets = periods.begins_at(periods.end_of(budget, use.start))
            moment = datetime.datetime.fromtimestamp(resets, datetime.timezone.utc).astimezone()
            kept[name] = answers.KeptUse(use.total, use.used, moment.isoformat())
        self._say(answers.BudgetsKept(kept))


def _count(use: Use, run: str, total: int) -> None:
    """Count what a run of the agent has carried in all by now."""
    if use.run == run:
        use.used += max(0, total - use.total)
    else:
        # The run before has not said the last of it, unless it has ended in an orderly way.
        use.used += use.reserved + total
    use.run, use.total = run, total


def _go_to(use: Use, start: datetime.date) -> None:
    """Go to the period that begins with `start`; nothing that was used is forgotten by going back.

    Forward, a new period begins. Backward, because a clock that was wrong has been set, all that
    was used since counts for the period of `start`.
    """
    if start > use.start:
        use.earlier = [*use.earlier, (use.start, use.used)][-store.EARLIER_MAX :]
        use.start, use.used = start, 0
    elif start < use.start:
        while use.earlier and use.earlier[-1][0] >= start:
            use.used += use.earlier.pop()[1]
        use.start = start
