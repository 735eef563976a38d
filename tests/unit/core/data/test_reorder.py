"""Packets of a lane go on in the order in which they were sent."""

import gc
import random
import weakref
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core import tuning
from ropeway.core.data.reorder import Lane, Reorder
from ropeway.core.session.replay import REPLAY_SKIP
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE

HOLD_S = 0.2


class Session:
    def __init__(self, created_at=0.0, local_index=b"abcd"):
        self.created_at = created_at
        self.local_index = local_index


class Strand:
    def __init__(self, host="10.0.0.2", holds_ms=(200,)):
        self.host = host
        self.holds_ms = holds_ms
        self.lanes = {}


class World:
    """A lane, and the numbers of the packets that went on."""

    def __init__(self):
        self.lane = Lane()
        self.session = Session()
        self.went = []

    def come(self, way, *counters, now=0.0, partial=False, known=()):
        """Packets arrive over a connection; copies of known ones too."""
        numbered = [(counter, b"%d" % counter) for counter in counters]
        top = max([*counters, *known])
        parts = self.lane.take(self.session, way, top, numbered, partial, HOLD_S, now)
        self.note(parts)
        return parts

    def expire(self, now):
        self.note(self.lane.expire(HOLD_S, now))

    def note(self, parts):
        self.went += [int(packet) for _, packets in parts for packet in packets]


def test_what_comes_in_order_goes_on_at_once():
    world = World()
    world.come(1, 0, 1, 2)
    world.come(1, 3)
    assert world.went == [0, 1, 2, 3]
    assert world.lane.due(HOLD_S) == NOT_DUE


def test_a_packet_waits_for_the_one_before_it_that_is_on_another_connection():
    world = World()
    world.come(2, 0)
    world.come(1, 2, 3)
    assert world.went == [0]
    world.come(2, 1, now=0.05)
    assert world.went == [0, 1, 2, 3]
    assert world.lane.late == 0


def test_nothing_waits_for_a_packet_that_every_connection_has_left_behind():
    world = World()
    world.come(1, 0)
    world.come(2, 1)
    world.come(1, 3)
    assert world.went == [0, 1]
    world.come(2, 4, now=0.01)
    assert world.went == [0, 1, 3, 4]


def test_a_later_copy_shows_as_well_that_a_connection_has_left_a_packet_behind():
    world = World()
    world.come(1, 0)
    world.come(2, known=(0,))
    world.come(1, 2)
    assert world.went == [0]
    world.come(2, known=(2,), now=0.03)
    assert world.went == [0, 2]


def test_a_loss_on_the_only_connection_holds_nothing_back():
    world = World()
    world.come(1, 0)
    world.come(1, 2, 5)
    assert world.went == [0, 2, 5]


def test_a_packet_waits_no_longer_than_it_may():
    world = World()
    world.come(2, 0, now=0.95)
    world.come(1, 2, now=1.0)
    world.come(1, 5, now=1.1)
    world.come(2, known=(0,), now=1.15)
    assert world.lane.due(HOLD_S) == pytest.approx(1.2)
    world.expire(1.19)
    assert world.went == [0]
    world.expire(1.2)
    assert world.went == [0, 2]
    assert world.lane.due(HOLD_S) == pytest.approx(1.3)
    world.expire(1.3)
    assert world.went == [0, 2, 5]
    world.come(2, 1, now=1.31)
    assert world.went == [0, 2, 5, 1]
    assert world.lane.late == 1


def test_one_that_came_later_does_not_make_others_wait_longer():
    world = World()
    world.come(2, 0, now=1.0)
    world.come(1, 9, now=1.0)
    world.come(2, 4, now=1.15)
    world.expire(1.2)
    assert world.went == [0, 4, 9]


def test_a_connection_that_brings_nothing_any_more_is_not_waited_for():
    world = World()
    world.come(2, 0, now=0.0)
    for counter in range(1, 31):
        world.come(1, counter, now=0.01 * counter)
    world.come(1, 32, now=0.31)
    assert world.went[-1] == 32


def test_a_pause_of_the_traffic_does_not_make_a_connection_forgotten():
    world = World()
    world.come(2, 0, now=0.0)
    world.come(1, 1, now=0.1)
    world.come(1, 3, now=9.0)
    assert world.went == [0, 1]
    world.come(2, 2, now=9.1)
    assert world.went == [0, 1, 2, 3]


