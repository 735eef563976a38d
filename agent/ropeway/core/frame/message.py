"""Messages: what one host says to another of the network, bytes <-> :class:`Kind` and body.

A message has the header of :mod:`ropeway.core.frame.data`; this is what is sealed in it. Its first
byte is its kind, and the rest belongs to the part that speaks of that.
"""

from __future__ import annotations

import enum
from typing import Optional, Tuple

#: Bytes of the longest body. Its outer packet fits the least path of IPv6, 1280 bytes (RFC 8200,
#: section 5).
MESSAGE_MAX = 1100


class Kind(enum.IntEnum):
    """What a message is about."""

    ROUTES = 1
    LEASES = 2
    WHO_HAS = 3
    NAMES = 4


def encode_message(kind: Kind, body: bytes) -> bytes:
    """Return what is to be sealed; ``body`` has at most :data:`MESSAGE_MAX` bytes."""
    return bytes((kind,)) + body


def decode_message(opened: bytes) -> Optional[Tuple[int, bytes]]:
    """Return kind and body; None if there is no kind. The kind may be one of later versions."""
    return (opened[0], opened[1:]) if opened else None
