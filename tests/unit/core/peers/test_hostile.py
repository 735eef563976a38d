"""Hosts without a key, who relay frames, and with one, who lie about themselves."""

import json
import random

import pytest

from ropeway.core import events, tuning
from ropeway.core.frame.control import Control, Measured, encode_control
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    DATA,
    LINK_PART,
)
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import (
    A,
    B,
    Hostile,
    all_once,
    said,
    stream,
)
from tests.unit.core.secure_world import (
    PORT,
    SecureWorld,
    key,
    link,
    pair,
    peer,
    public,
)


def test_a_host_without_a_configured_key_gets_nowhere_and_is_named():
    world = pair()
    world.run(1.0)
    stranger = key("stranger")
    links = [link(2, "192.168.0.9")]
    world.add("s", A, links, [peer("b", B, "192.168.0.3")], private_key=stranger)
    world.run(10.0)
    assert world.peer("s", B)["session"] is None
    assert world.dropped("b")["unknown_peer"] > 1
    (note,) = said(world, "b", events.HandshakeRefused)
    assert A in str(note)
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}


def test_a_wrong_key_of_the_other_end_is_told_on_both_sides():
    world = SecureWorld()
    wrong = (public("somebody"),)
    links = [link(2, "192.168.0.2")]
    world.add("a", A, links, [peer("b", B, "192.168.0.3", public_keys=wrong)])
    world.add("b", B, [link(12, "192.168.0.3")], [peer("a", A)])
    world.run(10.0)
    world.run(5.0)
    assert "key" in world.peer("a", B)["handshake"]
    (unanswered,) = said(world, "a", events.SessionUnanswered)
    assert B in str(unanswered)
    assert "key" in str(unanswered)
    assert world.dropped("b") == {"wrong_key": world.dropped("b")["wrong_key"]}
    assert len(said(world, "b", events.HandshakeRefused)) == 1


def test_who_passes_frames_on_faster_than_their_own_way_moves_no_endpoint():
    world = pair()
    world.run(1.0)
    reach = world.transmit

    def relayed(datagram, source, endpoint):
        if endpoint[0].endswith(".66"):
            return
        if source[0].endswith(".2"):
            world.fly(datagram, (endpoint[0].rpartition(".")[0] + ".66", 6666), endpoint)
        reach(datagram, source, endpoint)

    world.transmit = relayed
    assert all_once(stream(world, 5.0))
    assert {c["port"] for c in world.peer("b", A)["connections"]} == {PORT}


def test_who_relays_control_frames_both_ways_but_no_data_moves_no_endpoint():
    world = pair()
    world.delay_s = 0.02
    world.run(5.0)
    reach = world.transmit

    def relayed(datagram, source, endpoint):
        lan, _, last = endpoint[0].rpartition(".")
        if int(last) > 60:
            if datagram[0] != DATA:
                back = (f"{lan}.{int(last) - 64}", PORT)
                world.fly(datagram, (f"{lan}.{64 + int(source[0][-1])}", PORT), back, 0.001)
            return
        reach(datagram, source, endpoint)
        if datagram[0] == CONTROL:
            attacker = f"{lan}.{64 + int(source[0][-1])}"
            world.fly(datagram, (attacker, PORT), endpoint, 0.001)

    world.transmit = relayed
    assert all_once(stream(world, 10.0, rate=100))
    for name, host in (("a", B), ("b", A)):
        assert all(int(c["address"][-1]) < 60 for c in world.peer(name, host)["connections"])


@pytest.mark.parametrize("data", [False, True])
def test_a_host_that_names_others_endpoints_has_nothing_sent_there_but_answers(data):
    world = pair()
    world.run(5.0)
    if data:
        world.run(30.0)
    session = world.nodes["a"].tables.strands[B].session
    del world.nodes["a"]
    sent = 0
    for count in range(32):
        claim = Control(state=2, src_index=1000 + count, dst_index=12, way=1, pause_s=655)
        body = session.seal(CONTROL_AD, encode_control(claim))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        sent += len(frame)
        world.arrive(frame, ("192.168.0.200", 1000 + count), ("192.168.0.3", PORT))
    world.captured.clear()
    for _ in range(30):
        if data:
            world.send("b", *[udp(B, A, bytes(1000)) for _ in range(10)])
        world.run(10.0)
    victim = sum(len(d) for *_, endpoint, d in world.captured if endpoint[0] == "192.168.0.200")
    assert victim <= sent


