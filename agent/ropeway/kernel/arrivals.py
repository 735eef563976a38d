"""When a datagram came, as its socket says."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

# include/uapi/linux/sockios.h (SIOCGSTAMPNS_OLD), socket(7)
#   struct timespec { long tv_sec; long tv_nsec; };
SIOCGSTAMPNS = 0x8907
TIMESPEC = struct.Struct("@ll")


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
