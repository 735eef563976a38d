"""Compare ropeway with a bare link, wireguard-go and OpenVPN, all in namespaces in one run.

Absolute figures are this machine's; what can be compared across machines are the ratios, taken
round by round, and the spread over the rounds says how far they can be trusted. Agents,
wireguard-go and OpenVPN run at niceness -10, the traffic at 0, what pings at -15. A UDP rate is
loss-free if at most 0.1 % is lost in one of two tries of a second; rates are tried in steps of
6 %. Results are in build/bench/: bench.json, bench.png, soak.json. It takes 15 to 20 minutes on a
machine that does nothing else. Nothing measured makes the command fail.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from typing import Any

from tests.bench import gauge
from tests.bench.bars import AWAKE, ROUTED
from tests.bench.contender import (
    AwakeRopeway,
    Contender,
    OpenVpn,
    Ropeway,
    RoutedRopeway,
    WireGuard,
    agent_python,
    sweep_sockets,
)
from tests.bench.contest import Contest, say
from tests.bench.crowd import LoadedCrowd
from tests.bench.report import RESULT, Report, write
from tests.bench.scale import Peers, Sizes
from tests.bench.series import Series
from tests.bench.soak import Soak
from tests.system.bed.agents import ROOT
from tests.system.bed.crowd import Crowd
from tests.system.bed.stage import Stage
from tests.system.bed.topology import sweep

KINDS: tuple[type[Contender], ...] = (Contender, WireGuard, OpenVpn)
LINKS = (1, 2, 4)
CPU_LATENCY = "/dev/cpu_dma_latency"
NAMES = [*(kind.name for kind in KINDS), *(f"ropeway-{links}" for links in LINKS), ROUTED, AWAKE]
#: Those that are compared by the size of packets too.
SIZED = ("bare", "wireguard", "ropeway-2")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round of each, to try things"
    )
    parser.add_argument(
        "--only",
        metavar="NAME,...",
        type=lambda text: text.split(","),
        default=NAMES,
        help=f"what to compare, of {', '.join(NAMES)}; leaves out how it grows",
    )
    parser.add_argument(
        "--scale",
        action="store_true",
        help="only how it grows with the size of packets and peers, idle time and memory",
    )
    parser.add_argument(
        "--idle",
        action="store_true",
        help="only idle time and memory of a router with 4 links and 10 peers; needs no iperf3",
    )
    parser.add_argument(
        "--soak",
        metavar="SECONDS",
        type=int,
        help="only a steady load on a router with 4 links and 10 peers, watching its memory",
    )
    parser.add_argument(
        "--rate",
        metavar="MBIT/S",
        type=float,
        default=60.0,
        help="UDP of the soak, of all peers together (default: %(default)g)",
    )
    parser.add_argument("--encapsulation", choices=("secure", "classic"), default="secure")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.only if name not in NAMES]
    if unknown:
        parser.error(f"unknown to --only: {', '.join(unknown)}")
    return chosen


class Theatre:
    """The stages that a run plays on, each with files of its own, for hosts of one name."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def stage(self) -> Stage:
        self.stages.append(Stage())
        return self.stages[-1]

    def show_logs(self) -> None:
        for stage in self.stages:
            stage.show_logs()

    def close(self) -> None:
        for stage in self.stages:
            stage.close()

    def contenders(self, names: list[str], encapsulation: str) -> list[Contender]:
        """Make what is compared, in the order in which it is shown."""
        plain = [kind(self.stage()) for kind in KINDS if kind.name in names]
        links = [links for links in LINKS if f"ropeway-{links}" in names]
        ropeways = [Ropeway(self.stage(), count, encapsulation) for count in links]
        if ROUTED in names:
            ropeways.append(RoutedRopeway(self.stage(), encapsulation))
        if AWAKE in names and os.access(CPU_LATENCY, os.W_OK):
            ropeways.append(AwakeRopeway(self.stage(), 2, encapsulation))
        elif AWAKE in names:
            say(f"{AWAKE} is left out: this machine's {CPU_LATENCY} cannot be written")
        return [*plain, *ropeways]