def test_packets_of_a_new_session_wait_for_none_of_the_former():
    world = World()
    world.come(2, 0)
    world.come(1, 2)
    former, world.session = world.session, Session(created_at=1.0)
    world.come(1, 0, now=0.01)
    assert world.went == [0, 2, 0]
    new, world.session = world.session, former
    world.come(2, 1, now=0.02)
    world.session = new
    world.come(1, 1, now=0.03)
    assert world.went == [0, 2, 0, 1, 1]


def test_a_skip_of_counters_holds_nothing_back():
    world = World()
    world.come(2, 0)
    world.come(1, 2)
    world.come(1, REPLAY_SKIP + 7)
    assert world.went == [0, 2, REPLAY_SKIP + 7]
    world.come(1, REPLAY_SKIP + 8)
    assert world.went[-1] == REPLAY_SKIP + 8


def test_packets_keep_what_their_checksums_are():
    world = World()
    world.come(2, 0)
    world.come(1, 2, partial=True)
    world.come(1, 3)
    parts = world.come(2, 1)
    assert parts == [(False, [b"1"]), (True, [b"2"]), (False, [b"3"])]


@given(st.integers(0, 2**32), st.floats(0, 0.3), st.integers(1, 3))
def test_each_packet_goes_on_once_and_in_order_if_none_is_lost(seed, spread_s, ways):
    """Connections of any delay keep their own order, and differ by less than the hold."""
    chance = random.Random(seed)
    world = World()
    delays = [chance.uniform(0, min(spread_s, HOLD_S * 0.9)) for _ in range(ways)]
    arrivals = []
    for counter in range(60):
        way = chance.randrange(ways)
        arrivals.append((0.001 * counter + delays[way], way, counter))
    for at, way, counter in sorted(arrivals):
        world.expire(at)
        world.come(way, counter, now=at)
    world.expire(10.0)
    assert sorted(world.went) == list(range(60))
    if ways == 1:
        assert world.went == list(range(60))
    assert world.lane.held_bytes == 0


@given(st.integers(0, 2**32))
def test_nothing_is_lost_doubled_or_kept_too_long_whatever_comes(seed):
    chance = random.Random(seed)
    world = World()
    counters = list(range(200))
    chance.shuffle(counters)
    came, now = {}, 0.0
    while counters:
        now += chance.uniform(0, 0.05)
        world.expire(now)
        batch = sorted(counters.pop() for _ in range(min(len(counters), chance.randint(1, 4))))
        came.update(dict.fromkeys(batch, now))
        world.come(chance.randrange(3), *batch, now=now)
        waiting = set(came) - set(world.went)
        assert all(now < came[counter] + HOLD_S for counter in waiting)
    world.expire(now + HOLD_S)
    assert sorted(world.went) == list(range(200))
    assert world.lane.held_bytes == 0


def test_nothing_is_kept_of_packets_that_went_on_at_once():
    """A hostile host sends each two packets the wrong way round, for ever."""
    world = World()
    for counter in range(0, 2000, 2):
        world.come(1, counter + 1, counter)
    assert world.went == list(range(2000))
    assert not world.lane._arrivals


def test_nothing_is_kept_of_packets_that_went_on_while_a_later_one_waits():
    world = World()
    world.come(2, known=(-1,))
    world.come(1, 5000)
    for counter in range(2000):
        world.come(1, counter)
    assert world.went == list(range(2000))
    assert len(world.lane._arrivals) < 100
    world.expire(HOLD_S)
    assert world.went[-1] == 5000


def test_packets_of_a_new_session_wait_though_the_same_counters_waited_before():
    world = World()
    world.come(2, 0)
    world.come(1, 2)
    world.session = Session(created_at=1.0)
    world.come(2, 0, now=0.15)
    world.come(1, 2, now=0.15)
    world.expire(0.21)
    assert world.went == [0, 2, 0]
    assert world.lane.due(HOLD_S) == pytest.approx(0.15 + HOLD_S)


def reorder_with(*strands):
    tables = Tables()
    tables.strands.update({strand.host: strand for strand in strands})
    return tables, Reorder(tables)


def fill(reorder, strand, count, size=1000, lane=0):
    """Packets of which the first is missing, over two connections."""
    session, out = Session(), []
    out += reorder.take(strand, lane, session, 2, 0, [(0, b"")], False, 0.0)
    for counter in range(2, count + 2):
        out += reorder.take(strand, lane, session, 1, counter, [(counter, bytes(size))], False, 0.0)
    return out


