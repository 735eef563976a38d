"""Packets made from parity frames and from the packets around them, without sealing."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core import tuning
from ropeway.core.data.parity import Group
from ropeway.core.data.repair import Repair
from ropeway.core.frame.parity import COVERED_MAX, Parity, decode_parity
from ropeway.core.session.replay import ReplayWindow
from ropeway.core.tables import Tables

LANE = 3


def session(created_at=0.0, index=b"abcd"):
    return SimpleNamespace(created_at=created_at, local_index=index, lane_windows={})


class Strand:
    def __init__(self, host):
        self.host = host
        self.repairs = {}


class World:
    """A host that takes packets of lane 3 of some others."""

    def __init__(self, hosts=1):
        self.tables = Tables()
        self.strands = [Strand(str(number)) for number in range(hosts)]
        self.tables.strands = {strand.host: strand for strand in self.strands}
        self.sessions = [session() for _ in self.strands]
        self.repair = Repair(self.tables)

    def come(self, counter, packet, form=0, host=0, now=0.0):
        """Let a packet come; return what was made of it, None for a copy."""
        window = self.sessions[host].lane_windows.setdefault(LANE, ReplayWindow())
        if window.check(counter):
            return None
        window.mark(counter)
        return self._note(host, [(counter, packet)], form, now)

    def _note(self, host, packets, form, now):
        strand, one = self.strands[host], self.sessions[host]
        return self.repair.note(strand, LANE, one, packets, form, now)

    def parity(self, frame, host=0, now=0.0):
        return self.repair.take(self.strands[host], frame, self.sessions[host], now)

    def held_bytes(self, host=0):
        return sum(lane.held_bytes for lane in self.strands[host].repairs.values())


def covering(packets, first=0):
    """The frame that covers packets: what is in the frame of each, and its form."""
    group = Group()
    group.begin(session(), LANE, first, 0.0)
    for packet, form in packets:
        group.add([packet], form, 0.0)
    frame = decode_parity(group.body(len(packets)))
    assert frame is not None
    return frame


packet = st.tuples(st.binary(min_size=1, max_size=60), st.integers(0, 3))
groups = st.lists(st.lists(packet, min_size=1, max_size=COVERED_MAX), min_size=1, max_size=5)


@given(groups, st.randoms(use_true_random=False), st.data())
def test_one_loss_of_each_group_is_repaired_once_and_nothing_comes_twice(found, rng, data):
    world, arriving, lost, expected, first = World(), [], {}, {}, 2**40
    for group in found:
        numbered = {first + at: one for at, one in enumerate(group)}
        expected.update(numbered)
        missing = data.draw(st.sampled_from(sorted(numbered)))
        lost[missing] = numbered.pop(missing)
        arriving += [("packet", counter) for counter in numbered for _ in range(rng.choice((1, 2)))]
        arriving.append(("parity", covering(group, first)))
        first += len(group)
    rng.shuffle(arriving)
    came = {}
    for kind, what in arriving:
        if kind == "parity":
            made = world.parity(what)
        else:
            made = world.come(what, *expected[what])
            if made is not None:
                assert what not in came
                came[what] = expected[what]
        for one in made or ():
            assert one.counter not in came
            came[one.counter] = (one.packet, one.form)
    assert came == expected
    for counter, one in lost.items():
        # A copy that comes later is one.
        assert world.come(counter, *one) is None
    assert world.held_bytes() == 0


@given(st.lists(packet, min_size=3, max_size=8), st.data())
def test_of_two_losses_none_is_repaired_until_one_of_them_comes(group, data):
    world = World()
    one, other = data.draw(
        st.lists(st.integers(0, len(group) - 1), min_size=2, max_size=2, unique=True)
    )
    for counter, what in enumerate(group):
        if counter not in (one, other):
            assert world.come(counter, *what) == []
    assert world.parity(covering(group)) == []
    (made,) = world.come(one, *group[one])
    assert (made.counter, made.packet, made.form) == (other, *group[other])


def test_frame_again_makes_nothing():
    world = World()
    group = [(b"a", 0), (b"bc", 1)]
    world.come(0, *group[0])
    assert len(world.parity(covering(group))) == 1
    assert world.parity(covering(group)) == []


def test_what_is_needed_no_more_is_forgotten_in_time():
    world = World()
    world.come(0, b"a", now=1.0)
    world.parity(covering([(b"x", 0)] * 3, 5), now=1.5)
    assert world.held_bytes() > 0
    assert world.repair.due == 1.0 + tuning.REPAIR_S
    world.repair.expire(1.0 + tuning.REPAIR_S)
    assert world.repair.due == 1.5 + tuning.REPAIR_S
    world.repair.expire(world.repair.due)
    assert world.held_bytes() == 0
    assert world.repair.due == float("inf")


@given(st.floats(0, 1e9), st.floats(0, 2))
def test_what_is_left_at_a_time_is_due_later(came_at, passed_s):
    world = World()
    world.come(0, b"a", now=came_at)
    now = came_at + passed_s
    world.repair.expire(now)
    assert world.repair.due > now


def test_nothing_is_made_of_a_packet_that_was_forgotten():
    world = World()
    group = [(b"a", 0), (b"b", 0)]
    world.come(0, *group[0])
    world.repair.expire(tuning.REPAIR_S)
    assert world.parity(covering(group)) == []
    assert world.sessions[0].lane_windows[LANE].check(1) == ReplayWindow.NEW


def test_packets_of_another_session_are_not_mixed_up():
    world = World()
    group = [(b"a", 0), (b"b", 0)]
    world.come(0, *group[0])
    former, world.sessions[0] = world.sessions[0], session(1.0, b"efgh")
    assert world.parity(covering([(b"c", 0), (b"d", 0)])) == []
    world.sessions[0] = former
    assert world.parity(covering(group)) == []


sealed = st.builds(
    Parity,
    st.just(LANE),
    st.integers(0, 40) | st.integers(0, 2**64 - 1 - COVERED_MAX),
    st.integers(1, COVERED_MAX),
    st.integers(0, 3),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**160 - 1),
    st.integers(20, 30),
)


@given(st.lists(sealed | st.tuples(st.integers(0, 60), st.binary(max_size=30)), max_size=60))
def test_lies_of_a_peer_raise_nothing_and_use_each_counter_once(arriving):
    world, came = World(), set()
    for what in arriving:
        made = world.parity(what) if isinstance(what, Parity) else world.come(*what)
        if not isinstance(what, Parity) and made is not None:
            assert what[0] not in came
            came.add(what[0])
        for one in made or ():
            assert one.counter not in came
            # A small frame cannot make a large packet.
            assert 0 < len(one.packet) <= 30
            came.add(one.counter)
    world.repair.expire(tuning.REPAIR_S)
    assert world.held_bytes() == 0


def test_one_host_fills_what_is_its_own_and_no_more():
    world = World()
    for counter in range(2000):
        world.come(counter, bytes(1000))
        assert world.held_bytes() <= tuning.REPAIR_BYTES
    assert world.held_bytes() > tuning.REPAIR_BYTES / 2


def test_frames_that_wait_are_few():
    world = World()
    for first in range(0, 40000, 2):
        world.parity(Parity(LANE, first, 2, 0, 1, 1, 1400))
    assert 0 < world.held_bytes() <= (tuning.REPAIR_GROUPS + 1) * 2000


@pytest.mark.parametrize("greedy", [40, 200])
def test_hosts_that_fill_all_leave_others_their_share(greedy):
    world = World(greedy + 1)
    for counter in range(16_000 // greedy):
        for host in range(greedy):
            world.come(counter, bytes(1400), host=host)
    total = sum(map(world.held_bytes, range(greedy)))
    assert tuning.REPAIRS_BYTES / 4 < total <= tuning.REPAIRS_BYTES
    group = [(random.Random(1).getrandbits(8 * 1400).to_bytes(1400, "big"), 0)] * 3
    for counter in range(2):
        world.come(counter, *group[counter], host=greedy)
    (made,) = world.parity(covering(group), host=greedy)
    assert made.packet == group[2][0]
