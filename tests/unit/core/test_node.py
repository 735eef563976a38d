"""Secure nodes back to back: what a user and an attacker would see."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core import events, tuning
from ropeway.core.data.fair_queue import FairQueue
from ropeway.core.frame.control import Control, decode_control, encode_control
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    COOKIE,
    DATA,
    DATA_AD,
    INITIATION,
    LINK_PART,
    RESET,
    RESPONSE,
)
from ropeway.core.node import SecureNode
from ropeway.core.session import aead, messages
from ropeway.core.session.messages import COOKIE_SIZE, INITIATION_SIZE, RESPONSE_SIZE
from ropeway.core.session.noise import KeyPair
from ropeway.core.session.resets import RESET_SIZE
from ropeway.core.settings import PeerSettings
from tests.unit.core.classic_world import udp
from tests.unit.core.reach import reaching
from tests.unit.core.secure_world import (
    PORT,
    Nat,
    SecureWorld,
    frames,
    key,
    link,
    link6,
    pair,
    peer,
    public,
    received,
    three,
)

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def number(packet):
    return int.from_bytes(packet[28:32], "big")


def numbered(src, dst, count):
    return udp(src, dst, bytes(8) + count.to_bytes(4, "big") + b"x" * 60)


def stream(world, seconds, rate=1000, ways=(("a", A, "b", B), ("b", B, "a", A)), each=None):
    """Send numbered packets; give the numbers that came, by receiver."""
    for name in world.delivered:
        world.collect()
        world.delivered[name].clear()
    total = int(seconds * rate)
    for count in range(total):
        if each is not None:
            each(count)
        for name, source, _, destination in ways:
            world.send(name, numbered(source, destination, count))
        world.run(1 / rate)
    world.run(1.0)
    return {to: [number(p) for p in world.delivered[to]] for _, _, to, _ in ways}, total


def all_once(result):
    came, total = result
    return all(sorted(numbers) == list(range(total)) for numbers in came.values())


def said(world, name, kind):
    return [event for event in world.events[name] if isinstance(event, kind)]


# Coming together.


def test_hosts_that_know_each_others_keys_meet_over_every_link():
    world = pair()
    world.run(1.0)
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}
    assert world.peer("b", A)["session"]["initiated"] is False


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


def test_all_copies_of_a_packet_are_sealed_as_one():
    world = pair()
    world.run(1.0)
    world.captured.clear()
    world.send("a", udp(A, B))
    world.collect()
    first, second = [datagram for *_, datagram in world.captured if datagram[0] == DATA]
    assert first[4:] == second[4:]
    assert first[:1] == second[:1]


def test_a_frame_adds_60_bytes_to_its_packet_over_ipv4():
    world = pair()
    world.run(1.0)
    world.captured.clear()
    packet = udp(A, B)
    world.send("a", packet)
    world.collect()
    frame = next(datagram for *_, datagram in world.captured if datagram[0] == DATA)
    assert 20 + 8 + len(frame) == len(packet) + 60


def test_hosts_without_traffic_are_quiet():
    world = pair()
    world.run(60.0)
    world.captured.clear()
    world.run(600.0)
    assert len(world.captured) < 600 * 0.3
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    assert not said(world, "a", events.ConnectionLost)


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


def test_ipv4_and_ipv6_links_make_one_strand():
    world = SecureWorld()
    world.add(
        "a",
        A,
        [link(2, "192.168.0.2"), link6(3, "2001:db8::2")],
        [peer("b", B, "192.168.0.3", "2001:db8::3")],
    )
    world.add("b", B, [link(12, "192.168.0.3"), link6(13, "2001:db8::3")], [peer("a", A)])
    world.run(1.0)
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    for address in ("192.168.0.2", "2001:db8::2"):
        world.lost = {address}
        assert all_once(stream(world, 3.0, rate=200))
        world.lost = set()
        world.run(2.0)
    assert world.nodes["a"].device_mtu == 1500 - 40 - 8 - 32


# Carrying on.


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_twice_while_one_link_works(seed):
    world = pair(seed)
    world.run(1.0)
    chance = random.Random(seed)

    # A link that is back must be used before the other one goes: every 3 s at most.
    def calm(count):
        if count % 3000 == 0:
            world.lost = {chance.choice(["192.168.0.2", "192.168.1.2"])}
        elif count % 3000 == 1500:
            world.lost = set()

    assert all_once(stream(world, 12.0, each=calm))


def test_frames_that_come_late_twice_and_out_of_order_are_delivered_once():
    world = pair(seed=4)
    world.jitter_s = 0.3
    world.twice = 0.3
    world.run(2.0)
    assert all_once(stream(world, 5.0))


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
    router, forward = host.router, host.forward
    world.add(restarted, host.address, links, host.peers, router=router, forward=forward)
    came, total = stream(world, 3.0, ways=ways)
    for numbers in came.values():
        assert len(numbers) == len(set(numbers))
        assert numbers[-1] == total - 1
        assert total - len(numbers) < 1500


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
    for address in ("192.168.0.2", "192.168.1.2"):
        world.nodes["b"].add_remote(A, address, PORT, world.now)
    strand = world.nodes["b"].tables.strands[A]
    assert list(strand.by_way.values()) == list(strand.connections.values())
    world.nodes["b"].set_links([link(12, "192.168.0.3")], world.now)
    world.lost = set()
    world.run(100.0)
    assert world.states("b", A) == {(12, 2): 2}
    assert list(strand.by_way.values()) == list(strand.connections.values())


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


def test_packets_that_waited_in_vain_are_counted_and_answered():
    world = pair()
    world.lost = {"192.168.0.3", "192.168.1.3"}
    world.send("a", *[udp(A, B) for _ in range(10)])
    world.run(5.0)
    assert world.dropped("a")["unreachable"] == 10
    assert world.nodes["a"].router.carried == 0
    assert len(world.delivered["a"]) == 10


def test_a_flow_over_a_path_that_swallows_large_packets_is_told_at_once():
    world = pair()
    world.lost = {"192.168.1.2"}
    world.mtu = {"192.168.0.2": 1300}
    world.run(0.05)
    world.send("a", udp(A, B, bytes(1400)))
    world.collect()
    (error,) = world.delivered["a"]
    assert error[20:22] == b"\x03\x04"
    assert int.from_bytes(error[26:28], "big") == 1280 - 60
    world.run(10.0)
    assert world.nodes["a"].device_mtu == 1300 - 60


def test_a_link_that_leads_to_no_peer_leaves_the_device_mtu_alone():
    world = pair()
    node = world.nodes["a"]
    links = [link(2, "192.168.0.2"), link(3, "192.168.1.2")]
    node.set_links([*links, link(7, "172.17.0.1", mtu=576)], world.now)
    assert node.device_mtu == 1440
    # It has a route to the peer and greets it in vain, before and while the others carry.
    node.set_links([*links, link(7, "172.17.0.1", mtu=576, routes=("0.0.0.0/0",))], world.now)
    world.lost = {"172.17.0.1"}
    world.run(5.0)
    assert 7 in {one for one, _ in world.states("a", B)}
    assert node.device_mtu == 1440
    world.lost |= {"192.168.0.2", "192.168.1.2"}
    world.run(5.0)
    assert node.device_mtu == 1440


def test_the_device_mtu_is_that_of_a_link_from_its_first_frame_on():
    world = pair()
    node = world.nodes["a"]
    node.set_links([link(2, "192.168.0.2"), link(3, "192.168.1.2", mtu=1400)], world.now)
    assert node.device_mtu == 1340
    world.run(2.0)
    assert node.device_mtu == 1340
    # Silence of a moment changes nothing.
    world.lost = {"192.168.1.2"}
    world.run(10.0)
    assert node.device_mtu == 1340


def test_an_agent_without_any_connection_has_the_usual_device_mtu():
    world = pair()
    world.nodes["b"].set_links([link(12, "192.168.0.3", mtu=600)], world.now)
    assert world.nodes["b"].device_mtu == 1440


def test_a_link_that_joins_lets_nobody_send_smaller_packets_if_it_carries_large_ones():
    world = pair()
    world.lost = {"192.168.1.2"}
    world.run(5.0)
    world.lost = set()

    def large(count):
        world.send("a", udp(A, B, bytes(1400)))

    came, total = stream(world, 3.0, each=large)
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    assert len(came["b"]) == 2 * total
    assert not [packet for packet in world.delivered["a"] if packet[9] == 1]


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


# Who does not belong.


def test_a_host_without_a_configured_key_gets_nowhere_and_is_named():
    world = pair()
    world.run(1.0)
    stranger = key("stranger")
    links = [link(2, "192.168.0.9")]
    world.add("s", A, links, [peer("b", B, "192.168.0.3")], private_key=stranger)
    world.run(10.0)
    assert world.peer("s", B)["session"] is None
    assert world.dropped("b")["unknown_peer"] > 1
    (note,) = said(world, "b", events.HandshakeRefused)
    assert A in str(note)
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}


def test_a_wrong_key_of_the_other_end_is_told_on_both_sides():
    world = SecureWorld()
    wrong = (public("somebody"),)
    links = [link(2, "192.168.0.2")]
    world.add("a", A, links, [peer("b", B, "192.168.0.3", public_keys=wrong)])
    world.add("b", B, [link(12, "192.168.0.3")], [peer("a", A)])
    world.run(10.0)
    world.run(5.0)
    assert "key" in world.peer("a", B)["handshake"]
    (unanswered,) = said(world, "a", events.SessionUnanswered)
    assert B in str(unanswered)
    assert "key" in str(unanswered)
    assert world.dropped("b") == {"wrong_key": world.dropped("b")["wrong_key"]}
    assert len(said(world, "b", events.HandshakeRefused)) == 1


def test_replaying_everything_changes_nothing():
    world = pair()
    world.run(1.0)
    stream(world, 1.0)
    replayed = list(world.captured)
    before = world.nodes["a"].status(world.now), world.nodes["b"].status(world.now)
    chance = random.Random(6)
    chance.shuffle(replayed)
    for _, source, endpoint, datagram in replayed:
        # From where it came from, and from where the attacker is.
        world.arrive(datagram, source, endpoint)
        world.arrive(datagram, ("192.168.0.66", 6666), endpoint)
    world.captured.clear()
    world.collect()
    assert all(endpoint[0] != "192.168.0.66" or d[0] != DATA for *_, endpoint, d in world.captured)
    after = world.nodes["a"].status(world.now), world.nodes["b"].status(world.now)
    for old, new in zip(before, after):
        assert old["counters"]["delivered"] == new["counters"]["delivered"]
        for was, now in zip(old["peers"][0]["connections"], new["peers"][0]["connections"]):
            assert (was["address"], was["port"]) == (now["address"], now["port"])
    assert all_once(stream(world, 1.0))


def test_changing_any_byte_that_is_sealed_makes_a_frame_worthless():
    world = pair()
    world.run(1.0)
    world.captured.clear()
    packet = udp(A, B)
    world.nodes["a"].outbound([packet], world.now)
    key_, endpoint, frame = next(
        (key_, endpoint, frame)
        for (key_, endpoint), trains in world.nodes["a"].take_trains().items()
        for frame in frames(trains)
        if key_[0] == 2 and frame[0] == DATA
    )
    node = world.nodes["b"]
    for offset in (0, *range(4, len(frame))):
        broken = frame[:offset] + bytes([frame[offset] ^ 1]) + frame[offset + 1 :]
        node.inbound([received(broken, (key_[1], PORT))], (12, endpoint[0]), world.now)
    for size in range(len(frame)):
        node.inbound([received(frame[:size], (key_[1], PORT))], (12, endpoint[0]), world.now)
    assert node.take_packets() == []
    node.inbound([received(frame, (key_[1], PORT))], (12, endpoint[0]), world.now)
    assert node.take_packets() == [packet]


def test_who_passes_frames_on_faster_than_their_own_way_moves_no_endpoint():
    world = pair()
    world.run(1.0)
    reach = world.transmit

    def relayed(datagram, source, endpoint):
        if endpoint[0].endswith(".66"):
            return
        if source[0].endswith(".2"):
            world.fly(datagram, (endpoint[0].rpartition(".")[0] + ".66", 6666), endpoint)
        reach(datagram, source, endpoint)

    world.transmit = relayed
    assert all_once(stream(world, 5.0))
    assert {c["port"] for c in world.peer("b", A)["connections"]} == {PORT}


def test_who_relays_control_frames_both_ways_but_no_data_moves_no_endpoint():
    world = pair()
    world.delay_s = 0.02
    world.run(5.0)
    reach = world.transmit

    def relayed(datagram, source, endpoint):
        lan, _, last = endpoint[0].rpartition(".")
        if int(last) > 60:
            if datagram[0] != DATA:
                back = (f"{lan}.{int(last) - 64}", PORT)
                world.fly(datagram, (f"{lan}.{64 + int(source[0][-1])}", PORT), back, 0.001)
            return
        reach(datagram, source, endpoint)
        if datagram[0] == CONTROL:
            attacker = f"{lan}.{64 + int(source[0][-1])}"
            world.fly(datagram, (attacker, PORT), endpoint, 0.001)

    world.transmit = relayed
    assert all_once(stream(world, 10.0, rate=100))
    for name, host in (("a", B), ("b", A)):
        assert all(int(c["address"][-1]) < 60 for c in world.peer(name, host)["connections"])


@pytest.mark.parametrize("data", [False, True])
def test_a_host_that_names_others_endpoints_has_nothing_sent_there_but_answers(data):
    world = pair()
    world.run(5.0)
    if data:
        world.run(30.0)
    session = world.nodes["a"].tables.strands[B].session
    del world.nodes["a"]
    sent = 0
    for count in range(32):
        claim = Control(state=2, src_index=1000 + count, dst_index=12, way=1, pause_s=655)
        body = session.seal(CONTROL_AD, encode_control(claim))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        sent += len(frame)
        world.arrive(frame, ("192.168.0.200", 1000 + count), ("192.168.0.3", PORT))
    world.captured.clear()
    for _ in range(30):
        if data:
            world.send("b", *[udp(B, A, bytes(1000)) for _ in range(10)])
        world.run(10.0)
    victim = sum(len(d) for *_, endpoint, d in world.captured if endpoint[0] == "192.168.0.200")
    assert victim <= sent


def test_what_a_host_announces_does_not_make_the_schedule_grow():
    world = pair()
    world.run(1.0)
    session = world.nodes["a"].tables.strands[B].session
    for count in range(2000):
        claim = Control(state=count % 3, src_index=2, dst_index=12, way=1, pause_s=655)
        body = session.seal(CONTROL_AD, encode_control(claim))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        world.arrive(frame, ("192.168.0.2", PORT), ("192.168.0.3", PORT))
        world.now += 0.001
    world.collect()
    assert world.nodes["b"]._peers._timers.entries < 100


def test_a_host_cannot_send_in_another_hosts_name():
    world = three()
    world.run(1.0)
    forged = udp("10.0.0.9", C)
    world.nodes["a"].router._own = b"\x0a\0\0\x09"
    world.send("a", forged)
    world.run(0.1)
    assert world.delivered["c"] == []
    assert world.dropped("r")["spoofed"] == 1


def test_what_another_host_sends_through_the_device_does_not_leave():
    world = pair()
    world.run(1.0)
    world.send("a", udp("10.0.0.9", B))
    world.run(0.1)
    assert world.dropped("a")["foreign_source"] == 1


def test_the_router_may_pass_on_what_other_hosts_send():
    world = three()
    world.run(1.0)
    assert all_once(stream(world, 2.0, ways=(("a", A, "c", C), ("c", C, "a", A))))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 8), st.booleans())
def test_no_bytes_make_a_node_raise_or_send_more_than_came(datagrams, kind, typed):
    world = pair()
    world.run(0.5)
    node = world.nodes["b"]
    world.collect()
    known = next(iter(node.tables.sessions.by_index))
    for datagram in datagrams:
        if typed:
            datagram = bytes([kind, 0, 0, 0]) + known + datagram
        node.inbound([received(datagram, ("192.168.0.66", 1))], (12, "192.168.0.3"), world.now)
        for (_, endpoint), replies in node.take_trains().items():
            if endpoint[0] == "192.168.0.66":
                assert sum(map(len, frames(replies))) <= len(datagram)
    assert node.take_packets() == []
    assert set(world.states("b", A).values()) == {2}


# What waits while more comes than can be handled.

AT = ("192.168.0.9", PORT)


def sent_by(node):
    """What a node has to send, without copies."""
    return list(dict.fromkeys(frames(train for t in node.take_trains().values() for train in t)))


def asked(world):
    """The initiation of a that b is yet to answer."""
    world.nodes["a"].tick(world.now)
    (initiation,) = (d for d in sent_by(world.nodes["a"]) if d[0] == INITIATION)
    assert len(initiation) == INITIATION_SIZE
    return initiation


def answered(world, initiation):
    """The response of b that a is yet to take."""
    node = world.nodes["b"]
    node.inbound([received(initiation, AT)], (12, "192.168.0.3"), world.now)
    (response,) = (datagram for datagram in sent_by(node) if datagram[0] == RESPONSE)
    assert len(response) == RESPONSE_SIZE
    return response


def flow(node, datagram):
    return node.flow(received(datagram, AT))


def with_a_bit_changed(datagram, places):
    for at in places:
        yield datagram[:at] + bytes((datagram[at] ^ 1,)) + datagram[at + 1 :]


def test_handshakes_do_not_wait_behind_garbage():
    world = pair()
    initiation = asked(world)
    response = answered(world, initiation)
    draw = random.Random(1)
    for name, handshake in (("a", response), ("b", initiation)):
        queue = FairQueue(4096, lambda *_: None)
        for kind in range(2000):
            garbage = bytes((kind % 8, 0, 0, 0)) + draw.getrandbits(1344).to_bytes(168, "little")
            for size in (INITIATION_SIZE, RESPONSE_SIZE):
                queue.put(flow(world.nodes[name], garbage[:size]), garbage[:size], 1, world.now)
        queue.take(200, world.now)
        queue.put(flow(world.nodes[name], handshake), handshake, 1, world.now)
        assert queue.take(1, world.now) == [handshake]


def test_an_initiation_has_its_own_flow_if_it_shows_this_hosts_key():
    world = pair()
    initiation = asked(world)
    assert flow(world.nodes["b"], initiation) == INITIATION
    assert flow(world.nodes["a"], initiation) is None
    # The last 16 bytes show a cookie, which proves another thing.
    for wrong in with_a_bit_changed(initiation, range(INITIATION_SIZE - 16)):
        assert flow(world.nodes["b"], wrong) is None
    assert flow(world.nodes["b"], initiation + b"x") is None
    assert flow(world.nodes["b"], initiation[:-1]) is None


def test_a_response_has_its_own_flow_while_it_is_waited_for():
    world = pair()
    node = world.nodes["a"]
    response = answered(world, asked(world))
    assert flow(node, response) == RESPONSE
    assert flow(world.nodes["b"], response) is None
    for wrong in with_a_bit_changed(response, range(8)):
        assert flow(node, wrong) is None
    assert flow(node, response + b"x") is None
    node.inbound([received(response, AT)], (2, "192.168.0.2"), world.now)
    assert flow(node, response) is None


def test_a_cookie_has_its_own_flow_if_it_is_for_ones_own_initiation():
    world = pair()
    mac1 = asked(world)[-32:-16]
    cookie = bytes((COOKIE, 0, 0, 0)) + bytes(48) + mac1[:8]
    assert len(cookie) == COOKIE_SIZE
    assert flow(world.nodes["a"], cookie) == COOKIE
    assert flow(world.nodes["b"], cookie) is None
    for wrong in with_a_bit_changed(cookie, (0, 1, 2, 3, *range(52, 60))):
        assert flow(world.nodes["a"], wrong) is None


def test_a_reset_has_its_own_flow_if_it_names_a_session_with_its_token():
    world = pair()
    world.run(1.0)
    world.add("b", B, [link(12, "192.168.0.3")], [peer("a", A)])
    world.collect()
    world.send("a", udp(A, B))
    frame, *_ = sent_by(world.nodes["a"])
    world.nodes["b"].inbound([received(frame, AT)], (12, "192.168.0.3"), world.now)
    (reset,) = sent_by(world.nodes["b"])
    assert len(reset) == RESET_SIZE
    assert flow(world.nodes["a"], reset) == RESET
    for wrong in with_a_bit_changed(reset, range(RESET_SIZE)):
        assert flow(world.nodes["a"], wrong) is None


def test_a_handshake_is_found_at_either_end_of_a_train_that_cannot_be_read():
    world = pair()
    initiation = asked(world)
    node = world.nodes["b"]
    unknown = b"\x04\0\0\0none" + bytes(992)
    for_the_next_key = initiation[:-32] + bytes(32)
    for train, size in (
        (3 * unknown + initiation, len(unknown)),
        (initiation + b"shorter", INITIATION_SIZE),
        (for_the_next_key + initiation, INITIATION_SIZE),
    ):
        assert node.flow((train, AT, size)) == INITIATION
    assert node.flow((3 * unknown, AT, len(unknown))) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_bytes_make_flow_raise_or_change_anything(data):
    kind = data.draw(st.integers(0, 8))
    sizes = (INITIATION_SIZE, RESPONSE_SIZE, COOKIE_SIZE, RESET_SIZE)
    length = data.draw(st.one_of(st.sampled_from(sizes), st.integers(0, 400)))
    drawn = data.draw(st.binary(min_size=length, max_size=length))
    typed = (bytes((kind, 0, 0, 0)) + drawn)[:length]
    before = WAITING.status(100.0), tables(WAITING)
    for datagram in (drawn, typed, STARTED):
        size = data.draw(st.integers(1, 400))
        assert WAITING.flow((drawn + datagram, AT, size)) in (None, INITIATION)
        assert flow(WAITING, datagram) == (INITIATION if datagram is STARTED else None)
    assert (WAITING.status(100.0), tables(WAITING)) == before


def tables(node):
    """What a node's handshakes remember."""
    parts, seen = [node._peers.handshakes], []
    for part in parts:
        for name, value in vars(part).items():
            inside = type(value).__module__.startswith("ropeway.") and hasattr(value, "__dict__")
            parts += [value] if inside else []
            seen += [] if inside else [(name, repr(value))]
    assert "_known" in dict(seen)
    return seen


