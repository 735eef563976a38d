"""Reads the addresses of a host out of iproute2's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Dict, List


def missing_addresses(
    dump: Sequence[Mapping[str, Any]], interfaces: Sequence[Mapping[str, Any]]
) -> List[str]:
    """Addresses of ``interfaces`` that ``dump`` lacks, as "NAME ADDRESS/PREFIX".

    ``dump`` is the parsed output of ``ip -j -4 address show`` (all links, those without an address
    too). An interface without carrier (no flag LOWER_UP) is let off: networkd gives it its address
    when the link comes. An interface that does not exist is missing its address. One with
    ``configure: false`` is somebody else's to address, and is let off as well.
    """
    links: Dict[str, Mapping[str, Any]] = {
        str(link["ifname"]): link for link in dump if "ifname" in link
    }
    missing = []
    for interface in interfaces:
        if not interface.get("configure", True):
            continue
        name, address = str(interface["name"]), str(interface["address"])
        link = links.get(name)
        if link is not None and "LOWER_UP" not in link.get("flags", ()):
            continue
        present = [
            f"{item.get('local')}/{item.get('prefixlen')}"
            for item in (link or {}).get("addr_info", ())
            if item.get("family") == "inet"
        ]
        if address not in present:
            missing.append(f"{name} {address}")
    return missing


class FilterModule:
    """What Ansible's templates may call."""

    def filters(self) -> Dict[str, Any]:
        """The filters by the name that a template uses."""
        return {"ropeway_missing_addresses": missing_addresses}
