"""How connections come, fall, move and go, over links and NATs that do the same."""

import random
from dataclasses import replace

import pytest

from ropeway.core import events, tuning
from ropeway.core.frame.control import Control, encode_control
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    LINK_PART,
)
from tests.unit.core.classic_world import udp
from tests.unit.core.reach import reaching
from tests.unit.core.secure_streams import (
    A,
    B,
    Hostile,
    all_once,
    said,
    stream,
)
from tests.unit.core.secure_world import (
    PORT,
    Nat,
    SecureWorld,
    link,
    pair,
    peer,
)


def test_two_endpoints_of_one_interface_become_one_connection():
    world = SecureWorld()
    one = replace(link(12, "192.168.0.3"), addresses=("192.168.0.3/24", "192.168.0.4/24"))
    world.add("b", B, [one], [peer("a", A)])
    world.add("a", A, [link(2, "192.168.0.2")], [peer("b", B, "192.168.0.3", "192.168.0.4")])
    world.run(3.0)
    assert world.states("a", B) == {(2, 12): 2}
    assert all_once(stream(world, 1.0))
    world.lost.add(world.peer("a", B)["connections"][0]["address"])
    world.run(8.0)
    assert world.states("a", B) == {(2, 12): 2}


def test_who_is_sought_where_a_link_vanished_is_given_up_if_nobody_answers_there():
    world = pair()
    world.run(2.0)
    router = world.nodes["b"]
    links = list(router._peers.links)
    for number in range(20):
        world.lost = {"192.168.0.2"}
        router.set_links(links[1:], world.now)
        router.set_links([link(20 + number, "192.168.0.3"), *links[1:]], world.now)
        world.run(0.5)
    assert len(world.peer("b", A)["connections"]) == 2
    world.run(130.0)
    assert world.states("b", A) == {(13, 3): 2}


def test_connections_that_fell_are_forgotten_though_packets_flow_now_and_then():
    world = pair()
    world.run(2.0)
    for number in range(30, 36):
        moved = link(number, f"192.168.1.{number}")
        world.nodes["a"].set_links([link(2, "192.168.0.2"), moved], world.now)
        for _ in range(5):
            world.send("a", udp(A, B))
            world.run(30.0)
        assert len(world.peer("b", A)["connections"]) <= 3
    assert world.states("b", A) == {(12, 2): 2, (13, 35): 2}


def test_every_link_may_be_behind_a_nat_that_rebinds():
    world = pair()
    world.nats = {
        "192.168.0.2": Nat("192.168.0.2", "192.168.0.99"),
        "192.168.1.2": Nat("192.168.1.2", "192.168.1.99", first_port=30000),
    }
    world.run(1.0)
    assert all(c["nat"] for c in world.peer("a", B)["connections"] if c["routed"])

    def rebind(count):
        if count % 5000 == 2500:
            world.nats["192.168.0.2"].rebind()

    assert all_once(stream(world, 15.0, each=rebind))
    assert len(said(world, "b", events.EndpointMoved)) == 3
    moved = world.peer("b", A)["connections"]
    assert {c["port"] for c in moved} == {20003, 30000}


def test_a_connection_is_used_again_within_a_probe_interval_after_its_nat_rebinds():
    world = pair()
    world.nats = {"192.168.0.2": Nat("192.168.0.2", "192.168.0.99")}
    world.run(1.0)
    stream(world, 1.0)
    world.nats["192.168.0.2"].rebind()
    at = world.now
    while not said(world, "b", events.EndpointMoved):
        world.send("a", udp(A, B))
        world.run(0.01)
    # The endpoint in use has a moment to answer as well.
    assert world.now - at <= 0.55


@pytest.mark.parametrize("rtt_s", [0.6, 1.0, 1.6])
def test_a_rebound_nat_is_followed_however_long_the_way_is(rtt_s):
    world = pair()
    world.delay_s = rtt_s / 2
    world.nats = {"192.168.0.2": Nat("192.168.0.2", "192.168.0.99")}
    world.lost = {"192.168.1.2"}
    world.run(5.0)
    stream(world, 5.0, rate=20)
    world.nats["192.168.0.2"].rebind()
    stream(world, 2 * rtt_s + 1.5, rate=20)
    assert all_once(stream(world, 5.0, rate=20))


def test_interfaces_that_come_back_with_each_others_indices_are_used_at_once():
    world = pair()
    world.run(1.0)
    stream(world, 0.5)
    peers = world.nodes["b"].settings.peers
    world.add("b", B, [link(13, "192.168.0.3"), link(12, "192.168.1.3")], peers)
    came, total = stream(world, 2.0)
    assert all(total - len(numbers) < 400 for numbers in came.values())
    assert world.states("b", A) == {(13, 2): 2, (12, 3): 2}


