"""Hosts on one LAN that meet without their router, and what becomes of them."""

import random
from dataclasses import replace

import pytest

from ropeway.core import tuning
from ropeway.core.frame.message import Kind
from ropeway.core.frame.who_has import Answer, Ask, Here, Verdict, encode
from ropeway.core.packet import ipv4
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import PORT, SecureWorld, link, peer, public

A, R, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
ADDRESSES = {"a": ("192.168.0.2", "192.168.5.2"), "c": ("192.168.2.2", "192.168.5.4")}


def clients(forbidden=(), wanting=("a", "c"), seed=1, router_peers=()):
    """a and c reach the router r over a LAN each, and share another one, 192.168.5.0/24."""
    world = SecureWorld(seed)
    peers = [peer(name, host, direct=name not in forbidden) for name, host in (("a", A), ("c", C))]
    links = [link(2, "192.168.0.3"), link(4, "192.168.2.3")]
    world.add("r", R, links, [*peers, *router_peers], forward=True)
    for name, host in (("a", A), ("c", C)):
        lan, shared = ADDRESSES[name]
        world.add(
            name,
            host,
            [link(2, lan), link(7, shared)],
            [peer("r", R, lan[:-1] + "3")],
            router=R,
            direct=name in wanting,
        )
    world.run(3.0)
    return world


def says(world, name, host, said):
    """Have a host say something to another one, whatever its code would say."""
    node = world.nodes[name]
    strand = node.tables.strands[host]
    assert node._peers.messages.send(strand, Kind.WHO_HAS, encode(said))
    world.collect()
    world.run(0.1)


def stream(world, seconds, start=0, step_s=0.01):
    """Send numbered packets from a to c; give the numbers that arrived, in order."""
    before = len(world.delivered["c"])
    sent = []
    for number in range(round(seconds / step_s)):
        packet = udp(A, C, (start + number).to_bytes(4, "big"))
        sent.append(packet)
        world.send("a", packet)
        world.run(step_s)
    world.run(0.2)
    return sent, world.delivered["c"][before:]


def meets(world, name, host):
    strand = world.nodes[name].tables.strands.get(host)
    return strand is not None and strand.best_state == 2


def test_hosts_that_share_a_lan_meet_within_a_second_of_the_first_packet():
    world = clients()
    assert not meets(world, "a", C)
    stream(world, 1.0)
    assert meets(world, "a", C)
    assert meets(world, "c", A)
    sent, arrived = stream(world, 1.0, start=1000)
    assert sorted(arrived) == sorted(sent)
    # The first copy comes without the router, which takes one from the time to live.
    assert all(packet[8] == sent[0][8] for packet in arrived)


def test_no_packet_is_lost_while_hosts_begin_to_meet():
    world = clients()
    sent, arrived = stream(world, 3.0)
    bodies = [packet[20:] for packet in arrived]
    assert sorted(bodies) == sorted(packet[20:] for packet in sent)


def test_hosts_that_have_met_need_the_router_no_more():
    world = clients()
    stream(world, 2.0)
    world.lost |= {"192.168.0.3", "192.168.2.3"}
    sent, arrived = stream(world, 30.0, start=1000, step_s=0.05)
    assert sorted(arrived) == sorted(sent)


def test_no_packet_is_lost_when_hosts_that_have_met_lose_each_other():
    world = clients()
    stream(world, 2.0)
    sent = []
    for number in range(600):
        if number == 200:
            world.lost |= {ADDRESSES["a"][1], ADDRESSES["c"][1]}
        sent.append(udp(A, C, (1000 + number).to_bytes(4, "big")))
        world.send("a", sent[-1])
        world.run(0.01)
    world.run(0.2)
    arrived = world.delivered["c"][-600:]
    assert sorted(packet[20:] for packet in arrived) == [packet[20:] for packet in sent]
    assert not meets(world, "a", C)


@pytest.mark.parametrize("wanting", [(), ("a",), ("c",)])
def test_hosts_meet_only_if_both_want_to(wanting):
    world = clients(wanting=wanting)
    sent, arrived = stream(world, 3.0)
    assert not meets(world, "a", C)
    assert not meets(world, "c", A)
    assert [p[20:] for p in arrived] == [p[20:] for p in sent]