def test_what_a_host_announces_does_not_make_the_schedule_grow():
    world = pair()
    world.run(1.0)
    session = world.nodes["a"].tables.strands[B].session
    for count in range(2000):
        claim = Control(state=count % 3, src_index=2, dst_index=12, way=1, pause_s=655)
        body = session.seal(CONTROL_AD, encode_control(claim))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        world.arrive(frame, ("192.168.0.2", PORT), ("192.168.0.3", PORT))
        world.now += 0.001
    world.collect()
    assert world.nodes["b"]._peers._timers.entries < 100


def test_a_greeting_that_was_passed_on_from_elsewhere_shuts_out_no_link():
    world = pair()
    stream(world, 1.0, rate=50)
    world.lost = {"192.168.1.2"}
    stream(world, 4.0, rate=50)
    greetings = [
        datagram
        for _, source, _, datagram in world.captured
        if source[0] == "192.168.1.2" and datagram[0] == CONTROL
    ]
    world.arrive(greetings[-1], ("192.168.1.66", PORT), ("192.168.1.3", PORT))
    world.lost = set()
    assert all_once(stream(world, 1.0, rate=50))
    assert world.states("b", A) == {(12, 2): 2, (13, 3): 2}
    assert {c["address"] for c in world.peer("b", A)["connections"]} == {
        "192.168.0.2",
        "192.168.1.2",
    }


@pytest.mark.parametrize("sources", [("192.168.0.3",), ("192.168.0.66", "192.168.0.3")])
def test_a_greeting_that_is_led_to_another_link_ends_no_idle_connection(sources):
    world = pair()
    world.run(60.0)
    session = world.nodes["b"].tables.strands[A].session
    for source in sources:
        greeting = Control(state=0, src_index=13, dst_index=0, way=2)
        body = session.seal(CONTROL_AD, encode_control(greeting))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        world.arrive(frame, (source, PORT), ("192.168.0.2", PORT))
    assert world.states("a", B)[2, 12] == 2
    world.cut = {("192.168.1.2", "192.168.1.3")}
    assert all_once(stream(world, 1.0, rate=50))


def sent_to(world, known):
    """Give the bytes that went to each endpoint whose address is not ``known``."""
    sent = {}
    for _, _, endpoint, datagram in world.captured:
        if endpoint[0] not in known:
            sent[endpoint] = sent.get(endpoint, 0) + len(datagram)
    return sent


@pytest.mark.parametrize("called", [False, True], ids=["learnt", "called"])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_but_as_much_as_came_from_there_goes_where_nobody_has_answered(seed, called):
    """Whatever a host of the network claims: of interfaces, states, and echoes that it has seen."""
    world = pair(seed)
    world.run(5.0)
    if called:
        hostile = Hostile(world, "b", A, ("192.168.0.2", 2))
        victim, far = "a", B
    else:
        hostile = Hostile(world)
        victim, far = "b", A
    known = {"192.168.0.3", "192.168.1.3", "192.168.0.2", "192.168.1.2", Hostile.OWN}
    world.captured.clear()
    chance = random.Random(seed)
    own, others = (Hostile.OWN, PORT), [(f"192.168.0.{200 + n}", PORT) for n in range(3)]
    for _ in range(400):
        hostile.say(
            chance.choice([own, *others]),
            state=chance.randrange(3),
            src_index=chance.choice([2, 3, 12, 1000, 1001]),
            pause_s=chance.choice([0.5, 5.0, 655.0]),
            echo=chance.choice(hostile.marks[-4:]),
            answer=chance.random() < 0.5,
            challenge=chance.random() < 0.3,
            probe=chance.choice([0, 0, 90]),
            calls=chance.random() < 0.5,
        )
        hostile.listen()
        if chance.random() < 0.7:
            world.send(victim, *[udp(A if victim == "a" else B, far, bytes(1000))] * 5)
        world.run(chance.choice([0.0, 0.01, 0.05, 0.6, 3.0]))
        for endpoint, size in sent_to(world, known).items():
            assert size <= hostile.said.get(endpoint, 0), endpoint


