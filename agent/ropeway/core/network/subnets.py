"""The networks behind hosts: which addresses are this host's, and which another one may have."""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, Tuple

from ropeway.core.packet.prefix import Longest, Prefix, parse

#: Where networks behind hosts may be (RFC 1918, RFC 6598, RFC 2544): a router must not be able to
#: draw what hosts send to public addresses.
SITES = tuple(
    map(parse, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"))
)


def may_be_behind(prefix: Prefix) -> bool:
    """Return whether a network may be behind a host."""
    return any(site.covers(prefix) for site in SITES)


class Subnets:
    """What the configuration says of networks behind hosts."""

    __slots__ = ("_allowed", "_own", "allowed", "own")

    def __init__(self) -> None:
        #: Those behind this host.
        self.own: Tuple[Prefix, ...] = ()
        #: Those that may be behind others, by virtual address as text.
        self.allowed: Dict[str, Tuple[Prefix, ...]] = {}
        self._own: Longest[bool] = Longest()
        self._allowed: Dict[str, Longest[bool]] = {}

    def set(self, own: Iterable[Prefix], allowed: Mapping[str, Iterable[Prefix]]) -> None:
        """Take the networks behind this host and behind others, all of them."""
        self.own = tuple(own)
        self.allowed = {host: tuple(some) for host, some in allowed.items() if some}
        self._own = _as_table(self.own)
        self._allowed = {host: _as_table(some) for host, some in self.allowed.items()}

    def is_here(self, address: bytes) -> bool:
        """Return whether an address is in a network behind this host."""
        return self._own.get(address) is not None

    def may_send(self, host: str, source: bytes) -> bool:
        """Return whether a host may send packets from an address, as one in a network behind it."""
        allowed = self._allowed.get(host)
        return allowed is not None and allowed.get(source) is not None


def _as_table(prefixes: Iterable[Prefix]) -> Longest[bool]:
    return Longest((prefix, True) for prefix in prefixes)
