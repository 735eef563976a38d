"""Endpoints: an address and a UDP port, as text and as bytes."""

from __future__ import annotations

import functools
import ipaddress
from typing import Tuple, Union

from ropeway.core.packet import ipv4

#: An endpoint: an IPv4 or IPv6 address as text, and a UDP port.
Endpoint = Tuple[str, int]

#: Where a link can be called: its interface's index on its host, and an endpoint.
Place = Tuple[int, Endpoint]

#: What a socket is known by: the link's index and the local address.
SocketKey = Tuple[int, str]

#: Either kind of address, parsed.
IpAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

#: What precedes an IPv4 address in 16 bytes (RFC 4291, section 2.5.5.2).
IPV4_MAPPED = bytes(10) + b"\xff\xff"
#: Addresses that are kept in both forms: each control frame has some, the same again and again.
ADDRESSES_KEPT = 1024


def parse_address(text: str) -> IpAddress:
    """Return the address that ``text`` stands for; ValueError, with a sentence, for none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def parse_endpoint(address: str, port: int) -> Endpoint:
    """Return the endpoint of another host at ``address``, written in one way.

    Raises ValueError, with a sentence, for what no network interface of another host can have.
    """
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if not 0 < port < 65536:
        raise ValueError(f"port {port} is not between 1 and 65535")
    unicast = (
        ipv4.is_unicast(parsed.packed)
        if parsed.version == 4
        else not (
            parsed.is_multicast
            or parsed.is_unspecified
            or parsed.is_loopback
            or parsed.is_link_local
        )
    )
    if not unicast:
        raise ValueError(f"{address} cannot be the address of a network interface")
    return (str(parsed), port)


def endpoint_text(endpoint: Endpoint) -> str:
    """Return an endpoint as users write it: ``192.0.2.1:51840`` or ``[2001:db8::1]:51840``."""
    address, port = endpoint
    return f"[{address}]:{port}" if is_ipv6(address) else f"{address}:{port}"


def without_prefix(text: str) -> str:
    """Return the address of ``192.168.0.2/24`` or ``2001:db8::2/64`` without its prefix length."""
    return text.partition("/")[0]


def is_ipv6(address: str) -> bool:
    """Return whether the text of an address is an IPv6 one's."""
    return ":" in address


def pack_endpoint(endpoint: Endpoint) -> bytes:
    """Return 18 bytes that stand for an endpoint."""
    return pack_address(endpoint[0]) + endpoint[1].to_bytes(2, "little")


@functools.lru_cache(maxsize=ADDRESSES_KEPT)
def pack_address(address: str) -> bytes:
    """Return an address as 16 bytes; an IPv4 one as IPv6 maps it (RFC 4291, section 2.5.5.2)."""
    # The scope of a link-local address means nothing to the other end.
    packed = ipaddress.ip_address(address.partition("%")[0]).packed
    return packed if len(packed) == 16 else IPV4_MAPPED + packed


@functools.lru_cache(maxsize=ADDRESSES_KEPT)
def unpack_address(packed: bytes) -> str:
    """Return the text of an address that :func:`pack_address` packed."""
    if packed[:12] == IPV4_MAPPED:
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed))
