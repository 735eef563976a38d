"""Reading from the kernel's queues without what is too old, with clocks that are set by hand."""

import errno
import os
import random
from collections import Counter

import pytest

from ropeway.app.engine.freshness import (
    DOUBTED_READS,
    MERGED_READS,
    WAKES,
    Bound,
    DeviceSource,
    LinkMerge,
    LinkSource,
)

BATCH = 32


class World:
    """The clock of ages and the wall clock, which is set now and then."""

    def __init__(self, max_age_s=1.0):
        self.now = 1000.0
        self.wall_offset_s = 1.7e9
        self.bound = Bound(max_age_s, lambda: self.now)
        self.expired = Counter()

    def wall(self):
        return self.now + self.wall_offset_s

    def expire(self, key, reads):
        """Leave what is text."""
        self.expired[key] += sum(isinstance(one, float) for one in reads)
        return [one for one in reads if isinstance(one, str)]

    def idle(self, seconds=3.0):
        """Have the loop turn while nothing comes, as often as it has to."""
        for _ in range(round(seconds / self.bound.wake_s)):
            self.now += self.bound.wake_s
            self.turn()

    def turn(self):
        """End a poll, and another one where the loop stood still."""
        if not self.bound.note_poll(self.now, True):
            self.bound.note_poll(self.now, True)

    def stand_still(self, seconds, *queues, every_s=0.1):
        """Let something come to each queue again and again: the time at which it comes."""
        for _ in range(round(seconds / every_s)):
            self.now += every_s
            for queue in queues:
                queue.put(self.now)


class FakeQueue:
    """What waits in the kernel; it loses what comes while it is full."""

    def __init__(self, world, capacity=500):
        self.world, self.capacity = world, capacity
        self.waiting = []
        self.emptied = False
        self.key = "queue"
        self.came = 0.0

    def put(self, item):
        if len(self.waiting) < self.capacity:
            self.waiting.append((item, self.world.wall()))

    def read_batch(self, limit):
        taken = self.waiting[:limit]
        del self.waiting[:limit]
        self.emptied = len(taken) < limit
        if taken:
            self.came = taken[-1][1]
        items = [item for item, _ in taken]
        for at, item in enumerate(items):
            if isinstance(item, OSError):
                if at:
                    self.waiting[:0] = taken[at:]
                    return items[:at]
                self.waiting[:0] = taken[1:]
                raise item
        return items

    receive_batch = read_batch

    def measure(self):
        pass

    def arrived_at(self):
        return self.came


@pytest.fixture
def world():
    made = World()
    made.idle()
    return made


def device(world, capacity=500):
    queue = FakeQueue(world, capacity)
    return queue, DeviceSource("device", queue, queue, world.bound, world.expire)


def link(world, capacity=10**6):
    queue = FakeQueue(world, capacity)
    return queue, LinkSource(queue, world.bound, world.expire, world.wall)


def read(world, source, limit=BATCH):
    """Have the loop turn until the queue is empty; give what it reads and how old it may be."""
    queue = source._queue if isinstance(source, DeviceSource) else source.sockets
    reads = []
    while queue.waiting:
        world.turn()
        source.look()
        some = source.read(limit)
        assert len(some) <= limit
        for one in some:
            assert isinstance(one, str) or one >= source.since - 1e-6, "older than it may be"
        reads += some
        world.now += 0.001
    return reads


@pytest.mark.parametrize("make", [device, link])
def test_what_comes_alone_after_a_long_silence_is_fresh(world, make):
    queue, source = make(world)
    for _ in range(50):
        world.idle(20.0)
        world.now += 0.9 * world.bound.wake_s  # a poll that something ends
        queue.put(world.now)
        sent = queue.waiting[0][0]
        assert read(world, source, limit=1) == [sent]
    assert not world.expired


def test_all_that_the_device_holds_after_a_standstill_is_dropped_and_what_comes_then_is_not(world):
    queue, source = device(world)
    world.stand_still(30.0, queue)
    assert read(world, source) == []
    assert world.expired == {"device": 300}
    for _ in range(100):
        queue.put(world.now)
        assert len(read(world, source)) == 1
    assert world.expired == {"device": 300}


def test_a_standstill_within_the_bound_loses_nothing_of_the_device(world):
    queue, source = device(world)
    world.stand_still(0.5, queue)
    assert len(read(world, source)) == 5
    assert not world.expired


def test_a_flood_of_the_device_that_never_ends_is_fresh(world):
    queue, source = device(world, 100)
    came = taken = 0
    for _ in range(3000):
        for _ in range(100):
            queue.put(world.now)
        world.now += 0.003
        world.turn()
        source.look()
        reads = source.read(BATCH)
        came += 100
        taken += len(reads)
    assert world.now - 1000.0 > 9
    assert taken == 3000 * BATCH
    assert not world.expired


