"""The demonstration at the end of `make lab`: links are cut under a steady stream of packets.

Both directions between two clients that share no LAN are measured at once, first over the rope,
while each link in turn is cut and mended, then over one link alone, for contrast.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from . import agents, process, progress
from .errors import LabError
from .keys import give_to_invoker
from .lab import Lab
from .stream import Result, Stream, finish, flowing

RATE = 1000
PINGS = 20
CUT_AT_LEAST_S = 1.0
# How long the stream flows undisturbed before, between and after the cuts.
BETWEEN_CUTS_S = 0.5
NOTICE_LIMIT_S = 20.0
STREAM_LIMIT_S = 300.0

Link = Tuple[str, str]


@dataclass
class Cut:
    """One cut: its times in seconds, None where it was not seen in time."""

    host: str
    lan: str
    manner: str
    began_ns: int  # CLOCK_MONOTONIC, as the probe's packets have it
    lasted_s: float
    noticed_s: Optional[float]  # until one of its ends no longer counted on the link
    mended_s: float  # from the mending until the link carried traffic again
    ended_ns: int


@dataclass
class Measurement:
    """A stream each way, and what was done to the links meanwhile."""

    title: str
    results: List[Result]
    cuts: List[Cut]


class Demo:
    """The demonstration on a lab whose agents are deployed."""

    def __init__(self, lab: Lab, source: str, target: str, *, router_ends: bool = True) -> None:
        self.lab = lab
        self.ends = (lab.machine(source), lab.machine(target))
        self.router_ends = router_ends
        self.addresses: Dict[str, str] = {}

    def run(self) -> bool:
        """Show and measure everything, write demo.json; whether nothing was lost or duplicated."""
        self._show_status()
        ping = self._ping()
        with progress.step(f"{RATE} packets/s each way over the rope, each link cut in turn"):
            rope = self._measure("all links", self._schedule())
        with self._single_link() as single:
            what = ", ".join(f"{host}-{lan}" for host, lan in single)
            with progress.step(f"The same over single links, {what}, for contrast"):
                bare = self._measure("single link", [(*link, "silent") for link in single])
        measurements = [rope, bare]
        print(table(measurements))
        self._write(measurements, ping)
        for line in findings(rope):
            progress.say(line)
        if not any(result.lost for result in bare.results):
            raise LabError("Over a single link nothing was lost either: the cuts did not cut.")
        whole = all(r.lost == 0 and r.duplicated == 0 for r in rope.results)
        if whole:
            progress.say(f"0 lost, 0 duplicated over {len(rope.cuts)} cuts and restores")
        return whole

    def _show_status(self) -> None:
        for machine in self.lab.machines.values():
            process.wait_for(
                lambda machine=machine: agents.answers(machine),  # type: ignore[misc]
                what=f"The agent of {machine.name} answering",
                timeout_s=agents.SETTLE_LIMIT_S,
            )
            self.addresses[machine.name] = agents.status(machine)["address"]
        with progress.step("Waiting until every link carries traffic"):
            agents.wait_all_carry(self.lab)
        for machine in self.lab.machines.values():
            print(f"\n{machine.name}: ropeway status")
            print(machine.run(["ropeway", "status"]).stdout.rstrip(), flush=True)
        print()

    def _ping(self) -> str:
        source, target = self.ends
        address = self.addresses[target.name]
        progress.say(f"ping {source.name} -> {target.name} ({address}), {PINGS} times")
        count = ["-c", str(PINGS), "-i", "0.1", "-W", "5"]
        output = source.run(["ping", "-n", "-q", *count, address], check=False).stdout
        print(output, flush=True)
        if " 0% packet loss" not in output:
            raise LabError(f"{source.name} can't ping {target.name} at {address} without loss.")
        return output

    def _schedule(self) -> List[Tuple[str, str, str]]:
        ends = [machine.host for machine in self.ends]
        clients = [(h.name, lan, "silent") for h in ends for lan in h.interfaces.values()]
        routers = [
            (host.name, lan, "carrier")
            for host in self.lab.topology.hosts.values()
            if host not in ends
            for lan in host.interfaces.values()
        ]
        return clients + (routers if self.router_ends else [])

    @contextlib.contextmanager
    def _single_link(self) -> Iterator[List[Link]]:
        kept, cut = [], []
        for machine in self.ends:
            first, *others = machine.host.interfaces.values()
            kept.append((machine.name, first))
            cut += [(machine.name, lan) for lan in others]
        try:
            for host, lan in cut:
                self.lab.cut(host, lan)
            for host, lan in cut:
                process.wait_for(
                    lambda host=host, lan=lan: agents.given_up(self.lab, host, lan),  # type: ignore[misc]
                    what=f"{host} giving up its link to {lan}",
                    timeout_s=agents.SETTLE_LIMIT_S,
                    poll_s=agents.STATUS_POLL_S,
                )
            yield kept
        finally:
            for host, lan in cut:
                self.lab.restore(host, lan)
        agents.wait_all_carry(self.lab)

    def _measure(self, title: str, schedule: Sequence[Tuple[str, str, str]]) -> Measurement:
        there, back = self.ends
        streams = [
            Stream(a, b, self.addresses[b.name], rate=RATE, limit_s=STREAM_LIMIT_S)
            for a, b in ((there, back), (back, there))
        ]
        cuts = []
        with flowing(streams):
            began = time.monotonic()
            for host, lan, manner in schedule:
                time.sleep(BETWEEN_CUTS_S)
                cut = self._cut(host, lan, manner)
                cuts.append(cut)
                noticed = "not noticed"
                if cut.noticed_s is not None:
                    noticed = f"given up after {cut.noticed_s:.1f} s"
                progress.say(
                    f"{host}-{lan} cut ({manner}) for {cut.lasted_s:.1f} s: {noticed}, "
                    f"carries again {cut.mended_s:.1f} s after it was mended"
                )
            time.sleep(BETWEEN_CUTS_S)
            if time.monotonic() - began > STREAM_LIMIT_S:
                raise LabError(f"The cuts took longer than the stream of {STREAM_LIMIT_S:.0f} s.")
            results = finish(streams)
        return Measurement(title, results, cuts)

    def _cut(self, host: str, lan: str, manner: str) -> Cut:
        noticed_s: Optional[float] = None
        began_ns = time.monotonic_ns()

        def passed_s() -> float:
            return (time.monotonic_ns() - began_ns) / 1e9

        try:
            self.lab.cut(host, lan, manner)
            while passed_s() < CUT_AT_LEAST_S or (
                noticed_s is None and passed_s() < NOTICE_LIMIT_S
            ):
                if noticed_s is None and agents.given_up(self.lab, host, lan):
                    noticed_s = passed_s()
                time.sleep(agents.STATUS_POLL_S)
        finally:
            self.lab.restore(host, lan)
        lasted_s = passed_s()
        agents.wait_carries(self.lab, host, lan)
        mended_s = passed_s() - lasted_s
        ended_ns = time.monotonic_ns()
        return Cut(host, lan, manner, began_ns, lasted_s, noticed_s, mended_s, ended_ns)

    def _write(self, measurements: Sequence[Measurement], ping: str) -> None:
        report: Dict[str, Any] = {
            "rate": RATE,
            "ping": ping.splitlines(),
            "measurements": [dataclasses.asdict(measurement) for measurement in measurements],
        }
        file = self.lab.build / "demo.json"
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        give_to_invoker(file)
        progress.say(f"Written: {file}")


def table(measurements: Sequence[Measurement]) -> str:
    """What was measured, a line per direction, latencies in milliseconds."""
    titles = "over|direction|cuts|sent|received|lost|duplicated|p50 ms|p99 ms|max ms"
    rows = [titles.split("|")]
    for measurement in measurements:
        for result in measurement.results:
            latency = result.latency_ms or {}
            counts = (len(measurement.cuts), result.sent, result.received, result.lost)
            row = [measurement.title, f"{result.source} -> {result.target}"]
            row += [str(count) for count in (*counts, result.duplicated)]
            row += [f"{latency[k]:.2f}" if k in latency else "-" for k in ("p50", "p99", "max")]
            rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:], ""])


def findings(measurement: Measurement) -> List[str]:
    """Where packets went missing, each gap with the cut during which its packets were sent."""
    found = []
    for result in measurement.results:
        who = f"{result.source} -> {result.target}"
        for verb, runs in (("lost", result.missing), ("duplicated", result.repeated)):
            for run in runs:
                when = _when(run["after_ns"], measurement.cuts)
                found.append(f"{who}: {run['count']} {verb} from number {run['first']}, {when}")
        if result.receiver["overflowed"]:
            found.append(f"{who}: the receiver itself dropped {result.receiver['overflowed']}")
        if result.sender["skipped_s"]:
            found.append(f"{who}: the sender did not run for {result.sender['skipped_s']:.2f} s")
    return found


def _when(sent_ns: int, cuts: Sequence[Cut]) -> str:
    for cut in cuts:
        if cut.began_ns <= sent_ns <= cut.ended_ns:
            at_s = (sent_ns - cut.began_ns) / 1e9
            return f"{at_s:.2f} s after {cut.host}-{cut.lan} was cut ({cut.manner})"
    return "outside of any cut"
