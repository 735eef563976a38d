"""Super-packets of IPv6: cut to wire size, and put together; the same as for IPv4, and simpler.

IPv6 has no identification and no checksum of its own, so segments of one super-packet differ in
lengths, sequence numbers and TCP's flags only. Super-packets behind extension headers are not made
by the kernel for a TUN device. Rules and sources: :mod:`ropeway.core.packet.segments`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Dict, Iterable, List, Optional, Tuple

from ropeway.core.packet import ipv6
from ropeway.core.packet.virtio import (
    ACK,
    CWR,
    EMPTY,
    GSO_ECN,
    GSO_TCPV6,
    GSO_UDP_L4,
    LAST_FLAGS,
    LONE_FLAGS,
    NEEDS_CSUM,
    PSH,
    SEGMENTS_MAX,
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    VNET,
)

_TCP, _UDP = ipv6.TCP, ipv6.UDP
_HEAD = ipv6.HEADER_SIZE
_TCP_SIZE, _UDP_SIZE = 20, 8
_UDP_HEADERS = _HEAD + _UDP_SIZE
#: From the start of the packet: TCP's sequence number, its flags, and the checksums.
_SEQUENCE, _FLAGS = _HEAD + 4, _HEAD + 13
_TCP_SUM, _UDP_SUM = _HEAD + TCP_CHECKSUM, _HEAD + UDP_CHECKSUM
_UDP_LENGTH = _HEAD + 4
_TCP_ALONE = VNET.pack(NEEDS_CSUM, 0, 0, 0, _HEAD, TCP_CHECKSUM)
_UDP_ALONE = VNET.pack(NEEDS_CSUM, 0, 0, 0, _HEAD, UDP_CHECKSUM)


def cut(read: bytes) -> Optional[List[bytes]]:
    """Cut the super-packet behind a vnet header; None where it is none that we know."""
    flags, kind, _, size, start, offset = VNET.unpack_from(read)
    packet = read[VNET.size :]
    if not size or not ipv6.is_whole(packet):
        return None
    protocol, total = packet[6], len(packet)
    if kind & ~GSO_ECN == GSO_TCPV6 and protocol == _TCP and total >= _HEAD + _TCP_SIZE:
        data, place = _HEAD + (packet[_HEAD + 12] >> 4 << 2), TCP_CHECKSUM
        if data < _HEAD + _TCP_SIZE:
            return None
    elif kind == GSO_UDP_L4 and protocol == _UDP and total >= _UDP_HEADERS:
        data, place = _UDP_HEADERS, UDP_CHECKSUM
    else:
        return None
    if data >= total or (flags & NEEDS_CSUM and (start, offset) != (_HEAD, place)):
        return None
    sequence = int.from_bytes(packet[_SEQUENCE : _SEQUENCE + 4], "big")
    pieces: List[bytes] = []
    for at in range(data, total, size):
        payload = packet[at : at + size]
        header = bytearray(packet[:data])
        length = data - _HEAD + len(payload)
        header[4:6] = length.to_bytes(2, "big")
        if protocol == _TCP:
            header[_SEQUENCE : _SEQUENCE + 4] = (sequence + at - data & 0xFFFFFFFF).to_bytes(
                4, "big"
            )
            if at > data:
                header[_FLAGS] &= ~CWR
            if at + size < total:
                header[_FLAGS] &= ~LAST_FLAGS
        else:
            header[_UDP_LENGTH : _UDP_LENGTH + 2] = length.to_bytes(2, "big")
        _make_partial(header, length)
        pieces.append(bytes(header) + payload)
    return pieces


def judged(packet: bytes, start: int, offset: int) -> bool:
    """Say whether a packet whose checksum at ``start`` + ``offset`` is partial can stay so.

    That is where the place follows from the packet itself.
    """
    if start != _HEAD or not ipv6.is_whole(packet) or not ipv6.may_be_partial(packet):
        return False
    return offset == (TCP_CHECKSUM if packet[6] == _TCP else UDP_CHECKSUM)


def merge(packets: Iterable[bytes], uso: bool, tso: bool) -> List[List[bytes]]:
    """Put partial packets together to writes: see :func:`ropeway.core.packet.segments.merge`."""
    writes: List[List[bytes]] = []
    runs: Dict[bytes, _Run] = {}
    for packet in packets:
        ends = packet[8:44]
        run = runs.get(ends)
        if run is not None and run.take(packet):
            continue
        size, alone = _kind(packet, uso, tso)
        write = [alone, packet]
        writes.append(write)
        if size:
            runs[ends] = _Run(write, size)
        elif len(packet) >= _HEAD and packet[6] in (_TCP, _UDP):
            runs.pop(ends, None)
        else:
            # Where its ports are we do not look, so it could be of any flow.
            runs.clear()
    for write in writes:
        if len(write) > 2:
            _finish(write)
    return writes


def _kind(packet: bytes, uso: bool, tso: bool) -> Tuple[int, bytes]:
    """Give the size of the headers of a packet that may be merged, else 0; and its vnet header."""
    total = len(packet)
    if not ipv6.is_whole(packet) or not ipv6.may_be_partial(packet):
        return 0, EMPTY
    if packet[6] == _TCP:
        flags, size = packet[_FLAGS], _HEAD + (packet[_HEAD + 12] >> 4 << 2)
        good = tso and flags & ACK and not flags & (LONE_FLAGS | PSH) and _HEAD + 20 <= size < total
        return (size if good else 0), _TCP_ALONE
    length = int.from_bytes(packet[_UDP_LENGTH : _UDP_LENGTH + 2], "big")
    good = uso and total > _UDP_HEADERS and length == total - _HEAD
    return (_UDP_HEADERS if good else 0), _UDP_ALONE


class _Run:
    """Segments of one flow that follow each other, in one write.

    The header of the next one of full size is known in advance, as a number: it is the one before
    with the next sequence number.
    """

    __slots__ = ("_expected", "_mask", "_room", "_size", "_step", "_whole", "_write")

    def __init__(self, write: List[bytes], size: int) -> None:
        first = write[1]
        payload = len(first) - size
        self._write = write
        self._size = size
        self._whole = len(first)
        self._mask = _mask(size, first[6])
        self._room = min(SEGMENTS_MAX, (ipv6.SIZE_MAX - size) // payload) - 1
        self._step = 0
        if first[6] == _TCP:
            sequence = int.from_bytes(first[_SEQUENCE : _SEQUENCE + 4], "big")
            self._room = min(self._room, (0xFFFFFFFF - sequence) // payload)
            self._step = payload << 8 * (size - _SEQUENCE - 4)
        self._expected = int.from_bytes(first[:size], "big") + self._step

    def take(self, packet: bytes) -> bool:
        """Append a packet if it follows; say whether it did."""
        size = self._size
        if self._room <= 0 or not size < len(packet) <= self._whole:
            return False
        header = int.from_bytes(packet[:size], "big")
        if header == self._expected and len(packet) == self._whole:
            self._room -= 1
        elif (header ^ self._expected) & self._mask or _kind_ends(packet, size):
            return False
        else:
            # Nothing follows a shorter one or a push.
            pushed = packet[6] == _TCP and packet[_FLAGS] & PSH
            self._room = 0 if pushed or len(packet) < self._whole else self._room - 1
        self._expected += self._step
        self._write.append(packet)
        return True


def _kind_ends(packet: bytes, size: int) -> bool:
    """Say whether lengths of a packet contradict each other, so that it must stay as it is."""
    if not ipv6.is_whole(packet):
        return True
    length = int.from_bytes(packet[_UDP_LENGTH : _UDP_LENGTH + 2], "big")
    return packet[6] == _UDP and length != len(packet) - _HEAD


@lru_cache(maxsize=64)
def _mask(size: int, protocol: int) -> int:
    """Give the bits in which headers have to be as expected: all but lengths, sums and PSH."""
    mask = bytearray(b"\xff" * size)
    mask[4:6] = bytes(2)
    if protocol == _TCP:
        mask[_FLAGS] ^= PSH
        mask[_TCP_SUM : _TCP_SUM + 2] = bytes(2)
    else:
        mask[_UDP_LENGTH : _UDP_SUM + 2] = bytes(4)
    return int.from_bytes(mask, "big")


def _finish(write: List[bytes]) -> None:
    """Turn packets that follow each other into a super-packet, and the payload of each."""
    first, last = write[1], write[-1]
    tcp = first[6] == _TCP
    size = _HEAD + (first[_HEAD + 12] >> 4 << 2) if tcp else _UDP_HEADERS
    payload = len(first) - size
    header = bytearray(first[:size])
    length = size - _HEAD + payload * (len(write) - 2) + len(last) - size
    header[4:6] = length.to_bytes(2, "big")
    if tcp:
        header[_FLAGS] |= last[_FLAGS] & PSH
    else:
        header[_UDP_LENGTH : _UDP_LENGTH + 2] = length.to_bytes(2, "big")
    _make_partial(header, length)
    kind, place = (GSO_TCPV6, TCP_CHECKSUM) if tcp else (GSO_UDP_L4, UDP_CHECKSUM)
    for at in range(1, len(write)):
        write[at] = write[at][size:]
    write[0] = VNET.pack(NEEDS_CSUM, kind, size, payload, _HEAD, place) + bytes(header)


def _make_partial(header: bytearray, length: int) -> None:
    """Put the sum of the pseudo-header (RFC 8200, section 8.1) where the checksum belongs."""
    at = _TCP_SUM if header[6] == _TCP else _UDP_SUM
    total = (int.from_bytes(header[8:40], "big") + header[6] + length) % 0xFFFF or 0xFFFF
    header[at : at + 2] = total.to_bytes(2, "big")
