"""What links have used is neither lost nor given again, whatever processes and clocks do."""

from __future__ import annotations

import datetime
import logging
import time

import pytest

from ropeway.app.config.model import Budget
from ropeway.app.store import budgets as store
from ropeway.steward import wall_clock
from ropeway.steward.budgets import LOOK_EVERY_S, Budgets
from ropeway.steward.orders import CountUse
from ropeway.steward.wall_clock import WallClock

MONTH = Budget(10**9, "month", 15)
RESERVE = 5 * 10**6
BY_PATTERN = (("wwan0", MONTH), ("ppp*", Budget(10**6, "day")))
DAY_S = 86400.0


def at(text):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc).timestamp()


class Host:
    """A host whose clocks are turned by hand, and the stewards that it starts."""

    def __init__(self, wall):
        self.wall_s = at(wall)
        self.boot_s = 1000.0
        self.synchronised = False
        self.start()

    def start(self):
        """Start a steward, or another one after it was killed."""
        self.said = []
        self.budgets = Budgets(
            lambda: self.boot_s,
            self.said.append,
            lambda seen: WallClock(
                lambda: self.boot_s, seen, lambda: self.wall_s, lambda: self.synchronised
            ),
        )

    def boot(self, wall):
        """Boot, with what the clock says then."""
        self.boot_s, self.wall_s = 5.0, at(wall)
        self.start()

    def count(self, run, total, link="wwan0", by_pattern=BY_PATTERN, **more):
        self.budgets.take(
            "ropeway0", by_pattern, CountUse(run, {link: total}, **{"correct": {}, **more})
        )
        return self.used(link)

    def used(self, link="wwan0"):
        return self.said[-1].links[link].used

    def jump(self, wall):
        """Set the wall clock, and let the steward look."""
        self.wall_s = at(wall)
        self.wait(LOOK_EVERY_S)

    def wait(self, seconds):
        self.wall_s += seconds
        self.boot_s += seconds
        if self.boot_s >= self.budgets.deadline():
            self.budgets.tick(self.boot_s)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return tmp_path


@pytest.fixture
def host():
    return Host("2026-11-20 12:00:00")


def test_what_a_run_carries_is_counted_once(host):
    assert host.count("a", 0) == 0
    assert host.count("a", 1000) == 1000
    assert host.count("a", 1000) == 1000
    assert host.count("a", 5000) == 5000
    kept = host.said[-1].links["wwan0"]
    assert (kept.total, kept.resets_at) == (5000, "2026-12-15T00:00:00+00:00")


def test_an_orderly_stop_loses_and_adds_nothing(host):
    host.count("a", 5000, final=True)
    host.start()
    assert host.count("b", 0) == 5000
    assert host.count("b", 70) == 5070


def test_another_steward_of_the_same_run_counts_on(host):
    host.count("a", 5000)
    host.start()
    assert host.count("a", 7000) == 7000


@pytest.mark.parametrize("lost", [0, 1000, RESERVE])
def test_after_a_crash_what_may_have_been_lost_counts_as_used(host, lost):
    host.count("a", 5000)
    host.start()  # and the engine carried `lost` more before it was killed
    used = host.count("b", 0)
    assert 5000 + lost <= used == 5000 + RESERVE
    assert MONTH.bytes // 100 >= RESERVE


def test_many_crashes_take_no_more_than_the_reserve_each(host):
    for number in range(10):
        host.count(f"run {number}", 0)
        host.start()
    assert host.count("last", 0) == 10 * RESERVE


def test_each_link_has_a_budget_of_its_own(host):
    host.count("a", 5, "wwan0")
    host.count("a", 7, "ppp0")
    host.count("a", 9, "ppp1")
    assert host.count("a", 5, "wwan0") == 5
    assert [host.count("a", n, name) for n, name in ((7, "ppp0"), (9, "ppp1"))] == [7, 9]
    host.budgets.take("ropeway0", BY_PATTERN, CountUse("a", {"eth0": 1}, {}))
    assert host.said[-1].links == {}


def test_a_new_period_begins_at_midnight_of_the_reset_day(host):
    host.count("a", 5000)
    host.wait(25 * DAY_S - 12 * 3600 - LOOK_EVERY_S)
    assert host.used() == 5000
    host.wait(LOOK_EVERY_S)
    assert host.used() == 0
    assert host.count("a", 5100) == 100
    assert host.said[-1].links["wwan0"].resets_at == "2027-01-15T00:00:00+00:00"


def test_a_period_that_ended_while_the_host_was_off_is_over(host):
    host.count("a", 5000, final=True)
    host.boot("2026-12-16 00:00:00")
    assert host.count("b", 0) == 0


