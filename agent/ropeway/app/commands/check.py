"""The command `ropeway check-config`."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from ropeway.app.commands.outcome import EXIT_FAILED, EXIT_OK
from ropeway.app.config.model import Config
from ropeway.app.control import client
from ropeway.app.errors import ConfigError


def check_config(options: argparse.Namespace) -> int:
    """Check a configuration file, and what it names on this host; return the exit code."""
    from ropeway.app.config import model, read
    from ropeway.app.store import keys

    # Root reads everything, so what matters is whether the service can.
    reader = keys.service_user() if os.geteuid() == 0 else None
    try:
        found = read.read(options.file, not options.without_keys, reader)
    except ConfigError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return EXIT_FAILED
    if not options.without_keys and _misses_the_mark(options.file, found):
        return EXIT_FAILED
    print(f"{options.file}: ok")
    if not options.without_keys and found.encapsulation == model.SECURE:
        _warn_of_port(options.file, found.control.path, found.port)
    return EXIT_OK


def _misses_the_mark(file: str, found: Config) -> bool:
    """Name this host's addresses that stand for others; say whether a host has none besides."""
    from ropeway.steward import own_address
    from ropeway.steward.netlink import interfaces

    try:
        own = own_address.find(found.others, interfaces.interfaces(ipv6=True))
    except OSError:
        # Where the interfaces cannot be seen, the agent will tell.
        return False
    for one in own:
        print(f"{file}: peers: {one}", file=sys.stderr)
    return any(one.only for one in own)


def _warn_of_port(file: str, control_path: str, port: int) -> None:
    """Say so where another program than the agent of this configuration has its UDP port.

    The file may be right all the same: that program may be about to go.
    """
    import errno

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", port))
        return
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return
    try:
        if client.request(control_path, {"command": "status"}).get("port") == port:
            return
    except client.ControlError:
        pass
    print(
        f"{file}: port: another program, perhaps a second agent, has UDP port {port} now, and while"
        " it has, the agent can use no link there: stop it, or choose another port",
        file=sys.stderr,
    )
