"""The queues: order, bounds, fairness and CoDel, with a clock that is set by hand."""

import random
from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.data.fair_queue import (
    EXPIRED,
    FULL,
    INTERVAL_S,
    MAX_OWN_FLOWS,
    OVERLOAD,
    QUANTUM,
    SHARED_FLOWS,
    TARGET_S,
    FairQueue,
)

BULK, CALL = b"bulk", b"call"
MS = 0.001


class Noting(FairQueue):
    """A queue of which what it drops can be taken as well."""

    def __init__(self, limit):
        super().__init__(limit, lambda item, why: self.lost.append((item, why)))
        self.lost = []

    def take_dropped(self):
        lost, self.lost = self.lost, []
        return lost


def fill(queue, flow, count, now, size=1):
    for number in range(count):
        queue.put(flow, (flow, number), size, now)


def by_flow(items):
    flows = {}
    for flow, number in items:
        flows.setdefault(flow, []).append(number)
    return flows


def test_what_is_put_comes_out_in_order():
    queue = Noting(100)
    fill(queue, BULK, 5, 1.0)
    assert len(queue) == 5
    assert queue.take(100, 1.0) == [(BULK, number) for number in range(5)]
    assert len(queue) == 0
    assert queue.take(100, 1.0) == []
    assert queue.take_dropped() == []


@pytest.mark.parametrize(
    ("size", "budget", "items"),
    [(1, 3, 3), (2, 3, 2), (45, 1, 1), (45, 100, 3), (1, 0, 1), (1, -5, 1), (70, 1000, 10)],
)
def test_a_take_has_one_item_and_stops_at_its_budget(size, budget, items):
    queue = Noting(1000)
    fill(queue, BULK, 10, 1.0, size)
    assert len(queue.take(budget, 1.0)) == items
    assert len(queue) == (10 - items) * size


def test_a_call_passes_a_thousand_packets_of_a_transfer_in_the_next_take():
    queue = Noting(2000)
    fill(queue, BULK, 1000, 1.0)
    queue.take(1, 1.0)
    queue.put(CALL, (CALL, 0), 1, 1.0)
    assert queue.take(1, 1.0) == [(CALL, 0)]


def test_a_call_among_transfers_is_served_at_once_every_time():
    queue = Noting(5000)
    for transfer in range(20):
        fill(queue, transfer, 200, 1.0)
    queue.take(20 * QUANTUM, 1.0)
    for number in range(40):
        queue.put(CALL, (CALL, number), 1, 1.0)
        assert queue.take(16, 1.0)[0] == (CALL, number)


def test_who_sends_more_than_its_share_does_not_pass_the_others():
    queue = Noting(10_000)
    fill(queue, BULK, 5000, 1.0)
    served = Counter()
    for step in range(100):
        fill(queue, CALL, 30, 1.0)  # always empty in between, always more than half of the service
        for flow, _ in queue.take(40, 1.0):
            served[flow] += 1
        if step == 50:
            assert served[BULK] > 800
    assert abs(served[BULK] - served[CALL]) < 3 * QUANTUM


