"""The budgets of links: what they have used, and what they are for once that is all.

The sockets count, the steward keeps (:mod:`ropeway.steward.budgets`).
"""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any, Callable, Dict, List, Optional, Tuple

from ropeway.app.config.model import LAST, Budget, Config, setting_of
from ropeway.app.engine.loop import Loop
from ropeway.app.engine.ports import Ports
from ropeway.core.link import METERED_COST, Purpose, Role
from ropeway.kernel.meter import Meter
from ropeway.steward.answers import BudgetsKept, KeptUse, Snapshot
from ropeway.steward.client import Steward
from ropeway.steward.orders import LINKS_MAX, CountUse

log = logging.getLogger("ropeway")

# Tuning
#: What was used is kept so soon, however little it is, and where the budget is used up anyway.
KEEP_EVERY_S = 60.0
KEEP_USED_UP_S = 5.0
#: The share of a budget at which it is a warning.
WARN_SHARE = 0.8

_INF = float("inf")


class _Use:
    """What a link has carried in this run, and what of it counts."""

    def __init__(self, passed: Callable[[], None]) -> None:
        self.meter = Meter(passed)
        self.kept: Optional[KeptUse] = None
        self.told_total = -1
        self.told_at = -_INF
        self.warned_share = 0.0

    def used(self) -> int:
        """Return how many bytes of the budget are used in the present period."""
        if self.kept is None:
            return self.meter.bytes
        return self.kept.used + self.meter.bytes - self.kept.total


