"""What the agents of a lab say about themselves, and waiting until they say what is hoped for."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from . import process
from .errors import LabError
from .lab import Lab
from .machines import Machine

STATUS_POLL_S = 0.2
SETTLE_LIMIT_S = 20.0


def status(machine: Machine) -> Dict[str, Any]:
    """`ropeway status --json` of a machine; LabError if its agent does not answer."""
    found: Dict[str, Any] = json.loads(machine.run(["ropeway", "status", "--json"]).stdout)
    return found


def answers(machine: Machine) -> bool:
    """Whether the machine's agent answers at all."""
    return machine.run(["ropeway", "status", "--json"], check=False).returncode == 0


def neighbours_over(found: Dict[str, Any], interface: str) -> List[str]:
    """The virtual addresses to which a connection over `interface` carries traffic right now."""
    index = {link["index"] for link in found["links"] if link["name"] == interface and link["up"]}
    return [
        peer["host"]
        for peer in found["peers"]
        if any(c["link"] in index and c["carries"] for c in peer["connections"])
    ]


def carries(lab: Lab, host: str, lan: str) -> bool:
    """Whether a host's link to a LAN carries traffic, as it and a neighbour there both see it."""
    machine = lab.machine(host)
    own = status(machine)
    seen = neighbours_over(own, machine.host.interface_on(lan))
    for other in lab.topology.hosts_on(lan):
        if other.name == host:
            continue
        its = status(lab.machine(other.name))
        if its["address"] in seen and own["address"] in neighbours_over(
            its, other.interface_on(lan)
        ):
            return True
    return False


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
