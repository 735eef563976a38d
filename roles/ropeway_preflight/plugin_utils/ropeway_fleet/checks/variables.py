"""The variables that an inventory may set, and the problems of all other names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List

from ..wording import shown
from .groups import by_group

VARIABLE_PREFIX = "ropeway_"
# The variables that an inventory may set, besides those of the roles (meta/argument_specs.yml).
INVENTORY_VARIABLES = (
    "ropeway_accept_new_keys",
    "ropeway_addresses_file",
    "ropeway_classes",
    "ropeway_copy_dscp",
    "ropeway_direct",
    "ropeway_cpu_latency_us",
    "ropeway_device_mtu",
    "ropeway_device_name",
    "ropeway_direct_peers",
    "ropeway_encapsulation",
    "ropeway_endpoints",
    "ropeway_interfaces",
    "ropeway_keys_file",
    "ropeway_leases",
    "ropeway_links",
    "ropeway_management_interface",
    "ropeway_max_age_s",
    "ropeway_network",
    "ropeway_network6",
    "ropeway_offload_disable",
    "ropeway_package",
    "ropeway_port",
    "ropeway_psk",
    "ropeway_rollover_s",
    "ropeway_serial",
    "ropeway_subnets",
    "ropeway_tolerated_links",
    "ropeway_virtual_address",
)
# Variables that the roles and the files of records set.
SET_BY_ROLES = (
    "ropeway_agent_keys",
    "ropeway_preflight_addresses",
    "ropeway_recorded_addresses",
    "ropeway_recorded_keys",
)
# Variables of former versions, and their present names.
REMOVED_VARIABLES = {
    "ropeway_agent_remotes": "ropeway_agent_peers",
    "ropeway_client_remotes": "ropeway_client_peers",
    "ropeway_router_remotes": "ropeway_router_peers",
}
# Names that are at least this similar (difflib's ratio, 0 to 1) count as mistyped: "ropway" and
# "ropeway" have 0.92, "gateway" and "ropeway" 0.57.
MISTYPED_RATIO = 0.8


def unknown_variable_problems(
    groups: Mapping[str, Sequence[str]],
    read: Mapping[str, Mapping[str, Any]],
    known: Sequence[str],
) -> Iterator[str]:
    """Yield the problems of removed, unknown and mistyped names.

    Their values may be secrets and are never shown.
    """
    owners: Dict[str, List[str]] = {}
    for name, variables in read.items():
        for key in variables:
            owners.setdefault(key, []).append(name)
    for key, having in owners.items():
        if key in REMOVED_VARIABLES:
            yield _removed_problem(by_group(having, groups), key)
        elif key.startswith(VARIABLE_PREFIX):
            if key not in known and key not in SET_BY_ROLES:
                endings = [name[len(VARIABLE_PREFIX) :] for name in known]
                near = difflib.get_close_matches(key[len(VARIABLE_PREFIX) :], endings, 1)
                advice = (
                    f"did you mean {VARIABLE_PREFIX}{near[0]}?"
                    if near
                    else f"the prefix {VARIABLE_PREFIX} is reserved: rename or remove it."
                )
                yield f"{by_group(having, groups)}: the variable {key} is unknown: {advice}"
        elif _is_mistyped_prefix(key):
            near = difflib.get_close_matches(key.lower(), known, 1, MISTYPED_RATIO)
            if near:
                yield (
                    f"{by_group(having, groups)}: the variable {shown(key)} is unknown: "
                    f"did you mean {near[0]}?"
                )


def removed_variable_problems(names: Sequence[str], host: str) -> List[str]:
    """Return a problem for each of ``names``, variables of a host, that a former version had."""
    return [_removed_problem(host, name) for name in names if name in REMOVED_VARIABLES]


def _removed_problem(owners: str, name: str) -> str:
    return f"{owners}: {name} is now called {REMOVED_VARIABLES[name]}: rename it."


def _is_mistyped_prefix(key: str) -> bool:
    prefix = VARIABLE_PREFIX.rstrip("_")
    head = re.split("[_-]", key.lower())[0]
    return difflib.SequenceMatcher(None, head, prefix).ratio() >= MISTYPED_RATIO