def waiting():
    """A node that is yet to be met, and an initiation for it."""
    world = pair()
    return world.nodes["b"], asked(world)


WAITING, STARTED = waiting()


# Changing while it runs.


def reloaded(node: SecureNode, now, **changes):
    node.reload(replace(node.settings, **changes), now)


def test_a_removed_host_is_cut_off_at_once_and_no_other():
    world = three()
    world.run(1.0)
    ways = (("r", B, "c", C), ("c", C, "r", B))

    def remove(count):
        if count == 200:
            reloaded(world.nodes["r"], world.now, peers=(peer("c", C),))

    assert all_once(stream(world, 2.0, ways=ways, each=remove))
    before = len(world.delivered["r"])
    world.send("a", udp(A, B))
    world.run(5.0)
    assert len(world.delivered["r"]) == before
    assert [p["host"] for p in world.nodes["r"].status(world.now)["peers"]] == [C]


def test_a_host_changes_its_key_without_losing_a_packet():
    world = pair()
    world.run(1.0)
    new = key("a's next")
    both = (public("a"), KeyPair.of(new).public)

    def rotate(count):
        if count == 200:
            reloaded(world.nodes["b"], world.now, peers=(peer("a", A, public_keys=both),))
        if count == 700:
            reloaded(world.nodes["a"], world.now, private_key=new)
        if count == 2000:
            assert world.peer("b", A)["session"]["peer_key"] != ""
            only = (peer("a", A, public_keys=both[1:]),)
            reloaded(world.nodes["b"], world.now, peers=only)

    assert all_once(stream(world, 4.0, each=rotate))
    assert world.nodes["b"].tables.strands[A].session.public_key == both[1]


