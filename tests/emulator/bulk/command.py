"""The command ``bulk``: one TCP connection over each link alone and in each mode over all."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from ropeway.app.config.classes import RECOMMENDED
from tests.emulator import spec
from tests.emulator.compare import table
from tests.system.bed.agents import ROOT, Process
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, sweep, until
from tests.system.bed.wire import WiredPair, wired

PORT = 7100
START_S = 30.0
#: The connection finds its rate in the first seconds, which do not count.
SETTLED_S = 4.0
STEP_S = 0.5
HEADINGS = ("", "Mbit/s", "of the sum", "of the best alone", "least in 2 s")
#: What a class is beside its mode.
MODES: Dict[str, Dict[str, object]] = {
    "redundant": {"mode": "redundant"},
    "ordered": {"mode": "redundant", "hold_ms": 200},
    "adaptive": {"mode": "adaptive"},
    "single": {"mode": "single"},
    "spread": {"mode": "spread"},
}


class End(Process):
    """One end of the connection."""

    def __init__(self, stage: Stage, host: Host, role: str, *arguments: str) -> None:
        super().__init__(host, stage.directory, f"tcp-{role}")
        stage.process(self)
        self.launch(sys.executable, "-m", "tests.emulator.bulk.tcp", role, *arguments)

    def environment(self) -> Dict[str, str]:
        return {**super().environment(), "PYTHONPATH": f"{ROOT / 'agent'}{os.pathsep}{ROOT}"}


def bulk(
    links: Sequence[str],
    modes: Sequence[str],
    seconds: float,
    congestion: str,
    file: Path | None,
) -> None:
    """Run every mode, print a table, and write what came in each half second to ``file``."""
    sweep()
    came: Dict[str, List[int]] = {}
    for number, link in enumerate(links):
        name = f"{number} {spec.parse(link)[0].name}"
        print(f"{name} alone", flush=True)
        came[name] = alone(links, number, seconds, congestion)
    best = max(map(rate_mbit, came.values()))
    total = sum(map(rate_mbit, came.values()))
    for mode in modes:
        print(mode, flush=True)
        came[mode] = together(links, mode, seconds, congestion)
    print(table([HEADINGS, *(row(name, one, total, best) for name, one in came.items())], True))
    if file is not None:
        file.write_text(json.dumps(came), encoding="ascii")


def row(name: str, came: Sequence[int], total: float, best: float) -> Tuple[str, ...]:
    rate = rate_mbit(came)
    least = min((sum(came[at : at + 4]) for at in range(len(came) - 4)), default=0)
    shares = (f"{rate / total:.2f}", f"{rate / best:.2f}")
    return (name, f"{rate:.2f}", *shares, f"{8 * least / 2e6:.2f}")


def rate_mbit(came: Sequence[int]) -> float:
    """Return the mean rate after the connection has settled; the last step is not a whole one."""
    counted = came[int(SETTLED_S / STEP_S) : -1]
    return 8 * sum(counted) / 1e6 / (STEP_S * len(counted)) if counted else 0.0


def alone(links: Sequence[str], number: int, seconds: float, congestion: str) -> List[int]:
    """Return what came over one link without ropeway."""
    with wired(*links) as pair:
        _, address = pair.links()[number]
        return _carry(pair, address, seconds, congestion)


def together(links: Sequence[str], mode: str, seconds: float, congestion: str) -> List[int]:
    """Return what came over all links in one mode."""
    with wired(*links) as pair:
        pair.start(classes=classes_of_mode(mode))
        return _carry(pair, pair.b_address, seconds, congestion)


def classes_of_mode(mode: str) -> object:
    """Return what the configuration says of classes: one for all packets, or those recommended."""
    return mode if mode == RECOMMENDED else [{"name": "all", **MODES[mode]}]


def _carry(pair: WiredPair, address: str, seconds: float, congestion: str) -> List[int]:
    receiver = End(pair.stage, pair.b, "receiver", address, str(PORT))
    until(lambda: "ready" in receiver.log(), START_S, lambda: f"it listens:\n{receiver.log()}")
    for wire in pair.wires:
        wire.begin()
    End(pair.stage, pair.a, "sender", address, str(PORT), str(seconds), congestion)
    deadline_s = seconds + START_S
    until(lambda: not receiver.alive, deadline_s, lambda: f"it ends:\n{receiver.log()}")
    return list(json.loads(receiver.log().splitlines()[-1]))