def missing(names: list[str]) -> list[str]:
    """Return what has to be installed first."""
    needed = {**Contender.programs, **Ropeway.programs}
    for kind in KINDS:
        if kind.name in names:
            needed.update(kind.programs)
    return [f"{program}: apt install {needed[program]}" for program in needed if not _is(program)]


def _is(program: str) -> bool:
    return shutil.which(program) is not None


def bench(theatre: Theatre, chosen: argparse.Namespace) -> None:
    """Run it all and write the result."""
    effort = gauge.QUICK if chosen.quick else gauge.FULL
    names = [name for name in NAMES if name in chosen.only]
    everybody = chosen.only == NAMES
    if chosen.scale:
        names = [name for name in SIZED if name in names]
    ways = theatre.contenders(names, chosen.encapsulation)
    report = Report(None if chosen.scale else Contest(ways, effort))
    for way in ways:
        say(f"starting {way.title}")
        way.start()
    try:
        if report.contest is not None:
            report.contest.run()
        if everybody and (chosen.scale or not chosen.quick):
            report.sizes = Sizes([way for way in ways if way.name in SIZED], effort)
            report.sizes.run()
            crowd(theatre.stage(), chosen.encapsulation, effort, report)
    finally:
        # What a run that was cut short has found out so far is worth something too.
        for line in report.lines():
            say(line)
    write(RESULT, report.document(_record(chosen)))
    say(f"\nWritten to {RESULT.relative_to(ROOT)}.")
    plot(report.document(_record(chosen)))


def crowd(stage: Stage, encapsulation: str, effort: gauge.Effort, report: Report) -> None:
    """Measure a router with many peers: idle, and serving several at once."""
    say("starting a router with 4 links and 10 peers")
    many = LoadedCrowd(stage, encapsulation)
    many.start()
    idle(many, effort, report)
    report.peers = Peers(many, effort)
    report.peers.run()
    report.crowd["memory"] = Series("MiB", [many.memory_mib()])


def rest(stage: Stage, chosen: argparse.Namespace) -> None:
    """Measure that alone, and say how it compares with the bars."""
    report = Report(None)
    quiet = Crowd(stage, chosen.encapsulation, agent_python())
    quiet.start()
    idle(quiet, gauge.QUICK if chosen.quick else gauge.FULL, report)
    for line in report.lines():
        say(line)


def idle(crowd: Crowd, effort: gauge.Effort, report: Report) -> None:
    """Measure what a router takes that has nothing to do."""
    say(f"idle for {effort.idle_s:.0f} s")
    found = crowd.idle(effort.idle_s)
    say(str(found))
    report.crowd["idle_cpu"] = Series("%", [sum(found.cpu.values()) * 100])
    report.crowd["memory_idle"] = Series("MiB", [found.rss_kib["engine"] / 1024])
    report.crowd["memory_all"] = Series("MiB", [sum(found.rss_kib.values()) / 1024])
    report.crowd["memory_pss"] = Series("MiB", [sum(found.pss_kib.values()) / 1024])


def plot(document: dict[str, Any]) -> None:
    """Draw the result where matplotlib is here."""
    try:
        from tests.bench.plot import draw
    except ImportError as error:
        say(f"No plot ({error}): make bench installs what it needs.")
        return
    path = RESULT.with_suffix(".png")
    draw(document, path)
    say(f"Drawn in {path.relative_to(ROOT)}.")


def _record(chosen: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(chosen).items() if value not in (None, False)}


def main() -> int:
    """Check what is needed, run, and leave nothing behind."""
    chosen = options()
    if os.geteuid():
        print("The benchmark makes network namespaces: run it as root.", file=sys.stderr)
        return 1
    lacking = [] if chosen.idle else missing([] if chosen.soak else chosen.only)
    if lacking:
        print("The benchmark needs " + ", ".join(lacking), file=sys.stderr)
        return 1
    sweep()
    sweep_sockets()
    # As an interrupt from the keyboard, so that nothing is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    theatre = Theatre()
    try:
        if chosen.soak:
            Soak(theatre.stage(), chosen.encapsulation, chosen.rate).run(chosen.soak)
        elif chosen.idle:
            rest(theatre.stage(), chosen)
        else:
            bench(theatre, chosen)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        theatre.show_logs()
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        theatre.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
