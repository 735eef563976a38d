"""Routes are exchanged without loops, whatever gets lost, and nobody announces what is not his."""

import random

import pytest

from ropeway.core.frame.message import MESSAGE_MAX
from ropeway.core.frame.routes import (
    INFINITY,
    Receipt,
    Request,
    Update,
    decode,
    encode,
    encode_record,
)
from ropeway.core.network import exchange as exchange_module
from ropeway.core.network.exchange import Exchange
from ropeway.core.network.neighbour import (
    HOLD_S,
    MAX_REQUESTS_AGAIN,
    MAX_ROUTES_UNTRUSTED,
    RETRY_MAX_S,
    Neighbour,
)
from ropeway.core.network.route_table import UNREACHABLE_S
from ropeway.core.packet.prefix import Prefix, of_host, parse
from tests.unit.core.network.route_world import Way, World, address

LAN = parse("192.168.50.0/24")


def a_line(seed=1, count=4):
    world = World(seed)
    world.add(*range(count))
    for number in range(count - 1):
        world.connect(number, number + 1, Way(100))
    world.run(3)
    return world


def test_a_route_leads_along_a_line_and_costs_every_hop():
    world = a_line()
    prefix = of_host(address(3))
    assert [world.hops(number, prefix) for number in range(4)] == [[1], [2], [3], []]
    costs = [world.hosts[number].table.selected[prefix].metric for number in range(3)]
    assert costs == [300, 200, 100]


def test_a_withdrawal_is_followed_at_once_and_the_prefix_is_unreachable_for_a_while():
    world = a_line()
    world.hosts[3].announce([of_host(address(3)), LAN], world.now)
    world.run(1)
    assert world.hops(0, LAN) == [1]
    world.hosts[3].announce([of_host(address(3))], world.now)
    world.run(1)
    assert [world.hosts[number].table.hops[LAN] for number in range(3)] == [(), (), ()]
    world.run(UNREACHABLE_S + 2)
    assert all(LAN not in world.hosts[number].table.hops for number in range(4))


def test_of_two_ways_the_better_one_comes_first_and_both_are_given():
    world = World(1)
    world.add(0, 1, 2, 3)
    world.connect(0, 1, Way(100))
    world.connect(0, 2, Way(200))
    world.connect(1, 3, Way(100))
    world.connect(2, 3, Way(100))
    world.run(3)
    assert world.hops(0, of_host(address(3))) == [1, 2]
    world.disconnect(0, 1)
    assert world.hops(0, of_host(address(3))) == [2]


def test_a_way_that_became_better_is_used_though_it_was_not_feasible():
    # The trap of babeld#73: all ways became longer, the feasibility distance is that of before.
    world = World(1)
    world.add(0, 1, 2, 3)
    for one, other, cost in ((0, 1, 100), (1, 3, 100), (0, 2, 300), (2, 3, 300)):
        world.connect(one, other, Way(cost))
    world.run(3)
    assert world.hops(0, of_host(address(3)))[0] == 1
    world.set_cost(1, 3, 5000)
    world.set_cost(2, 3, 600)
    world.run(3)
    assert world.hops(0, of_host(address(3)))[0] == 2
    world.set_cost(2, 3, 20000)
    world.run(5)
    assert world.hops(0, of_host(address(3)))[0] == 1


def test_a_cost_of_nothing_counts_as_one():
    # The trap of FRR#22917: with it metrics would not grow, and a loop could not be told.
    world = World(1)
    world.add(0, 1, 2)
    world.connect(0, 1, Way(0))
    world.connect(1, 2, Way(0))
    world.run(3)
    assert world.hosts[0].table.selected[of_host(address(2))].metric == 2


def test_without_any_change_nothing_is_said_but_the_refresh():
    world = a_line()
    said = []
    world.send = lambda one, other, body: said.append(decode(body))
    world.run(10)
    assert len(said) <= 12


