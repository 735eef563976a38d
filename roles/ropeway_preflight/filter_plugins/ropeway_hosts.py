"""The checks of each host, from its facts, which run before any host is changed."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.values import names_in
from ropeway_fleet.wording import shown_fact

# Longest list of a host's items that a message shows.
ITEMS_MAX = 40

# The kernel's names for its boot and for a network namespace: random(4), namespaces(7).
BOOT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NETWORK_NAMESPACE = re.compile(r"net:\[[0-9]{1,20}\]")
# The line that the task prints if /dev/net/tun exists.
TUN_PRESENT = "tun"


def host_problems(facts: Any, name: str, output: Any, wanted: Mapping[str, Any]) -> List[str]:
    """Return all problems of a host, as sentences that begin with "NAME: ".

    ``facts`` are Ansible's. ``output`` is that of the task which reads the machine's identity and
    looks for the TUN device. ``wanted`` has ``interfaces`` (names), ``network``, ``device``,
    ``versions`` (the oldest release of each distribution) and ``python`` (the oldest version).
    """
    known = facts if isinstance(facts, Mapping) else {}
    found = [
        *_system_problems(known, wanted),
        *_interface_problems(known, wanted),
        *_overlap_problems(known, wanted),
    ]
    if TUN_PRESENT not in _lines(output):
        found.append(
            "there is no character device /dev/net/tun: load the kernel module tun, or give "
            "the container the device."
        )
    return [f"{name}: {sentence}" for sentence in found]


def machine_of(output: Any) -> str:
    """Return an identifier of the host's boot and network namespace; "" if it reports none.

    It differs between copies of one disk, and between containers on one machine.
    """
    lines = _lines(output)
    boot = [line for line in lines if BOOT_ID.fullmatch(line)]
    namespace = [line for line in lines if NETWORK_NAMESPACE.fullmatch(line)]
    return f"{boot[0]} {namespace[0]}" if boot and namespace else ""


def same_machine_problems(machines: Mapping[str, Any]) -> List[str]:
    """Return a problem for each set of hosts with the same result of `machine_of`."""
    owners: Dict[str, List[str]] = {}
    for name, machine in machines.items():
        if machine:
            owners.setdefault(str(machine), []).append(name)
    return [
        f"{' and '.join(names)} are one machine: list it in the inventory once, or correct the "
        "ansible_host of the others."
        for names in owners.values()
        if len(names) > 1
    ]


def host_values(names: Sequence[str], hostvars: Mapping[str, Any], fact: str) -> Dict[str, Any]:
    """Return a fact of each host that has it."""
    found = {name: hostvars[name].get(fact) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def overlapping_addresses(
    addresses: Sequence[Mapping[str, str]], network: str, device: str
) -> List[str]:
    """Return the addresses that overlap the virtual network, as "INTERFACE ADDRESS".

    ``addresses`` are items of {"interface", "cidr"}; those of the agent's own device do not count.
    """
    virtual = ipaddress.IPv4Network(network)
    return [
        f"{item['interface']} {item['cidr']}"
        for item in addresses
        if item["interface"] != device
        and ipaddress.IPv4Interface(str(item["cidr"])).network.overlaps(virtual)
    ]


def fact_addresses(facts: Mapping[str, Any]) -> List[Dict[str, str]]:
    """Return the IPv4 addresses in Ansible's facts, as items of {"interface", "cidr"}."""
    found = []
    for name in _interfaces(facts):
        # Ansible replaces these characters when it names the fact of an interface.
        entry = facts.get(name.replace("-", "_").replace(":", "_"))
        if not isinstance(entry, Mapping):
            continue
        more = entry.get("ipv4_secondaries")
        for item in [entry.get("ipv4"), *(more if isinstance(more, list) else ())]:
            cidr = _cidr(item)
            if cidr:
                found.append({"interface": name, "cidr": cidr})
    return found


def _cidr(item: Any) -> Optional[str]:
    if not isinstance(item, Mapping):
        return None
    cidr = f"{item.get('address')}/{item.get('prefix') or item.get('netmask')}"
    try:
        ipaddress.IPv4Interface(cidr)
    except ValueError:
        return None
    return cidr


def _interfaces(facts: Mapping[str, Any]) -> List[str]:
    listed = facts.get("interfaces")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _lines(output: Any) -> List[str]:
    return output.splitlines() if isinstance(output, str) else []


def _listed(items: Sequence[str]) -> str:
    shown = [shown_fact(item) for item in items[:ITEMS_MAX]]
    return ", ".join(shown + ["..."] * (len(items) > ITEMS_MAX))


def _version(text: str) -> Optional[Tuple[int, ...]]:
    """Return the numbers at the beginning of a version; None if there are none."""
    match = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,9}", text)
    return tuple(map(int, match[0].split("."))) if match else None


def _is_older(version: str, oldest: str) -> bool:
    own, least = _version(version), _version(oldest)
    return own is not None and least is not None and own < least


def _system_problems(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    system = str(facts.get("distribution", ""))
    release = str(facts.get("distribution_version", ""))
    oldest = wanted["versions"].get(system)
    if oldest is None or _is_older(release, str(oldest)):
        supported = " and ".join(f"{one} {least}" for one, least in wanted["versions"].items())
        yield (
            f"the system is {shown_fact(f'{system} {release}')}: ropeway needs {supported} or "
            "later."
        )
    python = str(facts.get("python_version", ""))
    if _version(python) is None or _is_older(python, str(wanted["python"])):
        yield f"Python is {shown_fact(python)}: the agent needs {wanted['python']} or later."
    manager = str(facts.get("service_mgr", ""))
    if manager != "systemd":
        yield f"the service manager is {shown_fact(manager)}: ropeway needs systemd."


def _interface_problems(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    present = _interfaces(facts)
    missing = sorted({str(name) for name in wanted["interfaces"]} - set(present))
    if missing:
        yield (
            f"there is no interface {_listed(missing)} (there is {_listed(sorted(present))}): "
            "correct ropeway_interfaces or ropeway_management_interface, or list interfaces that "
            "may be absent in ropeway_tolerated_links."
        )


def _overlap_problems(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    network = str(wanted["network"])
    found = overlapping_addresses(fact_addresses(facts), network, str(wanted["device"]))
    if found:
        yield (
            f"the address {_listed(found)} overlaps the virtual network {network}: choose another "
            "ropeway_network."
        )


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_host_problems": host_problems,
            "ropeway_host_values": host_values,
            "ropeway_machine": machine_of,
            "ropeway_names": names_in,
            "ropeway_same_machine_problems": same_machine_problems,
        }
