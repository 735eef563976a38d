"""Links that carry only what no other link does, or nothing: their budget is used up."""

from dataclasses import replace

import pytest

from ropeway.core.frame.data import CONTROL, DATA, PARTIAL
from ropeway.core.frame.outer import outer_size
from ropeway.core.link import Role
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import A, B, all_once, stream
from tests.unit.core.secure_world import SecureWorld, link, pair, peer, three

FIRST = {"192.168.0.2", "192.168.0.3"}
SECOND = {"192.168.1.2", "192.168.1.3"}


def give(world, role, name="a", index=2):
    """Change what a link is for."""
    links = [replace(one, role=role) if one.index == index else one for one in world.links(name)]
    world.nodes[name].set_links(links, world.now)


def frames_over(world, ends, *kinds):
    return [
        datagram
        for _, source, _, datagram in world.captured
        if source[0] in ends and datagram[0] in kinds
    ]


def carries(world, name, host):
    return {c["link"]: c["carries"] for c in world.peer(name, host)["connections"]}


@pytest.mark.parametrize("role", [Role.LAST, Role.NEVER])
def test_neither_end_sends_packets_over_it_while_another_link_carries(role):
    world = pair()
    world.run(1.0)
    assert all_once(stream(world, 0.5))
    give(world, role)
    world.run(0.01)
    world.captured.clear()
    assert all_once(stream(world, 5.0))
    assert not frames_over(world, FIRST, DATA, PARTIAL)
    assert frames_over(world, FIRST, CONTROL)
    assert carries(world, "a", B) == {2: False, 3: True}
    assert carries(world, "b", A) == {12: False, 13: True}


@pytest.mark.parametrize(("name", "index"), [("a", 2), ("b", 12)])
def test_no_packet_is_lost_when_that_changes(name, index):
    world = pair()
    world.run(1.0)

    def change(count):
        if count in (200, 600):
            give(world, Role.LAST if count == 200 else Role.ALWAYS, name, index)

    world.captured.clear()
    assert all_once(stream(world, 1.0, each=change))
    over = [len(frames_over(world, ends, DATA, PARTIAL)) for ends in (FIRST, SECOND)]
    assert over[1] == 2000
    # A millisecond passes before the other end knows.
    assert 1200 <= over[0] <= 1205


def test_the_other_end_hears_of_it_though_frames_are_lost():
    world = pair(seed=7)
    world.run(1.0)
    world.cut.add(("192.168.0.2", "192.168.0.3"))
    give(world, Role.LAST)
    stream(world, 0.2)
    world.cut.clear()
    stream(world, 1.0)
    world.captured.clear()
    stream(world, 1.0)
    assert not frames_over(world, FIRST, DATA, PARTIAL)


def test_a_link_that_comes_last_carries_once_no_other_does():
    world = pair()
    world.run(1.0)
    give(world, Role.LAST)
    assert all_once(stream(world, 10.0))
    world.lost |= SECOND
    (came, total) = stream(world, 6.0)
    missing = [set(range(total)) - set(numbers) for numbers in came.values()]
    # As long as it takes to notice that a link carries nothing any more.
    assert max(map(max, missing)) < 2500
    world.lost.clear()
    world.run(5.0)
    world.captured.clear()
    assert all_once(stream(world, 2.0))
    assert not frames_over(world, FIRST, DATA, PARTIAL)


def test_a_link_that_never_carries_keeps_two_hosts_apart_and_its_connection_alive():
    world = pair()
    world.run(1.0)
    give(world, Role.NEVER)
    world.lost |= SECOND
    world.run(5.0)
    world.captured.clear()
    came, _ = stream(world, 5.0)
    assert came == {"a": [], "b": []}
    assert not frames_over(world, FIRST, DATA, PARTIAL)
    assert world.states("a", B)[2, 12] == world.states("b", A)[12, 2] == 2
    give(world, Role.ALWAYS)
    world.run(0.5)
    assert all_once(stream(world, 1.0))


def test_a_spare_connection_costs_little_while_data_flows():
    world = pair()
    world.run(1.0)
    give(world, Role.LAST)
    stream(world, 5.0)
    world.captured.clear()
    for _ in range(600):
        world.send("a", udp(A, B))
        world.send("b", udp(B, A))
        world.run(0.1)
    over = [d for _, source, _, d in world.captured if source[0] in FIRST]
    rate = sum(len(d) + outer_size("192.168.0.2") for d in over) / 60.0
    print(f"{rate:.0f} bytes/s")
    assert 0 < rate < 60
    assert world.states("a", B)[2, 12] == world.states("b", A)[12, 2] == 2


def test_status_says_why_the_link_carries_nothing():
    world = pair()
    world.run(1.0)
    give(world, Role.LAST)
    world.run(0.1)
    faults = {link["index"]: link["fault"] for link in world.nodes["a"].status(world.now)["links"]}
    assert faults[3] is None
    assert faults[2] == "its budget is used up, so it carries only what no other link does"
    give(world, Role.NEVER)
    world.run(0.1)
    (first, _) = world.nodes["a"].status(world.now)["links"]
    assert first["fault"] == "its budget is used up"


def test_a_host_says_what_it_likes_of_its_own_links_only():
    """What one host says of a connection changes nothing of those to others."""
    world = three()
    world.run(2.0)
    for one in world.links("c"):
        give(world, Role.NEVER, "c", one.index)
    world.run(1.0)
    world.delivered["r"].clear()
    world.send("a", udp(A, B))
    world.run(0.5)
    assert len(world.delivered["r"]) == 1


def test_a_host_that_starts_anew_is_not_taken_at_its_former_word():
    world = pair()
    world.run(1.0)
    give(world, Role.LAST)
    stream(world, 1.0)
    assert carries(world, "b", A) == {12: False, 13: True}
    settings = world.nodes["a"].settings
    # As an older version it says nothing of roles.
    world.add("a", A, [replace(one, role=Role.ALWAYS) for one in world.links("a")], settings.peers)
    _silence_roles(world.nodes["a"])
    world.run(5.0)
    stream(world, 1.0)
    assert carries(world, "b", A) == {12: True, 13: True}


def _silence_roles(node):
    send = node._peers.dialogue._frame

    def without(connection, *arguments, **more):
        proven, connection.proven = connection.proven, False
        try:
            return send(connection, *arguments, **more)
        finally:
            connection.proven = proven

    node._peers.dialogue._frame = without


def test_a_host_that_changes_its_mind_with_every_frame_makes_the_other_say_no_more():
    world, count = SecureWorld(), 8
    far = [f"192.168.{n}.3" for n in range(count)]
    mine = [link(2 + n, f"192.168.{n}.2") for n in range(count)]
    world.add("a", A, mine, [peer("b", B, *far)])
    world.add("b", B, [link(12 + n, far[n]) for n in range(count)], [peer("a", A)])
    world.run(3.0)
    node = world.nodes["a"]
    fickle = next(iter(node.tables.strands[B].connections.values()))

    def said(roles):
        world.captured.clear()
        for number in range(500):
            fickle.role = roles[number % 2]
            node._peers.dialogue.send(fickle, world.now)
            if number % 50 == 0:
                world.send("b", udp(B, A))
            world.run(0.002)
        return sum(source[0] in far and d[0] == CONTROL for _, source, _, d in world.captured)

    assert said((Role.ALWAYS, Role.LAST)) <= 1.5 * said((Role.ALWAYS, Role.ALWAYS))
