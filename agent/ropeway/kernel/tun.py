"""The TUN device: whole IP packets in and out of this host, as plain bytes.

Source of the formats: Linux `Documentation/networking/tuntap.rst` and
`include/uapi/linux/if_tun.h`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Sequence, Tuple

from ropeway.core.packet import ipv4, segments, version, virtio
from ropeway.kernel.features import NOT_ASKED_FOR, ON, count_refused

PATH = "/dev/net/tun"
TUN_FLAGS = "/sys/class/net/{}/tun_flags"

# include/uapi/linux/if_tun.h
#   #define TUNSETIFF     _IOW('T', 202, int)
#   #define TUNSETOFFLOAD _IOW('T', 208, unsigned int)
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
#   #define IFF_TUN   0x0001
#   #define IFF_NO_PI 0x1000     no 4-byte packet information in front of each packet
#   #define IFF_VNET_HDR 0x4000  struct virtio_net_hdr in front of each packet
#   #define IFF_MULTI_QUEUE 0x0100  several descriptors, each a queue with part of the flows
#   #define IFF_TUN_EXCL 0x8000     EBUSY where there is a device of that name
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_MULTI_QUEUE = 0x0100
IFF_TUN_EXCL = 0x8000
# What the kernel may leave to whoever reads from the device:
#   #define TUN_F_CSUM    0x01  checksums
#   #define TUN_F_TSO4    0x02  TCP super-packets
#   #define TUN_F_TSO6    0x04  those of IPv6
#   #define TUN_F_TSO_ECN 0x08  also with CWR
#   #define TUN_F_USO4    0x20  UDP super-packets, from Linux 6.2; only together with the next
#   #define TUN_F_USO6    0x40
TUN_F_CSUM = 0x01
TUN_F_TSO = 0x02 | 0x04 | 0x08
TUN_F_USO = 0x20 | 0x40

#: What a device may be asked for.
FEATURES = ("vnet_hdr", "tso", "uso")
NEEDS_VNET_HDR = "needs vnet_hdr"

# include/uapi/linux/if.h, 40 bytes on 64-bit machines:
#   struct ifreq { char ifr_name[IFNAMSIZ /* 16 */]; union { short ifr_flags; ... } ifr_ifru; };
IFREQ = struct.Struct("16sH22x")

SIOCGIFTXQLEN = 0x8942  # include/uapi/linux/sockios.h
#   The same struct ifreq with `int ifr_qlen`.
IFREQ_QLEN = struct.Struct("16si20x")
TUN_READQ_SIZE = 500  # drivers/net/tun.c: what the length is at first

NAME_BYTES_MAX = 15
QUEUES = 8
"""Queues of a device: a flood that cannot even be read fills one of them, and no other loses."""
READ_BYTES_MAX = virtio.VNET.size + ipv4.SIZE_MAX
#: Read beyond a limit to have a packet whole: the largest, where 1280 bytes fit.
FRAGMENTS_MAX = 53


class Queue:
    """Packets for the network, of the flows that the kernel has put here."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        #: Where the packet begins in what is read.
        self.start = 0
        #: Whether the last batch took all there was.
        self.emptied = False

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._fd

    def read_batch(self, limit: int) -> List[bytes]:
        """Return what waits now, at most `limit` packets or super-packets; empty where none does.

        The rest of a packet in fragments comes besides, as far as it is there: it is to travel
        together. Each begins with `virtio.VNET` where `vnet_hdr` is on. `OSError` with `EBADFD`
        says that somebody deleted the device; any other that one packet is lost, as `EINVAL` does
        of a super-packet of a kind that `virtio.VNET` has no name for.
        """
        packets: List[bytes] = []
        append, read, fd = packets.append, os.read, self._fd
        self.emptied = False
        try:
            for _ in range(limit):
                append(read(fd, READ_BYTES_MAX))
            for _ in range(FRAGMENTS_MAX):
                if not version.goes_on(packets[-1], self.start):
                    break
                append(read(fd, READ_BYTES_MAX))
        except BlockingIOError:
            self.emptied = True
        except OSError:
            # What was read before the failure still counts; a failure that stays comes again.
            if not packets:
                raise
        return packets

    def close(self) -> None:
        """Close the descriptor; closing twice does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True)
class OpenedDevice:
    """A device as `open_device` leaves it: whoever has these needs no privilege to use it."""

    #: One for each queue. The device lives as long as one of them is open in some process.
    descriptors: Tuple[int, ...]
    #: For each of `FEATURES` "on" or why it is not.
    features: Dict[str, str]

    def close(self) -> None:
        """Close the descriptors, if nobody else was given them."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def open_device(name: str, features: FrozenSet[str] = frozenset()) -> OpenedDevice:
    """Make the TUN device `name`, of 1 to 15 bytes, or take over one that nobody holds.

    `OSError` says why the kernel gave none: `ENOENT` without the tun module, `EPERM` without
    CAP_NET_ADMIN, `EBUSY` where a process holds a device of that name, `EINVAL` where the name
    belongs to another kind of device.

    `features` are those of `FEATURES` that are wanted: `vnet_hdr` puts `virtio.VNET` in front of
    what is read and lets checksums be partial, `tso` and `uso` are super-packets of TCP and UDP,
    in both directions. A kernel that refuses one of the latter two is no error.
    """
    encoded = name.encode()
    if not 0 < len(encoded) <= NAME_BYTES_MAX:
        raise ValueError(f"a device name has 1 to {NAME_BYTES_MAX} bytes: {name!r}")
    flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if "vnet_hdr" in features else 0)
    descriptors: List[int] = []
    try:
        _open_queues(name, flags, descriptors)
        granted = _negotiate(descriptors[0], features)
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return OpenedDevice(tuple(descriptors), granted)


