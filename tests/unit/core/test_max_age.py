"""What a host that stood still hears, and what it does not hand on, in both encapsulations."""

import pytest

from ropeway.core.classic import frame as classic
from ropeway.core.drops import Drop
from ropeway.core.frame.data import CONTROL
from tests.unit.core import classic_world, secure_world
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import received

OUT = ("10.0.0.1", "10.0.0.2")


def numbered(count, start=0):
    return [udp(*OUT, bytes([number]) * 40, ident=number) for number in range(start, start + count)]


def arriving(world, name):
    """Take what flies to a host's sockets: (key, what each socket gives), in order."""
    world.collect()
    by_key = {}
    for _, _, datagram, *ends in sorted(world._flying):
        if len(ends) == 2:
            source, endpoint = ends
            owner, key = world._owner(endpoint[0]), endpoint[0]
            one = received(datagram, source)
        else:
            owner, key, one = world._owner(ends[0]), None, datagram
        if owner is None or owner[0] is not world.nodes[name]:
            continue
        index = owner[1].index
        by_key.setdefault(index if key is None else (index, key), []).append(one)
    world._flying.clear()
    return by_key


@pytest.fixture(params=[classic_world, secure_world], ids=["classic", "secure"])
def world(request):
    made = request.param.pair()
    made.run(2.0)
    made.send("a", *numbered(1, start=250))
    made.run(0.2)
    made.delivered["b"].clear()
    return made


def test_a_packet_that_came_too_late_is_left_out_and_a_later_copy_of_it_is_delivered(world):
    world.send("a", *numbered(3))
    node = world.nodes["b"]
    (late_key, late), (key, fresh) = sorted(arriving(world, "b").items())
    left, count = node.without_packets(late)
    assert count == 3
    node.inbound(left, late_key, world.now)
    assert node.take_packets() == []
    node.inbound(fresh, key, world.now)
    assert node.take_packets() == numbered(3)


@pytest.mark.parametrize("traffic", [False, True], ids=["quiet", "under traffic"])
def test_a_host_that_stood_still_does_not_take_its_connections_for_dead(world, traffic):
    """30 s pass for one end only, and its sockets hold what came first, as full ones do.

    Under traffic that is packets alone on classic.
    """
    stood = world.nodes.pop("b")
    world.collect()
    world._flying.clear()
    delay_s, world.delay_s = world.delay_s, 1e6
    for _ in range(300):
        if traffic:
            world.send("a", *numbered(1))
        world.run(0.1)
    world.delay_s = delay_s
    world.nodes["b"] = stood
    held = {key: datagrams[:10] for key, datagrams in arriving(world, "b").items()}
    assert len(held) == 2
    for key, datagrams in held.items():
        left, _ = stood.without_packets(datagrams)
        stood.inbound(left, key, world.now)
    world.collect()
    assert world.delivered["b"] == []
    stood.tick(world.now)
    states = world.states("b", "10.0.0.1").values()
    assert len(states) == 2
    assert min(states) >= 1, "it was heard, however long ago"
    world.run(3.0)
    assert set(world.states("b", "10.0.0.1").values()) == {2}
    assert set(world.states("a", "10.0.0.2").values()) == {2}


def test_what_is_no_data_frame_of_secure_is_left_whatever_its_age():
    node = secure_world.pair().nodes["b"]
    source = ("192.168.0.2", 51840)
    train = b"\4" * 40 + b"\5" * 40 + b"\7" * 40 + b"\5" * 39
    kept = [b"\5" * 40, b"\5" * 39]
    assert node.without_packets([(train, source, 40)]) == (
        [(one, source, len(one)) for one in kept],
        2,
    )
    others = [bytes([kind]) * 60 for kind in (1, 2, 3, 5, 6, 0, 255)] + [b""]
    left, count = node.without_packets([received(one, source) for one in others])
    assert [one for one, _, _ in left] == others
    assert count == 0


def test_a_classic_frame_says_the_same_without_its_packet():
    world = classic_world.pair()
    world.run(1.0)
    world.send("a", *numbered(1))
    world.collect()
    whole = world.captured[-1][1]
    assert classic.carries_packet(whole)
    bare = classic.without_packet(whole)
    assert classic.fault(bare) is None
    before, after = classic.decode(whole), classic.decode(bare)
    assert after == before._replace(forward=False, payload=b"")
    assert classic.without_packet(bare) == bare
    # What is wrong must not be put right.
    for at in (3, 7, 11, 33):
        wrong = bytearray(whole)
        wrong[at] ^= 0x40
        if classic.fault(bytes(wrong)) is not None:
            assert classic.without_packet(bytes(wrong)) == bytes(wrong)
    for short in (b"", b"\x48", whole[:33]):
        assert classic.without_packet(short) == short


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
def test_packets_that_became_too_old_in_the_agents_hands_are_dropped_and_counted(partial):
    world = secure_world.pair()
    for node in world.nodes.values():
        if partial:
            node.take_partial()
    world.run(2.0)
    a, b = world.nodes["a"], world.nodes["b"]
    a.outbound(numbered(5), world.now)
    a.expire_packets()
    world.run(0.1)
    assert world.delivered["b"] == []
    assert world.dropped("a")["expired"] == 5, "copies are not counted"
    a.outbound(numbered(2), world.now)
    for key, datagrams in arriving(world, "b").items():
        b.inbound(datagrams, key, world.now)
    b.expire_packets()
    assert (b.take_packets(), b.take_partial_packets()) == ([], [])
    assert world.dropped("b")["expired"] == 2


def test_what_carries_no_packet_goes_on_from_the_agents_hands(world):
    a = world.nodes["a"]
    world.run(1.0)
    a.outbound(numbered(5), world.now)
    # Keepalives and greetings are due, and wait to be taken beside the packets.
    a.tick(world.now + 5.0)
    a.expire_packets()
    take = a.take_trains if hasattr(a, "take_trains") else a.take_datagrams
    sent = [one for frames in take().values() for one in frames]
    assert sent
    for one in sent:
        if isinstance(one, bytes):
            assert not classic.carries_packet(one)
        else:
            assert one.parts[0][0] == CONTROL
    assert world.dropped("a")["expired"] == 5


def test_a_packet_that_waits_for_a_session_for_too_long_is_dropped():
    world = secure_world.SecureWorld()
    world.add(
        "a",
        "10.0.0.1",
        [secure_world.link(2, "192.168.0.2")],
        [secure_world.peer("b", "10.0.0.2", "192.168.0.3")],
    )
    world.nodes["a"].set_max_age(1.0)
    world.run(0.1)
    world.send("a", *numbered(2))
    world.run(0.95)
    world.send("a", *numbered(1, start=2))
    world.add(
        "b",
        "10.0.0.2",
        [secure_world.link(12, "192.168.0.3")],
        [secure_world.peer("a", "10.0.0.1")],
    )
    world.run(1.5)
    assert world.delivered["b"] == numbered(1, start=2)
    assert world.dropped("a")[Drop.EXPIRED.value] == 2