def test_routes_that_are_not_told_again_expire():
    world = a_line()
    world.send = lambda *_: None
    world.run(HOLD_S + UNREACHABLE_S + 3)
    assert world.hosts[0].table.hops == {}
    assert not world.hosts[0].table.selected


@pytest.mark.parametrize("seed", range(4))
def test_a_host_that_starts_again_is_believed_though_nobody_noticed(seed):
    print("seed", seed)
    world = a_line(seed)
    world.hosts[3].announce([of_host(address(3)), LAN], world.now)
    world.run(2)
    world.restart(3)
    world.run(2)
    assert world.hops(0, of_host(address(3))) == [1]
    assert world.hops(0, LAN) == []


@pytest.mark.parametrize("seed", range(2))
def test_no_loop_is_ever_seen_over_thousands_of_changes_on_50_hosts(seed):
    print("seed", seed)
    count = 50
    world = World(seed, clients=range(40, count))
    world.add(*range(count))
    choose = world.random
    pairs = [(choose.randrange(number), number) for number in range(1, 40)]
    pairs += [(choose.randrange(40), choose.randrange(40)) for _ in range(60)]
    pairs += [
        (router, number) for number in range(40, count) for router in choose.sample(range(40), 2)
    ]
    pairs = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    for one, other in pairs:
        world.connect(one, other, Way(choose.randrange(1, 1000), 0.15))
    world.run(3)
    watched = [of_host(address(number)) for number in (0, 7, 23, 39, 40, 45)]
    for step in range(50):
        for _ in range(choose.randrange(10, 50)):
            one, other = choose.choice(pairs)
            if (one, other) not in world.ways:
                world.connect(one, other, Way(choose.randrange(1, 1000), 0.15))
            elif choose.random() < 0.5:
                world.set_cost(one, other, choose.randrange(1, 1000))
            else:
                world.disconnect(one, other)
        for prefix in watched:
            assert world.loop(prefix) is None, (seed, step, str(prefix))
        world.run(choose.choice((0.0, 0.03, 0.1, 0.3)))
        for prefix in watched:
            assert world.loop(prefix) is None, (seed, step, str(prefix))
    world.run(10)
    for number in choose.sample(range(40), 10):
        there = world.component(number)
        for other in range(count):
            assert world.reached(number, other) == (other in there), (seed, number, other)


@pytest.mark.parametrize("seed", range(5))
def test_after_partition_and_heal_all_is_found_within_3_s(seed):
    print("seed", seed)
    world = World(seed)
    world.add(*range(20))
    choose = world.random
    for number in range(1, 10):
        world.connect(choose.randrange(number), number, Way(100, 0.05))
        world.connect(10 + choose.randrange(number), 10 + number, Way(100, 0.05))
    for one, other in ((2, 12), (5, 15)):
        world.connect(one, other, Way(100, 0.05))
    world.run(5)
    assert all(world.reached(one, other) for one in range(20) for other in range(20))
    for one, other in ((2, 12), (5, 15)):
        world.disconnect(one, other)
    world.run(3)
    for one in range(20):
        for other in range(20):
            assert world.reached(one, other) == ((one < 10) == (other < 10)), (seed, one, other)
    world.connect(5, 15, Way(100, 0.05))
    world.run(3)
    assert all(world.reached(one, other) for one in range(20) for other in range(20))


def test_a_client_passes_nothing_on():
    world = World(1, clients=[1])
    world.add(0, 1, 2)
    world.connect(0, 1, Way(100))
    world.connect(1, 2, Way(100))
    world.hosts[2].announce([of_host(address(2)), LAN], world.now)
    world.run(3)
    assert world.hops(0, LAN) == []
    assert world.hops(1, LAN) == [2]


def test_a_client_learns_subnets_and_not_every_host():
    world = World(1, clients=[1, 2])
    world.allowed[2] = (parse("192.168.0.0/16"),)
    world.add(0, 1, 2)
    world.hosts[2].announce([of_host(address(2)), LAN], world.now)
    world.connect(0, 1, Way(100))
    world.connect(0, 2, Way(100))
    world.run(3)
    assert world.hops(0, of_host(address(2))) == [2]
    assert world.hosts[1].table.hops == {LAN: (address(0),)}