def test_the_host_that_is_called_changes_its_key_without_losing_a_packet():
    world = pair()
    world.run(1.0)
    new = key("b's next")
    both = (public("b"), KeyPair.of(new).public)
    where = ("192.168.0.3", "192.168.1.3")

    def rotate(count):
        if count == 200:
            reloaded(world.nodes["a"], world.now, peers=(peer("b", B, *where, public_keys=both),))
        if count == 700:
            reloaded(world.nodes["b"], world.now, private_key=new)
        if count == 2500:
            only = (peer("b", B, *where, public_keys=both[1:]),)
            reloaded(world.nodes["a"], world.now, peers=only)

    assert all_once(stream(world, 4.0, each=rotate))
    assert world.nodes["a"].tables.strands[B].session.public_key == both[1]


def test_what_needs_a_restart_is_named_and_nothing_is_changed():
    world = pair()
    node = world.nodes["a"]
    with pytest.raises(ValueError, match="port"):
        reloaded(node, world.now, port=5, peers=())
    assert node.settings.peers


def test_an_endpoint_can_be_added_and_removed_while_it_runs():
    world = SecureWorld()
    world.add("a", A, [link(2, "192.168.0.2"), link(3, "192.168.1.2")], [peer("b", B)])
    world.add("b", B, [link(12, "192.168.0.3"), link(13, "192.168.1.3")], [peer("a", A)])
    world.run(1.0)
    assert world.peer("a", B)["session"] is None
    world.nodes["a"].add_remote(B, "192.168.0.3", PORT, world.now)
    world.run(1.0)
    assert world.states("a", B) == {(2, 12): 2}
    world.nodes["a"].add_remote(B, "192.168.1.3", PORT, world.now)
    world.run(1.0)
    assert world.states("a", B)[3, 13] == 2
    world.nodes["a"].remove_remote(B, "192.168.0.3", world.now)
    world.run(1.0)
    assert all_once(stream(world, 1.0))
    with pytest.raises(ValueError, match=r"10\.0\.0\.9"):
        world.nodes["a"].add_remote("10.0.0.9", "192.168.0.9", PORT, world.now)