def test_what_the_device_holds_beyond_what_was_dropped_is_read(world):
    """A flood goes on while it is dropped: only what was there at waking is old."""
    queue, source = device(world, 100)
    world.stand_still(30.0, queue)
    read_batch = queue.read_batch

    def flooded(limit):
        taken = read_batch(limit)
        for _ in taken:
            queue.put(world.now)
        queue.emptied = False
        return taken

    queue.read_batch = flooded
    world.turn()
    source.look()
    assert len(source.read(BATCH)) == BATCH
    assert 100 <= world.expired["device"] < 100 + BATCH


def test_an_error_of_the_device_while_old_packets_are_dropped_is_told_and_they_are_not_forgotten(
    world,
):
    queue, source = device(world)
    world.stand_still(10.0, queue)
    queue.waiting.insert(50, (OSError(errno.EINVAL, os.strerror(errno.EINVAL)), 0.0))
    world.turn()
    source.look()
    with pytest.raises(OSError, match="Invalid"):
        source.read(1)
    assert read(world, source) == []
    assert world.expired == {"device": 100}


@pytest.mark.parametrize("make", [device, link])
def test_what_comes_to_an_empty_queue_after_a_standstill_is_fresh(world, make):
    queue, source = make(world)
    world.now += 30.0
    world.turn()
    for _ in range(100):
        world.now += 0.001
        queue.put(world.now)
        assert len(read(world, source)) == 1


@pytest.mark.parametrize("limit", [1, BATCH])
def test_of_a_link_only_what_is_too_old_is_dropped_and_the_rest_comes_in_order(world, limit):
    queue, source = link(world)
    world.stand_still(30.0, queue)
    woke_at = world.now
    reads = read(world, source, limit)
    assert reads == sorted(reads)
    assert woke_at - 1.0 - 1e-6 <= reads[0] <= woke_at - 0.8
    assert reads[-1] == woke_at
    assert world.expired == {"queue": 300 - len(reads)}


def test_what_ends_say_to_each_other_is_handled_however_old_it_is(world):
    queue, source = link(world)
    for number in range(30):
        world.stand_still(1.0, queue)
        queue.put(f"mark {number}")
    reads = read(world, source)
    assert [one for one in reads if isinstance(one, str)] == [f"mark {n}" for n in range(30)]


def test_old_datagrams_take_no_turn_for_ever(world):
    queue, source = link(world)
    world.stand_still(2.0 * DOUBTED_READS * 0.1, queue)
    turns = 0
    while len(queue.waiting) > 10:
        turns += 1
        world.turn()
        source.look()
        source.read(BATCH)
    assert turns <= 4


@pytest.mark.parametrize("step_s", [-3600.0, -0.5, 0.5, 5.0, 3600.0, 1e9])
def test_a_wall_clock_that_is_set_while_the_loop_turns_loses_nothing(world, step_s):
    queue, source = link(world)
    for turn in range(1000):
        queue.put(world.now)
        world.now += 0.005
        if turn % 10 == 5:
            world.wall_offset_s += step_s if turn % 20 == 5 else -step_s
        assert len(read(world, source)) == 1
    assert not world.expired


@pytest.mark.parametrize("step_s", [-3600.0, -0.5, 0.5, 5.0, 3600.0, 1e9])
def test_a_wall_clock_that_is_set_in_a_flood_costs_no_more_than_what_waited_then(world, step_s):
    queue, source = link(world, 1000)
    lost = 0
    for turn in range(3000):
        for _ in range(40):
            queue.put(world.now)
        world.now += 0.005
        world.turn()
        if turn == 1000:
            world.wall_offset_s += step_s
            lost = world.expired["queue"]
        source.look()
        source.read(BATCH)
    assert lost == 0
    assert world.expired["queue"] <= 1000


@pytest.mark.parametrize("step_s", [-3600.0, -10.0, 10.0, 3600.0])
def test_nothing_old_is_delivered_where_the_wall_clock_was_set_while_the_agent_stood_still(
    world, step_s
):
    queue, source = link(world)
    world.stand_still(15.0, queue)
    world.wall_offset_s += step_s
    world.stand_still(15.0, queue)
    woke_at = world.now
    reads = read(world, source)
    assert all(one >= woke_at - 1.0 - 1e-6 for one in reads)
    queue.put(world.now)
    assert len(read(world, source)) == 1


