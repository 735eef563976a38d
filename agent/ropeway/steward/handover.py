"""What a steward leaves to the next one, in memory that the engine does not have."""

from __future__ import annotations

import mmap
import struct

#: A record in bytes, at most. Memory is taken for what is written only.
RECORD_BYTES_MAX = 4 << 20
_LENGTH = struct.Struct("=I")
# The number of the place in use, 0 for none, has a page of its own before the two places.
_FIRST_AT = mmap.PAGESIZE
_PLACE_BYTES = RECORD_BYTES_MAX + mmap.PAGESIZE


class Handover:
    """Memory that the process that makes it shares with the children that it forks from then on.

    A record is whole, whenever the one that leaves it is killed: it goes to the place that is not
    in use, and then one byte says that this one is.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FIRST_AT + 2 * _PLACE_BYTES)

    def leave(self, record: bytes) -> None:
        """Put a record in the place of the one before; `ValueError` where it is too large."""
        if len(record) > RECORD_BYTES_MAX:
            raise ValueError(f"{len(record)} bytes are more than {RECORD_BYTES_MAX}")
        place = 2 if self._memory[0] == 1 else 1
        at = _place_at(place)
        whole = _LENGTH.pack(len(record)) + record
        self._memory[at : at + len(whole)] = whole
        self._memory[0] = place

    def find(self) -> bytes:
        """Return the record that was left last; empty where there is none."""
        place = self._memory[0]
        if not place:
            return b""
        at = _place_at(place)
        (length,) = _LENGTH.unpack_from(self._memory, at)
        return bytes(self._memory[at + _LENGTH.size : at + _LENGTH.size + length])


def _place_at(place: int) -> int:
    return _FIRST_AT + (place - 1) * _PLACE_BYTES
