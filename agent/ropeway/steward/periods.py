"""Days and months of budgets, by the calendar of the host's time zone."""

from __future__ import annotations

import calendar
import datetime
import time

from ropeway.app.config.model import DAY, Budget


def start_of(budget: Budget, wall_s: float) -> datetime.date:
    """Return the first day of the period in which a moment is, seconds since 1970."""
    # The host may have gone over to another time zone.
    time.tzset()
    there = time.localtime(wall_s)
    today = datetime.date(there.tm_year, there.tm_mon, there.tm_mday)
    if budget.per == DAY:
        return today
    start = _reset_in(budget, today.year, today.month)
    if start > today:
        before = today.replace(day=1) - datetime.timedelta(days=1)
        start = _reset_in(budget, before.year, before.month)
    return start


def end_of(budget: Budget, start: datetime.date) -> datetime.date:
    """Return the first day of the period that follows the one that begins with `start`."""
    if budget.per == DAY:
        return start + datetime.timedelta(days=1)
    after = start.replace(day=1) + datetime.timedelta(days=31)
    return _reset_in(budget, after.year, after.month)


def begins_at(day: datetime.date) -> float:
    """Return when a day begins, in seconds since 1970: where clocks skip 00:00, at 01:00."""
    return time.mktime((day.year, day.month, day.day, 0, 0, 0, 0, 0, -1))


def _reset_in(budget: Budget, year: int, month: int) -> datetime.date:
    """Return the reset day in a month, or the last day of one that is shorter."""
    last = calendar.monthrange(year, month)[1]
    return datetime.date(year, month, min(budget.reset_day, last))
