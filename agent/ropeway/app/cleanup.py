"""Removes what a killed agent left.

The unit runs this before each restart, with no agent to pass packets, so it loads as little as it
can: neither the schema nor the library of keys.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Dict, List, Optional, Tuple

from ropeway.app.config.model import DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME
from ropeway.app.config.read import FILE_BYTES_MAX
from ropeway.app.control.client import ControlError
from ropeway.app.control.server import remove_stale
from ropeway.kernel import firewall, netlink, steering
from ropeway.kernel.tun import open_device

DEVICE_ALIAS = "ropeway"
"""Marks the device as the agent's own."""


def names(config_path: str) -> Tuple[str, str]:
    """Return the control socket's path and the device's name of a configuration.

    Only these two keys are looked at. `ValueError` says why the file does not tell them.
    """
    from ropeway.app.config import bounded_yaml

    try:
        with open(config_path, "rb") as file:
            data = bounded_yaml.load(file.read(FILE_BYTES_MAX))
    except OSError as error:
        raise ValueError(f"{config_path} cannot be read ({error.strerror or error})") from error
    except bounded_yaml.UNREADABLE as error:
        line, sentence = bounded_yaml.fault(error)
        place = f"{config_path}:{line}" if line else config_path
        raise ValueError(f"{place}: {sentence}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{config_path}: this is no mapping of keys")
    return (
        _text(data, "control", "path", DEFAULT_CONTROL_PATH, config_path),
        _text(data, "device", "name", DEFAULT_DEVICE_NAME, config_path),
    )


def _text(data: Dict[Any, Any], part: str, key: str, default: str, config_path: str) -> str:
    inside = data.get(part, {})
    if not isinstance(inside, dict):
        raise ValueError(f"{config_path}: {part} is no mapping of keys")
    found = inside.get(key, default)
    if not isinstance(found, str):
        raise ValueError(f"{config_path}: {part}.{key} is no text")
    return found


def clean_up(control_path: str, device_name: str) -> List[str]:
    """Remove what a killed agent left; return a sentence for each thing that was removed.

    `ControlError` where an agent still answers or has the device, `OSError` where the kernel
    refuses. A device goes only if it carries the agent's mark.
    """
    index = _index_of_ours(device_name)
    if index is not None and _is_held(device_name):
        # Its table is in use too, whatever socket the agent answers on.
        raise ControlError(
            f"a running agent has the device {device_name}: stop it first, or correct device.name"
        )
    done = []
    if remove_stale(control_path):
        done.append(f"removed the socket {control_path}")
    table = firewall.table_of(device_name)
    if firewall.delete(table):
        done.append(f"removed the nft table {table}")
    if index is not None:
        netlink.delete(index)
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
    for interface in netlink.dump():
        if (
            interface.name == device_name
            and interface.kind == "tun"
            and interface.alias == DEVICE_ALIAS
        ):
            return interface.index
    return None


def _is_held(device_name: str) -> bool:
    try:
        open_device(device_name).close()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False
