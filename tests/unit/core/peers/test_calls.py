"""Which endpoints are called over which links, and where hosts are sought that were there."""

from collections import Counter

import pytest

from ropeway.core import tuning
from ropeway.core.frame.data import CONTROL
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import A, B, C, all_once, stream
from tests.unit.core.secure_world import (
    PORT,
    Nat,
    SecureWorld,
    link,
    pair,
    peer,
    three,
)

FAR_ADDRESSES = [f"192.168.0.{200 + n}" for n in range(3)]


def many(count):
    """A host with so many links, and one with three addresses that it calls."""
    world = SecureWorld()
    links = [link(2 + n, f"192.168.0.{n + 1}") for n in range(count)]
    world.add("a", A, links, [peer("b", B, *FAR_ADDRESSES)])
    others = [link(500 + n, address) for n, address in enumerate(FAR_ADDRESSES)]
    world.add("b", B, others, [peer("a", A)])
    return world


def test_a_router_that_starts_anew_finds_idle_hosts_where_they_were():
    world = three()
    for address in ("192.168.2.2", "192.168.3.2"):
        world.nats[address] = Nat(address, address + "9", 60.0)
    world.run(200.0)
    former = world.nodes["r"]
    callers = former.callers()
    assert set(callers) == {A, C}
    links, peers = list(former._peers.links), former.settings.peers
    router = world.add("r", B, [], peers, forward=True)
    router.recall({**callers, "10.0.0.99": [("192.168.0.9", 1)]}, world.now)
    router.set_links(links, world.now)
    world.run(0.2)
    assert all_once(stream(world, 0.5, ways=(("a", A, "c", C), ("c", C, "a", A))))
    assert world.states("r", C) == {(4, 4): 2, (5, 5): 2}
    world.run(120.0)
    assert world.states("r", C) == {(4, 4): 2, (5, 5): 2}


@pytest.mark.parametrize("moved", [False, True])
def test_a_host_is_sought_where_it_was_over_a_card_that_takes_the_place_of_another(moved):
    world = SecureWorld()
    router = world.add("r", B, [link(12, "192.168.0.3")], [peer("a", A)])
    world.add("a", A, [link(2, "192.168.0.2")], [peer("r", B, "192.168.0.3")])
    world.run(2.0)
    router.set_links([], world.now)
    world.run(0.1)
    # The other end still sends to the hardware address of the card that is gone.
    own = "192.168.0.7" if moved else "192.168.0.3"
    world.cut = {("192.168.0.2", own), ("192.168.0.2", "192.168.0.3")}
    world.captured.clear()
    router.set_links([link(77, own)], world.now)
    world.run(0.05)
    assert [far for _, near, far, _ in world.captured if near == (own, PORT)]
    # What comes from the new one has told it better.
    world.cut.clear()
    world.run(0.5)
    assert world.states("r", A) == {(77, 2): 2}
    assert world.states("a", B)[2, 77] == 2
    assert all_once(stream(world, 0.5, ways=(("a", A, "r", B), ("r", B, "a", A))))


def test_where_a_host_was_before_is_forgotten_if_nobody_answers_there():
    world = pair()
    world.nodes["b"].recall({A: [("192.168.0.9", 4), ("192.168.1.9", 4)]}, world.now)
    world.run(130.0)
    assert len(world.peer("b", A)["connections"]) == 2


def test_an_endpoint_that_is_named_where_a_host_was_before_has_one_connection():
    world = pair()
    world.lost = {"192.168.0.2", "192.168.1.2"}
    world.nodes["b"].recall({A: [("192.168.0.2", PORT), ("192.168.1.2", PORT)]}, world.now)
    world.run(1.0)
    world.call("b", A, "192.168.0.2", "192.168.1.2")
    strand = world.nodes["b"].tables.strands[A]
    assert list(strand.by_way.values()) == list(strand.connections.values())
    world.nodes["b"].set_links([link(12, "192.168.0.3")], world.now)
    world.lost = set()
    world.run(100.0)
    assert world.states("b", A) == {(12, 2): 2}
    assert list(strand.by_way.values()) == list(strand.connections.values())


def test_each_of_many_links_gets_one_connection_before_any_gets_a_second():
    world = many(100)
    world.run(2.0)
    connections = world.peer("a", B)["connections"]
    assert {c["link"] for c in connections} == set(range(2, 102))
    assert len(connections) == 100, "and none gets a second where so many have one"
    assert {c["address"].split(":")[0] for c in connections} == set(FAR_ADDRESSES)
    assert sum(c["carries"] for c in connections) == tuning.MAX_COPIES


def test_each_of_many_links_comes_to_carry_at_both_ends():
    world = many(100)
    # Hosts let others make 64 connections at once known, and two a second.
    world.run(60.0)
    for name, host in (("a", B), ("b", A)):
        states = Counter(c["state"] for c in world.peer(name, host)["connections"])
        assert set(states) == {2}, name
        assert states[2] >= 100, name
    assert {c["link"] for c in world.peer("a", B)["connections"]} == set(range(2, 102))


def test_hosts_that_are_met_in_many_places_leave_room_for_others(monkeypatch):
    monkeypatch.setattr(tuning, "MAX_LEARNT_REMOTES", 50)
    world = many(100)
    world.run(30.0)
    learnt = [c for c in world.peer("b", A)["connections"] if c["origin"] != "configured"]
    assert len(learnt) == 50


def test_what_many_links_say_does_not_come_at_one_moment():
    world = many(60)
    world.run(10.0)
    for _ in range(100):
        world.send("a", udp(A, B))
        world.run(0.2)
    since = world.now - 2.0
    # Large ones probe the path MTU.
    moments = Counter(
        int((now - since) / 0.02)
        for now, _, _, datagram in world.captured
        if now >= since and datagram[0] == CONTROL and len(datagram) < 500
    )
    print(moments)
    # Both ends of 64 connections speak twice a second, so that five in 20 ms would be even.
    assert sum(moments.values()) > 300
    assert max(moments.values()) < 60


def test_few_links_reach_every_endpoint_of_a_host():
    world = many(2)
    world.run(2.0)
    met = {(c["link"], c["address"].split(":")[0]) for c in world.peer("a", B)["connections"]}
    assert met == {(index, address) for index in (2, 3) for address in FAR_ADDRESSES}
