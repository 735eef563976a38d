"""The IP and UDP headers around a frame: how many bytes they take, what every path carries."""

from __future__ import annotations

from ropeway.core.endpoint import is_ipv6

UDP_SIZE = 8
IPV4_SIZE = 20
IPV6_SIZE = 40
#: What the search of a path's MTU does not go below: what every IPv4 host takes (RFC 791, section
#: 3.1) and every IPv6 path carries (RFC 8200, section 5).
IPV4_MTU_MIN = 576
IPV6_MTU_MIN = 1280


def outer_size(address: str) -> int:
    """Give the bytes of the IP and UDP headers of a datagram to ``address``."""
    return (IPV6_SIZE if is_ipv6(address) else IPV4_SIZE) + UDP_SIZE
