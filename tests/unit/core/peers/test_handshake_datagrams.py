"""Stale handshakes: hosts whose state was lost, those who play old ones back, and shared keys."""

import random
from dataclasses import replace

import pytest

from ropeway.core import events, tuning
from ropeway.core.frame.data import (
    COOKIE,
)
from ropeway.core.session import messages
from ropeway.core.session.messages import COOKIE_SIZE, INITIATION_SIZE
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import (
    A,
    B,
    C,
    all_once,
    said,
    stream,
)
from tests.unit.core.secure_world import (
    PORT,
    Nat,
    key,
    link,
    public,
    three,
)


def restart(world, name, **settings):
    """Start a host anew as it was, with other ``settings``."""
    before = world.nodes[name]
    same = before.settings
    links = list(before._peers.links)
    more = {"routers": same.routers, "forward": same.forward, **settings}
    return world.add(name, same.address, links, same.peers, **more)


def set_back(away_s, natted=True):
    """Give the network after c was away for a while and is back with an epoch of long ago."""
    world = three()
    if natted:
        for address in ("192.168.2.2", "192.168.3.2"):
            world.nats[address] = Nat(address, address + "9", 60.0)
    world.run(200.0)
    world.events["r"].clear()
    world.lost |= {"192.168.2.2", "192.168.3.2"}
    world.run(away_s)
    world.lost.clear()
    world.captured.clear()
    del world.reset_keys["c"]
    restart(world, "c", epoch=5)
    return world


def stale_notes(world, name):
    world.collect()
    return [str(e) for e in said(world, name, events.HandshakeRefused)]


@pytest.mark.parametrize("away_s", [0.0, 4.0, 40.0, 200.0, 4000.0])
@pytest.mark.parametrize("natted", [True, False], ids=["behind a NAT", "open"])
def test_a_host_whose_state_was_lost_and_clock_set_back_is_back_within_seconds(away_s, natted):
    world = set_back(away_s, natted)
    world.run(12.0)
    assert set(world.states("c", B).values()) == {2}
    assert len(world.states("c", B)) == 2
    assert all_once(stream(world, 2.0, ways=(("a", A, "c", C), ("c", C, "a", A))))
    world.run(1000.0)
    assert set(world.states("c", B).values()) == {2}
    assert all_once(stream(world, 2.0, ways=(("a", A, "c", C), ("c", C, "a", A))))


def test_a_host_that_is_called_back_is_answered_before_its_route_was_looked_up():
    world = set_back(200.0)
    unknown = [replace(one, sources={}, looked_up=frozenset()) for one in world.links("r")]
    world.nodes["r"].set_links(unknown, world.now)
    world.run(12.0)
    assert set(world.states("c", B).values()) == {2}
    assert len(world.states("c", B)) == 2


def test_stale_handshakes_are_told_at_both_ends_with_what_to_do():
    world = set_back(4000.0)
    world.run(12.0)
    (note,) = stale_notes(world, "r")
    assert note.startswith(f"a handshake of {C} was refused: its handshakes are genuine but older")
    assert "clock" in note
    (note,) = stale_notes(world, "c")
    assert note.startswith(f"no answer from {B}: it takes this host's handshakes for old ones")
    assert "set the clock" in note
    assert "set the clock" in world.peer("c", B)["handshake"]
    world.nodes["c"].raise_epoch(9)
    assert world.peer("c", B)["handshake"] is None
    world.run(600.0)
    assert len(stale_notes(world, "r")) == len(stale_notes(world, "c")) == 1


def mute(world, name, kind):
    """Have datagrams of one type that a host sends get lost."""
    own = {one.addresses[0].partition("/")[0] for one in world.nodes[name]._peers.links}
    transmit = world.transmit

    def muted(datagram, source, endpoint):
        if source[0] not in own or datagram[0] != kind:
            transmit(datagram, source, endpoint)

    world.transmit = muted


def test_the_clock_that_is_set_while_nobody_answers_heals_without_a_restart():
    world = set_back(4000.0)
    # As a router of an earlier version, which calls nobody back.
    mute(world, "r", COOKIE)
    world.run(5.0)
    node = world.nodes["c"]
    assert not node.unanswered(world.now)
    world.run(25.0)
    assert set(world.states("c", B).values()) == {0}
    assert "this host's clock was set back" in world.peer("c", B)["handshake"]
    assert world.peer("r", C)["handshake"].startswith("its handshakes are genuine but older")
    assert node.unanswered(world.now)
    node.raise_epoch(2000)
    world.run(10.0)
    assert set(world.states("c", B).values()) == {2}
    assert not node.unanswered(world.now)


