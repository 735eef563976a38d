"""Days and months of budgets, where clocks are put forward and back, and months differ."""

from __future__ import annotations

import datetime
import time

import pytest

from ropeway.app.config.model import Budget
from ropeway.steward import periods

DAY = Budget(10**6, "day")


def month(reset_day):
    return Budget(10**6, "month", reset_day)


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    yield from zone(monkeypatch, "CET-1CEST,M3.5.0,M10.5.0/3")


def zone(monkeypatch, name):
    monkeypatch.setenv("TZ", name)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(*moment):
    return time.mktime((*moment, *[0] * (6 - len(moment)), 0, 0, -1))


@pytest.mark.parametrize(
    ("budget", "moment", "start", "end"),
    [
        (DAY, (2026, 11, 28, 0, 0, 0), (2026, 11, 28), (2026, 11, 29)),
        (DAY, (2026, 11, 28, 23, 59, 59), (2026, 11, 28), (2026, 11, 29)),
        (DAY, (2026, 12, 31, 12), (2026, 12, 31), (2027, 1, 1)),
        (month(1), (2026, 11, 1), (2026, 11, 1), (2026, 12, 1)),
        (month(1), (2026, 10, 31, 23, 59, 59), (2026, 10, 1), (2026, 11, 1)),
        (month(15), (2026, 11, 14, 23, 59, 59), (2026, 10, 15), (2026, 11, 15)),
        (month(15), (2026, 11, 15), (2026, 11, 15), (2026, 12, 15)),
        (month(15), (2027, 1, 3), (2026, 12, 15), (2027, 1, 15)),
        (month(31), (2026, 11, 29), (2026, 10, 31), (2026, 11, 30)),
        (month(31), (2026, 11, 30), (2026, 11, 30), (2026, 12, 31)),
        (month(31), (2027, 1, 31), (2027, 1, 31), (2027, 2, 28)),
        (month(31), (2027, 3, 1), (2027, 2, 28), (2027, 3, 31)),
        (month(30), (2028, 2, 29), (2028, 2, 29), (2028, 3, 30)),
        (month(29), (2027, 2, 28), (2027, 2, 28), (2027, 3, 29)),
    ],
)
def test_a_period_begins_on_its_day_or_the_last_one_of_a_shorter_month(budget, moment, start, end):
    found = periods.start_of(budget, at(*moment))
    assert found == datetime.date(*start)
    assert periods.end_of(budget, found) == datetime.date(*end)


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 11, 28), 24)]
)
def test_a_day_is_as_long_as_the_clocks_make_it(day, hours):
    first = datetime.date(*day)
    begins = periods.begins_at(first)
    ends = periods.begins_at(periods.end_of(DAY, first))
    assert ends - begins == hours * 3600
    assert periods.start_of(DAY, begins) == periods.start_of(DAY, ends - 1) == first
    assert periods.start_of(DAY, begins - 1) == first - datetime.timedelta(days=1)


def test_each_period_of_a_century_follows_the_one_before():
    for reset_day in range(1, 32):
        budget = month(reset_day)
        start = datetime.date(1999, 12, 1)
        start = periods.start_of(budget, periods.begins_at(start))
        for _ in range(300):
            end = periods.end_of(budget, start)
            assert 28 <= (end - start).days <= 31
            assert periods.start_of(budget, periods.begins_at(end)) == end
            assert periods.start_of(budget, periods.begins_at(end) - 1) == start
            start = end


def test_where_clocks_skip_midnight_a_day_begins_at_one(monkeypatch):
    for _ in zone(monkeypatch, "AST4ADT,M3.2.0/0,M11.1.0/0"):
        day = datetime.date(2026, 3, 8)
        begins = periods.begins_at(day)
        assert periods.start_of(DAY, begins) == day
        assert periods.start_of(DAY, begins - 1) in (day - datetime.timedelta(days=1), day)


@pytest.mark.parametrize("wall_s", [0.0, -1.0, 4.1e9])
def test_wild_times_have_a_period_too(wall_s):
    for budget in (DAY, month(31)):
        start = periods.start_of(budget, wall_s)
        assert periods.end_of(budget, start) > start
