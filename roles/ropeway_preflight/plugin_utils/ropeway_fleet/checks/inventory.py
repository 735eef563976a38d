"""Runs all checks of an inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Iterator, List, Optional

from ..constants import ALL_GROUP, CLIENT_GROUP, ROUTER_GROUP
from .classes import class_problems
from .extra_networks import extra_network_problems
from .groups import group_problems, hosts_in, several_routers_problems, shared_problems
from .host import Host, read_host
from .lans import lan_problems
from .leases import lease_problems
from .links import link_problems
from .management import management_problems
from .reachability import (
    address_required_problems,
    direct_peer_problems,
    reachability_problems,
    tolerated_problems,
)
from .reading import read_variables
from .role_options import option_problems
from .settings import (
    cpu_latency_problems,
    device_problems,
    is_secure,
    max_age_problems,
    network6_problems,
    secure_problems,
    switch_problems,
)
from .subnets import subnet_problems
from .variables import INVENTORY_VARIABLES, unknown_variable_problems
from .virtual_addresses import read_record, reserved, virtual_address_problems
from .virtual_network import shared_value_problems


def inventory_problems(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
    record_path: str = "the record of addresses",
    role_options: Optional[Mapping[str, Mapping[str, Any]]] = None,
) -> List[str]:
    """Return all problems of the inventory, as sentences in a stable order.

    ``record`` is the parsed file of recorded addresses, or None if there is no file.
    ``role_options`` are the variables of the roles, from their meta/argument_specs.yml.
    If a variable cannot be read, only groups and names are checked besides.
    """
    names = hosts_in(groups, ALL_GROUP)
    if not names:
        sentence = (
            f"Group {ALL_GROUP} has no host: check the path given with -i, and list the hosts "
            f"under {ROUTER_GROUP} and {CLIENT_GROUP}."
        )
        return [sentence]
    problems = list(group_problems(groups, names))
    options = role_options or {}
    known = (*INVENTORY_VARIABLES, *options)
    read, found = read_variables(names, hostvars, known)
    problems += found
    problems += unknown_variable_problems(groups, read, known)
    if found:
        return shared_problems(problems, groups)
    problems += _value_problems(groups, names, read)
    problems += option_problems(names, hostvars, options)
    recorded, found = read_record(record, record_path)
    problems += found
    hosts = [read_host(name, read[name])[0] for name in names]
    problems += virtual_address_problems(
        hosts, reserved(recorded, names, read), record_path, groups
    )
    return shared_problems(problems, groups)


def _value_problems(
    groups: Mapping[str, Sequence[str]], names: List[str], read: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the problems of the values, except those of virtual addresses."""
    yield from shared_value_problems(names, read, groups)
    yield from several_routers_problems(groups, all(is_secure(read[name]) for name in names))
    hosts: List[Host] = []
    for name in names:
        host, found = read_host(name, read[name])
        hosts.append(host)
        yield from found
        yield from device_problems(name, read[name])
        yield from secure_problems(name, read[name])
        yield from cpu_latency_problems(
            name, "ropeway_cpu_latency_us", read[name].get("ropeway_cpu_latency_us")
        )
        yield from max_age_problems(name, "ropeway_max_age_s", read[name].get("ropeway_max_age_s"))
        yield from link_problems(
            name, "ropeway_links", read[name].get("ropeway_links"), is_secure(read[name])
        )
        yield from class_problems(
            name, "ropeway_classes", read[name].get("ropeway_classes"), is_secure(read[name])
        )
        for switch in ("ropeway_copy_dscp", "ropeway_direct"):
            yield from switch_problems(name, switch, read[name].get(switch), is_secure(read[name]))
        yield from subnet_problems(
            name,
            "ropeway_subnets",
            read[name].get("ropeway_subnets"),
            read[name].get("ropeway_network"),
            is_secure(read[name]),
        )
        yield from network6_problems(
            name,
            "ropeway_network6",
            (read[name].get("ropeway_network6"), read[name].get("ropeway_device_mtu")),
            is_secure(read[name]),
        )
        yield from direct_peer_problems(name, groups, read[name])
        yield from extra_network_problems(name, read[name])
    yield from lease_problems(groups, names, read)
    yield from tolerated_problems(hosts, read)
    yield from lan_problems(hosts)
    yield from management_problems(hosts, read)
    yield from address_required_problems(groups, hosts, read)
    yield from reachability_problems(groups, hosts, read)