@pytest.mark.parametrize("wall", ["1970-01-01 00:00:10", "2026-10-01 00:00:00"])
def test_a_clock_that_is_back_at_the_boot_gives_no_new_budget(host, wall, caplog):
    host.count("a", 5000, final=True)
    host.boot(wall)
    assert host.count("b", 100) == 5100
    assert "the wall clock has jumped" in caplog.text
    host.jump("2026-11-20 12:01:00")
    assert host.count("b", 200) == 5200


def test_a_clock_that_lags_at_the_boot_finds_the_new_period_once_it_is_set(host):
    host.count("a", 5000, final=True)
    host.boot("1970-01-01 00:00:10")
    assert host.count("b", 100) == 5100
    host.synchronised = True
    host.jump("2026-12-20 12:00:00")
    assert host.used() == 0


@pytest.mark.parametrize("wall", ["2026-12-20 00:00:00", "2038-01-01 00:00:00"])
def test_a_clock_that_jumps_ahead_gives_no_new_budget(host, wall, caplog):
    host.count("a", 5000)
    host.jump(wall)
    assert host.count("a", 6000) == 6000
    assert "the wall clock has jumped" in caplog.text
    host.jump("2026-11-20 12:05:00")
    assert host.count("a", 7000) == 7000


def test_a_jump_is_believed_once_the_clock_is_synchronised_or_after_a_day(host):
    host.count("a", 5000)
    host.jump("2026-12-20 00:00:00")
    host.synchronised = True
    host.wait(LOOK_EVERY_S)
    assert host.used() == 0
    host.synchronised = False
    host.count("a", 6000)
    host.jump("2027-02-20 00:00:00")
    host.wait(wall_clock.BELIEVED_AFTER_S - 2 * LOOK_EVERY_S)
    assert host.used() == 1000
    host.wait(2 * LOOK_EVERY_S)
    assert host.used() == 0


@pytest.mark.parametrize("wall", ["2026-11-20 12:10:00", "2026-12-01 00:00:00"])
def test_what_was_counted_in_a_wrong_future_counts_for_the_present(host, wall):
    host.count("a", 5000)
    host.synchronised = True
    host.jump("2036-01-01 00:00:00")
    host.count("a", 6000)
    assert host.used() == 1000
    host.jump(wall)
    assert host.used() == 6000


def test_a_clock_that_was_first_wrong_does_not_hold_the_budget_for_years(host):
    host.boot("2036-01-01 00:00:00")
    host.count("a", 5000)
    host.synchronised = True
    host.jump("2026-11-20 12:00:00")
    assert host.used() == 5000
    host.jump("2026-12-15 00:00:01")
    assert host.used() == 0


def test_slow_corrections_are_no_jumps(host, caplog):
    host.count("a", 5000)
    for _ in range(30):
        host.wall_s += 60.0
        host.wait(LOOK_EVERY_S)
    assert host.used() == 5000
    assert "jumped" not in caplog.text


@pytest.mark.parametrize("rule", [("month", 1), ("month", 20), ("day", 1)])
def test_other_periods_give_nothing_back(host, rule):
    host.count("a", 5000)
    other = (("wwan0", Budget(10**9, *rule)),)
    assert host.count("a", 6000, by_pattern=other) == 6000


def test_somebody_who_knows_better_says_what_is_used(host):
    host.count("a", 5000)
    assert host.count("a", 5100, correct={"wwan0": 12, "eth0": 3}) == 12
    assert host.count("a", 5200) == 112
    host.start()
    assert host.count("a", 5200) == 112


def test_a_file_that_is_spoilt_is_a_warning(host, directory, caplog):
    host.count("a", 5000)
    (directory / "ropeway0.budgets").write_text('{"at": 1, "links": {"wwan0": {"used": -1}}}')
    host.start()
    assert host.count("b", 10) == 10
    assert "cannot be read" in caplog.text
    assert "ropeway budget set" in caplog.text


def test_a_file_that_cannot_be_written_is_one_warning_and_counting_goes_on(
    host, monkeypatch, caplog
):
    monkeypatch.setenv("STATE_DIRECTORY", "/proc/nowhere")
    assert host.count("a", 5000) == 5000
    assert host.count("a", 6000) == 6000
    assert caplog.text.count("cannot be written") == 1


def test_links_that_come_and_go_take_no_more_room_than_there_is(host):
    for number in range(store.LINKS_MAX + 50):
        host.count("a", number, f"ppp{number}")
    _, uses = store.read("ropeway0")
    assert len(uses) == store.LINKS_MAX


def test_what_is_kept_is_on_disk_before_it_is_said(host, monkeypatch):
    order = []
    monkeypatch.setattr("os.fsync", lambda descriptor: order.append("disk"))
    host.budgets._say = lambda kept: order.append("said")
    host.budgets.take("ropeway0", BY_PATTERN, CountUse("a", {"wwan0": 1}, {}))
    assert order == ["disk", "disk", "said"]
