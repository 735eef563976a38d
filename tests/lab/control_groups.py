"""A control group for each machine, where the outside has no systemd that makes one.

Machines that were started in the same control group would share those of their services, by name:
systemd in one of them would wait for processes of a service that run in another. See cgroups(7).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import List

SYSTEMD = Path("/run/systemd/system")


def join(name: str) -> None:
    """Move this process into the control group of a machine, made if it is not there.

    Does nothing where systemd runs the outside, or where no control group can be made.
    """
    if SYSTEMD.is_dir():
        return
    for hierarchy in _hierarchies():
        with suppress(OSError):
            group = hierarchy / name
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(f"{os.getpid()}\n")


def remove(name: str) -> bool:
    """Remove a machine's control groups that have no process; whether all are gone."""
    groups = [hierarchy / name for hierarchy in _hierarchies()]
    for group in groups:
        for directory, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)
    return not any(group.exists() for group in groups)


def left(prefix: str) -> List[Path]:
    """The control groups of machines of this prefix that there are."""
    return [group for hierarchy in _hierarchies() for group in hierarchy.glob(f"{prefix}*")]


def _hierarchies() -> List[Path]:
    """Where the hierarchies are mounted in which systemd keeps its services."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(before.split(" ")[4]))
    return found