def test_flows_share_evenly_whatever_the_size_of_their_items():
    queue = Noting(100_000)
    for flow, size in (("small", 1), ("medium", 7), ("large", 45), ("huge", 300)):
        for _ in range(12_000 // size):
            queue.put(flow, (flow, size), size, 1.0)
    served = Counter()
    while sum(served.values()) < 20_000:
        for flow, size in queue.take(64, 1.0):
            served[flow] += size
    assert max(served.values()) - min(served.values()) <= QUANTUM + 300


def test_a_flood_of_new_flows_leaves_a_transfer_its_share():
    queue = Noting(3000)
    fill(queue, BULK, 1000, 1.0)
    served = Counter()
    for step in range(1000):
        for number in range(100):
            queue.put((step, number), ("flood", 0), 1, 1.0)
        fill(queue, BULK, 5, 1.0)
        for flow, _ in queue.take(64, 1.0):
            served[flow] += 1
    round_at_most = MAX_OWN_FLOWS + (SHARED_FLOWS + 1) * QUANTUM
    assert served[BULK] >= 64_000 // round_at_most * QUANTUM // 2


def test_flows_are_bounded_and_still_in_order():
    queue = Noting(100_000)
    for number in range(3):
        for flow in range(5000):
            queue.put(flow, (flow, number), 1, 1.0)
            assert queue.flows <= MAX_OWN_FLOWS + SHARED_FLOWS
    items = []
    for _ in range(10):
        items += queue.take(1000, 1.0)
        for flow in range(4990, 5000):  # some get a queue of their own only when nothing waits
            queue.put(flow, (flow, 3 + len(items)), 1, 1.0)
    while len(queue):
        items += queue.take(1000, 1.0)
    flows = by_flow(items)
    assert len(flows) == 5000
    assert all(numbers == sorted(numbers) for numbers in flows.values())
    assert sum(map(len, flows.values())) == 15_100
    assert queue.flows == 0


def test_empty_flows_are_forgotten_while_others_wait():
    queue = Noting(10_000)
    fill(queue, BULK, 2000, 1.0)
    for flow in range(500):
        queue.put(flow, (flow, 0), 1, 1.0)
    assert queue.flows == 501
    queue.take(500, 1.0)
    queue.take(3 * QUANTUM, 1.0)
    assert queue.flows == 1


def test_over_the_limit_the_longest_flow_loses_its_oldest():
    queue = Noting(100)
    fill(queue, CALL, 10, 1.0)
    fill(queue, BULK, 95, 1.0)
    queue.put(CALL, (CALL, 10), 1, 1.0)
    assert len(queue) == 100
    assert queue.take_dropped() == [((BULK, number), FULL) for number in range(6)]
    assert queue.take_dropped() == []
    flows = by_flow(queue.take(1000, 1.0))
    assert flows == {CALL: list(range(11)), BULK: list(range(6, 95))}


def test_an_item_larger_than_the_limit_is_dropped_itself():
    queue = Noting(10)
    fill(queue, CALL, 4, 1.0)
    queue.put(BULK, "giant", 1000, 1.0)
    assert queue.take_dropped() == [("giant", FULL)]
    assert len(queue.take(100, 1.0)) == 4


def test_with_many_flows_little_more_is_dropped_than_must_be():
    queue = Noting(1000)
    for flow in range(1001):
        queue.put(flow, (flow, 0), 1, 1.0)
    assert 1 <= len(queue.take_dropped()) <= 1000 // 16 + 1
    assert len(queue) >= 1000 - 1000 // 16


def test_every_drop_is_told_however_many_there_are():
    queue = Noting(50)
    fill(queue, BULK, 1000, 1.0)
    assert queue.take_dropped() == [((BULK, number), FULL) for number in range(950)]


def stand(queue, count, now):
    for _ in range(count):
        queue.put(BULK, now, 1, now)


def overload(queue, start, seconds, arriving, served):
    """Put and take each millisecond; return (time, why) of all drops, (time, delay) of the rest."""
    drops, delays = [], []
    for step in range(round(seconds / MS)):
        now = start + step * MS
        for _ in range(arriving(now)):
            queue.put(BULK, now, 1, now)
        for at in queue.take(served, now):
            delays.append((now, now - at))
        drops += [(now, why) for _, why in queue.take_dropped()]
    return drops, delays


def test_what_came_too_long_ago_is_dropped_and_the_rest_keeps_its_order():
    queue = Noting(1000)
    for number in range(6):
        queue.put(BULK, (BULK, number), 2, 1.0, since=10.0 + number)
        queue.put(CALL, (CALL, number), 1, 1.0, since=10.0 + number)
    assert queue.take(1, 1.001, expired_at=10.0) == [(BULK, 0)]
    taken = queue.take(100, 1.001, expired_at=13.0)
    assert by_flow(taken) == {BULK: [3, 4, 5], CALL: [3, 4, 5]}
    lost = queue.take_dropped()
    assert {why for _, why in lost} == {EXPIRED}
    assert by_flow(item for item, _ in lost) == {BULK: [1, 2], CALL: [0, 1, 2]}
    assert (len(queue), queue.flows) == (0, 0)


def test_where_all_came_too_long_ago_nothing_is_left_after_one_take():
    queue = Noting(5000)
    for number in range(4000):
        queue.put(number % 50, (number % 50, number), 1, 1.0, since=10.0)
    assert queue.take(32, 31.0, expired_at=40.0) == []
    assert (len(queue), queue.flows) == (0, 0)
    assert len(queue.take_dropped()) == 4000


def test_codel_waits_an_interval_and_then_follows_the_control_law():
    queue = Noting(100_000)
    stand(queue, 200, 1.0)
    # 10 a millisecond come and go, so that the 200 stand: 20 ms of delay.
    drops, _ = overload(queue, 1.0 + MS, 1.0, lambda _: 10, 10)
    assert {why for _, why in drops} == {OVERLOAD}
    times = [at for at, _ in drops]
    first_above = 1.0 + 6 * MS
    expected = [first_above + INTERVAL_S]
    while True:
        due = expected[-1] + INTERVAL_S / sqrt(len(expected))
        if due > 2.0:
            break
        expected.append(due)
    assert len(times) == len(expected)
    assert all(abs(at - due) < 2.5 * MS for at, due in zip(times, expected))


def test_codel_stops_when_the_delay_is_gone_and_resumes_at_its_pace():
    queue = Noting(100_000)
    drops, _ = overload(queue, 1.0, 2.0, lambda _: 12, 10)
    assert len(drops) > 50
    while len(queue) > 40:
        queue.take(10, 3.0)
    queue.take_dropped()
    drops, _ = overload(queue, 3.0, 1.0, lambda _: 9, 10)
    assert drops == []
    # Empty flows are forgotten, so a new one begins at the pace of one.
    drops, _ = overload(queue, 4.0, 0.35, lambda _: 12, 10)
    assert 0 < len(drops) < 10


def test_codel_of_a_flow_that_was_never_empty_resumes_at_its_pace():
    queue = Noting(100_000)
    drops, _ = overload(queue, 1.0, 2.0, lambda _: 12, 10)
    before = [at for at, _ in drops][-3:]
    pace = (before[-1] - before[0]) / 2
    while len(queue) > 40:
        queue.take(10, 3.0)
    queue.take_dropped()
    assert overload(queue, 3.0 + MS, 0.03, lambda _: 10, 10)[0] == []
    stand(queue, 200, 3.031)
    drops, _ = overload(queue, 3.032, 0.25, lambda _: 10, 10)
    times = [at for at, _ in drops]
    assert times[0] >= 3.031 + INTERVAL_S
    assert times[2] - times[1] < 4 * pace + MS


def test_a_flow_at_capacity_loses_nothing():
    queue = Noting(1000)
    randomly = random.Random(1)
    drops, delays = overload(
        queue, 1.0, 20.0, lambda now: randomly.choice((9, 10, 11)) if now < 10.0 else 10, 11
    )
    assert drops == []
    drops, _ = overload(queue, 30.0, 20.0, lambda _: 10, 10)
    assert drops == []
    assert len(delays) > 190_000


def test_a_stall_shorter_than_an_interval_loses_nothing():
    queue = Noting(2000)
    stand(queue, 900, 1.0)  # came in 90 ms in which nothing was taken
    drops, delays = overload(queue, 1.09, 5.0, lambda _: 10, 21)
    assert drops == []
    assert delays[-1][1] < TARGET_S


def test_one_super_packet_on_its_way_is_no_standing_queue():
    queue = Noting(1000)
    now = 1.0
    for _ in range(1000):
        now += 8 * MS  # slow service: each waits 8 ms for the one before it
        queue.put(BULK, now, 45, now)
        if len(queue) > 45:
            assert len(queue.take(45, now)) == 1
    assert queue.take_dropped() == []


def test_the_overload_of_one_flow_costs_another_nothing():
    queue = Noting(3000)
    lost, delays = Counter(), []
    for step in range(5000):
        now = 1.0 + step * MS
        for _ in range(40):
            queue.put(BULK, (BULK, now), 1, now)
        if step % 5 == 0:
            queue.put(CALL, (CALL, now), 1, now)
        for flow, at in queue.take(30, now):
            if flow == CALL:
                delays.append(now - at)
        for (flow, _), _ in queue.take_dropped():
            lost[flow] += 1
    assert lost[CALL] == 0
    assert lost[BULK] > 0
    assert len(delays) == 1000
    assert max(delays[1:]) == 0.0  # at first nobody knows who is sparse


steps = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.integers(0, 5), st.integers(1, 80)),  # put: flow, size
            st.integers(0, 200),  # take: budget
        ),
        st.sampled_from([0.0, 0.0, 0.0001, 0.001, 0.004]),
    ),
    max_size=120,
)


