"""Hosts say where their links can be called: what comes of it, and what nobody gains by it."""

import random

import pytest

from ropeway.core import tuning
from ropeway.core.frame.control import (
    CONTROL_SIZE,
    FEATURES_SIZE,
    HOLDS_SIZE,
    MAX_ANNOUNCED,
    MEASURED_SIZE,
    Control,
    decode_control,
    encode_control,
)
from ropeway.core.frame.data import CONTROL, CONTROL_AD, DATA, LINK_PART, OVERHEAD
from ropeway.core.frame.outer import outer_size
from ropeway.core.link import Link
from ropeway.core.strand import announcement
from tests.unit.core.classic_world import udp
from tests.unit.core.reach import reaching
from tests.unit.core.secure_world import PORT, Nat, SecureWorld, link, pair, peer

A, B = "10.0.0.1", "10.0.0.2"
INSIDE = ("192.168.0.2", "192.168.1.2")
EVERYWHERE = ("0.0.0.0/0",)
#: Bytes of a control frame that announces two places.
ANNOUNCES = OVERHEAD + CONTROL_SIZE + 1 + 2 * 22


def behind_nats(seed=1):
    """a calls b from links that are each behind a NAT; b is not behind one."""
    world = pair(seed)
    world.nats = {address: Nat(address, address + "9") for address in INSIDE}
    world.run(2.0)
    assert set(world.states("a", B).values()) == {2}
    return world


def move(world, *links):
    """Give b other links."""
    world.nodes["b"].set_links(links, world.now)
    world.collect()


def reached(world):
    """(local link, endpoint's address) of a's connections that carry."""
    return {(c["link"], c["address"]) for c in world.peer("a", B)["connections"] if c["carries"]}


def lost(world, seconds, rate=50):
    """Send so many packets a second each way; give how many did not arrive."""
    world.collect()
    before = len(world.delivered["a"]) + len(world.delivered["b"])
    sent = 2 * round(rate * seconds)
    for _ in range(sent // 2):
        world.send("a", udp(A, B))
        world.send("b", udp(B, A))
        world.run(1 / rate)
    world.run(0.1)
    return sent + before - len(world.delivered["a"]) - len(world.delivered["b"])


def test_links_of_a_host_that_move_one_by_one_carry_again_for_who_is_behind_nat():
    world = behind_nats()
    assert lost(world, 1.0) == 0
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    assert lost(world, 1.0) == 0
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.3")}
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.33"))
    assert lost(world, 1.0) == 0
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.33")}
    for number in range(34, 44):
        move(world, link(12, f"192.168.0.{number}"), link(13, "192.168.1.33"))
        assert lost(world, 1.0) == 0
        assert reached(world) == {(2, f"192.168.0.{number}"), (3, "192.168.1.33")}


@pytest.mark.parametrize("seed", range(5))
def test_a_link_that_moves_is_found_where_a_fifth_of_everything_is_lost(seed):
    world = behind_nats(seed)
    world.loss = 0.2
    lost(world, 3.0)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 8.0)
    assert (2, "192.168.0.33") in reached(world)


def test_a_host_that_moved_is_found_again_after_no_link_worked_for_a_while():
    world = behind_nats()
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 2.0)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.33"))
    lost(world, 2.0)
    for outage_s in (5.0, 300.0):
        world.lost = set(INSIDE)
        lost(world, outage_s, rate=5)
        assert reached(world) == set() or not any(world.states("a", B).values())
        world.lost = set()
        lost(world, 10.0)
        assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.33")}
        assert lost(world, 1.0) == 0


def test_an_idle_client_is_told_at_once():
    world = behind_nats()
    world.run(100.0)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    world.run(1.0)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.33"))
    world.run(1.0)
    assert lost(world, 1.0) == 0
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.33")}


@pytest.mark.parametrize("idle", [False, True])
def test_a_link_that_has_no_address_for_a_moment_is_not_waited_for(idle):
    world = behind_nats()
    world.run(100.0 if idle else 1.0)
    move(world, Link(12, "eth12", (), 1500, True), link(13, "192.168.1.3"))
    world.run(0.1)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    world.run(0.6)
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.3")}


