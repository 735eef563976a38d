"""Networks behind hosts: announced, allowed, and no packet with any other address."""

from dataclasses import replace

import pytest

from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import NETWORK, SecureWorld, link, peer

LAN_A, LAN_C = "192.168.70.0/24", "192.168.80.0/24"


def sites(seed=1, allowed_a=(LAN_A,), allowed_c=(LAN_C,), announce_c=(LAN_C,)):
    """Hosts a and c with networks behind them, and the router r."""
    world = SecureWorld(seed)
    world.add(
        "r",
        "10.0.0.2",
        [link(n + 2, f"192.168.{n}.3") for n in range(4)],
        [peer("a", "10.0.0.1", allowed=allowed_a), peer("c", "10.0.0.3", allowed=allowed_c)],
        forward=True,
    )
    for name, host, lans, announce in (
        ("a", "10.0.0.1", (0, 1), (LAN_A,)),
        ("c", "10.0.0.3", (2, 3), announce_c),
    ):
        world.add(
            name,
            host,
            [link(2 + n, f"192.168.{n}.2") for n in lans],
            [peer("r", "10.0.0.2", *(f"192.168.{n}.3" for n in lans))],
            routers=("10.0.0.2",),
            announce=announce,
        )
    return world


def routes(world, name):
    return {
        route["prefix"]: route["next_hops"]
        for route in world.nodes[name].status(world.now)["routes"]["learnt"]
    }


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_network_behind_one_host_reaches_one_behind_another(loss):
    world = sites()
    world.run(2)
    world.loss = loss
    world.run(3)
    assert routes(world, "r") == {LAN_A: ["10.0.0.1"], LAN_C: ["10.0.0.3"]}
    assert routes(world, "a") == {LAN_C: ["10.0.0.2"]}
    assert world.nodes["a"].routes() == (LAN_C,)
    world.loss = 0.0
    there, back = udp("192.168.70.5", "192.168.80.9"), udp("192.168.80.9", "192.168.70.5")
    world.send("a", there)
    world.send("c", back)
    world.run(1)
    assert [packet[16:20] for packet in world.delivered["c"]] == [bytes((192, 168, 80, 9))]
    assert [packet[12:16] for packet in world.delivered["a"]] == [bytes((192, 168, 80, 9))]


def test_a_host_of_the_virtual_network_reaches_a_network_behind_another():
    world = sites()
    world.run(3)
    world.send("a", udp("10.0.0.1", "192.168.80.9"))
    world.send("c", udp("192.168.80.9", "10.0.0.1"))
    world.run(1)
    assert len(world.delivered["c"]) == len(world.delivered["a"]) == 1


def test_a_withdrawal_is_followed():
    world = sites()
    world.run(3)
    world.nodes["c"].reload(replace(world.nodes["c"].settings, announce=()), world.now)
    world.run(1)
    assert world.nodes["a"].routes() == ()
    assert routes(world, "a") == {LAN_C: []}
    world.send("a", udp("192.168.70.5", "192.168.80.9"))
    world.run(1)
    assert world.delivered["c"] == []
    assert world.dropped("a")["no_route"] == 1


def test_a_host_that_dies_is_no_way_to_its_network():
    world = sites()
    world.run(3)
    world.lost = {"192.168.2.2", "192.168.3.2"}
    world.run(10)
    assert world.nodes["a"].routes() == ()
    world.lost = set()
    world.run(10)
    assert world.nodes["a"].routes() == (LAN_C,)


def test_an_announcement_that_is_not_allowed_is_counted_and_nobody_hears_of_it():
    world = sites(allowed_c=("192.168.81.0/24",))
    world.run(3)
    assert routes(world, "r") == {LAN_A: ["10.0.0.1"]}
    assert routes(world, "a") == {}
    assert world.dropped("r")["not_allowed"] >= 1


def test_a_withdrawn_permission_ends_the_route():
    world = sites()
    world.run(3)
    router = world.nodes["r"]
    peers = tuple(replace(one, allowed=()) for one in router.settings.peers)
    router.reload(replace(router.settings, peers=peers), world.now)
    world.run(1)
    assert routes(world, "a") == {LAN_C: []}


@pytest.mark.parametrize(
    ("source", "reason"),
    [("192.168.70.5", None), ("192.168.71.5", "foreign_source"), ("10.0.0.9", "foreign_source")],
)
def test_a_host_sends_from_its_own_networks_and_no_other(source, reason):
    world = sites()
    world.run(3)
    world.send("a", udp(source, "192.168.80.9"))
    world.run(1)
    assert len(world.delivered["c"]) == (reason is None)
    assert (reason is None) or world.dropped("a")[reason] == 1