@given(steps)
def test_below_the_limits_nothing_is_lost_or_changes_places(script):
    # Nothing waits for an interval (120 steps of 4 ms would, so time stops at 90 ms).
    queue = Noting(120 * 80)
    now, number, waiting = 5.0, 0, 0
    given_in, got = {}, []
    for action, pause in script:
        now = min(now + pause, 5.09)
        if isinstance(action, tuple):
            flow, size = action
            queue.put(flow, (flow, number, size), size, now)
            given_in.setdefault(flow, []).append(number)
            waiting += size
            number += 1
        else:
            items = queue.take(action, now)
            assert bool(items) == bool(waiting)
            sizes = [size for _, _, size in items]
            assert sum(sizes[:-1]) < max(action, 1)
            if waiting > sum(sizes):
                assert sum(sizes) >= action
            waiting -= sum(sizes)
            got += items
        assert len(queue) == waiting
    while len(queue):
        got += queue.take(64, now)
    assert by_flow((flow, number) for flow, number, _ in got) == given_in
    assert queue.take_dropped() == []
    assert queue.flows == 0


@given(steps, st.integers(1, 150), st.integers(1, 60))
def test_in_any_state_every_item_comes_out_once_or_is_dropped_and_memory_is_bounded(
    script, limit, slowness
):
    queue = Noting(limit)
    now, number = 5.0, 0
    got, dropped = [], []
    for action, pause in script:
        now += pause * slowness
        if isinstance(action, tuple):
            flow, size = action
            queue.put(flow, (flow, number), size, now)
            number += 1
        else:
            got += queue.take(action, now)
        assert 0 <= len(queue) <= limit
        assert queue.flows <= 6
        dropped += queue.take_dropped()
    got += queue.take(10, now)
    while len(queue):
        now += 0.001 * slowness
        got += queue.take(10, now)
    dropped += queue.take_dropped()
    assert {why for _, why in dropped} <= {OVERLOAD, FULL}
    assert sorted(n for _, n in got + [item for item, _ in dropped]) == list(range(number))
    assert all(numbers == sorted(numbers) for numbers in by_flow(got).values())
    assert queue.flows == 0
