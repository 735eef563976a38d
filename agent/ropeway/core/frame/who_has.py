"""Who-has: where another host of the network can be called, as its router says; bytes <-> said.

This is the body of messages of kind :attr:`ropeway.core.frame.message.Kind.WHO_HAS`. Its first byte
says what it is:

====  ==================================================================================
1     here: count 1, and endpoints at which the sender can be called
2     ask: the virtual address of the host that is asked for, 4
3     answer: verdict 1, virtual address 4, public key 32, count 1, and the host's endpoints
====  ==================================================================================

An endpoint is its address, 16 bytes in network order, IPv4 as ``::ffff:a.b.c.d``, and its port, 2
bytes. Integers are little-endian.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass
from typing import Iterable, Optional, Tuple, Union

from ropeway.core.endpoint import Endpoint, pack_address, unpack_address

#: Endpoints that one message names; of more the first ones count.
MAX_ENDPOINTS = 16

_HERE, _ASK, _ANSWER = 1, 2, 3
_ENDPOINT = struct.Struct("<16sH")
_ANSWER_HEAD = struct.Struct("<BB4s32s")
_ASK_HEAD = struct.Struct("<B4s")


class Verdict(enum.IntEnum):
    """What a router says of a host that it was asked for."""

    #: The router cannot tell now: the host is not there, or takes no part.
    UNKNOWN = 0
    #: It can be called: key and endpoints follow.
    KNOWN = 1
    #: It is none of the network's hosts, or the two are not to meet.
    REFUSED = 2


@dataclass(frozen=True)
class Here:
    """The sender may be called directly, at these endpoints and wherever it is seen."""

    endpoints: Tuple[Endpoint, ...]


@dataclass(frozen=True)
class Ask:
    """The sender wants to call a host, by virtual address as text."""

    host: str


@dataclass(frozen=True)
class Answer:
    """What the router knows of a host; also said to that host of the one that asked."""

    host: str
    verdict: Verdict
    #: The key that the host has proven to the router, 32 bytes; zeros if it is not known.
    public_key: bytes = bytes(32)
    endpoints: Tuple[Endpoint, ...] = ()


def encode(said: Union[Here, Ask, Answer]) -> bytes:
    """Return the body of a message."""
    if isinstance(said, Here):
        return bytes((_HERE,)) + _pack(said.endpoints)
    host = ipaddress.IPv4Address(said.host).packed
    if isinstance(said, Ask):
        return _ASK_HEAD.pack(_ASK, host)
    head = _ANSWER_HEAD.pack(_ANSWER, said.verdict, host, said.public_key)
    return head + _pack(said.endpoints)


def decode(body: bytes) -> Optional[Union[Here, Ask, Answer]]:
    """Read a body; None if it is none. What follows is left to later versions.

    Endpoints may be impossible ones: the sender can write anything.
    """
    if not body:
        return None
    if body[0] == _HERE:
        endpoints = _unpack(body, 1)
        return None if endpoints is None else Here(endpoints)
    if body[0] == _ASK and len(body) >= _ASK_HEAD.size:
        return Ask(str(ipaddress.IPv4Address(body[1 : _ASK_HEAD.size])))
    if body[0] != _ANSWER or len(body) < _ANSWER_HEAD.size:
        return None
    _, verdict, host, public_key = _ANSWER_HEAD.unpack_from(body)
    endpoints = _unpack(body, _ANSWER_HEAD.size)
    if endpoints is None or verdict > max(Verdict):
        return None
    return Answer(str(ipaddress.IPv4Address(host)), Verdict(verdict), public_key, endpoints)


def _pack(endpoints: Iterable[Endpoint]) -> bytes:
    packed = [_ENDPOINT.pack(pack_address(host), port) for host, port in endpoints]
    return bytes((len(packed[:MAX_ENDPOINTS]),)) + b"".join(packed[:MAX_ENDPOINTS])


def _unpack(body: bytes, start: int) -> Optional[Tuple[Endpoint, ...]]:
    """Read what :func:`_pack` writes; None if there is less than it counts."""
    if len(body) <= start:
        return None
    count = body[start]
    if len(body) < start + 1 + count * _ENDPOINT.size:
        return None
    used = body[start + 1 : start + 1 + min(count, MAX_ENDPOINTS) * _ENDPOINT.size]
    return tuple((unpack_address(packed), port) for packed, port in _ENDPOINT.iter_unpack(used))
