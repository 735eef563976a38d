"""How deep the processors may sleep: a request to the kernel, for as long as a file is open.

Sources: `Documentation/power/pm_qos_interface.rst` (CPU latency QoS), `kernel/power/qos.c`;
`Documentation/admin-guide/pm/cpuidle.rst`, `kernel/sched/idle.c`.
"""

from __future__ import annotations

import os
import struct

PATH = "/dev/cpu_dma_latency"
DRIVER_PATH = "/sys/devices/system/cpu/cpuidle/current_driver"

# The file takes an s32 in the machine's order; PM_QOS_DEFAULT_VALUE takes the request back.
_VALUE = struct.Struct("=i")
_ANY = _VALUE.pack(-1)


def is_heeded() -> bool:
    """Say whether a request can change anything: not without a cpuidle driver.

    There is one kind of sleep then, as in many virtual machines, and nobody who would choose.
    """
    try:
        with open(DRIVER_PATH, encoding="ascii") as file:
            return file.read().strip() not in ("", "none")
    except OSError:
        return False


class CpuLatency:
    """One request: that no processor of this host takes longer to wake than a limit.

    `limit_us` is in microseconds, 0 to 2^31 - 1; with 0 they poll instead of sleeping. The
    kernel heeds the lowest of all requests. Nothing is asked for until :meth:`hold`. `OSError`
    where the file cannot be opened.
    """

    def __init__(self, limit_us: int) -> None:
        self.limit_us = limit_us
        self._fd = os.open(PATH, os.O_WRONLY | os.O_CLOEXEC)

    def hold(self) -> None:
        """Ask for it from now on; `OSError` where the kernel refuses."""
        os.write(self._fd, _VALUE.pack(self.limit_us))

    def release(self) -> None:
        """Ask for nothing any more; `OSError` where the kernel refuses."""
        os.write(self._fd, _ANY)

    def close(self) -> None:
        """End the request."""
        os.close(self._fd)
