"""The classic encapsulation: one IPv4 packet, protocol 4, with twelve bytes where options stand.

It is not authenticated: whoever can send on a link can pretend to be any host. It is meant for
trusted LANs only.

======  ====  ==================  =============  ==============================================
offset  size  field               byte order     meaning
======  ====  ==================  =============  ==============================================
0       1     version, IHL                       ``0x48``
1       1     TOS                                0
2       2     total length        network        header and payload
4       2     identification      little-endian  counts a connection's packets, 1, 2, ...; not 0
6       2     flags, offset       network        0
8       1     TTL                                64
9       1     protocol                           4
10      2     checksum            network        over the 32 bytes
12      4     source              network        real address of the sending device
16      4     destination         network        real address of the receiving device
20      4     host                network        the sender's virtual address
24      4     src_index           little-endian  the sender's interface index
28      4     dst_index           little-endian  the receiver's interface index, 0 if not known
32      2     extra               little-endian  bits 0-1 state, bit 2 forward, bits 3-15 id
34            payload                            a whole IPv4 packet if forward is set
======  ====  ==================  =============  ==============================================
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional, Tuple

from ropeway.core.drops import Drop

#: First byte: version 4, header of eight words.
VERSION_IHL = 0x48
#: IP protocol number of IPv4 in IPv4 (RFC 2003).
PROTOCOL = 4
TTL = 64
#: Bytes of the outer IPv4 header, and of everything before the payload.
HEADER_SIZE = 32
OVERHEAD = 34
#: Ids of a strand count modulo this; identifications modulo 65536 without 0.
ID_MODULUS = 8192
ID_MASK = ID_MODULUS - 1
IDENTIFICATION_MASK = 0xFFFF
#: The same id of the same strand seen less than this long ago marks a duplicate.
DUPLICATE_S = 0.5
#: The bit of ``extra`` that says that a packet follows, and where the id starts.
FORWARD = 4
STATE_MASK = 3
ID_SHIFT = 3

# version/IHL/TOS, total length, identification, flags, TTL/protocol, checksum,
# source to dst_index, extra
_LAYOUT = struct.Struct(">HHHHHH20sH")
_pack = _LAYOUT.pack
# source, destination, host
_ADDRESSES = struct.Struct(">4s4s4s")
# src_index, dst_index
_INDICES = struct.Struct("<II")

_FIRST = VERSION_IHL << 8
_TTL_PROTOCOL = TTL << 8 | PROTOCOL


class Frame(NamedTuple):
    """One decoded frame; addresses are four bytes each, in network order."""

    identification: int
    source: bytes
    destination: bytes
    host: bytes
    src_index: int
    dst_index: int
    state: int
    forward: bool
    id: int
    payload: bytes


def path(source: bytes, destination: bytes, host: bytes, src_index: int, dst_index: int) -> bytes:
    """Give bytes 12 to 31 of the header, which are the same for every frame of a connection.

    Addresses are four bytes in network order; the indices are 0 to 2**32 - 1.
    """
    return _ADDRESSES.pack(source, destination, host) + _INDICES.pack(src_index, dst_index)


def base_sum(path_bytes: bytes) -> int:
    """Give the part of the checksum (RFC 1071) that all frames of a connection share."""
    words: Tuple[int, ...] = struct.unpack(">10H", path_bytes)
    return _FIRST + _TTL_PROTOCOL + sum(words)


def header(path_bytes: bytes, base: int, size: int, identification: int, extra: int) -> bytes:
    """Give the 34 bytes before a payload of ``size`` bytes.

    ``base`` is :func:`base_sum` of ``path_bytes``; ``identification`` is 1 to 65535;
    ``extra`` holds state, forward and id as in the table above.
    """
    length = OVERHEAD + size
    swapped = (identification & 0xFF) << 8 | identification >> 8
    total = base + length + swapped
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return _pack(
        _FIRST,
        length,
        swapped,
        0,
        _TTL_PROTOCOL,
        total ^ 0xFFFF,
        path_bytes,
        (extra & 0xFF) << 8 | extra >> 8,
    )


def fault(datagram: bytes) -> Optional[Drop]:
    """Say what is wrong with a received datagram, or None if it is a frame.

    A datagram may be longer than its total length says: short Ethernet frames are padded.
    """
    size = len(datagram)
    if size < OVERHEAD or datagram[0] != VERSION_IHL or datagram[9] != PROTOCOL:
        return Drop.MALFORMED
    length = datagram[2] << 8 | datagram[3]
    if not OVERHEAD <= length <= size or datagram[6] & 0x3F or datagram[7]:
        return Drop.MALFORMED
    # A one's complement sum is the number modulo 65535 (RFC 1071); a right one gives 0.
    if int.from_bytes(datagram[:HEADER_SIZE], "big") % 0xFFFF:
        return Drop.CHECKSUM
    state_forward = datagram[32]
    if length != OVERHEAD and not state_forward & FORWARD:
        return Drop.MALFORMED
    return None


def state_of(datagram: bytes) -> int:
    """Give the state in a frame, 0 to 2: the first implementation says 3 where it means 2."""
    return min(datagram[32] & STATE_MASK, 2)


def carries_packet(datagram: bytes) -> bool:
    """Say whether a received datagram is a frame with a packet in it."""
    return fault(datagram) is None and bool(datagram[32] & FORWARD)


def without_packet(datagram: bytes) -> bytes:
    """Give a received frame with the packet in it left out; what carries none as it is."""
    if not carries_packet(datagram):
        return datagram
    path_bytes = datagram[12:32]
    identification = datagram[4] | datagram[5] << 8
    extra = (datagram[32] | datagram[33] << 8) & ~FORWARD
    return header(path_bytes, base_sum(path_bytes), 0, identification, extra)


def decode(datagram: bytes) -> Frame:
    """Give the frame in a datagram in which :func:`fault` found nothing wrong."""
    source, destination, host = _ADDRESSES.unpack_from(datagram, 12)
    src_index, dst_index = _INDICES.unpack_from(datagram, 24)
    extra = datagram[32] | datagram[33] << 8
    return Frame(
        identification=datagram[4] | datagram[5] << 8,
        source=source,
        destination=destination,
        host=host,
        src_index=src_index,
        dst_index=dst_index,
        state=state_of(datagram),
        forward=bool(extra & FORWARD),
        id=extra >> ID_SHIFT,
        payload=datagram[OVERHEAD : datagram[2] << 8 | datagram[3]],
    )
