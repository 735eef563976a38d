"""The steward changes the network beside the engine: whatever becomes of it, packets pass."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Callable

import pytest

from ropeway.app.cli import EXIT_RESTART
from tests.lab.process import children_of
from tests.system.bed import churn, pace
from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair
from tests.system.bed.topology import Port, Stopwatch, until
from tests.system.bed.traffic import Verdict, assert_whole, both_ways, ping
from tests.system.test_crash import left_behind
from tests.system.test_two_links import wait_cut

RATE = 1000
MEASURED_S = 8.0
#: What a disturbance may do to the 99th percentile of the time that packets take.
SLOWER = 2.0
#: An undisturbed 99th percentile is taken for this at least. Most packets find an idle processor
#: and take 0.2 ms; one that finds the streams' programs and a disturbance on all of them waits for
#: the scheduler, and that says nothing about the agent. It waits twice as long on a machine that is
#: half as quick.
LEAST_P99_MS = 1.0
KILLS = 3
RESTART_S = 2.0
GONE_S = 1.0
STATUS_S = 1.0
#: Clients of the control socket wait no longer.
RELOAD_S = 12.0
STOP_S = 5.0
#: The keeper gives a steward so long to remove what it made.
CLEAN_UP_S = 8.0
PATIENCE_S = 30.0
#: A steward that hangs at the second order of a start: a disk that does not answer, say.
HANG = """
import time
from ropeway.steward import state
state.begin = lambda name: time.sleep(60)
"""
CUTS = {
    "carrier lost": (Port.unplug, Port.plug),
    "silently blocked": (Port.block, Port.unblock),
}


def told_pid(agent: Agent) -> int:
    """Return the process ID of its steward as an agent tells it, 0 while it knows of none.

    To be compared only: a signal to 0 would reach this process and its whole group.
    """
    return int(agent.status()["steward"]["pid"])


def gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for yet has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def link_names(agent: Agent) -> list[str]:
    return [link["name"] for link in agent.status()["links"]]


def traffic(pair: Pair) -> AbstractContextManager[dict[str, Verdict]]:
    return both_ways(pair.a, pair.a_address, pair.b, pair.b_address, RATE)


def wait_s(seconds: float) -> None:
    """Let a stream last: the time is the measurement itself."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 5, "the time is over", every_s=0.2)


def kill_steward(agent: Agent) -> float:
    """Kill an agent's steward, wait for another one; return the seconds that took.

    The status is asked for at the end only: it takes a millisecond of the engine, in which packets
    wait, so to ask for it again and again would be the disturbance that is measured.
    """
    keeper, before = agent.keeper_pid, agent.steward_pid
    watch = Stopwatch()
    os.kill(before, signal.SIGKILL)

    def others() -> list[int]:
        return [pid for pid in children_of(keeper) if pid != before]

    until(lambda: watch.look() and others(), PATIENCE_S, lambda: f"another one runs: {agent.log()}")
    (after,) = others()
    until(
        lambda: watch.look() and told_pid(agent) == after,
        PATIENCE_S,
        lambda: f"the engine knows it: {agent.status()['steward']}\n{agent.log()}",
        every_s=0.1,
    )
    return watch.look()


def assert_undisturbed(pair: Pair, disturb: Callable[[], object]) -> None:
    """Nothing is lost beside `disturb`, and the 99th percentiles stay near those without it."""
    with traffic(pair) as calm:
        wait_s(MEASURED_S)
    assert_whole(calm)
    with traffic(pair) as disturbed:
        disturb()
    assert_whole(disturbed)
    for way, verdict in disturbed.items():
        usual_ms, found_ms = p99_ms(calm[way]), p99_ms(verdict)
        bound_ms = SLOWER * max(usual_ms, LEAST_P99_MS / pace.share())
        print(f"{way}: p99 {usual_ms:.2f} ms before, {found_ms:.2f} ms beside it")
        assert found_ms <= bound_ms, f"{way}: {verdict}, undisturbed {calm[way]}"


def p99_ms(verdict: Verdict) -> float:
    assert verdict.latency_ms is not None
    return verdict.latency_ms["p99"]


@pytest.mark.rotates
@pytest.mark.alone
def test_ten_thousand_routes_that_come_and_go_disturb_no_packet(pair: Pair) -> None:
    pair.start()
    with churn.routes(pair.a, "eth0") as routes:
        assert_undisturbed(pair, lambda: print(routes.repeat(MEASURED_S), "times"))


@pytest.mark.rotates
@pytest.mark.alone
def test_two_hundred_interfaces_that_come_and_go_disturb_no_packet(pair: Pair) -> None:
    a, b = pair.start()
    with churn.interfaces(pair.a) as interfaces:
        assert_undisturbed(pair, lambda: print(interfaces.repeat(MEASURED_S), "times"))
    assert link_names(a) == ["eth0", "eth1"]
    pair.wait_whole(a, b)