def test_an_own_address_is_not_called_in_the_place_of_another_hosts():
    world = SecureWorld()
    links = [link(2, "192.168.0.2"), link(3, "192.168.1.2")]
    world.add("a", A, links, [peer("b", B, "192.168.0.2", "192.168.1.2")])
    world.run(3.0)
    assert world.captured == []
    assert world.dropped("a") == {}
    world.nodes["a"].set_links([link(2, "192.168.0.4")], world.now)
    world.run(1.0)
    assert world.captured != []


def test_no_status_and_no_event_holds_a_key_that_is_secret():
    world = pair()
    world.run(2.0)
    node = world.nodes["a"]
    status = node.status(world.now)
    assert status["cipher"] == {"name": aead.CIPHER_NAME, "provider": aead.PROVIDER}
    text = repr(status) + repr(node.settings) + repr(world.events)
    text += repr(node.tables.sessions.by_index)
    secrets = [key("a"), *(s.send_key for s in node.tables.sessions.by_index.values())]
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret) not in text


def without_room(sender, receiver):
    """Give a packet that is larger than the router's links, and must not be cut."""
    return udp(sender, receiver, bytes(1300))


def narrow_router():
    """Give the three hosts where the router's links carry less than those of the others."""
    world = three()
    links = [link(n + 2, f"192.168.{n}.3", mtu=1000) for n in range(4)]
    world.run(10)
    world.nodes["r"].set_links(links, world.now)
    world.run(1)
    world.collect()
    for delivered in world.delivered.values():
        delivered.clear()
    return world


