"""What parity frames gain and cost, over links that lose and beside links that are capped."""

from __future__ import annotations

import concurrent.futures
from typing import List, NamedTuple, Sequence, Tuple

from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.emulator.compare import HEADINGS, be_nice, row, table
from tests.emulator.flow import DEADLINE_MS, Flow
from tests.emulator.pair import EmulatedPair

RATE_KBIT = 2000.0
#: Packets that a parity frame covers; 0 for none.
COVERED = (0, 4, 8, 16)


class Plan(NamedTuple):
    """Links as :mod:`tests.emulator.spec` reads them, and the modes that are tried over them."""

    name: str
    links: Tuple[str, ...]
    modes: Tuple[Mode, ...]


_ALONE = (Mode.SINGLE,)
_BOTH = (Mode.SINGLE, Mode.ADAPTIVE)
PLANS = (
    Plan("one link that loses 2 %", ("rtt_ms=40,loss=0.02",), _ALONE),
    Plan("one link that loses 5 %", ("rtt_ms=40,loss=0.05",), _ALONE),
    Plan("one link that loses 10 %", ("rtt_ms=40,loss=0.1",), _ALONE),
    Plan("one link that loses 5 % in bursts of 3", ("rtt_ms=40,loss=0.05,burst=3",), _ALONE),
    Plan("1 % lost, beside 1 Mbit/s", ("rtt_ms=40,loss=0.01", "rtt_ms=60,rate_kbit=1000"), _BOTH),
    Plan("1 % lost, beside 8 Mbit/s", ("rtt_ms=40,loss=0.01", "rtt_ms=60,rate_kbit=8000"), _BOTH),
)


def flow(links: Sequence[str], mode: Mode, covered: int, seconds: float) -> Flow:
    """Send a flow of one class with parity, or without it."""
    classes = (TrafficClass("all", Match(), mode, parity=covered),)
    return EmulatedPair(links, classes=classes).stream(RATE_KBIT, duration_s=seconds)


def rows(plan: Plan, seconds: float, jobs: int) -> List[Sequence[str]]:
    """Return a line for each mode and number of covered packets, under HEADINGS."""
    work = [(mode, covered) for mode in plan.modes for covered in COVERED]
    arguments = [(plan.links, mode, covered, seconds) for mode, covered in work]
    if jobs == 1:
        flows = [flow(*one) for one in arguments]
    else:
        with concurrent.futures.ProcessPoolExecutor(jobs, initializer=be_nice) as pool:
            flows = list(pool.map(flow, *zip(*arguments)))
    names = [f"{mode.value}, {covered or 'none'}" for mode, covered in work]
    # No second is told apart as a quiet one.
    return [row(name, one, DEADLINE_MS, set())[:-1] for name, one in zip(names, flows)]


def make(seconds: float, jobs: int) -> None:
    """Run everything, and print a table of each plan as Markdown."""
    for plan in PLANS:
        print(f"**{plan.name}**: {' and '.join(plan.links)}\n")
        print(table([HEADINGS[:-1], *rows(plan, seconds, jobs)], markdown=True) + "\n", flush=True)