@pytest.mark.rotates
@pytest.mark.alone
def test_killed_stewards_disturb_no_packet(pair: Pair) -> None:
    a, b = pair.start()

    def disturb() -> None:
        for _ in range(KILLS):
            kill_steward(a)
            kill_steward(b)
        pair.wait_whole(a, b)
        wait_s(MEASURED_S / 2)

    assert_undisturbed(pair, disturb)


@pytest.mark.rotates
@pytest.mark.alone
def test_killed_steward_is_started_again_and_follows_the_links(each_pair: Pair) -> None:
    pair = each_pair
    a, b = pair.start()
    assert a.status()["steward"]["restarts"] == 0
    engine = a.pid
    seconds = kill_steward(a)
    print(f"another steward after {seconds:.2f} s")
    assert seconds < RESTART_S
    status = a.status()["steward"]
    assert (status["restarts"], status["fault"]) == (1, "")
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        port = pair.a.ports["net0"]
        port.delete()
        until(lambda: link_names(a) == ["eth1"], PATIENCE_S, lambda: f"it is noticed\n{a.log()}")
        port.create()
        pair.wait_whole(a, b)
    assert_whole(verdicts)
    assert (a.pid, a.alive) == (engine, True)
    assert a.terminate() == 0, a.log()
    assert left_behind(a) == []


