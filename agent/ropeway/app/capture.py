"""Captured traffic made readable: key lines, and pcap files in and out.

A key line is `INDEX CIPHER KEY DIRECTION HOST`: the index of a session as frames carry it and its
key, both in hex, and who the other end is; `in` are frames to this host, `out` those from it.
Source of the formats: pcap-savefile(5), www.tcpdump.org/linktypes.html, RFC 791, RFC 8200, RFC 768.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import BinaryIO, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ropeway.core.frame.data import (
    HEADER_SIZE,
    LABELLED_TYPES,
    OVERHEAD,
    PACKET_TYPES,
    PARTIAL_TYPES,
    SESSION_TYPES,
    nonce_prefix,
)
from ropeway.core.frame.label import LABEL_SIZE, identity_of
from ropeway.core.frame.outer import IPV6_SIZE, UDP_SIZE
from ropeway.core.packet import version
from ropeway.core.session.aead import CIPHER_NAME

#   struct pcap_file_header { bpf_u_int32 magic; u_short version_major, version_minor;
#                             bpf_int32 thiszone; bpf_u_int32 sigfigs, snaplen, linktype; };
FILE_HEADER_FIELDS = "IHHiIII"
#   per packet: seconds, micro- or nanoseconds, captured length, length on the wire
PACKET_HEADER_FIELDS = "IIII"
MAGIC_US = 0xA1B2C3D4
MAGIC_NS = 0xA1B23C4D
PCAPNG = b"\x0a\x0d\x0d\x0a"
SNAPLEN = 262144
PACKET_BYTES_MAX = 1 << 20

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
LINKTYPE_LINUX_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL2 = 276
# Where the protocol of the payload stands, and where the payload begins; raw ones have no header.
_HEADERS = {
    LINKTYPE_ETHERNET: (12, 14),
    LINKTYPE_LINUX_SLL: (14, 16),
    LINKTYPE_LINUX_SLL2: (0, 20),
}
_RAW = (LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6)
_VLAN = (b"\x81\x00", b"\x88\xa8")
_IP = (b"\x08\x00", b"\x86\xdd")
_UDP = 17

Keys = Dict[bytes, List[ChaCha20Poly1305]]


class CaptureError(Exception):
    """A file that is not what it has to be; the text is a sentence for the user."""


def key_lines(sessions: Iterable[Dict[str, str]]) -> List[str]:
    """Return the key lines of what the control command `keylog` answers."""
    lines = []
    for session in sessions:
        for way, direction in (("receive", "in"), ("send", "out")):
            lines.append(
                "{} {} {} {} {}".format(
                    session[way + "_index"],
                    session["cipher"],
                    session[way + "_key"],
                    direction,
                    session["host"],
                )
            )
    return lines


def read_keys(lines: Iterable[str], name: str) -> Keys:
    """Return what opens frames, by session index. `CaptureError` names `name` and the line."""
    found: Keys = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        try:
            index, cipher, key = bytes.fromhex(words[0]), words[1], bytes.fromhex(words[2])
        except (ValueError, IndexError):
            index = key = cipher = None  # type: ignore[assignment]
        if index is None or len(index) != 4 or len(key) != 32:
            raise CaptureError(f"{name}:{number}: this is no line of `ropeway keylog`")
        if cipher != CIPHER_NAME:
            raise CaptureError(f"{name}:{number}: this version opens {CIPHER_NAME}, not {cipher}")
        found.setdefault(index, []).append(ChaCha20Poly1305(key))
    return found


class Pcap:
    """The packets of a pcap file: seconds, fraction, bytes, and whether they were cut short.

    `CaptureError` where `file` is none, or of links that this cannot read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        header = file.read(struct.calcsize("<" + FILE_HEADER_FIELDS))
        if header[:4] == PCAPNG:
            raise CaptureError(
                "this is a pcapng file, and only pcap can be read: convert it with"
                " `editcap -F pcap`, or capture with `tcpdump -w`"
            )
        for order in "<>":
            if len(header) == 24:
                fields = struct.unpack(order + FILE_HEADER_FIELDS, header)
                if fields[0] in (MAGIC_US, MAGIC_NS):
                    break
        else:
            raise CaptureError("this is no pcap file: capture with `tcpdump -w`")
        self._order = order
        self.magic: int = fields[0]
        # The upper bits may say how long the frame check sequence is.
        self.linktype: int = fields[6] & 0x0FFFFFFF
        if self.linktype not in _HEADERS and self.linktype not in _RAW:
            raise CaptureError(
                f"packets of link type {self.linktype} cannot be read: capture on an Ethernet"
                " interface or on `any`"
            )

    def __iter__(self) -> Iterator[Tuple[int, int, bytes, bool]]:
        layout = struct.Struct(self._order + PACKET_HEADER_FIELDS)
        while True:
            header = self._file.read(layout.size)
            if len(header) < layout.size:
                return
            seconds, fraction, captured, size = layout.unpack(header)
            if captured > PACKET_BYTES_MAX:
                raise CaptureError("the capture is damaged: a packet in it is too large")
            packet = self._file.read(captured)
            if len(packet) < captured:
                # Whoever captures may still be writing.
                return
            yield seconds, fraction, packet, captured < size


