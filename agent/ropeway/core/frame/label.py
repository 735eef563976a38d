"""The label of a packet that travels through several routers: who sent it, and which one it is.

It precedes the packet in a frame of a type of its own, and is sealed with it. Routers pass it on
unchanged, so that the destination delivers what arrives through several of them once.

======  ====  ======================================================================
offset  size  field
======  ====  ======================================================================
0       4     origin: the virtual address of the host that sent the packet, network order
4       3     start: drawn by the origin when it begins to count
7       1     piece: bits 0-5 number, 0 for a whole packet; bit 6 the last; bit 7 spare
8       4     count: the packets of this start, from 0
======  ====  ======================================================================

A copy is spare if it is dropped where its label cannot be passed on.
"""

from __future__ import annotations

import struct
from typing import Iterable, Iterator, Tuple

_LABEL = struct.Struct("<4sII")
LABEL_SIZE = _LABEL.size
#: Starts are below this.
START_END = 1 << 24
#: Counts are below this; then comes another start.
COUNT_END = 1 << 32
#: How many pieces a packet may be cut into.
PIECES_MAX = 63
_PIECE_SHIFT = 24
#: What is not 0 in the second item of :func:`unpack_all` for a piece.
PIECE_MASK = PIECES_MAX << _PIECE_SHIFT
_LAST = 64
_SPARE = 128
#: Where the byte of the piece is.
_PIECE_AT = 7


def unpack_all(labels: Iterable[bytes]) -> Iterator[Tuple[bytes, int, int]]:
    """Return origin, start with the byte of the piece above it, and count of each label."""
    return _LABEL.iter_unpack(b"".join(labels))


def encode_label(origin: bytes, start: int, count: int, spare: bool) -> bytes:
    """Return the label of a whole packet."""
    return _LABEL.pack(origin, start | (_SPARE << _PIECE_SHIFT if spare else 0), count)


def is_spare(label: bytes) -> bool:
    """Return whether the packet is dropped where its label cannot be passed on."""
    return label[_PIECE_AT] & _SPARE != 0


def is_piece(label: bytes) -> bool:
    """Return whether the packet is one of the pieces that a router has made."""
    return label[_PIECE_AT] & PIECES_MAX != 0


def identity_of(label: bytes) -> bytes:
    """Return what all copies of a packet, or of one of its pieces, have in common."""
    piece = label[_PIECE_AT] & ~_SPARE
    return label[:_PIECE_AT] + bytes((piece,)) + label[_PIECE_AT + 1 :]


def with_piece(label: bytes, number: int, last: bool) -> bytes:
    """Return the label of a piece of a packet, the first one has number 1."""
    piece = label[_PIECE_AT] | number | (_LAST if last else 0)
    return label[:_PIECE_AT] + bytes((piece,)) + label[_PIECE_AT + 1 :]


def piece_of(tag: int) -> Tuple[int, bool]:
    """Return the number of a piece, 0 for a whole packet, and whether it is the last one.

    ``tag`` is the second item of :func:`unpack_all`.
    """
    piece = tag >> _PIECE_SHIFT
    return piece & PIECES_MAX, piece & _LAST != 0
