"""Whether the machine goes on as it was: clocks and boots of the test's own."""

import os
from pathlib import Path

import pytest

from ropeway.app.engine import continuity
from ropeway.app.engine.continuity import STEP_S, Break, Continuity

AGENT = Path(continuity.__file__).parents[2]


class Machine:
    def __init__(self):
        self.boot_s = 1000.0
        self.wall_s = 1_800_000_000.0
        self.boot = "a1"
        self.interrupts = 3
        self.continuity = Continuity(
            lambda: self.boot_s, lambda: self.wall_s, lambda: self.boot, lambda: self.interrupts
        )

    def look_after(self, boot_s, wall_s):
        self.boot_s += boot_s
        self.wall_s += wall_s
        return self.continuity.look()


def test_time_that_passes_is_no_break():
    machine = Machine()
    assert machine.look_after(1.0, 1.0) is None
    # Asleep, in which this clock goes on.
    assert machine.look_after(86_400.0, 86_400.0) is None


def test_a_clock_that_is_slewed_or_corrected_by_little_is_no_break():
    machine = Machine()
    for _ in range(600):
        assert machine.look_after(1.0, 1.1) is None, "chrony slews by a twelfth at most"
    for step_s in (1.0, -1.0):
        assert machine.look_after(1.0, 1.0 + step_s) is None, "a leap second"


@pytest.mark.parametrize("step_s", [STEP_S + 0.1, -STEP_S - 0.1, 1e9, -1e9])
def test_a_clock_that_is_set_is_a_break_once(step_s):
    machine = Machine()
    assert machine.look_after(1.0, 1.0 + step_s) is Break.STEP
    assert machine.look_after(1.0, 1.0) is None


def test_another_boot_is_a_break_once():
    machine = Machine()
    machine.boot = "b2"
    assert machine.look_after(1.0, 1.0) is Break.BOOT
    assert machine.look_after(1.0, 1.0) is None


def test_a_boot_that_cannot_be_read_is_no_break():
    machine = Machine()
    machine.boot = ""
    assert machine.look_after(1.0, 1.0) is None
    machine.boot = "a1"
    assert machine.look_after(1.0, 1.0) is None


@pytest.mark.parametrize("count", [4, 1])
def test_an_interrupt_of_the_hypervisor_is_a_break_once(count):
    machine = Machine()
    machine.interrupts = count
    assert machine.look_after(1.0, 1.0) is Break.INTERRUPT
    assert machine.look_after(1.0, 1.0) is None


def test_this_machine_goes_on(tmp_path, monkeypatch):
    machine = Continuity()
    assert machine.look() is None
    machine.close()
    monkeypatch.setattr(continuity, "BOOT_ID", str(tmp_path / "none"))
    assert Continuity().look() is None


def test_another_boot_is_seen_in_the_file_that_was_opened_before(tmp_path, monkeypatch):
    path = tmp_path / "boot_id"
    path.write_text("a1\n")
    monkeypatch.setattr(continuity, "BOOT_ID", str(path))
    machine = Continuity(lambda: 0.0, lambda: 0.0, interrupts=lambda: 0)
    path.write_text("b2\n")
    monkeypatch.setattr(os, "open", None)
    assert machine.look() is Break.BOOT
    assert machine.look() is None
    machine.close()


def test_no_time_of_the_agent_stands_still_while_the_machine_sleeps():
    """Two clocks would part in suspend, and what is due by the other one come too late or never."""
    sources = [*(AGENT / "core").rglob("*.py"), *(AGENT / "app").rglob("*.py")]
    assert len(sources) > 40
    stopping = ("time.monotonic", "time.perf_counter", "CLOCK_MONOTONIC")
    assert not [path.name for path in sources if any(c in path.read_text() for c in stopping)]
