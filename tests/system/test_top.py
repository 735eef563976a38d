"""`ropeway top` beside two real agents, on a terminal of its own."""

from __future__ import annotations

import re
from typing import List

from tests.system.bed import pace
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Port
from tests.system.bed.traffic import assert_whole, both_ways
from tests.unit.app.monitor.terminals import Terminal

SIZE = (30, 120)
PACKETS_PER_S = 200


class Watched:
    """What the command shows of an agent, frame by frame."""

    def __init__(self, path: str) -> None:
        self.terminal = Terminal(path, before="", size=SIZE)

    def lines(self, start: str) -> List[str]:
        if self.terminal.output.count(b"\x1b[H") < 2:
            return []
        return [line for line in self.terminal.frame() if line.startswith(start)]

    def shows(self, pattern: str) -> None:
        """Wait until a line of a frame matches."""
        self.terminal.until(
            lambda _: any(re.match(pattern, line) for line in self.lines("")), pattern
        )

    def packets_per_s(self, name: str) -> int:
        """Return what the last frame says of a class."""
        found = [re.match(r".* +(\d+)  ", line) for line in self.lines(name)]
        return max([int(one.group(1)) for one in found if one], default=0)


def test_links_classes_and_hosts_as_they_come_and_go(stage: Stage) -> None:
    pair = Pair(stage, lans=3)
    lossy, cut = pair.a.ports["net1"], pair.a.ports["net2"]
    a, b = pair.start(
        classes=[{"name": "voice", "match": {"protocol": "udp"}, "mode": "redundant"}],
        links={"eth1": {"budget": {"bytes": "1GB", "per": "day"}}},
    )
    watched = Watched(str(a.control_path))
    shown = watched.terminal
    try:
        with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, PACKETS_PER_S) as verdicts:
            watched.shows(r"ropeway 10\.0\.0\.1 +3/3 links +1/1 hosts +up ")
            rate = pace.rate(PACKETS_PER_S)
            shown.until(
                lambda _: 0.8 * rate < watched.packets_per_s("voice") < 1.2 * rate, "rate of voice"
            )
            watched.shows(r"eth0 +carries +\d+\.\d +[▁-▇ ]{20,} ")
            watched.shows(r"eth1 +0\.\d MB +1\.0 GB +0  \[\.{10}\]  day ")
            lossy.drop(30)
            watched.shows(r"  eth1 -> 13 +carries +\d+\.\d +[▁-▇ ]+ [23]\d\.\d ")
            unplugged(watched, cut)
        assert_whole(verdicts)
        b.terminate()
        watched.shows(r"10\.0\.0\.2  not reached, ")
        a.terminate()
        watched.shows("ropeway: not running, waiting")
        a.start()
        b.start()
        watched.shows(r"10\.0\.0\.2  reached")
        shown.keys(b"q")
        assert shown.ended() == 0
        assert shown.as_before
    finally:
        shown.close()


def unplugged(watched: Watched, port: Port) -> None:
    port.unplug()
    watched.shows(r"eth2 +carries nothing: it is down")
    watched.shows(r"ropeway 10\.0\.0\.1 +2/3 links +1/1 hosts ")
    watched.shows(r"10\.0\.0\.2  reached over 2 of 3 links, session \d+ s")
    # The frame in docs/status.md is one of these.
    print("\n".join(watched.terminal.frame()))
    port.plug()
    watched.shows(r"ropeway 10\.0\.0\.1 +3/3 links ")