@pytest.mark.parametrize("forbidden", ["a", "c"])
def test_the_router_keeps_hosts_apart_that_it_is_told_to(forbidden):
    world = clients(forbidden=forbidden)
    stream(world, 3.0)
    assert C not in world.nodes["a"].tables.strands
    assert A not in world.nodes["c"].tables.strands


def test_a_host_that_the_network_has_removed_is_cut_off_by_the_others_too():
    world = clients()
    stream(world, 2.0)
    world.nodes["r"].reload(
        world.nodes["r"].settings.__class__(
            **{**vars(world.nodes["r"].settings), "peers": (peer("a", A),)}
        ),
        world.now,
    )
    for _ in range(round(tuning.WHO_HAS_REVIEW_S) + 2):
        world.send("a", udp(A, C, b"still"))
        world.run(1.0)
    assert C not in world.nodes["a"].tables.strands


def test_hosts_that_have_nothing_to_say_part_and_meet_again():
    world = clients()
    stream(world, 2.0)
    world.run(tuning.DIRECT_IDLE_S + 60.0)
    assert C not in world.nodes["a"].tables.strands
    assert A not in world.nodes["c"].tables.strands
    stream(world, 2.0, start=1000)
    assert meets(world, "a", C)


def test_a_configured_peer_is_not_asked_for():
    world = clients()
    node = world.nodes["a"]
    settings = node.settings
    mine = peer("c", C, ADDRESSES["c"][1])
    node.reload(
        settings.__class__(**{**vars(settings), "peers": (*settings.peers, mine)}), world.now
    )
    says(world, "r", A, Answer(C, Verdict.KNOWN, public("mallory"), (("192.168.5.66", PORT),)))
    assert not node.tables.strands[C].learnt
    assert list(node.tables.strands[C].endpoints) == [(ADDRESSES["c"][1], PORT)]


def test_what_is_learnt_gives_way_to_the_configuration():
    world = clients()
    stream(world, 2.0)
    node = world.nodes["a"]
    assert node.tables.strands[C].learnt
    settings = node.settings
    mine = peer("c", C, ADDRESSES["c"][1])
    node.reload(
        settings.__class__(**{**vars(settings), "peers": (*settings.peers, mine)}), world.now
    )
    assert not node.tables.strands[C].learnt
    world.run(1.0)
    assert meets(world, "a", C)


def test_only_a_router_is_believed():
    world = clients()
    stream(world, 2.0)
    says(world, "c", A, Answer(D, Verdict.KNOWN, public("d"), (("192.168.5.66", PORT),)))
    assert D not in world.nodes["a"].tables.strands
    assert world.dropped("a") == {"unwanted": 1}


@pytest.mark.parametrize(
    ("host", "key", "endpoint"),
    [
        (A, public("d"), ("192.168.5.66", PORT)),
        ("192.168.5.9", public("d"), ("192.168.5.66", PORT)),
        ("10.0.0.255", public("d"), ("192.168.5.66", PORT)),
        (D, public("r"), ("192.168.5.66", PORT)),
        (D, public("a"), ("192.168.5.66", PORT)),
        (D, bytes(32), ("192.168.5.66", PORT)),
        (D, public("d"), ("10.0.0.9", PORT)),
        (D, public("d"), ("192.168.5.2", PORT)),
        (D, public("d"), ("224.0.0.1", PORT)),
        (D, public("d"), ("192.168.5.66", 0)),
    ],
)
def test_an_impossible_answer_changes_nothing(host, key, endpoint):
    world = clients()
    says(world, "r", A, Answer(host, Verdict.KNOWN, key, (endpoint,)))
    assert list(world.nodes["a"].tables.strands) == [R]


def test_hosts_that_are_learnt_are_bounded_and_busy_ones_stay():
    world = clients()
    for number in range(2 * tuning.DIRECT_HOSTS):
        host = f"10.0.{1 + number // 200}.{1 + number % 200}"
        if not world.nodes["a"]._routes.holds(ipv4.pack(host)):
            host = f"10.0.0.{20 + number}"
        answer = Answer(host, Verdict.KNOWN, public(host), ((f"192.168.5.{50 + number}", PORT),))
        says(world, "r", A, answer)
    strands = world.nodes["a"].tables.strands
    assert len(strands) == 1 + tuning.DIRECT_HOSTS


