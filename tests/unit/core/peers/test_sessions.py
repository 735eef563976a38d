"""Sessions: rollover, restarts, and packets that wait for one."""

import pytest

from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import A, B, C, all_once, stream
from tests.unit.core.secure_world import (
    pair,
    three,
)


def test_a_packet_that_comes_before_the_session_waits_for_it():
    world = pair()
    world.send("a", udp(A, B))
    world.run(0.1)
    assert world.delivered["b"] == [udp(A, B)]


def test_a_packet_does_not_wait_for_a_host_that_does_not_answer():
    world = pair()
    world.lost = {"192.168.0.3", "192.168.1.3"}
    world.send("a", udp(A, B))
    world.run(5.0)
    world.lost = set()
    world.run(10.0)
    assert world.delivered["b"] == []
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}


def test_a_session_rolls_over_without_losing_or_repeating_a_packet():
    world = pair(rollover_s=2.0)
    world.jitter_s = 0.05
    world.run(1.0)
    assert all_once(stream(world, 20.0))
    assert world.peer("a", B)["session"]["rollovers"] >= 8
    assert world.peer("a", B)["session"]["readable"] <= 4


def test_a_rollover_gets_through_links_that_lose_half_of_everything():
    world = pair(seed=5, rollover_s=2.0)
    world.loss = 0.5
    world.run(3.0)
    came, total = stream(world, 20.0, rate=200)
    assert all(len(numbers) == len(set(numbers)) for numbers in came.values())
    # Both copies of one packet in four are lost.
    assert all(0.65 < len(numbers) / total < 0.85 for numbers in came.values())
    assert world.peer("a", B)["session"]["rollovers"] >= 5


@pytest.mark.parametrize("restarted", ["r", "c"])
def test_a_host_that_starts_anew_is_back_in_less_than_two_seconds(restarted):
    world = three()
    world.run(2.0)
    ways = (("a", A, "c", C), ("c", C, "a", A))
    stream(world, 1.0, ways=ways)
    host = world.nodes[restarted].settings
    links = list(world.nodes[restarted]._peers.links)
    routers, forward = host.routers, host.forward
    world.add(restarted, host.address, links, host.peers, routers=routers, forward=forward)
    came, total = stream(world, 3.0, ways=ways)
    for numbers in came.values():
        assert len(numbers) == len(set(numbers))
        assert numbers[-1] == total - 1
        assert total - len(numbers) < 1500


def test_packets_that_waited_in_vain_are_counted_and_answered():
    world = pair()
    world.lost = {"192.168.0.3", "192.168.1.3"}
    world.send("a", *[udp(A, B) for _ in range(10)])
    world.run(5.0)
    assert world.dropped("a")["unreachable"] == 10
    assert world.nodes["a"].router.carried == 0
    assert len(world.delivered["a"]) == 10
