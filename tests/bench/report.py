"""What a run found out: the table that is printed, and the JSON beside the plot."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Iterator, Sequence

from tests.bench.aead import processor
from tests.bench.bars import BARS, REFERENCE, Bar, Verdict
from tests.bench.contender import agent_python
from tests.bench.contest import QUANTITIES, Contest
from tests.bench.scale import Peers, Sizes
from tests.bench.series import Series
from tests.lab.keys import give_to_invoker
from tests.system.bed.agents import ROOT
from tests.system.bed.topology import run

DIRECTORY = ROOT / "build" / "bench"
RESULT = DIRECTORY / "bench.json"
TITLE_WIDTH, WIDTH = 34, 18
#: Average load of a machine that does nothing else.
QUIET_LOAD = 0.5
CROWD = {
    "idle_cpu": "all processes, idle, of one processor",
    "memory_idle": "resident memory of the engine, idle",
    "memory_all": "that of all processes, idle",
    "memory_pss": "that, shared pages counted once",
    "memory": "resident memory of the engine, after traffic",
}


class Report:
    """Everything measured; what was left out is None."""

    def __init__(self, contest: Contest | None) -> None:
        self.contest = contest
        #: Of the machine, before anything was started: what else it is busy with.
        self.load_before = os.getloadavg()[0]
        self.sizes: Sizes | None = None
        self.peers: Peers | None = None
        #: Of the router with all its peers, by the names in CROWD.
        self.crowd: dict[str, Series] = {}

    def verdicts(self) -> list[Verdict]:
        return [Verdict(bar, self._measured(bar)) for bar in BARS]

    def _measured(self, bar: Bar) -> Series | None:
        if bar.kind == "crowd":
            return self.crowd.get(bar.quantity)
        if self.contest is None or bar.who not in self.contest.series:
            return None
        if bar.kind == "plain":
            return self.contest.series[bar.who][bar.quantity]
        if bar.kind == "added":
            return self.contest.added_ms().get(bar.who, {}).get(bar.quantity)
        return self.contest.ratios(REFERENCE).get(bar.who, {}).get(bar.quantity)

    # --- shown --------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """Yield the tables, line by line."""
        if self.load_before > QUIET_LOAD:
            yield ""
            yield f"The machine had a load of {self.load_before:.1f} before: the figures are noisy."
        if self.contest is not None:
            yield from self._figures(self.contest)
            for reference in ("wireguard", "bare"):
                yield from self._ratios(self.contest, reference)
            yield from self._added(self.contest)
            for name, lost in self.contest.lost_pings.items():
                if lost:
                    yield f"{name}: {lost} pings without an answer, each counted as 1 s"
            yield from self.contest.ceilings()
        if self.sizes is not None:
            yield from self._sizes(self.sizes)
        if self.peers is not None:
            yield from self._peers(self.peers)
        if self.crowd:
            yield ""
            yield "router with 4 links and 10 peers"
            for name, series in self.crowd.items():
                yield f"  {CROWD[name]:40}{series} {series.unit}"
        yield ""
        for verdict in self.verdicts():
            yield str(verdict)

    def _figures(self, contest: Contest) -> Iterator[str]:
        yield from _head("medians, and lowest to highest", contest)
        for what, (unit, title) in QUANTITIES.items():
            row = [series[what] for series in contest.series.values()]
            if any(row):
                yield from _row(f"{title}, {unit}", row)

    def _ratios(self, contest: Contest, reference: str) -> Iterator[str]:
        ratios = contest.ratios(reference)
        if not ratios:
            return
        yield from _head(f"ratio to {reference} in each round", contest)
        for what, (_, title) in QUANTITIES.items():
            row = [ratios.get(name, {}).get(what) for name in contest.series]
            if any(row):
                yield from _row(title, row)

    def _added(self, contest: Contest) -> Iterator[str]:
        added = contest.added_ms()
        if not added:
            return
        yield from _head("ms beyond the bare link, each round", contest)
        for what, (unit, title) in QUANTITIES.items():
            row = [added.get(name, {}).get(what) for name in contest.series]
            if unit == "ms" and any(row):
                yield from _row(title, row)

    def _sizes(self, sizes: Sizes) -> Iterator[str]:
        yield ""
        yield "UDP loss-free, packets/s by bytes of payload"
        yield " " * TITLE_WIDTH + "".join(f"{name:>{WIDTH}}" for name in sizes.packets)
        for size in next(iter(sizes.packets.values())):
            cells = "".join(f"{row[size]:>{WIDTH}.0f}" for row in sizes.packets.values())
            yield f"{size:>6} B".ljust(TITLE_WIDTH) + cells

    def _peers(self, peers: Peers) -> Iterator[str]:
        yield ""
        yield "TCP of clients to one router over 4 links, all on the processors of one machine"
        yield f"{'at once':>8}{'together, Mbit/s':>26}{'slowest/fastest':>26}{'router, s/GB':>26}"
        for clients, series in peers.series.items():
            total, even, cpu = (series[name] for name in ("total", "evenness", "router_cpu"))
            yield f"{clients:>8}{_cell(total):>26}{_cell(even):>26}{_cell(cpu):>26}"

    # --- kept ---------------------------------------------------------------------------------

    def document(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what goes into the JSON."""
        document: dict[str, Any] = {
            "machine": {
                "kernel": platform.release(),
                "processors": os.cpu_count(),
                "processor": processor(),
                "python_of_agents": run([agent_python(), "--version"]).split()[-1],
                "load_before": self.load_before,
            },
            "options": options,
        }
        if self.contest is not None:
            document.update(self._contest_report(self.contest))
        document["scale"] = {
            "sizes": self.sizes.report() if self.sizes else None,
            "peers": self.peers.report() if self.peers else None,
        }
        document["crowd"] = {name: series.report() for name, series in self.crowd.items()}
        document["bars"] = [verdict.report() for verdict in self.verdicts()]
        return document

    def _contest_report(self, contest: Contest) -> dict[str, Any]:
        def all_of(table: dict[str, dict[str, Series]]) -> dict[str, Any]:
            return {
                name: {what: series.report() for what, series in row.items() if series}
                for name, row in table.items()
            }

        return {
            "rounds": contest.effort.rounds,
            "quantities": {what: title for what, (_, title) in QUANTITIES.items()},
            "programs": {one.name: one.program for one in contest.contenders},
            "titles": {one.name: one.title for one in contest.contenders},
            "figures": all_of(contest.series),
            "ratios": {
                reference: all_of(contest.ratios(reference)) for reference in ("wireguard", "bare")
            },
            "added_ms": all_of(contest.added_ms()),
            "lost_pings": contest.lost_pings,
            "remarks": contest.ceilings(),
        }


def _head(title: str, contest: Contest) -> Iterator[str]:
    yield ""
    yield f"{title:{TITLE_WIDTH}}" + "".join(f"{one.name:>{WIDTH}}" for one in contest.contenders)


def _row(title: str, row: Sequence[Series | None]) -> Iterator[str]:
    """Yield a line of medians, and one of spreads where there is more than one round."""
    yield f"{title:{TITLE_WIDTH}}" + "".join(f"{series or '-'!s:>{WIDTH}}" for series in row)
    if any(series and len(series.values) > 1 for series in row):
        spreads = (series.spread if series else "" for series in row)
        yield " " * TITLE_WIDTH + "".join(f"{spread:>{WIDTH}}" for spread in spreads)


def _cell(series: Series) -> str:
    return f"{series} ({series.spread})" if len(series.values) > 1 else str(series)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a result, and leave it to whoever called for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    give_to_invoker(path.parent.parent, path.parent, path)