def test_a_modem_that_comes_back_as_another_interface_is_found():
    world = behind_nats()
    lost(world, 1.0)
    move(world, link(13, "192.168.1.3"))
    lost(world, 3.0)
    move(world, link(13, "192.168.1.3"), link(22, "192.168.0.33"))
    lost(world, 1.0)
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.3")}
    found = [c for c in world.peer("a", B)["connections"] if c["remote"] == 22]
    assert [c["origin"] for c in found] == ["announced"]
    world.run(200.0)
    assert lost(world, 1.0) == 0, "its way through the NAT is kept open like a configured one's"
    assert (2, "192.168.0.33") in reached(world)


def test_a_client_that_starts_anew_finds_the_host_where_it_moved_to():
    world = behind_nats()
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 1.0)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.33"))
    lost(world, 1.0)
    former = world.nodes["a"]
    links, peers = list(former._peers.links), former.settings.peers
    world.add("a", A, [], peers).recall(former.callers(), world.now)
    world.nodes["a"].set_links(links, world.now)
    world.run(2.0)
    assert lost(world, 1.0) == 0
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.33")}
    assert {c["origin"] for c in world.peer("a", B)["connections"] if c["carries"]} == {"announced"}
    move(world, link(12, "192.168.0.34"), link(13, "192.168.1.33"))
    assert lost(world, 1.0) == 0
    assert reached(world) == {(2, "192.168.0.34"), (3, "192.168.1.33")}, "and when it moves again"


def test_a_client_that_starts_while_one_configured_address_is_stale_uses_both_links():
    world = SecureWorld()
    links = [link(2, INSIDE[0]), link(3, INSIDE[1])]
    world.nats = {address: Nat(address, address + "9") for address in INSIDE}
    world.add("b", B, [link(12, "192.168.0.33"), link(13, "192.168.1.3")], [peer("a", A)])
    world.add("a", A, links, [peer("b", B, "192.168.0.3", "192.168.1.3")])
    world.run(3.0)
    assert reached(world) == {(2, "192.168.0.33"), (3, "192.168.1.3")}


def test_an_address_that_all_links_share_is_found_when_it_becomes_another_one():
    world = SecureWorld()
    links = [link(2, INSIDE[0], routes=EVERYWHERE), link(3, INSIDE[1], routes=EVERYWHERE)]
    world.nats = {address: Nat(address, address + "9") for address in INSIDE}

    def shares(address):
        texts = (f"{address}/32",)
        return [
            reaching(
                Link(index, f"eth{index}", (f"192.168.{lan}.3/24", *texts), 1500, True), EVERYWHERE
            )
            for index, lan in ((12, 0), (13, 1))
        ]

    world.lost = {"192.168.0.3"}
    world.add("b", B, shares("203.0.113.7"), [peer("a", A)])
    world.add("a", A, links, [peer("b", B, "203.0.113.7", "192.168.1.3")])
    lost(world, 2.0)
    move(world, *shares("203.0.113.8"))
    lost(world, 1.0)
    both = {(index, address) for index in (2, 3) for address in ("203.0.113.8", "192.168.1.3")}
    assert reached(world) == both
    there = {"remote": 12, "endpoint": "203.0.113.8:51840"}
    assert [
        one for one in world.peer("a", B)["announced"] if one["endpoint"].startswith("203")
    ] == [
        there,
        {**there, "remote": 13},
    ]


def test_nobody_is_asked_while_all_connections_work():
    world = behind_nats()
    world.captured.clear()
    extra = link(14, "192.168.0.44")
    move(world, link(12, "192.168.0.3"), link(13, "192.168.1.3"), extra)
    spare = link(4, "192.168.0.55")
    world.nodes["a"].set_links([*world.nodes["a"]._peers.links, spare], world.now)
    lost(world, 5.0)
    assert not any(to[0] == "192.168.0.44" for _, _, to, _ in world.captured)


