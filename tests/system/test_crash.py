"""An agent that is killed, stopped or started twice: who recovers, and what is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.system.bed.agents import DEVICE, Agent, Identity
from tests.system.bed.stage import Pair, Triple
from tests.system.bed.topology import Host, Stopwatch, until
from tests.system.bed.traffic import assert_whole, both_ways, ping

RECOVERY_S = 2.0
#: A start that the machine was too busy for, or stood still in, is repeated; one in time will do.
ATTEMPTS = 3
PATIENCE_S = 30.0


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


def restart(victim: Agent, probing: Agent, address: str) -> tuple[float, float]:
    """Kill an agent and start it; return when pings pass, in s since the start and since it is up.

    It is up when it answers on its control socket.
    """
    victim.kill()
    watch = Stopwatch()
    victim.launch_only()
    until(
        lambda: watch.look() and victim.answers(),
        PATIENCE_S,
        lambda: f"it starts: {victim.log()}",
        every_s=0.005,
    )
    up_s = watch.look()
    until(
        lambda: watch.look() and recovered(probing, address),
        PATIENCE_S,
        lambda: f"pings pass again: {victim.log()}{probing.log()}",
        every_s=0.005,
    )
    return watch.look(), watch.seconds - up_s


def assert_soon_back(
    victim: Agent, probing: Agent, address: str, wait_whole: Callable[[], object]
) -> None:
    """Kill and start an agent; pings have to pass in time after one of the attempts."""
    for _ in range(ATTEMPTS):
        start_s, up_s = restart(victim, probing, address)
        wait_whole()
        print(f"killed and started: traffic after {start_s:.2f} s, {up_s:.2f} s after it was up")
        if start_s < RECOVERY_S:
            return
    raise AssertionError(f"never back within {RECOVERY_S} s, last after {start_s:.2f} s")


@pytest.mark.rotates
@pytest.mark.alone
@pytest.mark.parametrize("victim", ["a", "b"])
def test_killed_agent_is_back_in_under_two_seconds(each_pair: Pair, victim: str) -> None:
    pair = each_pair
    agents = dict(zip("ab", pair.start()))
    assert_soon_back(
        agents[victim], agents["a"], pair.b_address, lambda: pair.wait_whole(*agents.values())
    )
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        agents["a"].wait_carrying(pair.b_address, *pair.links())
        until(lambda: agents["b"].delivered() > 1000, PATIENCE_S, "1000 packets delivered")
    assert_whole(verdicts)


@pytest.mark.rotates
@pytest.mark.alone
@pytest.mark.parametrize("victim", ["a", "b"])
def test_killed_agent_is_back_in_under_two_seconds_under_traffic(pair: Pair, victim: str) -> None:
    agents = dict(zip("ab", pair.start()))
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        assert_soon_back(
            agents[victim], agents["a"], pair.b_address, lambda: pair.wait_whole(*agents.values())
        )
        began = agents["b"].delivered()
        until(lambda: agents["b"].delivered() > began + 500, PATIENCE_S, "packets pass again")
    assert [verdict.duplicated for verdict in verdicts.values()] == [0, 0]


@pytest.mark.rotates
@pytest.mark.alone
def test_killed_router_is_back_in_under_two_seconds_for_both_clients(each_triple: Triple) -> None:
    vm0, router, vm2 = each_triple.start()
    with both_ways(each_triple.vm0, vm0.address, each_triple.vm2, vm2.address) as verdicts:
        assert_soon_back(
            router,
            vm0,
            vm2.address,
            lambda: [each_triple.wait_whole(client, router) for client in (vm0, vm2)],
        )
    assert [verdict.duplicated for verdict in verdicts.values()] == [0, 0]


def test_wrong_key_is_named_with_the_host_that_it_belongs_to(pair: Pair) -> None:
    own = pair.stage.identities
    a, b = pair.a_agent(), pair.b_agent()
    # vm0 expects another key of vm1 than vm1 has, so vm1 can't read who calls; each says what it
    # can know.
    a.entry(pair.b_address)["public_key"] = Identity.generate().public
    a.start()
    b.start()
    until(
        lambda: own[pair.b_address].public in key_complaints(b),
        10,
        lambda: f"vm1 says that somebody calls another key than its own: {b.log()}",
    )
    assert not a.carrying(pair.b_address)
    assert "key" in a.peer_status(pair.b_address)["handshake"]
    a.terminate()
    b.terminate()
    # vm1 expects another key of vm0: it can read who calls.
    a.entry(pair.b_address)["public_key"] = own[pair.b_address].public
    b.entry(pair.a_address)["public_key"] = Identity.generate().public
    a.start()
    b.start()
    until(lambda: pair.a_address in key_complaints(b), 10, lambda: f"vm1 complains: {b.log()}")
    assert not b.carrying(pair.a_address)
    for agent in (a, b):
        lines = len(agent.log().splitlines())
        assert lines < 40, f"{lines} lines of complaints:\n{agent.log()}"
        for identity in own.values():
            assert identity.private not in agent.log()


def key_complaints(agent: Agent) -> str:
    """Return the lines of an agent's log that are about a key."""
    return "\n".join(line for line in agent.log().splitlines() if "key" in line)


def test_nothing_is_left_after_kill_and_cleanup(each_pair: Pair) -> None:
    pair = each_pair
    a, _ = pair.start()
    assert left_behind(a) != []
    a.kill_whole()
    wanted = "nftables" if pair.encapsulation == "classic" else "socket"
    assert any(wanted in item for item in left_behind(a)), "kill -9 left nothing to clean up"
    done = a.cli("cleanup", "--config", str(a.config_path))
    assert done.returncode == 0, done.stderr
    assert left_behind(a) == []
    done = a.cli("cleanup", "--config", str(a.config_path))
    assert done.returncode == 0, "a second cleanup has nothing to do, which is no error"


def test_steward_of_a_killed_engine_leaves_nothing_but_the_socket(each_pair: Pair) -> None:
    pair = each_pair
    a, _ = pair.start()
    keeper, steward = a.keeper_pid, a.steward_pid
    a.kill()
    until(
        lambda: all(not Path(f"/proc/{pid}").exists() for pid in (keeper, steward)),
        5.0,
        lambda: f"keeper and steward end\n{a.log()}",
    )
    assert [item for item in left_behind(a) if "socket" not in item] == []


def test_nothing_is_left_after_a_clean_stop(each_pair: Pair) -> None:
    pair = each_pair
    a, _ = pair.start()
    assert a.terminate() == 0, a.log()
    assert left_behind(a) == []


def test_cleanup_touches_nothing_that_is_not_the_agents(classic_pair: Pair) -> None:
    pair = classic_pair
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
    # An idle strand need not know; one with data for the other end has to.
    ping(pair.a, pair.b_address, count=10, interval_s=0.01, wait_s=0.1)
    a.wait_carrying(pair.b_address)
    b.start()
    pair.wait_whole(a, b)
    assert ping(pair.a, pair.b_address, count=10, interval_s=0.01).lost == 0


def test_rule_that_somebody_flushes_comes_back(classic_pair: Pair) -> None:
    pair = classic_pair
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
        until(lambda: b.delivered() > began + 500, PATIENCE_S, "packets pass again")
    assert [verdict.duplicated for verdict in verdicts.values()] == [0, 0]