@pytest.mark.parametrize("pause_s", [0.3, 1.5, 2.5])
def test_who_carries_a_link_cannot_aim_it_at_another(pause_s):
    """It keeps frames back and passes one on now and then, as if it came from elsewhere."""
    world = pair()
    world.run(5.0)
    elsewhere = ("192.168.0.200", PORT)
    passed_on, passed_at = 0, world.now
    transmit = world.transmit

    def carry(datagram, source, endpoint):
        nonlocal passed_on, passed_at
        if not {source[0], endpoint[0]} & {"192.168.0.2", "192.168.0.3"}:
            transmit(datagram, source, endpoint)
            return
        late = world.now - passed_at >= pause_s
        if late and endpoint[0] == "192.168.0.2" and datagram[0] == CONTROL:
            passed_at = world.now
            passed_on += len(datagram)
            world.fly(datagram, elsewhere, endpoint)

    world.transmit = carry
    for _ in range(3000):
        world.send("a", udp(A, B, bytes(1000)))
        world.send("b", udp(B, A, bytes(1000)))
        world.run(0.01)
    aimed = sum(len(d) for *_, endpoint, d in world.captured if endpoint == elsewhere)
    assert passed_on > 0
    assert aimed <= passed_on
    world.transmit = transmit
    world.run(10.0)
    assert set(world.states("a", B).values()) == {2}, "and the link comes back"


def test_interfaces_that_a_host_claims_leave_nothing_behind():
    world = pair()
    world.run(1.0)
    hostile = Hostile(world)
    node = world.nodes["b"]
    for count in range(20_000):
        hostile.say((Hostile.OWN, PORT), src_index=1000 + count, pause_s=655.0)
        world.now += 0.0005
        if count % 1000 == 0:
            assert node._peers._timers.entries < 300
            assert len(node.tables.strands[A].connections) <= tuning.MAX_LEARNT_OF_HOST
            world.captured.clear()
    assert world.dropped("b")["limit"] > 19_000
    world.run(120.0)
    assert len(node._peers._timers) < 50


def test_interfaces_claimed_behind_one_endpoint_get_one_copy():
    world = pair()
    world.run(5.0)
    hostile = Hostile(world)
    own = (Hostile.OWN, PORT)
    for index in range(1000, 1031):
        hostile.say(own, src_index=index)
        hostile.listen()
        hostile.say(own, src_index=index, state=2, echo=hostile.marks[-1])
        world.run(0.03)
    peer_ = world.peer("b", A)
    assert sum(c["state"] == 2 and c["address"].startswith(Hostile.OWN)
               for c in peer_["connections"]) > 8  # fmt: skip
    world.captured.clear()
    world.send("b", udp(B, A, b"once"))
    world.collect()
    copies = [d for *_, endpoint, d in world.captured if endpoint == own and d[0] == DATA]
    assert len(copies) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_host_may_say_of_its_measurements_what_it_likes(seed):
    print(f"seed {seed}")
    rnd = random.Random(seed)
    world = pair(
        classes=(
            TrafficClass("one", Match(), Mode.ADAPTIVE),
            TrafficClass("two", Match(size_max=100), Mode.REDUNDANT, copies=1),
        )
    )
    world.run(2.0)
    hostile, own = Hostile(world), (Hostile.OWN, PORT)

    def number():
        return rnd.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, rnd.getrandbits(32)))

    for _ in range(400):
        hostile.listen()
        measured = Measured(
            number(),
            number(),
            number(),
            rnd.choice((None, 0.0, 6553.0)),
            rnd.choice((None, 0.0, 6553.0)),
            rnd.choice((0, 0, 1, 2)),
            rnd.choice((0.0, 0.001, 65.0)),
        )
        hostile.say(
            own,
            src_index=rnd.randrange(1000, 1008),
            state=rnd.choice((0, 1, 2, 2)),
            echo=rnd.choice((hostile.marks[-1], rnd.choice(hostile.marks))),
            held_ms=number(),
            pause_s=rnd.choice((0.0, 0.5, 655.0)),
            answer=rnd.random() < 0.5,
            measured=measured,
        )
        world.send("b", udp(B, A, bytes(rnd.randrange(1000))))
        world.run(rnd.choice((0.001, 0.03, 0.3)))
        json.dumps(world.nodes["b"].status(world.now)["peers"], default=str, allow_nan=False)
    estimates = [c["estimate"] for c in world.peer("b", A)["connections"]]
    assert any(one["rtt_ms"] is not None for one in estimates), "it was believed at times"
    assert all(one["loss"] is None or 0 <= one["loss"] <= 1 for one in estimates)
    world.captured.clear()
    world.run(60.0)
    # What it left alone comes to rest.
    sent = sum(len(datagram) for *_, datagram in world.captured)
    assert sent / 60 < 100 * len(estimates)
