"""What links with a budget carry is counted, kept in time, and has its consequence at once."""

from __future__ import annotations

import logging

import pytest

from ropeway.app.config.model import Budget
from ropeway.app.engine.budgets import KEEP_EVERY_S, KEEP_USED_UP_S, Budgets
from ropeway.core.link import Link, Role
from ropeway.steward.answers import BudgetsKept, KeptUse, Snapshot
from ropeway.steward.orders import CountUse

SIZE = 10**9
BUDGET = Budget(SIZE, "month")
RESETS = "2026-12-01T00:00:00+01:00"


class Config:
    """What of a configuration concerns links."""

    def __init__(self, *budgets, costs=(), metered=()):
        self.budgets, self.costs, self.metered = budgets, costs, metered


class Steward:
    """Takes orders, and answers them when it is told to."""

    def __init__(self):
        self.orders = []
        self.handlers = {}

    def on(self, kind, handler):
        self.handlers[kind] = handler

    def send(self, order, replaces=None):
        assert isinstance(order, CountUse)
        self.orders.append(order)


class Ports:
    def __init__(self):
        self.meters = {}

    def set_meters(self, meters):
        self.meters = meters


class Loop:
    def __init__(self):
        self.now = 100.0
        self.clock = lambda: self.now
        self.due = float("inf")

    def sooner(self, at):
        self.due = min(self.due, at)


class Bed:
    """Two links, of which the first has a budget."""

    def __init__(self, budget=BUDGET, used=0):
        self.loop, self.steward, self.ports = Loop(), Steward(), Ports()
        self.roles = []
        self.budgets = Budgets(
            self.loop, self.steward, self.ports, Config(("wwan*", budget)), self._changed
        )
        self.show("wwan0", "eth0")
        self.keep(used)

    def _changed(self, now):
        self.roles.append(self.budgets.purpose("wwan0")[0])

    def show(self, *names):
        links = tuple(Link(2 + n, name, (), 1500, True) for n, name in enumerate(names))
        self.budgets.follow(Snapshot(1, links), self.loop.now)

    def keep(self, used, name="wwan0"):
        """Answer the last order: so much is used."""
        total = self.steward.orders[-1].totals[name]
        self.take({name: KeptUse(total, used, RESETS)})

    def take(self, kept):
        self.steward.handlers[BudgetsKept](BudgetsKept(kept), [], self.loop.now)

    def carry(self, size):
        """Let the link carry bytes, and the loop turn."""
        self.ports.meters[2].count(size)
        self.turn()

    def turn(self):
        due = min(self.loop.due, self.budgets.deadline())
        self.loop.due = float("inf")
        if self.loop.now >= due:
            self.budgets.tick(self.loop.now)

    @property
    def used(self):
        return self.budgets.status("wwan0")["used_bytes"]


