"""Prefixes of either address family, and which of several is the longest that has an address."""

from __future__ import annotations

import ipaddress
from typing import Dict, Generic, Iterable, List, NamedTuple, Optional, Tuple, TypeVar


class Prefix(NamedTuple):
    """A network of IPv4 or IPv6; the bytes of its address say of which."""

    #: Four bytes, or sixteen; the bits behind the length are 0.
    address: bytes
    #: How many bits all of its addresses have in common, 0 to 32 or to 128.
    length: int

    def __str__(self) -> str:
        """Return it as text, "10.0.0.0/24"."""
        return f"{ipaddress.ip_address(self.address)}/{self.length}"

    def covers(self, other: Prefix) -> bool:
        """Return whether another prefix lies in this one whole."""
        return self.length <= other.length and self.has(other.address)

    def has(self, address: bytes) -> bool:
        """Return whether an address, four or sixteen bytes, lies in this prefix."""
        same = len(address) == len(self.address)
        return same and _cut(address, self.length) == self.address


def parse(text: str) -> Prefix:
    """Return the prefix that a text such as "10.0.0.0/24" names; ValueError if it is none."""
    network = ipaddress.ip_network(text)
    return Prefix(network.network_address.packed, network.prefixlen)


def of_host(address: bytes) -> Prefix:
    """Return the prefix that has one address only."""
    return Prefix(address, 8 * len(address))


def is_whole(prefix: Prefix) -> bool:
    """Return whether length and bits fit the family: what a peer names may be anything."""
    address, length = prefix
    bits = 8 * len(address)
    return bits in (32, 128) and 0 <= length <= bits and _cut(address, length) == address


def _cut(address: bytes, length: int) -> bytes:
    """Return an address with 0 for the bits behind ``length``."""
    bits = 8 * len(address) - length
    return (int.from_bytes(address, "big") >> bits << bits).to_bytes(len(address), "big")


ValueT = TypeVar("ValueT")


class Longest(Generic[ValueT]):
    """Values by prefix, looked up by address: the longest prefix that has it counts.

    A look-up takes one step for each length that there is.
    """

    __slots__ = ("_by_length",)

    def __init__(self, values: Iterable[Tuple[Prefix, ValueT]] = ()) -> None:
        found: Dict[Tuple[int, int], Dict[bytes, ValueT]] = {}
        for prefix, value in values:
            key = (len(prefix.address), prefix.length)
            found.setdefault(key, {})[prefix.address] = value
        #: By bytes of an address: the lengths, the longest first, each with its prefixes.
        self._by_length: Dict[int, List[Tuple[int, Dict[bytes, ValueT]]]] = {}
        for size, length in sorted(found, reverse=True):
            self._by_length.setdefault(size, []).append((length, found[size, length]))

    def get(self, address: bytes) -> Optional[ValueT]:
        """Return the value of the longest prefix that has an address; None if none has."""
        for length, values in self._by_length.get(len(address), ()):
            value = values.get(_cut(address, length))
            if value is not None:
                return value
        return None

    def __bool__(self) -> bool:
        """Return whether there is any prefix."""
        return bool(self._by_length)