class Budgets:
    """Counts what links with a budget carry, and says what they are for.

    `changed` is called when a link is for something else than before.
    """

    def __init__(
        self,
        loop: Loop,
        steward: Steward,
        ports: Ports,
        config: Config,
        changed: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._steward = steward
        self._ports = ports
        self._budgets = config.budgets
        self._costs, self._metered = config.costs, config.metered
        self._changed = changed
        # Another run of the agent counts from 0 again.
        self._run = os.urandom(8).hex()
        # By interface name; those of links that are gone stay, as they may come again.
        self._uses: Dict[str, _Use] = {}
        self._names: Dict[int, str] = {}
        self._roles: Dict[str, Role] = {}
        self._due = _INF
        self._passed = False
        steward.on(BudgetsKept, self._take)

    # --- what is counted

    def set(self, config: Config, now: float) -> None:
        """Go over to other budgets and costs; what was used counts for them too."""
        before = (self._costs, self._metered)
        self._costs, self._metered = config.costs, config.metered
        if config.budgets != self._budgets:
            self._budgets = config.budgets
            self._follow(now)
        if (config.costs, config.metered) != before:
            self._changed(now)

    def follow(self, snapshot: Snapshot, now: float) -> None:
        """Count what the links of a snapshot carry, as far as they have a budget."""
        names = {link.index: link.name for link in snapshot.links}
        if names != self._names:
            self._names = names
            self._follow(now)

    def _follow(self, now: float) -> None:
        counted = [name for name in self._names.values() if self._budget(name)][:LINKS_MAX]
        for name in counted:
            if name not in self._uses:
                self._uses[name] = _Use(self._note_passed)
        meters = {
            index: self._uses[name].meter for index, name in self._names.items() if name in counted
        }
        self._ports.set_meters(meters)
        if counted:
            # Not in the place of an earlier one: it has to follow what changes the budgets.
            self._steward.send(self._order(now))
        self._judge(now)

    def _budget(self, name: str) -> Optional[Budget]:
        return setting_of(self._budgets, name)

    def _counted(self) -> List[Tuple[str, Budget, _Use]]:
        """Return the links that are there and have a budget."""
        found = []
        for name in self._names.values():
            budget = self._budget(name)
            if budget is not None and name in self._uses:
                found.append((name, budget, self._uses[name]))
        return found

    # --- what is kept

    def start_again(self, now: float) -> None:
        """Tell another steward what there is to keep."""
        if self._counted():
            self._tell(now)

    def finish(self) -> None:
        """Say the last word of this run, so that nothing is guessed at the next start."""
        if self._counted():
            order = dataclasses.replace(self._order(self._loop.clock()), final=True)
            self._steward.send(order, replaces=CountUse)

    def correct(self, name: str, used: int, now: float) -> None:
        """Take it that so many bytes are used; `ValueError` for a link without a budget."""
        if name not in (counted[0] for counted in self._counted()):
            raise ValueError(f"there is no link {name} that has a budget")
        self._steward.send(dataclasses.replace(self._order(now), correct={name: used}))

    def _tell(self, now: float) -> None:
        self._steward.send(self._order(now), replaces=CountUse)

    def _order(self, now: float) -> CountUse:
        """Return the order to keep what was used by now."""
        totals = {}
        for name, _, use in self._counted():
            totals[name] = use.told_total = use.meter.bytes
            use.told_at = now
        return CountUse(self._run, totals, {})

    def _take(self, kept: BudgetsKept, _descriptors: List[int], now: float) -> None:
        for name, use in kept.links.items():
            if name in self._uses:
                self._uses[name].kept = use
        self._judge(now)

    # --- what follows

    def deadline(self) -> float:
        """Return when it is looked at what was used."""
        return self._due

    def tick(self, now: float) -> None:
        """Keep what was used, and see whether a budget is used up."""
        if now < self._due:
            return
        self._passed = False
        self._judge(now)
        if any(self._is_due(budget, use, now) for _, budget, use in self._counted()):
            self._tell(now)
        self._set_marks(now)

    def _note_passed(self) -> None:
        """Have what was used looked at before more is sent or received."""
        if not self._passed:
            self._passed = True
            self._due = -_INF
            self._loop.sooner(-_INF)

    def _is_due(self, budget: Budget, use: _Use, now: float) -> bool:
        """Return whether what was used has to be kept now."""
        passed = use.meter.bytes - use.told_total
        if use.used() >= budget.bytes:
            return passed > 0 and now >= use.told_at + KEEP_USED_UP_S
        return passed >= _step(budget) or (passed > 0 and now >= use.told_at + KEEP_EVERY_S)

    def _judge(self, now: float) -> None:
        """Work out what links are for, and warn of budgets that come to an end."""
        roles = {}
        for name, budget, use in self._counted():
            used = use.used()
            if used >= budget.bytes:
                roles[name] = Role.LAST if budget.then == LAST else Role.NEVER
            self._warn(name, budget, use, used)
        if roles != self._roles:
            self._roles = roles
            self._changed(now)
        self._set_marks(now)

    def _set_marks(self, now: float) -> None:
        """Have the meters call before anything has to be done."""
        self._due = _INF
        for _, budget, use in self._counted():
            left = budget.bytes - use.used()
            if left > 0:
                warn_at = int(budget.bytes * WARN_SHARE) - use.used()
                steps = [left, use.told_total + _step(budget) - use.meter.bytes]
                steps += [warn_at] if warn_at > 0 else []
                use.meter.mark = use.meter.bytes + max(1, min(steps))
            else:
                use.meter.mark = _INF
            pause_s = KEEP_EVERY_S if left > 0 else KEEP_USED_UP_S
            due = use.told_at + pause_s
            self._due = min(self._due, due if due > now else now + pause_s)
        self._loop.sooner(self._due)

    def _warn(self, name: str, budget: Budget, use: _Use, used: int) -> None:
        share = used / budget.bytes
        reached = 1.0 if share >= 1 else WARN_SHARE if share >= WARN_SHARE else 0.0
        if reached > use.warned_share:
            log.warning("%s", _sentence(name, budget, used))
        elif reached < use.warned_share and not reached:
            log.info("the budget of %s has room again", name)
        use.warned_share = reached

    # --- what others need to know

    def purpose(self, name: str) -> Purpose:
        """Return what a link is for, as far as its budget has a say, and what it costs."""
        metered = setting_of(self._metered, name) or False
        cost = setting_of(self._costs, name)
        if cost is None:
            cost = METERED_COST if metered else 0
        return Purpose(self._roles.get(name, Role.ALWAYS), cost, metered)

    def status(self, name: str) -> Optional[Dict[str, Any]]:
        """Return what the status says of a link's budget; None if it has none."""
        budget, use = self._budget(name), self._uses.get(name)
        if budget is None or use is None:
            return None
        used = use.used()
        return {
            "used_bytes": used,
            "bytes": budget.bytes,
            "per": budget.per,
            "resets_at": use.kept.resets_at if use.kept else None,
            "then": budget.then,
            "used_up": used >= budget.bytes,
        }

    @property
    def warnings(self) -> List[str]:
        """Budgets that are nearly used up, or are, as sentences."""
        return [
            _sentence(name, budget, use.used())
            for name, budget, use in self._counted()
            if use.used() >= budget.bytes * WARN_SHARE
        ]


def _step(budget: Budget) -> int:
    """Return after how many bytes what was used is kept: before the reserve is used up."""
    return max(1, budget.reserve // 2)


def _sentence(name: str, budget: Budget, used: int) -> str:
    if used < budget.bytes:
        share = 100 * used // budget.bytes
        return f"{share} % of the budget of {name} is used, {used} of {budget.bytes} bytes"
    ended = f"the budget of {name} is used up, {used} of {budget.bytes} bytes"
    if budget.then == LAST:
        return f"{ended}: it carries only what no other link does, which goes beyond the budget"
    return (
        f"{ended}: it carries no packets, and hosts that no other link reaches are cut off; raise"
        " the budget, or write then: last"
    )
