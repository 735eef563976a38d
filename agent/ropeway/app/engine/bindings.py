"""Which sockets the links need."""

from __future__ import annotations

import resource
from collections import Counter
from typing import Dict, Hashable, Iterable, List, Set, Tuple

from ropeway.core.link import Link

# Tuning
#: A link has a socket at each of its addresses, and a few are as good as thousands.
ADDRESSES_PER_LINK_MAX = 8
#: So many sockets send, at most, over all links.
SOCKETS_MAX = 256
#: Descriptors left for what is no link's socket: netlink, the device, control clients.
DESCRIPTORS_RESERVED = 128

#: By the node's key for each socket, its link and address.
Bindings = Dict[Hashable, Tuple[Link, str]]


def bindings(links: Iterable[Link], secure: bool, limit: int = SOCKETS_MAX) -> Bindings:
    """Return which sockets the links need: by the node's key for each, its link and address.

    A link of a classic network has one, whatever its addresses. A link of a secure one has
    `ADDRESSES_PER_LINK_MAX` at most, and all together have `limit`.
    """
    wanted: Bindings = {}
    for link in links:
        for address in _addresses_used(link) if secure else ("",):
            if len(wanted) < limit:
                wanted[(link.index, address) if secure else link.index] = link, address
    return wanted


def _addresses_used(link: Link) -> List[str]:
    """Return the addresses that get sockets: the first of each family, half of each if need be."""
    half = ADDRESSES_PER_LINK_MAX // 2
    room6 = min(len(link.addresses6), max(half, ADDRESSES_PER_LINK_MAX - len(link.addresses)))
    chosen = (
        *link.addresses[: ADDRESSES_PER_LINK_MAX - room6],
        *link.addresses6[:room6],
    )
    return [text.split("/")[0] for text in chosen]


def unshared(wanted: Bindings) -> Set[Hashable]:
    """Return which bindings of a secure network are the only one of their address."""
    times = Counter(address for _, address in wanted.values())
    return {key for key, (_, address) in wanted.items() if times[address] == 1}


def sockets_max() -> int:
    """Return how many bindings leave this process descriptors enough for the rest."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return SOCKETS_MAX
    # Two of each: one that sends, and one for what comes by another interface or as raw packets.
    return max(1, min(SOCKETS_MAX, (limit - DESCRIPTORS_RESERVED) // 2))
