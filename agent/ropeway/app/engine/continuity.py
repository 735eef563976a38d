"""Whether the machine goes on as the one that made the sessions.

A virtual machine that is cloned, or set back to a snapshot, has the same session keys and counters
as its copy, and would seal other packets under them. Some kernels announce it
(:mod:`ropeway.kernel.generation`). Elsewhere it shows in what is looked at here: the hypervisor has
interrupted the machine, the wall clock is set forward once the machine runs again, and a process
that was saved and restored may find itself in another boot.
"""

from __future__ import annotations

import enum
import time
from typing import Callable, Optional

from ropeway.kernel.clock import boot_clock
from ropeway.kernel.generation import Interrupts
from ropeway.kernel.kept_file import KeptFile

BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""random(4): another one for each boot."""

# Tuning
STEP_S = 2.0
"""A wall clock that runs is corrected by less, leap seconds included, and never slewed that fast. A
snapshot that is resumed sooner than this after it was taken is not found."""


class Break(enum.Enum):
    """Why the machine may not be the one that it was."""

    BOOT = "the boot is another one, so this process was saved and restored"
    STEP = "the wall clock was set, perhaps because this machine was resumed from a snapshot"
    INTERRUPT = "the hypervisor has interrupted this machine, perhaps because it is a copy now"


class Continuity:
    """What was seen last of clocks, boot and interrupts. `wall_clock` gives seconds since 1970.

    Files are opened here, and none by `look`. `boot_id` and `interrupts` take the place of the
    machine's own.
    """

    def __init__(
        self,
        boot_clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        boot_id: Optional[Callable[[], str]] = None,
        interrupts: Optional[Callable[[], int]] = None,
    ) -> None:
        self._boot_clock = boot_clock
        self._wall_clock = wall_clock
        boot, counted = KeptFile(BOOT_ID), Interrupts()
        self._files = (boot, counted)
        self._read_boot_id = boot_id or boot.read
        self._boot_id = self._read_boot_id()
        self._booted_at = wall_clock() - boot_clock()
        self._count_interrupts = interrupts or counted.count
        self._interrupts = self._count_interrupts()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def look(self) -> Optional[Break]:
        """Say what has changed since the last look, if that is more than time."""
        last_id, last_at, last_count = self._boot_id, self._booted_at, self._interrupts
        self._booted_at = self._wall_clock() - self._boot_clock()
        self._boot_id = self._read_boot_id() or last_id
        self._interrupts = self._count_interrupts()
        if last_id and self._boot_id != last_id:
            return Break.BOOT
        if abs(self._booted_at - last_at) >= STEP_S:
            return Break.STEP
        return Break.INTERRUPT if self._interrupts != last_count else None