def decrypt(
    capture: Pcap, keys: Keys, output: BinaryIO, all_copies: bool = False
) -> Dict[str, int]:
    """Write the inner packets of `capture` to `output`, a pcap of raw IP.

    Each packet is written once, when its first copy was captured, or with `all_copies` as often as
    it was; checksums that were left to the receiver are filled in. Returns how many frames there
    were of each sort; `CaptureError` where `capture` is damaged.
    """
    counts: Counter[str] = Counter(
        {"written": 0, "copies": 0, "without key": 0, "cut short": 0, "not authentic": 0}
    )
    seen: Set[Tuple[bytes, bytes]] = set()
    output.write(
        struct.pack("<" + FILE_HEADER_FIELDS, capture.magic, 2, 4, 0, 0, SNAPLEN, LINKTYPE_RAW)
    )
    for seconds, fraction, packet, cut in capture:
        frames = _apart(_udp_payload(packet, capture.linktype), keys)
        for number, frame in enumerate(frames, 1):
            if len(frame) < OVERHEAD or frame[0] not in PACKET_TYPES:
                continue
            index, counter = frame[4:8], nonce_prefix(frame[0]) + frame[8:HEADER_SIZE]
            if index not in keys:
                counts["without key"] += 1
            elif not all_copies and (index, counter) in seen:
                counts["copies"] += 1
            elif cut and number == len(frames):
                counts["cut short"] += 1
            else:
                inner = _open(keys[index], frame)
                if inner is None:
                    counts["not authentic"] += 1
                    continue
                seen.add((index, counter))
                if frame[0] in LABELLED_TYPES:
                    # Other copies are sealed for other routers.
                    label, inner = inner[:LABEL_SIZE], inner[LABEL_SIZE:]
                    known = (b"", identity_of(label))
                    if not all_copies and known in seen:
                        counts["copies"] += 1
                        continue
                    seen.add(known)
                if frame[0] in PARTIAL_TYPES:
                    inner = version.complete(inner)
                size = len(inner)
                output.write(struct.pack("<" + PACKET_HEADER_FIELDS, seconds, fraction, size, size))
                output.write(inner)
                counts["written"] += 1
    return dict(counts)


def _apart(payload: bytes, keys: Keys) -> List[bytes]:
    """Return the frames of what was captured as one datagram.

    A capture on the host itself shows frames of one size that the kernel sends, or has received,
    together as one long datagram. Nothing in it says how long each is, but another header stands
    where the first frame ends, and only the right length makes the first one authentic.
    """
    if len(payload) <= OVERHEAD or payload[0] not in SESSION_TYPES:
        return [payload]
    ciphers = keys.get(payload[4:8])
    if ciphers is None:
        return [payload]
    size = _first_size(payload, (payload[4:8],), ciphers)
    if not size and _open(ciphers, payload) is None:
        # Those after the first may be of another session.
        size = _first_size(payload, keys, ciphers)
    if not size:
        return [payload]
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def _first_size(
    payload: bytes, indices: Iterable[bytes], ciphers: List[ChaCha20Poly1305]
) -> Optional[int]:
    """Return the size of the first frame, if one of a session of `indices` follows."""
    for index in indices:
        at = payload.find(index, OVERHEAD + 4)
        while at >= 0:
            size = at - 4
            if payload[size] in SESSION_TYPES and _open(ciphers, payload[:size]) is not None:
                return size
            at = payload.find(index, at + 1)
    return None


def _open(ciphers: List[ChaCha20Poly1305], frame: bytes) -> Optional[bytes]:
    for cipher in ciphers:
        try:
            return cipher.decrypt(
                nonce_prefix(frame[0]) + frame[8:HEADER_SIZE],
                frame[HEADER_SIZE:],
                frame[:1],
            )
        except InvalidTag:
            continue
    return None


def _udp_payload(packet: bytes, linktype: int) -> bytes:
    """Return what a captured packet carries in UDP; empty where it is something else."""
    if linktype in _HEADERS:
        at, start = _HEADERS[linktype]
        protocol = packet[at : at + 2]
        while protocol in _VLAN and len(packet) >= start + 4:
            protocol, start = packet[start + 2 : start + 4], start + 4
        if protocol not in _IP:
            return b""
        packet = packet[start:]
    if len(packet) < 20:
        return b""
    if packet[0] >> 4 == 4:
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        protocol_number, header = packet[9], (packet[0] & 15) * 4
        end = int.from_bytes(packet[2:4], "big")
    elif packet[0] >> 4 == 6:
        fragment, protocol_number, header = 0, packet[6], IPV6_SIZE
        end = IPV6_SIZE + int.from_bytes(packet[4:6], "big")
    else:
        return b""
    if fragment or protocol_number != _UDP:
        return b""
    # Ethernet pads what is short.
    return packet[header + UDP_SIZE : end]