def test_one_hosts_oversize_packets_leave_the_other_its_icmp_errors():
    world = narrow_router()
    for tenth in range(20):
        world.send("a", *[without_room(A, C)] * 200)
        world.send("c", without_room(C, A))
        world.run(0.1)
        world.collect()
        errors = [p for p in world.delivered["c"] if p[9] == 1 and p[20:22] == bytes((3, 4))]
        assert len(errors) == tenth + 1, "each large packet of c is answered"
    told = [p for p in world.delivered["a"] if p[9] == 1]
    most = tuning.ICMP_STRAND_BURST + 2 * tuning.ICMP_STRAND_PER_S
    assert 0 < len(told) <= most, "and a is answered no more often than it may be"
    assert tuning.ICMP_STRAND_PER_S < tuning.ICMP_PER_S


class Hostile:
    """A host of the network that says what it likes, from wherever it likes, to ``target``.

    It has a valid key and session, and receives at its own address only.
    """

    OWN, AT = "192.168.0.66", ("192.168.0.3", PORT)

    def __init__(self, world, name="a", host=B, target=("192.168.0.3", 12)):
        self.world = world
        self.session = world.nodes[name].tables.strands[host].session
        del world.nodes[name]
        self.address, self.link = target
        self.marks = [0]
        self.said = {}  # source -> bytes sent from there
        self.seen = 0

    def say(self, source, **fields):
        control = Control(
            **{"state": 0, "src_index": 2, "dst_index": self.link, "way": 1, **fields}
        )
        body = self.session.seal(CONTROL_AD, encode_control(control))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        self.said[source] = self.said.get(source, 0) + len(frame)
        self.world.arrive(frame, source, (self.address, PORT))
        self.world.collect()

    def listen(self):
        """Read the marks in what was sent to its own address."""
        captured = self.world.captured
        for _, _, endpoint, datagram in captured[self.seen :]:
            if endpoint[0] == self.OWN and datagram[0] == CONTROL:
                body = self.session.open(datagram)
                control = decode_control(body) if isinstance(body, bytes) else None
                if control is not None:
                    self.marks.append(control.mark)
        self.seen = len(captured)


def test_a_greeting_that_was_passed_on_from_elsewhere_shuts_out_no_link():
    world = pair()
    stream(world, 1.0, rate=50)
    world.lost = {"192.168.1.2"}
    stream(world, 4.0, rate=50)
    greetings = [
        datagram
        for _, source, _, datagram in world.captured
        if source[0] == "192.168.1.2" and datagram[0] == CONTROL
    ]
    world.arrive(greetings[-1], ("192.168.1.66", PORT), ("192.168.1.3", PORT))
    world.lost = set()
    assert all_once(stream(world, 1.0, rate=50))
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}
    assert {c["address"] for c in world.peer("b", A)["connections"]} == {
        "192.168.0.2",
        "192.168.1.2",
    }


@pytest.mark.parametrize("sources", [("192.168.0.3",), ("192.168.0.66", "192.168.0.3")])
def test_a_greeting_that_is_led_to_another_link_ends_no_idle_connection(sources):
    world = pair()
    world.run(60.0)
    session = world.nodes["b"].tables.strands[A].session
    for source in sources:
        greeting = Control(state=0, src_index=13, dst_index=0, way=2)
        body = session.seal(CONTROL_AD, encode_control(greeting))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        world.arrive(frame, (source, PORT), ("192.168.0.2", PORT))
    assert world.states("a", B)[2, 12] == 2
    world.cut = {("192.168.1.2", "192.168.1.3")}
    assert all_once(stream(world, 1.0, rate=50))


def test_a_link_may_vanish_while_a_host_is_somewhere_else_than_it_is_called():
    world = pair()
    world.run(1.0)
    hostile = Hostile(world, "b", A, ("192.168.1.2", 3))
    hostile.say(("192.168.1.77", PORT), src_index=99)
    world.nodes["a"].add_remote(B, "192.168.1.44", PORT, world.now)
    hostile.say(("192.168.1.44", PORT), src_index=99)
    assert world.states("a", B)[3, 99] == 1, "it waits for an answer at another endpoint"
    world.nodes["a"].set_links([link(2, "192.168.0.2")], world.now)
    world.run(1.0)
    assert [c["link"] for c in world.peer("a", B)["connections"]] == [2]


def sent_to(world, known):
    """Give the bytes that went to each endpoint whose address is not ``known``."""
    sent = {}
    for _, _, endpoint, datagram in world.captured:
        if endpoint[0] not in known:
            sent[endpoint] = sent.get(endpoint, 0) + len(datagram)
    return sent


