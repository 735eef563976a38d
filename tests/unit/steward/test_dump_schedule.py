"""When interfaces are dumped, and routes looked up."""

from __future__ import annotations

from ropeway.steward import dump_schedule
from ropeway.steward.interface import Change


def test_a_dump_waits_ten_times_as_long_as_the_last_one_took():
    schedule = dump_schedule.DumpSchedule(0.0)
    assert schedule.due(0.0) is Change.INTERFACES
    schedule.note(0.2, 0.3)
    schedule.soon(0.4, Change.INTERFACES)
    assert schedule.deadline() == 0.3 + dump_schedule.DUMP_SHARE * (0.3 - 0.2)
    assert schedule.due(0.4) is Change.NOTHING


def test_a_dump_that_had_to_wait_long_for_a_processor_delays_the_next_by_little():
    schedule = dump_schedule.DumpSchedule(0.0)
    schedule.due(0.0)
    schedule.note(0.0, 5.0)
    schedule.soon(5.0, Change.INTERFACES)
    assert schedule.deadline() == 5.0 + dump_schedule.DUMP_GAP_MAX_S


def test_a_dump_of_everything_makes_one_of_the_routes_unnecessary():
    schedule = dump_schedule.DumpSchedule(0.0)
    schedule.soon(0.0, Change.ROUTES)
    assert schedule.due(0.0) is Change.INTERFACES
    assert schedule.due(1.0) is Change.NOTHING
    assert schedule.deadline() == dump_schedule.DUMP_EVERY_S


def test_routes_are_looked_up_once_in_a_gap():
    schedule = dump_schedule.DumpSchedule(0.0)
    schedule.due(0.0)
    schedule.look_up_soon(1.0)
    assert schedule.is_lookup_due(1.0)
    schedule.note_lookup(1.0)
    assert not schedule.is_lookup_due(1.0)
    schedule.look_up_soon(1.01)
    assert schedule.deadline() == 1.0 + dump_schedule.LOOKUP_GAP_S


def test_routes_are_asked_for_again_after_a_hint_and_else_seldom():
    schedule = dump_schedule.DumpSchedule(0.0)
    assert schedule.routes_may_differ(0.0)
    assert not schedule.routes_may_differ(dump_schedule.DUMP_EVERY_S)
    for change in (Change.ROUTES, Change.INTERFACES):
        schedule.soon(40.0, change)
        assert schedule.routes_may_differ(40.0)
        assert not schedule.routes_may_differ(41.0)
    schedule.soon(42.0, Change.NOTHING)
    assert not schedule.routes_may_differ(42.0)
    assert schedule.routes_may_differ(40.0 + dump_schedule.LOOKUP_EVERY_S)
