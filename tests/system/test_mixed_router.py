"""One router, two networks: a secure one and a classic one, each with an agent of its own."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Triple
from tests.system.bed.topology import until
from tests.system.bed.traffic import assert_whole, both_ways, drain, ping
from tests.system.test_hostile import ETHERNET_BYTES, Attacker

CLASSIC = "10.9.0.0/24"
CLASSIC_ROUTER, CLASSIC_HOST = "10.9.0.2", "10.9.0.3"
OTHER_DEVICE = "ropeway1"
RATE = 500
FUZZ_RATE = 5000
FUZZ_S = 6
FINISH_S = 60


class Mixed:
    """vm0 is a host of the secure network, vm2 one of the classic, vm1 the router of both."""

    def __init__(self, triple: Triple) -> None:
        self.triple = triple
        self.vm0, self.router = triple.client("vm0"), triple.router()
        classic: dict[str, Any] = {"encapsulation": "classic", "network": CLASSIC}
        self.classic_router = triple.stage.agent(
            triple.vm1,
            CLASSIC_ROUTER,
            instance="classic",
            forward=True,
            device={"name": OTHER_DEVICE, "mtu": "auto"},
            **classic,
        )
        self.vm2 = triple.stage.agent(triple.vm2, CLASSIC_HOST, router=CLASSIC_ROUTER, **classic)
        self.vm2.peer(CLASSIC_ROUTER, *(triple.vm1.ports[lan].ip for lan in triple.vm2.ports))
        for agent in self.agents:
            agent.start()
        triple.wait_whole(self.vm0, self.router)
        triple.wait_whole(self.vm2, self.classic_router)

    @property
    def agents(self) -> list[Agent]:
        return [self.vm0, self.router, self.vm2, self.classic_router]


@pytest.fixture
def mixed(triple: Triple) -> Mixed:
    return Mixed(triple)


def test_router_serves_a_secure_and_a_classic_network_at_once(mixed: Mixed) -> None:
    triple = mixed.triple
    real = {port.interface for port in triple.vm1.ports.values()}
    for agent in (mixed.router, mixed.classic_router):
        assert {link["name"] for link in agent.status()["links"]} == real, "a rope on a rope"
    with both_ways(triple.vm0, mixed.vm0.address, triple.vm1, mixed.router.address) as secure:
        verdict = ping(triple.vm2, CLASSIC_ROUTER, count=500, interval_s=0.005)
        assert (verdict.lost, verdict.duplicated) == (0, 0)
    assert_whole(secure)
    # The networks are two: neither knows a way to the other.
    with pytest.raises(OSError, match="unreachable"):
        ping(triple.vm0, CLASSIC_HOST, count=1, interval_s=0.01)


def test_one_of_the_agents_ends_and_the_other_does_not_notice(mixed: Mixed) -> None:
    triple = mixed.triple
    with both_ways(triple.vm0, mixed.vm0.address, triple.vm1, mixed.router.address) as verdicts:
        assert mixed.classic_router.terminate() == 0
        assert ping(triple.vm0, mixed.router.address, count=50, interval_s=0.01).lost == 0
        mixed.classic_router.start()
        triple.wait_whole(mixed.vm2, mixed.classic_router)
    assert_whole(verdicts)
    mixed.router.kill()
    done = mixed.router.cli("cleanup", "--config", str(mixed.router.config_path))
    assert done.returncode == 0, done.stderr
    verdict = ping(triple.vm2, CLASSIC_ROUTER, count=50, interval_s=0.01)
    assert (verdict.lost, verdict.duplicated) == (0, 0), "clean-up took what was the other's"


@pytest.mark.alone
def test_attack_on_the_classic_network_does_not_hurt_the_secure_one(mixed: Mixed) -> None:
    triple = mixed.triple
    tap = triple.topology.capture("net2")
    ping(triple.vm2, CLASSIC_ROUTER, count=30, interval_s=0.01)
    packets = [frame[ETHERNET_BYTES:] for frame in drain(tap)]
    tap.close()
    samples = triple.stage.directory / "samples"
    genuine = [packet for packet in packets if Frame.unpack(packet) is not None]
    assert genuine
    samples.write_text("".join(packet.hex() + "\n" for packet in genuine), encoding="ascii")
    seed = int(os.environ.get("ROPEWAY_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"ROPEWAY_SEED={seed}")
    attackers = []
    for number, lan in enumerate(("net0", "net2")):
        # One LAN of either network: the agents listen on all of the router's links.
        intruder = triple.topology.host(f"intruder{number}")
        intruder.connect(lan, "eth0", f"192.168.{lan[-1]}.66/24")
        attackers.append(
            Attacker(
                intruder,
                *("fuzz", "--interface", "eth0", "--mac", triple.vm1.ports[lan].mac),
                *("--samples", str(samples), "--seed", str(seed + number)),
                *("--rate", str(FUZZ_RATE), "--frames", str(FUZZ_RATE * FUZZ_S)),
            )
        )
    for attacker in attackers:
        attacker.wait_ready()
    before = sum(mixed.classic_router.status()["counters"]["dropped"].values())
    with both_ways(
        triple.vm0, mixed.vm0.address, triple.vm1, mixed.router.address, rate=RATE
    ) as verdicts:
        for attacker in attackers:
            attacker.begin()
        until(
            lambda: all(attacker.process.poll() is not None for attacker in attackers),
            FINISH_S,
            "the attackers have finished",
            every_s=0.25,
        )
    dropped = sum(mixed.classic_router.status()["counters"]["dropped"].values()) - before
    print(f"{[attacker.result() for attacker in attackers]}, {dropped} dropped by the classic one")
    assert dropped > FUZZ_RATE
    assert_whole(verdicts)
    triple.wait_whole(mixed.vm0, mixed.router)