def test_a_link_that_leads_to_no_configured_endpoint_is_left_alone():
    world = SecureWorld()
    world.add("b", B, [link(12, "192.168.0.3"), link(13, "192.168.1.3")], [peer("a", A)])
    links = [link(2, INSIDE[0]), link(3, INSIDE[1])]
    world.add("a", A, links, [peer("b", B, "192.168.0.3")])
    lost(world, 5.0)
    assert reached(world) == {(2, "192.168.0.3")}


def test_status_tells_what_a_host_has_announced():
    world = behind_nats()
    lost(world, 1.0)
    announced = [
        {"remote": 12, "endpoint": "192.168.0.3:51840"},
        {"remote": 13, "endpoint": "192.168.1.3:51840"},
    ]
    assert world.peer("a", B)["announced"] == announced
    assert world.peer("b", A)["announced"] == [], "a host behind NAT that calls has no use for it"


def test_an_endpoint_that_is_not_announced_any_more_is_not_called_any_more():
    world = behind_nats()
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 1.0)
    move(world, link(12, "192.168.0.34"), link(13, "192.168.1.3"))
    lost(world, 1.0)
    move(world, link(13, "192.168.1.3"))
    lost(world, 3.0)
    world.captured.clear()
    lost(world, 20.0)
    to = {endpoint[0] for _, source, endpoint, _ in world.captured if source[0] == INSIDE[0]}
    assert to == {"192.168.0.3"}, "only the configured one"


@pytest.mark.parametrize("index", [12, 22])
def test_what_was_announced_gets_no_data_when_it_has_not_answered_for_long(index):
    world = behind_nats()
    move(world, link(index, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 3.0)
    assert (2, "192.168.0.33") in reached(world)
    world.lost = {"192.168.0.33", "192.168.1.3"}
    lost(world, 5.0)
    world.captured.clear()
    lost(world, 10.0)
    kinds = {}
    for _, _, endpoint, datagram in world.captured:
        kinds.setdefault(endpoint[0], set()).add(datagram[0])
    assert CONTROL in kinds["192.168.0.33"], "but it is greeted"
    assert DATA not in kinds["192.168.0.33"]
    assert DATA in kinds["192.168.1.3"], "unlike what the configuration says"


def test_whoever_removes_every_endpoint_is_obeyed():
    world = behind_nats()
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 1.0)
    world.call("a", B)
    world.run(30.0)
    assert world.peer("a", B)["announced"] == []
    assert {c["origin"] for c in world.peer("a", B)["connections"]} == {"learnt"}


def test_each_link_announces_one_address_of_a_kind_before_any_announces_another():
    links = [
        Link(2, "eth0", ("192.0.2.1/24", "192.0.2.2/24"), 1500, False, ("2001:db8::1/64",)),
        Link(3, "eth1", ("198.51.100.1/24",), 1500, True),
    ]
    assert announcement.of_links(links, 5) == (
        (3, ("198.51.100.1", 5)),
        (2, ("192.0.2.1", 5)),
        (2, ("2001:db8::1", 5)),
        (2, ("192.0.2.2", 5)),
    )
    many = [link(index, f"192.0.2.{index}") for index in range(1, 100)]
    assert len(announcement.of_links(many, 5)) == MAX_ANNOUNCED


def test_an_announcement_that_was_kept_back_for_longer_than_its_session_changes_nothing():
    world = pair(rollover_s=2.0)
    world.run(1.0)
    former = world.nodes["b"].tables.strands[A].session
    old = Control(
        state=2, src_index=13, dst_index=3, way=1, announced=((12, ("192.168.0.3", PORT)),)
    )
    frame = LINK_PART.pack(CONTROL, 0, 0) + former.seal(CONTROL_AD, encode_control(old))
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    assert lost(world, 3.0) == 0
    assert world.nodes["b"].tables.strands[A].session is not former
    announced = world.nodes["a"].tables.strands[B].announced
    before = announced.places
    world.arrive(frame, ("192.168.1.3", PORT), (INSIDE[1], PORT))
    assert "replayed" not in world.dropped("a")
    assert announced.places == before
    assert {endpoint[0] for endpoint in before} == {"192.168.0.33", "192.168.1.3"}