@pytest.mark.parametrize("source", ["192.168.71.5", "192.168.80.9", "10.0.0.3", "10.0.0.2"])
def test_a_router_takes_from_a_host_its_own_sources_and_no_other(source):
    world = sites()
    world.run(3)
    # As a host that keeps to no rules would send it.
    world.nodes["a"].router.send((udp(source, "192.168.80.1"),), None, world.now, False)
    world.run(1)
    assert world.delivered["c"] == []
    assert world.dropped("r")["spoofed"] == 1


def test_a_client_takes_from_its_router_only_sources_that_have_been_announced():
    world = sites()
    world.run(3)
    for source, count in (("192.168.70.5", 1), ("172.16.0.1", 1), ("192.168.80.3", 1)):
        world.nodes["r"].router.send((udp(source, "10.0.0.3"),), None, world.now, False)
        world.run(1)
        assert len(world.delivered["c"]) == count
    assert world.dropped("c")["spoofed"] == 2


def test_two_hosts_without_a_router_exchange_their_networks():
    world = SecureWorld(1)
    for name, host, other, far, lan, behind in (
        ("a", "10.0.0.1", "b", "10.0.0.2", LAN_A, LAN_C),
        ("b", "10.0.0.2", "a", "10.0.0.1", LAN_C, LAN_A),
    ):
        at = "192.168.0.2" if name == "a" else "192.168.0.3"
        there = "192.168.0.3" if name == "a" else "192.168.0.2"
        world.add(
            name, host, [link(2, at)], [peer(other, far, there, allowed=(behind,))], announce=(lan,)
        )
    world.run(3)
    assert world.nodes["a"].routes() == (LAN_C,)
    world.send("a", udp("192.168.70.5", "192.168.80.9"))
    world.run(1)
    assert len(world.delivered["b"]) == 1


def test_without_networks_behind_hosts_a_router_is_told_nothing_again():
    world = sites(announce_c=())
    world.nodes["a"].reload(replace(world.nodes["a"].settings, announce=()), world.now)
    world.run(5)
    sent = []
    for node in world.nodes.values():
        node._peers.messages.send = lambda *said: sent.append(said)
    world.run(120)
    assert sent == []
    assert NETWORK not in routes(world, "a")


def two_routers(seed=1):
    """Hosts a and c with networks behind them, each a client of the routers r and s."""
    world = SecureWorld(seed)
    routers = (("r", "10.0.0.2", 3), ("s", "10.0.0.4", 4))
    for name, host, last in routers:
        other, far, there = next(one for one in routers if one[0] != name)
        world.add(
            name,
            host,
            [link(n + 2, f"192.168.{n}.{last}") for n in range(3)],
            [
                peer("a", "10.0.0.1", allowed=(LAN_A,)),
                peer("c", "10.0.0.3", allowed=(LAN_C,)),
                peer(other, far, f"192.168.2.{there}"),
            ],
            routers=(far,),
            forward=True,
        )
    for name, host, lan, announce in (("a", "10.0.0.1", 0, LAN_A), ("c", "10.0.0.3", 1, LAN_C)):
        world.add(
            name,
            host,
            [link(2, f"192.168.{lan}.2")],
            [peer(one, far, f"192.168.{lan}.{last}") for one, far, last in routers],
            routers=("10.0.0.2", "10.0.0.4"),
            announce=(announce,),
        )
    return world


def test_two_routers_lead_to_a_network_at_once_and_each_packet_comes_once():
    world = two_routers()
    world.run(8)
    assert sorted(routes(world, "a")[LAN_C]) == ["10.0.0.2", "10.0.0.4"]
    for number in range(20):
        world.send("a", udp("192.168.70.5", "192.168.80.9", ident=number))
        world.run(0.01)
        if number == 10:
            world.lost |= {f"192.168.{n}.3" for n in range(3)}
    world.run(1)
    assert len(world.delivered["c"]) == 20


def test_a_router_passes_packets_on_by_another_one_that_reaches_the_host():
    world = two_routers()
    world.run(8)
    # From r no way leads to c, and from s none to a.
    apart = [(f"192.168.{n}.3", "192.168.1.2") for n in range(3)]
    apart += [(f"192.168.{n}.4", "192.168.0.2") for n in range(3)]
    world.cut = {*apart, *(way[::-1] for way in apart)}
    # So long a connection that nobody uses may be quiet.
    world.run(25)
    assert routes(world, "r")[LAN_C] == ["10.0.0.4"]
    assert routes(world, "r")["10.0.0.3/32"] == ["10.0.0.4"]
    for destination in ("192.168.80.9", "10.0.0.3"):
        world.delivered["c"].clear()
        world.send("a", udp("192.168.70.5", destination))
        world.run(0.5)
        assert len(world.delivered["c"]) == 1
    world.cut = set()
    world.run(20)
    assert sorted(routes(world, "a")[LAN_C]) == ["10.0.0.2", "10.0.0.4"]
