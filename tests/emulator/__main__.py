"""Emulated links by hand.

``run`` sends one real-time flow between two nodes without sockets, over each link alone and over
all of them, faster than real time, and prints what became of it. Lost packets take for ever in its
percentiles. ``missed`` counts packets that came after the deadline or never, ``gap`` is the longest
time for which nothing new came, ``cost`` all bytes sent as a multiple of one copy of each packet,
and ``quiet`` the same in seconds in which no link alone misses anything, nor in the 5 before.

``report`` does that for rides over real links and for one bad link of two, prints tables, writes
build/emulator/report.json, and with --plot report.png, which needs matplotlib
(.config/requirements/bench.txt).

``parity`` tells what parity frames gain and cost: one for 4, 8 and 16 packets beside none.

``wire`` joins two network namespaces by such a link in real time, as root, until it is interrupted.

``bulk`` does the same with one TCP connection, and tells what it carries.

``keys`` has somebody type over a TCP connection, as over SSH, and tells after how long each key was
echoed.

``recommended`` among the modes are the classes of that name, for packets of all kinds.

``calls`` has a WebRTC call (aiortc, .config/requirements/calls.txt) and an SRT stream
(srt-live-transmit, .config/install-prerequisites calls) pass between two namespaces over the links
of a ride, in real time, as root: through two agents in each mode, and over each link without them.
It prints tables and draws pictures of all that the folder has for that stretch of the ride. A
freeze is more than 200 ms without a new picture, or packet of the stream. It is avoidable if one of
the links could carry the call all the time, and if it is not due to programs that waited for a
processor. ``late`` is the share of all that was captured which was not played within 200 ms.
``cost`` is what went over the links, by what the call sent. ``waited`` is the longest time for
which a program waited for a processor: where it is more than 100 ms, run it again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))

from tests.emulator import compare, parity, report, spec
from tests.emulator.calls import MODES, RATES_KBIT, Missing
from tests.emulator.compare import CLASSES, HEADINGS, Plan, table
from tests.emulator.flow import DEADLINE_MS
from tests.emulator.trace import TraceAbsent

JOBS = 2
#: The modes of ``bulk``.
BULK_MODES = ("redundant", "ordered", "adaptive", "single", "spread", "recommended")


def options(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulator",
        description=__doc__,
        epilog=spec.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="a flow over emulated links, faster than real time")
    run.add_argument("--link", action="append", required=True, metavar="LINK")
    run.add_argument("--mode", action="append", choices=sorted(CLASSES), help="redundant if none")
    run.add_argument("--rate", type=float, default=2000, metavar="KBIT", help="of IP packets")
    run.add_argument("--size", type=int, default=1000, metavar="BYTES", help="of an IP packet")
    run.add_argument("--seconds", type=float, default=60)
    run.add_argument("--dscp", type=int, default=0)
    run.add_argument("--port", type=int, default=5004)
    run.add_argument("--back", action="store_true", help="from the called host to the caller")
    run.add_argument("--deadline", type=float, default=DEADLINE_MS, metavar="MS")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--json", action="store_true")
    told = commands.add_parser("report", help="all modes over rides and flaws, and a plot")
    told.add_argument(
        "--mode", action="append", choices=sorted(CLASSES), help="all but recommended if none"
    )
    told.add_argument("--only", action="append", choices=[*report.RIDES, "flaws"])
    told.add_argument("--seconds", type=float, default=1e9, help="of a ride, at most")
    told.add_argument("--jobs", type=int, default=JOBS, help="processes at a time")
    told.add_argument("--plot", action="store_true")
    covered = commands.add_parser("parity", help="what parity frames gain and cost")
    covered.add_argument("--seconds", type=float, default=60)
    covered.add_argument("--jobs", type=int, default=JOBS, help="processes at a time")
    wire = commands.add_parser("wire", help="a cable between namespaces, in real time")
    wire.add_argument("end", nargs=2, metavar="NETNS:INTERFACE=ADDRESS/LENGTH")
    wire.add_argument("--link", required=True, metavar="LINK", help="out: from the first end")
    wire.add_argument("--seed", type=int, default=1)
    wire.add_argument("--wait", action="store_true", help="perfect until SIGUSR1")
    calls = commands.add_parser("calls", help="a real call and a stream over a ride, in real time")
    calls.add_argument("--trace", choices=[*report.RIDES], default="drive-a", help="the ride")
    calls.add_argument("--seconds", type=float, default=60)
    calls.add_argument(
        "--from",
        type=float,
        dest="from_s",
        metavar="S",
        help="where the links fail most if not given",
    )
    calls.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    calls.add_argument("--kinds", nargs="+", choices=[*RATES_KBIT], default=[*RATES_KBIT])
    calls.add_argument("--out", type=Path, default=report.DIRECTORY / "calls", metavar="FOLDER")
    bulk = commands.add_parser("bulk", help="a TCP connection over emulated links, in real time")
    bulk.add_argument("--link", action="append", required=True, metavar="LINK")
    bulk.add_argument("--mode", action="append", choices=BULK_MODES, help="all if none")
    bulk.add_argument("--seconds", type=float, default=20)
    bulk.add_argument("--congestion", default="cubic", help="what controls the connection's rate")
    bulk.add_argument("--out", type=Path, metavar="FILE", help="bytes by half seconds, as JSON")
    typed = commands.add_parser("keys", help="keys echoed over a TCP connection, in real time")
    typed.add_argument("--link", action="append", required=True, metavar="LINK")
    typed.add_argument("--mode", action="append", choices=BULK_MODES, help="all if none")
    typed.add_argument("--seconds", type=float, default=20)
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> None:
    """Print a line for each link alone and for each mode over all of them."""
    plan = Plan(
        "run",
        tuple(chosen.link),
        chosen.rate,
        chosen.seconds,
        chosen.size,
        chosen.dscp,
        chosen.port,
        chosen.back,
        chosen.seed,
        chosen.deadline,
    )
    began = time.monotonic()
    result = compare.run(plan, chosen.mode or ["redundant"])
    speed = chosen.seconds * len(result.flows) / (time.monotonic() - began)
    if chosen.json:
        print(json.dumps({"speed": round(speed, 2), **result.figures()}))
    else:
        print(table([HEADINGS, *result.rows()]))
        packets = len(next(iter(result.flows.values())).sent_at)
        print(f"{packets} packets each; {speed:.1f} times as fast as real time")


def tell(chosen: argparse.Namespace) -> None:
    """Print, write and draw the report."""
    report.make(chosen.mode or list(compare.MODES), chosen.only, chosen.seconds, chosen.jobs)
    if chosen.plot:
        print(f"drawn: {report.draw_last()}")


def cover(chosen: argparse.Namespace) -> None:
    """Print what parity gains."""
    parity.make(chosen.seconds, chosen.jobs)


def wire(chosen: argparse.Namespace) -> None:
    """Be a cable until interrupted."""
    # It needs pyroute2, which is not on every Python that tests the models.
    from tests.emulator import wire as real

    one, other = map(real.End.parse, chosen.end)
    real.carry((one, other), spec.parse(chosen.link), chosen.seed, chosen.wait)


def calls(chosen: argparse.Namespace) -> None:
    """Run real programs over a ride."""
    from tests.emulator.calls import command

    where = (chosen.trace, chosen.seconds, chosen.from_s)
    command.calls(*where, chosen.kinds, chosen.modes, chosen.out)


def bulk(chosen: argparse.Namespace) -> None:
    """Run a TCP connection over links."""
    from tests.emulator.bulk import command

    command.bulk(
        chosen.link, chosen.mode or BULK_MODES, chosen.seconds, chosen.congestion, chosen.out
    )


def keys(chosen: argparse.Namespace) -> None:
    """Have somebody type over links."""
    from tests.emulator.bulk import keys as command

    command.keys(chosen.link, chosen.mode or BULK_MODES, chosen.seconds)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    chosen = options(arguments)
    try:
        does = {
            "run": run,
            "report": tell,
            "parity": cover,
            "wire": wire,
            "calls": calls,
            "bulk": bulk,
            "keys": keys,
        }
        does[chosen.command](chosen)
    except (spec.SpecWrong, TraceAbsent, Missing) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
