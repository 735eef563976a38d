"""Which failures count, where the machine may be too busy to tell anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.system.bed import turns
from tests.system.bed.again import AGAIN, Attempt, Turn, until_judged
from tests.system.bed.strain import Strain
from tests.system.bed.topology import until

BUSY_LOOP = "while True: pass"


class Known(Strain):
    """A strain that is known beforehand."""

    def __init__(self, late: bool = False, busy: bool = False) -> None:
        self._told = ["late"] if late else [], ["busy"] if busy else []

    def late(self) -> list[str]:
        return self._told[0]

    def busy(self) -> list[str]:
        return self._told[1]


class Script:
    """Attempts that end as they are told to, and the turns that they took."""

    def __init__(self, *attempts: tuple[bool, Known]) -> None:
        self.attempts = list(attempts)
        self.turns: list[Turn] = []

    def run(self, turn: Turn) -> Attempt:
        self.turns.append(turn)
        failed, strain = self.attempts.pop(0)
        return Attempt([], failed, strain)


def test_failure_without_strain_counts_at_once() -> None:
    script = Script((True, Known()))
    attempt, passed_over = until_judged(script.run, shared=True)
    assert attempt.failed
    assert passed_over == []
    assert script.turns == [turns.beside_others]


def test_success_counts_whatever_the_strain() -> None:
    script = Script((False, Known(late=True, busy=True)))
    attempt, passed_over = until_judged(script.run, shared=True)
    assert not attempt.failed
    assert passed_over == []


@pytest.mark.parametrize("kind", ["late", "busy"])
def test_failure_under_strain_is_judged_alone(kind: str) -> None:
    script = Script((True, Known(**{kind: True})), (True, Known(busy=True)))
    attempt, passed_over = until_judged(script.run, shared=True)
    assert attempt.failed
    assert len(passed_over) == 1
    assert script.turns == [turns.beside_others, turns.alone]


def test_test_that_loads_the_machine_itself_is_excused_by_lateness_only() -> None:
    script = Script((True, Known(busy=True)))
    assert until_judged(script.run, shared=False)[0].failed
    script = Script((True, Known(late=True)), (False, Known()))
    assert not until_judged(script.run, shared=False)[0].failed
    assert script.turns == [turns.alone, turns.alone]


def test_failure_counts_in_the_end_even_where_the_machine_is_always_late() -> None:
    script = Script(*[(True, Known(late=True))] * (AGAIN + 1))
    attempt, passed_over = until_judged(script.run, shared=True)
    assert attempt.failed
    assert len(passed_over) == AGAIN
    assert script.attempts == []


@pytest.mark.alone
def test_end_that_another_program_keeps_from_its_processor_is_late() -> None:
    """Both stand on one processor, and the other one goes first by far."""
    processor = min(os.sched_getaffinity(0))
    with Strain() as strain:
        kept = subprocess.Popen([sys.executable, "-c", BUSY_LOOP, "agent"])
        other = subprocess.Popen([sys.executable, "-c", BUSY_LOOP])
        try:
            for process, niceness in ((kept, 19), (other, -5)):
                os.sched_setaffinity(process.pid, {processor})
                os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
            until(strain.late, 20, "it is seen to be late")
            until(strain.busy, 20, "it is seen to want a whole processor")
        finally:
            for process in (kept, other):
                process.kill()
                process.wait()
    assert all("agent" in sentence for sentence in strain.busy())
