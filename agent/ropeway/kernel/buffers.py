"""How much waits in the buffers of sockets.

Source of the formats: socket(7), `include/uapi/asm-generic/socket.h`,
`include/uapi/linux/sockios.h`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from typing import Callable, Dict

SO_SNDBUFFORCE = 32  # include/uapi/asm-generic/socket.h
SO_RCVBUFFORCE = 33
SIOCOUTQ = termios.TIOCOUTQ  # include/uapi/linux/sockios.h
OUTQ = struct.Struct("=i")

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
# The kernel's own limit, which leaves room for the few frames that must not wait for the rest.
SEND_BYTES_KERNEL = 2 * SEND_BYTES_MAX
# Where the kernel allows less, a quarter of that is theirs.
RESERVED = 4
# The kernel counts for a frame at most GROWTH * (its bytes + FRAME_BYTES): kmalloc rounds up to
# powers of two, and there are headers, room for those of the device, struct skb_shared_info and
# struct sk_buff besides (SKB_TRUESIZE() of include/linux/skbuff.h; kmalloc_reserve() of
# net/core/skbuff.c). That holds of each frame of a train too, as it may be cut into frames while it
# waits (__udp_gso_segment() of net/ipv4/udp_offload.c).
GROWTH = 2
FRAME_BYTES = 768


class SendBuffer:
    """Bounds by time what waits in a socket's send buffer for a link to carry it.

    The kernel's own limit lies above, set by `set_send_buffer`. What may go before the next look
    at what waits is kept in `room`, so there are few looks as long as nothing has to wait. Whoever
    sends takes `(bytes + FRAME_BYTES)` off it for each frame, and calls `look` where it falls below
    0. The bound is passed by no more than what goes in one call.

    If there was no room, what leaves the buffer between two batches is measured, and the size set
    to what leaves in `BACKLOG_S`, step by step if it is much less. Where it runs dry it held too
    little, and is doubled.
    """

    def __init__(self, which: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._socket = which
        self._clock = clock
        granted = which.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._size_max = min(SEND_BYTES_MAX, granted - granted // RESERVED)
        #: Bytes that may wait, as the kernel counts them.
        self.size = 0
        #: Bytes that may be sent before the next look.
        self.room = 0
        #: Whether the size is large enough for whole trains, of up to 64 KiB.
        self.holds_trains = True
        #: Whether there was no room lately, so that all batches count.
        self.measures = False
        # What waited after the last batch, and when.
        self._waiting = 0
        self._since = 0.0
        # What left between batches, and in which time, since there was no room.
        self._left = 0
        self._elapsed = 0.0
        # What can be written to is quicker than bytes: fcntl.ioctl() tries that first.
        self._answer = bytearray(OUTQ.size)
        self._resize(SEND_BYTES)

    def before_batch(self) -> None:
        """Take note that a batch is about to be sent; needed while `measures`."""
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
            self.measures = False
        elif not waiting:
            # It ran dry early, so the link would have carried more.
            self._resize(self._more())
            self.measures = False
        self.room = (self.size - waiting) // GROWTH

    def after_batch(self, refused: Dict[str, int]) -> None:
        """Take note of what of a batch found no room, by errno name; needed while `measures`."""
        if not self.measures:
            if "EAGAIN" not in refused:
                return
            self._left, self._elapsed = 0, 0.0
            self.measures = True
        self._waiting = self._outq()
        self._since = self._clock()

    def takes(self, size: int) -> bool:
        """Return whether a frame of `size` bytes may be sent now, and take it off `room`."""
        self.room -= size + FRAME_BYTES
        return self.room >= 0 or self.look(size + FRAME_BYTES)

    def look(self, taken: int) -> bool:
        """Look at what waits; return whether more may be sent, of which `taken` is off `room`."""
        fcntl.ioctl(self._socket, SIOCOUTQ, self._answer)
        spare: int = self.size - OUTQ.unpack(self._answer)[0]
        self.room = spare // GROWTH - taken
        return spare > 0

    def _more(self) -> int:
        return max(2 * self.size, SEND_BYTES_TRAINS)

    def _outq(self) -> int:
        """Return how many bytes wait to be sent, as the kernel counts them."""
        fcntl.ioctl(self._socket, SIOCOUTQ, self._answer)
        return int(OUTQ.unpack(self._answer)[0])

    def _resize(self, size: int) -> None:
        self.size = min(max(size, SEND_BYTES_MIN), self._size_max)
        self.holds_trains = self.size >= SEND_BYTES_TRAINS


def set_send_buffer(which: socket.socket) -> None:
    """Raise the kernel's limit for sending above what a `SendBuffer` lets wait.

    An unprivileged process gets what it may have.
    """
    _set_buffer(which, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BYTES_KERNEL)


def set_receive_buffer(which: socket.socket) -> None:
    """Give a socket room for `RECEIVE_BYTES`, or what an unprivileged process may have."""
    _set_buffer(which, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BYTES)


def _set_buffer(which: socket.socket, force: int, ordinary: int, size: int) -> None:
    # The kernel grants twice what it is asked for.
    try:
        which.setsockopt(socket.SOL_SOCKET, force, size // 2)
    except PermissionError:
        # Without CAP_NET_ADMIN the system's own limits apply: net.core.rmem_max and wmem_max.
        which.setsockopt(socket.SOL_SOCKET, ordinary, size // 2)
