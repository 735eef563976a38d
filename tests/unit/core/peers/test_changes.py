"""Hosts, keys and endpoints that change while a node runs."""

from dataclasses import replace

import pytest

from ropeway.core.node import SecureNode
from ropeway.core.session.noise import KeyPair
from ropeway.core.settings import PeerSettings
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import A, B, C, all_once, stream
from tests.unit.core.secure_world import (
    SecureWorld,
    key,
    link,
    pair,
    peer,
    public,
    three,
)


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
    world.call("a", B, "192.168.0.3")
    world.run(1.0)
    assert world.states("a", B) == {(2, 12): 2}
    world.call("a", B, "192.168.0.3", "192.168.1.3")
    world.run(1.0)
    assert world.states("a", B)[3, 13] == 2
    world.call("a", B, "192.168.1.3")
    world.run(1.0)
    assert all_once(stream(world, 1.0))


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
