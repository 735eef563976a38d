"""Messages about routes: bytes <-> records.

The body of a message of kind :attr:`ropeway.core.frame.message.Kind.ROUTES`, numbers in
little-endian byte order:

======  ====  ======================================================================
offset  size  field
======  ====  ======================================================================
0       4     instance: another random one after each start of the sender, and the next one each
              time that it could not reach this host
4       4     number: counts the sender's messages to this host; 0 asks for no receipt
8             records
======  ====  ======================================================================

A record is its type, the number of bytes that follow, and these. Records of unknown types are
passed over, as are bytes behind those that are known, like the TLVs of RFC 8966, section 4.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Optional, Tuple, Union

from ropeway.core.packet.prefix import Prefix, is_whole

#: What an unreachable prefix has for a metric (RFC 8966, section 2.1, has the same).
INFINITY = 0xFFFF
#: Sequence numbers are smaller: there is always a greater one.
SEQNO_MAX = 1 << 63

_HEAD = struct.Struct("<II")
HEAD_SIZE = _HEAD.size
#: Origin, four bytes of a virtual address; sequence number; metric, or hops that are left.
_UPDATE = struct.Struct("<4sQH")
_REQUEST = struct.Struct("<4sQB")
_RECEIPT = struct.Struct("<I")

UPDATE = 1
REQUEST = 2
RECEIPT = 3
EVERYTHING = 4

_SIZES = {4: 4, 6: 16}


@dataclass(frozen=True)
class Update:
    """A route of the sender (RFC 8966, section 4.6.9)."""

    prefix: Prefix
    #: The host that announced the prefix first: the router-id (RFC 8966, section 2.7), four bytes.
    origin: bytes
    #: Counted by that host, below :data:`SEQNO_MAX`.
    seqno: int
    #: What the way from the sender costs; :data:`INFINITY` takes the route back.
    metric: int


@dataclass(frozen=True)
class Request:
    """The wish for a route with this sequence number or a greater one (section 4.6.11)."""

    prefix: Prefix
    origin: bytes
    seqno: int
    #: How often it may be passed on, this time included.
    hops: int


@dataclass(frozen=True)
class Receipt:
    """The message of this number has come (section 4.6.4)."""

    number: int


@dataclass(frozen=True)
class Everything:
    """The wish for all routes, from a host that knows none (section 4.6.10)."""


Record = Union[Update, Request, Receipt, Everything]


def encode_record(record: Record) -> bytes:
    """Return a record as bytes."""
    if isinstance(record, Update):
        tail = _UPDATE.pack(record.origin, record.seqno, record.metric)
        return _record(UPDATE, _prefix(record.prefix) + tail)
    if isinstance(record, Request):
        tail = _REQUEST.pack(record.origin, record.seqno, record.hops)
        return _record(REQUEST, _prefix(record.prefix) + tail)
    if isinstance(record, Receipt):
        return _record(RECEIPT, _RECEIPT.pack(record.number))
    return _record(EVERYTHING, b"")


def encode(instance: int, number: int, records: Iterable[bytes]) -> bytes:
    """Return the body of a message; ``records`` are those of :func:`encode_record`."""
    return _HEAD.pack(instance, number) + b"".join(records)


def decode(body: bytes) -> Optional[Tuple[int, int, List[Record]]]:
    """Return instance, number and records; None if any part is not what it has to be."""
    if len(body) < HEAD_SIZE:
        return None
    instance, number = _HEAD.unpack_from(body)
    records: List[Record] = []
    at = HEAD_SIZE
    while at < len(body):
        if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
            return None
        kind, value = body[at], body[at + 2 : at + 2 + body[at + 1]]
        at += 2 + len(value)
        if kind not in _DECODERS:
            continue
        record = _DECODERS[kind](value)
        if record is None:
            return None
        records.append(record)
    return instance, number, records


def _record(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def _prefix(prefix: Prefix) -> bytes:
    """Return a prefix: family, 4 or 6, its length, and as many bytes as have bits of it."""
    family = 4 if len(prefix.address) == 4 else 6
    return bytes((family, prefix.length)) + prefix.address[: -(-prefix.length // 8)]


def _take_prefix(value: bytes) -> Optional[Tuple[Prefix, bytes]]:
    """Return the prefix that a value begins with, and the rest."""
    if len(value) < 2 or value[0] not in _SIZES:
        return None
    size, count = _SIZES[value[0]], -(-value[1] // 8)
    if count > size or len(value) < 2 + count:
        return None
    address = value[2 : 2 + count]
    prefix = Prefix(address + bytes(size - count), value[1])
    return (prefix, value[2 + count :]) if is_whole(prefix) else None


def _decode_update(value: bytes) -> Optional[Update]:
    found = _take_prefix(value)
    if found is None or len(found[1]) < _UPDATE.size:
        return None
    origin, seqno, metric = _UPDATE.unpack_from(found[1])
    return Update(found[0], origin, seqno, metric) if seqno < SEQNO_MAX else None


def _decode_request(value: bytes) -> Optional[Request]:
    found = _take_prefix(value)
    if found is None or len(found[1]) < _REQUEST.size:
        return None
    origin, seqno, hops = _REQUEST.unpack_from(found[1])
    return Request(found[0], origin, seqno, hops) if seqno < SEQNO_MAX else None


def _decode_receipt(value: bytes) -> Optional[Receipt]:
    return Receipt(_RECEIPT.unpack_from(value)[0]) if len(value) >= _RECEIPT.size else None


def _decode_everything(_: bytes) -> Optional[Record]:
    return Everything()


_DECODERS: Dict[int, Callable[[bytes], Optional[Record]]] = {
    UPDATE: _decode_update,
    REQUEST: _decode_request,
    RECEIPT: _decode_receipt,
    EVERYTHING: _decode_everything,
}