def test_what_one_host_has_held_back_is_bounded():
    strand = Strand()
    _, reorder = reorder_with(strand)
    count = 3 * tuning.LANE_BYTES // 60_000
    out = fill(reorder, strand, count, 60_000)
    assert reorder.of_strand(strand)["held_bytes"] <= tuning.LANE_BYTES
    assert len([packet for _, packets in out for packet in packets]) > count // 2


def test_many_hosts_share_what_may_be_held_back():
    strands = [Strand(f"10.0.1.{number}") for number in range(100)]
    _, reorder = reorder_with(*strands)
    for strand in strands:
        fill(reorder, strand, 30, 60_000)
    held = sum(reorder.of_strand(strand)["held_bytes"] for strand in strands)
    assert tuning.LANES_BYTES / 4 < held <= tuning.LANES_BYTES
    # Who comes last has its part of it.
    fill(reorder, strands[-1], 1, lane=1)
    assert reorder.of_strand(strands[-1])["held_bytes"] > 0


def test_lanes_do_not_wait_for_each_other():
    strand = Strand(holds_ms=(200, 500))
    _, reorder = reorder_with(strand)
    fill(reorder, strand, 1, lane=0)
    out = reorder.take(strand, 1, Session(), 1, 0, [(0, b"other")], False, 0.0)
    assert out == [(False, [b"other"])]
    assert reorder.due == pytest.approx(0.2)


def test_what_waits_goes_on_when_its_time_is_over():
    strand = Strand()
    _, reorder = reorder_with(strand)
    fill(reorder, strand, 1)
    assert list(reorder.expire(0.1)) == []
    assert reorder.due == pytest.approx(0.2)
    ((of, parts),) = reorder.expire(0.2)
    assert of is strand
    assert parts == [(False, [bytes(1000)])]
    assert reorder.due == NOT_DUE


def test_no_packet_is_held_back_for_longer_than_packets_may_wait_here():
    strand = Strand()
    _, reorder = reorder_with(strand)
    reorder.max_age_s = 0.05
    fill(reorder, strand, 1)
    assert reorder.due == pytest.approx(0.05)


def test_packets_of_a_host_that_was_removed_do_not_go_on():
    strand = Strand()
    tables, reorder = reorder_with(strand)
    fill(reorder, strand, 1)
    tables.strands.clear()
    assert list(reorder.expire(1.0)) == []
    assert reorder.of_strand(strand) == {"held_bytes": 0, "late": 0}


def test_what_is_too_old_after_a_standstill_is_dropped_and_the_lane_goes_on():
    strand = Strand()
    _, reorder = reorder_with(strand)
    fill(reorder, strand, 3)
    assert reorder.drop() == 3
    assert reorder.of_strand(strand)["held_bytes"] == 0
    assert reorder.drop() == 0


def test_only_lanes_that_are_due_are_looked_at():
    """Many hosts hold packets back, each with another end of its wait."""
    strands = [Strand(f"10.0.1.{number}", holds_ms=(2000,) * 8) for number in range(100)]
    _, reorder = reorder_with(*strands)
    looked = Counter()
    for at, strand in enumerate(strands):
        session = Session()
        reorder.take(strand, 0, session, 2, -1, [], False, 0.001 * at)
        reorder.take(strand, 0, session, 1, 9, [(9, b"")], False, 0.001 * at)
        strand.lanes[0] = Looked(strand.lanes[0], looked)
    went = 0
    while reorder.due != NOT_DUE:
        went += len(list(reorder.expire(reorder.due)))
    assert went == len(strands)
    assert looked["expire"] <= 2 * len(strands)


class Looked:
    """A lane that counts how often its parts are used."""

    def __init__(self, lane, counts):
        self._lane, self._counts = lane, counts

    def __getattr__(self, name):
        self._counts[name] += 1
        return getattr(self._lane, name)


def test_nothing_is_kept_of_a_host_that_was_removed_nor_of_a_session_that_ended():
    strand, session = Strand(), Session()
    tables, reorder = reorder_with(strand)
    reorder.take(strand, 0, session, 1, 0, [(0, b"")], False, 0.0)
    left = weakref.ref(session)
    del session
    gc.collect()
    assert left() is None
    tables.strands.clear()
    gone = weakref.ref(strand)
    del strand
    gc.collect()
    assert gone() is None
