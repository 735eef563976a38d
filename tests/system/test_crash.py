"""An agent that is killed, stopped or started twice: who recovers, and what is left behind."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from tests.system.agents import DEVICE, Agent
from tests.system.stage import Pair, Triple
from tests.system.topology import Host, until
from tests.system.traffic import assert_whole, both_ways, ping

RECOVERY_S = 2.0


def left_behind(agent: Agent) -> list[str]:
    """Name what an agent made in the kernel or the file system and that is still there."""
    host: Host = agent.host
    left = [f"nftables {item}" for item in host.nft()]
    left += [
        f"device {link['ifname']}" for link in host.ip_json("link") if link["ifname"] == DEVICE
    ]
    left += [f"route {route}" for route in host.ip_json("route") if route.get("dev") == DEVICE]
    left += [f"rule {rule}" for rule in host.ip_json("rule") if rule["table"] not in KERNEL_TABLES]
    if agent.control_path.exists():
        left.append(f"socket {agent.control_path}")
    return left


KERNEL_TABLES = ("local", "main", "default")


def recovered(agent: Agent, address: str) -> bool:
    try:
        return not ping(agent.host, address, count=1, interval_s=0.01, wait_s=0.05).lost
    except OSError:
        return False  # the device is not there yet


@pytest.mark.parametrize("victim", ["a", "b"])
def test_killed_agent_is_back_in_under_two_seconds(pair: Pair, victim: str) -> None:
    agents = dict(zip("ab", pair.start()))
    worst_s = 0.0
    for _ in range(3):
        agents[victim].kill()
        began = time.monotonic()
        agents[victim].launch_only()
        until(
            lambda: recovered(agents["a"], pair.b_address),
            RECOVERY_S * 2,
            lambda: f"pings pass again: {agents['a'].log()}{agents['b'].log()}",
            every_s=0.005,
        )
        worst_s = max(worst_s, time.monotonic() - began)
        pair.wait_whole(agents["a"], agents["b"])
    print(f"killed and started, traffic after {worst_s:.2f} s at worst")
    assert worst_s < RECOVERY_S
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        agents["a"].wait_carrying(pair.b_address, *pair.links())
        until(lambda: agents["b"].delivered() > 1000, 5, "1000 packets delivered")
    assert_whole(verdicts)


def test_killed_router_is_back_in_under_two_seconds(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    router.kill()
    began = time.monotonic()
    router.launch_only()
    until(
        lambda: recovered(vm0, vm2.address),
        RECOVERY_S * 2,
        lambda: f"pings pass again: {router.log()}{vm0.log()}{vm2.log()}",
        every_s=0.005,
    )
    taken_s = time.monotonic() - began
    print(f"router killed and started, traffic after {taken_s:.2f} s")
    assert taken_s < RECOVERY_S


def test_nothing_is_left_after_kill_and_cleanup(pair: Pair) -> None:
    a, _ = pair.start()
    assert left_behind(a) != []
    a.kill()
    assert any("nftables" in item for item in left_behind(a)), "kill -9 left no rule to clean up"
    done = a.cli("cleanup", "--config", str(a.config_path))
    assert done.returncode == 0, done.stderr
    assert left_behind(a) == []
    done = a.cli("cleanup", "--config", str(a.config_path))
    assert done.returncode == 0, "a second cleanup has nothing to do, which is no error"


def test_nothing_is_left_after_a_clean_stop(pair: Pair) -> None:
    a, _ = pair.start()
    assert a.terminate() == 0, a.log()
    assert left_behind(a) == []


def test_cleanup_touches_nothing_that_is_not_the_agents(pair: Pair) -> None:
    pair.a.run("nft", "add table ip somebody; add chain ip somebody else")
    foreign = pair.a.nft()
    a, _ = pair.start()
    a.kill()
    a.cli("cleanup", "--config", str(a.config_path))
    assert pair.a.nft() == foreign


def test_cleanup_refuses_while_the_agent_runs(pair: Pair) -> None:
    a, _ = pair.start()
    done = a.cli("cleanup", "--config", str(a.config_path))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.strip(), "it says why"
    assert ping(pair.a, pair.b_address, count=10, interval_s=0.01).lost == 0


def test_second_agent_on_one_host_refuses_and_harms_nothing(pair: Pair) -> None:
    a, _ = pair.start()
    second = a.cli("agent", "--config", str(a.config_path))
    assert second.returncode != 0
    assert "Traceback" not in second.stderr
    assert second.stderr.strip(), "it says why"
    assert ping(pair.a, pair.b_address, count=10, interval_s=0.01).lost == 0
    assert a.status()["device"]["name"] == DEVICE


def test_stopped_peer_is_forgotten_as_a_way_and_comes_back(pair: Pair) -> None:
    a, b = pair.start()
    assert b.terminate() == 0
    a.wait_carrying(pair.b_address)
    b.start()
    pair.wait_whole(a, b)
    assert ping(pair.a, pair.b_address, count=10, interval_s=0.01).lost == 0


def test_rule_that_somebody_flushes_comes_back(pair: Pair) -> None:
    a, b = pair.start()
    wanted = pair.b.nft()
    assert wanted
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        pair.b.run("nft", "flush", "ruleset")
        until(lambda: strip_handles(pair.b.nft()) == strip_handles(wanted), 5, "the rule is back")
        pair.wait_whole(a, b)
    assert_whole(verdicts)


def strip_handles(ruleset: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {kind: {key: value for key, value in body.items() if key != "handle"}}
        for item in ruleset
        for kind, body in item.items()
    ]


def test_device_that_somebody_deletes_comes_back(pair: Pair) -> None:
    a, b = pair.start()
    pair.a.ip("link", "delete", DEVICE)
    until(
        lambda: recovered(a, pair.b_address),
        5,
        lambda: f"pings pass again: {a.log()}",
        every_s=0.05,
    )
    pair.wait_whole(a, b)
    assert pair.a.ip_json("address", "show", "dev", DEVICE)[0]["mtu"] == a.status()["device"]["mtu"]


def test_agent_that_did_not_run_for_a_while_delivers_nothing_twice(pair: Pair) -> None:
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        os.kill(b.pid, signal.SIGSTOP)
        # Its peer takes it for gone meanwhile.
        until(lambda: not a.carrying(pair.b_address), 10, "the silence is noticed")
        os.kill(b.pid, signal.SIGCONT)
        pair.wait_whole(a, b)
        began = b.delivered()
        until(lambda: b.delivered() > began + 500, 5, "packets pass again")
    assert [verdict.duplicated for verdict in verdicts.values()] == [0, 0]
