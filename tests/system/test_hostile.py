"""Classic: garbage, forgeries, and honest packets faster than ids wrap.

What secure strands withstand, ``test_attacker`` says.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.attacker import paced
from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import SO_RCVBUFFORCE, both_ways, drain, ping

pytestmark = pytest.mark.alone

ETHERNET_BYTES = 14
FUZZ_RATE = 10_000
FUZZ_S = 10
#: An attack that the machine was too busy for is repeated once; the second counts as it is.
ATTEMPTS = 2
#: Memory stands still where it has varied by no more than this for a second.
FLAT_KIB = 256
FLAT_SAMPLES = 5
FLAT_LIMIT_S = 8
GROWTH_KIB = 4096
TRAFFIC_RATE = 500
FLOOD_RATE = 30_000
FLOOD_S = 2
FLOOD_PORT = 4001
FINISH_S = 60
SETTLED_LOOKS = 6
SETTLED_FRAMES = 10
PUSH_RATE = 20_000
PUSH_S = 3
HEADER_BYTES = 34
#: Room for every packet of a flood in the listener's socket, so that nothing is lost behind
#: the agent.
LISTENER_BYTES = 512 << 20


@pytest.fixture
def pair(classic_pair: Pair) -> Pair:
    return classic_pair


class Attacker:
    """An ``attacker.py`` in a host's namespace."""

    def __init__(self, host: Host, *arguments: str) -> None:
        script = str(Path(__file__).parent / "bed" / "attacker.py")
        self.process = subprocess.Popen(
            host.command(sys.executable, script, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=FINISH_S)
        return dict(json.loads(out))


def genuine_packets(pair: Pair, a: Agent, b: Agent) -> list[bytes]:
    """Capture what the agents say to each other: greetings, keepalives, data."""
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    for agent in (a, b):
        agent.terminate()
    for agent in (a, b):
        agent.start()
    pair.wait_whole(a, b)
    ping(pair.a, pair.b_address, count=30, interval_s=0.01)
    packets = [frame[ETHERNET_BYTES:] for tap in taps for frame in drain(tap)]
    for tap in taps:
        tap.close()
    return [packet for packet in packets if Frame.unpack(packet) is not None]


def test_fuzzing_both_links_neither_kills_nor_bloats_nor_stops_the_agent(
    pair: Pair, stage: Stage
) -> None:
    a, b = pair.start()
    samples = stage.directory / "samples"
    packets = genuine_packets(pair, a, b)
    assert {Frame.unpack(packet).state for packet in packets} == {0, 1}
    samples.write_text("".join(packet.hex() + "\n" for packet in packets), encoding="ascii")
    seed = int(os.environ.get("ROPEWAY_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"ROPEWAY_SEED={seed}, {len(packets)} genuine packets")
    for number, lan in enumerate(pair.b.ports):
        intruder = pair.topology.host(f"intruder{number}")
        intruder.connect(lan, "eth0", f"192.168.{number}.66/24")
    for attempt in range(1, ATTEMPTS + 1):
        results = fuzz_both_links(pair, a, b, samples, seed)
        slowest = min(result["sent"] / result["seconds"] for result in results)
        if slowest >= FUZZ_RATE * 0.9:
            break
        # A busy machine: all that was asserted holds all the same, at the rate that it gave.
        print(f"attempt {attempt}: {slowest:.0f} frames/s on a link instead of {FUZZ_RATE}")


def fuzz_both_links(
    pair: Pair, a: Agent, b: Agent, samples: Path, seed: int
) -> list[dict[str, Any]]:
    """Attack vm1 on both its links under traffic, judge everything but the attackers' rate."""
    attackers = []
    for number, lan in enumerate(pair.b.ports):
        intruder = pair.topology.hosts[f"intruder{number}"]
        attackers.append(
            Attacker(
                intruder,
                "fuzz",
                *("--interface", intruder.ports[lan].interface, "--mac", pair.b.ports[lan].mac),
                *("--samples", str(samples), "--seed", str(seed + number)),
                *("--rate", str(FUZZ_RATE), "--frames", str(FUZZ_RATE * FUZZ_S)),
            )
        )
    for attacker in attackers:
        attacker.wait_ready()
    before = b.status()["counters"]
    log_lines = len(b.log().splitlines())
    tap = pair.topology.capture("net0")
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=TRAFFIC_RATE) as verdicts:
        for attacker in attackers:
            attacker.begin()
        rss_kib = wait_flat(b)

        def over() -> bool:
            rss_kib.append(b.rss_kib())
            assert a.alive, a.log()
            assert b.alive, b.log()
            return all(attacker.process.poll() is not None for attacker in attackers)

        until(over, FINISH_S, "the attackers have finished", every_s=0.25)
    results = [attacker.result() for attacker in attackers]
    counters = b.status()["counters"]
    complainers = who_complained_about_classic(drain(tap))
    tap.close()
    print(
        f"attack {results}, resident memory {rss_kib[0]} to {max(rss_kib)} KiB, packet sockets "
        f"dropped {sum(pair.b.packet_socket_drops().values())}\n{json.dumps(counters)}"
    )
    for result in results:
        assert result["refused"] == 0
    assert sum(counters["dropped"].values()) - sum(before["dropped"].values()) > 10_000, (
        "the attack did not reach the agent"
    )
    assert max(rss_kib) - rss_kib[0] < GROWTH_KIB
    # A forged source can make the agent greet an intruder, whose kernel knows no better.
    intruders = [pair.topology.hosts[f"intruder{n}"] for n in range(len(pair.b.ports))]
    ours = complainers - {port.mac for host in intruders for port in host.ports.values()}
    assert not ours, f"ICMP parameter problems came from {ours}"
    assert len(b.log().splitlines()) - log_lines < 400, "remote input decides what is logged"
    for way, verdict in verdicts.items():
        assert (verdict.lost, verdict.duplicated) == (0, 0), f"{way}: {verdict}"
    pair.wait_whole(a, b)
    return results


def wait_flat(agent: Agent) -> list[int]:
    """Wait until an agent's memory stands still under the load; return that as a list of KiB."""
    samples = [agent.rss_kib()]

    def flat() -> bool:
        samples.append(agent.rss_kib())
        recent = samples[-FLAT_SAMPLES:]
        return len(recent) == FLAT_SAMPLES and max(recent) - min(recent) <= FLAT_KIB

    until(flat, FLAT_LIMIT_S, lambda: f"the memory stands still: {samples} KiB", every_s=0.25)
    return samples[-1:]


def who_complained_about_classic(frames: list[bytes]) -> set[str]:
    """Give the MAC addresses that sent an ICMP parameter problem about a classic header."""
    complainers = set()
    for frame in frames:
        packet = frame[ETHERNET_BYTES:]
        if len(packet) < 60 or packet[9] != socket.IPPROTO_ICMP or packet[0] >> 4 != 4:
            continue
        message = packet[(packet[0] & 15) * 4 :]
        quoted = message[8:]
        if message[0] == 12 and len(quoted) > 20 and quoted[0] == 0x48 and quoted[9] == 4:
            complainers.add(frame[6:12].hex(":"))
    return complainers


@pytest.mark.parametrize("links", [1, 2], ids=["one link", "two links"])
def test_distinct_packets_faster_than_ids_wrap_are_never_taken_for_duplicates(
    stage: Stage, links: int
) -> None:
    pair = Pair(stage, links, encapsulation="classic")
    b = pair.b_agent().start()
    frames = FLOOD_RATE * FLOOD_S
    arguments = ["--host", pair.a_address, "--inner", pair.b_address, "--port", str(FLOOD_PORT)]
    for lan, port in pair.a.ports.items():
        other = pair.b.ports[lan]
        arguments += ["--link", f"{port.interface},{port.index},{other.index}"]
        arguments += ["--addresses", f"{port.ip},{other.ip}"]
    sender = Attacker(
        pair.a, "flood", *arguments, "--rate", str(FLOOD_RATE), "--frames", str(frames)
    )
    with pair.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, LISTENER_BYTES)
        listener.bind((pair.b_address, FLOOD_PORT))
        sender.wait_ready()
        sender.begin()
        result = sender.result()
        received = settled(b, pair.a_address)
        numbers = [struct.unpack_from("!Q", packet)[0] for packet in drain(listener)]
    peer = b.peer_status(pair.a_address)
    drops = sum(pair.b.packet_socket_drops().values())
    first = sum(connection["first"] for connection in peer["connections"])
    duplicates = sum(connection["duplicates"] for connection in peer["connections"])
    print(
        f"{result['sent'] / result['seconds']:.0f} packets/s on each of {links} links: "
        f"{received} received, {drops} dropped by the sockets, {first} first, "
        f"{duplicates} duplicates, {len(numbers)} delivered of {frames}"
    )
    assert received + drops == frames * links
    assert len(set(numbers)) == len(numbers), "a duplicate reached the device"
    assert first == len(numbers) == peer["delivered"]
    assert duplicates == received - first
    if links == 1:
        # One copy of each: whatever came through the socket is distinct, and none is lost.
        assert duplicates == 0
    assert drops < frames * links, "nothing came through at all"
    assert first > FLOOD_RATE, "too few to have wrapped the ids in a window"


def settled(agent: Agent, host: str) -> int:
    """Wait until an agent has worked through what its sockets hold; return what it received."""
    seen = [-2 * SETTLED_FRAMES] * SETTLED_LOOKS

    def same() -> bool:
        seen.append(sum(connection["received"] for connection in agent.connections(host)))
        # Several looks, because one may come first where the whole machine stood still; keepalives
        # go on.
        recent = seen[-SETTLED_LOOKS:]
        return recent[-1] == recent[-2] > 0 and recent[-1] - recent[0] <= SETTLED_FRAMES

    until(same, FINISH_S, lambda: f"all packets are worked through: {seen[-3:]}", every_s=0.1)
    return seen[-1]


def test_agents_carry_what_the_machine_can_and_lose_none_to_the_window(each_pair: Pair) -> None:
    pair = each_pair
    a, b = pair.start()
    frames = PUSH_RATE * PUSH_S
    listener = pair.b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, LISTENER_BYTES)
    listener.bind((pair.b_address, FLOOD_PORT))
    out = pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((pair.b_address, FLOOD_PORT))
    began = time.monotonic()
    for start, end in paced(frames, PUSH_RATE):
        for number in range(start, end):
            out.send(struct.pack("!QQ", number, 0))
    took_s = time.monotonic() - began
    settled(b, pair.a_address)
    numbers = [struct.unpack_from("!Q", packet)[0] for packet in drain(listener)]
    out.close()
    listener.close()
    inner_bytes = 20 + 8 + 16
    # What the status counts of a frame besides its packet: of secure, the UDP payload.
    counted_bytes = {"classic": HEADER_BYTES, "secure": 32}[pair.encapsulation]
    carried = max(
        (connection["sent_bytes"] - connection["sent"] * counted_bytes) // inner_bytes
        for connection in a.connections(pair.b_address)
    )
    peer = b.peer_status(pair.a_address)
    drops = sum(pair.b.packet_socket_drops().values())
    print(
        f"{frames / took_s:.0f} packets/s written, {carried} of {frames} read from the device, "
        f"{len(numbers)} delivered, {drops} copies dropped by the sockets"
    )
    assert len(set(numbers)) == len(numbers)
    assert carried - len(numbers) <= drops, f"lost more than the sockets dropped: {peer}"
    assert len(numbers) > frames // 10
