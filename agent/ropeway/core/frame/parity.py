"""Parity frames: the XOR of consecutive packets of a lane, bytes <-> :class:`Parity`.

A parity frame has the header of :mod:`ropeway.core.frame.data` with the counter of the session;
this is what is sealed in it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from ropeway.core.frame.data import LANES

#: Packets that one frame covers, at most.
COVERED_MAX = 32
#: ``lane and form, count, first, sizes``, before the XOR of the packets.
_PARITY = struct.Struct("<BBQH")
#: What a parity frame has beside the bytes of the longest packet.
PARITY_SIZE = _PARITY.size
#: The form of data frames comes above the lane.
_FORM_AT = 6
_LANE = (1 << _FORM_AT) - 1
_COUNTERS = 1 << 64


class Parity(NamedTuple):
    """The XOR of packets whose counters follow each other in a lane."""

    #: 0 to 7.
    lane: int
    #: The counter of the first packet, and how many they are, 1 to :data:`COVERED_MAX`.
    first: int
    count: int  # type: ignore[assignment]  # takes the place of tuple.count
    #: The XOR of the forms of their frames (:class:`ropeway.core.frame.data.Form`), and of how many
    #: bytes they have, labels included.
    form: int
    sizes: int
    #: The XOR of the packets with their labels, shorter ones with zeros at their ends: the first
    #: byte is the lowest of the number.
    packets: int
    #: How many bytes the longest packet has.
    longest: int


def encode_parity(parity: Parity) -> bytes:
    """Give the body to be sealed."""
    kind = parity.lane | parity.form << _FORM_AT
    head = _PARITY.pack(kind, parity.count, parity.first, parity.sizes)
    return head + parity.packets.to_bytes(parity.longest, "little")


def decode_parity(body: bytes) -> Optional[Parity]:
    """Read an opened body; None if it is none."""
    if len(body) <= PARITY_SIZE:
        return None
    kind, count, first, sizes = _PARITY.unpack_from(body)
    lane = kind & _LANE
    if lane >= LANES or not 1 <= count <= COVERED_MAX or first + count > _COUNTERS:
        return None
    packets = int.from_bytes(body[PARITY_SIZE:], "little")
    longest = len(body) - PARITY_SIZE
    return Parity(lane, first, count, kind >> _FORM_AT, sizes, packets, longest)