def test_a_connection_takes_the_endpoint_that_there_is_still_a_route_to():
    world = SecureWorld()
    near, far = "192.168.0.3", "203.0.113.7"
    one = reaching(replace(link(12, near), addresses=(f"{near}/24", f"{far}/24")))
    world.add("b", B, [one], [peer("a", A)])
    routes = ("192.168.0.0/24", "203.0.113.0/24")
    world.add("a", A, [link(2, "192.168.0.2", routes=routes)], [peer("b", B, near, far)])
    world.run(2.0)
    for kept in routes:
        world.nodes["a"].set_links([link(2, "192.168.0.2", routes=(kept,))], world.now)
        world.run(3.0)
        assert all_once(stream(world, 0.5))


def test_a_link_whose_first_address_is_not_let_through_sends_from_its_other_one():
    world = SecureWorld()
    far, wrong = "203.0.113.7", "10.1.1.5"
    world.cut = {(wrong, far), (far, wrong)}
    world.add("b", B, [link(12, far, routes=("0.0.0.0/0",))], [peer("a", A)])
    both = (f"{wrong}/24", "192.168.7.2/24")
    one = reaching(replace(link(2, wrong), addresses=both), ("0.0.0.0/0",))
    world.add("a", A, [one], [peer("b", B, far)])
    world.run(3.0)
    assert world.states("a", B) == {(2, 12): 2}
    assert all_once(stream(world, 1.0))


def test_a_link_whose_working_address_stops_to_be_let_through_takes_the_other_one():
    world = SecureWorld()
    far, first, second = "203.0.113.7", "10.1.1.5", "192.168.7.2"
    world.add("b", B, [link(12, far, routes=("0.0.0.0/0",))], [peer("a", A)])
    both = (f"{first}/24", f"{second}/24")
    one = reaching(replace(link(2, first), addresses=both), ("0.0.0.0/0",))
    world.add("a", A, [one], [peer("b", B, far)])
    world.run(3.0)
    for dead in (first, second):
        world.cut = {(dead, far), (far, dead)}
        stream(world, 5.0, rate=20)
        assert all_once(stream(world, 1.0))


def test_a_late_frame_of_the_session_before_changes_nothing():
    world = pair(rollover_s=2.0)
    world.run(1.0)
    former = world.nodes["a"].tables.strands[B].session
    greeting = Control(state=0, src_index=2, dst_index=12, way=1)
    body = former.seal(CONTROL_AD, encode_control(greeting))
    stream(world, 3.0, rate=100)
    assert world.nodes["a"].tables.strands[B].session is not former
    frame = LINK_PART.pack(CONTROL, 0, 0) + body
    world.arrive(frame, ("192.168.0.2", PORT), ("192.168.0.3", PORT))
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}


@pytest.mark.parametrize("timeout_s", [4.0, 30.0])
def test_an_idle_host_stays_reachable_behind_nats_that_forget(timeout_s):
    world = pair()
    for address in ("192.168.0.2", "192.168.1.2"):
        world.nats[address] = Nat(address, address + "9", timeout_s)
    world.run(300.0)
    reached = 0
    for _ in range(20):
        world.run(random.Random(world.now).uniform(100.0, 140.0))
        before = len(world.delivered["a"])
        world.send("b", udp(B, A))
        world.run(0.1)
        reached += len(world.delivered["a"]) > before
    assert reached == 20
    pauses = [c["pause_s"] for c in world.peer("a", B)["connections"] if c["routed"]]
    print("pauses", pauses, "at a NAT that holds", timeout_s)


def test_a_link_whose_address_changes_is_used_again_within_a_probe_interval():
    world = pair()
    world.run(1.0)

    def roam(count):
        if count == 1000:
            links = [link(2, "192.168.0.77"), link(3, "192.168.1.2")]
            world.nodes["a"].set_links(links, world.now)
        if count == 1500:
            assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}
            assert "192.168.0.77" in {c["address"] for c in world.peer("b", A)["connections"]}

    assert all_once(stream(world, 3.0, each=roam))


def test_a_link_may_vanish_while_a_host_is_somewhere_else_than_it_is_called():
    world = pair()
    world.run(1.0)
    hostile = Hostile(world, "b", A, ("192.168.1.2", 3))
    hostile.say(("192.168.1.77", PORT), src_index=99)
    world.call("a", B, "192.168.0.3", "192.168.1.3", "192.168.1.44")
    hostile.say(("192.168.1.44", PORT), src_index=99)
    assert world.states("a", B)[3, 99] == 1, "it waits for an answer at another endpoint"
    world.nodes["a"].set_links([link(2, "192.168.0.2")], world.now)
    world.run(1.0)
    assert [c["link"] for c in world.peer("a", B)["connections"]] == [2]


