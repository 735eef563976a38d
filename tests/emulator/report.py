"""All modes over real and over flawed links: tables, JSON, and a plot.

The rides are traces of real links, the flaws one bad link beside a good one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from tests.emulator import trace
from tests.emulator.compare import HEADINGS, LATE_MS, Plan, Result, run, table

DIRECTORY = Path(__file__).resolve().parents[2] / "build" / "emulator"
RATES_KBIT = (2000.0, 8000.0)
#: Links that are played together, for as long as the shorter trace lasts.
RIDES = {
    "drive-a": ("drive-a-starlink", "drive-a-verizon"),
    "lte": ("lte-verizon", "lte-tmobile"),
    "rtt": ("rtt-starlink", "rtt-5g-edge"),
}
GOOD = "rtt_ms=40"
FLAW_S = 30.0
FLAW_KBIT = 8000.0
#: The bad link beside GOOD, which would be the quicker one if nothing was wrong.
FLAWS = {
    "5 s of a full queue": "rtt_ms=30,rates=0:20000+10:500+15:20000,queue_ms=5000",
    "half of all lost": "rtt_ms=30,loss=0.5",
    "black hole": "rtt_ms=30,black_hole=10-20",
    "2 Mbit/s for 8": "rtt_ms=30,rate_kbit=2000,queue_ms=2000",
}


def plans(only: Optional[Sequence[str]] = None, longest_s: float = 1e9) -> Iterator[Plan]:
    """Give what is run; ``only`` names rides, or "flaws". Raises TraceAbsent."""
    for name, traces in RIDES.items():
        if only and name not in only:
            continue
        length_s = min(trace.load(one).length_s for one in traces)
        links = tuple(f"trace={one}" for one in traces)
        for rate_kbit in RATES_KBIT:
            title = f"{name}, {rate_kbit / 1000:g} Mbit/s"
            yield Plan(title, links, rate_kbit, float(int(min(length_s, longest_s))))
    if not only or "flaws" in only:
        for name, link in FLAWS.items():
            yield Plan(name, (GOOD, link), FLAW_KBIT, min(FLAW_S, longest_s))


def make(modes: Sequence[str], only: Optional[Sequence[str]], longest_s: float, jobs: int) -> None:
    """Run everything, print a table of each as Markdown, and write report.json."""
    results: List[Result] = []
    for plan in plans(only, longest_s):
        began = time.monotonic()
        result = run(plan, modes, jobs)
        results.append(result)
        took_s = time.monotonic() - began
        packets = len(next(iter(result.flows.values())).sent_at)
        print(f"**{plan.name}**: {packets} packets in {plan.seconds:.0f} s")
        print(f"({len(result.quiet)} s quiet; worked out in {took_s:.0f} s)\n")
        print(table([HEADINGS, *result.rows()], markdown=True) + "\n", flush=True)
    document = {"late_ms": LATE_MS, "results": [result.figures() for result in results]}
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    file = DIRECTORY / "report.json"
    file.write_text(json.dumps(document, indent=1), encoding="ascii")
    print(f"written: {file}")


def draw(document: Dict[str, Any], path: Path) -> None:
    """Draw which share of the packets took longer than so many ms, a panel for each plan."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    results = document["results"]
    across = 2
    down = -(-len(results) // across)
    figure = Figure(figsize=(7 * across, 4 * down), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(down, across, squeeze=False)
    for result, place in zip(results, places.flat):
        place.set_title(result["name"])
        for name, flow in result["flows"].items():
            # The links alone are thin; what is on top matters.
            width = 1.0 if name[0].isdigit() else 2.0
            place.plot(document["late_ms"], flow["late"], label=name, linewidth=width)
        place.axvline(result["deadline_ms"], color="#9a9a9a", linestyle=":")
        place.set_xscale("log")
        place.set_yscale("log")
        place.set_ylim(1e-5, 1)
        place.set_xlabel("ms")
        place.set_ylabel("share of packets later, or lost")
        place.grid(alpha=0.3)
        place.legend(fontsize=8, loc="lower left")
    for place in places.flat[len(results) :]:
        place.set_visible(False)
    figure.savefig(path, dpi=90)


def draw_last() -> Path:
    """Draw what the last report wrote; return where the picture is."""
    document = json.loads((DIRECTORY / "report.json").read_text(encoding="ascii"))
    path = DIRECTORY / "report.png"
    draw(document, path)
    return path
