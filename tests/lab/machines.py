"""One host of the lab: a Debian system booted by systemd-nspawn on an overlay of a cached root.

Nothing about a running machine is written down: which processes are its own is read off the
process table, by the directory that stands in their command lines. So there is no pid file that a
crash could leave wrong, and a clean-up finds exactly what was started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from . import control_groups, network, process, progress
from .errors import LabError
from .keys import Keys, ssh_answers
from .roots import CACHE, Overlay, ensure_root
from .topology import MANAGEMENT, Host, Topology

CHECKOUT = Path(__file__).resolve().parents[2]

BOOT_LIMIT_S = 180.0
DEATH_LIMIT_S = 60.0
NSPAWN_TIDIES_S = 3.0
NSPAWN_LEFTOVERS = ("/run/systemd/nspawn/propagate", "/run/systemd/nspawn/unix-export")

ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

# At boot udev asks for every device anew, which with a writable /sys means this machine's own; and
# 247 (bullseye) fails over that. The interfaces are all that a machine of the lab needs of it.
COLDPLUG = """\
[Service]
ExecStart=
ExecStart=udevadm trigger --type=devices --action=add --subsystem-match=net
"""


class Machine:
    """A host of a topology under a prefix, with its files in `state`/NAME."""

    def __init__(self, prefix: str, topology: Topology, host: Host, state: Path) -> None:
        self.prefix = prefix
        self.topology = topology
        self.host = host
        self.name = host.name
        self.directory = state / host.name
        self.overlay = Overlay(CACHE, _plain(self.directory) / "system")
        self.root = self.overlay.root
        self.console = self.directory / "console.log"

    def prepare(self, keys: Keys) -> None:
        """Lay an overlay over the suite's root and give it name, identity, keys and mgmt0."""
        self.overlay.lower = ensure_root(self.host.suite, "host")
        self.overlay.mount()
        etc = self.root / "etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        coldplug = etc / "systemd/system/systemd-udev-trigger.service.d/lab.conf"
        coldplug.parent.mkdir(parents=True, exist_ok=True)
        coldplug.write_text(COLDPLUG)
        plan = etc / "netplan" / "10-management.yaml"
        plan.parent.mkdir(exist_ok=True)
        plan.touch(mode=0o600)
        plan.write_text(
            "network:\n"
            "  version: 2\n"
            "  renderer: networkd\n"
            "  ethernets:\n"
            f"    {self.topology.management_interface}:\n"
            f"      addresses: [{self.host.management}/"
            f"{self.topology.management_network.prefixlen}]\n"
            "      optional: true\n"
        )
        keys.admit(self.host, self.root)

    def start(self) -> None:
        """Boot it and return at once; see wait_booted."""
        plan = {
            "nspawn": self._nspawn(),
            "prefix": self.prefix,
            "host": self.name,
            "lans": [*self.host.interfaces.values(), MANAGEMENT],
        }
        (self.directory / "plan.json").write_text(json.dumps(plan, indent=1))
        with (self.directory / "keeper.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "tests.lab.keeper", str(self.directory)],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _nspawn(self) -> List[str]:
        argv = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--private-network",
            f"--machine={self.prefix}{self.name}",
            f"--hostname={self.name}",
            f"--directory={self.root}",
            "--bind=/dev/net/tun",
            "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
        ]
        wires = {**self.host.interfaces, self.topology.management_interface: MANAGEMENT}
        for interface, lan in wires.items():
            port = network.port_name(self.prefix, self.name, lan)
            argv.append(f"--network-veth-extra={port}:{interface}")
        if control_groups.SYSTEMD.is_dir():
            # Where systemd runs this machine, the control group has to be one of our own. The scope
            # has no name of ours: after a reboot the old one may not have been collected yet.
            scope = ["systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes"]
            argv = [*scope, "--", *argv]
        return argv

    def wait_booted(self, limit_s: float = BOOT_LIMIT_S) -> None:
        """Wait until SSH answers and systemd has finished starting; LabError with the console."""
        deadline = time.monotonic() + limit_s
        try:
            process.wait_for(
                lambda: ssh_answers(self.host) or self._refuse_dead(deadline),
                what=f"SSH of {self.name} answering at {self.host.management}",
                timeout_s=limit_s,
            )
            state = self.run(
                ["systemctl", "is-system-running", "--wait"],
                check=False,
                timeout_s=max(1.0, deadline - time.monotonic()),
            ).stdout.strip()
        except LabError as error:
            raise LabError(f"{error}\nThe end of its console:\n{self._console_tail()}") from error
        if state != "running":
            failed = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
            progress.say(f"{self.name} is {state}: {failed.stdout.strip()}")

    def _refuse_dead(self, deadline: float) -> bool:
        # A keeper takes a moment to appear; one that is gone after that will not come back.
        if time.monotonic() > deadline - BOOT_LIMIT_S + 2.0 and not self.pids():
            raise LabError(f"{self.name} has stopped.")
        return False

    def _console_tail(self) -> str:
        if not self.console.exists():
            return "(nothing)"
        return self.console.read_text(errors="replace")[-3000:]

    def pids(self) -> List[int]:
        """The processes on the outside that make up this machine: its keeper, its nspawns."""
        return [
            pid
            for pid in process.processes()
            if f"--directory={self.root}" in process.arguments_of(pid) or self._is_keeper(pid)
        ]

    def _is_keeper(self, pid: int) -> bool:
        return process.arguments_of(pid)[1:] == ["-m", "tests.lab.keeper", str(self.directory)]

    def leader(self) -> Optional[int]:
        """The machine's own process 1, as seen from the outside; None while there is none."""
        for pid in self.pids():
            for child in process.children_of(pid):
                if _is_init(child):
                    return child
        return None

    def enter(self, argv: Sequence[str], env: Optional[Mapping[str, str]] = None) -> List[str]:
        """The command line that runs `argv` inside the machine, without SSH."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} is not running: `python3 -m tests.lab up` starts it.")
        settings: Dict[str, str] = {**ENVIRONMENT, **(env or {})}
        return [
            "nsenter",
            f"--target={leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
            "--",
            "/usr/bin/env",
            "-i",
            *(f"{name}={value}" for name, value in settings.items()),
            *argv,
        ]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout_s: float = 60.0,
        text_in: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end; LabError if it fails (with `check`) or takes longer."""
        return process.run(self.enter(argv), check=check, timeout_s=timeout_s, text_in=text_in)

    def reboot(self) -> None:
        """Let the machine itself reboot, and return when it is up again."""
        before = self.leader()
        # It may be ended itself before it can tell that it has asked for it.
        self.run(["systemctl", "reboot"], check=False)
        process.wait_for(
            lambda: self.leader() not in (None, before),
            what=f"{self.name} rebooting",
            timeout_s=BOOT_LIMIT_S,
        )
        self.wait_booted()

    def kill(self) -> None:
        """End every process of the machine at once, as a power failure would."""

        # nspawn tidies up the host and follows its machine by itself; only a stuck one is ended.
        patience = time.monotonic() + NSPAWN_TIDIES_S

        def gone() -> bool:
            pids = self.pids()
            for pid in pids:
                if self._is_keeper(pid) or time.monotonic() > patience:
                    process.end(pid)
            leader = self.leader()
            if leader is not None:
                process.end(leader)
            return not pids

        process.wait_for(gone, what=f"The end of {self.name}", timeout_s=DEATH_LIMIT_S)
        process.wait_for(
            lambda: control_groups.remove(f"{self.prefix}{self.name}"),
            what=f"The end of the processes of {self.name}",
            timeout_s=DEATH_LIMIT_S,
        )
        for parent in NSPAWN_LEFTOVERS:
            left = Path(parent, f"{self.prefix}{self.name}")
            if left.is_dir() and not os.listdir(left):
                left.rmdir()


def _plain(path: Path) -> Path:
    """Return `path`; LabError if it can't stand in overlayfs's or nspawn's options."""
    if any(sign in str(path) for sign in ":,"):
        raise LabError(f"{path} has a colon or comma, which mount options can't hold.")
    return path


def _is_init(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    inner = [line.split() for line in status.splitlines() if line.startswith("NSpid:")]
    # NSpid: one number per nested pid namespace (proc(5)); the innermost one's init has 1.
    return bool(inner) and len(inner[0]) > 2 and inner[0][-1] == "1"
