"""Questions for leases and the answers to them, bytes <-> :class:`Question` and :class:`Grant`.

Both are the bodies of messages of kind 2 (:mod:`ropeway.core.frame.message`). Integers are
little-endian; addresses are in network order.

========  =======================================================================================
body      layout
========  =======================================================================================
question  ``01``, number 4: a random one that the answer repeats
grant     ``02``, number 4, address 4, time in seconds 4, MTU 2: 0 for none
========  =======================================================================================

What follows a body is for later versions, and ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional, Union

_QUESTION = struct.Struct("<B 4s")
_GRANT = struct.Struct("<B 4s 4s I H")
_IS_QUESTION = 1
_IS_GRANT = 2
NUMBER_BYTES = 4


@dataclass(frozen=True)
class Question:
    """A host asks which address it has, and for more time."""

    number: bytes


@dataclass(frozen=True)
class Grant:
    """A router says which address a host has."""

    #: That of the question.
    number: bytes
    #: Four bytes.
    address: bytes
    #: Counted from when the question was sent, in seconds.
    time_s: int
    #: The most that the device's MTU should be, in bytes; 0 leaves it to the host.
    mtu: int = 0


def encode_lease(body: Union[Question, Grant]) -> bytes:
    """Return the body of a message."""
    if isinstance(body, Question):
        return _QUESTION.pack(_IS_QUESTION, body.number)
    return _GRANT.pack(_IS_GRANT, body.number, body.address, body.time_s, body.mtu)


def decode_lease(body: bytes) -> Optional[Union[Question, Grant]]:
    """Return what a body says; None if it is too short, or of another sort."""
    sort = body[0] if body else 0
    if sort == _IS_QUESTION and len(body) >= _QUESTION.size:
        return Question(_QUESTION.unpack_from(body)[1])
    if sort == _IS_GRANT and len(body) >= _GRANT.size:
        return Grant(*_GRANT.unpack_from(body)[1:])
    return None
