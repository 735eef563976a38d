"""What an agent leaves in the kernel when all its processes are killed at once."""

from __future__ import annotations

import errno
import socket
from typing import List, Optional

from ropeway.kernel import tun
from ropeway.steward import firewall
from ropeway.steward.device import DEVICE_ALIAS
from ropeway.steward.netlink import device, interfaces, steering


def is_in_use(device_name: str) -> bool:
    """Say whether an agent's device of that name is there, and a process holds it.

    `OSError` where the kernel does not let this be found out.
    """
    if _index_of_ours(device_name) is None:
        return False
    try:
        tun.open_device(device_name, frozenset()).close()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False


def remove(device_name: str) -> List[str]:
    """Remove what is left; return a sentence for each thing. `OSError` if the kernel refuses."""
    done = []
    table = firewall.table_of(device_name)
    if firewall.delete(table):
        done.append(f"removed the nft table {table}")
    index = _index_of_ours(device_name)
    if index is not None:
        device.delete(index)
        done.append(f"removed the device {device_name}")
    rules = steering.remove_left()
    if rules:
        done.append(f"removed {rules} routing rules")
    return done


def _index_of_ours(device_name: str) -> Optional[int]:
    """Return the index of the TUN device of that name with the agent's mark, None without one."""
    try:
        socket.if_nametoindex(device_name)
    except OSError:
        return None
    for interface in interfaces.interfaces():
        if (
            interface.name == device_name
            and interface.kind == "tun"
            and interface.alias == DEVICE_ALIAS
        ):
            return interface.index
    return None
