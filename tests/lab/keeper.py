"""Keeps one machine running: starts it, wires it to the bridges, and starts it again on reboot.

`python3 -m tests.lab.keeper DIRECTORY`, where DIRECTORY/plan.json says how (see machines.py). It
ends when the machine powers off. systemd-nspawn itself makes new interfaces at every start, so
somebody has to put their outer ends back onto the bridges after a reboot.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Set

from . import control_groups, network

# systemd-nspawn --keep-unit ends with this status when the machine asks for a reboot
# (RestartForceExitStatus=133 in systemd's own systemd-nspawn@.service).
REBOOT = 133
POLL_S = 0.02
# netplan apply makes udev write to /sys, which systemd-nspawn mounts read-only unless told so.
ENVIRONMENT = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes"}


def keep(directory: Path) -> int:
    """Run the machine of `directory` until it powers off; its exit status."""
    plan: Dict[str, Any] = json.loads((directory / "plan.json").read_text())
    join = functools.partial(control_groups.join, f"{plan['prefix']}{plan['host']}")
    while True:
        with (directory / "console.log").open("ab") as console:
            machine = subprocess.Popen(
                plan["nspawn"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, **ENVIRONMENT},
                preexec_fn=join,
            )
        _wire(plan, machine)
        status = machine.wait()
        if status != REBOOT:
            return status


def _wire(plan: Dict[str, Any], machine: subprocess.Popen[bytes]) -> None:
    missing: Set[str] = set(plan["lans"])
    while missing and machine.poll() is None:
        missing = {lan for lan in missing if not network.attach(plan["prefix"], plan["host"], lan)}
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1])))
