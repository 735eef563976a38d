"""Routes to far addresses are looked up elsewhere; until then a node waits or answers as called."""

from dataclasses import replace

import pytest

from ropeway.core.link import Link
from tests.unit.core import classic_world
from tests.unit.core.secure_world import SecureWorld, link, peer

A, B = "10.0.0.1", "10.0.0.2"
NEAR, FAR = "192.168.0.2", "192.168.0.3"


def unknown(index, *addresses):
    """A link for which nothing was looked up yet."""
    own = tuple(f"{address}/24" for address in addresses)
    return Link(index, f"eth{index}", own, 1500, True)


def looked_up(link, sources, *without):
    """The link after a look-up, which found no route to the addresses of `without`."""
    return replace(link, sources=sources, looked_up=frozenset((*sources, *without)))


def secure(caller, called):
    world = SecureWorld()
    world.add("a", A, [caller], [peer("b", B, FAR)])
    world.add("b", B, [called], [peer("a", A)])
    return world


def classic(caller, called):
    world = classic_world.World()
    world.add("a", A, [caller])
    world.nodes["a"].add_remote(B, FAR, 0, world.now)
    world.add("b", B, [called])
    return world


KINDS = pytest.mark.parametrize("make", [secure, classic])


@KINDS
def test_a_host_is_not_called_before_the_route_to_it_was_looked_up(make):
    world = make(unknown(2, NEAR), link(12, FAR))
    node = world.nodes["a"]
    world.run(5.0)
    assert not world.captured
    assert node.wants_lookup
    assert node.called() == [FAR]
    node.set_links([looked_up(unknown(2, NEAR), {FAR: NEAR})], world.now)
    assert not node.wants_lookup
    world.run(5.0)
    assert world.states("a", B) == {(2, 12): 2}


@KINDS
def test_a_host_is_not_called_where_the_look_up_found_no_route(make):
    world = make(looked_up(unknown(2, NEAR), {}, FAR), link(12, FAR))
    world.run(5.0)
    assert not world.captured
    assert not world.nodes["a"].wants_lookup


@KINDS
def test_a_caller_is_answered_from_the_address_that_it_called_before_any_look_up(make):
    called = unknown(12, "192.168.0.9", FAR)
    world = make(link(2, NEAR), called)
    world.run(5.0)
    assert world.states("b", A) == {(12, 2): 2}
    (connection,) = world.peer("b", A)["connections"]
    assert connection["source"] == FAR
    node = world.nodes["b"]
    assert node.wants_lookup
    assert NEAR in node.called()
    # The answer names another address: what the other end speaks to stays.
    node.set_links([looked_up(called, {NEAR: "192.168.0.9"})], world.now)
    assert not node.wants_lookup
    world.run(5.0)
    (connection,) = world.peer("b", A)["connections"]
    assert (connection["source"], connection["state"]) == (FAR, 2)


@KINDS
def test_a_caller_that_the_look_up_finds_no_route_to_is_answered_no_more(make):
    called = unknown(12, FAR)
    world = make(link(2, NEAR), called)
    world.run(5.0)
    world.nodes["b"].set_links([looked_up(called, {}, NEAR)], world.now)
    (connection,) = world.peer("b", A)["connections"]
    assert not connection["routed"]


@KINDS
def test_connections_carry_on_where_later_links_come_without_look_ups(make):
    world = make(link(2, NEAR), link(12, FAR))
    world.run(5.0)
    for node, own in (("a", unknown(2, NEAR)), ("b", unknown(12, FAR))):
        world.nodes[node].set_links([own], world.now)
        assert world.nodes[node].wants_lookup
    world.events["a"].clear()
    world.run(20.0)
    assert world.states("a", B) == {(2, 12): 2}
    assert world.events["a"] == []


def test_a_configured_host_is_named_before_those_that_called():
    world = secure(link(2, NEAR), link(12, FAR))
    world.run(2.0)
    world.call("b", A, "203.0.113.9")
    assert world.nodes["b"].called() == ["203.0.113.9", NEAR]


def test_a_recalled_host_is_asked_once_its_route_was_looked_up():
    world = secure(link(2, NEAR), unknown(12, FAR))
    node = world.nodes["b"]
    world.lost.add(NEAR)
    world.run(1.0)
    node.recall({A: [(NEAR, 51840)]}, world.now)
    assert node.wants_lookup
    assert node.called() == [NEAR]
    world.captured.clear()
    node.set_links([looked_up(unknown(12, FAR), {NEAR: FAR})], world.now)
    world.run(1.0)
    assert [to for _, (source, _), to, _ in world.captured if source == FAR]
