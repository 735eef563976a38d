"""Everything that passes the LANs of a lab, as their bridges see it."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Iterator, List, Mapping

from . import network
from .errors import LabError
from .lab import Lab

ETH_P_ALL = 0x0003  # linux/if_ether.h
# linux/if_packet.h; packet(7)
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS = 263, 1, 6
PACKET_MR_PROMISC = 1
MEMBERSHIP = struct.Struct("@iHH8s")  # struct packet_mreq: ifindex, type, alen, address
STATISTICS = struct.Struct("@II")  # struct tpacket_stats: packets, drops
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
RECEIVE_BUFFER = 32 << 20

FRAME_LIMIT = 65_550
BYTES_LIMIT = 256 << 20
POLL_S = 0.1

# An Ethernet frame with IPv4 without options: 14 bytes, then 20, then UDP's ports.
ETHERNET, IPV4 = 14, 20
PORTS = struct.Struct("!HH")
UDP = 17


@dataclass
class Capture:
    """Frames with their Ethernet headers, in the order of their arrival on each bridge."""

    frames: List[bytes] = field(default_factory=list)
    dropped: int = 0  # by the kernel, because the reader was too slow

    def to_port(self, port: int) -> int:
        """How many of the frames are UDP over IPv4 to or from `port`."""
        return sum(port in udp_ports(frame) for frame in self.frames)

    def holding(self, patterns: Mapping[str, bytes]) -> Mapping[str, int]:
        """How many frames hold each of `patterns`, by its name."""
        return {
            name: sum(pattern in frame for frame in self.frames)
            for name, pattern in patterns.items()
        }


def udp_ports(frame: bytes) -> List[int]:
    """Source and destination port of a UDP datagram over IPv4; nothing of anything else."""
    is_ipv4 = frame[ETHERNET - 2 : ETHERNET + 1] == b"\x08\x00\x45"
    if not is_ipv4 or frame[ETHERNET + 9] != UDP or len(frame) < ETHERNET + IPV4 + PORTS.size:
        return []
    return list(PORTS.unpack_from(frame, ETHERNET + IPV4))


@contextlib.contextmanager
def capturing(lab: Lab) -> Iterator[Capture]:
    """Capture what passes all LANs of `lab` until the block ends; LabError if it is too much."""
    found = Capture()
    stop = threading.Event()
    with contextlib.ExitStack() as opened:
        sockets = [
            opened.enter_context(_listening(network.bridge_name(lab.prefix, lan)))
            for lan in lab.topology.lans
        ]
        reader = threading.Thread(target=_read, args=(sockets, found, stop))
        reader.start()
        try:
            yield found
        finally:
            stop.set()
            reader.join()
        for one in sockets:
            raw = one.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size)
            found.dropped += STATISTICS.unpack(raw)[1]
    if sum(map(len, found.frames)) >= BYTES_LIMIT:
        raise LabError(f"More than {BYTES_LIMIT >> 20} MB passed the LANs: capture less.")


def _listening(bridge: str) -> socket.socket:
    listening = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    listening.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    # Only a promiscuous bridge takes in what it passes on from port to port.
    index = socket.if_nametoindex(bridge)
    request = MEMBERSHIP.pack(index, PACKET_MR_PROMISC, 0, bytes(8))
    listening.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
    listening.setblocking(False)
    listening.bind((bridge, ETH_P_ALL))
    return listening


def _read(sockets: List[socket.socket], found: Capture, stop: threading.Event) -> None:
    size = 0
    while size < BYTES_LIMIT:
        ready = select.select(sockets, [], [], POLL_S)[0]
        if not ready and stop.is_set():
            return
        for one in ready:
            with contextlib.suppress(BlockingIOError):
                while size < BYTES_LIMIT:
                    frame = one.recv(FRAME_LIMIT)
                    found.frames.append(frame)
                    size += len(frame)