@pytest.mark.parametrize("called", [False, True], ids=["learnt", "called"])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_but_as_much_as_came_from_there_goes_where_nobody_has_answered(seed, called):
    """Whatever a host of the network claims: of interfaces, states, and echoes that it has seen."""
    world = pair(seed)
    world.run(5.0)
    if called:
        hostile = Hostile(world, "b", A, ("192.168.0.2", 2))
        victim, far = "a", B
    else:
        hostile = Hostile(world)
        victim, far = "b", A
    known = {"192.168.0.3", "192.168.1.3", "192.168.0.2", "192.168.1.2", Hostile.OWN}
    world.captured.clear()
    chance = random.Random(seed)
    own, others = (Hostile.OWN, PORT), [(f"192.168.0.{200 + n}", PORT) for n in range(3)]
    for _ in range(400):
        hostile.say(
            chance.choice([own, *others]),
            state=chance.randrange(3),
            src_index=chance.choice([2, 3, 12, 1000, 1001]),
            pause_s=chance.choice([0.5, 5.0, 655.0]),
            echo=chance.choice(hostile.marks[-4:]),
            answer=chance.random() < 0.5,
            challenge=chance.random() < 0.3,
            probe=chance.choice([0, 0, 90]),
            calls=chance.random() < 0.5,
        )
        hostile.listen()
        if chance.random() < 0.7:
            world.send(victim, *[udp(A if victim == "a" else B, far, bytes(1000))] * 5)
        world.run(chance.choice([0.0, 0.01, 0.05, 0.6, 3.0]))
        for endpoint, size in sent_to(world, known).items():
            assert size <= hostile.said.get(endpoint, 0), endpoint


@pytest.mark.parametrize("pause_s", [0.3, 1.5, 2.5])
def test_who_carries_a_link_cannot_aim_it_at_another(pause_s):
    """It keeps frames back and passes one on now and then, as if it came from elsewhere."""
    world = pair()
    world.run(5.0)
    elsewhere = ("192.168.0.200", PORT)
    passed_on, passed_at = 0, world.now
    transmit = world.transmit

    def carry(datagram, source, endpoint):
        nonlocal passed_on, passed_at
        if not {source[0], endpoint[0]} & {"192.168.0.2", "192.168.0.3"}:
            transmit(datagram, source, endpoint)
            return
        late = world.now - passed_at >= pause_s
        if late and endpoint[0] == "192.168.0.2" and datagram[0] == CONTROL:
            passed_at = world.now
            passed_on += len(datagram)
            world.fly(datagram, elsewhere, endpoint)

    world.transmit = carry
    for _ in range(3000):
        world.send("a", udp(A, B, bytes(1000)))
        world.send("b", udp(B, A, bytes(1000)))
        world.run(0.01)
    aimed = sum(len(d) for *_, endpoint, d in world.captured if endpoint == elsewhere)
    assert passed_on > 0
    assert aimed <= passed_on
    world.transmit = transmit
    world.run(10.0)
    assert set(world.states("a", B).values()) == {2}, "and the link comes back"


def test_interfaces_that_a_host_claims_leave_nothing_behind():
    world = pair()
    world.run(1.0)
    hostile = Hostile(world)
    node = world.nodes["b"]
    for count in range(20_000):
        hostile.say((Hostile.OWN, PORT), src_index=1000 + count, pause_s=655.0)
        world.now += 0.0005
        if count % 1000 == 0:
            assert node._peers._timers.entries < 300
            assert len(node.tables.strands[A].connections) < 50
            world.captured.clear()
    assert world.dropped("b")["limit"] > 19_000
    world.run(120.0)
    assert len(node._peers._timers) < 50


def test_interfaces_claimed_behind_one_endpoint_get_one_copy():
    world = pair()
    world.run(5.0)
    hostile = Hostile(world)
    own = (Hostile.OWN, PORT)
    for index in range(1000, 1031):
        hostile.say(own, src_index=index)
        hostile.listen()
        hostile.say(own, src_index=index, state=2, echo=hostile.marks[-1])
        world.run(0.03)
    peer_ = world.peer("b", A)
    assert sum(c["state"] == 2 and c["address"].startswith(Hostile.OWN)
               for c in peer_["connections"]) > 8  # fmt: skip
    world.captured.clear()
    world.send("b", udp(B, A, b"once"))
    world.collect()
    copies = [d for *_, endpoint, d in world.captured if endpoint == own and d[0] == DATA]
    assert len(copies) == 1


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


def test_frames_that_cannot_be_opened_do_not_count_as_received():
    world = pair()
    world.run(3.0)

    def counted():
        connection = world.peer("b", A)["connections"][0]
        return connection["received"], connection["received_bytes"]

    del world.captured[:]
    before = counted()
    world.send("a", udp(A, B))
    world.collect()
    sent = [entry for entry in world.captured if entry[3][:1] == DATA_AD]
    _, source, to, frame = next(entry for entry in sent if entry[2][0] == "192.168.0.3")
    for number in range(1, 200):
        forged = frame[:8] + (2**20 + number).to_bytes(8, "little") + frame[16:]
        world.arrive(forged, source, to)
    assert world.dropped("b")["forged"] == 199
    assert counted() == before
    whole = frame[:-1] + bytes((frame[-1] ^ 1,)) + frame
    node = world.nodes["b"]
    node.inbound([(whole, source, len(frame))], (12, to[0]), world.now)
    world.arrive(frame, source, to)
    assert counted() == (before[0] + 2, before[1] + 2 * len(frame))


def test_each_of_many_links_gets_one_connection_before_any_gets_a_second():
    world = SecureWorld()
    far = [f"192.168.0.{200 + n}" for n in range(3)]
    links = [link(2 + n, f"192.168.0.{n + 1}") for n in range(100)]
    world.add("a", A, links, [peer("b", B, *far)])
    world.add("b", B, [link(500 + n, address) for n, address in enumerate(far)], [peer("a", A)])
    world.run(2.0)
    connections = world.peer("a", B)["connections"]
    assert {c["link"] for c in connections} == {one.index for one in links}
    assert len(connections) == 100, "and none gets a second where so many have one"
    assert {c["address"].split(":")[0] for c in connections} == set(far)
    assert sum(c["carries"] for c in connections) == tuning.MAX_COPIES


def test_few_links_reach_every_endpoint_of_a_host():
    world = SecureWorld()
    far = [f"192.168.0.{200 + n}" for n in range(3)]
    world.add("a", A, [link(2 + n, f"192.168.0.{n + 1}") for n in range(2)], [peer("b", B, *far)])
    world.add("b", B, [link(500 + n, address) for n, address in enumerate(far)], [peer("a", A)])
    world.run(2.0)
    met = {(c["link"], c["address"].split(":")[0]) for c in world.peer("a", B)["connections"]}
    assert met == {(index, address) for index in (2, 3) for address in far}


