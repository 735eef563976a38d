"""A probe (probe.py) from one machine to another: started, left running, ended, judged."""

from __future__ import annotations

import contextlib
import json
import random
import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from . import probe, process
from .errors import LabError
from .machines import Machine

READY_LIMIT_S = 30.0
REPORT_LIMIT_S = 60.0
# Once nothing has arrived for so long, seen by so many looks, what is still missing counts as lost.
QUIET_S = 1.0
QUIET_LOOKS = 10
QUIET_LIMIT_S = 60.0
INSTALLED = "/usr/local/lib/ropeway-lab/probe.py"


@dataclass
class Result:
    """What became of the packets from `source` to `target`."""

    source: str
    target: str
    sent: int
    received: int
    lost: int
    duplicated: int
    reordered: int
    latency_ms: Optional[Dict[str, float]]
    missing: List[Dict[str, int]]
    repeated: List[Dict[str, int]]
    sender: Dict[str, Any]
    receiver: Dict[str, Any]


class Stream:
    """`rate` packets a second from one machine to a virtual address of another, until stopped."""

    def __init__(
        self, source: Machine, target: Machine, address: str, *, rate: int, limit_s: float
    ) -> None:
        self.source = source
        self.target = target
        self._children: List[subprocess.Popen[str]] = []
        self.run = random.SystemRandom().getrandbits(32)
        common = [
            *("--address", address, "--run", str(self.run)),
            *("--rate", str(rate)),
        ]
        self._sent: Dict[str, Any] = {}
        self._receive = [*common, "--seconds", str(limit_s + READY_LIMIT_S + REPORT_LIMIT_S)]
        self._send = [*common, "--seconds", str(limit_s)]

    def listen(self) -> None:
        """Start the receiver and wait until it listens."""
        receiver = _launch(self.target, "receive", self._receive)
        self._children.append(receiver)
        assert receiver.stdout is not None
        if not select.select([receiver.stdout], [], [], READY_LIMIT_S)[0]:
            raise LabError(f"The probe's receiver on {self.target.name} did not start.")
        if not receiver.stdout.readline().startswith("ready "):
            raise LabError(f"The probe's receiver on {self.target.name} failed: see above.")

    def begin(self) -> None:
        """Start the sender."""
        self._children.append(_launch(self.source, "send", self._send))

    def end(self) -> None:
        """Stop the sender."""
        self._sent = _finish(self._children[1], f"sender on {self.source.name}")

    def marker(self) -> bytes:
        """What every packet of this stream begins with."""
        return probe.HEADER.pack(probe.MAGIC, self.run, 0, 0)[:8]

    def arrived(self) -> int:
        """How many packets of any kind the target's virtual devices have delivered to its kernel.

        Not its UDP datagrams: the agents' own frames may be some.
        """
        leader = self.target.leader()
        if leader is None:
            raise LabError(f"{self.target.name} is not running any more.")
        # A line per device (proc_pid_net(5)): its name, then bytes and packets received.
        lines = Path(f"/proc/{leader}/net/dev").read_text(encoding="ascii").splitlines()
        counts = [line.split(":") for line in lines if line.strip().startswith("ropeway")]
        return sum(int(numbers.split()[1]) for _, numbers in counts)

    def result(self) -> Result:
        """Stop the receiver and count; after `end`, and when nothing more arrives."""
        sent = self._sent
        got = _finish(self._children[0], f"receiver on {self.target.name}")
        missing = list(got["missing"])
        if got["highest"] + 1 < sent["sent"]:
            tail = sent["sent"] - got["highest"] - 1
            missing.append({"first": got["highest"] + 1, "count": tail, "after_ns": 0})
        return Result(
            source=self.source.name,
            target=self.target.name,
            sent=sent["sent"],
            received=got["received"],
            lost=sent["sent"] - got["received"],
            duplicated=got["duplicated"],
            reordered=got["reordered"],
            latency_ms=got["latency_ms"],
            missing=missing,
            repeated=got["repeated"],
            sender=sent,
            receiver=got,
        )

    def abandon(self) -> None:
        """End whatever still runs, without a result; no error if nothing does."""
        for child in self._children:
            if child.stdin is not None and not child.stdin.closed:
                child.stdin.close()
        for child in self._children:
            try:
                child.wait(REPORT_LIMIT_S)
            except subprocess.TimeoutExpired:
                child.kill()


def _launch(machine: Machine, role: str, arguments: List[str]) -> subprocess.Popen[str]:
    inside = machine.root / INSTALLED.lstrip("/")
    inside.parent.mkdir(parents=True, exist_ok=True)
    program = Path(probe.__file__).read_text(encoding="utf-8")
    if not inside.exists() or inside.read_text(encoding="utf-8") != program:
        inside.write_text(program, encoding="utf-8")
    return subprocess.Popen(
        machine.enter(["python3", "-I", INSTALLED, role, *arguments]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the lab, which then closes the pipes.
        start_new_session=True,
    )


def _finish(child: subprocess.Popen[str], who: str) -> Dict[str, Any]:
    try:
        # Closes its standard input, at which it reports and ends.
        output, _ = child.communicate(timeout=REPORT_LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        raise LabError(f"The probe's {who} did not report.") from None
    lines = output.splitlines()
    if child.returncode != 0 or not lines:
        raise LabError(f"The probe's {who} failed with {child.returncode}: see above.")
    report: Dict[str, Any] = json.loads(lines[-1])
    return report


def finish(streams: Sequence[Stream]) -> List[Result]:
    """Stop all senders, wait until nothing has arrived for QUIET_S, and count."""
    for stream in streams:
        stream.end()
    _wait_quiet(streams)
    return [stream.result() for stream in streams]


def _wait_quiet(streams: Sequence[Stream]) -> None:
    quiet = process.unchanged(
        lambda: [stream.arrived() for stream in streams], for_s=QUIET_S, looks=QUIET_LOOKS
    )
    process.wait_for(quiet, what="The end of what is on its way", timeout_s=QUIET_LIMIT_S)


@contextlib.contextmanager
def flowing(streams: Sequence[Stream]) -> Iterator[None]:
    """Start all receivers, then all senders; at the end nothing of them runs, come what may."""
    try:
        for stream in streams:
            stream.listen()
        for stream in streams:
            stream.begin()
        yield
    finally:
        for stream in streams:
            stream.abandon()
