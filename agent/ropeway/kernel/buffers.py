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
from typing import Callable, Dict, Optional

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
# For the few frames that are squeezed in: above whatever may wait already.
SQUEEZE_BYTES = 2 * SEND_BYTES_MAX


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