def initiations(world, source):
    return [d for _, (a, _), _, d in world.captured if a == source and len(d) == INITIATION_SIZE]


def bytes_to(world, endpoint):
    return [d for _, _, to, d in world.captured if to == endpoint]


VICTIM = ("192.168.0.77", 4000)


def recorded(runs=20, **settings):
    """Give a network, and initiations of c that r took and whose answers it has forgotten."""
    world = three(**settings)
    for _ in range(runs):
        world.run(5.0)
        restart(world, "c")
    world.run(30.0)
    old = list(dict.fromkeys(initiations(world, "192.168.2.2")))
    assert len(old) >= runs
    return world, old


def play_back(world, datagrams, source, pause_s=0.05):
    for datagram in datagrams:
        world.arrive(datagram, source, ("192.168.2.3", PORT))
        world.run(pause_s)


def test_old_handshakes_played_back_while_their_host_is_there_lead_to_nothing():
    world, old = recorded()
    ways = (("r", B, "c", C),)
    stream(world, 1.0, rate=20, ways=ways)
    before = world.peer("r", C)["session"]["age_s"]
    world.captured.clear()
    play_back(world, old[:60], VICTIM)
    assert bytes_to(world, VICTIM) == []
    assert initiations(world, "192.168.2.3") == []
    assert stale_notes(world, "r") == []
    assert world.peer("r", C)["session"]["age_s"] > before
    assert world.dropped("r")["stale"] >= len(old[:60])


def test_old_handshakes_played_back_while_their_host_is_idle_draw_two_frames_to_it():
    world, old = recorded()
    world.run(115.0)
    quiet = world.now
    while world.now - world.nodes["r"].tables.strands[C].heard_at < 6.0:
        world.run(0.5)
        assert world.now < quiet + 100.0
    world.captured.clear()
    play_back(world, old[:60], VICTIM)
    assert bytes_to(world, VICTIM) == []
    assert initiations(world, "192.168.2.3") == []
    assert stale_notes(world, "r") == []
    asked = [d for _, (a, _), _, d in world.captured if a in ("192.168.2.3", "192.168.3.3")]
    assert sum(map(len, asked[:2])) <= INITIATION_SIZE


def test_old_handshakes_played_back_aim_nothing_but_cookies_at_who_shows_none():
    world, old = recorded()
    world.lost |= {"192.168.2.2", "192.168.3.2"}
    world.run(400.0)
    assert world.peer("r", C)["connections"] == []
    world.captured.clear()
    began = world.now
    for _ in range(40):
        play_back(world, old, VICTIM, 0.01)
    sent = bytes_to(world, VICTIM)
    assert sent
    assert {len(d) for d in sent} == {COOKIE_SIZE}
    assert len(sent) <= tuning.STALE_STRAND_BURST + tuning.STALE_STRAND_PER_S * (world.now - began)
    assert world.peer("r", C)["connections"] == []
    assert initiations(world, "192.168.2.3") == []
    assert len(stale_notes(world, "r")) <= 1 + (world.now - began) / tuning.STALE_REPORT_PAUSE_S


def test_who_plays_back_an_old_handshake_and_shows_a_cookie_gets_no_more_than_it_sends():
    world, old = recorded()
    world.lost |= {"192.168.2.2", "192.168.3.2"}
    world.run(400.0)
    world.captured.clear()
    came = 0
    shown = 0
    for datagram in old:
        world.arrive(datagram, VICTIM, ("192.168.2.3", PORT))
        world.run(0.3)
        came += len(datagram)
        cookie = [d for d in bytes_to(world, VICTIM) if len(d) == COOKIE_SIZE][-1]
        # Whoever knows r's public key can open what r seals for the initiation that it saw.
        cipher = messages.cookie_cipher(messages.cookie_key(public("r")), cookie[4:20])
        opened = cipher.decrypt(bytes(12), cookie[20:52], datagram[-32:-16])
        body = datagram[:-16]
        for _ in range(3):
            world.arrive(body + messages.mac(opened, body), VICTIM, ("192.168.2.3", PORT))
            world.run(0.3)
            came += len(datagram)
            shown += 1
        sent = bytes_to(world, VICTIM)
        assert sum(map(len, sent)) <= came
    assert INITIATION_SIZE in {len(d) for d in sent}
    assert world.peer("r", C)["connections"] == []
    assert world.peer("r", C)["session"] is None
    world.captured.clear()
    world.run(100.0)
    assert bytes_to(world, VICTIM) == []
    # The host itself gets in all the same.
    world.lost.clear()
    world.run(10.0)
    assert set(world.states("c", B).values()) == {2}


