"""How often hosts ask each other for an answer, to measure the paths between them."""

import random

import pytest

from ropeway.core import tuning
from ropeway.core.frame.control import Measured, decode_control
from ropeway.core.frame.data import CONTROL
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.bench.many_clients import Star, classes
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_streams import Hostile
from tests.unit.core.secure_world import PORT, pair

A, B = "10.0.0.1", "10.0.0.2"
ADAPTIVE = (TrafficClass("all", Match(), Mode.ADAPTIVE),)


def controls_sent(world, name, host):
    strand = world.nodes[name].tables.strands[host]
    return [connection.controls_sent for connection in strand.connections.values()]


@pytest.mark.parametrize(("packets_per_s", "most"), [(20, 30), (200, 60)])
def test_little_data_causes_few_control_frames(packets_per_s, most):
    world = pair(classes=ADAPTIVE)
    world.run(2.0)

    def flow(seconds):
        for _ in range(round(seconds * packets_per_s)):
            world.send("a", udp(A, B, bytes(200)))
            world.send("b", udp(B, A, bytes(200)))
            world.run(1 / packets_per_s)

    flow(5)
    before = [controls_sent(world, *ends) for ends in (("a", B), ("b", A))]
    flow(5)
    after = [controls_sent(world, *ends) for ends in (("a", B), ("b", A))]
    # Of each link, both ways.
    for link in (0, 1):
        found = sum(end[link] for end in after) - sum(end[link] for end in before)
        print(f"{found / 5} a second on link {link}")
        assert 4 <= found / 5 <= most


def test_router_with_many_clients_asks_and_is_asked_less(monkeypatch):
    clients = 10
    found = []
    # The second is a router's share for each of a hundred clients.
    for asks_per_s in (tuning.NODE_ASKS_PER_S, 2.0 * clients):
        monkeypatch.setattr(tuning, "NODE_ASKS_PER_S", asks_per_s)
        star = Star(clients, classes("adaptive", 1))
        spent = star.load(100.0, 2.0)
        found.append(spent.control_frames / spent.seconds / clients)
        strand = next(iter(star.router.tables.strands.values()))
        pauses = sorted(connection.probe_s for connection in strand.carrying)
    few, many = found[1], found[0]
    print(f"{many:.1f} and {few:.1f} control frames a second for each client")
    assert few < many / 2
    # What carries alone is still asked for answers, the other link is not.
    assert pauses == [pytest.approx(tuning.SLOW_PROBE_S), tuning.PROBE_S]


def test_what_a_host_asks_over_many_connections_has_a_limit():
    world = pair(classes=ADAPTIVE)
    world.run(2.0)
    hostile, own = Hostile(world), (Hostile.OWN, PORT)
    rnd = random.Random(5)
    links = range(1000, 1008)
    heard = dict.fromkeys(links, 0)  # the last mark on each
    answers = 0

    def listen():
        count = 0
        for _, _, endpoint, datagram in world.captured:
            body = hostile.session.open(datagram) if datagram[0] == CONTROL else None
            if endpoint[0] == Hostile.OWN and isinstance(body, bytes):
                control = decode_control(body)
                heard[control.dst_index] = control.mark
                count += 1
        world.captured.clear()
        return count

    def ask():
        for link in rnd.sample(links, len(links)):
            hostile.say(
                own,
                src_index=link,
                state=2,
                echo=heard[link],
                answer=True,
                measured=Measured(1, 1, 1, ask_pause_s=60.0),
            )

    for _ in range(100):
        ask()
        world.run(0.02)
        listen()
    world.send("b", udp(B, A))
    seconds = 4
    for _ in range(round(seconds / 0.01)):
        ask()
        world.run(0.01)
        answers += listen()
    print(f"{answers / seconds} a second, asked {len(links) / 0.01:.0f} times")
    # Its connections have frames of their own besides, and path MTU probes.
    usual = 8 * len(links)
    assert 100 < answers / seconds < tuning.ANSWERS_PER_S + tuning.ANSWERS_BURST / seconds + usual
    # What it says of how often it wants to be asked is not believed beyond what is usual.
    assert world.nodes["b"].tables.strands[A].far_pause_s == tuning.PROBE_S


def test_frames_of_the_last_seconds_are_known_by_their_marks_however_many():
    world = pair(classes=ADAPTIVE)
    world.run(2.0)
    (strand,) = world.nodes["a"].tables.strands.values()
    connection = strand.carrying[0]

    def known(pause_s, count):
        """Mark frames; return how many seconds ago the oldest was sent that is still known."""
        connection.marks.clear()
        for number in range(count):
            connection.note_mark(1 + number, connection.path, number * pause_s)
        oldest_at = min(at for at, *_ in connection.marks.values())
        return (count - 1) * pause_s - oldest_at

    # What both ends ask and answer at most on one connection, on a path that takes 2 s.
    assert known(tuning.BEST_PROBE_S / 2, 1000) > 2.0
    assert known(0.1, 1000) == pytest.approx(tuning.MARKS_S, abs=0.11)
    assert known(tuning.IDLE_MAX_S, 1000) >= 10 * tuning.IDLE_MAX_S
    assert known(0.0, 1000) == 0.0
    assert len(connection.marks) == tuning.MAX_MARKS
