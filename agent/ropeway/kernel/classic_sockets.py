"""Sending and receiving classic datagrams on one local interface.

Two sockets a link: a raw IPv4 socket bound to the interface sends whole IPv4 packets, and a packet
socket receives them, because the kernel itself throws away packets whose options do not parse.
Source of the formats: packet(7), raw(7), `include/uapi/linux/if_packet.h`,
`include/uapi/linux/filter.h`.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import Dict, Iterable, List, Tuple

from ropeway.core.classic.frame import OVERHEAD
from ropeway.kernel.arrivals import arrived_at, note_arrivals
from ropeway.kernel.buffers import SendBuffer, set_receive_buffer, set_send_buffer
from ropeway.kernel.features import count_no_room, count_refused

ETH_P_IP = 0x0800  # include/uapi/linux/if_ether.h
SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
SO_LOCK_FILTER = 44
SOL_PACKET = 263  # include/linux/socket.h
PACKET_STATISTICS = 6  # include/uapi/linux/if_packet.h

#   struct tpacket_stats { unsigned int tp_packets; unsigned int tp_drops; };
TPACKET_STATS = struct.Struct("=II")
#   struct sock_filter { __u16 code; __u8 jt; __u8 jf; __u32 k; };
SOCK_FILTER = struct.Struct("=HBBI")
#   struct sock_fprog { unsigned short len; struct sock_filter *filter; };
SOCK_FPROG = struct.Struct("@HP")

BPF_LD_B_ABS = 0x30  # BPF_LD | BPF_B | BPF_ABS
BPF_JMP_JEQ_K = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
BPF_RET_K = 0x06  # BPF_RET | BPF_K
SKF_AD_PKTTYPE = 0xFFFFF000 + 4  # SKF_AD_OFF (-0x1000) + 4
PACKET_HOST = 0  # include/uapi/linux/if_packet.h
FIRST_BYTE = 0x48  # version 4, header of 8 words
PROTOCOL_OFFSET = 9
PROTOCOL = 4

DATAGRAM_BYTES_MAX = 65535


def receive_filter() -> bytes:
    """Return the classic BPF program as an array of `struct sock_filter`.

    It lets through IPv4 packets for this host whose header is 32 bytes and whose protocol is 4.
    """
    instructions = (
        (BPF_LD_B_ABS, 0, 0, SKF_AD_PKTTYPE),
        (BPF_JMP_JEQ_K, 0, 5, PACKET_HOST),
        (BPF_LD_B_ABS, 0, 0, 0),
        (BPF_JMP_JEQ_K, 0, 3, FIRST_BYTE),
        (BPF_LD_B_ABS, 0, 0, PROTOCOL_OFFSET),
        (BPF_JMP_JEQ_K, 0, 1, PROTOCOL),
        (BPF_RET_K, 0, 0, DATAGRAM_BYTES_MAX),
        (BPF_RET_K, 0, 0, 0),
    )
    return b"".join(SOCK_FILTER.pack(*instruction) for instruction in instructions)


def open_pair(index: int, name: str) -> Tuple[int, int]:
    """Return the descriptors that send and receive on one interface, for `LinkSockets`.

    `index` and `name` must mean the same interface; `OSError` with `ENODEV` says that it is gone
    or has another index by now. `EPERM` says that CAP_NET_RAW is missing.
    """
    raw = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    # Protocol 0: nothing arrives before the filter is attached and bind names the protocol.
    packet = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_INET, raw, socket.IPPROTO_RAW) as send, socket.socket(
        socket.AF_PACKET, packet, 0
    ) as receive:
        set_send_buffer(send)
        set_receive_buffer(receive)
        note_arrivals(receive)
        send.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
        _attach(receive, receive_filter())
        receive.bind((name, ETH_P_IP))
        if socket.if_nametoindex(name) != index:
            raise OSError(errno.ENODEV, f"interface {name} no longer has index {index}")
        return send.detach(), receive.detach()


class LinkSockets:
    """The pair of sockets of one local interface, by `open_pair`: non-blocking.

    Needs no privilege, and owns both descriptors from then on.
    """

    def __init__(self, index: int, name: str, send: int, receive: int) -> None:
        self.index = index
        #: What the node knows these sockets by: the link's index.
        self.key = index
        self.name = name
        #: Whether the last batch took all there was.
        self.emptied = False
        self._dropped = 0
        self._send = socket.socket(fileno=send)
        self._receive = socket.socket(fileno=receive)
        for each in (self._send, self._receive):
            each.setblocking(False)
        self._buffer = SendBuffer(self._send)

    def fileno(self) -> int:
        """Return the descriptor of the receiving socket, for epoll."""
        return self._receive.fileno()

    def is_bound(self) -> bool:
        """Tell whether the sockets still belong to an interface.

        One that leaves this network namespace or is deleted unbinds its packet sockets for good,
        even if it comes back with the same name and index. One that is only down keeps them.
        """
        # packet_getname() of net/packet/af_packet.c gives no name once the interface is gone.
        return bool(self._receive.getsockname()[0])

    def receive_batch(self, limit: int) -> List[bytes]:
        """Return the datagrams that wait now, from the IP header on, at most `limit`.

        `OSError` with `ENETDOWN` or `ENODEV` says that the interface went down or away; the
        error is told once and the socket serves on when the interface comes back.
        """
        datagrams: List[bytes] = []
        append, receive = datagrams.append, self._receive.recv
        self.emptied = False
        try:
            for _ in range(limit):
                append(receive(DATAGRAM_BYTES_MAX))
        except BlockingIOError:
            self.emptied = True
        except OSError:
            if not datagrams:
                raise
        return datagrams

    def arrived_at(self) -> float:
        """Return when the datagram that was received last came, in seconds by the wall clock."""
        return arrived_at(self._receive)

    def send_batch(self, address: str, datagrams: Iterable[bytes]) -> Dict[str, int]:
        """Send whole IPv4 packets to the neighbour or route of `address`.

        Returns how many the kernel refused, by errno name: empty where all went out.
        """
        refused: Dict[str, int] = {}
        buffer, sendto, where = self._buffer, self._send.sendto, (address, 0)
        if buffer.measures:
            buffer.before_batch()
        for datagram in datagrams:
            # What carries no packet goes, or its link would be taken for dead.
            if not buffer.takes(len(datagram)) and len(datagram) > OVERHEAD:
                count_no_room(refused)
                continue
            try:
                sendto(datagram, where)
            except OSError as error:
                count_refused(refused, error)
        if refused or buffer.measures:
            buffer.after_batch(refused)
        return refused

    def buffers(self) -> Dict[str, int]:
        """Return in bytes, as the kernel counts them, how much may wait on either side."""
        receive = self._receive.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return {"send": self._buffer.size, "receive": receive}

    def receive_drops(self) -> int:
        """Return how many datagrams the kernel dropped because the receive buffer was full."""
        # PACKET_STATISTICS starts again from 0 with every reading.
        raw = self._receive.getsockopt(SOL_PACKET, PACKET_STATISTICS, TPACKET_STATS.size)
        self._dropped += TPACKET_STATS.unpack(raw)[1]
        return self._dropped

    def close(self) -> None:
        """Close both sockets."""
        self._send.close()
        self._receive.close()


def _attach(which: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    which.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        SOCK_FPROG.pack(len(program) // SOCK_FILTER.size, ctypes.addressof(instructions)),
    )
    # Whoever uses the socket is not to see other programs' packets.
    which.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
