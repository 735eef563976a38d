"""Removes what a killed agent left.

The unit runs this before each restart, with no agent to pass packets, so it loads as little as it
can: no schema, and pyroute2 only where a device is left over.
"""

from __future__ import annotations

import errno
import os
from typing import List, Tuple

from ropeway.app.config import DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME, FILE_BYTES_MAX
from ropeway.app.control import remove_stale
from ropeway.kernel import firewall
from ropeway.kernel.tun import Tun

DEVICE_ALIAS = "ropeway"
"""Marks the device as the agent's own."""
INTERFACES_DIRECTORY = "/sys/class/net"


def names(config_path: str) -> Tuple[str, str]:
    """Return the control socket's path and the device's name of a configuration.

    Only these two keys are looked at. `ValueError` where the file does not tell them.
    """
    import yaml

    try:
        with open(config_path, "rb") as file:
            data = yaml.safe_load(file.read(FILE_BYTES_MAX))
        control_path = data.get("control", {}).get("path", DEFAULT_CONTROL_PATH)
        device_name = data.get("device", {}).get("name", DEFAULT_DEVICE_NAME)
    except (OSError, yaml.YAMLError, AttributeError, RecursionError) as error:
        raise ValueError(f"{config_path} cannot be read") from error
    if not isinstance(control_path, str) or not isinstance(device_name, str):
        raise ValueError(f"{config_path} has a control.path or device.name that is no text")
    return control_path, device_name


def clean_up(control_path: str, device_name: str) -> List[str]:
    """Remove what a killed agent left; return a sentence for each thing that was removed.

    `ControlError` where an agent still answers, `OSError` where the kernel refuses. A device goes
    only if it carries the agent's mark and no process holds it.
    """
    done = []
    if remove_stale(control_path):
        done.append(f"removed the socket {control_path}")
    table = firewall.table_of(device_name)
    if firewall.delete(table):
        done.append(f"removed the nft table {table}")
    if os.path.exists(os.path.join(INTERFACES_DIRECTORY, device_name)) and _remove(device_name):
        done.append(f"removed the device {device_name}")
    return done


def _remove(device_name: str) -> bool:
    from ropeway.kernel import netlink

    for interface in netlink.dump():
        if (
            interface.name == device_name
            and interface.kind == "tun"
            and interface.alias == DEVICE_ALIAS
            and not _is_held(device_name)
        ):
            netlink.delete(interface.index)
            return True
    return False


def _is_held(device_name: str) -> bool:
    try:
        Tun(device_name).close()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False
