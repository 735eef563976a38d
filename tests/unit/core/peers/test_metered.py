"""Links whose bytes cost money: how little passes over them, and that they are there at once."""

from dataclasses import replace

import pytest

from ropeway.core.frame.data import CONTROL, DATA, PARTIAL
from ropeway.core.frame.outer import outer_size
from ropeway.core.link import METERED_COST
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import A, B, all_once, stream
from tests.unit.core.secure_world import SecureWorld, link, pair, peer

#: Ends of the metered link, and of the other one.
METERED = {"192.168.0.2", "192.168.0.3"}
OTHER = {"192.168.1.2", "192.168.1.3"}


def classes(mode):
    return (TrafficClass("all", Match(), Mode(mode)),)


def meter(world, metered=True):
    """Have host a's first link cost money; nobody tells host b but the link's own end."""
    links = [
        replace(one, metered=metered, cost=METERED_COST * metered) if one.index == 2 else one
        for one in world.links("a")
    ]
    world.nodes["a"].set_links(links, world.now)


def over(world, ends, *kinds):
    return [
        (source[0], datagram)
        for _, source, _, datagram in world.captured
        if source[0] in ends and (not kinds or datagram[0] in kinds)
    ]


def bytes_by_end(world, seconds):
    """Bytes a second over the metered link with their IP and UDP headers, by who sent them."""
    rates = dict.fromkeys(sorted(METERED), 0.0)
    for source, datagram in over(world, METERED):
        rates[source] += (len(datagram) + outer_size(source)) / seconds
    print({source: f"{rate:.1f} bytes/s" for source, rate in rates.items()})
    return list(rates.values())


def converse(world, seconds, pause_s=0.1):
    """Have both hosts send a packet now and then."""
    for _ in range(round(seconds / pause_s)):
        world.send("a", udp(A, B))
        world.send("b", udp(B, A))
        world.run(pause_s)


def test_an_idle_metered_link_carries_under_20_bytes_a_second():
    world = pair()
    world.run(1.0)
    meter(world)
    world.run(120.0)
    world.captured.clear()
    world.run(300.0)
    rates = bytes_by_end(world, 300.0)
    assert all(rate > 0 for rate in rates)
    assert sum(rates) < 20
    assert world.states("a", B)[2, 12] == world.states("b", A)[12, 2] == 2


@pytest.mark.parametrize("mode", ["adaptive", "single", "spread"])
def test_both_ends_leave_it_alone_while_another_link_carries_the_data(mode):
    world = pair(classes=classes(mode))
    world.run(1.0)
    meter(world)
    world.run(150.0)
    converse(world, 10.0)
    world.captured.clear()
    converse(world, 120.0)
    assert not over(world, METERED, DATA, PARTIAL)
    assert over(world, OTHER, DATA, PARTIAL)
    rates = bytes_by_end(world, 120.0)
    assert all(rate > 0 for rate in rates)
    assert sum(rates) < 25
    assert world.states("a", B)[2, 12] == world.states("b", A)[12, 2] == 2


def test_without_that_the_same_traffic_costs_much_more():
    world = pair(classes=classes("adaptive"))
    world.run(60.0)
    converse(world, 10.0)
    world.captured.clear()
    converse(world, 30.0)
    assert sum(bytes_by_end(world, 30.0)) > 500


@pytest.mark.parametrize("mode", ["adaptive", "single"])
def test_it_carries_as_soon_as_the_other_link_fails(mode):
    world = pair(classes=classes(mode))
    world.run(1.0)
    meter(world)
    world.run(60.0)
    assert all_once(stream(world, 10.0))
    world.lost |= OTHER
    came, total = stream(world, 5.0)
    missing = [sorted(set(range(total)) - set(numbers)) for numbers in came.values()]
    print([(len(numbers), numbers[-1:]) for numbers in missing])
    # An answer is late after some hundredths of a second. What is lost by then is repeated.
    assert all(not numbers or numbers[-1] < 200 for numbers in missing)


def test_a_host_with_metered_links_only_is_as_lively_as_another_while_data_flows():
    world = SecureWorld()
    world.add(
        "a", A, [replace(link(2, "192.168.0.2"), metered=True)], [peer("b", B, "192.168.0.3")]
    )
    world.add("b", B, [link(12, "192.168.0.3")], [peer("a", A)])
    world.run(60.0)
    converse(world, 21.0, 3.0)
    # Nobody took the other for lost.
    assert world.peer("a", B)["session"]["age_s"] > 60
    assert len(world.delivered["b"]) == len(world.delivered["a"]) == 7
    converse(world, 2.0)
    world.lost |= METERED
    converse(world, 2.5)
    assert world.states("a", B)[2, 12] < 2


def test_redundant_data_goes_over_it_and_little_besides():
    world = pair()
    world.run(1.0)
    meter(world)
    converse(world, 10.0)
    world.captured.clear()
    converse(world, 60.0)
    assert len(over(world, METERED, DATA, PARTIAL)) == 2 * 600
    besides = over(world, METERED, CONTROL)
    rate = sum(len(datagram) + outer_size(source) for source, datagram in besides) / 60.0
    print(f"{rate:.0f} bytes/s beside the data")
    # Two frames a second from each end, and a path MTU probe a minute.
    assert rate < 900


def test_what_its_path_carries_is_found_once_though_nothing_passes():
    world = pair(classes=classes("adaptive"))
    world.mtu["192.168.0.3"] = 1400
    meter(world)
    world.run(60.0)
    (found,) = [c for c in world.peer("a", B)["connections"] if c["link"] == 2]
    assert (found["mtu"], found["mtu_settled"]) == (1400, True)
    world.captured.clear()
    world.run(200.0)
    assert max(len(datagram) for _, datagram in over(world, METERED, CONTROL)) < 300


def test_the_other_end_knows_and_takes_the_link_for_dear():
    world = pair()
    world.run(1.0)
    assert not any(c["metered"] for c in world.peer("b", A)["connections"])
    meter(world)
    world.run(0.1)
    for name, host, index in (("a", B, 2), ("b", A, 12)):
        metered = {c["link"]: c["metered"] for c in world.peer(name, host)["connections"]}
        assert [n for n, found in metered.items() if found] == [index]
        connections = world.nodes[name].tables.strands[host].connections.values()
        assert {c.link: c.cost for c in connections}[index] == METERED_COST
    meter(world, metered=False)
    world.run(0.1)
    for name, host in (("a", B), ("b", A)):
        assert not any(c["metered"] for c in world.peer(name, host)["connections"])
        assert not any(c.cost for c in world.nodes[name].tables.strands[host].connections.values())


def test_a_link_that_costs_nothing_any_more_is_measured_again_at_once():
    world = pair(classes=classes("adaptive"))
    meter(world)
    world.run(60.0)
    converse(world, 5.0)
    meter(world, metered=False)
    converse(world, 1.0)
    world.captured.clear()
    converse(world, 10.0)
    assert len(over(world, METERED, CONTROL)) > 40