def cloned(epoch, first_index=4):
    """Give the network with another host that is c too, started 100 s later."""
    world = three()
    world.run(100.0)
    c = world.nodes["c"].settings
    links = [link(first_index + n, f"192.168.{2 + n}.44") for n in range(2)]
    same = {"router": B, "private_key": key("c"), "epoch": epoch or c.epoch}
    world.add("c2", C, links, c.peers, **same)
    return world


def alternate(world, seconds, flowing):
    for _ in range(seconds):
        for name in ("c", "c2") if flowing else ():
            world.send(name, udp(C, A))
        world.run(1.0)
    world.collect()


@pytest.mark.parametrize("flowing", [True, False], ids=["data", "idle"])
@pytest.mark.parametrize(
    ("epoch", "first_index"),
    [(5, 4), (None, 4), (5000, 4), (5000, 40), (5, 40)],
    ids=["earlier", "same", "later", "later, other interfaces", "earlier, other interfaces"],
)
def test_two_hosts_with_one_key_are_told_once_with_both_endpoints(epoch, first_index, flowing):
    world = cloned(epoch, first_index)
    alternate(world, 300, flowing)
    (told,) = said(world, "r", events.KeyShared)
    status = world.peer("r", C)["handshake"]
    for sentence in (str(told), f"{C}: {status}"):
        assert sentence.startswith(f"{C}: two hosts use its key: one is heard at 192.168.")
        assert any(f"{end}:{PORT}" in sentence for end in ("192.168.2.2", "192.168.3.2"))
        assert any(f"{end}:{PORT}" in sentence for end in ("192.168.2.44", "192.168.3.44"))
    assert stale_notes(world, "r") == []
    # One of them is switched off.
    world.lost |= {"192.168.2.44", "192.168.3.44"}
    world.run(200.0)
    assert world.peer("r", C)["handshake"] is None
    assert set(world.states("c", B).values()) == {2}
    assert len(said(world, "r", events.KeyShared)) == 1


def test_two_hosts_with_one_key_behind_one_nat_are_told():
    world = three()
    world.nats["192.168.2.2"] = Nat("192.168.2.2", "192.168.2.9")
    world.nats["192.168.2.44"] = Nat("192.168.2.44", "192.168.2.9", first_port=30000)
    world.nodes["c"].set_links([link(4, "192.168.2.2")], world.now)
    world.run(100.0)
    peers = world.nodes["c"].settings.peers
    world.add("c2", C, [link(4, "192.168.2.44")], peers, router=B, private_key=key("c"))
    alternate(world, 300, True)
    (told,) = said(world, "r", events.KeyShared)
    assert told.here[0] == told.there[0] == "192.168.2.9"
    assert told.here[1] != told.there[1]


@pytest.mark.parametrize("seed", range(4))
def test_one_host_is_never_taken_for_two(seed):
    world = three(seed, rollover_s=5.0)
    chance = random.Random(seed)
    world.run(5.0)
    for _ in range(60):
        world.loss = chance.choice((0.0, 0.0, 0.3))
        world.jitter_s = chance.choice((0.0, 0.1, 6.0))
        world.late = {f"192.168.{n}.2": chance.choice((0.0, 20.0)) for n in range(4)}
        if chance.random() < 0.1:
            restart(world, "c")
        if chance.random() < 0.05:
            restart(world, "c", epoch=5)
        for _ in range(10):
            world.send("c", udp(C, A))
            world.run(chance.choice((0.1, 1.0)))
    world.collect()
    assert said(world, "r", events.KeyShared) == []
    assert said(world, "c", events.KeyShared) == []
