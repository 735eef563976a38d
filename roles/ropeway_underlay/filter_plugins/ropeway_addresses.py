"""Reads what a host says about its addresses and about a change of them that failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.wording import failure_output


def missing_addresses(said: Any, interfaces: Sequence[Mapping[str, Any]]) -> List[str]:
    """Addresses of ``interfaces`` that a host lacks, as "NAME ADDRESS/PREFIX".

    ``said`` is the output of ``ip -j address show`` (all links, those without an address too);
    what is no such thing names no address. An interface without carrier (no flag LOWER_UP) is let
    off: networkd gives it its address when the link comes. An interface that does not exist is
    missing its address. One with ``configure: false`` is somebody else's to address, and is let
    off as well.
    """
    links = _links(said)
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


def _links(said: Any) -> Dict[str, Mapping[str, Any]]:
    try:
        dump = json.loads(said)
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
        }
