"""A host that may be a copy of itself, or has slept: what it seals, and who still believes it."""

import pytest

from ropeway.core import events
from ropeway.core.frame.data import CONTROL, DATA, LINK_PART, PARTIAL
from ropeway.core.session.session import OVERDUE_S, ROLLOVER_FRAMES, SKIP_COUNTERS
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import A, B, C, all_once, said, stream
from tests.unit.core.secure_world import pair, three

FRAMES = (DATA, PARTIAL, CONTROL)


def sealed_under(world, name):
    """Give index and counter of each frame that a host has sent since the last look."""
    links = world.nodes[name]._peers.links
    addresses = {text.partition("/")[0] for link in links for text in link.addresses}
    sent = [
        (datagram[4:8], int.from_bytes(datagram[8:16], "little"))
        for _, (source, _), _, datagram in world.captured
        if source in addresses and datagram[0] in FRAMES
    ]
    world.captured.clear()
    return sent


def reset_keys(number):
    return (bytes([number]) * 32,)


def test_no_counter_is_used_that_a_copy_may_use_and_no_packet_lost_for_it():
    world = pair(seed=3)
    world.run(1.0)
    session = world.nodes["a"].tables.strands[B].session
    old, counters = session.remote_index, []

    def doubt(count):
        if count == 500:
            counters.append(session.counter)
            world.captured.clear()
            world.nodes["a"].replace_sessions(1000, reset_keys(1), world.now)
        elif count == 600:
            counters.extend(c for index, c in sealed_under(world, "a") if index == old)

    assert all_once(stream(world, 2.0, each=doubt))
    before, *after = counters
    assert after
    assert min(after) >= before + ROLLOVER_FRAMES
    assert world.peer("a", B)["session"]["rollovers"] == 1
    assert world.peer("a", B)["session"]["age_s"] < 3.0
    later = sealed_under(world, "a")
    assert later
    assert not [counter for index, counter in later[-100:] if index == old]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_still_under_way_when_counters_are_skipped_arrives_once(seed):
    world = pair(seed)
    world.run(1.0)
    world.late["192.168.1.2"] = 0.2
    world.twice = 0.1

    def doubt(count):
        if count == 500:
            world.cut = {("192.168.0.2", "192.168.0.3")}
        elif count == 540:
            world.cut = set()
            world.nodes["a"].replace_sessions(1000, reset_keys(1), world.now)

    assert all_once(stream(world, 2.0, each=doubt))
    assert "too_old" not in world.dropped("b")


def test_two_copies_go_on_with_other_counters():
    world = pair()
    world.run(1.0)
    session = world.nodes["a"].tables.strands[B].session
    began = session.counter
    counters = set()
    for _ in range(2):
        session.counter = began
        world.now += 0.001
        world.nodes["a"]._peers.sessions._entropy = world._entropy("a")
        world.nodes["a"].replace_sessions(1000, reset_keys(1), world.now)
        counters.add(session.counter)
    assert abs(counters.pop() - counters.pop()) > 2**32


def test_a_host_whose_clock_is_set_again_and_again_does_not_run_out_of_counters():
    world = pair(rollover_s=3600.0)
    world.run(1.0)
    session = world.nodes["a"].tables.strands[B].session
    world.lost = {"192.168.0.3", "192.168.1.3"}
    for _ in range(3600 + int(OVERDUE_S)):
        session.skip(SKIP_COUNTERS - 1)
    assert session.counter + SKIP_COUNTERS < 2**64
    world.nodes["a"].replace_sessions(1000, reset_keys(1), world.now)
    world.lost = set()
    assert all_once(stream(world, 1.0, rate=100))


@pytest.mark.parametrize("copied", ["a", "r", "c"])
def test_a_host_that_is_a_copy_seals_nothing_more_under_its_sessions(copied):
    world = three()
    world.run(2.0)
    node = world.nodes[copied]
    old = {s.remote_index for t in node.tables.strands.values() for s in t.sessions.sessions}
    ways = (("a", A, "c", C), ("c", C, "a", A))

    def copy(count):
        if count == 500:
            world.captured.clear()
            node.end_sessions("it was cloned", 1000, reset_keys(1), world.now)

    came, total = stream(world, 2.0, ways=ways, each=copy)
    for numbers in came.values():
        assert len(numbers) == len(set(numbers))
        assert total - len(numbers) < 50, "packets wait for the new session"
    indices = {index for index, _ in sealed_under(world, copied)}
    assert indices
    assert not indices & old
    lost = said(world, copied, events.SessionLost)
    assert lost
    assert "it was cloned" in str(lost[0])


def test_a_copy_is_believed_by_hosts_that_have_heard_more_of_the_original():
    world = pair(rollover_s=2.0)
    world.run(1.0)
    earlier = world.nodes["a"]._peers.handshakes._stamp
    stream(world, 20.0, rate=50)
    # Set back to a snapshot: it knows none of the sessions made since, nor that they were.
    node = world.nodes["a"]
    for session in list(node.tables.sessions.by_index.values()):
        node._peers.sessions.end(session, "not made yet", world.now)
    node._peers.handshakes._stamp = earlier
    node.end_sessions("it was set back", 1000, reset_keys(1), world.now)
    assert all_once(stream(world, 1.0, rate=100, ways=(("a", A, "b", B),)))


def test_a_machine_that_was_set_back_tells_others_that_it_knows_no_later_session():
    world = pair()
    world.run(1.0)
    node, key = world.nodes["a"], world.reset_keys["a"][0]
    index = world.nodes["b"].tables.strands[A].session.remote_index
    for session in list(node.tables.sessions.by_index.values()):
        node._peers.sessions.end(session, "not made yet", world.now)
    node._peers.handshakes._resets._forgotten.clear()
    frame = LINK_PART.pack(CONTROL, 0, 0) + index + bytes(74)
    assert node._peers.handshakes.resets_for(frame, world.now) == []
    node.end_sessions("it was set back", 1000, (bytes(32), key), world.now)
    assert len(node._peers.handshakes.resets_for(frame, world.now)) == 1


def test_sleep_counts_for_the_age_of_a_session():
    world = pair()
    world.run(1.0)
    old = world.nodes["a"].tables.strands[B].session.remote_index
    world.captured.clear()
    world.now += 3600.0
    for node in world.nodes.values():
        node.catch_up(world.now)
    world.send("a", udp(A, B))
    world.run(0.1)
    assert world.delivered["b"] == [udp(A, B)]
    assert old not in {index for index, _ in sealed_under(world, "a")}