def _open_queues(name: str, flags: int, descriptors: List[int]) -> None:
    """Add the descriptors of a new device with all its queues, or of one that nobody holds."""
    several = flags | IFF_MULTI_QUEUE
    try:
        descriptors.append(_open_queue(name, several | IFF_TUN_EXCL))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        try:
            descriptors.append(_open_queue(name, flags))
        except OSError as refused:
            # The kernel says the same of other devices, and of a TUN with several queues.
            if refused.errno == errno.EINVAL and os.path.exists(TUN_FLAGS.format(name)):
                raise error from None
            raise
        return
    while len(descriptors) < QUEUES:
        descriptors.append(_open_queue(name, several))


def _open_queue(name: str, flags: int) -> int:
    descriptor = os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, TUNSETIFF, IFREQ.pack(name.encode(), flags))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _negotiate(descriptor: int, features: FrozenSet[str]) -> Dict[str, str]:
    """Ask the kernel for super-packets; return for each feature "on" or why it is not."""
    given = dict.fromkeys(FEATURES, NOT_ASKED_FOR)
    if "vnet_hdr" not in features:
        for name in features & {"tso", "uso"}:
            given[name] = NEEDS_VNET_HDR
        return given
    given["vnet_hdr"] = ON
    granted = TUN_F_CSUM
    for name, more in (("", 0), ("tso", TUN_F_TSO), ("uso", TUN_F_USO)):
        if name and name not in features:
            continue
        try:
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, granted | more)
        except OSError as error:
            if name:
                given[name] = os.strerror(error.errno or 0)
            # What is refused leaves the device as it was.
            continue
        granted |= more
        if name:
            given[name] = ON
    return given


class Tun:
    """The open TUN device `name`; closing it removes the device if nobody else holds it.

    `queues` are what is read, `QUEUES` or, of a device that was there before, one. The kernel
    puts flows into them by a hash, and one that is answered into the queue that the answer was
    written through (`tun_automq_select_queue`, `tun_flow_update` of drivers/net/tun.c).
    Needs no privilege, and owns the descriptors of `opened` from then on.
    """

    def __init__(self, name: str, opened: OpenedDevice) -> None:
        self.name = name
        #: For each of `FEATURES` "on" or why it is not.
        self.features = dict(opened.features)
        self._queues = [Queue(descriptor) for descriptor in opened.descriptors]
        self._fd = self._queues[0].fileno()
        #: How many packets or super-packets each of `queues` holds at most.
        self.capacity = TUN_READQ_SIZE
        self.measure()
        for queue in self._queues:
            queue.start = virtio.VNET.size if self.features["vnet_hdr"] == ON else 0

    def measure(self) -> None:
        """Look up `capacity`, which users may change; where that fails it stays what it was."""
        request = IFREQ_QLEN.pack(self.name.encode(), 0)
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_:
            answer = fcntl.ioctl(any_, SIOCGIFTXQLEN, request)
            self.capacity = int(IFREQ_QLEN.unpack(answer)[1])

    @property
    def queues(self) -> Sequence[Queue]:
        """What is read."""
        return self._queues

    def write_through(self, number: int) -> None:
        """Write through another queue from now on, by its place in `queues`; at first it is 0.

        Flows that are answered move there.
        """
        self._fd = self._queues[number].fileno()

    def write_batch(self, packets: Sequence[bytes]) -> Dict[str, int]:
        """Hand complete `packets` to this host; return how many the kernel refused, by errno name.

        `EIO` is a device that is down, `EINVAL` a packet that is not IP, `EBADFD` a deleted
        device.
        """
        write, fd = os.write, self._fd
        front = virtio.EMPTY if self.features["vnet_hdr"] == ON else b""
        refused: Dict[str, int] = {}
        for packet in packets:
            try:
                write(fd, front + packet)
            except OSError as error:
                count_refused(refused, error)
        return refused

    def write_partial(self, packets: Sequence[bytes]) -> Dict[str, int]:
        """Hand partial `packets` to this host, merged where they can be.

        Returns how many packets the kernel refused, by errno name, as `write_batch` does. Where
        `vnet_hdr` is off they are completed here.
        """
        features = self.features
        if features["vnet_hdr"] != ON:
            return self.write_batch([version.complete(packet) for packet in packets])
        writev, fd = os.writev, self._fd
        refused: Dict[str, int] = {}
        for buffers in segments.merge(packets, features["uso"] == ON, features["tso"] == ON):
            try:
                writev(fd, buffers)
            except OSError as error:
                # One buffer of headers, then one for each packet.
                count_refused(refused, error, len(buffers) - 1)
        return refused

    def close(self) -> None:
        """Remove the device; closing twice does nothing."""
        for queue in self._queues:
            queue.close()
