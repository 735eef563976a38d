"""Who belongs to the network, and the endpoints that are named for each."""

from dataclasses import replace

import pytest

from ropeway.core import tuning
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import PORT, SecureWorld, link, peer

A, B = "10.0.0.1", "10.0.0.2"
FIRST, SECOND = "192.168.0.3", "192.168.1.3"


def named(*addresses):
    """The endpoints that a name has."""
    return [(address, PORT) for address in addresses]


def world_with_a_name():
    """Host a knows host b by a name that nothing has resolved yet."""
    world = SecureWorld()
    links = [link(2, "192.168.0.2"), link(3, "192.168.1.2")]
    world.add("a", A, links, [peer("b", B, names=["b.example.net"])])
    world.add("b", B, [link(12, FIRST), link(13, SECOND)], [peer("a", A)])
    return world


def session_of(world):
    return world.nodes["a"].tables.strands[B].session


def test_a_host_is_called_where_its_name_leads_once_that_is_known():
    world = world_with_a_name()
    node = world.nodes["a"]
    node.set_resolved(B, [], world.now)
    world.run(5.0)
    assert not world.captured
    assert node.unreached() == [B]
    node.set_resolved(B, named(FIRST, SECOND), world.now)
    world.run(5.0)
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    assert node.unreached() == []
    assert world.peer("a", B)["endpoints"] == [f"{FIRST}:{PORT}", f"{SECOND}:{PORT}"]


def test_a_host_whose_names_lead_nowhere_says_so():
    world = world_with_a_name()
    assert "names have no address" in world.peer("a", B)["handshake"]
    world.nodes["a"].set_resolved(B, [], world.now)
    assert "names have no address" in world.peer("a", B)["handshake"]


def test_a_host_that_has_lost_its_names_is_called_nowhere():
    world = world_with_a_name()
    node = world.nodes["a"]
    node.set_resolved(B, named(FIRST), world.now)
    node.reload(replace(node.settings, peers=(peer("b", B),)), world.now)
    assert world.peer("a", B)["endpoints"] == []
    assert "no configured address" in world.peer("a", B)["handshake"]
    node.set_resolved(B, named(FIRST), world.now)
    assert world.peer("a", B)["endpoints"] == []


def test_other_addresses_of_a_name_end_neither_session_nor_working_connections():
    world = world_with_a_name()
    node = world.nodes["a"]
    node.set_resolved(B, named(FIRST), world.now)
    world.run(5.0)
    session = session_of(world)
    world.events["a"].clear()
    node.set_resolved(B, named(SECOND), world.now)
    assert world.states("a", B)[2, 12] == 2
    world.run(5.0)
    assert session_of(world) is session
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    assert not [event for event in world.events["a"] if "Lost" in type(event).__name__]


def test_the_same_addresses_of_a_name_change_nothing():
    world = world_with_a_name()
    node = world.nodes["a"]
    node.set_resolved(B, named(FIRST), world.now)
    world.run(5.0)
    world.collect()
    world.captured.clear()
    node.set_resolved(B, named(FIRST), world.now)
    world.collect()
    assert not world.captured


def test_a_name_without_addresses_any_more_leaves_what_works():
    world = world_with_a_name()
    node = world.nodes["a"]
    node.set_resolved(B, named(FIRST), world.now)
    world.run(5.0)
    node.set_resolved(B, [], world.now)
    world.run(60.0)
    assert world.states("a", B) == {(2, 12): 2}


def test_addresses_of_a_name_stand_beside_configured_ones_and_outlive_a_reload():
    world = SecureWorld()
    peers = [peer("b", B, FIRST, names=["b.example.net"])]
    world.add("a", A, [link(2, "192.168.0.2"), link(3, "192.168.1.2")], peers)
    node = world.nodes["a"]
    node.set_resolved(B, named(SECOND), world.now)
    both = [f"{FIRST}:{PORT}", f"{SECOND}:{PORT}"]
    assert world.peer("a", B)["endpoints"] == both
    node.reload(node.settings, world.now)
    assert world.peer("a", B)["endpoints"] == both


def test_what_a_name_server_makes_up_is_left_out():
    world = world_with_a_name()
    node = world.nodes["a"]
    odd = ["224.0.0.1", "127.0.0.1", "::1", "fe80::1", "0.0.0.0", "no address", ""]
    node.set_resolved(B, [*named(*odd), (FIRST, 0), (FIRST, 70_000), (FIRST, PORT)], world.now)
    assert world.peer("a", B)["endpoints"] == [f"{FIRST}:{PORT}"]


def test_a_name_with_more_addresses_than_a_host_may_have_gives_the_first_ones():
    world = world_with_a_name()
    many = named(*(f"203.0.113.{n}" for n in range(1, 250)))
    world.nodes["a"].set_resolved(B, many, world.now)
    endpoints = world.peer("a", B)["endpoints"]
    assert endpoints == [f"{address}:{port}" for address, port in many[: len(endpoints)]]
    assert len(endpoints) == tuning.MAX_REMOTES_PER_PEER


def test_an_own_address_of_a_name_is_not_called():
    world = world_with_a_name()
    world.nodes["a"].set_resolved(B, named("192.168.0.2"), world.now)
    world.run(2.0)
    assert not world.captured


def test_addresses_for_a_host_without_a_key_are_refused():
    world = world_with_a_name()
    with pytest.raises(ValueError, match=r"host 10\.0\.0\.9 has no key here"):
        world.nodes["a"].set_resolved("10.0.0.9", named(FIRST), world.now)


def test_addresses_of_names_and_configured_ones_share_one_limit():
    world = SecureWorld()
    configured = [f"198.51.100.{n}" for n in range(1, 31)]
    links = [link(2, "192.168.0.2")]
    world.add("a", A, links, [peer("b", B, *configured, names=["b.example.net"])])
    world.nodes["a"].set_resolved(B, named(*(f"203.0.113.{n}" for n in range(1, 9))), world.now)
    endpoints = world.peer("a", B)["endpoints"]
    assert len(endpoints) == tuning.MAX_REMOTES_PER_PEER
    assert endpoints[30:] == [f"203.0.113.1:{PORT}", f"203.0.113.2:{PORT}"]


def test_an_address_where_nobody_answers_is_not_called_once_the_name_has_lost_it():
    world = world_with_a_name()
    node = world.nodes["a"]
    node.set_resolved(B, named("192.168.0.9", FIRST), world.now)
    world.run(5.0)
    node.set_resolved(B, named(FIRST), world.now)
    world.run(1.0)
    assert [c["address"] for c in world.peer("a", B)["connections"]] == [FIRST]


def test_a_host_that_is_removed_as_data_begins_to_flow_leaves_nothing_behind():
    world = SecureWorld()
    classes = (TrafficClass("all", Match(), Mode.ADAPTIVE),)
    calls = [peer("b", B, FIRST)]
    node = world.add("a", A, [link(2, "192.168.0.2")], calls, classes=classes)
    world.add("b", B, [link(12, FIRST)], [peer("a", A)])
    # It waits for the session, and is sent with it.
    world.send("a", udp(A, B))
    for _ in range(1000):
        world.run(0.0001)
        if node.tables.woken:
            break
    assert node.tables.woken
    node.reload(replace(node.settings, peers=()), world.now)
    world.run(1.0)
    assert not node._peers.policies._choosers
    assert not len(node._peers._timers)
