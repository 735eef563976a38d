"""The command `ropeway check-config`."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import socket
import sys
from typing import Any, Dict, List

from ropeway.app.commands import output
from ropeway.app.commands.outcome import EXIT_FAILED, EXIT_OK
from ropeway.app.config.model import SECURE, Config
from ropeway.app.control import client
from ropeway.app.errors import ConfigError, Fault


@dataclasses.dataclass
class Findings:
    """What is wrong with a file, and what may be."""

    file: str
    errors: List[Fault] = dataclasses.field(default_factory=list)
    #: `errors` as lines, in words that may name another file.
    lines: List[str] = dataclasses.field(default_factory=list)
    warnings: List[Fault] = dataclasses.field(default_factory=list)

    def as_json(self) -> Dict[str, Any]:
        """Return all of it in the form of check-config.schema.json."""
        return {
            "file": self.file,
            "ok": not self.errors,
            "errors": [_as_json(fault) for fault in self.errors],
            "warnings": [_as_json(fault) for fault in self.warnings],
        }


def check_config(options: argparse.Namespace) -> int:
    """Check a configuration file, and what it names on this host; return the exit code."""
    found = _look(options.file, options.without_keys)
    if options.json:
        output.show(found.as_json())
    else:
        for fault in found.warnings:
            found.lines.append(f"{found.file}: {fault.place}: {fault.sentence}")
        for line in found.lines:
            print(line, file=sys.stderr)
        if not found.errors:
            print(f"{found.file}: ok")
    return EXIT_FAILED if found.errors else EXIT_OK


def _as_json(fault: Fault) -> Dict[str, Any]:
    return {"line": fault.line, "place": fault.place, "message": fault.sentence}


def _look(file: str, without_keys: bool) -> Findings:
    from ropeway.app.config import read
    from ropeway.app.store import keys

    found = Findings(file)
    # Root reads everything, so what matters is whether the service can.
    reader = keys.service_user() if os.geteuid() == 0 else None
    try:
        config = read.read(file, not without_keys, reader)
    except ConfigError as error:
        found.errors, found.lines = list(error.faults), list(error.errors)
        return found
    if without_keys:
        return found
    _look_for_own_addresses(config, found)
    if not found.errors and config.encapsulation == SECURE:
        _look_at_port(config, found)
    return found


def _look_for_own_addresses(config: Config, found: Findings) -> None:
    """Add this host's addresses that stand for others; an error if a host has none besides."""
    from ropeway.steward import own_address
    from ropeway.steward.netlink import interfaces

    try:
        own = own_address.find(config.others, interfaces.interfaces(ipv6=True))
    except OSError:
        # Where the interfaces cannot be seen, the agent will tell.
        return
    for one in own:
        fault = Fault(None, "peers", str(one))
        if one.only:
            found.errors.append(fault)
            found.lines.append(f"{found.file}: peers: {one}")
        else:
            found.warnings.append(fault)


def _look_at_port(config: Config, found: Findings) -> None:
    """Warn where another program than the agent of this configuration has its UDP port.

    The file may be right all the same: that program may be about to go.
    """
    port = config.port
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", port))
        return
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return
    try:
        if client.request(config.control.path, {"command": "status"}).get("port") == port:
            return
    except client.ControlError:
        pass
    sentence = (
        f"another program, perhaps a second agent, has UDP port {port} now, and while it has, the"
        " agent can use no link there: stop it, or choose another port"
    )
    found.warnings.append(Fault(None, "port", sentence))