class Liar:
    """b, which a calls, and which announces whatever it likes; it receives at one address."""

    OWN = ("192.168.0.3", PORT)

    def __init__(self, world):
        self.world = world
        self.session = world.nodes["b"].tables.strands[A].session
        del world.nodes["b"]
        #: Bytes, headers included, of what announced anything, since the session began.
        self.said = sum(
            len(datagram) + outer_size(source[0])
            for _, source, _, datagram in world.captured
            if source[0][-1] == "3"
            and datagram[0] == CONTROL
            and len(datagram) in (ANNOUNCES, ANNOUNCES + MEASURED_SIZE + HOLDS_SIZE + FEATURES_SIZE)
        )
        self.seen = len(world.captured)

    def say(self, announced=(), source=OWN, **fields):
        control = Control(
            **{"state": 0, "src_index": 12, "dst_index": 2, "way": 1, **fields},
            announced=tuple(announced),
        )
        body = self.session.seal(CONTROL_AD, encode_control(control))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        self.said += len(frame) + outer_size(source[0]) if announced else 0
        self.world.arrive(frame, source, (INSIDE[0], PORT))
        self.world.collect()

    def marks(self):
        """Give the marks in what came to its own address since the last time."""
        found = []
        for _, _, endpoint, datagram in self.world.captured[self.seen :]:
            if endpoint == self.OWN and datagram[0] == CONTROL:
                body = self.session.open(datagram)
                if isinstance(body, bytes):
                    found.append(decode_control(body).mark)
        self.seen = len(self.world.captured)
        return found


def aimed(world):
    """Give (time, bytes with headers, type) of each datagram to an address of nobody."""
    known = {"192.168.0.3", "192.168.1.3"}
    return [
        (at, len(datagram) + outer_size(endpoint[0]), datagram[0])
        for at, _, endpoint, datagram in world.captured
        if endpoint[0] not in known
    ]


def lying(seed=1):
    """a has links that lead everywhere, and loses a connection as soon as the liar is silent."""
    world = pair(seed)
    links = [link(2, INSIDE[0], routes=EVERYWHERE), link(3, INSIDE[1], routes=EVERYWHERE)]
    world.nodes["a"].set_links(links, world.now)
    world.run(5.0)
    lost(world, 1.0)
    liar = Liar(world)
    for _ in range(30):
        world.send("a", udp(A, B))
        world.run(0.1)
    world.captured.clear()
    liar.seen = 0
    return world, liar


@pytest.mark.parametrize("seed", range(6))
def test_who_announces_others_addresses_sends_more_than_they_get(seed):
    print(f"seed {seed}")
    world, liar = lying(seed)
    chance = random.Random(seed)
    began, marks = world.now, [0]
    for _ in range(600):
        places = [
            (chance.choice([12, 13, 99]), (f"203.0.113.{chance.randrange(1, 250)}", PORT))
            for _ in range(chance.choice([1, 1, 2, 16]))
        ]
        marks += liar.marks()
        echo = chance.choice(marks[-4:])
        liar.say(places, state=chance.randrange(3), echo=echo, calls=chance.random() < 0.5)
        world.send("a", *[udp(A, B, bytes(1000))] * 3)
        world.run(chance.choice([0.0, 0.001, 0.05, 0.3]))
        sent = aimed(world)
        assert sum(size for _, size, _ in sent) <= liar.said
    assert sent, "endpoints were asked"
    assert {kind for *_, kind in sent} == {CONTROL}
    size = OVERHEAD + CONTROL_SIZE + outer_size("203.0.113.1")
    assert {one for _, one, _ in sent} == {size}
    most = tuning.QUESTIONS_BURST + tuning.QUESTIONS_PER_S * (world.now - began)
    assert len(sent) <= most
    for _ in range(600):
        world.send("a", udp(A, B, bytes(1000)))
        world.run(0.1)
    assert sum(size for _, size, _ in aimed(world)) <= liar.said, "nor later"


def test_the_same_announcement_again_and_again_asks_ever_more_seldom():
    world, liar = lying()
    for _ in range(2000):
        liar.say([(12, ("203.0.113.1", PORT))])
        world.run(0.1)
    at = [at for at, *_ in aimed(world)]
    assert 8 <= len(at) <= 2 * 12, "two links, 200 s"
    assert max(b - a for a, b in zip(at, at[2:])) > 50.0


