"""Which ends fail together, by when their connections are in trouble, on a clock turned by hand."""

import itertools
import random
from types import SimpleNamespace

import pytest

from ropeway.core.strand.joint import Joint
from ropeway.core.tuning import (
    JOINT_HALF_S,
    JOINT_PAIRS_MAX,
    NEW_TROUBLE_S,
    TOGETHER_S,
)
from tests.unit.core import secure_world
from tests.unit.core.secure_world import link, peer

B = "10.0.0.2"
APART_S = 30.0


class Host:
    """A host with connections to another one, all of which carry data, and their troubles."""

    def __init__(self, count=3, end_of=lambda connection: connection.link):
        world = secure_world.SecureWorld()
        mine = [link(2 + n, f"192.168.{n}.2") for n in range(count)]
        world.add("a", "10.0.0.1", mine, [peer("b", B, *(f"192.168.{n}.3" for n in range(count)))])
        self.strand = world.nodes["a"].tables.strands[B]
        self.connections = sorted(self.strand.connections.values(), key=lambda c: c.link)
        self.joint = Joint(end_of)
        self.now = world.now

    def alive(self):
        self.strand.idle_at = self.now + 60
        for one in self.connections:
            one.heard_at, one.probe_s = self.now, 0.1

    def trouble(self, *numbers, gap_s=0.1):
        """Have connections be in trouble, one after the other, and all be well again."""
        self.alive()
        for number in numbers:
            self.joint.note(self.connections[number], self.now)
            self.wait(gap_s)
        self.wait(APART_S)

    def wait(self, seconds):
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            if self.now >= self.joint.due:
                self.joint.look(self.connections, self.now)

    def together(self, one, other):
        return self.joint.together(one + 2, other + 2, self.now)


def test_links_that_fail_at_once_fail_together_and_with_others_do_not():
    host = Host()
    for _ in range(6):
        host.trouble(0, 1)
        host.trouble(2)
    assert host.together(0, 1) == host.together(1, 0) == 1.0
    assert host.together(0, 2) == host.together(1, 2) == 0.0


def test_share_is_that_of_the_troubles_of_either():
    host = Host(2)
    for _ in range(4):
        host.trouble(0)
        host.trouble(0, 1)
    assert host.together(0, 1) == pytest.approx(0.5, abs=0.02)


def test_nothing_is_said_after_two_troubles():
    host = Host(2)
    host.trouble(0, 1)
    host.trouble(0, 1)
    assert host.together(0, 1) is None
    host.trouble(0, 1)
    host.trouble(0, 1)
    assert host.together(0, 1) == 1.0


def test_troubles_that_begin_further_apart_are_not_one():
    host = Host(2)
    for _ in range(6):
        host.trouble(0, 1, gap_s=TOGETHER_S + 0.2)
    assert host.together(0, 1) == 0.0


def test_trouble_that_lasts_is_one_and_hides_nothing_of_the_other_link():
    host = Host(2)
    for number in range(600):
        host.alive()
        host.joint.note(host.connections[0], host.now)
        if number % 100 == 50:
            host.joint.note(host.connections[1], host.now)
        host.wait(0.1)
    (pair,) = host.joint.pairs.values()
    assert pair.troubles(host.now) == pytest.approx(1 + 6, abs=0.2)
    assert host.together(0, 1) == 0.0


def test_link_is_not_in_trouble_because_one_of_its_three_ways_is():
    # The far interface is in trouble: two ways out of three over the link are well.
    host = Host(4, end_of=lambda connection: connection.link > 4)
    for _ in range(6):
        host.trouble(0, 3)
    assert host.joint.together(False, True, host.now) == 0.0
    for _ in range(6):
        host.trouble(0, 1, 3)
    assert host.joint.together(False, True, host.now) == pytest.approx(0.5, abs=0.03)


def test_connection_that_carries_nothing_says_nothing_of_a_short_trouble():
    host = Host(2)
    for _ in range(6):
        host.alive()
        host.connections[1].probe_s = 0.5
        host.joint.note(host.connections[0], host.now)
        host.wait(APART_S)
    assert not host.joint.pairs


def test_what_is_known_is_forgotten_in_hours():
    host = Host(2)
    for _ in range(6):
        host.trouble(0, 1)
    host.now += 3 * JOINT_HALF_S
    assert host.together(0, 1) is None


def test_pairs_are_bounded_and_those_of_ends_that_are_gone_make_room():
    host = Host(20)
    for number in range(20):
        host.trouble(number)
    assert len(host.joint.pairs) == JOINT_PAIRS_MAX
    host.connections = host.connections[10:]
    for number in range(10):
        host.trouble(number)
    assert {frozenset(two) for two in itertools.combinations(range(12, 22), 2)} <= {
        *host.joint.pairs
    }
    assert len(host.joint.pairs) <= JOINT_PAIRS_MAX


@pytest.mark.parametrize("seed", range(5))
def test_share_stays_between_none_and_all(seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    host = Host(3)
    for _ in range(300):
        host.alive()
        if chance.random() < 0.3:
            host.joint.note(chance.choice(host.connections), host.now)
        host.wait(chance.choice((0.1, 0.5, 1.0, NEW_TROUBLE_S)))
        for one, other in itertools.combinations(range(3), 2):
            share = host.together(one, other)
            assert share is None or 0 <= share <= 1


def test_trouble_of_one_among_hundreds_is_judged_by_a_few_of_them():
    """Another host says when a connection to it loses frames, so this must cost little."""
    looked = itertools.count()

    class Connection:
        spare_at, probe_s, heard_at = 10.0, 0.1, 0.0
        quality = SimpleNamespace(estimate=SimpleNamespace(rate_out=SimpleNamespace(kbit=1.0)))

        def __init__(self, end):
            self.end = end

        @property
        def strand(self):
            next(looked)
            return SimpleNamespace(idle_at=10.0)

    joint = Joint(lambda connection: connection.end)
    connections = [Connection(end) for end in range(4) for _ in range(500)]
    joint.note(connections[0], 0.0)
    joint.look(connections, TOGETHER_S)
    assert not joint.pairs
    assert next(looked) < 20
