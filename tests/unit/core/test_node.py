"""Secure nodes back to back: what a user and an attacker would see."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core import events, tuning
from ropeway.core.data.fair_queue import FairQueue
from ropeway.core.frame.data import (
    COOKIE,
    DATA,
    DATA_AD,
    INITIATION,
    RESET,
    RESPONSE,
)
from ropeway.core.session import aead
from ropeway.core.session.messages import COOKIE_SIZE, INITIATION_SIZE, RESPONSE_SIZE
from ropeway.core.session.resets import RESET_SIZE
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import (
    AT,
    A,
    B,
    C,
    all_once,
    asked,
    said,
    sent_by,
    stream,
)
from tests.unit.core.secure_world import (
    PORT,
    SecureWorld,
    frames,
    key,
    link,
    link6,
    pair,
    peer,
    received,
    three,
)


def test_hosts_that_know_each_others_keys_meet_over_every_link():
    world = pair()
    world.run(1.0)
    assert world.states("a", B) == {(2, 12): 2, (3, 13): 2}
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}
    assert world.peer("b", A)["session"]["initiated"] is False


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