def test_a_host_that_was_removed_says_that_it_is_shut_out_until_it_is_let_in_again():
    world = pair()
    world.run(5.0)
    members = world.nodes["b"].settings
    world.nodes["b"].reload(replace(members, peers=()), world.now)
    world.run(0.1)
    shut_out = "it has shut this host out: this host's key is not among its peers any more"
    found = world.peer("a", B)
    assert found["session"] is None
    assert found["handshake"] == shut_out
    assert not any(c["state"] for c in found["connections"])
    world.run(60.0)
    assert world.peer("a", B)["handshake"] == shut_out
    assert [str(e) for e in world.events["a"] if "shut" in str(e)] == [
        f"session with {B} lost: {shut_out}",
        f"no session with {B}: {shut_out}",
    ]
    world.nodes["b"].reload(members, world.now)
    world.run(10.0)
    assert world.peer("a", B)["handshake"] is None
    assert set(world.states("a", B).values()) == {2}


def test_a_host_whose_key_was_taken_away_says_that_it_is_shut_out():
    world = pair()
    world.run(5.0)
    other = PeerSettings(A, (public("somebody else"),))
    world.nodes["b"].reload(replace(world.nodes["b"].settings, peers=(other,)), world.now)
    world.run(0.1)
    assert "shut this host out" in world.peer("a", B)["handshake"]


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


# State lost and clock set back.


def restart(world, name, **settings):
    """Start a host anew as it was, with other ``settings``."""
    before = world.nodes[name]
    same = before.settings
    links = list(before._peers.links)
    more = {"router": same.router, "forward": same.forward, **settings}
    return world.add(name, same.address, links, same.peers, **more)


def set_back(away_s, natted=True):
    """Give the network after c was away for a while and is back with an epoch of long ago."""
    world = three()
    if natted:
        for address in ("192.168.2.2", "192.168.3.2"):
            world.nats[address] = Nat(address, address + "9", 60.0)
    world.run(200.0)
    world.events["r"].clear()
    world.lost |= {"192.168.2.2", "192.168.3.2"}
    world.run(away_s)
    world.lost.clear()
    world.captured.clear()
    del world.reset_keys["c"]
    restart(world, "c", epoch=5)
    return world


def stale_notes(world, name):
    world.collect()
    return [str(e) for e in said(world, name, events.HandshakeRefused)]


@pytest.mark.parametrize("away_s", [0.0, 4.0, 40.0, 200.0, 4000.0])
@pytest.mark.parametrize("natted", [True, False], ids=["behind a NAT", "open"])
def test_a_host_whose_state_was_lost_and_clock_set_back_is_back_within_seconds(away_s, natted):
    world = set_back(away_s, natted)
    world.run(12.0)
    assert set(world.states("c", B).values()) == {2}
    assert len(world.states("c", B)) == 2
    assert all_once(stream(world, 2.0, ways=(("a", A, "c", C), ("c", C, "a", A))))
    world.run(1000.0)
    assert set(world.states("c", B).values()) == {2}
    assert all_once(stream(world, 2.0, ways=(("a", A, "c", C), ("c", C, "a", A))))


def test_stale_handshakes_are_told_at_both_ends_with_what_to_do():
    world = set_back(4000.0)
    world.run(12.0)
    (note,) = stale_notes(world, "r")
    assert note.startswith(f"a handshake of {C} was refused: its handshakes are genuine but older")
    assert "clock" in note
    (note,) = stale_notes(world, "c")
    assert note.startswith(f"no answer from {B}: it takes this host's handshakes for old ones")
    assert "set the clock" in note
    assert "set the clock" in world.peer("c", B)["handshake"]
    world.nodes["c"].raise_epoch(9)
    assert world.peer("c", B)["handshake"] is None
    world.run(600.0)
    assert len(stale_notes(world, "r")) == len(stale_notes(world, "c")) == 1


def mute(world, name, kind):
    """Have datagrams of one type that a host sends get lost."""
    own = {one.addresses[0].partition("/")[0] for one in world.nodes[name]._peers.links}
    transmit = world.transmit

    def muted(datagram, source, endpoint):
        if source[0] not in own or datagram[0] != kind:
            transmit(datagram, source, endpoint)

    world.transmit = muted


def test_the_clock_that_is_set_while_nobody_answers_heals_without_a_restart():
    world = set_back(4000.0)
    # As a router of an earlier version, which calls nobody back.
    mute(world, "r", COOKIE)
    world.run(5.0)
    node = world.nodes["c"]
    assert not node.unanswered(world.now)
    world.run(25.0)
    assert set(world.states("c", B).values()) == {0}
    assert "this host's clock was set back" in world.peer("c", B)["handshake"]
    assert world.peer("r", C)["handshake"].startswith("its handshakes are genuine but older")
    assert node.unanswered(world.now)
    node.raise_epoch(2000)
    world.run(10.0)
    assert set(world.states("c", B).values()) == {2}
    assert not node.unanswered(world.now)


def initiations(world, source):
    return [d for _, (a, _), _, d in world.captured if a == source and len(d) == INITIATION_SIZE]


def bytes_to(world, endpoint):
    return [d for _, _, to, d in world.captured if to == endpoint]


VICTIM = ("192.168.0.77", 4000)


def recorded(runs=20, **settings):
    """Give a network, and initiations of c that r took and whose answers it has forgotten."""
    world = three(**settings)
    for _ in range(runs):
        world.run(5.0)
        restart(world, "c")
    world.run(30.0)
    old = list(dict.fromkeys(initiations(world, "192.168.2.2")))
    assert len(old) >= runs
    return world, old


def play_back(world, datagrams, source, pause_s=0.05):
    for datagram in datagrams:
        world.arrive(datagram, source, ("192.168.2.3", PORT))
        world.run(pause_s)


def test_old_handshakes_played_back_while_their_host_is_there_lead_to_nothing():
    world, old = recorded()
    ways = (("r", B, "c", C),)
    stream(world, 1.0, rate=20, ways=ways)
    before = world.peer("r", C)["session"]["age_s"]
    world.captured.clear()
    play_back(world, old[:60], VICTIM)
    assert bytes_to(world, VICTIM) == []
    assert initiations(world, "192.168.2.3") == []
    assert stale_notes(world, "r") == []
    assert world.peer("r", C)["session"]["age_s"] > before
    assert world.dropped("r")["stale"] >= len(old[:60])


