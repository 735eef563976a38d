"""Ranges of IPv4 addresses, as text and as numbers."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

#: Addresses in a pool, at most: a /18.
POOL_MAX = 1 << 14


@dataclass(frozen=True)
class Range:
    """Addresses from ``first`` to ``last``, both included, as numbers."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def range_of(text: str) -> Range:
    """Return the range that ``10.0.0.0/24`` or ``10.0.0.10-10.0.0.99`` names.

    ValueError, with a sentence, if it names none, or more than :data:`POOL_MAX` addresses.
    """
    first, dash, last = text.partition("-")
    try:
        if dash:
            found = Range(
                int(ipaddress.IPv4Address(first.strip())), int(ipaddress.IPv4Address(last.strip()))
            )
        else:
            network = ipaddress.IPv4Network(text)
            found = Range(int(network.network_address), int(network.broadcast_address))
    except ValueError:
        raise ValueError(
            f"{text} is no range of addresses: write a network such as 10.213.77.128/25, or first"
            " and last, such as 10.213.77.100-10.213.77.199"
        ) from None
    if found.last < found.first:
        raise ValueError(f"{text} ends before it begins: write the lower address first")
    if len(found) > POOL_MAX:
        raise ValueError(f"{text} has {len(found)} addresses: a pool has at most {POOL_MAX}")
    return found
