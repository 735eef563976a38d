"""ropeway_virtual_address: set in the inventory, recorded, or allocated."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, Tuple

from ..constants import ALL_GROUP
from ..wording import listing, shown
from .groups import by_group, hosts_in
from .host import Host, read_host
from .reading import read_variables
from .settings import is_secure
from .virtual_network import placement_problems

RECORD_KEY = "ropeway_recorded_addresses"

Addresses = Dict[str, ipaddress.IPv4Address]


def virtual_address_problems(
    hosts: List[Host],
    recorded: Addresses,
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Yield the problems of the virtual addresses in the inventory and in the record."""
    yield from _contradictions(hosts, recorded, record_path)
    yield from _placements(hosts, recorded, record_path, groups)
    yield from _duplicates(hosts, recorded, record_path)
    yield from _allocate(hosts, recorded)[1]


def _contradictions(hosts: List[Host], recorded: Addresses, record_path: str) -> Iterator[str]:
    """Yield a problem for each host whose address in the inventory differs from the record."""
    for host in hosts:
        explicit, known = host.virtual_address, recorded.get(host.name)
        if explicit is not None and known is not None and explicit != known:
            yield (
                f"{host.name}: ropeway_virtual_address is {explicit}, but {record_path} has "
                f"{known}: use {known} in the inventory, or delete the line of {host.name} in the "
                "record to change the address."
            )


def _placements(
    hosts: List[Host],
    recorded: Addresses,
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Yield the problems of addresses that the virtual network has no place for."""
    outside: Dict[ipaddress.IPv4Network, List[str]] = {}
    for host in hosts:
        explicit, known = host.virtual_address, recorded.get(host.name)
        if host.network is None:
            continue
        if explicit:
            yield from placement_problems(
                host.name, "ropeway_virtual_address", explicit, host.network
            )
        elif known and any(placement_problems(host.name, "", known, host.network)):
            outside.setdefault(host.network, []).append(host.name)
    for network, names in outside.items():
        yield _changed_network_problem(network, names, recorded, record_path, groups)


def _changed_network_problem(
    network: ipaddress.IPv4Network,
    names: List[str],
    recorded: Addresses,
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> str:
    one = len(names) == 1
    subject = "recorded address" if one else "recorded addresses, such as"
    verb = "is" if one else "are"
    lines = f"the line{'' if one else 's'} of {names[0] if one else 'these hosts'}"
    if set(recorded) <= set(names):
        lines = "that file"
    return (
        f"{by_group(names, groups)}: the {subject} {recorded[names[0]]} ({record_path}) {verb} not "
        f"usable in the virtual network {network}: if you want to change ropeway_network, delete "
        f"{lines}, and the next run allocates new addresses. If not, restore the former "
        "ropeway_network."
    )


def _duplicates(hosts: List[Host], recorded: Addresses, record_path: str) -> Iterator[str]:
    """Yield a problem for each address of several hosts, present or only recorded."""
    owners: Dict[ipaddress.IPv4Address, List[str]] = {}
    for host in hosts:
        address = host.virtual_address or recorded.get(host.name)
        if address is not None:
            owners.setdefault(address, []).append(host.name)
    for address, names in owners.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have the same ropeway_virtual_address {address}: give each "
                "host its own."
            )
    present = {host.name for host in hosts}
    for name, address in recorded.items():
        if name not in present and address in owners:
            yield (
                f"{listing(owners[address])}: {record_path} has ropeway_virtual_address {address} "
                f"for {name}: use another address, or delete the line of {name} if that host is "
                "gone for good."
            )


def virtual_addresses(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
) -> Dict[str, str]:
    """Return the virtual address of every host.

    It is that of the inventory, else the recorded one, else the lowest free one. The inventory must
    have no problems.
    """
    names = hosts_in(groups, ALL_GROUP)
    read, _ = read_variables(names, hostvars, ())
    return _virtual_addresses(names, read, record)


def recorded_addresses(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
) -> Dict[str, str]:
    """Return the addresses to record: those reserved, and those that the inventory does not set."""
    names = hosts_in(groups, ALL_GROUP)
    read, _ = read_variables(names, hostvars, ())
    recorded = reserved(read_record(record, "")[0], names, read)
    wanted = {name: str(address) for name, address in recorded.items()}
    for name, address in _virtual_addresses(names, read, record).items():
        if read[name].get("ropeway_virtual_address") is None:
            wanted[name] = address
    return dict(sorted(wanted.items()))


def _virtual_addresses(
    names: List[str], read: Mapping[str, Mapping[str, Any]], record: Any
) -> Dict[str, str]:
    hosts = [read_host(name, read[name])[0] for name in names]
    recorded = reserved(read_record(record, "")[0], names, read)
    allocated, _ = _allocate(hosts, recorded)
    return {name: str(address) for name, address in allocated.items()}


def read_record(record: Any, record_path: str) -> Tuple[Addresses, List[str]]:
    """Return the addresses in all.vars.ropeway_recorded_addresses, and their problems."""
    if record is None:
        return {}, []
    try:
        entries = dict(record["all"]["vars"][RECORD_KEY])
    except (KeyError, TypeError, ValueError):
        sentence = (
            f"{record_path} has no mapping all.vars.{RECORD_KEY}: restore it from your "
            "version control. Without it hosts could get new addresses."
        )
        return {}, [sentence]
    recorded: Addresses = {}
    problems = []
    for name, raw in entries.items():
        try:
            recorded[str(name)] = ipaddress.IPv4Address(str(raw))
        except ValueError:
            problems.append(
                f"{record_path}: {shown(raw)} of {name} is not an IPv4 address: correct the line."
            )
    return recorded, problems


def reserved(
    recorded: Addresses,
    names: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Addresses:
    """Return the recorded addresses that no other host may get.

    On a secure network those are the addresses of hosts in the inventory: the keys of former hosts
    are refused. On a classic network only the address identifies a host, so all stay reserved.
    """
    if names and all(is_secure(hostvars[name]) for name in names):
        return {name: address for name, address in recorded.items() if name in names}
    return recorded


def _allocate(hosts: List[Host], recorded: Addresses) -> Tuple[Addresses, List[str]]:
    """Return an address for each host that can have one, and a problem for each other."""
    taken = set(recorded.values())
    taken.update(host.virtual_address for host in hosts if host.virtual_address is not None)
    given: Addresses = {}
    problems = []
    for host in hosts:
        address = host.virtual_address or recorded.get(host.name)
        if address is None and host.network is not None:
            address = next((free for free in host.network.hosts() if free not in taken), None)
            if address is None:
                problems.append(
                    f"{host.name}: {host.network} has no free address left for it: widen "
                    "ropeway_network."
                )
            else:
                taken.add(address)
        if address is not None:
            given[host.name] = address
    return given, problems
