"""The pool of leases: no address belongs to two, whatever happens in whatever order."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ropeway.core.address_range import POOL_MAX, range_of
from ropeway.core.network.leases import Pool

TIME_S = 100.0
#: Random ways through the rules of the state machine, of 60 steps each.
WALKS = 400
KEYS = [bytes((number,)) * 32 for number in range(6)]


class Holder:
    """What a host believes: it asks, hears an answer or not, and counts from its question."""

    def __init__(self):
        self.address = None
        self.until = 0.0


class Leases(RuleBasedStateMachine):
    """A router with a disk, killed now and then, and hosts whose messages are lost."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.disk = {}
        self.excluded = {"10.0.0.0", "10.0.0.1"}
        self.keys = set(KEYS)
        self.hosts = {key: Holder() for key in KEYS}
        self.start()

    @rule()
    def start(self):
        """Start the router anew: what was not written is forgotten."""
        self.pool = Pool()
        self.writing = []
        self.configure()
        self.pool.load(list(self.disk.items()), self.now)

    def configure(self):
        self.pool.configure([range_of("10.0.0.0-10.0.0.4")], self.excluded, self.keys, TIME_S)

    @rule(key=st.sampled_from(KEYS), heard=st.booleans())
    def ask(self, key, heard):
        address = self.pool.ask(key, self.now)
        if address is not None and heard:
            self.hosts[key].address, self.hosts[key].until = address, self.now + TIME_S

    @rule(limit=st.integers(1, 4), written=st.booleans(), told=st.booleans())
    def write(self, limit, written, told):
        """The disk takes changes; the engine may be killed before, or before it hears of it."""
        changes = self.pool.take_changes(limit)
        if written:
            for address, key in changes:
                self.disk.pop(address, None)
                if key is not None:
                    assert not key or key not in self.disk.values(), "a key has two rows"
                    self.disk[address] = key
        if written and told:
            self.pool.written(changes, self.now)
        elif changes:
            self.start()

    @rule(seconds=st.sampled_from([0.1, 10.0, 51.0, 120.0]))
    def pass_time(self, seconds):
        self.now += seconds
        for host in self.hosts.values():
            if self.now >= host.until:
                host.address = None

    @rule()
    def expire(self):
        self.pool.expire(self.now)

    @rule(number=st.integers(0, 4))
    def release(self, number):
        self.pool.release(f"10.0.0.{number}")

    @rule(key=st.sampled_from(KEYS))
    def remove_or_add(self, key):
        self.keys = self.keys ^ {key}
        self.configure()

    @invariant()
    def no_address_belongs_to_two_hosts(self):
        held = [host.address for host in self.hosts.values() if host.address is not None]
        assert len(set(held)) == len(held)

    @invariant()
    def nobody_has_an_address_of_the_configuration(self):
        assert not self.excluded & {host.address for host in self.hosts.values()}

    @invariant()
    def a_lease_in_force_is_on_disk(self):
        for lease in self.pool.leases():
            assert not lease.is_in_force or self.disk.get(lease.address) == lease.key


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_no_walk_through_kills_and_losses_gives_an_address_twice():
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(WALKS):
        walk(Leases(), draw)


def walk(world, draw):
    steps = (
        world.start,
        world.expire,
        lambda: world.ask(draw.choice(KEYS), draw.random() < 0.5),
        lambda: world.write(draw.randrange(1, 5), draw.random() < 0.8, draw.random() < 0.8),
        lambda: world.pass_time(draw.choice((0.1, 10.0, 51.0, 120.0))),
        lambda: world.release(draw.randrange(5)),
        lambda: world.remove_or_add(draw.choice(KEYS)),
    )
    for step in draw.choices(steps, (1, 2, 12, 6, 2, 1, 1), k=60):
        step()
        world.no_address_belongs_to_two_hosts()
        world.a_lease_in_force_is_on_disk()
        world.nobody_has_an_address_of_the_configuration()


def test_a_thousand_hosts_at_once_get_an_address_each_though_the_router_dies():
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    keys = [draw.getrandbits(256).to_bytes(32, "big") for _ in range(1000)]
    excluded = {"10.0.0.0", "10.0.0.1", "10.0.3.255"}
    disk, known, now = {}, {}, 0.0

    def begin():
        pool = Pool()
        pool.configure([range_of("10.0.0.0/22")], excluded, frozenset(keys), TIME_S)
        pool.load(list(disk.items()), now)
        return pool

    pool = begin()
    for _ in range(200):
        now += 0.01
        for key in draw.sample(keys, 50):
            address = pool.ask(key, now)
            if address is not None:
                assert known.setdefault(key, address) == address
        changes = pool.take_changes(draw.randrange(1, 80))
        fate = draw.random()
        if fate < 0.9:
            disk.update(changes)
        if fate < 0.8:
            pool.written(changes, now)
        else:
            pool = begin()
    while len(known) < len(keys):
        for key in keys:
            address = pool.ask(key, now)
            if address is not None:
                assert known.setdefault(key, address) == address
        changes = pool.take_changes(4096)
        disk.update(changes)
        pool.written(changes, now)
    assert len(set(known.values())) == len(keys)
    assert not excluded & set(known.values())


def test_the_address_that_waits_longest_goes_first_when_all_were_given():
    pool = Pool()
    pool.configure([range_of("10.0.0.1-10.0.0.2")], set(), frozenset(KEYS), TIME_S)
    pool.load([("10.0.0.1", KEYS[0]), ("10.0.0.2", KEYS[1])], 0.0)
    pool.ask(KEYS[0], 50.0)
    pool.expire(115.0)
    pool.expire(200.0)
    assert pool.ask(KEYS[2], 200.0) is None
    assert pool.take_changes(10) == [("10.0.0.2", KEYS[2])]


def test_who_comes_back_gets_the_former_address_if_nobody_needed_it():
    pool = Pool()
    pool.configure([range_of("10.0.0.1-10.0.0.9")], set(), frozenset(KEYS), TIME_S)
    pool.load([("10.0.0.5", KEYS[0])], 0.0)
    assert pool.expire(500.0) == ["10.0.0.5"]
    assert pool.ask(KEYS[0], 500.0) == "10.0.0.5"


def test_nothing_is_left_and_that_is_noted():
    pool = Pool()
    pool.configure([range_of("10.0.0.1-10.0.0.1")], set(), frozenset(KEYS), TIME_S)
    pool.load([], 0.0)
    pool.ask(KEYS[0], 0.0)
    assert not pool.is_exhausted
    pool.ask(KEYS[1], 0.0)
    assert pool.is_exhausted
    assert len(pool) == 1


def test_a_stranger_takes_no_place():
    pool = Pool()
    pool.configure([range_of("10.0.0.0/24")], set(), frozenset(KEYS), TIME_S)
    pool.load([], 0.0)
    for number in range(100):
        assert pool.ask(bytes((number, 77)) * 16, 0.0) is None
    assert len(pool) == 0


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/24", "x", "10.0.0.9-10.0.0.8", "10.0.0.0/8", "10.0.0.1-", "-"]
)
def test_what_is_no_range_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match=r"[:] (write|a pool)"):
        range_of(text)


def test_a_range_has_both_its_ends():
    assert len(range_of("10.0.0.100-10.0.0.199")) == 100
    assert len(range_of("10.0.0.0/22")) == 1024
    assert len(range_of("10.0.0.7")) == 1
    assert len(range_of("10.0.0.0/18")) == POOL_MAX