@pytest.fixture(autouse=True)
def level(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture
def bed():
    return Bed()


def test_what_is_left_is_asked_for_as_soon_as_there_is_the_link(bed):
    (order,) = bed.steward.orders
    assert (order.totals, order.correct, order.final) == ({"wwan0": 0}, {}, False)
    assert list(bed.ports.meters) == [2]
    assert bed.budgets.status("eth0") is None
    assert Bed().steward.orders[0].run != order.run


def test_status_says_what_is_used_and_until_when(bed):
    bed.keep(7000)
    bed.carry(500)
    assert bed.budgets.status("wwan0") == {
        "used_bytes": 7500,
        "bytes": SIZE,
        "per": "month",
        "resets_at": RESETS,
        "then": "last",
        "used_up": False,
    }


def test_use_is_kept_before_what_counts_as_used_on_disk_is_used_up(bed):
    step = BUDGET.reserve // 2
    bed.carry(step - 1)
    assert len(bed.steward.orders) == 1
    bed.carry(1)
    assert bed.steward.orders[-1].totals == {"wwan0": step}
    for _ in range(99):
        bed.carry(step // 10)
    assert len(bed.steward.orders) == 2 + 9


def test_little_use_is_kept_once_a_minute_and_none_is_not(bed):
    bed.loop.now += KEEP_EVERY_S
    bed.turn()
    assert len(bed.steward.orders) == 1
    bed.carry(1)
    bed.loop.now += KEEP_EVERY_S
    bed.turn()
    assert bed.steward.orders[-1].totals == {"wwan0": 1}
    assert len(bed.steward.orders) == 2
    assert bed.budgets.deadline() == bed.loop.now + KEEP_EVERY_S


@pytest.mark.parametrize(("then", "role"), [("last", Role.LAST), ("never", Role.NEVER)])
def test_a_link_changes_its_role_in_the_turn_that_uses_the_budget_up(then, role):
    bed = Bed(Budget(SIZE, "month", then=then), used=SIZE - 1000)
    bed.carry(999)
    assert bed.roles == []
    bed.carry(1)
    assert bed.roles == [role]
    assert bed.budgets.purpose("eth0") == (Role.ALWAYS, 0, False)
    assert bed.budgets.status("wwan0")["used_up"]


def test_a_start_finds_the_budget_used_up():
    assert Bed(used=SIZE).roles == [Role.LAST]


def test_a_new_period_gives_the_link_back(bed, caplog):
    bed.keep(SIZE)
    bed.carry(10)
    bed.keep(0)
    assert bed.roles == [Role.LAST, Role.ALWAYS]
    assert caplog.messages[-1] == "the budget of wwan0 has room again"


def test_each_warning_comes_once(bed, caplog):
    bed.carry(SIZE * 8 // 10 - 1)
    assert bed.budgets.warnings == caplog.messages == []
    bed.carry(1)
    sentence = "80 % of the budget of wwan0 is used, 800000000 of 1000000000 bytes"
    assert bed.budgets.warnings == caplog.messages == [sentence]
    bed.carry(SIZE // 10)
    assert len(caplog.messages) == 1
    bed.carry(SIZE // 10)
    bed.carry(SIZE // 10)
    (_, told) = caplog.messages
    assert told.startswith("the budget of wwan0 is used up, 1000000000 of 1000000000 bytes: it")
    assert "goes beyond the budget" in bed.budgets.warnings[0]


def test_a_link_that_never_carries_any_more_is_a_loud_warning(caplog):
    Bed(Budget(SIZE, "month", then="never"), used=SIZE)
    assert caplog.records[0].levelno == logging.WARNING
    assert "cut off" in caplog.text


def test_beyond_its_budget_a_link_does_not_keep_the_disk_busy(bed):
    bed.keep(SIZE)
    before = len(bed.steward.orders)
    for _ in range(50):
        bed.carry(BUDGET.reserve)
        bed.loop.now += KEEP_USED_UP_S / 50
    bed.turn()
    assert len(bed.steward.orders) - before <= 2


def test_another_steward_and_the_stop_are_told_all(bed):
    bed.carry(77)
    bed.budgets.start_again(bed.loop.now)
    bed.budgets.finish()
    again, last = bed.steward.orders[-2:]
    assert (again.totals, again.final) == ({"wwan0": 77}, False)
    assert (last.totals, last.final) == ({"wwan0": 77}, True)


def test_a_link_that_comes_back_under_another_index_is_the_same(bed):
    bed.carry(77)
    bed.show("eth0", "wwan0")
    assert list(bed.ports.meters) == [3]
    assert bed.steward.orders[-1].totals == {"wwan0": 77}
    assert bed.used == 77


def test_a_larger_budget_holds_at_once(bed):
    bed.keep(SIZE)
    bed.budgets.set(Config(("wwan0", Budget(2 * SIZE, "month"))), bed.loop.now)
    assert bed.roles == [Role.LAST, Role.ALWAYS]
    bed.budgets.set(Config(), bed.loop.now)
    assert bed.ports.meters == {}
    assert bed.budgets.status("wwan0") is None
    assert bed.budgets.warnings == []


def test_use_is_corrected_where_a_link_has_a_budget(bed):
    bed.carry(77)
    bed.budgets.correct("wwan0", 5, bed.loop.now)
    order = bed.steward.orders[-1]
    assert (order.totals, order.correct) == ({"wwan0": 77}, {"wwan0": 5})
    with pytest.raises(ValueError, match="no link eth0 that has a budget"):
        bed.budgets.correct("eth0", 5, bed.loop.now)


def test_what_a_steward_says_of_other_links_is_nothing_to_it(bed):
    bed.take({"eth9": KeptUse(0, SIZE, RESETS)})
    assert bed.roles == []


def test_costs_hold_at_once(bed):
    budget = ("wwan*", BUDGET)
    bed.budgets.set(Config(budget, costs=(("wwan*", 10), ("eth*", 0))), bed.loop.now)
    assert [bed.budgets.purpose(name)[1] for name in ("wwan0", "eth0", "lan0")] == [10, 0, 0]
    assert bed.roles == [Role.ALWAYS], "it is said once"
    bed.budgets.set(Config(budget, costs=(("wwan*", 10), ("eth*", 0))), bed.loop.now)
    assert bed.roles == [Role.ALWAYS]
    assert len(bed.steward.orders) == 1, "what is used is another matter"
