"""The TUN device: whole IPv4 packets in and out of this host, as plain bytes.

Source of the formats: Linux `Documentation/networking/tuntap.rst` and
`include/uapi/linux/if_tun.h`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Dict, List, Sequence

PATH = "/dev/net/tun"

# include/uapi/linux/if_tun.h
#   #define TUNSETIFF _IOW('T', 202, int)
TUNSETIFF = 0x400454CA
#   #define IFF_TUN   0x0001
#   #define IFF_NO_PI 0x1000     no 4-byte packet information in front of each packet
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000

# include/uapi/linux/if.h, 40 bytes on 64-bit machines:
#   struct ifreq { char ifr_name[IFNAMSIZ /* 16 */]; union { short ifr_flags; ... } ifr_ifru; };
IFREQ = struct.Struct("16sH22x")

NAME_BYTES_MAX = 15
PACKET_BYTES_MAX = 65535


class Tun:
    """One TUN device that lives as long as this object: closing it removes the device.

    `name` is the name of the device, 1 to 15 bytes. `OSError` from the constructor says why the
    kernel gave none: `ENOENT` without the tun module, `EPERM` without CAP_NET_ADMIN, `EBUSY` where
    a process holds a device of that name, `EINVAL` where the name belongs to another kind of
    device.
    """

    def __init__(self, name: str) -> None:
        encoded = name.encode()
        if not 0 < len(encoded) <= NAME_BYTES_MAX:
            raise ValueError(f"a device name has 1 to {NAME_BYTES_MAX} bytes: {name!r}")
        self.name = name
        self._fd = os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._fd, TUNSETIFF, IFREQ.pack(encoded, IFF_TUN | IFF_NO_PI))
        except OSError:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._fd

    def read_batch(self, limit: int) -> List[bytes]:
        """Return the packets that wait now, at most `limit`; empty where none does.

        `OSError` with `EBADFD` says that somebody deleted the device.
        """
        packets: List[bytes] = []
        append, read, fd = packets.append, os.read, self._fd
        try:
            for _ in range(limit):
                append(read(fd, PACKET_BYTES_MAX))
        except BlockingIOError:
            pass
        except OSError:
            # What was read before the failure still counts; the failure comes again at once.
            if not packets:
                raise
        return packets

    def write_batch(self, packets: Sequence[bytes]) -> Dict[str, int]:
        """Hand `packets` to this host; return how many the kernel refused, by errno name.

        `EIO` is a device that is down, `EINVAL` a packet that is not IP, `EBADFD` a deleted
        device.
        """
        write, fd = os.write, self._fd
        refused: Dict[str, int] = {}
        for packet in packets:
            try:
                write(fd, packet)
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "EUNKNOWN")
                refused[name] = refused.get(name, 0) + 1
        return refused

    def close(self) -> None:
        """Remove the device; closing twice does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
