"""Whether the machine gave the programs under test the processor time that they asked for.

An agent that waits for a processor drops what waits with it, as it should. A loss that is seen
meanwhile says something about the machine, and nothing about the agent.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from tests.lab.process import arguments_of, children_of

#: What the ends of a test's traffic are called, among the arguments of their processes.
ENDS = {
    *("agent", "reference_node.py", "probe.py", "srt-live-transmit"),
    *("tests.emulator.calls.webrtc", "tests.emulator.calls.srt"),
}
#: Seconds between two looks; a wait is seen at the first look after its end, and whole.
LOOK_S = 0.05
#: A program that had to wait for so long was late. Bursts of up to 0.05 s lose nothing.
LATE_S = 0.1
#: A program that wanted more of a processor than this, over BUSY_S, was given too much to do.
BUSY_SHARE = 0.9
BUSY_S = 1.0


class Strain:
    """What this process and the ends that it starts had to wait for a processor, for one block."""

    def __init__(self) -> None:
        self._late_s: dict[str, float] = {}
        self._busy: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Strain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def late(self) -> list[str]:
        """Say in a sentence for each program how long it had to wait, if that was long."""
        return [
            f"{name} waited {seconds:.2f} s for a processor"
            for name, seconds in self._late_s.items()
            if seconds >= LATE_S
        ]

    def busy(self) -> list[str]:
        """Say in a sentence for each program what it wanted of a processor, if that was much."""
        return [
            f"{name} wanted {share:.0%} of a processor"
            for name, share in self._busy.items()
            if share >= BUSY_SHARE
        ]

    def _watch(self) -> None:
        looked_at = began = time.monotonic()
        waited: dict[int, float] = {}
        wanted: dict[int, float] = {}
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            # Whoever looks late did not run either.
            self._note(self._late_s, "the test", now - looked_at - LOOK_S)
            looked_at = now
            whole = now - began >= BUSY_S
            for pid, name in _ends():
                times = _times_s(pid)
                if times is None:
                    continue
                ran_s, waited_s = times
                self._note(self._late_s, name, waited_s - waited.get(pid, waited_s))
                waited[pid] = waited_s
                if whole:
                    before_s = wanted.get(pid, ran_s + waited_s)
                    share = (ran_s + waited_s - before_s) / (now - began)
                    self._note(self._busy, name, share)
                    wanted[pid] = ran_s + waited_s
            if whole:
                began = now

    @staticmethod
    def _note(most: dict[str, float], name: str, value: float) -> None:
        most[name] = max(most.get(name, 0.0), value)


def _ends() -> list[tuple[int, str]]:
    """Return the process id of each end that this process has started, and a name for it."""
    found = []
    for pid in children_of(os.getpid()):
        arguments = [Path(argument).name for argument in arguments_of(pid)]
        if ENDS.intersection(arguments):
            found.append((pid, " ".join((*ENDS.intersection(arguments), arguments[-1]))))
    return found


def _times_s(pid: int) -> tuple[float, float] | None:
    """Return for how long a process has run, and waited to run; None if it is gone."""
    # Documentation/scheduler/sched-stats.rst: two numbers of nanoseconds, and one of turns.
    with contextlib.suppress(OSError):
        ran_ns, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
        return int(ran_ns) / 1e9, int(waited_ns) / 1e9
    return None
