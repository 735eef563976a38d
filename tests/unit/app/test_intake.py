"""What comes in, one direction: handed on at once, or waiting its turn in a fair queue."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.app import intake
from ropeway.app.intake import BATCH_PACKETS, CROWDED_TURNS, QUEUE_PACKETS, READS_AHEAD, Intake


class Read:
    """Something that was read: so many packets of a flow."""

    def __init__(self, flow, number, packets=1):
        self.flow, self.number, self.packets = flow, number, packets

    def __repr__(self):
        return f"{self.flow}{self.number}"


class Engine:
    """An intake whose handling only notes what it was handed."""

    def __init__(self):
        self.now = 50.0
        self.handed = []
        self.intake = Intake(self.handle, lambda read: read.flow, lambda read: read.packets)

    def handle(self, reads, key, now):
        assert reads
        assert now == self.now
        self.handed.append((key, reads))

    def take(self, reads, key="one"):
        self.intake.take(key, reads, self.now)

    def limit(self, key="one"):
        return self.intake.limit(key)

    def read(self, source, turn, key="one"):
        """Read from a source, a list, as far as the intake wants; return how far that is."""
        limits = []

        def read(limit):
            limits.append(limit)
            taken = source[:limit]
            del source[:limit]
            return taken

        self.intake.read(key, read, turn, self.now)
        return limits[0] if limits else 0

    def taken(self):
        """Give what was handed on since the last time, and forget it."""
        reads = [read for _, reads in self.handed for read in reads]
        self.handed.clear()
        return reads

    def serve(self, turns=1):
        for _ in range(turns):
            self.intake.serve(self.now)
        return self.taken()

    def drain(self):
        reads = []
        while self.intake:
            reads += self.serve()
        return reads

    def crowd(self, key="one"):
        """Have a source be read ahead from now on, with nothing waiting."""
        for _ in range(CROWDED_TURNS):
            self.take(some("crowd", BATCH_PACKETS), key)
        self.drain()
        self.taken()


def some(flow, count, packets=1, start=0):
    return [Read(flow, number, packets) for number in range(start, start + count)]


def test_below_saturation_everything_is_handed_on_at_once_in_its_order():
    engine = Engine()
    for turn in range(20):
        reads = [Read("abc"[n % 3], n) for n in range(BATCH_PACKETS - 1 - turn)]
        engine.take(reads)
        assert engine.handed == [("one", reads)]
        assert engine.taken() == reads
        assert len(engine.intake) == 0


def test_what_comes_alone_is_handled_before_it_is_asked_for_more():
    engine = Engine()
    source = some("a", 8)
    expected = list(source)
    assert engine.read(source, 1) == 1
    assert engine.taken() == expected[:1]
    assert engine.read(source, 2) > 7
    assert engine.taken() == expected[1:]
    assert engine.read(source, 3) > 1
    assert engine.read(some("b", 2), 5) == 1
    assert engine.read([], 6, "other") == 1


def test_where_something_waits_all_is_read():
    engine = Engine()
    engine.crowd()
    engine.take(some("a", 10))
    assert engine.read(some("b", 3), 7, "other") > 1
    assert len(engine.drain()) == 13


def test_nothing_is_read_while_enough_waits():
    engine = Engine()
    engine.crowd()
    engine.take(some("a", QUEUE_PACKETS))
    assert engine.read(some("b", 3), 7) == 0


def test_nothing_waits_for_the_first_turns_of_a_full_source():
    engine = Engine()
    for _ in range(CROWDED_TURNS):
        reads = some("a", BATCH_PACKETS)
        engine.take(reads)
        assert engine.taken() == reads
        assert not engine.intake


def test_a_full_source_is_read_ahead_after_some_turns_on_end():
    engine = Engine()
    for _ in range(CROWDED_TURNS):
        assert engine.limit() <= BATCH_PACKETS
        engine.take(some("a", BATCH_PACKETS))
    assert engine.limit() == READS_AHEAD
    assert engine.limit("other") <= BATCH_PACKETS
    engine.taken()
    reads = some("a", READS_AHEAD)
    engine.take(reads)
    assert engine.taken() == []
    assert len(engine.intake) == READS_AHEAD
    assert engine.serve() == reads[:BATCH_PACKETS]
    assert engine.drain() == reads[BATCH_PACKETS:]


def test_a_turn_that_is_not_full_begins_the_count_anew():
    engine = Engine()
    for _ in range(3 * CROWDED_TURNS):
        for _ in range(CROWDED_TURNS - 1):
            engine.take(some("a", BATCH_PACKETS))
        engine.take(some("a", 1))
    assert engine.limit() <= BATCH_PACKETS
    assert not engine.intake


def test_a_source_that_is_no_longer_full_is_handed_on_at_once_again():
    engine = Engine()
    engine.crowd()
    engine.take(some("a", 3))
    assert engine.taken() == []
    assert len(engine.drain()) == 3
    reads = some("a", 3, start=3)
    engine.take(reads)
    assert engine.taken() == reads


def test_what_exceeds_a_batch_waits():
    engine = Engine()
    reads = some("a", 5, packets=40)
    engine.take(reads)
    assert engine.taken() == reads[:2]
    assert len(engine.intake) == 3 * 40
    assert engine.drain() == reads[2:]


def test_one_read_may_exceed_a_batch():
    engine = Engine()
    (read,) = reads = some("a", 1, packets=3 * BATCH_PACKETS)
    engine.take(reads)
    assert engine.taken() == [read]
    engine.crowd()
    engine.take(reads)
    assert engine.serve() == [read]


def test_while_something_waits_nothing_passes_it():
    engine = Engine()
    first, second = some("a", 5, packets=40), some("a", 2, start=5)
    engine.take(first)
    engine.taken()
    engine.take(second)
    assert engine.taken() == []
    assert engine.drain() == first[2:] + second


def test_a_sparse_flow_does_not_wait_behind_a_full_one():
    engine = Engine()
    engine.crowd()
    engine.take(some("bulk", READS_AHEAD))
    engine.serve()
    call = Read("call", 0)
    engine.take([*some("bulk", 50, start=READS_AHEAD), call])
    assert engine.serve()[0] is call


def test_a_sparse_source_does_not_wait_behind_a_full_one():
    engine = Engine()
    engine.crowd()
    engine.take(some("a", READS_AHEAD))
    engine.serve()
    engine.take(some("a", 1, start=1000), key="other")
    engine.intake.serve(engine.now)
    assert engine.handed[0][0] == "other"
    assert {key for key, _ in engine.handed} == {"one", "other"}


def test_flows_share_evenly():
    engine = Engine()
    engine.crowd()
    for flow in "abcd":
        engine.take(some(flow, READS_AHEAD))
    served = engine.serve(8)
    shares = [sum(read.flow == flow for read in served) for flow in "abcd"]
    assert max(shares) - min(shares) <= BATCH_PACKETS


def test_nothing_more_is_read_while_enough_waits():
    engine = Engine()
    engine.crowd()
    waiting = 0
    while engine.limit():
        count = engine.limit()
        engine.take(some("a", count, start=waiting))
        waiting += count
    assert QUEUE_PACKETS <= len(engine.intake) <= QUEUE_PACKETS + READS_AHEAD
    assert engine.limit() == engine.limit("other") == 0
    assert engine.intake.dropped == {}
    # All of it is there, in its order, and reading goes on as room comes.
    engine.serve(4)
    assert 0 < engine.limit() <= READS_AHEAD


def test_large_reads_are_counted_by_their_packets():
    engine = Engine()
    engine.crowd()
    engine.take(some("a", 10, packets=64))
    room = QUEUE_PACKETS - 10 * 64
    assert engine.limit() == room // 64 + 1
    small = Engine()
    small.take(some("a", 2, packets=1))
    assert small.limit() == BATCH_PACKETS


def test_what_more_than_the_queue_holds_is_dropped_and_counted_by_source_and_reason():
    engine = Engine()
    engine.crowd()
    many = some("a", 3 * QUEUE_PACKETS)
    engine.take(many)
    engine.take(some("b", 10), key="other")
    left = engine.drain()
    assert engine.intake.dropped == {"one": {"full": len(many) + 10 - len(left)}}
    assert engine.intake.dropped["one"]["full"] >= QUEUE_PACKETS
    assert sum(read.flow == "b" for read in left) == 10
    numbers = [read.number for read in left if read.flow == "a"]
    assert numbers == sorted(numbers)


def test_what_waits_for_too_long_is_dropped_as_overload():
    engine = Engine()
    engine.crowd()
    served = 0
    count = 0
    for _ in range(400):
        reads = some("a", engine.limit(), start=count)
        count += len(reads)
        if reads:
            engine.take(reads)
        engine.now += 0.005
        served += len(engine.serve())
    dropped = engine.intake.dropped["one"]
    assert set(dropped) == {"overload"}
    assert served + dropped["overload"] + len(engine.intake) == count


def test_packets_of_one_flow_wait_together_but_not_too_many(monkeypatch):
    engine = Engine()
    engine.crowd()
    sizes = []
    put = engine.intake._queue.put
    monkeypatch.setattr(
        type(engine.intake._queue),
        "put",
        lambda queue, flow, item, size, now: (sizes.append(size), put(flow, item, size, now)),
    )
    engine.take([*some("a", 40), *some("b", 3), *some("a", 1), Read("a", 0, 64)])
    assert sizes == [16, 16, 8, 3, 1, 64]


def test_who_is_gone_is_forgotten():
    engine = Engine()
    engine.crowd()
    engine.take(some("a", 3 * QUEUE_PACKETS))
    engine.drain()
    assert engine.intake.dropped["one"]["full"]
    engine.intake.forget("one")
    engine.intake.forget("never seen")
    assert engine.intake.dropped == {}
    reads = some("a", 2)
    engine.take(reads)
    assert engine.taken() == reads


def test_what_waits_of_a_source_that_is_gone_is_still_handed_on():
    engine = Engine()
    reads = some("a", 5, packets=40)
    engine.take(reads)
    engine.taken()
    engine.intake.forget("one")
    assert engine.drain() == reads[2:]


@pytest.mark.parametrize("name", ["BATCH_PACKETS", "CROWDED_TURNS", "ITEM_PACKETS"])
def test_limits_fit_each_other(name):
    assert 1 <= getattr(intake, name) <= READS_AHEAD <= QUEUE_PACKETS


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.tuples(
                st.sampled_from(["one", "other"]),
                st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 70)), min_size=1),
            ),
        )
    )
)
@settings(deadline=None)
def test_nothing_is_lost_twice_or_out_of_order_inside_a_flow(steps):
    engine = Engine()
    given_ = {}
    came = {}
    number = 0

    def note():
        for key, reads in engine.handed:
            for read in reads:
                came.setdefault((key, read.flow), []).append(read.number)
        engine.handed.clear()

    for step in steps:
        if step is None:
            engine.intake.serve(engine.now)
        else:
            key, shapes = step
            reads = []
            for flow, packets in shapes:
                number += 1
                reads.append(Read(flow, number, packets))
                given_.setdefault((key, flow), []).append(number)
            engine.take(reads, key)
        note()
    while engine.intake:
        engine.intake.serve(engine.now)
        note()
    if not engine.intake.dropped:
        assert came == given_
    else:
        assert all(numbers == sorted(set(numbers)) for numbers in came.values())
