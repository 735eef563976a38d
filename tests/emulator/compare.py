"""One flow over each link alone and over all of them in each mode, side by side."""

from __future__ import annotations

import concurrent.futures
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

from ropeway.app.config.classes import RECOMMENDED, classes_of
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.emulator.flow import DEADLINE_MS, LOST, Flow
from tests.emulator.pair import EmulatedPair
from tests.emulator.spec import parse

HOLD_MS = 200


def _everything(mode: Mode) -> TrafficClass:
    return TrafficClass("all", Match(), mode, hold_ms=HOLD_MS if mode is Mode.SPREAD else 0)


#: Classes that hold all packets in one mode. Without any, all links carry all.
MODES: Dict[str, Tuple[TrafficClass, ...]] = {
    mode.value: () if mode is Mode.REDUNDANT else (_everything(mode),) for mode in Mode
}
#: What both nodes may have.
CLASSES = {**MODES, RECOMMENDED: classes_of(RECOMMENDED)}
#: A second is quiet if every link alone is in time in it, and was for so long before.
QUIET_S = 5


@dataclass(frozen=True)
class Plan:
    """What is sent over what; ``rate_kbit`` counts IP packets of ``size`` bytes."""

    name: str
    #: As :mod:`tests.emulator.spec` reads them.
    links: Tuple[str, ...]
    rate_kbit: float
    seconds: float
    size: int = 1000
    dscp: int = 0
    port: int = 5004
    back: bool = False
    seed: int = 1
    deadline_ms: float = DEADLINE_MS


@dataclass(frozen=True)
class Result:
    """What became of a plan."""

    plan: Plan
    #: By the links' names, numbered.
    alone: Dict[str, Flow]
    modes: Dict[str, Flow]

    @property
    def flows(self) -> Dict[str, Flow]:
        return {**self.alone, **self.modes}

    @property
    def quiet(self) -> Set[int]:
        """The seconds in which, and QUIET_S before which, no link alone is late."""
        missed = set().union(
            *(flow.missed_seconds(self.plan.deadline_ms) for flow in self.alone.values())
        )
        return {
            second
            for second in range(int(self.plan.seconds))
            if missed.isdisjoint(range(second - QUIET_S, second + 1))
        }

    def figures(self) -> Dict[str, Any]:
        """Return everything for JSON."""
        quiet = self.quiet
        return {
            **vars(self.plan),
            "quiet_s": len(quiet),
            "flows": {
                name: {
                    **flow.figures(self.plan.deadline_ms),
                    "quiet_cost": flow.cost_within(quiet),
                    "late": _late(flow),
                }
                for name, flow in self.flows.items()
            },
        }

    def rows(self) -> List[Sequence[str]]:
        """Return a line for each flow, under HEADINGS."""
        quiet, deadline_ms = self.quiet, self.plan.deadline_ms
        return [row(name, flow, deadline_ms, quiet) for name, flow in self.flows.items()]


HEADINGS = ("", "lost", "p50 ms", "p99 ms", "p99.9 ms", "missed", "gap ms", "cost", "quiet")


def row(name: str, flow: Flow, deadline_ms: float, quiet: Set[int]) -> Sequence[str]:
    """Return a line for a flow, under HEADINGS."""
    percentiles = (flow.percentile_ms(share) for share in (0.5, 0.99, 0.999))
    quiet_cost = flow.cost_within(quiet)
    return (
        name,
        f"{flow.lost}",
        *("lost" if ms == LOST else f"{ms:.1f}" for ms in percentiles),
        f"{flow.misses(deadline_ms)}",
        f"{flow.longest_gap_ms:.0f}",
        f"{flow.cost:.3f}",
        "-" if quiet_cost is None else f"{quiet_cost:.3f}",
    )


#: Latencies in ms for which it is kept which share of the packets took longer: 1 ms to 10 s.
LATE_MS = tuple(round(10 ** (step / 20), 2) for step in range(81))


def _late(flow: Flow) -> List[float]:
    """Return the share of packets that took longer than each of LATE_MS, or were lost."""
    latencies = sorted(flow.latencies_ms)
    shares, within = [], 0
    for limit_ms in LATE_MS:
        while within < len(latencies) and latencies[within] <= limit_ms:
            within += 1
        shares.append(round(1 - within / len(latencies), 7))
    return shares


def run(plan: Plan, modes: Iterable[str], jobs: int = 1) -> Result:
    """Run a plan, so many of its flows at a time in processes of their own."""
    names = {f"{number + 1} {parse(text)[0].name}": text for number, text in enumerate(plan.links)}
    alone = [(plan, (text,), "redundant") for text in names.values()]
    modes = list(modes)
    work = alone + [(plan, plan.links, mode) for mode in modes]
    if jobs == 1:
        flows = [_flow(*one) for one in work]
    else:
        with concurrent.futures.ProcessPoolExecutor(jobs, initializer=be_nice) as pool:
            flows = list(pool.map(_flow, *zip(*work)))
    return Result(plan, dict(zip(names, flows)), dict(zip(modes, flows[len(names) :])))


def be_nice() -> None:
    """Let others go first."""
    os.nice(5)


def _flow(plan: Plan, links: Sequence[str], mode: str) -> Flow:
    pair = EmulatedPair(links, plan.seed, classes=CLASSES[mode])
    return pair.stream(plan.rate_kbit, plan.size, plan.seconds, plan.dscp, plan.port, plan.back)


def table(rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Return rows as text in columns, the first one to the left; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ]
        for line in rows
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
