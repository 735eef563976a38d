"""Real calls and streams between two namespaces over the links of a ride, as root.

Each mode is a world of its own, in which two agents carry the call. Without ropeway, each link
carries a call of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from typing import Any, Dict, List, Sequence, Tuple

from tests.emulator import spec
from tests.emulator.calls import ALONE, Missing
from tests.emulator.calls.judge import Course
from tests.emulator.calls.stalls import Stalls
from tests.system.bed.agents import DEVICE, NICE, ROOT, Agent, Process
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, until
from tests.system.bed.wire import WiredPair, wired

SRT_LATENCY_MS = 120
#: The first of the ports of streams: SRT's own, the generator's and the sink's.
FIRST_PORT = 7000
ETHERNET_SIZE = 14
START_S = 30.0
#: A call finds its rate within this time, before the links begin.
SETTLED_S = 4.0
SAMPLE_S = 0.1
#: The class of all packets.
CLASS = "all"


def need(kind: str) -> None:
    """Raise Missing if this kind cannot be run here."""
    if kind == "webrtc" and importlib.util.find_spec("aiortc") is None:
        raise Missing(
            "webrtc needs aiortc: run `build/venv/bin/python -m pip install "
            "-r .config/requirements/calls.txt`"
        )
    if kind == "srt" and shutil.which("srt-live-transmit") is None:
        raise Missing("srt needs srt-live-transmit: run `.config/install-prerequisites calls`")


class End(Process):
    """A program at one end of a call, which writes numbers and times to a file when it is ended."""

    def __init__(self, stage: Stage, host: Host, name: str) -> None:
        super().__init__(host, stage.directory, name)
        stage.process(self)
        self.seen_path = stage.directory / f"{host.name}-{name}.json"

    def environment(self) -> Dict[str, str]:
        return {**super().environment(), "PYTHONPATH": f"{ROOT / 'agent'}{os.pathsep}{ROOT}"}

    def run_module(self, name: str, *arguments: str) -> None:
        module = f"tests.emulator.calls.{name}"
        self.launch_first(sys.executable, "-m", module, *arguments, str(self.seen_path))

    def launch_first(self, *command: str) -> None:
        """Start a program that goes before others, as the agents and the wires do."""
        self.launch("nice", "-n", NICE, *command)

    def wait_for(self, word: str) -> None:
        """Wait until it has printed a word."""

        def printed() -> bool:
            assert self.alive, f"{self.log_path.stem} ended by itself:\n{self.log()}"
            return word in self.log()

        until(printed, START_S, lambda: f"{self.log_path.stem} is {word}:\n{self.log()}")

    def ended(self) -> List[Tuple[int, float]]:
        """End it; return what it saw."""
        assert self.terminate() == 0, self.log()
        return [(number, at) for number, at in json.loads(self.seen_path.read_text("ascii"))]


class Call:
    """One running call from host a to host b of a pair, between these addresses."""

    def __init__(
        self, kind: str, pair: WiredPair, name: str, ends: Tuple[str, str], number: int = 0
    ) -> None:
        self.name = name
        #: Calls of one pair are told apart by it.
        self._number = number
        self._sender = End(pair.stage, pair.a, f"{name}-sender")
        self._receiver = End(pair.stage, pair.b, f"{name}-receiver")
        {"webrtc": self._webrtc, "srt": self._srt}[kind](pair, *ends)
        self._receiver.wait_for("playing")

    def _webrtc(self, pair: WiredPair, caller: str, called: str) -> None:
        place = str(pair.stage.directory / f"{self.name}.sock")
        self._receiver.run_module("webrtc", "called", called, place)
        self._receiver.wait_for("ready")
        self._sender.run_module("webrtc", "caller", caller, place)

    def _srt(self, pair: WiredPair, _: str, called: str) -> None:
        srt, generator, sink = (FIRST_PORT + 3 * self._number + port for port in range(3))
        self._receiver.run_module("srt", "receiver", str(sink))
        self._receiver.wait_for("ready")
        options = f"latency={SRT_LATENCY_MS}&transtype=live"
        carriers = (
            (pair.b, f"srt://{called}:{srt}?mode=listener&{options}",
             f"udp://127.0.0.1:{sink}"),
            (pair.a, f"udp://127.0.0.1:{generator}",
             f"srt://{called}:{srt}?mode=caller&{options}"),
        )  # fmt: skip
        for host, source, target in carriers:
            carrier = End(pair.stage, host, f"{self.name}-{host.name}-srt")
            carrier.launch_first("srt-live-transmit", source, target)
        self._sender.run_module("srt", "sender", str(generator))

    def end(self, began_at: float) -> Dict[str, Any]:
        """Return what was captured and played, in seconds from then on."""
        played = self._receiver.ended()
        captured = self._sender.ended()
        return {
            "captured": {number: round(at - began_at, 5) for number, at in captured},
            "played": [(number, round(at - began_at, 5)) for number, at in played],
        }


def run(kind: str, way: str, links: Sequence[str], seconds: float) -> List[Course]:
    """Run one kind in one mode, or ALONE over each link; return the courses.

    ``links`` are as :mod:`tests.emulator.spec` reads them.
    """
    with wired(*links) as pair:
        if way == ALONE:
            calls = [
                Call(kind, pair, spec.parse(link)[0].name, addresses, number)
                for number, (link, addresses) in enumerate(zip(links, pair.links()))
            ]
            devices = [(port.interface, ETHERNET_SIZE) for port in pair.a.ports.values()]
            return _course(kind, pair, calls, devices, seconds, None)
        agent, _ = pair.start(classes=[{"name": CLASS, "mode": way}])
        call = Call(kind, pair, way, (pair.a_address, pair.b_address))
        return _course(kind, pair, [call], [(DEVICE, 0)], seconds, agent)


def _course(
    kind: str,
    pair: WiredPair,
    calls: Sequence[Call],
    devices: Sequence[Tuple[str, int]],
    seconds: float,
    agent: Agent | None,
) -> List[Course]:
    """Have the links begin, and end everything after so many seconds.

    ``devices`` are those into which each call sends, and how long the header of a frame is there.
    """
    time.sleep(SETTLED_S)
    before = [_given(pair.a, *device) for device in devices]
    began_at = time.monotonic()
    for wire in pair.wires:
        wire.begin()
    used = Used(pair, agent, began_at) if agent else contextlib.nullcontext([])
    with used as links, Stalls(began_at) as stalls:
        time.sleep(max(began_at + seconds - time.monotonic(), 0))
    given = [_given(pair.a, *device) - was for device, was in zip(devices, before)]
    figures = [wire.end() for wire in pair.wires]
    sent = [one["out"]["sent_bytes"] for one in figures]
    late_ms = max(one[way]["latest_ms"] for one in figures for way in ("out", "back"))
    if agent:
        sent = [sum(sent)]
    return [
        Course(
            kind=kind,
            way=call.name,
            alone=agent is None,
            seconds=seconds,
            **call.end(began_at),
            sent_bytes=sent_bytes,
            given_bytes=given_bytes,
            used=links,
            wire_late_ms=late_ms,
            stalls=stalls,
        )
        for call, sent_bytes, given_bytes in zip(calls, sent, given)
    ]


def _given(host: Host, device: str, header_size: int) -> int:
    """Return how many bytes of IP packets were sent into a device up to now."""
    (link,) = host.ip_json("-s", "link", "show", "dev", device)
    sent = link["stats64"]["tx"]
    return int(sent["bytes"] - header_size * sent["packets"])


class Used:
    """Looks every SAMPLE_S which links an agent uses, and notes each change."""

    def __init__(self, pair: WiredPair, agent: Agent, began_at: float) -> None:
        self._numbers = {port.index: lan for lan, port in enumerate(pair.a.ports.values())}
        self._agent = agent
        self._host = pair.b_address
        self._began_at = began_at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.changes: List[Tuple[float, List[int]]] = []

    def __enter__(self) -> List[Tuple[float, List[int]]]:
        self._thread.start()
        return self.changes

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_S):
            classes = self._agent.peer_status(self._host)["classes"]
            (links,) = (one["links"] for one in classes if one["name"] == CLASS)
            used = sorted(self._numbers[index] for index in links)
            if not self.changes or self.changes[-1][1] != used:
                self.changes.append((round(time.monotonic() - self._began_at, 3), used))
