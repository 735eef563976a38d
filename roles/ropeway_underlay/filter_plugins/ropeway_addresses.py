"""The addresses that a host lacks, from the output of ip."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.values import names_in
from ropeway_fleet.wording import failure_output


def missing_addresses(output: Any, interfaces: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return the addresses of ``interfaces`` that a host lacks, as "INTERFACE ADDRESS/PREFIX".

    ``output`` is that of ``ip -j address show``, which lists all interfaces; output of another form
    has no addresses. An interface without carrier (no flag LOWER_UP) counts as complete: networkd
    assigns its address when the link comes up. So does one with ``configure: false``. An interface
    that does not exist lacks its address.
    """
    links = _links(output)
    missing = []
    for interface in interfaces:
        if not interface.get("configure", True):
            continue
        name, address = str(interface["name"]), str(interface["address"])
        link = links.get(name)
        if link is not None and "LOWER_UP" not in _items(link, "flags"):
            continue
        present = [
            f"{item.get('local')}/{item.get('prefixlen')}"
            for item in _items(link or {}, "addr_info")
            if isinstance(item, Mapping) and item.get("family") == "inet"
        ]
        if address not in present:
            missing.append(f"{name} {address}")
    return missing


def _links(output: Any) -> Dict[str, Mapping[str, Any]]:
    try:
        dump = json.loads(output)
    except (TypeError, ValueError, RecursionError):
        return {}
    return {
        str(link["ifname"]): link
        for link in (dump if isinstance(dump, list) else ())
        if isinstance(link, Mapping) and "ifname" in link
    }


def _items(link: Mapping[str, Any], key: str) -> List[Any]:
    listed = link.get(key)
    return listed if isinstance(listed, list) else []


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_missing_addresses": missing_addresses,
            "ropeway_failure_output": failure_output,
            "ropeway_names": names_in,
        }
