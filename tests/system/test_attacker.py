"""Secure strands on LANs with an attacker who sees every frame and sends what he likes."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.system.bed import pace
from tests.system.bed.agents import Agent, endpoint_of
from tests.system.bed.stage import Pair, Triple
from tests.system.bed.topology import Host, Stopwatch, until
from tests.system.bed.traffic import assert_whole, both_ways, ping
from tests.system.test_crash import restart

pytestmark = pytest.mark.alone

UDP_PORT = 51840
REPLAY_RATE = 15_000
REPLAY_RATE_LEAST = 8_000
REPLAY_S = 15
TRAFFIC_RATE = 500
ROLLOVER_S = 5
#: Where a connection sends may be wrong for one probe interval, and this test looks so often.
PROBE_S = 0.5
LOOK_EVERY_S = 0.05
SLACK_S = 0.25
GROWTH_KIB = 4096
LOG_LINES = 20
FLOOD_RATE = 5_000
FLOOD_S = 12
BACK_S = 2.0
FINISH_S = 60


class Attacker:
    """A ``secure_attacker.py`` in a host's namespace."""

    def __init__(self, host: Host, *arguments: str) -> None:
        seed = int(os.environ.get("ROPEWAY_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"ROPEWAY_SEED={seed}")
        script = str(Path(__file__).parent / "bed" / "secure_attacker.py")
        self.process = subprocess.Popen(
            host.command(sys.executable, script, *arguments, "--seed", str(seed)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def result(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=FINISH_S)
        assert self.process.returncode == 0
        return dict(json.loads(out.splitlines()[-1]))


@dataclass
class Watch:
    """What is polled while an attack lasts: endpoints, memory, sessions."""

    agent: Agent
    host: str
    endpoints: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)
    astray: dict[tuple[int, str], Stopwatch] = field(default_factory=dict)
    astray_s: float = 0.0
    rss_kib: list[int] = field(default_factory=list)

    def look(self) -> None:
        for known in self.agent.connections(self.host):
            if known["state"] != 2 or not known["carries"]:
                continue
            name = (known["link"], known["source"])
            endpoint = endpoint_of(known)
            if endpoint == self.endpoints.setdefault(name, endpoint):
                self.astray.pop(name, None)
                continue
            since = self.astray.setdefault(name, Stopwatch())
            self.astray_s = max(self.astray_s, since.look() + LOOK_EVERY_S)
        self.rss_kib.append(self.agent.rss_kib())


def test_attacker_who_sees_and_resends_everything_changes_nothing(pair: Pair) -> None:
    a, b = pair.start(rollover_s=ROLLOVER_S)
    intruder = pair.topology.host("intruder")
    for number, lan in enumerate(pair.a.ports):
        intruder.connect(lan, f"eth{number}", f"192.168.{number}.66/24")
        pair.topology.hub(lan)
    interfaces = [part for lan in (0, 1) for part in ("--interface", f"eth{lan}")]
    rates = ["--rate", str(REPLAY_RATE), "--seconds", str(REPLAY_S)]
    attacker = Attacker(intruder, "replay", *interfaces, *rates)
    watches = [Watch(a, pair.b_address), Watch(b, pair.a_address)]
    for watch in watches:
        watch.look()
        assert len(watch.endpoints) == 2, watch.agent.connections(watch.host)
    rollovers = [watch.agent.rollovers(watch.host) for watch in watches]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=TRAFFIC_RATE) as verdicts:
        until(lambda: b.delivered() > TRAFFIC_RATE, 10, "traffic flows")
        log_lines = [len(watch.agent.log().splitlines()) for watch in watches]
        attacker.begin()

        def over() -> bool:
            for watch in watches:
                watch.look()
            # Unlike the streams, ICMP has no checksum that the kernel leaves to the device.
            ping(pair.a, pair.b_address, count=1, interval_s=LOOK_EVERY_S, wait_s=LOOK_EVERY_S)
            return attacker.over

        until(over, FINISH_S, "the attacker has finished", every_s=LOOK_EVERY_S)
    result = attacker.result()
    rate = result["sent"] / result["seconds"]
    rolled = [watch.agent.rollovers(watch.host) - n for watch, n in zip(watches, rollovers)]
    lines = [len(watch.agent.log().splitlines()) - n for watch, n in zip(watches, log_lines)]
    settled = [watch.rss_kib[len(watch.rss_kib) // 3] for watch in watches]
    grown = [max(watch.rss_kib) - start for watch, start in zip(watches, settled)]
    print(
        f"{rate:.0f} frames/s for {REPLAY_S} s: {result}\nendpoints astray for at most "
        f"{max(watch.astray_s for watch in watches):.2f} s, {rolled} rollovers, {grown} KiB more, "
        f"{lines} log lines"
    )
    for watch in watches:
        print(json.dumps(watch.agent.status()["counters"]))
    assert_whole(verdicts)
    assert rate >= pace.rate(REPLAY_RATE_LEAST), "the attacker was kept from sending"
    assert {"1", "2", "4", "5", "7"} <= set(result["types"]), "not every type of frame was captured"
    assert max(watch.astray_s for watch in watches) < PROBE_S + SLACK_S
    assert result["heard_bytes"] <= result["own_bytes"]
    assert min(rolled) >= REPLAY_S // ROLLOVER_S - 1, "sessions went on rolling over"
    assert max(grown) < GROWTH_KIB
    assert max(lines) - max(rolled) <= LOG_LINES, a.log() + b.log()
    pair.wait_whole(a, b)


def test_flood_of_initiations_does_not_keep_a_genuine_host_out(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    intruder = triple.topology.host("intruder")
    intruder.connect("net2", "eth0", "192.168.2.66/24")
    port = triple.vm1.ports["net2"]
    public_key = base64.b64decode(triple.stage.identities[router.address].public).hex()
    attacker = Attacker(
        intruder,
        "initiations",
        *("--interface", "eth0", "--mac", port.mac, "--target", port.ip, "--port", str(UDP_PORT)),
        *("--public-key", public_key, "--rate", str(FLOOD_RATE), "--seconds", str(FLOOD_S)),
    )
    lines = len(router.log().splitlines())
    rss_kib = router.rss_kib()
    figures = []
    with both_ways(triple.vm0, vm0.address, triple.vm1, router.address, rate=200) as verdicts:
        attacker.begin()
        began, cpu_s = time.monotonic(), router.cpu_s()
        for _ in range(3):
            figure = restart(vm2, vm2, router.address)
            if attacker.over:
                break  # which may have helped it
            figures.append(figure)
        used = (router.cpu_s() - cpu_s) / (time.monotonic() - began)
        assert figures, "the flood was over before vm2 was back"
    result = attacker.result()
    counters = router.status()["counters"]
    shown = ", ".join(f"{start:.2f} s after its start, {up:.2f} s after" for start, up in figures)
    print(
        f"{result['sent'] / result['seconds']:.0f} initiations/s: {result}; back {shown} it was up;"
        f" the router used {used:.0%} of a processor\n{json.dumps(counters)}"
    )
    assert max(up for _, up in figures) < BACK_S
    assert result["heard_bytes"] <= result["own_bytes"]
    assert router.rss_kib() - rss_kib < GROWTH_KIB
    # Each restart of vm2 may say a few things; the flood may not.
    assert len(router.log().splitlines()) - lines <= LOG_LINES * (len(figures) + 1), router.log()
    assert_whole(verdicts)