def updates(*said, instance=7, number=1):
    return encode(instance, number, [encode_record(one) for one in said])


def a_router_with_a_client(allowed=()):
    router = Exchange(address(0), 1, True, lambda _: True, lambda _: True, random.Random(1))
    router.announce([of_host(address(0))], 0.0)
    router.neighbour_up(address(1), False, allowed, 100, 0.0)
    router.neighbour_up(address(2), True, (), 100, 0.0)
    return router


@pytest.mark.parametrize(
    ("prefix", "origin"),
    [
        ("10.0.0.9/32", 1),
        ("0.0.0.0/0", 1),
        ("192.168.0.0/15", 1),
        ("192.168.50.0/24", 9),
        ("10.0.0.1/32", 9),
        ("fd00::/64", 1),
    ],
)
def test_what_a_client_may_not_announce_is_counted_and_ignored(prefix, origin):
    router = a_router_with_a_client((parse("192.168.0.0/16"),))
    router.receive(address(1), updates(Update(parse(prefix), address(origin), 5, 0)), 1.0)
    assert router.table.hops == {}
    assert router.refused == 1


def test_a_client_takes_no_prefix_that_is_the_routers_own():
    router = a_router_with_a_client((parse("192.168.0.0/16"),))
    router.announce([of_host(address(0)), LAN], 0.0)
    router.receive(address(1), updates(Update(LAN, address(1), 5, 0)), 1.0)
    assert router.table.hops == {}


def test_a_client_fills_no_table_and_makes_no_storm():
    router = a_router_with_a_client((parse("192.168.0.0/16"),))
    sent = 0
    for number in range(1, 5000):
        now = number / 200
        prefix = Prefix(bytes((192, 168, number >> 8, number & 255)), 32)
        said = Update(prefix, address(1), number, number % 2 * INFINITY)
        request = Request(prefix, address(5), number, 30)
        router.receive(address(1), updates(said, request, number=number), now)
        sent += sum(to == address(2) for to, _ in router.take_messages(lambda _: MESSAGE_MAX, now))
    assert len(router.table.hops) <= MAX_ROUTES_UNTRUSTED
    assert len(router.neighbours[address(1)].routes) <= MAX_ROUTES_UNTRUSTED
    assert not router.neighbours[address(2)].requests
    # Once for each change that it may make, and what has no receipt again: the other is silent.
    assert sent < 250


def test_a_client_that_begins_anew_all_the_time_is_not_told_everything_each_time():
    router = a_router_with_a_client()
    told = 0
    for number in range(1, 1000):
        now = number / 100
        router.receive(address(1), updates(instance=number), now)
        messages = router.take_messages(lambda _: MESSAGE_MAX, now)
        told += sum(
            isinstance(one, Update)
            for to, body in messages
            if to == address(1)
            for one in decode(body)[2]
        )
    assert 0 < told < 40


@pytest.mark.parametrize("size", [0, 7])
def test_a_host_that_can_be_sent_nothing_now_is_told_later(size):
    router = a_router_with_a_client()
    assert router.take_messages(lambda _: size, 0.0) == []
    found = [
        message
        for tenth in range(20)
        for message in router.take_messages(lambda _: MESSAGE_MAX, tenth / 10)
    ]
    assert {to for to, _ in found} == {address(1), address(2)}


def test_bytes_that_are_no_message_are_told_and_raise_nothing():
    router = a_router_with_a_client()
    choose = random.Random(3)
    good = updates(Update(LAN, address(2), 5, 0), Request(LAN, address(0), 9, 3), Receipt(1))
    assert not router.receive(address(2), b"", 1.0)
    for _ in range(3000):
        body = bytearray(good[: choose.randrange(len(good) + 1)])
        if body:
            body[choose.randrange(len(body))] = choose.randrange(256)
        router.receive(address(2), bytes(body), 1.0)
    router.receive(address(9), good, 1.0)
    assert len(router.table.hops) < 500


