"""What the two processes of the service may do, as each release's kernel interface reports it."""

from __future__ import annotations

import functools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Tuple

from tests import privileges
from tests.lab import process

from .node import Node

NETWORK = privileges.CAP_NET_ADMIN | privileges.CAP_NET_RAW
FORWARDING_LIMIT_S = 60.0
STEWARD_LIMIT_S = 5.0
#: At 20 a second, twice as long as another steward may take.
PINGS = 200


def privileges_of(node: Node, pid: str) -> privileges.Privileges:
    """Return what a process of the machine may do, as the machine's own /proc has it."""
    assert privileges.__file__ is not None
    with open(privileges.__file__, encoding="utf-8") as program:
        said = node.run(["python3", "-I", "-c", program.read(), pid]).stdout
    return privileges.Privileges(**json.loads(said))


def steward(node: Node) -> Tuple[str, int]:
    """Return the process ID of the steward, and how many others it has replaced."""
    found = node.status()["steward"]
    return str(found["pid"]), found["restarts"]


def test_the_engine_has_no_capability_and_nothing_open_that_takes_one(node: Node) -> None:
    found = privileges_of(node, node.unit("MainPID"))
    assert found.capabilities == dict.fromkeys(privileges.SETS, 0)
    assert (found.threads, found.netlink_sockets) == (1, 0)
    assert found.other_files(privileges.KEPT_OPEN) == []


def test_the_steward_has_the_two_capabilities_of_the_unit(node: Node) -> None:
    pid, _ = steward(node)
    found = privileges_of(node, pid)
    assert found.capabilities == dict.fromkeys(privileges.SETS, NETWORK)
    assert found.netlink_sockets > 0
    user = node.run(["ps", "-o", "user:20=", "-p", pid]).stdout.strip()
    assert user == "ropeway"


def test_packets_pass_while_the_steward_is_killed_and_replaced(node: Node) -> None:
    for other in node.others():
        process.wait_for(
            functools.partial(node.ping, other.address, count=1),
            what=f"A ping from {node.machine.name} to {other.address}",
            timeout_s=FORWARDING_LIMIT_S,
        )
    other = node.others()[0]
    engine = node.unit("MainPID")
    pid, restarts = steward(node)
    with ThreadPoolExecutor(1) as meanwhile:
        answered = meanwhile.submit(node.ping, other.address, count=PINGS)
        node.run(["kill", "-KILL", pid])
        process.wait_for(
            lambda: steward(node)[1] == restarts + 1 and steward(node)[0] not in ("0", pid),
            what=f"Another steward on {node.machine.name}",
            timeout_s=STEWARD_LIMIT_S,
        )
        assert not answered.done(), "the pings outlast it"
        assert answered.result() == PINGS
    assert node.status()["steward"]["fault"] == ""
    assert node.unit("MainPID") == engine
