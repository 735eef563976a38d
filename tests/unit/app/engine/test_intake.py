"""What comes in, one direction: handed on at once, or waiting its turn in a fair queue."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.app.engine.intake import (
    BATCH_PACKETS,
    BURST_S,
    CALM_S,
    CROWDED_TURNS,
    ITEM_PACKETS,
    LIMIT_PACKETS,
    OVERRUN_TURNS,
    PIECE_READS,
    PIECES_AHEAD,
    QUEUE_PACKETS,
    RETRY_TURNS,
    SPARSE_READS,
    Intake,
    Source,
)
from ropeway.core.data.fair_queue import QUANTUM

TURN_S = 0.0003
SUPER_PACKETS = 64
HALF_PACKETS = BATCH_PACKETS // 2 + 1
"""Two reads of so many packets are a batch."""


class Read:
    """Something that was read: so many packets of a flow."""

    def __init__(self, flow, number, packets=1):
        self.flow, self.number, self.packets = flow, number, packets

    def __repr__(self):
        return f"{self.flow}{self.number}"


class Given(Source):
    """A source whose reads are given, and came when they are read."""

    def __init__(self, key, read, since):
        self.key, self.read, self.since = key, read, since


class Engine:
    """An intake whose handling only notes what it was handed, and whose sources are lists."""

    def __init__(self, **options):
        self.now = 50.0
        self.max_age_s = float("inf")
        self.turn = 0
        self.handed = []
        self.most = 0
        """The most packets that waited or were about to."""
        self.intake = Intake(
            self.handle,
            lambda read: read.flow,
            lambda read: read.packets,
            self.strip,
            **options,
        )

    def handle(self, reads, key, now):
        assert reads
        assert now == self.now
        self.handed.append((key, reads))

    def strip(self, reads):
        """Leave what is a mark; of all else nothing."""
        marks = [read for read in reads if read.flow == "mark"]
        return marks, sum(read.packets for read in reads if read.flow != "mark")

    def give(self, source, asked, limit):
        assert limit >= 1
        asked.append(limit)
        given = source[:limit]
        del source[:limit]
        self.most = max(self.most, len(self.intake) + sum(read.packets for read in given))
        return given

    def look(self, **sources):
        """Look at the sources, for one turn; give how much was asked for."""
        self.turn += 1
        asked = []
        for key, source in sources.items():
            given = Given(key, partial(self.give, source, asked), self.now)
            self.intake.read(given, self.turn, self.now)
        return asked

    def look_on(self, **sources):
        """Look at the sources for as long as something of them is read."""
        while any(sources.values()) and self.look(**sources):
            pass

    def loop(self, seconds=TURN_S, **sources):
        """Have one turn as the agent does, which takes so long."""
        self.look(**{key: source for key, source in sources.items() if source})
        if self.intake.waits:
            self.intake.serve(self.now, self.now - self.max_age_s)
        self.now += seconds

    def taken(self):
        """Give what was handed on since the last time, and forget it."""
        reads = [read for _, reads in self.handed for read in reads]
        self.handed.clear()
        return reads

    def serve(self, turns=1):
        for _ in range(turns):
            self.intake.serve(self.now, self.now - self.max_age_s)
        return self.taken()

    def drain(self):
        reads = []
        while self.intake:
            reads += self.serve()
        return reads

    def crowd(self, *keys):
        """Have sources be read ahead from now on, with nothing waiting."""
        keys = keys or ("one",)
        self.look(**{key: [] for key in keys})
        for _ in range(CROWDED_TURNS):
            self.look(**{key: some("crowd", BATCH_PACKETS) for key in keys})
        assert not self.intake
        self.taken()


def some(flow, count, packets=1, start=0):
    return [Read(flow, number, packets) for number in range(start, start + count)]


def by_flow(handed):
    """Give the numbers that were handed on, by source and flow."""
    flows = {}
    for key, reads in handed:
        for read in reads:
            flows.setdefault((key, read.flow), []).append(read.number)
    return flows


# --- handed on at once


def test_below_saturation_everything_is_handed_on_at_once_in_its_order():
    engine = Engine()
    engine.look(one=[])
    for turn in range(BATCH_PACKETS - 2):
        source = [Read("abc"[n % 3], n) for n in range(BATCH_PACKETS - 1 - turn)]
        reads = list(source)
        engine.look(one=source)
        assert engine.handed == [("one", reads)]
        assert engine.taken() == reads
        assert len(engine.intake) == 0


def test_what_comes_alone_is_handled_before_it_is_asked_for_more():
    engine = Engine()
    source = some("a", 8)
    expected = list(source)
    assert engine.look(one=source) == [1]
    assert engine.taken() == expected[:1]
    (limit,) = engine.look(one=source)
    assert limit > 7
    assert engine.taken() == expected[1:]
    (limit,) = engine.look(one=source)
    assert limit > 1
    engine.look()
    assert engine.look(one=some("b", 2)) == [1]
    assert engine.look(other=[]) == [1]


def test_nothing_is_handled_where_nothing_came():
    engine = Engine()
    for _ in range(3):
        engine.look(one=[])
    engine.crowd()
    engine.look(one=[])
    assert engine.handed == []
    assert not engine.intake.waits


def test_nothing_waits_for_the_first_turns_of_a_full_source():
    engine = Engine()
    engine.look(one=[])
    for _ in range(CROWDED_TURNS):
        reads = some("a", BATCH_PACKETS)
        engine.look(one=list(reads))
        assert engine.taken() == reads
        assert not engine.intake


def test_what_exceeds_a_batch_waits():
    engine = Engine()
    engine.look(one=[])
    reads = some("a", 5, packets=HALF_PACKETS)
    engine.look(one=list(reads))
    assert engine.taken() == reads[:2]
    assert len(engine.intake) == 3 * HALF_PACKETS
    assert engine.drain() == reads[2:]


def test_one_read_may_exceed_a_batch():
    engine = Engine()
    (read,) = some("a", 1, packets=3 * BATCH_PACKETS)
    engine.look(one=[read])
    assert engine.taken() == [read]
    engine.crowd()
    engine.look(one=[read])
    assert engine.taken() == []
    assert engine.serve() == [read]


def test_large_reads_are_counted_by_their_packets():
    engine = Engine()
    engine.look(one=[])
    for _ in range(3):
        engine.look(one=some("a", 3, packets=BATCH_PACKETS // 4))
        (limit,) = engine.look(one=some("a", 3, packets=BATCH_PACKETS // 4))
        assert 4 <= limit <= 6
        assert not engine.intake
    (limit,) = engine.look(one=some("a", 2))
    assert 4 <= limit <= 6
    (limit,) = engine.look(one=[])
    assert limit >= BATCH_PACKETS


def test_super_packets_that_come_after_lone_packets_fit():
    engine = Engine()
    engine.look(one=some("a", 1), other=some("b", 1))
    engine.taken()
    one, other = (some(flow, 70, SUPER_PACKETS) for flow in "ab")
    reads = one + other
    (limit, *_) = engine.look(one=one, other=other)
    assert limit <= PIECE_READS
    while one or other or engine.intake:
        engine.loop(0.0, one=one, other=other)
    assert engine.most <= LIMIT_PACKETS
    assert engine.intake.dropped == {}
    assert by_flow(engine.handed) == by_flow([("one", reads[:70]), ("other", reads[70:])])


def test_what_a_read_raises_is_raised_and_what_came_before_is_handed_on():
    engine = Engine()
    engine.crowd()
    reads = some("a", PIECE_READS)
    source = [reads, OSError("gone")]

    def read(limit):
        given = source.pop(0)
        if isinstance(given, OSError):
            raise given
        return given

    with pytest.raises(OSError, match="gone"):
        engine.intake.read(Given("one", read, engine.now), engine.turn + 1, engine.now)
    assert engine.drain() == reads


# --- read ahead


def test_a_full_source_is_read_ahead_after_some_turns_on_end():
    engine = Engine()
    engine.look(one=[])
    for _ in range(CROWDED_TURNS):
        (limit,) = engine.look(one=some("a", BATCH_PACKETS))
        assert limit <= BATCH_PACKETS + 2
    engine.taken()
    reads = some("a", 4 * BATCH_PACKETS)
    asked = engine.look(one=list(reads))
    assert set(asked) == {PIECE_READS}
    assert engine.taken() == []
    assert len(engine.intake) == len(reads)
    assert engine.serve() == reads[:BATCH_PACKETS]
    assert engine.drain() == reads[BATCH_PACKETS:]
    assert engine.look(other=some("b", 2)) == [1]


def test_a_turn_that_is_not_full_begins_the_count_anew():
    engine = Engine()
    engine.look(one=[])
    for few in (1, 2, BATCH_PACKETS - 1):
        for _ in range(CROWDED_TURNS - 1):
            engine.look(one=some("a", BATCH_PACKETS))
        engine.look(one=some("a", few))
        assert not engine.intake


def test_a_source_that_is_no_longer_full_is_handed_on_at_once_again():
    engine = Engine()
    engine.crowd()
    engine.look(one=some("a", 3))
    assert engine.taken() == []
    assert len(engine.drain()) == 3
    reads = some("a", 3, start=3)
    engine.look(one=list(reads))
    assert engine.taken() == reads


def test_where_something_waits_all_is_read():
    engine = Engine()
    engine.crowd()
    source, other = some("a", 10), some("b", 3)
    engine.look(one=source)
    engine.look(other=other)
    assert source == other == []
    assert engine.taken() == []
    assert len(engine.drain()) == 13


def test_while_something_waits_nothing_passes_it():
    engine = Engine()
    engine.look(one=[])
    first, second = some("a", 5, packets=HALF_PACKETS), some("a", 2, start=5)
    engine.look(one=list(first))
    engine.taken()
    engine.look(one=list(second))
    assert engine.taken() == []
    assert engine.drain() == first[2:] + second


def test_packets_of_one_flow_wait_together_but_not_too_many(monkeypatch):
    engine = Engine()
    engine.crowd()
    sizes = []
    put = engine.intake._queue.put
    monkeypatch.setattr(
        type(engine.intake._queue),
        "put",
        lambda queue, flow, item, size, now, since: (
            sizes.append(size) or put(flow, item, size, now, since)
        ),
    )
    engine.look(one=[*some("a", 20), *some("b", 3), *some("a", 1), Read("a", 0, 64)])
    assert sizes == [16, 4, 3, 1, 64]


# --- who waits for whom


def test_a_sparse_flow_does_not_wait_behind_a_full_one():
    engine = Engine()
    engine.crowd()
    engine.look(one=some("bulk", 4 * BATCH_PACKETS))
    engine.serve()
    call = Read("call", 0)
    engine.look(one=[*some("bulk", 50, start=1000), call])
    assert engine.serve()[0] is call


def test_a_sparse_source_does_not_wait_behind_a_full_one():
    engine = Engine()
    engine.crowd()
    engine.look(one=some("a", 4 * BATCH_PACKETS))
    engine.serve()
    engine.look(other=some("a", 1, start=1000))
    engine.intake.serve(engine.now, engine.now - engine.max_age_s)
    assert engine.handed[0][0] == "other"
    assert {key for key, _ in engine.handed} == {"one", "other"}


def test_flows_share_evenly():
    engine = Engine()
    engine.crowd()
    engine.look_on(one=[read for flow in "abcd" for read in some(flow, 4 * QUANTUM)])
    served = engine.serve(8 * QUANTUM // BATCH_PACKETS)
    shares = [sum(read.flow == flow for read in served) for flow in "abcd"]
    assert max(shares) - min(shares) <= QUANTUM


# --- a burst is left to the kernel


def test_while_a_burst_lasts_nothing_more_is_read_than_may_wait():
    engine = Engine()
    engine.crowd("one", "other")
    source, other = some("a", 2 * QUEUE_PACKETS), some("b", 3)
    reads = list(source)
    engine.look_on(one=source)
    assert QUEUE_PACKETS <= len(engine.intake) < QUEUE_PACKETS + PIECE_READS
    engine.now += BURST_S / 2
    assert engine.look(one=source, other=other) == []
    assert len(other) == 3
    # All of it is there, in its order, and reading goes on as room comes.
    served = engine.serve(4)
    assert engine.look(one=source) != []
    assert len(engine.intake) <= QUEUE_PACKETS + PIECE_READS
    assert served + engine.drain() + source == reads
    assert engine.intake.dropped == {}


def test_large_reads_fill_the_queue_by_their_packets():
    engine = Engine()
    engine.crowd()
    source = some("a", QUEUE_PACKETS, packets=SUPER_PACKETS)
    engine.look_on(one=source)
    assert QUEUE_PACKETS <= len(engine.intake) < QUEUE_PACKETS + PIECE_READS * SUPER_PACKETS
    assert engine.look(one=source) == []


def test_a_stalls_backlog_is_handed_on_whole():
    engine = Engine()
    source = some("a", 4000)
    reads = list(source)
    began = engine.now
    while source or engine.intake:
        engine.loop(one=source)
    assert engine.now - began < 0.1
    assert engine.taken() == reads
    assert engine.intake.dropped == {}
    assert QUEUE_PACKETS <= engine.most < QUEUE_PACKETS + PIECE_READS


@pytest.mark.parametrize("packets", [4000, 6000])
@pytest.mark.parametrize("sources", [1, 2])
def test_each_burst_is_left_to_the_kernel_anew(packets, sources):
    engine = Engine()
    for _ in range(4):
        given = {f"link{n}": some("ab"[n], packets // sources) for n in range(sources)}
        while any(given.values()) or engine.intake:
            engine.loop(**given)
        engine.now += CALM_S
    assert len(engine.taken()) == 4 * packets
    assert engine.intake.dropped == {}
    assert engine.most < QUEUE_PACKETS + sources * PIECE_READS


def test_flood_with_a_moments_rest_is_no_new_burst():
    engine = standing()
    engine.drain()
    engine.now += CALM_S / 20
    source = some("a", LIMIT_PACKETS)
    engine.look(one=[source.pop(0)])
    engine.now += BURST_S / 10
    engine.look_on(one=source)
    assert source == []


def test_a_burst_of_one_source_does_not_keep_a_sparse_one_waiting():
    engine = Engine()
    engine.crowd()
    source = some("a", 3 * QUEUE_PACKETS)
    for number in range(20):
        call = Read("call", number)
        engine.loop(one=source, other=[call])
        engine.loop(one=source)
        engine.loop(one=source)
        assert call in engine.taken()
    assert source


@pytest.mark.parametrize("packets", [1, SUPER_PACKETS])
def test_sources_that_burst_at_once_fit(packets):
    engine = Engine()
    engine.crowd()
    given = {"one": some("a", LIMIT_PACKETS, packets)}
    given.update({f"link{n}": some("b", 70, packets) for n in range(10)})
    expected = by_flow(given.items())
    while any(given.values()) or engine.intake:
        engine.loop(0.0, **given)
    assert by_flow(engine.handed) == expected
    assert engine.intake.dropped == {}


# --- more than can be handled


def standing(*keys, **options):
    """Give an engine with a full queue of one flow, whose burst is over."""
    engine = Engine(**options)
    engine.crowd(*keys)
    engine.look_on(one=some("a", QUEUE_PACKETS))
    engine.now += 1.01 * BURST_S
    return engine


def test_what_waits_for_longer_than_a_burst_no_longer_keeps_anything_from_being_read():
    engine = standing()
    engine.serve()
    source, other = some("a", PIECE_READS, start=QUEUE_PACKETS), some("b", 3)
    engine.look(one=source, other=other)
    assert source == other == []
    assert [read.flow for read in engine.serve()[:3]] == ["b"] * 3
    assert engine.intake.dropped == {}


def test_one_turn_reads_no_more_than_so_many_pieces():
    engine = standing()
    source = some("a", 2 * PIECES_AHEAD * PIECE_READS)
    assert engine.look(one=source) == [PIECE_READS] * PIECES_AHEAD
    assert len(source) == PIECES_AHEAD * PIECE_READS


def test_a_source_overruns_where_it_is_not_read_to_its_end_for_many_turns_until_it_is():
    engine = standing()
    for turn in range(2 * OVERRUN_TURNS):
        assert engine.intake.overruns("flood") == (turn >= OVERRUN_TURNS)
        engine.look(flood=some("a", 2 * PIECES_AHEAD * PIECE_READS), other=some("b", 1))
        assert not engine.intake.overruns("other")
    engine.look(flood=some("a", PIECE_READS + 1))
    assert not engine.intake.overruns("flood")


@pytest.mark.parametrize("rest", ["calm", "gone"])
def test_a_source_no_longer_overruns_that_rested_or_went(rest):
    engine = standing()
    for _ in range(OVERRUN_TURNS):
        engine.look(flood=some("a", 2 * PIECES_AHEAD * PIECE_READS))
    assert engine.intake.overruns("flood")
    if rest == "calm":
        engine.drain()
        engine.look(flood=[])
        engine.look(flood=some("a", 1))
    else:
        engine.intake.forget("flood")
    assert not engine.intake.overruns("flood")


def test_little_is_read_of_a_source_that_overruns_but_all_there_is_now_and_then():
    engine = standing(overrun_pieces=2)
    pieces = []
    for _ in range(OVERRUN_TURNS + 2 * RETRY_TURNS):
        pieces.append(len(engine.look(flood=some("a", 2 * PIECES_AHEAD * PIECE_READS))))
    assert pieces[:OVERRUN_TURNS] == [PIECES_AHEAD] * OVERRUN_TURNS
    assert set(pieces[OVERRUN_TURNS:]) == {2, PIECES_AHEAD}
    assert pieces[OVERRUN_TURNS:].count(PIECES_AHEAD) == 2


def test_a_turn_reads_no_more_of_many_sources_than_of_one_but_something_of_each():
    links = [f"link{n}" for n in range(50)]
    engine = standing(*links)
    asked = engine.look(**{link: some(link, PIECES_AHEAD * PIECE_READS) for link in links})
    assert asked == [PIECE_READS] * (PIECES_AHEAD + len(links) - 1)


@pytest.mark.parametrize("flooded", [1, 2, 8])
def test_the_more_sources_are_flooded_the_more_is_handled(flooded):
    links = [f"link{n}" for n in range(flooded)]
    engine = standing(*links, "quiet")
    given = {link: some(link, PIECES_AHEAD * PIECE_READS) for link in links}
    given["quiet"] = some("quiet", 1)
    engine.look(**given)
    handled = len(engine.serve())
    assert flooded * BATCH_PACKETS <= handled < (flooded + 1) * QUANTUM
    # Where nothing was read since, nothing was brought.
    engine.turn += 1
    assert len(engine.serve()) < BATCH_PACKETS + QUANTUM


def test_nothing_is_read_that_would_push_out_what_was_read_with_it():
    engine = standing()
    source = some("a", LIMIT_PACKETS, SUPER_PACKETS)
    (first, second) = engine.look(one=source)
    assert (first + second) * SUPER_PACKETS <= LIMIT_PACKETS + PIECE_READS


def test_what_more_than_the_queue_holds_is_dropped_and_counted_by_source_and_reason():
    engine = standing("one", "other")
    count = QUEUE_PACKETS
    for _ in range(3):
        engine.look_on(one=some("a", QUEUE_PACKETS, start=count), other=some("b", 10, start=count))
        count += QUEUE_PACKETS
    assert len(engine.intake) <= LIMIT_PACKETS
    left = engine.drain()
    dropped = engine.intake.dropped
    assert dropped == {"one": {"full": count + 30 - len(left)}}
    assert dropped["one"]["full"] >= count - LIMIT_PACKETS
    assert sum(read.flow == "b" for read in left) == 30
    numbers = [read.number for read in left if read.flow == "a"]
    # The longest flow has lost what waited longest.
    assert numbers == list(range(count - len(numbers), count))


def test_drops_are_counted_however_many_a_turn_brings():
    engine = Engine()
    engine.look(one=[])
    count = 8 * QUEUE_PACKETS
    # Each waits alone, as the next is of another flow.
    source = [Read("ab"[number % 2], number) for number in range(count)]
    for at in range(0, count, PIECE_READS):
        given = Given("one", None, engine.now)
        engine.intake._enqueue(given, source[at : at + PIECE_READS], engine.now)
    left = len(engine.drain())
    assert left <= LIMIT_PACKETS
    assert engine.intake.dropped == {"one": {"full": count - left}}


def test_what_came_too_long_ago_is_dropped_and_marks_are_handled():
    engine = Engine()
    engine.max_age_s = 1.0
    engine.crowd()
    old = some("a", 20) + some("mark", 2) + some("b", 20)
    engine.look(one=list(old))
    engine.now += 1.1
    engine.look(one=some("a", 20, start=20))
    assert engine.intake.oldest == engine.now - 1.1, "some of it was handed on"
    engine.taken()
    engine.intake.oldest = float("inf")
    handled = engine.drain()
    assert [read.number for read in handled if read.flow == "mark"] == [0, 1]
    assert {read.number for read in handled if read.flow == "a"} == set(range(20, 40))
    assert not [read for read in handled if read.flow == "b"]
    assert engine.intake.dropped == {"one": {"expired": 40}}
    assert engine.intake.oldest == engine.now


def test_what_is_handed_on_at_once_says_how_old_it_may_be():
    engine = Engine()
    engine.look(one=[])
    assert engine.intake.oldest == float("inf")
    engine.look(one=some("a", 1))
    first = engine.now
    assert engine.intake.oldest == first
    engine.now += 1.0
    engine.look(one=some("a", 1))
    assert engine.intake.oldest == first


def test_what_waits_for_too_long_is_dropped_as_overload():
    engine = Engine()
    engine.crowd()
    count = served = 0
    for _ in range(50):
        reads = some("a", 2 * BATCH_PACKETS, start=count)
        count += len(reads)
        engine.loop(0.005, one=reads)
        assert reads == []
        served += len(engine.taken())
    dropped = engine.intake.dropped["one"]
    assert set(dropped) == {"overload"}
    assert served + dropped["overload"] + len(engine.intake) == count


def test_a_standing_flood_loses_nothing_of_a_sparse_flow():
    kernel_packets = 1000
    engine = Engine()
    source = []
    began = engine.now
    turns = calls = 0
    while engine.now - began < 8 * BURST_S:
        turns += 1
        source += some("flood", 2 * BATCH_PACKETS)
        # While the burst lasts, the kernel's queue overflows, and it tells no flows.
        call = turns % 7 == 0 and engine.now - began > 1.5 * BURST_S
        if call:
            source.append(Read("call", turns))
        del source[kernel_packets:]
        engine.loop(one=source)
        numbers = [read.number for read in engine.taken() if read.flow == "call"]
        assert numbers == ([turns] if call else [])
        calls += call
    assert calls > 100
    assert engine.intake.dropped["one"]


@pytest.mark.parametrize("packets", [1, 3, SUPER_PACKETS])
@pytest.mark.parametrize("sources", [1, 3])
def test_no_more_than_the_queues_limit_and_a_piece_ever_wait(packets, sources):
    engine = Engine()
    began = engine.now
    while engine.now - began < 3 * BURST_S:
        given = {f"link{n}": some("ab"[n % 2], 3000, packets) for n in range(sources)}
        engine.loop(BURST_S / 8, **given)
        engine.handed.clear()
        assert len(engine.intake) <= LIMIT_PACKETS
    assert engine.intake.dropped
    assert engine.most <= LIMIT_PACKETS + PIECE_READS * SUPER_PACKETS


# --- sources that go


def test_who_is_gone_is_forgotten():
    engine = standing()
    engine.look_on(one=some("a", 2 * LIMIT_PACKETS))
    engine.drain()
    assert engine.intake.dropped["one"]["full"]
    engine.intake.forget("one")
    engine.intake.forget("never seen")
    assert engine.intake.dropped == {}
    reads = some("a", 2)
    source = list(reads)
    assert engine.look(one=source) == [1]
    engine.look(one=source)
    assert engine.taken() == reads


def test_what_waits_of_a_source_that_is_gone_is_still_handed_on():
    engine = Engine()
    engine.look(one=[])
    reads = some("a", 5, packets=HALF_PACKETS)
    engine.look(one=list(reads))
    engine.taken()
    engine.intake.forget("one")
    assert engine.drain() == reads[2:]


def test_what_is_dropped_of_a_source_that_is_gone_is_not_counted():
    engine = standing("one", "other")
    engine.look_on(one=some("a", QUEUE_PACKETS))
    engine.intake.forget("one")
    engine.look_on(other=some("a", 4 * QUEUE_PACKETS))
    engine.drain()
    assert set(engine.intake.dropped) == {"other"}


# --- whatever comes


def test_limits_fit_each_other():
    assert CROWDED_TURNS >= 1
    assert 1 <= ITEM_PACKETS <= BATCH_PACKETS <= QUEUE_PACKETS
    # A source of lone packets can fill its batch, and much more than a batch is read ahead.
    assert PIECE_READS >= BATCH_PACKETS
    assert PIECES_AHEAD * PIECE_READS >= 8 * BATCH_PACKETS
    # One turn does not read for so long that what comes meanwhile waits for milliseconds.
    assert PIECES_AHEAD * PIECE_READS <= 1024
    # The last piece of a burst has room in the queue, and a sparse source besides.
    most = QUEUE_PACKETS - 1 + PIECE_READS * SUPER_PACKETS
    assert most + SPARSE_READS * SUPER_PACKETS <= LIMIT_PACKETS


def turns(lengths):
    """Give what comes of two sources in each turn: runs of reads, and how long the turn takes."""
    runs = st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, SUPER_PACKETS), st.integers(1, 150)),
        max_size=3,
    )
    return st.lists(st.tuples(runs, runs, lengths), max_size=20)


def carry(engine, steps):
    """Have everything come and be handed on; give what came, as `by_flow`, and its packets."""
    sources = {"one": [], "other": []}
    came, packets, number = {}, {"one": 0, "other": 0}, 0
    for *both, length in steps:
        for (key, source), runs in zip(sources.items(), both):
            for flow, size, count in runs:
                source += some(flow, count, size, number)
                came.setdefault((key, flow), []).extend(range(number, number + count))
                packets[key] += size * count
                number += count
        engine.loop(length, **sources)
    while any(sources.values()) or engine.intake:
        engine.loop(0.0, **sources)
    return came, packets


@given(turns(st.just(0.0)))
def test_while_a_burst_lasts_nothing_is_lost_doubled_or_reordered_inside_a_flow(steps):
    engine = Engine()
    came, _ = carry(engine, steps)
    assert by_flow(engine.handed) == came
    assert engine.intake.dropped == {}


@given(turns(st.sampled_from([0.0, TURN_S, 0.01, BURST_S])))
def test_what_is_lost_is_counted_and_nothing_is_doubled_or_reordered(steps):
    engine = Engine()
    came, packets = carry(engine, steps)
    handed = by_flow(engine.handed)
    for flow, numbers in handed.items():
        assert numbers == sorted(set(numbers) & set(came[flow]))
    for key, count in packets.items():
        served = sum(
            read.packets for other, reads in engine.handed if other == key for read in reads
        )
        dropped = sum(engine.intake.dropped.get(key, {}).values())
        assert served + dropped == count


def test_reads_of_more_than_a_batch_do_not_slow_down_what_comes_after():
    engine = Engine()
    engine.look(one=[])
    engine.look(one=some("a", 2, packets=BATCH_PACKETS + 1))
    engine.drain()
    source = some("b", 10 * BATCH_PACKETS)
    for _ in range(20):
        engine.loop(one=source)
    assert source == []
