"""The networks behind hosts."""

from __future__ import annotations

import ipaddress
from typing import Any, Iterator

from ..values import is_list
from ..wording import shown

# Where networks behind hosts may be: the agent makes no route to public addresses.
SITES = tuple(
    map(
        ipaddress.IPv4Network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"),
    )
)
SUBNETS_MAX = 32


def subnet_problems(where: str, key: str, raw: Any, virtual: Any, secure: bool) -> Iterator[str]:
    """Yield the problems of ``raw``, the networks behind a host of the network ``virtual``."""
    if not raw:
        return
    if not secure:
        yield f"{where}: {key} is only for secure networks: remove it."
        return
    if not is_list(raw) or len(raw) > SUBNETS_MAX:
        yield (
            f"{where}: {key} {shown(raw)} is not valid: list up to {SUBNETS_MAX} networks, such as "
            "[10.213.80.0/24]."
        )
        return
    for item in raw:
        try:
            network = ipaddress.IPv4Network(str(item) if isinstance(item, str) else None)
        except ValueError:
            yield (
                f"{where}: {shown(item)} in {key} is no IPv4 network: write one without host bits, "
                "such as 10.213.80.0/24."
            )
            continue
        if not any(network.subnet_of(site) for site in SITES):
            listed = ", ".join(map(str, SITES))
            yield f"{where}: {network} in {key} is not private: use parts of {listed}."
        elif _overlaps(network, virtual):
            yield f"{where}: {network} in {key} overlaps the virtual network {virtual}: remove it."


def _overlaps(network: ipaddress.IPv4Network, virtual: Any) -> bool:
    try:
        return network.overlaps(ipaddress.IPv4Network(str(virtual)))
    except ValueError:
        # Another check says so.
        return False
