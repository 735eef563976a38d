"""The command `ropeway leases`."""

from __future__ import annotations

import argparse
from typing import Any, Dict

from ropeway.app.commands import output
from ropeway.app.commands.outcome import EXIT_OK, fail
from ropeway.app.control import client


def show_leases(options: argparse.Namespace) -> int:
    """Print the lease of this host, and those that it has given; return the exit code."""
    found = client.request(options.control, {"command": "leases"})
    if options.json:
        output.show(found)
        return EXIT_OK
    own, pool = found["own"], found["pool"]
    if own is not None:
        print(_own(own))
    if pool is not None:
        print(_pool(pool))
    for lease in found["leases"]:
        print(_line(lease))
    if own is None and pool is None:
        print("this host gives no leases, and has an address of its own")
    return EXIT_OK


def release_lease(options: argparse.Namespace) -> int:
    """Have a router end the lease of a host; return the exit code."""
    if options.json:
        return fail("leases release prints nothing, so it has no --json")
    client.request(options.control, {"command": "lease-release", "address": options.host})
    return EXIT_OK


def _own(own: Dict[str, Any]) -> str:
    if own["address"] is None:
        return "this host has no address yet: it asks {router} for one".format(**own)
    return "this host is {address} by a lease of {router}, for {left_s:.0f} s more".format(**own)


def _pool(pool: Dict[str, Any]) -> str:
    text = "pool of {addresses} addresses: {held} held, {free} free; a lease is for {time_s:g} s"
    return text.format(**pool)


def _line(lease: Dict[str, Any]) -> str:
    connected = ", connected" if lease["connected"] else ""
    left = "" if lease["state"] == "over" else " for {:.0f} s more".format(lease["left_s"])
    return "{address}  {public_key}  {state}{left}{connected}".format(
        **{**lease, "left": left, "connected": connected}
    )
