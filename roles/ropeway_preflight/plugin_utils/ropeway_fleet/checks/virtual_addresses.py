"""The virtual addresses: given by the inventory, recorded, or allocated."""

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


def virtual_address_problems(
    hosts: List[Host],
    recorded: Dict[str, ipaddress.IPv4Address],
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Yield the problems of virtual addresses, given and recorded."""
    owners: Dict[ipaddress.IPv4Address, List[str]] = {}
    outside: Dict[ipaddress.IPv4Network, List[str]] = {}
    present = {host.name for host in hosts}
    for host in hosts:
        known = recorded.get(host.name)
        explicit = host.virtual_address
        if explicit is not None and known is not None and explicit != known:
            yield (
                f"{host.name}: ropeway_virtual_address is {explicit}, but {record_path} gave it "
                f"{known}: put that one into the inventory, or delete the line of {host.name} in "
                "the record if the address shall change."
            )
        address = explicit or known
        if address is None:
            continue
        owners.setdefault(address, []).append(host.name)
        if host.network is not None and explicit:
            yield from placement_problems(
                host.name, "ropeway_virtual_address", address, host.network
            )
        elif host.network is not None and any(
            placement_problems(host.name, "", address, host.network)
        ):
            outside.setdefault(host.network, []).append(host.name)
    for network, names in outside.items():
        yield _moved_network_problem(network, names, recorded, record_path, groups)
    for address, names in owners.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have the same ropeway_virtual_address {address}: give each "
                "host its own."
            )
    for name, address in recorded.items():
        if name not in present and address in owners:
            yield (
                f"{listing(owners[address])}: ropeway_virtual_address {address} was given to "
                f"{name} in {record_path}: take another one, or delete the line of {name} if it "
                "is gone for good."
            )
    yield from _allocate(hosts, recorded)[1]


def _moved_network_problem(
    network: ipaddress.IPv4Network,
    names: List[str],
    recorded: Mapping[str, ipaddress.IPv4Address],
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> str:
    one = len(names) == 1
    what = "recorded address" if one else "recorded addresses, such as"
    lines = f"the line{'' if one else 's'} of {names[0] if one else 'these hosts'}"
    if set(recorded) <= set(names):
        lines = "that file"
    return (
        f"{by_group(names, groups)}: the {what} {recorded[names[0]]} ({record_path}) can't be used "
        f"in the virtual network {network}: if ropeway_network shall change, delete {lines}, and "
        "the next run gives new addresses; if not, put the former ropeway_network back."
    )


def virtual_addresses(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
) -> Dict[str, str]:
    """The virtual address of every host: explicit, else recorded, else the lowest free one.

    Assumes an inventory without problems. On a classic network addresses of the record stay taken
    even if their host has left the inventory, since nothing but the address tells it from another.
    """
    names = hosts_in(groups, ALL_GROUP)
    read, _ = read_variables(names, hostvars, ())
    return _virtual_addresses(names, read, record)


def recorded_addresses(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
) -> Dict[str, str]:
    """What the record must hold: what it held, and each address that is not in the inventory.

    On a secure network the lines of hosts that have left the inventory go: their keys are refused.
    """
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


def read_record(
    record: Any, record_path: str
) -> Tuple[Dict[str, ipaddress.IPv4Address], List[str]]:
    """The addresses of all.vars.ropeway_recorded_addresses, and what is wrong with them."""
    if record is None:
        return {}, []
    try:
        entries = dict(record["all"]["vars"][RECORD_KEY])
    except (KeyError, TypeError, ValueError):
        sentence = (
            f"{record_path} holds no mapping all.vars.{RECORD_KEY}: restore it from your "
            "version control; without it hosts could get new addresses."
        )
        return {}, [sentence]
    recorded: Dict[str, ipaddress.IPv4Address] = {}
    problems = []
    for name, raw in entries.items():
        try:
            recorded[str(name)] = ipaddress.IPv4Address(str(raw))
        except ValueError:
            problems.append(
                f"{record_path}: {shown(raw)} of {name} is no IPv4 address: correct the line."
            )
    return recorded, problems


def reserved(
    recorded: Dict[str, ipaddress.IPv4Address],
    names: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Dict[str, ipaddress.IPv4Address]:
    """The recorded addresses that stay taken: on a secure network, those of the hosts ``names``."""
    if names and all(is_secure(hostvars[name]) for name in names):
        return {name: address for name, address in recorded.items() if name in names}
    return recorded


def _allocate(
    hosts: List[Host], recorded: Dict[str, ipaddress.IPv4Address]
) -> Tuple[Dict[str, ipaddress.IPv4Address], List[str]]:
    taken = set(recorded.values())
    taken.update(host.virtual_address for host in hosts if host.virtual_address is not None)
    given: Dict[str, ipaddress.IPv4Address] = {}
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