def test_old_handshakes_played_back_while_their_host_is_idle_draw_two_frames_to_it():
    world, old = recorded()
    world.run(115.0)
    quiet = world.now
    while world.now - world.nodes["r"].tables.strands[C].heard_at < 6.0:
        world.run(0.5)
        assert world.now < quiet + 100.0
    world.captured.clear()
    play_back(world, old[:60], VICTIM)
    assert bytes_to(world, VICTIM) == []
    assert initiations(world, "192.168.2.3") == []
    assert stale_notes(world, "r") == []
    asked = [d for _, (a, _), _, d in world.captured if a in ("192.168.2.3", "192.168.3.3")]
    assert sum(map(len, asked[:2])) <= INITIATION_SIZE


def test_old_handshakes_played_back_aim_nothing_but_cookies_at_who_shows_none():
    world, old = recorded()
    world.lost |= {"192.168.2.2", "192.168.3.2"}
    world.run(400.0)
    assert world.peer("r", C)["connections"] == []
    world.captured.clear()
    began = world.now
    for _ in range(40):
        play_back(world, old, VICTIM, 0.01)
    sent = bytes_to(world, VICTIM)
    assert sent
    assert {len(d) for d in sent} == {COOKIE_SIZE}
    assert len(sent) <= tuning.STALE_STRAND_BURST + tuning.STALE_STRAND_PER_S * (world.now - began)
    assert world.peer("r", C)["connections"] == []
    assert initiations(world, "192.168.2.3") == []
    assert len(stale_notes(world, "r")) <= 1 + (world.now - began) / tuning.STALE_TOLD_S


def test_who_plays_back_an_old_handshake_and_shows_a_cookie_gets_no_more_than_it_sends():
    world, old = recorded()
    world.lost |= {"192.168.2.2", "192.168.3.2"}
    world.run(400.0)
    world.captured.clear()
    came = 0
    shown = 0
    for datagram in old:
        world.arrive(datagram, VICTIM, ("192.168.2.3", PORT))
        world.run(0.3)
        came += len(datagram)
        cookie = [d for d in bytes_to(world, VICTIM) if len(d) == COOKIE_SIZE][-1]
        # Whoever knows r's public key can open what r seals for the initiation that it saw.
        cipher = messages.cookie_cipher(messages.cookie_key(public("r")), cookie[4:20])
        opened = cipher.decrypt(bytes(12), cookie[20:52], datagram[-32:-16])
        body = datagram[:-16]
        for _ in range(3):
            world.arrive(body + messages.mac(opened, body), VICTIM, ("192.168.2.3", PORT))
            world.run(0.3)
            came += len(datagram)
            shown += 1
        sent = bytes_to(world, VICTIM)
        assert sum(map(len, sent)) <= came
    assert INITIATION_SIZE in {len(d) for d in sent}
    assert world.peer("r", C)["connections"] == []
    assert world.peer("r", C)["session"] is None
    world.captured.clear()
    world.run(100.0)
    assert bytes_to(world, VICTIM) == []
    # The host itself gets in all the same.
    world.lost.clear()
    world.run(10.0)
    assert set(world.states("c", B).values()) == {2}


# Two hosts with one key.


def cloned(epoch, first_index=4):
    """Give the network with another host that is c too, started 100 s later."""
    world = three()
    world.run(100.0)
    c = world.nodes["c"].settings
    links = [link(first_index + n, f"192.168.{2 + n}.44") for n in range(2)]
    same = {"router": B, "private_key": key("c"), "epoch": epoch or c.epoch}
    world.add("c2", C, links, c.peers, **same)
    return world


def alternate(world, seconds, flowing):
    for _ in range(seconds):
        for name in ("c", "c2") if flowing else ():
            world.send(name, udp(C, A))
        world.run(1.0)
    world.collect()


@pytest.mark.parametrize("flowing", [True, False], ids=["data", "idle"])
@pytest.mark.parametrize(
    ("epoch", "first_index"),
    [(5, 4), (None, 4), (5000, 4), (5000, 40), (5, 40)],
    ids=["earlier", "same", "later", "later, other interfaces", "earlier, other interfaces"],
)
def test_two_hosts_with_one_key_are_told_once_with_both_endpoints(epoch, first_index, flowing):
    world = cloned(epoch, first_index)
    alternate(world, 300, flowing)
    (told,) = said(world, "r", events.KeyShared)
    status = world.peer("r", C)["handshake"]
    for sentence in (str(told), f"{C}: {status}"):
        assert sentence.startswith(f"{C}: two hosts use its key: one is heard at 192.168.")
        assert any(f"{end}:{PORT}" in sentence for end in ("192.168.2.2", "192.168.3.2"))
        assert any(f"{end}:{PORT}" in sentence for end in ("192.168.2.44", "192.168.3.44"))
    assert stale_notes(world, "r") == []
    # One of them is switched off.
    world.lost |= {"192.168.2.44", "192.168.3.44"}
    world.run(200.0)
    assert world.peer("r", C)["handshake"] is None
    assert set(world.states("c", B).values()) == {2}
    assert len(said(world, "r", events.KeyShared)) == 1


def test_two_hosts_with_one_key_behind_one_nat_are_told():
    world = three()
    world.nats["192.168.2.2"] = Nat("192.168.2.2", "192.168.2.9")
    world.nats["192.168.2.44"] = Nat("192.168.2.44", "192.168.2.9", first_port=30000)
    world.nodes["c"].set_links([link(4, "192.168.2.2")], world.now)
    world.run(100.0)
    peers = world.nodes["c"].settings.peers
    world.add("c2", C, [link(4, "192.168.2.44")], peers, router=B, private_key=key("c"))
    alternate(world, 300, True)
    (told,) = said(world, "r", events.KeyShared)
    assert told.here[0] == told.there[0] == "192.168.2.9"
    assert told.here[1] != told.there[1]


@pytest.mark.parametrize("seed", range(4))
def test_one_host_is_never_taken_for_two(seed):
    world = three(seed, rollover_s=5.0)
    chance = random.Random(seed)
    world.run(5.0)
    for _ in range(60):
        world.loss = chance.choice((0.0, 0.0, 0.3))
        world.jitter_s = chance.choice((0.0, 0.1, 6.0))
        world.late = {f"192.168.{n}.2": chance.choice((0.0, 20.0)) for n in range(4)}
        if chance.random() < 0.1:
            restart(world, "c")
        if chance.random() < 0.05:
            restart(world, "c", epoch=5)
        for _ in range(10):
            world.send("c", udp(C, A))
            world.run(chance.choice((0.1, 1.0)))
    world.collect()
    assert said(world, "r", events.KeyShared) == []
    assert said(world, "c", events.KeyShared) == []