def test_a_learnt_host_whose_key_the_configuration_has_makes_room_for_another():
    world = clients()
    for number in range(tuning.DIRECT_HOSTS):
        host = f"10.0.0.{20 + number}"
        endpoint = (f"192.168.5.{50 + number}", PORT)
        says(world, "r", A, Answer(host, Verdict.KNOWN, public(host), (endpoint,)))
    node = world.nodes["a"]
    peers = (*node.settings.peers, peer("10.0.0.20", "10.0.0.9"))
    node.reload(replace(node.settings, peers=peers), world.now)
    answer = Answer(D, Verdict.KNOWN, public("d"), (("192.168.5.250", PORT),))
    node._peers.who_has.take(node.tables.strands[R], encode(answer), world.now)
    assert D in node.tables.strands


def test_a_learnt_host_whose_address_this_one_gets_is_met_no_more():
    world = clients()
    stream(world, 2.0)
    world.nodes["a"].set_address(C)
    world.run(2 * tuning.WHO_HAS_LOOK_S)
    assert C not in world.nodes["a"].tables.strands


def test_bodies_of_any_form_do_no_harm():
    world = clients()
    chance = random.Random(7)
    print("seed 7")
    for name, host in (("r", A), ("a", R)):
        node = world.nodes[name]
        strand = node.tables.strands[host]
        for _ in range(500):
            size = chance.choice([1, 2, 5, 6, 38, 39, 60, 200])
            body = bytes((chance.choice([1, 2, 3, 3, 4]),)) + chance.getrandbits(8 * size).to_bytes(
                size, "little"
            )
            node._peers.messages.send(strand, Kind.WHO_HAS, body)
            world.collect()
            world.run(0.01)
    world.run(1.0)
    assert len(world.nodes["a"].tables.strands) <= 1 + tuning.DIRECT_HOSTS
    assert set(world.dropped("r")) <= {"malformed"}


def test_a_router_tells_a_host_of_those_that_ask_for_it_once_a_second():
    world = clients()
    directory = world.nodes["r"]._peers.who_has._directory
    told = []
    say = directory._say
    directory._say = lambda strand, answer: (told.append(strand.host), say(strand, answer))
    for _ in range(20):
        says(world, "a", R, Ask(C))
    assert told.count(A) == 20
    assert told.count(C) <= 3


def test_a_router_forgets_hosts_that_do_not_say_that_they_are_here():
    world = clients(wanting=())
    directory = world.nodes["r"]._peers.who_has._directory
    says(world, "a", R, Here((("192.168.5.2", PORT),)))
    assert len(directory) == 1
    world.run(tuning.HERE_HOLD_S + 2 * tuning.FORGET_EVERY_S)
    assert len(directory) == 0


R2 = "10.0.0.5"


def two_routers():
    """As :func:`clients`, with a second router that knows a and not c."""
    world = SecureWorld()
    known = {"r": [peer("a", A), peer("c", C)], "s": [peer("a", A)]}
    for name, host, lan in (("r", R, "3"), ("s", R2, "9")):
        links = [link(2, f"192.168.0.{lan}"), link(4, f"192.168.2.{lan}")]
        world.add(name, host, links, known[name], forward=True)
    for name, host in (("a", A), ("c", C)):
        lan, shared = ADDRESSES[name]
        routers = [peer("r", R, lan[:-1] + "3"), peer("s", R2, lan[:-1] + "9")]
        links = [link(2, lan), link(7, shared)]
        world.add(name, host, links, routers, routers=(R, R2), direct=True)
    world.run(3.0)
    return world


def test_a_router_that_does_not_know_a_host_keeps_nobody_from_meeting_it():
    world = two_routers()
    stream(world, tuning.WHO_HAS_REVIEW_S + 5.0, step_s=0.5)
    assert meets(world, "a", C)


def test_a_refusal_counts_once_the_router_that_told_of_the_host_is_lost():
    world = two_routers()
    stream(world, 2.0)
    assert meets(world, "a", C)
    world.lost |= {"192.168.0.3", "192.168.2.3"}
    stream(world, 2 * tuning.WHO_HAS_REVIEW_S, step_s=0.5)
    assert C not in world.nodes["a"].tables.strands
