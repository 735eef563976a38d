"""Users, groups, sockets and devices that a configuration names on this host."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from typing import Any, Dict

from ropeway.app.config.lines import Faults
from ropeway.app.config.model import DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME
from ropeway.app.config.schema import shown

INTERFACES_DIRECTORY = "/sys/class/net"


def check_host(data: Dict[str, Any], faults: Faults) -> None:
    """See whether the users, the group, the socket and the device can be as the file says."""
    control = data.get("control", {})
    device = data.get("device", {})
    names = control if isinstance(control, dict) else {}
    for key, what, look_up in (
        ("owner", "user", pwd.getpwnam),
        ("group", "group", grp.getgrnam),
    ):
        name = names.get(key)
        if not isinstance(name, str) or faults.spoilt(("control", key)):
            continue
        try:
            look_up(name)
        except (KeyError, ValueError):
            faults.add(("control", key), f"there is no {what} {shown(name)}: create it first")
    path = names.get("path", DEFAULT_CONTROL_PATH)
    if isinstance(path, str) and not faults.spoilt(("control", "path")):
        with contextlib.suppress(OSError, ValueError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                faults.add(
                    ("control", "path"), f"{path} is not a socket: remove it or choose another path"
                )
    name = device.get("name", DEFAULT_DEVICE_NAME) if isinstance(device, dict) else None
    if isinstance(name, str) and not faults.spoilt(("device", "name")):
        place = os.path.join(INTERFACES_DIRECTORY, name)
        # drivers/net/tun.c gives its devices this file.
        if os.path.isdir(place) and not os.path.exists(os.path.join(place, "tun_flags")):
            faults.add(
                ("device", "name"),
                f"an interface {name} stands already and is of another kind: choose another name",
            )
