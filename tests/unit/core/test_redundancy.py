"""What carries and what does not: in the status, and once in the log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ropeway.core import events
from ropeway.core.redundancy import LinkHealth, PeerHealth, Watch
from ropeway.core.tuning import LACK_REPORT_S
from tests.unit.core import classic_world, secure_world
from tests.unit.core.classic_world import udp
from tests.unit.core.reach import reaching
from tests.unit.core.secure_world import link, peer

KINDS = (
    events.LinkCarriesNothing,
    events.LinkCarries,
    events.PeerLacksLink,
    events.PeerReachedOver,
)


@pytest.fixture(params=[classic_world, secure_world], ids=["classic", "secure"])
def pair(request):
    return request.param.pair


def links(world, name):
    """Link name -> why it carries nothing, None where it carries."""
    status = world.nodes[name].status(world.now)
    assert all(one["carries"] is (one["fault"] is None) for one in status["links"])
    return {one["name"]: one["fault"] for one in status["links"]}


def told(world, name):
    world.collect()
    return [str(event) for event in world.events[name] if isinstance(event, KINDS)]


def talk(world, seconds):
    """Have data flow from a to b, so that a silent link is noticed soon."""
    until = world.now + seconds
    while world.now < until:
        world.send("a", udp("10.0.0.1", "10.0.0.2"))
        world.run(0.25)


def test_links_with_an_established_connection_carry(pair):
    world = pair()
    world.run(30)
    assert links(world, "a") == {"eth2": None, "eth3": None}
    assert world.peer("a", "10.0.0.2")["links"] == {"reached": [2, 3], "lacking": []}
    assert world.nodes["a"].watch.carrying == (2, 2)
    assert told(world, "a") == told(world, "b") == []


def test_link_that_a_firewall_blocks_carries_nothing_and_is_told_once(pair):
    world = pair()
    world.lost.add("192.168.1.2")
    world.lost.add("192.168.1.1")
    world.run(LACK_REPORT_S - 1)
    assert links(world, "a") == {"eth2": None, "eth3": "no answer over it from 10.0.0.2"}
    assert told(world, "a") == []
    world.run(120)
    assert told(world, "a") == [
        "link eth3(3) carries nothing: no answer over it from 10.0.0.2; mend it, or leave it out by"
        " interfaces.exclude"
    ]
    assert world.nodes["a"].watch.carrying == (1, 2)
    world.lost.clear()
    world.run(60)
    assert links(world, "a") == {"eth2": None, "eth3": None}
    assert told(world, "a")[1:] == ["link eth3(3) carries"]


def test_link_that_dies_under_traffic_is_told_once_and_again_when_it_is_back(pair):
    world = pair()
    talk(world, 5)
    world.lost |= {"192.168.1.1", "192.168.1.2", "192.168.1.3"}
    talk(world, 2 * LACK_REPORT_S)
    assert links(world, "a") == {"eth2": None, "eth3": "no answer over it from 10.0.0.2"}
    world.lost.clear()
    talk(world, 15)
    assert [line.partition(":")[0] for line in told(world, "a")] == [
        "link eth3(3) carries nothing",
        "link eth3(3) carries",
    ]


def test_link_that_was_blocked_when_the_session_was_made_is_tried_again_without_traffic():
    world = secure_world.pair()
    world.lost.add("192.168.1.3")
    world.run(60)
    world.lost.clear()
    world.run(8)
    assert links(world, "a") == {"eth2": None, "eth3": None}


def test_gap_that_does_not_last_is_not_told(pair):
    world = pair()
    talk(world, 5)
    for _ in range(5):
        world.lost |= {"192.168.1.1", "192.168.1.2", "192.168.1.3"}
        talk(world, LACK_REPORT_S / 2)
        world.lost.clear()
        talk(world, 5)
    assert told(world, "a") == []


def test_link_that_hears_and_is_not_heard_says_so(pair):
    world = pair()
    a, b = [
        {one["addresses"][0][:-3] for one in world.nodes[n].status(0)["links"]} for n in ("a", "b")
    ]
    (ours,) = [address for address in a if ".1." in address]
    (theirs,) = [address for address in b if ".1." in address]
    world.cut.add((ours, theirs))
    # The other end calls by itself.
    world.call("b", "10.0.0.1", ours)
    world.run(20)
    assert links(world, "a")["eth3"] == (
        "10.0.0.2 is heard over it, but nothing shows that this host is heard there"
    )
    (lacking,) = world.peer("a", "10.0.0.2")["links"]["lacking"]
    assert lacking == {"link": 3, "fault": "it is heard but does not hear"}


def test_link_without_a_route_to_any_peer_says_so(pair):
    world = pair()
    both = world.links("a")
    world.nodes["a"].set_links([*both, link(9, "172.20.0.1")], world.now)
    world.run(20)
    assert links(world, "a") == {"eth2": None, "eth3": None, "eth9": "it has no route to any peer"}
    assert [line.split(";")[0] for line in told(world, "a")] == [
        "link eth9(9) carries nothing: it has no route to any peer"
    ]


def test_link_over_which_nobody_has_called_says_so():
    world = secure_world.SecureWorld()
    world.add("a", "10.0.0.1", [link(2, "192.168.0.2")], [peer("b", "10.0.0.2")])
    world.run(20)
    assert links(world, "a") == {"eth2": "no peer has called over it"}


def test_link_that_is_down_or_has_no_address_says_so(pair):
    world = pair()
    world.run(20)
    one, two = world.links("a")
    bare = reaching(replace(two, addresses=()))
    world.nodes["a"].set_links([replace(one, up=False), bare], world.now)
    world.run(20)
    assert links(world, "a") == {
        "eth2": "it is down",
        "eth3": "it has no address that can be used",
    }
    lacking = world.peer("a", "10.0.0.2")["links"]["lacking"]
    assert {"link": 2, "fault": "the link is down"} in lacking
    world.nodes["a"].set_links([one, two], world.now)
    world.run(20)
    assert links(world, "a") == {"eth2": None, "eth3": None}
    assert [line.partition(" carries")[0] for line in told(world, "a")] == [
        "link eth2(2)", "link eth3(3)", "link eth2(2)", "link eth3(3)",
    ]  # fmt: skip


def test_link_that_is_expected_and_not_there_is_counted_and_told(pair):
    world = pair()
    world.nodes["a"].expect([LinkHealth(0, "wwan0", "it is not there")])
    world.run(20)
    assert world.nodes["a"].watch.carrying == (2, 3)
    assert [line.split(";")[0] for line in told(world, "a")] == [
        "link wwan0 carries nothing: it is not there"
    ]
    both = world.links("a")
    there = replace(link(7, "192.168.0.77"), name="wwan0")
    world.nodes["a"].expect([])
    world.nodes["a"].set_links([*both, there], world.now)
    world.run(20)
    assert world.nodes["a"].watch.carrying == (3, 3)
    assert told(world, "a")[1:] == ["link wwan0(7) carries"]


def test_reason_from_outside_goes_before_what_the_node_sees():
    world = classic_world.pair()
    world.lost.add("192.168.1.2")
    taken = LinkHealth(3, "eth3", "it cannot be used: another program has the port")
    world.nodes["a"].expect([taken, replace(taken, index=2, name="eth2")])
    world.run(5)
    assert links(world, "a") == {"eth2": None, "eth3": taken.fault}


def test_host_that_is_reached_over_fewer_links_than_lead_to_it_is_told_once():
    world = secure_world.SecureWorld()
    world.add(
        "a",
        "10.0.0.1",
        [link(2, "192.168.0.2"), link(3, "192.168.1.2")],
        [
            peer("b", "10.0.0.2", "192.168.0.3", "192.168.1.3"),
            peer("c", "10.0.0.3", "192.168.0.4", "192.168.1.4"),
            peer("d", "10.0.0.4", "192.168.0.5"),
        ],
    )
    world.add(
        "b",
        "10.0.0.2",
        [link(12, "192.168.0.3"), link(13, "192.168.1.3")],
        [peer("a", "10.0.0.1")],
    )
    world.add("c", "10.0.0.3", [link(12, "192.168.0.4")], [peer("a", "10.0.0.1")])
    world.run(60)
    assert links(world, "a") == {"eth2": None, "eth3": None}
    assert world.peer("a", "10.0.0.3")["links"] == {
        "reached": [2],
        "lacking": [{"link": 3, "fault": "no answer"}],
    }
    # Host d is off: that its session is missing is told elsewhere.
    assert told(world, "a") == ["10.0.0.3 is reached over 1 link and not over eth3(3): no answer"]
    world.nodes["c"].set_links([link(12, "192.168.0.4"), link(13, "192.168.1.4")], world.now)
    world.run(60)
    assert told(world, "a")[1:] == ["10.0.0.3 is reached over eth3(3) too"]


def test_faults_that_come_and_go_are_told_once_a_minute_with_a_count():
    log, watch, lines = events.Log(0.0), Watch(0.0), []
    whole, broken = LinkHealth(3, "lte0"), LinkHealth(3, "lte0", "it is down")
    reached, lost = PeerHealth("10.0.0.2", (2, 3), {}), PeerHealth("10.0.0.2", (2,), {3: "no"})
    for second in range(3600):
        bad = second % 30 < 15
        both = [LinkHealth(2, "eth0"), broken if bad else whole]
        for event in watch.look(both, [lost if bad else reached], float(second)):
            log.report(event, float(second))
        if second >= log.due:
            log.expire(float(second))
        lines += map(str, log.take())
    # The first two changes, then one line a minute; the host's are the link's.
    assert 55 <= len(lines) <= 65
    assert any(line.startswith("what link lte0 carries: 4 more changes within") for line in lines)


def test_nothing_is_due_once_all_is_told(pair):
    world = pair()
    world.lost.add("192.168.1.2")
    world.run(60)
    assert world.nodes["a"].watch.due == float("inf")


def test_what_is_remembered_of_lacks_goes_with_the_links_and_hosts():
    watch = Watch(0.0)
    broken = [LinkHealth(n, f"ppp{n}", "it is down") for n in range(100)]
    watch.look(broken, [PeerHealth("10.0.0.2", (1,), {2: "no answer"})], 0.0)
    watch.look([], [], 1.0)
    assert not watch._lacks