def test_a_failing_link_loses_nothing_that_was_read_before(world):
    queue, source = link(world)
    world.stand_still(5.0, queue)
    queue.put("mark")
    queue.put(OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN)))
    world.stand_still(0.5)
    world.now += 2.0
    world.turn()
    source.look()
    assert source.read(BATCH) == ["mark"]


def test_without_a_bound_nothing_is_dropped():
    for make in (link, device):
        world = World(0)
        queue, source = make(world)
        world.stand_still(40.0, queue)
        assert len(read(world, source)) == 400
        assert not world.expired
    assert world.bound.wake_s == float("inf")


def test_another_bound_holds_at_once():
    world = World(0)
    queue, source = link(world)
    world.bound.set(5.0)
    assert world.bound.wake_s == 5.0 / WAKES
    world.idle()
    world.stand_still(30.0, queue)
    assert len(read(world, source)) == pytest.approx(50, abs=1)


def catch_up(world, *sources):
    """Have the loop go on after a standstill; give what it hands on in each turn, by link."""
    turns = []
    made = LinkMerge(world.bound)
    assert not world.bound.note_poll(world.now, True)
    made.begin(sources)
    world.bound.note_poll(world.now, True)
    while made.goes_on:
        turns.append([(source, one) for source, dated in made.take() for one in dated.reads])
        world.now += 0.001
    return turns


def test_after_a_standstill_links_are_read_in_the_order_in_which_it_came(world):
    links = [link(world) for _ in range(3)]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(1000):
        world.now += 0.003
        for queue, _ in rng.sample(links, rng.randrange(3)):
            queue.put(world.now)
    turns = catch_up(world, *(source for _, source in links))
    taken = [one for turn in turns for _, one in turn]
    woke_at = world.now - 0.001 * len(turns)
    assert taken == sorted(taken)
    assert woke_at - 1.0 - 1e-6 <= taken[0]
    assert max(map(len, turns)) <= MERGED_READS
    assert not any(queue.waiting for queue, _ in links)
    assert world.expired["queue"] + len(taken) > 900


def test_a_link_that_brought_nothing_meanwhile_waits_for_those_that_did(world):
    (old, old_source), (young, young_source) = link(world), link(world)
    world.stand_still(0.9, old, every_s=0.001)
    world.now += 0.5
    made = LinkMerge(world.bound)
    world.bound.note_poll(world.now, True)
    made.begin([old_source, young_source])
    taken = []
    while made.goes_on:
        young.put(world.now)
        taken += [(source, one) for source, dated in made.take() for one in dated.reads]
        world.now += 0.001
    assert [one for _, one in taken] == sorted(one for _, one in taken)
    assert [source for source, _ in taken].index(young_source) >= 390
    assert len(read(world, young_source)) > 5


def test_old_datagrams_of_many_links_are_passed_over_turn_by_turn(world):
    links = [link(world) for _ in range(4)]
    world.stand_still(200.0, *(queue for queue, _ in links), every_s=0.1)
    turns = catch_up(world, *(source for _, source in links))
    assert len(turns) >= 4 * 2000 // DOUBTED_READS
    assert 30 <= sum(map(len, turns)) <= 44


def test_what_is_left_of_old_datagrams_comes_with_the_others(world):
    queue, source = link(world)
    world.stand_still(5.0, queue)
    queue.put("mark")
    world.now += 2.0
    queue.put("young mark")
    made = LinkMerge(world.bound)
    world.bound.note_poll(world.now, True)
    made.begin([source])
    dated = [one for _, one in made.take()]
    assert [one.reads for one in dated] == [["mark"], ["young mark"]]
    assert dated[0].since == float("inf"), "it makes nothing else look old"
    assert not made.goes_on


def test_a_second_standstill_drops_what_the_first_left(world):
    queue, source = link(world)
    world.stand_still(2.0, queue, every_s=0.001)
    made = LinkMerge(world.bound)
    world.bound.note_poll(world.now, True)
    made.begin([source])
    assert len(made.take()) == MERGED_READS
    world.now += 5.0
    world.bound.note_poll(world.now, True)
    made.begin([source])
    while made.goes_on:
        assert made.take() == []
    assert world.expired["queue"] == 2000 - MERGED_READS


def test_a_link_that_is_gone_or_fails_ends_nothing_else(world):
    (gone, gone_source), (broken, broken_source), (queue, source) = (link(world) for _ in range(3))
    broken.put(OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN)))
    world.stand_still(3.0, gone, queue)
    made = LinkMerge(world.bound)
    world.bound.note_poll(world.now, True)
    made.begin([gone_source, broken_source, source])
    made.forget(gone_source)
    taken = made.take()
    assert {one for one, _ in taken} == {source}
    assert not made.goes_on
