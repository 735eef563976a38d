"""Super-packets of a TUN device: cut to wire size on the way out, put together on the way in.

A super-packet is a TCP or UDP packet larger than the MTU, which the kernel hands over or takes
whole (TSO, USO); a segment is one packet of wire size. A packet is *partial* while its TCP or UDP
checksum field holds only the sum of the pseudo-header, not complemented: whoever takes it out
completes it (:func:`ropeway.core.packet.ipv4.complete`) or leaves that to the next kernel.

What may be merged follows Linux GRO (`net/ipv4/tcp_offload.c`, `net/ipv4/udp_offload.c`) and what
a cut segment looks like follows its GSO, so that a merged run comes apart as it was. Formats:
RFC 791 (IPv4), RFC 9293 (TCP), RFC 768 (UDP), `include/uapi/linux/virtio_net.h`. All sums are
ones' complement ones (RFC 1071), which is arithmetic modulo 65535.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from ropeway.core.packet import ipv4, ipv6, segments6, version
from ropeway.core.packet.virtio import (
    ACK,
    CWR,
    EMPTY,
    GSO_ECN,
    GSO_TCPV4,
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

_TCP, _UDP = 6, 17
_TCP_SIZE, _UDP_SIZE = 20, 8
_IP_SIZE = 20
_UDP_HEADERS = _IP_SIZE + _UDP_SIZE
#: The first byte of a packet without IP options.
_IP_PLAIN = 0x45
_DONT_FRAGMENT = 0x40
#: Bits of byte 6 of a fragment; byte 7 is the rest of the offset.
_FRAGMENT = 0x3F

#: csum_start and csum_offset of a packet without IP options, as the kernel writes them.
_TCP_PLACE = struct.pack("=HH", _IP_SIZE, TCP_CHECKSUM)
_UDP_PLACE = struct.pack("=HH", _IP_SIZE, UDP_CHECKSUM)
_TCP_ALONE = VNET.pack(NEEDS_CSUM, 0, 0, 0, _IP_SIZE, TCP_CHECKSUM)
_UDP_ALONE = VNET.pack(NEEDS_CSUM, 0, 0, 0, _IP_SIZE, UDP_CHECKSUM)

# Fields of the headers, read from behind the vnet header or the packet's start.
_TWO = struct.Struct(">HH")
_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">I")


def split(reads: Iterable[bytes]) -> List[Tuple[List[bytes], bool]]:
    """Cut what was read from a TUN device with vnet header into packets of wire size.

    Each of ``reads`` is a :data:`VNET` header and a packet. The packets come in the same order, as
    lists that are all partial (True) or all complete (False). What is not understood (header
    lengths out of bounds, cut short) is passed on as it is, as complete: the node counts it.
    Never raises.
    """
    lists: List[Tuple[List[bytes], bool]] = []
    packets: List[bytes] = []
    before: Optional[bool] = None
    for read in reads:
        partial = False
        cut: Optional[List[bytes]] = None
        size = len(read)
        if size < VNET.size + _UDP_HEADERS:
            packet = read[10:]
        elif read[1]:
            cut = _cut(read)
            partial = cut is not None
            packet = b"" if partial else read[10:]
        else:
            packet = read[10:]
            if read[0] & NEEDS_CSUM:
                place = read[6:10]
                # Most are without IP options; the others take longer.
                if (
                    read[10] == _IP_PLAIN
                    and not (read[16] & _FRAGMENT or read[17])
                    and (
                        (place == _TCP_PLACE and read[19] == _TCP and size >= 50)
                        or (place == _UDP_PLACE and read[19] == _UDP)
                    )
                ):
                    partial = True
                else:
                    packet, partial = _judged(packet, *VNET.unpack_from(read)[4:])
        if partial is not before:
            packets = []
            lists.append((packets, partial))
            before = partial
        if cut is None:
            packets.append(packet)
        else:
            packets += cut
    return lists


def count(read: bytes) -> int:
    """Give how many packets of wire size there are in a read, 1 or more, headers left out."""
    if len(read) < VNET.size or not read[1]:
        return 1
    size = VNET.unpack_from(read)[3]
    return max(1, (len(read) - VNET.size) // size) if size else 1


def flow(read: bytes) -> bytes:
    """Give what tells the flow of a read: see :func:`ropeway.core.packet.version.flow`."""
    return version.flow(read, VNET.size)


def _judged(packet: bytes, start: int, offset: int) -> Tuple[bytes, bool]:
    """Give a packet whose checksum at ``start`` + ``offset`` is partial, and whether it stays so.

    It stays so if the place follows from the packet itself; else it is completed here.
    """
    head = (packet[0] & 15) << 2
    if head >= _IP_SIZE and packet[0] >> 4 == 4 and start == head and ipv4.may_be_partial(packet):
        expected = TCP_CHECKSUM if packet[9] == _TCP else UDP_CHECKSUM
        if offset == expected:
            return packet, True
    elif segments6.judged(packet, start, offset):
        return packet, True
    at = start + offset
    if at + 2 > len(packet):
        return packet, False
    # 65535 for 0, as the kernel does: for UDP 0 says that there is none, to others it is the same.
    total = ipv4.checksum(packet[start:]) or 0xFFFF
    return packet[:at] + _SHORT.pack(total) + packet[at + 2 :], False


def _cut(read: bytes) -> Optional[List[bytes]]:
    """Cut the super-packet behind a vnet header; None where it is none that we know."""
    if read[VNET.size] >= version.FIRST_IPV6:
        return segments6.cut(read)
    flags, kind, _, size, start, offset = VNET.unpack_from(read)
    head = (read[10] & 15) << 2
    total, ident = _TWO.unpack_from(read, 12)
    if (
        not size
        or head < _IP_SIZE
        or read[10] >> 4 != 4
        or total != len(read) - VNET.size
        or read[16] & _FRAGMENT
        or read[17]
    ):
        return None
    if kind & ~GSO_ECN == GSO_TCPV4:
        protocol, place, least = _TCP, TCP_CHECKSUM, _TCP_SIZE
    elif kind == GSO_UDP_L4:
        protocol, place, least = _UDP, UDP_CHECKSUM, _UDP_SIZE
    else:
        return None
    if read[19] != protocol or total < head + least:
        return None
    if flags & NEEDS_CSUM and (start, offset) != (head, place):
        return None
    if protocol == _TCP:
        return _cut_tcp(read, head, size, ident)
    return _cut_udp(read, head, size, ident)


def _cut_tcp(read: bytes, head: int, size: int, ident: int) -> Optional[List[bytes]]:
    tcp = 10 + head
    data = tcp + (read[tcp + 12] >> 4 << 2)
    end = len(read)
    if not tcp + _TCP_SIZE <= data < end:
        return None
    unsummed, pseudo = _sums(read, head, ident)
    (sequence,) = _LONG.unpack_from(read, tcp + 4)
    pack = _tcp_header(head, data - tcp).pack
    version, middle, through_ports = read[10:12], read[16:20], read[22 : tcp + 4]
    before, flags, window, behind = (
        read[tcp + 8 : tcp + 13], read[tcp + 13], read[tcp + 14 : tcp + 16], read[tcp + 18 : data]
    )  # fmt: skip
    last = data + (end - 1 - data) // size * size
    segments: List[bytes] = []
    append = segments.append
    if last > data:
        length = data - 10 + size
        top = unsummed - length
        partial = _SHORT.pack((pseudo + length - head) % 0xFFFF or 0xFFFF)
        common = flags & ~LAST_FLAGS
        rest = before + bytes((common,)) + window + partial + behind
        further = before + bytes((common & ~CWR,)) + window + partial + behind
        flags &= ~CWR
        for at in range(data, last, size):
            append(
                pack(
                    version, length, ident, middle, (top - ident) % 0xFFFF,
                    through_ports, sequence, rest,
                )
                + read[at : at + size]
            )  # fmt: skip
            ident = (ident + 1) & 0xFFFF
            sequence = (sequence + size) & 0xFFFFFFFF
            rest = further
    length = data - 10 + end - last
    partial = _SHORT.pack((pseudo + length - head) % 0xFFFF or 0xFFFF)
    rest = before + bytes((flags,)) + window + partial + behind
    top = (unsummed - length - ident) % 0xFFFF
    append(pack(version, length, ident, middle, top, through_ports, sequence, rest) + read[last:])
    return segments


def _cut_udp(read: bytes, head: int, size: int, ident: int) -> Optional[List[bytes]]:
    udp = 10 + head
    data = udp + _UDP_SIZE
    end = len(read)
    if data >= end:
        return None
    unsummed, pseudo = _sums(read, head, ident)
    pack = _udp_header(head).pack
    version, middle, through_ports = read[10:12], read[16:20], read[22 : udp + 4]
    last = data + (end - 1 - data) // size * size
    segments: List[bytes] = []
    append = segments.append
    if last > data:
        length = data - 10 + size
        top = unsummed - length
        rest = _TWO.pack(length - head, (pseudo + length - head) % 0xFFFF or 0xFFFF)
        for at in range(data, last, size):
            append(
                pack(version, length, ident, middle, (top - ident) % 0xFFFF, through_ports, rest)
                + read[at : at + size]
            )
            ident = (ident + 1) & 0xFFFF
    length = data - 10 + end - last
    top = (unsummed - length - ident) % 0xFFFF
    rest = _TWO.pack(length - head, (pseudo + length - head) % 0xFFFF or 0xFFFF)
    append(pack(version, length, ident, middle, top, through_ports, rest) + read[last:])
    return segments


def _sums(read: bytes, head: int, ident: int) -> Tuple[int, int]:
    """Give what IP checksum there is without length and identification, and the sum of the
    pseudo-header without the length.
    """
    total, _ = _TWO.unpack_from(read, 12)
    (checksum,) = _SHORT.unpack_from(read, 20)
    others = int.from_bytes(read[VNET.size : VNET.size + head], "big") - total - ident - checksum
    return -others % 0xFFFF, int.from_bytes(read[22:30], "big") % 0xFFFF + read[19]


@lru_cache(maxsize=128)
def _tcp_header(head: int, size: int) -> struct.Struct:
    """Give the layout of IP and TCP headers of these sizes in bytes.

    Version and TOS, length, identification, from flags to protocol, checksum, from the addresses
    to the ports, sequence number, rest.
    """
    return struct.Struct(f">2sHH4sH{head - 8}sI{size - 8}s")


@lru_cache(maxsize=16)
def _udp_header(head: int) -> struct.Struct:
    """Give the layout of an IP header of this size in bytes and of UDP.

    Version and TOS, length, identification, from flags to protocol, checksum, from the addresses
    to the ports, rest.
    """
    return struct.Struct(f">2sHH4sH{head - 8}s4s")


def merge(packets: Sequence[bytes], uso: bool, tso: bool = True) -> List[List[bytes]]:
    """Put partial packets together to writes for a TUN device with vnet header.

    Each write is a list of buffers for `os.writev`, of which the first begins with :data:`VNET`.
    Packets of one flow that follow each other become one super-packet: TCP if ``tso``, UDP if
    ``uso``. The order within each flow stays. Never raises; a packet in which no checksum can be
    partial (a fragment, another protocol) is written as if it were complete.
    """
    writes: List[List[bytes]] = []
    write_all = writes.append
    six: List[bytes] = []
    begun: Dict[bytes, List[bytes]] = {}
    runs: Dict[bytes, _Run] = {}
    grown: List[_Run] = []
    number = int.from_bytes
    for packet in packets:
        flow = packet[12:24]
        run = runs.get(flow)
        if (
            run is not None
            and number(packet[: run.size], "big") == run.expected
            and len(packet) == run.whole
        ):
            write = run.write
            write.append(packet[run.size :])
            run.expected += run.step
            if len(write) >= run.limit:
                del runs[flow]
            continue
        size, alone = _kind(packet, uso, tso)
        if size:
            if run is not None:
                if run.take(packet, size):
                    if len(run.write) >= run.limit:
                        del runs[flow]
                    continue
                del runs[flow]
            elif flow in begun:
                write = begun.pop(flow)
                # TCP and UDP may use the same ports. The acknowledgement number mostly settles the
                # rest.
                alike = packet[9] == write[1][9] and len(packet) <= len(write[1])
                if alike and (size == _UDP_HEADERS or packet[28:32] == write[1][28:32]):
                    run = _Run(write, size)
                    if run.take(packet, size):
                        grown.append(run)
                        if len(run.write) < run.limit:
                            runs[flow] = run
                        continue
            write = [alone, packet]
            if not (packet[9] == _TCP and packet[33] & PSH):
                begun[flow] = write
            write_all(write)
            continue
        if packet and packet[0] >= version.FIRST_IPV6 and ipv6.is_whole(packet):
            six.append(packet)
            continue
        if flow and packet[0] == _IP_PLAIN and not (packet[6] & _FRAGMENT or packet[7]):
            runs.pop(flow, None)
            begun.pop(flow, None)
        else:
            # Where its ports are we do not look, so it could be of any flow.
            runs.clear()
            begun.clear()
        write_all([alone, packet])
    for run in grown:
        run.finish()
    return writes + segments6.merge(six, uso, tso) if six else writes


def _kind(packet: bytes, uso: bool, tso: bool) -> Tuple[int, bytes]:
    """Give the size of the headers of a packet that may be merged, else 0; and its vnet header."""
    total = len(packet)
    if total < _IP_SIZE + _UDP_SIZE:
        return 0, EMPTY
    if packet[0] != _IP_PLAIN:
        return 0, _alone(packet)
    if packet[6] & _FRAGMENT or packet[7]:
        return 0, EMPTY
    if packet[9] == _TCP:
        if total < _IP_SIZE + _TCP_SIZE:
            return 0, EMPTY
        flags = packet[33]
        size = _IP_SIZE + (packet[32] >> 4 << 2)
        if not tso or flags & LONE_FLAGS or not flags & ACK or not 40 <= size < total:
            return 0, _TCP_ALONE
        alone = _TCP_ALONE
    elif packet[9] == _UDP:
        size = _UDP_HEADERS
        if not uso or size == total or packet[24] << 8 | packet[25] != total - _IP_SIZE:
            return 0, _UDP_ALONE
        alone = _UDP_ALONE
    else:
        return 0, EMPTY
    # One whose IP header is broken must stay broken.
    if packet[2] << 8 | packet[3] != total or int.from_bytes(packet[:_IP_SIZE], "big") % 0xFFFF:
        return 0, alone
    return size, alone


def _alone(packet: bytes) -> bytes:
    """Give the vnet header of a packet with IP options."""
    head = (packet[0] & 15) << 2
    if head < _IP_SIZE or packet[0] >> 4 != 4 or not ipv4.may_be_partial(packet):
        return EMPTY
    place = TCP_CHECKSUM if packet[9] == _TCP else UDP_CHECKSUM
    return VNET.pack(NEEDS_CSUM, 0, 0, 0, head, place)


class _Run:
    """Segments of one flow that follow each other, in one write.

    The next one of full size is known in advance: as a number, its headers are those of the one
    before plus a constant (``step``), since only identification, IP checksum and sequence number
    change, as long as none of them wraps. ``limit`` is how many buffers the write may have.
    """

    __slots__ = (
        "expected", "first", "limit", "payload", "pushed", "size", "step", "strict", "whole",
        "write",
    )  # fmt: skip

    def __init__(self, write: List[bytes], size: int) -> None:
        first = write[1]
        self.write = write
        self.first = first
        self.size = size
        self.whole = len(first)
        self.payload = self.whole - size
        self.pushed = False
        self.strict = _strict(size, first[9], bool(first[6] & _DONT_FRAGMENT))
        self._expect(first, True)

    def _expect(self, packet: bytes, counting: bool) -> None:
        """Work out what follows ``packet`` if its identification counts on, or stays."""
        size = self.size
        done = len(self.write) - 1
        room = min(SEGMENTS_MAX, (ipv4.SIZE_MAX - size) // self.payload)
        step = 0
        if counting:
            step = (1 << 8 * (size - 6)) - (1 << 8 * (size - 12))
            (ident,) = _SHORT.unpack_from(packet, 4)
            (checksum,) = _SHORT.unpack_from(packet, 10)
            room = min(room, done + 0xFFFF - ident, done + checksum)
        if packet[9] == _TCP:
            step += self.payload << 8 * (size - 28)
            (sequence,) = _LONG.unpack_from(packet, 24)
            room = min(room, done + (0xFFFFFFFF - sequence) // self.payload)
        self.expected = int.from_bytes(packet[:size], "big") + step
        self.step = step
        self.limit = 1 + room

    def take(self, packet: bytes, size: int) -> bool:
        """Append a packet with headers of ``size`` bytes if it follows; say whether it did."""
        if size != self.size or len(packet) > self.whole or len(self.write) >= self.limit:
            return False
        header = int.from_bytes(packet[:size], "big")
        if (header ^ self.expected) & self.strict:
            return False
        self.write.append(packet[size:])
        self.pushed = packet[9] == _TCP and bool(packet[33] & PSH)
        if self.pushed or len(packet) < self.whole:
            self.limit = 0
        elif header == self.expected:
            self.expected += self.step
        else:
            at = 8 * (size - 6)
            before = self.expected - self.step
            self._expect(packet, (header >> at) - (before >> at) & 0xFFFF == 1)
        return True

    def finish(self) -> None:
        """Turn the write into a super-packet: its headers, and the payload of each segment."""
        first, write, size = self.first, self.write, self.size
        write[1] = first[size:]
        total = size + (len(write) - 2) * self.payload + len(write[-1])
        before, _ = _TWO.unpack_from(first, 2)
        (checksum,) = _SHORT.unpack_from(first, 10)
        network = (
            first[:2]
            + _SHORT.pack(total)
            + first[4:10]
            + _SHORT.pack((checksum + before - total) % 0xFFFF)
            + first[12:24]
        )
        pseudo = int.from_bytes(first[12:20], "big") + first[9] + total - _IP_SIZE
        partial = pseudo % 0xFFFF or 0xFFFF
        if first[9] == _TCP:
            write[0] = (
                VNET.pack(NEEDS_CSUM, GSO_TCPV4, size, self.payload, _IP_SIZE, TCP_CHECKSUM)
                + network
                + first[24:33]
                + bytes((first[33] | (PSH if self.pushed else 0),))
                + first[34:36]
                + _SHORT.pack(partial)
                + first[38:size]
            )
        else:
            write[0] = (
                VNET.pack(NEEDS_CSUM, GSO_UDP_L4, size, self.payload, _IP_SIZE, UDP_CHECKSUM)
                + network
                + _TWO.pack(total - _IP_SIZE, partial)
            )


@lru_cache(maxsize=64)
def _strict(size: int, protocol: int, atomic: bool) -> int:
    """Give the bits in which headers of ``size`` bytes have to be as expected.

    All but lengths, checksums and PSH; nor the identification of an ``atomic`` packet, one that
    may not be fragmented, for which it means nothing (RFC 6864).
    """
    mask = bytearray(b"\xff" * size)
    mask[2:4] = mask[10:12] = bytes(2)
    if atomic:
        mask[4:6] = bytes(2)
    if protocol == _TCP:
        mask[33] ^= PSH
        mask[36:38] = bytes(2)
    else:
        mask[24:28] = bytes(4)
    return int.from_bytes(mask, "big")
