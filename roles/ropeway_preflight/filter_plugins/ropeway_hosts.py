"""Questions that every host answers before any host is changed.

What a host says is not trusted: it may be of any kind and length, a template or an escape sequence.
Sentences show it in quotes where it is not plain, without control characters, and cut.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, Optional, Tuple

# Of what a host says, as much is shown, and as many items of a list.
SAID_MAX = 80
ITEMS_MAX = 40
# What needs no quotes: names of interfaces, addresses, versions, distributions.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+~-]*(?: [A-Za-z0-9._:/@+~-]+)*")

# What the kernel says of itself and of a network namespace, random(4) and namespaces(7).
BOOT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NETWORK_NAMESPACE = re.compile(r"net:\[[0-9]{1,20}\]")
TUN_THERE = "tun"


def host_problems(facts: Any, name: str, said: Any, wanted: Mapping[str, Any]) -> List[str]:
    """Every problem of a host as sentences that begin with "NAME: "; empty if there is none.

    ``facts`` are Ansible's, ``said`` is what the task printed that asks for machine and TUN device.
    ``wanted`` has ``interfaces`` (names), ``network``, ``device``, ``versions`` (the oldest release
    of each distribution) and ``python``.
    """
    known = facts if isinstance(facts, Mapping) else {}
    found = [
        *_system_problems(known, wanted),
        *_interface_problems(known, wanted),
        *_overlap_problems(known, wanted),
    ]
    if TUN_THERE not in _lines(said):
        found.append(
            "there is no character device /dev/net/tun: load the kernel module tun, or give "
            "the container the device."
        )
    return [f"{name}: {sentence}" for sentence in found]


def machine_of(said: Any) -> str:
    """Which network stack of which running kernel this is; empty if the host does not say so.

    Copies of one disk differ in it, and so do containers of one machine.
    """
    lines = _lines(said)
    boot = [line for line in lines if BOOT_ID.fullmatch(line)]
    namespace = [line for line in lines if NETWORK_NAMESPACE.fullmatch(line)]
    return f"{boot[0]} {namespace[0]}" if boot and namespace else ""


def same_machine_problems(machines: Mapping[str, Any]) -> List[str]:
    """Hosts of the inventory that are one machine, by what `machine_of` says of each."""
    owners: Dict[str, List[str]] = {}
    for name, machine in machines.items():
        if machine:
            owners.setdefault(str(machine), []).append(name)
    return [
        f"{' and '.join(names)} are one machine: leave it in the inventory once, or correct the "
        "ansible_host of the others."
        for names in owners.values()
        if len(names) > 1
    ]


def host_values(names: Sequence[str], hostvars: Mapping[str, Any], fact: str) -> Dict[str, Any]:
    """A fact that a role has set, of each of the hosts that have it."""
    found = {name: hostvars[name].get(fact) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def overlapping_addresses(
    addresses: Sequence[Mapping[str, str]], network: str, device: str
) -> List[str]:
    """Which of a host's own addresses collide with the virtual network, as "NAME ADDRESS".

    ``addresses`` are items of {"interface", "cidr"}; those of the agent's own device don't count.
    """
    virtual = ipaddress.IPv4Network(network)
    return [
        f"{item['interface']} {item['cidr']}"
        for item in addresses
        if item["interface"] != device
        and ipaddress.IPv4Interface(str(item["cidr"])).network.overlaps(virtual)
    ]


def fact_addresses(facts: Mapping[str, Any]) -> List[Dict[str, str]]:
    """The IPv4 addresses in Ansible's network facts as items of {"interface", "cidr"}."""
    found = []
    for name in _interfaces(facts):
        # Ansible's own spelling of an interface's name as the name of a fact.
        entry = facts.get(name.replace("-", "_").replace(":", "_"))
        if not isinstance(entry, Mapping):
            continue
        more = entry.get("ipv4_secondaries")
        for item in [entry.get("ipv4"), *(more if isinstance(more, list) else ())]:
            cidr = _cidr(item)
            if cidr:
                found.append({"interface": name, "cidr": cidr})
    return found


def said_words(said: Any) -> str:
    """What a host says, as a sentence shows it."""
    text = str(said)
    if len(text) <= SAID_MAX and PLAIN.fullmatch(text):
        return text
    printable = "".join(c if c.isprintable() else "?" for c in text[:SAID_MAX])
    return repr(printable) + ("..." if len(text) > SAID_MAX else "")


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


def _lines(said: Any) -> List[str]:
    return said.splitlines() if isinstance(said, str) else []


def _listed(items: Sequence[str]) -> str:
    shown = [said_words(item) for item in items[:ITEMS_MAX]]
    return ", ".join(shown + ["..."] * (len(items) > ITEMS_MAX))


def _version(text: str) -> Optional[Tuple[int, ...]]:
    """The numbers at the beginning of a version; None for a release that has only a name."""
    match = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,9}", text)
    return tuple(map(int, match[0].split("."))) if match else None


def _is_older(version: str, oldest: str) -> bool:
    own, least = _version(version), _version(oldest)
    return own is not None and least is not None and own < least


def _system_problems(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    system, release = (
        str(facts.get("distribution", "")),
        str(facts.get("distribution_version", "")),
    )
    oldest = wanted["versions"].get(system)
    if oldest is None or _is_older(release, str(oldest)):
        supported = " and ".join(f"{one} {least}" for one, least in wanted["versions"].items())
        yield (
            f"the system is {said_words(f'{system} {release}')}: ropeway needs {supported} or "
            "later."
        )
    python = str(facts.get("python_version", ""))
    if _version(python) is None or _is_older(python, str(wanted["python"])):
        yield (f"Python is {said_words(python)}: the agent needs {wanted['python']} or later.")
    manager = str(facts.get("service_mgr", ""))
    if manager != "systemd":
        yield f"the service manager is {said_words(manager)}: ropeway needs systemd."


def _interface_problems(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    present = _interfaces(facts)
    missing = sorted({str(name) for name in wanted["interfaces"]} - set(present))
    if missing:
        yield (
            f"there is no interface {_listed(missing)} (there is {_listed(sorted(present))}): "
            "correct ropeway_interfaces or ropeway_management_interface, or name what may be off "
            "in ropeway_tolerated_links."
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
    """What Ansible's templates may call."""

    def filters(self) -> Dict[str, Any]:
        """The filters by the name that a template uses."""
        return {
            "ropeway_host_problems": host_problems,
            "ropeway_host_values": host_values,
            "ropeway_machine": machine_of,
            "ropeway_same_machine_problems": same_machine_problems,
        }