def test_requests_of_others_are_remembered_within_a_bound(monkeypatch):
    monkeypatch.setattr(exchange_module, "MAX_REQUESTS", 10)
    router = Exchange(address(0), 1, True, lambda _: True, lambda _: True, random.Random(1))
    for number in (1, 2):
        router.neighbour_up(address(number), True, (), 100, 0.0)
    prefixes = [of_host(address(100 + number)) for number in range(50)]
    router.receive(address(1), updates(*(Update(one, address(9), 1, 0) for one in prefixes)), 1.0)
    asks = (Request(one, address(9), 2, 5) for one in prefixes)
    router.receive(address(2), updates(*asks), 1.0)
    assert len(router.neighbours[address(1)].requests) == 10


def numbers(messages, to):
    """Return instance and number of those messages to a host that ask for a receipt."""
    heads = [decode(body)[:2] for host, body in messages if host == to]
    return [(instance, number) for instance, number in heads if number]


def test_a_lost_retraction_is_said_again_though_an_older_receipt_comes_after_it():
    router = a_router_with_a_client()
    router.announce([of_host(address(0)), LAN], 0.0)
    first = router.take_messages(lambda _: MESSAGE_MAX, 0.0)
    router.announce([of_host(address(0))], 0.1)
    lost = router.take_messages(lambda _: MESSAGE_MAX, 0.1)
    assert numbers(lost, address(2))
    ((_, number),) = numbers(first, address(2))
    router.receive(address(2), updates(Receipt(number), number=0), 0.2)
    again = router.take_messages(lambda _: MESSAGE_MAX, 1.0)
    said = [one for to, body in again if to == address(2) for one in decode(body)[2]]
    assert [one.metric for one in said if isinstance(one, Update) and one.prefix == LAN] == [
        INFINITY
    ]


def test_a_message_of_before_the_neighbour_was_up_again_says_nothing():
    router = a_router_with_a_client()
    said = Update(LAN, address(2), 5, 0)
    router.receive(address(2), updates(instance=8), 1.0)
    router.receive(address(2), updates(said, instance=7, number=9), 1.1)
    assert router.table.hops == {}
    router.receive(address(2), updates(said, instance=1 << 31, number=1), 1.2)
    assert router.table.hops == {LAN: (address(2),)}


def test_a_host_without_receipts_is_told_of_no_route_that_has_expired_there():
    neighbour = Neighbour(address(1), False, (), 100, 1, 0.0)
    gone = {}
    for number in range(round(3 * HOLD_S)):
        now = float(number)
        new = Prefix(bytes((192, 168, number >> 8, number & 255)), 32)
        neighbour.dirty.update({new: None, **neighbour.told})
        neighbour.give_up_waiting(now)

        def say(prefix, new=new):
            route = Update(prefix, address(2), 1, 100 if prefix == new else INFINITY)
            return route if prefix == new or prefix in neighbour.told else None

        neighbour.take_messages(MESSAGE_MAX, say, now)
        gone[new] = now
    assert set(neighbour.told) == {one for one, since in gone.items() if now - since <= HOLD_S}


def test_requests_of_a_host_without_receipts_are_bounded():
    neighbour = Neighbour(address(1), True, (), 100, 1, 0.0)
    for number in range(3 * MAX_REQUESTS_AGAIN):
        request = Request(LAN, number.to_bytes(4, "big"), 1, 1)
        neighbour.requests[LAN, request.origin] = request
    for turn in range(1, 4):
        neighbour.take_messages(MESSAGE_MAX, lambda _: None, turn * 2 * RETRY_MAX_S)
        neighbour.give_up_waiting((turn + 1) * 2 * RETRY_MAX_S)
    assert len(neighbour.requests) <= MAX_REQUESTS_AGAIN
