"""A machine that the package is tried on: its addresses, its configuration, its agent."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List

from ropeway import __version__
from tests.lab import process
from tests.lab.lab import Lab

CONFIGURATION = Path("etc/ropeway/ropeway.yaml")
KEY = Path("etc/ropeway/private.key")
LANS = {"enp0s3": "192.168.0", "enp0s8": "192.168.1"}
START_LIMIT_S = 60.0
APT_LIMIT_S = 300.0
JOURNAL_LIMIT_S = 30.0


class Node:
    """One of the machines d11, d12, ...: host N has 192.168.0.N, 192.168.1.N and 10.0.0.N."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.machine = lab.machine(name)
        self.run = self.machine.run
        self.number = int(name[1:])
        self.address = f"10.0.0.{self.number}"

    def others(self) -> List[Node]:
        """The machines of the other suites."""
        return [Node(self.lab, name) for name in self.lab.machines if name != self.machine.name]

    def connect(self) -> None:
        """Give the machine its addresses on both LANs."""
        for interface, lan in LANS.items():
            self.run(["ip", "address", "add", f"{lan}.{self.number}/24", "dev", interface])
            self.run(["ip", "link", "set", "dev", interface, "up"])

    def bring_up(self, package: Path) -> None:
        """Have the package, the configuration and a running agent, whatever was there before."""
        for node in [self, *self.others()]:
            node.have_key(package)
        configuration = self.machine.root / CONFIGURATION
        if not configuration.exists() or configuration.read_text() != self.configuration():
            self.configure(self.configuration())
            self.run(["systemctl", "restart", "ropeway"])
        self.run(["systemctl", "start", "ropeway"])
        self.status()

    def have_key(self, package: Path) -> None:
        """Have the package and a private key, made on the machine."""
        if not self.has("ropeway", __version__):
            self.install(package)
        if not (self.machine.root / KEY).exists():
            self.run(["ropeway", "genkey"])

    def public_key(self) -> str:
        """The public key of the machine, as it tells it itself."""
        return self.run(["ropeway", "pubkey"]).stdout.strip()

    def configure(self, text: str, path: Path = CONFIGURATION) -> None:
        """Put a configuration where the agent may read it."""
        configuration = self.machine.root / path
        configuration.write_text(text)
        self.run(["chown", "root:ropeway", f"/{path}"])
        configuration.chmod(0o640)

    def configuration(self, **changes: Any) -> str:
        """The agent's configuration: every other machine is a peer with two addresses."""
        peers = [
            {
                "host": other.address,
                "public_key": other.public_key(),
                "addresses": [f"{lan}.{other.number}" for lan in LANS.values()],
            }
            for other in self.others()
        ]
        settings = {
            "network": "10.0.0.0/24",
            "address": self.address,
            "interfaces": {"include": list(LANS)},
            "peers": peers,
            **changes,
        }
        return json.dumps(settings, indent=1)

    def has(self, name: str, version: str) -> bool:
        """Whether this version of a package is installed."""
        said = self.run(["dpkg-query", "-W", "-f=${Status} ${Version}", name], check=False).stdout
        return said == f"install ok installed {version}"

    def install(self, package: Path) -> str:
        """Install a package file with apt, which has no network here."""
        shutil.copy(package, self.machine.root / "root" / package.name)
        return self.apt("--allow-downgrades", "install", f"/root/{package.name}")

    def apt(self, *words: str) -> str:
        """apt-get, which never asks; what it said."""
        done = self.run(
            [
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "-qq",
                "--yes",
                "--no-install-recommends",
                *words,
            ],
            timeout_s=APT_LIMIT_S,
        )
        return done.stdout + done.stderr

    def status(self) -> Dict[str, Any]:
        """What `ropeway status --json` says, as soon as it answers."""
        said = process.wait_for(
            lambda: self.run(["ropeway", "status", "--json"], check=False).stdout,
            what=f"An answer of the agent on {self.machine.name}",
            timeout_s=START_LIMIT_S,
        )
        found: Dict[str, Any] = json.loads(said)
        return found

    def unit(self, name: str, unit: str = "ropeway") -> str:
        """A property of the service, such as MainPID."""
        return self.run(["systemctl", "show", "--value", f"--property={name}", unit]).stdout.strip()

    def wait_said(self, words: str) -> None:
        """Wait until the journal of the service has some words: journald takes its time."""
        process.wait_for(
            lambda: words in self.journal(),
            what=f"{words!r} in the journal of {self.machine.name}",
            timeout_s=JOURNAL_LIMIT_S,
        )

    def journal(self) -> str:
        """What the service has said since the machine booted."""
        return self.run(["journalctl", "--no-pager", "--output=cat", "--unit=ropeway"]).stdout

    def kernel_state(self) -> List[str]:
        """What of ropeway there is in the kernel: devices and nftables tables."""
        links = json.loads(self.run(["ip", "-j", "link"]).stdout)
        tables = json.loads(self.run(["nft", "-j", "list", "tables"]).stdout)["nftables"]
        names = [link["ifname"] for link in links]
        names += [entry["table"]["name"] for entry in tables if "table" in entry]
        return [name for name in names if "ropeway" in name]

    def ping(self, address: str, *, count: int) -> int:
        """How many of `count` pings to a virtual address are answered."""
        said = self.run(
            ["ping", "-n", "-i", "0.05", "-W", "5", "-c", str(count), address], check=False
        )
        found = re.search(r"(\d+) received", said.stdout)
        return int(found.group(1)) if found else 0
