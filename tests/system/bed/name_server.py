"""A name server of the distribution in a host's namespace, and hosts that ask it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.system.bed.agents import Process
from tests.system.bed.topology import Host, until

START_S = 10.0
DOMAIN = "example.net"


class NameServer(Process):
    """A dnsmasq that knows the hosts of DOMAIN, and what its `records` say of them."""

    def __init__(self, host: Host, directory: Path, *addresses: str) -> None:
        super().__init__(host, directory, "dnsmasq")
        self.addresses = addresses
        self._hosts = directory / f"{host.name}-records"
        self.set_records({})

    def start(self) -> NameServer:
        """Start it, and wait until it serves."""
        options = ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--local=/{DOMAIN}/"]
        options += ["--keep-in-foreground", "--user=root", "--pid-file=", "--log-facility=-"]
        options += ["--log-queries", f"--addn-hosts={self._hosts}", "--bind-interfaces"]
        options += [f"--listen-address={address}" for address in self.addresses]
        self.launch("dnsmasq", *options)
        until(lambda: "started" in self.log(), START_S, lambda: f"dnsmasq\n{self.log()}")
        return self

    def set_records(self, records: dict[str, list[str]]) -> None:
        """Answer with these addresses from now on, by name without DOMAIN."""
        lines = [f"{a} {name}.{DOMAIN}\n" for name, listed in records.items() for a in listed]
        # Not in the place of the file: it is read again by name.
        self._hosts.write_text("".join(lines), encoding="ascii")
        if self.alive:
            os.kill(self.pid, signal.SIGHUP)

    def queries(self, name: str) -> int:
        """Return how often it was asked for a name, without DOMAIN."""
        return self.log().count(f"] {name}.{DOMAIN} from ")
