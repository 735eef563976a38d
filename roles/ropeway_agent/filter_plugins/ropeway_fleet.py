"""What the agent's configuration takes from the other hosts of the inventory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, List, Tuple

# The file name that dpkg-deb and debhelper give: NAME_VERSION_ARCHITECTURE.deb.
PACKAGE_NAME = re.compile(r"(?:^|/)ropeway_(?P<version>[^_/]+)_all\.deb$")


def remotes(
    host: str,
    others: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    addresses: Mapping[str, str],
) -> List[Dict[str, Any]]:
    """The section ``remotes`` of the agent's configuration on ``host``.

    One item for each of ``others`` that shares a LAN with ``host``: its virtual address out of
    ``addresses`` and its real addresses on the shared LANs, in the order of its own inventory.
    An interface without an address (``configure: false``) is left out: the other end learns it.
    """
    lans = {interface["lan"] for interface in hostvars[host]["ropeway_interfaces"]}
    found = []
    for other in others:
        shared = [
            str(interface["address"]).split("/")[0]
            for interface in hostvars[other]["ropeway_interfaces"]
            if interface["lan"] in lans and interface.get("address")
        ]
        if other != host and shared:
            found.append({"host": addresses[other], "addresses": shared})
    return found


def newest_package(paths: Sequence[str]) -> str:
    """The path with the highest version among ropeway_VERSION_all.deb; "" if there is none."""
    packages = [path for path in paths if PACKAGE_NAME.search(path)]
    return max(packages, key=lambda path: _version_key(package_version(path)), default="")


def package_version(path: str) -> str:
    """VERSION out of .../ropeway_VERSION_all.deb; "" if the name is another one."""
    match = PACKAGE_NAME.search(path)
    return match["version"] if match else ""


def carrying_peers(status: Mapping[str, Any]) -> List[str]:
    """Virtual addresses of the peers in state 2 (both ways work) in ``ropeway status --json``."""
    return [str(peer["host"]) for peer in status.get("peers", ()) if peer["best_state"] == 2]


def _version_key(version: str) -> List[Tuple[int, Tuple[int, ...]]]:
    """Sorts as Debian Policy 5.6.12 does, without epochs, which file names leave out."""
    key = []
    for number, text in re.findall(r"(\d*)([^\d]*)", version):
        # "~" before the end of the part, the end before letters, letters before other characters.
        order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text]
        key.append((int(number or 0), (*order, 0)))
    return key


class FilterModule:
    """What Ansible's templates may call."""

    def filters(self) -> Dict[str, Any]:
        """The filters by the name that a template uses."""
        return {
            "ropeway_carrying_peers": carrying_peers,
            "ropeway_newest_package": newest_package,
            "ropeway_package_version": package_version,
            "ropeway_remotes": remotes,
        }
