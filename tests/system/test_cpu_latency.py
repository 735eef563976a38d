"""How soon the processors of the machine have to wake, as the kernel itself sees it.

The kernel knows one limit for the whole machine, so the tests ask for one that nobody else does.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair, Triple
from tests.system.bed.topology import until
from tests.system.bed.traffic import Verdict, assert_whole, both_ways

PATH = Path("/dev/cpu_dma_latency")
DRIVER = Path("/sys/devices/system/cpu/cpuidle/current_driver")
LIMIT_US = 1977
KEPT_ALIVE_S = 60.0
PATIENCE_S = 30.0
RATE = 50

pytestmark = [
    pytest.mark.alone,
    pytest.mark.rotates,
    pytest.mark.skipif(not PATH.exists(), reason=f"this machine has no {PATH}"),
    pytest.mark.skipif(
        not DRIVER.exists() or DRIVER.read_text().strip() == "none",
        reason="this machine has no cpuidle driver",
    ),
]


def limit_us() -> int:
    """Return the lowest of all limits that somebody asks for."""
    descriptor = os.open(PATH, os.O_RDONLY)
    try:
        return int(struct.unpack("=i", os.read(descriptor, 4))[0])
    finally:
        os.close(descriptor)


@pytest.fixture(autouse=True)
def nobody_else() -> None:
    assert limit_us() > LIMIT_US, f"another program holds {PATH}: stop it"


def traffic(pair: Pair) -> AbstractContextManager[dict[str, Verdict]]:
    return both_ways(pair.a, pair.a_address, pair.b, pair.b_address, RATE)


def held(agent: Agent) -> bool:
    return bool(agent.status()["process"]["cpu_latency_held"])


def wait_kept_alive(pair: Pair, a: Agent, b: Agent) -> None:
    """Wait until both have heard from each other anew without any packet in between."""
    heard = Counter[str]()
    last: dict[tuple[str, int], float] = {}

    def often() -> bool:
        for agent, other in ((a, pair.b_address), (b, pair.a_address)):
            for number, connection in enumerate(agent.connections(other)):
                heard_s = connection["heard_s"]
                if heard_s is None:
                    continue
                heard[other] += heard_s < last.get((other, number), 0.0)
                last[other, number] = heard_s
        return min(heard[pair.a_address], heard[pair.b_address]) > 0

    until(often, KEPT_ALIVE_S, lambda: f"keepalives have passed both ways: {heard}")


def wait_held(expected: bool, *agents: Agent) -> None:
    def all_so() -> bool:
        return all(held(agent) == expected for agent in agents) and expected == (
            limit_us() == LIMIT_US
        )

    until(all_so, PATIENCE_S, f"the limit is {'' if expected else 'not '}held")


def test_limit_is_held_while_packets_pass_and_no_longer(each_pair: Pair) -> None:
    agents = each_pair.start(cpu_latency_us=LIMIT_US)
    assert [agent.status()["process"]["cpu_latency_us"] for agent in agents] == [LIMIT_US] * 2
    wait_held(False, *agents)
    with traffic(each_pair) as verdicts:
        wait_held(True, *agents)
    assert_whole(verdicts)
    wait_held(False, *agents)


def test_keepalives_are_no_traffic(each_pair: Pair) -> None:
    agents = [each_pair.a_agent(cpu_latency_us=LIMIT_US), each_pair.b_agent()]
    for agent in agents:
        agent.tuning["ropeway.app.engine.wakefulness:HOLD_S"] = 2 * KEPT_ALIVE_S
        agent.start()
    each_pair.wait_whole(*agents)
    wait_kept_alive(each_pair, *agents)
    assert not held(agents[0])
    with traffic(each_pair):
        wait_held(True, agents[0])


def test_router_holds_it_for_what_it_passes_on(triple: Triple) -> None:
    vm0, router, vm2 = triple.start(cpu_latency_us=LIMIT_US)
    wait_held(False, router)
    with both_ways(triple.vm0, vm0.address, triple.vm2, vm2.address, RATE):
        wait_held(True, router)
    wait_held(False, router)


def test_agent_that_is_killed_leaves_no_limit(pair: Pair) -> None:
    a, b = pair.start(cpu_latency_us=LIMIT_US)
    with traffic(pair):
        wait_held(True, a, b)
        a.kill()
        b.kill()
        assert limit_us() > LIMIT_US


def test_limit_is_taken_up_and_given_up_without_a_restart(pair: Pair) -> None:
    a, b = pair.start()
    with traffic(pair) as verdicts:
        assert limit_us() > LIMIT_US
        for limit in (LIMIT_US, None):
            a.config["cpu_latency_us"] = limit
            done = a.reload()
            assert done.returncode == 0, done.stderr
            wait_held(limit is not None, a)
    assert_whole(verdicts)
    assert not held(b)
