"""What the agents of a lab say about themselves, and waiting until they say what is hoped for."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List

from . import process
from .errors import LabError
from .lab import Lab
from .machines import Machine

STATUS_POLL_S = 0.2
SETTLE_LIMIT_S = 60.0

# The highest state of a connection: both ways are known to work.
ESTABLISHED = 2
# Longer than the agents' keepalive under traffic (0.5 s), shorter than any cut of the demo.
# An end that has not noticed a short cut still believes in its connection, but has heard nothing
# over it.
FRESH_S = 0.8


def status(machine: Machine) -> Dict[str, Any]:
    """`ropeway status --json` of a machine; LabError if its agent does not answer."""
    found: Dict[str, Any] = json.loads(machine.run(["ropeway", "status", "--json"]).stdout)
    return found


def answers(machine: Machine) -> bool:
    """Whether the machine's agent answers at all."""
    return machine.run(["ropeway", "status", "--json"], check=False).returncode == 0


def wake(machine: Machine, found: Dict[str, Any]) -> None:
    """Send a datagram to each peer of a machine whose status is `found`.

    Agents that have nothing to carry are heard only now and then, so that nothing could be said of
    their connections; for some seconds after a packet they are heard twice a second.
    """
    discard = "for address; do echo > /dev/udp/$address/9; done"
    peers = [peer["host"] for peer in found["peers"]]
    machine.run(["bash", "-c", discard, "wake", *peers], check=False)


def neighbours_over(found: Dict[str, Any], interface: str, within_s: float) -> List[str]:
    """The virtual addresses to which an established connection over `interface` carries traffic.

    It counts if something was heard over it in the last `within_s` seconds. While nothing is
    established, unfinished connections carry the traffic, in hope; they don't count.
    """
    index = {link["index"] for link in found["links"] if link["name"] == interface and link["up"]}

    def counts(connection: Dict[str, Any]) -> bool:
        heard_s = connection["heard_s"]
        return (
            connection["link"] in index
            and connection["carries"]
            and connection["state"] == ESTABLISHED
            and heard_s is not None
            and heard_s <= within_s
        )

    return [peer["host"] for peer in found["peers"] if any(map(counts, peer["connections"]))]


def carries(lab: Lab, host: str, lan: str, within_s: float = FRESH_S) -> bool:
    """Whether a host's link to a LAN carries traffic, as it and a neighbour there both see it."""
    machine = lab.machine(host)
    own = status(machine)
    wake(machine, own)
    seen = neighbours_over(own, lab.topology.interface_on(host, lan), within_s)
    for other in lab.topology.hosts_on(lan):
        if other.name == host:
            continue
        its = status(lab.machine(other.name))
        back = neighbours_over(its, lab.topology.interface_on(other.name, lan), within_s)
        if its["address"] in seen and own["address"] in back:
            return True
    return False


def given_up(lab: Lab, host: str, lan: str) -> bool:
    """Whether one end or the other no longer counts on a host's link to a LAN."""
    return not carries(lab, host, lan, within_s=math.inf)


def wait_carries(lab: Lab, host: str, lan: str, limit_s: float = SETTLE_LIMIT_S) -> None:
    """Wait until `carries`; LabError with the host's status tree if it does not in time."""
    try:
        process.wait_for(
            lambda: carries(lab, host, lan),
            what=f"The link of {host} to {lan} carrying traffic",
            timeout_s=limit_s,
            poll_s=STATUS_POLL_S,
        )
    except LabError as error:
        tree = lab.machine(host).run(["ropeway", "status"], check=False)
        raise LabError(f"{error}\n{tree.stdout}{tree.stderr}") from error


def wait_all_carry(lab: Lab, limit_s: float = SETTLE_LIMIT_S) -> None:
    """Wait until every link of every host carries traffic."""
    for machine in lab.machines.values():
        for lan in machine.host.interfaces.values():
            wait_carries(lab, machine.name, lan, limit_s)
