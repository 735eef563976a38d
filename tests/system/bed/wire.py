"""Cables with an emulated link in them, instead of a LAN of the switch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, Iterator

from tests.system.bed import pace
from tests.system.bed.agents import NICE, ROOT, START_S, Process
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Port, until
from tests.system.bed.traffic import STREAM_RATE, Verdict, one_way


class Wire(Process):
    """A cable between the ports of two hosts on one LAN, which it makes; both were not before.

    ``link`` is what ``python -m tests.emulator wire --help`` says; out is from the first port.
    Until :meth:`begin` the link is as it is at 0 s, without losses and queue.
    """

    def __init__(self, stage: Stage, one: Port, other: Port, link: str, seed: int = 1) -> None:
        super().__init__(one.host, stage.directory, f"wire-{one.lan}")
        print(f"{one.lan}: {link}, seed {seed}")
        stage.process(self)
        ends = (f"{end.host.netns}:{end.interface}={end.address}" for end in (one, other))
        self.launch(
            *("nice", "-n", NICE),
            *(sys.executable, "-m", "tests.emulator", "wire", *ends),
            *("--link", link, "--seed", str(seed), "--wait"),
        )
        until(self._ready, START_S, lambda: f"the wire carries\n{self.log()}")

    def _ready(self) -> bool:
        assert self.alive, f"the wire ended by itself:\n{self.log()}"
        return "ready" in self.log()

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": f"{ROOT / 'agent'}{os.pathsep}{ROOT}"}

    def begin(self) -> None:
        """Have losses, queue, trace and black holes begin."""
        os.kill(self.pid, signal.SIGUSR1)

    def end(self) -> dict[str, Any]:
        """Pull the cable; return what passed since :meth:`begin`, ``out`` and ``back``."""
        assert self.terminate() == 0, self.log()
        return dict(json.loads(self.log().splitlines()[-1]))


class WiredPair(Pair):
    """Two hosts with an emulated link in each of their cables; ``links`` are of a to b."""

    def __init__(self, stage: Stage, *links: str) -> None:
        self.stage = stage
        self.encapsulation = "secure"
        self.topology = stage.topology()
        self.a, self.b = self.topology.host("vm0"), self.topology.host("vm1")
        self.wires = []
        for lan, link in enumerate(links):
            one, other = (
                host.connect(f"net{lan}", f"eth{lan}", f"192.168.{lan}.{2 + number}/24", late=True)
                for number, host in enumerate((self.a, self.b))
            )
            self.wires.append(Wire(stage, one, other, link, seed=lan))

    def stream(self, seconds: float, size: int = 200) -> tuple[Verdict, list[dict[str, Any]]]:
        """Have the links begin, and packets go from a to b; return what came, and of each wire.

        ``size`` is that of the payload of a UDP packet. The wires end with it.
        """
        for wire in self.wires:
            wire.begin()
        rate = pace.rate(STREAM_RATE)
        with one_way(self.a, self.b, self.b_address, rate, size) as verdicts:
            time.sleep(seconds)
        figures = [wire.end() for wire in self.wires]
        print(*figures, sep="\n")
        (verdict,) = verdicts.values()
        return verdict, figures


@contextlib.contextmanager
def wired(*links: str) -> Iterator[WiredPair]:
    """Make such a pair outside a test; what it logged is shown where something goes wrong."""
    stage = Stage()
    try:
        yield WiredPair(stage, *links)
    except BaseException:
        stage.show_logs()
        raise
    finally:
        stage.close()