def in_opposite_directions(make, send, seed):
    """Give what came of 200 packets a second each way, where one way of each link dies."""
    print(f"seed {seed}")
    world = make(seed=seed)
    world.jitter_s = 0.002
    world.run(5.0)
    chance = random.Random(seed)
    first, second = chance.randrange(200), chance.randrange(0, 100)

    def each(count):
        if count == first:
            world.cut.add(("192.168.0.2", "192.168.0.3"))
        if count == first + second:
            world.cut.add(("192.168.1.3", "192.168.1.2"))
        if count == 2500:
            world.cut.clear()

    return send(world, 16, rate=200, each=each), world


@pytest.mark.parametrize("seed", range(20))
def test_links_that_die_in_opposite_directions_lose_nothing(seed):
    result, world = in_opposite_directions(pair, stream, seed)
    assert all_once(result)
    for name, host in (("a", B), ("b", A)):
        carrying = [c["carries"] for c in world.peer(name, host)["connections"] if c["routed"]]
        assert carrying == [True, True]


def test_link_that_falls_carries_no_longer_than_the_others_take_to_prove_themselves():
    world = pair()
    world.run(5.0)

    def carrying():
        return [c["link"] for c in world.peer("a", B)["connections"] if c["carries"]]

    world.cut |= {("192.168.0.2", "192.168.0.3"), ("192.168.0.3", "192.168.0.2")}
    for _ in range(2 * 200):
        world.send("a", udp(A, B))
        world.run(0.005)
    for _ in range(100):
        world.send("a", udp(A, B))
        world.run(0.01)
    assert carrying() == [3]


def test_link_that_falls_does_not_take_the_place_of_one_that_works():
    world = SecureWorld()
    far = [f"192.168.0.{200 + n}" for n in range(4)]
    near = [link(2 + n, f"192.168.0.{n + 1}") for n in range(3)]
    peers = [peer("b", B, *far, "192.168.1.3")]
    world.add("a", A, [*near, link(9, "192.168.1.2")], peers)
    links = [link(500 + n, address) for n, address in enumerate([*far, "192.168.1.3"])]
    world.add("b", B, links, [peer("a", A)])
    world.run(5.0)
    world.cut |= {("192.168.1.2", "192.168.1.3"), ("192.168.1.3", "192.168.1.2")}
    fallen = 0
    for _ in range(1200):
        world.send("a", udp(A, B))
        world.run(0.01)
        connections = world.peer("a", B)["connections"]
        carrying = [c["state"] for c in connections if c["carries"]]
        fallen += any(c["link"] == 9 and c["state"] < 2 for c in connections)
        assert carrying == [2] * tuning.MAX_COPIES
    assert fallen


def why_lost(world, name, link_index):
    """Why connections of a link were lost since the last look."""
    world.collect()
    lost = [e.reason for e in said(world, name, events.ConnectionLost) if e.link == link_index]
    world.events[name].clear()
    return lost


@pytest.mark.parametrize(
    ("rollover_s", "out_s"),
    [(120.0, 60.0), (4.0, 60.0), (4.0, 300.0)],
    ids=["within a session", "over rollovers", "over many rollovers"],
)
@pytest.mark.parametrize("flowing", [True, False], ids=["data", "idle"])
def test_a_pulled_cable_is_not_taken_for_a_restart(rollover_s, out_s, flowing):
    world = pair(rollover_s=rollover_s)
    world.run(200.0)
    why_lost(world, "a", 2)
    # What b sends arrives; it hears nothing, and says so once it has noticed.
    world.cut.add(("192.168.0.2", "192.168.0.3"))
    for _ in range(int(out_s)):
        if flowing:
            world.send("a", udp(A, B))
        world.run(1.0)
    assert set(why_lost(world, "a", 2)) == {"the other end no longer hears this one"}
    assert set(why_lost(world, "b", 12)) == {"it was silent"}


def test_a_cable_pulled_and_put_back_before_the_other_end_notices_is_no_restart():
    world = pair(rollover_s=10.0)
    world.run(200.0)
    why_lost(world, "a", 2)
    node = world.nodes["b"]
    links = list(node._peers.links)
    node.set_links([replace(links[0], up=False), links[1]], world.now)
    world.run(20.0)
    node.set_links(links, world.now)
    world.run(5.0)
    assert why_lost(world, "a", 2) == ["the other end no longer hears this one"]
    assert set(world.states("a", B).values()) == {2}


@pytest.mark.parametrize("flowing", [True, False], ids=["data", "idle"])
def test_a_restart_is_told_as_one(flowing):
    world = pair()
    links = list(world.nodes["b"]._peers.links)
    calls = [peer("a", A, "192.168.0.2", "192.168.1.2")]
    world.add("b", B, links, calls)
    world.run(200.0)
    why_lost(world, "a", 2)
    world.add("b", B, links, calls)
    for _ in range(60):
        if flowing:
            world.send("a", udp(A, B))
        world.run(1.0)
    assert why_lost(world, "a", 2) == ["the other end started anew"]
    assert set(world.states("a", B).values()) == {2}
