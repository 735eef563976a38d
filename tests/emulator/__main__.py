"""Emulated links by hand.

``run`` sends one real-time flow between two nodes without sockets, over each link alone and over
all of them, faster than real time, and prints what became of it. Lost packets take for ever in its
percentiles. ``missed`` counts packets that came after the deadline or never, ``gap`` is the longest
time for which nothing new came, and ``cost`` all bytes sent as a multiple of one copy a packet.

``wire`` joins two network namespaces by such a link in real time, as root, until it is interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))

from tests.emulator import spec
from tests.emulator.flow import DEADLINE_MS, HEADINGS, Flow, row, table
from tests.emulator.pair import EmulatedPair
from tests.emulator.trace import TraceAbsent

#: Fields of SecureSettings by mode.
MODES: Dict[str, Dict[str, Any]] = {"redundant": {}}


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
    run.add_argument("--mode", action="append", choices=sorted(MODES), help="redundant if none")
    run.add_argument("--rate", type=float, default=2000, metavar="KBIT", help="of IP packets")
    run.add_argument("--size", type=int, default=1000, metavar="BYTES", help="of an IP packet")
    run.add_argument("--seconds", type=float, default=60)
    run.add_argument("--dscp", type=int, default=0)
    run.add_argument("--port", type=int, default=5004)
    run.add_argument("--back", action="store_true", help="from the called host to the caller")
    run.add_argument("--deadline", type=float, default=DEADLINE_MS, metavar="MS")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--json", action="store_true")
    wire = commands.add_parser("wire", help="a cable between namespaces, in real time")
    wire.add_argument("end", nargs=2, metavar="NETNS:INTERFACE=ADDRESS/LENGTH")
    wire.add_argument("--link", required=True, metavar="LINK", help="out: from the first end")
    wire.add_argument("--seed", type=int, default=1)
    wire.add_argument("--wait", action="store_true", help="perfect until SIGUSR1")
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> int:
    """Print a line for each link alone and for each mode over all of them."""
    links = [spec.parse(text) for text in chosen.link]
    plans: List[Tuple[str, List[spec.BothWays], Dict[str, Any]]] = [
        (f"{number + 1} {link[0].name}", [link], {}) for number, link in enumerate(links)
    ]
    plans += [(mode, links, MODES[mode]) for mode in chosen.mode or ["redundant"]]
    done: List[Tuple[str, Flow]] = []
    began = time.monotonic()
    for name, over, settings in plans:
        pair = EmulatedPair(over, chosen.seed, **settings)
        flow = pair.stream(
            chosen.rate, chosen.size, chosen.seconds, chosen.dscp, chosen.port, chosen.back
        )
        done.append((name, flow))
    took_s = time.monotonic() - began
    speed = chosen.seconds * len(plans) / took_s
    if chosen.json:
        figures = {name: flow.figures(chosen.deadline) for name, flow in done}
        print(json.dumps({"seed": chosen.seed, "speed": round(speed, 2), "flows": figures}))
    else:
        print(table([HEADINGS, *(row(name, flow, chosen.deadline) for name, flow in done)]))
        print(f"{len(done[0][1].sent_at)} packets each; {speed:.1f} times as fast as real time")
    return 0


def wire(chosen: argparse.Namespace) -> int:
    """Be a cable until interrupted."""
    # It needs pyroute2, which is not on every Python that tests the models.
    from tests.emulator import wire as real

    try:
        one, other = map(real.End.parse, chosen.end)
        real.carry((one, other), spec.parse(chosen.link), chosen.seed, chosen.wait)
    except real.WireWrong as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def main(arguments: Optional[Sequence[str]] = None) -> int:
    chosen = options(arguments)
    try:
        return run(chosen) if chosen.command == "run" else wire(chosen)
    except (spec.SpecWrong, TraceAbsent) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