@pytest.mark.parametrize(
    "place",
    [
        (12, ("224.0.0.1", PORT)),
        (12, ("255.255.255.255", PORT)),
        (12, ("127.0.0.1", PORT)),
        (12, ("0.0.0.0", PORT)),
        (12, ("::1", PORT)),
        (12, ("fe80::1", PORT)),
        (12, ("192.168.0.2", PORT)),
        (12, ("203.0.113.1", 0)),
        (0, ("203.0.113.1", PORT)),
        (2**32 - 1, ("203.0.113.1", PORT)),
    ],
)
def test_what_is_no_place_of_another_host_is_not_asked(place):
    world, liar = lying()
    for _ in range(20):
        liar.say([place])
        world.run(0.5)
    assert aimed(world) == []
    liar.say([(12, ("203.0.113.1", PORT))])
    assert aimed(world), "but another place is"


def test_what_a_host_announces_that_is_not_called_changes_nothing():
    world = pair()
    world.run(5.0)
    session = world.nodes["a"].tables.strands[B].session
    del world.nodes["a"]
    lost_at_b = world.now + 5.0
    while world.now < lost_at_b:
        control = Control(
            state=0, src_index=2, dst_index=12, way=1, announced=((2, ("192.168.0.66", PORT)),)
        )
        body = session.seal(CONTROL_AD, encode_control(control))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        world.arrive(frame, (INSIDE[0], PORT), ("192.168.0.3", PORT))
        world.send("b", udp(B, A))
        world.run(0.1)
    assert world.peer("b", A)["announced"] == []
    assert not any(endpoint[0] == "192.168.0.66" for _, _, endpoint, _ in world.captured)


def test_interfaces_claimed_at_an_announced_endpoint_are_not_all_kept():
    """It answers there, each time as another interface."""
    world, liar = lying()
    place = ("192.168.0.3", PORT + 1)
    liar.OWN = place
    for index in range(1000, 1200):
        liar.say([(index, place)], source=place, src_index=index)
        world.run(0.3)
        for mark in liar.marks():
            liar.say([(index, place)], source=place, src_index=index, state=2, echo=mark)
        world.run(0.3)
    connections = world.nodes["a"].tables.strands[B].connections.values()
    assert len([c for c in connections if place in c.candidates]) <= 2, "one for each link"
    assert len(connections) <= tuning.MAX_LEARNT_OF_HOST + 4


def test_an_announcement_that_comes_late_changes_nothing():
    world = behind_nats()
    transmit, kept = world.transmit, []

    def keep(datagram, source, endpoint):
        if (
            len(datagram) > OVERHEAD + CONTROL_SIZE + 1 + MEASURED_SIZE + HOLDS_SIZE + FEATURES_SIZE
            and source[0] == "192.168.1.3"
        ):
            kept.append((datagram, source, endpoint))
        else:
            transmit(datagram, source, endpoint)

    world.transmit = keep
    lost(world, 1.0)
    world.transmit = transmit
    assert kept
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 1.0)
    moved = world.peer("a", B)["announced"]
    for datagram, source, endpoint in kept:
        transmit(datagram, source, endpoint)
    world.run(0.01)
    assert world.peer("a", B)["announced"] == moved
    assert (2, "192.168.0.33") in reached(world)


def test_nothing_is_announced_in_an_answer_a_challenge_or_a_probe(monkeypatch):
    world = behind_nats()
    world.loss = 0.1
    sent = []

    def note(control, size=0):
        sent.append(control)
        return encode_control(control, size)

    monkeypatch.setattr("ropeway.core.peers.dialogue.encode_control", note)
    monkeypatch.setattr("ropeway.core.peers.questions.encode_control", note)
    lost(world, 5.0)
    move(world, link(12, "192.168.0.33"), link(13, "192.168.1.3"))
    lost(world, 5.0)
    monkeypatch.undo()
    announcing = [c for c in sent if c.announced]
    assert len(announcing) > 10
    assert not any(c.probe or c.challenge for c in announcing)
    assert {c.src_index for c in announcing} <= {12, 13}, "and not by who calls"
