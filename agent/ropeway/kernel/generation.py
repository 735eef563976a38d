"""How a virtual machine learns that it is a copy: it was cloned, or set back to a snapshot.

The hypervisor gives it another VM generation ID then, and interrupts it over ACPI. The driver has
the kernel's source of randomness draw anew. Some kernels announce the change to processes;
elsewhere the interrupt shows, which may have had another reason.
Source of the formats: `lib/kobject_uevent.c`, `drivers/virt/vmgenid.c`,
`Documentation/ABI/testing/sysfs-kernel-irq`.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import socket
from typing import List

from ropeway.kernel.kept_file import KeptFile

# include/uapi/linux/netlink.h
NETLINK_KOBJECT_UEVENT = 15
# The multicast group of the kernel itself; that of udev is 2.
KERNEL_GROUP = 1
# include/linux/kobject.h: UEVENT_BUFFER_SIZE, and the headline before it.
UEVENT_BYTES_MAX = 4096
NEW_GENERATION = b"NEW_VMGENID=1"

SYS = "/sys"
# Microsoft, "Virtual Machine Generation ID": the device's compatible ID.
COMPATIBLE_ID = "VM_GEN_COUNTER"
# What the kernel calls the interrupts by which a hypervisor announces it: of ACPI in general
# (drivers/acpi/osl.c), of machines without its older registers (drivers/acpi/evged.c), and of those
# without ACPI.
INTERRUPTS = frozenset(("acpi", "ACPI:Ged", "vmgenid"))


class GenerationHints:
    """A socket that becomes readable when the kernel announces anything about a device.

    `OSError` where there is no such socket.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT
        )
        try:
            self._socket.bind((0, KERNEL_GROUP))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def drain(self, limit: int = 64) -> bool:
        """Throw away what waits, at most `limit` messages; tell whether this machine is a copy.

        What the kernel had to drop (`ENOBUFS`) tells nothing.
        """
        copied = False
        for _ in range(limit):
            try:
                message, (sender, _) = self._socket.recvfrom(UEVENT_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            else:
                # Processes have other numbers than the kernel.
                copied = copied or (sender == 0 and is_new_generation(message))
        return copied

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def is_new_generation(message: bytes) -> bool:
    """Say whether a uevent, its fields ended by zeros, announces another VM generation."""
    headline, *fields = message.split(b"\0")
    return headline.startswith(b"change@") and NEW_GENERATION in fields


class Interrupts:
    """How often the hypervisor has interrupted this machine to say what may be that it is a copy.

    There are none where it has no VM generation ID to give. Never raises. Files are opened here,
    and none by `count`.
    """

    def __init__(self, sys: str = SYS) -> None:
        paths = _interrupts(sys) if _has_generation(sys) else []
        self._files = [KeptFile(path) for path in paths]

    def count(self) -> int:
        """Return how many came since the boot; the number is set back with the machine."""
        # One whose driver is gone cannot be read any more.
        return sum(sum(map(int, (file.read() or "0").split(","))) for file in self._files)

    def close(self) -> None:
        """Close the files; none are counted from then on."""
        for file in self._files:
            file.close()


def _has_generation(sys: str) -> bool:
    modaliases = glob.glob(os.path.join(sys, "bus/acpi/devices/*/modalias"))
    return any(COMPATIBLE_ID in _read(path).upper() for path in modaliases) or bool(
        # A link to each device that the driver serves, for machines without ACPI.
        glob.glob(os.path.join(sys, "bus/platform/drivers/vmgenid/*vmgen*"))
    )


def _interrupts(sys: str) -> List[str]:
    return [
        os.path.join(os.path.dirname(path), "per_cpu_count")
        for path in glob.glob(os.path.join(sys, "kernel/irq/*/actions"))
        if INTERRUPTS & set(_read(path).strip().split(","))
    ]


def _read(path: str) -> str:
    """Return a small file's text; empty where there is none any more."""
    with contextlib.closing(KeptFile(path)) as file:
        return file.read()
