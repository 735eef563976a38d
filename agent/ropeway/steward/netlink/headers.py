"""Where the messages of one netlink datagram begin and end.

pyroute2 decodes whole messages only, and hints are too many for that.
Source: `struct nlmsghdr` of `include/uapi/linux/netlink.h`.
"""

from __future__ import annotations

import struct
from typing import Iterator, Tuple

# __u32 length; __u16 type, flags; __u32 sequence, port
_HEADER = struct.Struct("=IHHII")


def split(datagram: bytes) -> Iterator[Tuple[int, bytes]]:
    """Give the type of each message and its bytes, header included; a torn one ends it."""
    start = 0
    while start + _HEADER.size <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, start)
        if length < _HEADER.size or start + length > len(datagram):
            return
        yield kind, datagram[start : start + length]
        start += length + 3 & ~3
