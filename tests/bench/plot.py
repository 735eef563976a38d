"""Draw a result: `python -m tests.bench.plot [build/bench/bench.json]` makes a PNG beside it.

Needs matplotlib, .config/requirements/bench.txt.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from tests.bench.bars import WHO
from tests.bench.report import RESULT
from tests.bench.series import number
from tests.lab.keys import give_to_invoker

COLOURS = {
    "bare": "#9a9a9a",
    "wireguard": "#88498f",
    "openvpn": "#e07a1f",
    "ropeway-1": "#9cc5e8",
    "ropeway-2": "#3f88c5",
    "ropeway-4": "#1b4f80",
    "ropeway-2-routed": "#c1549c",
    "ropeway-2-awake": "#2a9d8f",
}
#: Room above what a panel is about; what is higher, the bare link, is cut off there.
HEADROOM = 1.25
LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
#: Quantities of a panel, its title and its unit.
PANELS = (
    (("tcp",), "TCP goodput", "Mbit/s"),
    (("udp_1200",), "UDP loss-free, 1200 B", "Mbit/s"),
    (("udp_200",), "UDP loss-free, 200 B", "packets/s"),
    (("idle_p50", "idle_p99", "idle_p999"), "round trip, idle", "ms"),
    (("load_p50", "load_p99", "load_p999"), "round trip beside bulk TCP", "ms"),
    (("cpu",), "processor time in TCP, both ends", "s/GB"),
    (("memory",), "resident memory, one end", "MiB"),
)
PERCENTILES = {"p50": "p50", "p99": "p99", "p999": "p99.9"}


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw all panels into one PNG."""
    figure = Figure(figsize=(15, 12), layout="constrained")
    FigureCanvasAgg(figure)
    places = iter(figure.subplots(3, 3).flat)
    for quantities, title, unit in PANELS:
        place = next(places)
        place.set_title(title)
        place.set_ylabel(unit)
        if len(quantities) == 1:
            _bars(place, document, quantities[0])
        else:
            _groups(place, document, quantities)
    _sizes(next(places), document)
    _peers(next(places), document)
    machine = document["machine"]
    figure.suptitle(
        f"{machine['processors']} processors ({machine['processor']}), Linux {machine['kernel']}, "
        f"Python {machine['python_of_agents']}\n"
        "medians; lines reach from the lowest to the highest round"
    )
    figure.savefig(path, dpi=100)
    give_to_invoker(path)


def _errors(series: list[dict[str, Any]]) -> list[list[float]]:
    """Return how far the lowest and the highest are from the median."""
    return [
        [one["median"] - one["min"] for one in series],
        [one["max"] - one["median"] for one in series],
    ]


def _bars(place: Any, document: dict[str, Any], what: str) -> None:
    """One bar a contender."""
    rows = {n: row[what] for n, row in document.get("figures", {}).items() if what in row}
    series = list(rows.values())
    heights = [one["median"] for one in series]
    colours = [COLOURS.get(name) for name in rows]
    if not rows:
        place.set_visible(False)
        return
    place.bar(list(rows), heights, yerr=_errors(series), color=colours, capsize=4)
    top = HEADROOM * max((one["max"] for n, one in rows.items() if n != "bare"), default=heights[0])
    place.set_ylim(0, top)
    for at, height in enumerate(heights):
        cut = height > top
        text = number(height) + (" \u2191" if cut else "")
        place.text(at, top * 0.02, text, ha="center", va="bottom", fontsize=8, bbox=LABEL)
    place.tick_params(axis="x", rotation=20)


def _groups(place: Any, document: dict[str, Any], quantities: tuple[str, ...]) -> None:
    """Bars in groups by percentile, on a logarithmic scale."""
    rows = {
        name: [row[what] for what in quantities]
        for name, row in document.get("figures", {}).items()
        if quantities[0] in row
    }
    width = 0.8 / max(1, len(rows))
    for place_in_group, (name, series) in enumerate(rows.items()):
        aside = (place_in_group - (len(rows) - 1) / 2) * width
        at = [group + aside for group in range(len(series))]
        heights = [one["median"] for one in series]
        place.bar(
            at, heights, width, yerr=_errors(series), color=COLOURS.get(name), label=name, capsize=2
        )
    place.set_yscale("log")
    for axis in (place.yaxis.set_major_formatter, place.yaxis.set_minor_formatter):
        axis(FuncFormatter(lambda value, _: f"{value:g}"))
    place.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    place.set_xticks(range(len(quantities)))
    place.set_xticklabels([PERCENTILES[what.rpartition("_")[2]] for what in quantities])
    place.set_visible(bool(rows))
    if rows:
        place.legend(fontsize=8)


def _sizes(place: Any, document: dict[str, Any]) -> None:
    rows = document["scale"]["sizes"] or {}
    place.set_visible(bool(rows))
    place.set_title("UDP loss-free by size")
    place.set_xlabel("bytes of payload")
    place.set_ylabel("packets/s")
    for name, row in rows.items():
        sizes = [int(size) for size in row]
        place.plot(sizes, list(row.values()), marker="o", color=COLOURS.get(name), label=name)
    others = [max(row.values()) for name, row in rows.items() if name != "bare"]
    if others:
        place.set_ylim(0, HEADROOM * max(others))
        place.legend(fontsize=8)


def _peers(place: Any, document: dict[str, Any]) -> None:
    place.set_title("TCP of several clients to one router, 4 links")
    place.set_xlabel("clients at once")
    place.set_ylabel("Mbit/s, all together")
    peers = document["scale"]["peers"] or {}
    place.set_visible(bool(peers))
    series = [row["total"] for row in peers.values()]
    heights = [one["median"] for one in series]
    place.bar(list(peers), heights, yerr=_errors(series), color=COLOURS[WHO], capsize=4)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plot", description=__doc__)
    parser.add_argument("result", nargs="?", type=Path, default=RESULT, help="the JSON")
    result = parser.parse_args().result
    draw(json.loads(result.read_text(encoding="utf-8")), result.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
