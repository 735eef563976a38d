"""Sending and receiving classic datagrams on one local interface.

Two sockets a link: a raw IPv4 socket bound to the interface sends whole IPv4 packets, and a packet
socket receives them, because the kernel itself throws away packets whose options do not parse.
Source of the formats: packet(7), raw(7), `include/uapi/linux/if_packet.h`,
`include/uapi/linux/filter.h`.

What others need as well stands here too: counting refusals, the sizes of buffers, when a datagram
came, and words for what a kernel can.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import socket
import struct
import termios
import time
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from ropeway.core.classic.frame import OVERHEAD

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

#: What is said of a feature of the kernel, where it is not why there is none.
ON = "on"
NOT_ASKED_FOR = "not asked for"

SIOCOUTQ = termios.TIOCOUTQ  # include/uapi/linux/sockios.h
OUTQ = struct.Struct("=i")

# include/uapi/linux/sockios.h (SIOCGSTAMPNS_OLD), socket(7)
#   struct timespec { long tv_sec; long tv_nsec; };
SIOCGSTAMPNS = 0x8907
TIMESPEC = struct.Struct("@ll")

# Tuning, in bytes as the kernel counts them, its bookkeeping included (socket(7)).
# Receiving: 0.1 s at 1 Gbit/s, so that a busy moment of the loop loses nothing.
RECEIVE_BYTES = 16 << 20
# Sending: whatever waits before a slow link is old when it arrives, and keeps what is fresh
# waiting. So a link that cannot keep up holds what it carries in this time, and drops the rest.
BACKLOG_S = 0.2
# Until it is known what a link carries: 12 trains at once; about 1.1 s at 5 Mbit/s, once.
SEND_BYTES = 1 << 20
# Seven frames, as a buffer takes the last one whole: 0.2 s at 0.4 Mbit/s.
SEND_BYTES_MIN = 16 << 10
# In a smaller one, of less than 3 Mbit/s, a last train of 64 KiB would be too large a part of what
# waits. Once it ran dry it has room for trains again: a link that was silent for a while is to find
# room for bursts soon.
SEND_BYTES_TRAINS = 128 << 10
# A measurement makes it smaller by no more than that, as a silent moment says little of a link.
SHRINK_MAX = 4
# A burst of 4 MiB within a moment passes; more than 160 Mbit/s needs no bound by time.
SEND_BYTES_MAX = 4 << 20
# For the few frames that are squeezed in: above whatever may wait already.
SQUEEZE_BYTES = 2 * SEND_BYTES_MAX


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
        #: What the node knows these sockets by: the link's index.
        self.key = index
        self.name = name
        #: Whether the last batch took all there was.
        self.emptied = False
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
            self._buffer = SendBuffer(self._send)
            set_receive_buffer(self._receive)
            note_arrivals(self._receive)
            self._send.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
            _attach(self._receive, receive_filter())
            self._receive.bind((name, ETH_P_IP))
            if socket.if_nametoindex(name) != index:
                raise OSError(errno.ENODEV, f"interface {name} no longer has index {index}")
        except OSError:
            self.close()
            raise

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
        sendto, where = self._send.sendto, (address, 0)
        self._buffer.before_batch()
        for datagram in datagrams:
            try:
                sendto(datagram, where)
            except OSError as error:
                self._send_refused(datagram, where, error, refused)
        self._buffer.after_batch(refused)
        return refused

    def _send_refused(
        self, datagram: bytes, where: Tuple[str, int], error: OSError, refused: Dict[str, int]
    ) -> None:
        """Send past a full buffer what carries no packet, or its link would be taken for dead."""
        if error.errno == errno.EAGAIN and len(datagram) <= OVERHEAD:
            try:
                self._buffer.squeeze_in(lambda: self._send.sendto(datagram, where))
            except OSError as error_again:
                count_refused(refused, error_again)
        else:
            count_refused(refused, error)

    def buffers(self) -> Dict[str, int]:
        """Return the sizes of the buffers in bytes as the kernel granted and counts them."""
        return {
            "send": self._send.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            "receive": self._receive.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        }

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


def count_refused(refused: Dict[str, int], error: OSError, count: int = 1) -> None:
    """Add `count` to what the kernel refused for `error`, by errno name."""
    name = errno.errorcode.get(error.errno or 0, "EUNKNOWN")
    refused[name] = refused.get(name, 0) + count


class SendBuffer:
    """Bounds by time what waits in a socket's send buffer for a link to carry it.

    Costs nothing as long as the buffer is never full. Once it is, what leaves it between two
    batches is measured, and the size set to what leaves in `BACKLOG_S`, step by step if it is much
    less. Where it runs dry it held too little, and is doubled.
    """

    def __init__(self, which: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._socket = which
        self._clock = clock
        #: Bytes that the buffer is to hold.
        self.size = SEND_BYTES
        # What waited after the last batch, and when; None while nothing is measured.
        self._waiting: Optional[int] = None
        self._since = 0.0
        # What left between batches, and in which time, since the buffer was full.
        self._left = 0
        self._elapsed = 0.0
        self._resize(SEND_BYTES)

    @property
    def measures(self) -> bool:
        """Whether it was full lately, so that all batches count."""
        return self._waiting is not None

    @property
    def holds_trains(self) -> bool:
        """Whether it is large enough for whole trains, of up to 64 KiB."""
        return self.size >= SEND_BYTES_TRAINS

    def before_batch(self) -> None:
        """Take note that a batch is about to be sent."""
        if self._waiting is None:
            return
        waiting = self._outq()
        self._left += max(0, self._waiting - waiting)
        self._elapsed += self._clock() - self._since
        if self._elapsed >= BACKLOG_S:
            if waiting:
                carried = int(self._left * BACKLOG_S / self._elapsed)
                self._resize(max(carried, self.size // SHRINK_MAX))
            elif self.size < SEND_BYTES:
                # When it ran dry is not known, so it grows only to what a new link gets.
                self._resize(min(self._more(), SEND_BYTES))
            self._waiting = None
        elif not waiting:
            # It ran dry early, so the link would have carried more.
            self._resize(self._more())
            self._waiting = None

    def after_batch(self, refused: Dict[str, int]) -> None:
        """Take note of what of a batch the kernel refused, by errno name."""
        if self._waiting is None:
            if "EAGAIN" not in refused:
                return
            self._left, self._elapsed = 0, 0.0
        self._waiting = self._outq()
        self._since = self._clock()

    def squeeze_in(self, send: Callable[[], object]) -> None:
        """Call `send` with room for what must not wait for the backlog to shrink.

        What `send` raises is raised.
        """
        _set_buffer(self._socket, SO_SNDBUFFORCE, socket.SO_SNDBUF, SQUEEZE_BYTES)
        try:
            send()
        finally:
            self._resize(self.size)

    def _more(self) -> int:
        return max(2 * self.size, SEND_BYTES_TRAINS)

    def _outq(self) -> int:
        """Return how many bytes wait to be sent, as the kernel counts them."""
        answer = fcntl.ioctl(self._socket, SIOCOUTQ, bytes(OUTQ.size))
        return int(OUTQ.unpack(answer)[0])

    def _resize(self, size: int) -> None:
        self.size = min(max(size, SEND_BYTES_MIN), SEND_BYTES_MAX)
        _set_buffer(self._socket, SO_SNDBUFFORCE, socket.SO_SNDBUF, self.size)


def note_arrivals(which: socket.socket) -> None:
    """Have the kernel take note from now on when datagrams come, for `arrived_at`."""
    # The first question has that effect, whatever its answer (sock_gettstamp() of
    # net/core/sock.c). As SO_TIMESTAMPNS would, but that one makes each datagram dearer to receive.
    with contextlib.suppress(OSError):
        arrived_at(which)


def arrived_at(which: socket.socket) -> float:
    """Return when the datagram that was received last came, in seconds by the wall clock.

    For one that came before `note_arrivals` that is now. `OSError` where none came.
    """
    seconds, nanoseconds = TIMESPEC.unpack(fcntl.ioctl(which, SIOCGSTAMPNS, bytes(TIMESPEC.size)))
    return float(seconds + nanoseconds * 1e-9)


def set_receive_buffer(which: socket.socket) -> None:
    """Give a socket room for `RECEIVE_BYTES`, or what an unprivileged process may have."""
    _set_buffer(which, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BYTES)


def _set_buffer(which: socket.socket, force: int, ordinary: int, size: int) -> None:
    # The kernel grants twice what it is asked for.
    try:
        which.setsockopt(socket.SOL_SOCKET, force, size // 2)
    except PermissionError:
        # Without CAP_NET_ADMIN the system's own limits hold: net.core.rmem_max and wmem_max.
        which.setsockopt(socket.SOL_SOCKET, ordinary, size // 2)


def _attach(which: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    which.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        SOCK_FPROG.pack(len(program) // SOCK_FILTER.size, ctypes.addressof(instructions)),
    )
