"""What is due when, and what is kept of what is gone."""

from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.timers import SPARE, Timers

NEVER = float("inf")


def test_what_is_due_is_given_once_and_in_order():
    timers = Timers()
    timers.set("b", 2.0)
    timers.set("a", 1.0)
    timers.set("c", 3.0)
    assert timers.next_at() == 1.0
    assert list(timers.take(2.0)) == ["a", "b"]
    assert list(timers.take(2.0)) == []
    assert list(timers.take(3.0)) == ["c"]
    assert timers.next_at() == NEVER


def test_only_the_last_time_that_was_set_counts():
    timers = Timers()
    for due in (5.0, 1.0, 3.0):
        timers.set("a", due)
    assert list(timers.take(2.0)) == []
    assert list(timers.take(3.0)) == ["a"]
    assert list(timers.take(9.0)) == []


def test_bringing_forward_never_puts_off():
    timers = Timers()
    timers.bring_forward("a", 3.0)
    timers.bring_forward("a", 5.0)
    assert list(timers.take(3.0)) == ["a"]
    timers.bring_forward("a", 5.0)
    assert list(timers.take(5.0)) == ["a"]


def test_what_was_removed_or_is_never_due_is_not_given():
    timers = Timers()
    timers.set("a", 1.0)
    timers.set("b", 1.0)
    timers.remove("a")
    timers.remove("a")
    timers.set("b", NEVER)
    assert list(timers.take(9.0)) == []
    assert len(timers) == 0


def test_what_is_set_while_it_is_taken_waits():
    timers = Timers()
    timers.set("a", 1.0)
    for what in timers.take(2.0):
        timers.set(what, 4.0)
    assert list(timers.take(3.0)) == []
    assert list(timers.take(4.0)) == ["a"]


def test_things_that_come_and_go_leave_nothing():
    timers = Timers()
    for number in range(100_000):
        timers.set(number, 45.0 + number)
        timers.remove(number)
        assert timers.entries <= SPARE + 1


def test_times_that_come_nearer_and_nearer_leave_nothing():
    timers = Timers()
    for step in range(100_000):
        timers.bring_forward("a", 1e6 - step)
    assert timers.entries <= SPARE + 3


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("srt"), st.integers(0, 20))))
def test_timers_do_what_a_plain_table_does(steps):
    timers, table = Timers(), {}
    for what, step, time in steps:
        if step == "s":
            timers.set(what, time)
            table[what] = time
        elif step == "r":
            timers.remove(what)
            table.pop(what, None)
        else:
            due = sorted(table[w] for w in table if table[w] <= time)
            given_now = list(timers.take(time))
            assert [table.pop(w) for w in given_now] == due
        assert len(timers) == len(table)
        assert timers.next_at() <= min(table.values(), default=NEVER)