def point_elsewhere(path: Path) -> None:
    """Have a configuration name another device and leave out a link, and tell nobody."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data["device"]["name"] = "other0"
    data["interfaces"] = {"exclude": ["eth1"]}
    path.write_text(json.dumps(data), encoding="utf-8")


SPOILT: dict[str, Callable[[Path], object]] = {
    "names another device": point_elsewhere,
    "broken": lambda path: path.write_text("network: [", encoding="utf-8"),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("file", SPOILT)
def test_another_steward_goes_on_whatever_has_become_of_the_file(
    each_pair: Pair, file: str
) -> None:
    pair = each_pair
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        SPOILT[file](a.config_path)
        kill_steward(a)
        port = pair.a.ports["net0"]
        port.delete()
        until(lambda: link_names(a) == ["eth1"], PATIENCE_S, lambda: f"it is noticed\n{a.log()}")
        port.create()
        pair.wait_whole(a, b)
        if file == "names another device":
            # The engine cannot go over to that, and the steward keeps to what the engine runs with.
            assert a.cli("reload", "--control", str(a.control_path)).returncode == EXIT_RESTART
            kill_steward(a)
            pair.a.ports["net1"].delete()
            until(lambda: link_names(a) == ["eth0"], PATIENCE_S, a.log)
            pair.a.ports["net1"].create()
            pair.wait_whole(a, b)
    assert_whole(verdicts)
    status = a.status()
    assert status["steward"]["fault"] == ""
    assert [sentence for sentence in status["warnings"] if "steward" in sentence] == []
    assert "other0" not in [link["ifname"] for link in pair.a.ip_json("link")]
    assert a.terminate() == 0, a.log()
    assert left_behind(a) == []


def test_status_says_that_no_steward_runs_and_packets_pass_meanwhile(each_pair: Pair) -> None:
    pair = each_pair
    a, b = pair.start()
    keeper = a.keeper_pid
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        os.kill(keeper, signal.SIGSTOP)
        os.kill(a.steward_pid, signal.SIGKILL)
        until(lambda: told_pid(a) == 0, PATIENCE_S, "its end is noticed")
        status = a.status()
        assert "steward" in status["steward"]["fault"]
        assert status["steward"]["fault"] in status["warnings"]
        began = b.delivered()
        until(lambda: b.delivered() > began + 500, PATIENCE_S, "packets pass")
        assert a.carrying(pair.b_address) == set(pair.links())
        os.kill(keeper, signal.SIGCONT)
        until(lambda: told_pid(a) != 0, PATIENCE_S, lambda: f"another one runs: {a.log()}")
        pair.wait_whole(a, b)
        status = a.status()
    assert_whole(verdicts)
    assert status["steward"]["fault"] == ""
    assert not [sentence for sentence in status["warnings"] if "steward" in sentence]


@pytest.mark.parametrize("cut", CUTS)
def test_link_that_is_cut_while_the_steward_hangs_loses_nothing(each_pair: Pair, cut: str) -> None:
    pair = each_pair
    sever, heal = CUTS[cut]
    a, b = pair.start()
    steward = a.steward_pid
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        os.kill(steward, signal.SIGSTOP)
        for lan, port in pair.a.ports.items():
            sever(port)
            wait_cut(pair, a, b, lan)
            heal(port)
            pair.wait_whole(a, b)
        os.kill(steward, signal.SIGCONT)
        pair.wait_whole(a, b)
    assert_whole(verdicts)
    assert told_pid(a) == steward


@pytest.mark.rotates
@pytest.mark.alone
def test_killed_engine_takes_keeper_and_steward_along_and_nothing_is_left(each_pair: Pair) -> None:
    pair = each_pair
    a, _ = pair.start()
    keeper, steward = a.keeper_pid, a.steward_pid
    watch = Stopwatch()
    a.kill()
    until(
        lambda: watch.look() and gone(steward) and gone(keeper),
        PATIENCE_S,
        lambda: f"they end: steward {gone(steward)}, keeper {gone(keeper)}\n{a.log()}",
    )
    print(f"both gone after {watch.seconds:.2f} s")
    assert watch.seconds < GONE_S
    # The socket of the one that was killed is taken over by the next one.
    assert [item for item in left_behind(a) if str(a.control_path) not in item] == []


def test_killed_keeper_stops_no_packet_and_status_says_what_follows(each_pair: Pair) -> None:
    pair = each_pair
    a, b = pair.start()
    steward = a.steward_pid
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        os.kill(a.keeper_pid, signal.SIGKILL)
        until(
            lambda: any("steward" in sentence for sentence in a.status()["warnings"]),
            PATIENCE_S,
            lambda: f"a warning: {a.status()['warnings']}\n{a.log()}",
        )
        assert told_pid(a) == steward
        pair.a.ports["net0"].delete()
        until(lambda: link_names(a) == ["eth1"], PATIENCE_S, "the steward still follows links")
        pair.a.ports["net0"].create()
        pair.wait_whole(a, b)
        os.kill(steward, signal.SIGKILL)
        until(lambda: told_pid(a) == 0, PATIENCE_S, "its end is noticed")
        status = a.status()
        assert "restart" in status["steward"]["fault"]
        assert status["steward"]["fault"] in status["warnings"]
        began = b.delivered()
        until(lambda: b.delivered() > began + 500, PATIENCE_S, "packets pass")
    assert_whole(verdicts)


def test_killed_keeper_does_not_keep_the_agent_from_an_orderly_end(each_pair: Pair) -> None:
    pair = each_pair
    a, _ = pair.start()
    steward = a.steward_pid
    os.kill(a.keeper_pid, signal.SIGKILL)
    assert a.terminate() == 0, a.log()
    until(lambda: gone(steward), PATIENCE_S, "the steward ends")
    assert left_behind(a) == []


@pytest.mark.rotates
@pytest.mark.alone
def test_hanging_steward_keeps_nobody_waiting(each_pair: Pair) -> None:
    pair = each_pair
    a, b = pair.start()
    steward, keeper = a.steward_pid, a.keeper_pid
    os.kill(steward, signal.SIGSTOP)
    seconds, _ = timed(a.status)
    assert seconds < STATUS_S
    seconds, done = timed(a.reload)
    print(f"reload: {done.stderr.strip()!r} after {seconds:.1f} s")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "nothing was changed" in done.stderr
    assert seconds < RELOAD_S
    assert ping(pair.a, pair.b_address, count=100, interval_s=0.005).lost == 0
    seconds, status = timed(a.terminate)
    print(f"stopped after {seconds:.1f} s\n{a.log()}")
    assert status == 0
    assert seconds < STOP_S
    until(lambda: gone(steward) and gone(keeper), CLEAN_UP_S, "the others end, too")
    a.start()
    pair.wait_whole(a, b)
    assert a.terminate() == 0, a.log()
    assert left_behind(a) == []


def test_agent_that_is_starting_stops_before_it_is_through(pair: Pair) -> None:
    a = pair.a_agent()
    a.cheat = HANG
    a.launch_only()
    until(lambda: a.control_path.exists(), PATIENCE_S, a.log)
    seconds, status = timed(a.terminate)
    print(f"stopped after {seconds:.1f} s\n{a.log()}")
    assert status == 0
    assert seconds < STOP_S
    assert "is ready" not in a.log()
    until(lambda: not left_behind(a), CLEAN_UP_S, lambda: f"{left_behind(a)}")


def test_reload_is_made_after_the_steward_has_come_back(pair: Pair) -> None:
    a, _ = pair.start()
    steward = a.steward_pid
    os.kill(steward, signal.SIGSTOP)
    assert a.reload().returncode != 0
    os.kill(steward, signal.SIGCONT)
    a.config["max_age_s"] = 1.0
    done = a.reload()
    assert done.returncode == 0, done.stderr
    kill_steward(a)
    a.config["max_age_s"] = 2.0
    done = a.reload()
    assert done.returncode == 0, done.stderr


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result
