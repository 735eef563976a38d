"""The agent's device, as the steward makes it."""

from __future__ import annotations

import contextlib
import socket
from typing import FrozenSet, Tuple

from ropeway.kernel import tun
from ropeway.kernel.tun import OpenedDevice
from ropeway.steward.netlink import device as kernel_device

DEVICE_ALIAS = "ropeway"
"""Marks the device as the agent's own."""


def open_device(name: str, features: FrozenSet[str]) -> Tuple[int, OpenedDevice]:
    """Make the device with these offload features; return its interface index too.

    `OSError` says what the kernel refused.
    """
    opened = tun.open_device(name, features)
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        opened.close()
        raise
    with contextlib.suppress(OSError):  # then it costs memory, and works as well
        kernel_device.leave_unqueued(index)
    return index, opened
