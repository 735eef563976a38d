"""A whole lab: the machines and LANs of one topology under one prefix.

Several labs stand side by side if their prefixes and management networks differ.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Dict, List

from . import control_groups, network, process, progress
from .errors import LabError
from .keys import Keys, give_to_invoker
from .machines import CHECKOUT, Machine
from .roots import CACHE, STATE, ensure_root, locked, mounts, unmount_below
from .topology import HOUSE, Topology, load

DEFAULT_PREFIX = "rwlab-"
PREFIX = r"[a-z][a-z0-9]{0,7}-"
# In a lab's directory below STATE: the process that made it.
OWNER = "owner"
NEEDED = ("bridge", "ip", "mmdebstrap", "mount", "nft", "nsenter", "ssh-keygen", "systemd-nspawn")


class Lab:
    """The machines by name, the keys, and where results go (`build`)."""

    def __init__(self, prefix: str = DEFAULT_PREFIX, topology_file: Path = HOUSE) -> None:
        # One dash, at the end: no prefix is the beginning of another one.
        if not re.fullmatch(PREFIX, prefix):
            raise LabError(
                f"{prefix!r} is no prefix: up to eight lower-case letters and digits and one dash."
            )
        self.prefix = prefix
        self.topology: Topology = load(topology_file)
        self.state = STATE / prefix.rstrip("-")
        name = "lab" if prefix == DEFAULT_PREFIX else f"lab-{prefix.rstrip('-')}"
        self.build = CHECKOUT / "build" / name
        self.keys = Keys(self.build)
        self.machines: Dict[str, Machine] = {
            host.name: Machine(prefix, self.topology, host, self.state)
            for host in self.topology.hosts.values()
        }

    def machine(self, name: str) -> Machine:
        """The machine called `name`; LabError naming those that exist."""
        return self.machines[self.topology.host(name).name]

    def up(self) -> None:
        """Make the LANs, boot every machine, and wait until each answers over SSH.

        Whatever stood under this prefix before is removed first, and everything again if this
        fails or is interrupted.
        """
        process.require(*NEEDED)
        if not Path("/dev/net/tun").exists():
            raise LabError("/dev/net/tun is missing: load the kernel module tun.")
        with locked(CACHE / f"{self.prefix.rstrip('-')}.lock"):
            self._down()
            try:
                # First of all: whatever else there will be, it can be told whose it is.
                self.state.mkdir(parents=True)
                (self.state / OWNER).write_text(process.own_mark())
                self._up()
            except BaseException:
                progress.say("Not up: removing what has been made so far")
                self._down()
                raise

    def _up(self) -> None:
        for suite in sorted({host.suite for host in self.topology.hosts.values()}):
            ensure_root(suite, "host")
        with progress.step(f"Starting {', '.join(self.machines)}"):
            self.keys.create()
            network.create(self.prefix, self.topology)
            for machine in self.machines.values():
                machine.prepare(self.keys)
                machine.start()
            for machine in self.machines.values():
                machine.wait_booted()
                progress.say(f"{machine.name} answers at {machine.host.management}")
        give_to_invoker(self.build.parent, self.build)

    def down(self) -> None:
        """Remove every machine, bridge, mount and file of this prefix; the cached roots stay."""
        with locked(CACHE / f"{self.prefix.rstrip('-')}.lock"):
            self._down()
            left = self.leftovers()
            if left:
                raise LabError("Still there: " + "; ".join(left))

    def _down(self) -> None:
        if not self.leftovers():
            return
        with progress.step(f"Removing the lab {self.prefix.rstrip('-')}"):
            # By directory: an earlier topology may have had machines that this one has not.
            for machine in self._ever_started():
                machine.kill()
            network.remove(self.prefix)
            unmount_below(self.state)
            process.run(["rm", "-rf", "--one-file-system", str(self.state)], timeout_s=300)
            # Other labs may have their state beside this one's.
            with contextlib.suppress(OSError):
                STATE.rmdir()
            self.keys.remove()

    def _ever_started(self) -> List[Machine]:
        found = dict(self.machines)
        if self.state.is_dir():
            for directory in self.state.iterdir():
                if directory.is_dir() and directory.name not in found:
                    template = next(iter(self.topology.hosts.values()))
                    host = type(template)(directory.name, template.suite, "", {})
                    found[host.name] = Machine(self.prefix, self.topology, host, self.state)
        return list(found.values())

    def owned(self) -> bool:
        """Whether the process that made this lab still runs."""
        try:
            return process.lives((self.state / OWNER).read_text())
        except FileNotFoundError:
            return False

    def leftovers(self) -> List[str]:
        """What exists of this lab right now, a sentence each; empty after `down`."""
        found = [f"process {pid}" for pid in process.processes() if self._owns(pid)]
        found += [f"interface {name}" for name in network.interfaces(self.prefix)]
        if network.table_exists(self.prefix):
            found.append(f"nftables table of {self.prefix}")
        found += [f"mount {m.target}" for m in mounts() if self.state in m.target.parents]
        found += [f"control group {group}" for group in control_groups.left(self.prefix)]
        if self.state.exists():
            found.append(f"directory {self.state}")
        if self.keys.private.exists():
            found.append(f"key {self.keys.private}")
        return found

    def _owns(self, pid: int) -> bool:
        below = f"{self.state}/"
        return any(
            argument.startswith((below, f"--directory={below}"))
            for argument in process.arguments_of(pid)
        )

    def cut(self, host: str, lan: str, manner: str = "silent") -> None:
        """Cut a host's link to a LAN (network.MANNERS); `restore` undoes it.

        Without its link to network.MANAGEMENT a host is off for the controller.
        """
        self.topology.interface_on(host, lan)
        network.cut(self.prefix, host, lan, manner)

    def restore(self, host: str, lan: str) -> None:
        """Mend a host's link to a LAN; no error if it is whole."""
        self.topology.interface_on(host, lan)
        network.restore(self.prefix, host, lan)


def others(prefix: str) -> List[Lab]:
    """The labs of other prefixes that have left something below STATE."""
    found = []
    for directory in sorted(STATE.iterdir()) if STATE.is_dir() else []:
        name = f"{directory.name}-"
        if name != prefix and re.fullmatch(PREFIX, name):
            found.append(Lab(name))
    return found
