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
from typing import Dict, Iterable, List

ETH_P_IP = 0x0800  # include/uapi/linux/if_ether.h
SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
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
# Tuning: 0.1 s at 1 Gbit/s and more, so that a busy moment of the loop loses nothing.
BUFFER_BYTES = 8 << 20


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


class LinkSockets:
    """The pair of sockets of one local interface, non-blocking.

    `index` and `name` must mean the same interface; `OSError` with `ENODEV` says that it is gone
    or has another index by now. `EPERM` says that CAP_NET_RAW is missing.
    """

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self._dropped = 0
        self._send = socket.socket(
            socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW
        )
        try:
            self._receive = socket.socket(
                # Protocol 0: nothing arrives before the filter stands and bind names the protocol.
                socket.AF_PACKET,
                socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
                0,
            )
        except OSError:
            self._send.close()
            raise
        try:
            set_buffer(self._send, SO_SNDBUFFORCE, socket.SO_SNDBUF)
            set_buffer(self._receive, SO_RCVBUFFORCE, socket.SO_RCVBUF)
            self._send.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
            _attach(self._receive, receive_filter())
            self._receive.bind((name, ETH_P_IP))
            if socket.if_nametoindex(name) != index:
                raise OSError(errno.ENODEV, f"interface {name} no longer has index {index}")
        except OSError:
            self.close()
            raise

    @property
    def key(self) -> int:
        """What the node knows these sockets by: the link's index."""
        return self.index

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
        try:
            for _ in range(limit):
                append(receive(DATAGRAM_BYTES_MAX))
        except BlockingIOError:
            pass
        except OSError:
            if not datagrams:
                raise
        return datagrams

    def send_batch(self, address: str, datagrams: Iterable[bytes]) -> Dict[str, int]:
        """Send whole IPv4 packets to the neighbour or route of `address`.

        Returns how many the kernel refused, by errno name: empty where all went out.
        """
        return send_all(self._send, (address, 0), datagrams)

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


def send_all(
    sender: socket.socket, destination: object, datagrams: Iterable[bytes]
) -> Dict[str, int]:
    """Send each datagram with `sender`; return how many were refused, by errno name."""
    sendto = sender.sendto
    refused: Dict[str, int] = {}
    for datagram in datagrams:
        try:
            sendto(datagram, destination)  # type: ignore[call-overload]
        except OSError as error:
            count_refused(refused, error)
    return refused


def count_refused(refused: Dict[str, int], error: OSError, count: int = 1) -> None:
    """Add `count` to what the kernel refused for `error`, by errno name."""
    name = errno.errorcode.get(error.errno or 0, "EUNKNOWN")
    refused[name] = refused.get(name, 0) + count


def set_buffer(which: socket.socket, force: int, ordinary: int) -> None:
    """Give a socket `BUFFER_BYTES`, by the option `force` if it may, else by `ordinary`."""
    try:
        which.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:
        # Without CAP_NET_ADMIN the system's own limit (net.core.rmem_max) holds.
        which.setsockopt(socket.SOL_SOCKET, ordinary, BUFFER_BYTES)


def _attach(which: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    which.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        SOCK_FPROG.pack(len(program) // SOCK_FILTER.size, ctypes.addressof(instructions)),
    )
