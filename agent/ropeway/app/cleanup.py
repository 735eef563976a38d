"""Removes what a killed agent left.

The unit runs this before each restart, with no agent to pass packets, so it loads as little as it
can: neither the schema nor the library of keys.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ropeway.app.config.model import DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME
from ropeway.app.config.read import FILE_BYTES_MAX
from ropeway.app.control.client import ControlError
from ropeway.app.control.server import remove_stale


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
    # The library for netlink comes with it.
    from ropeway.steward import leftovers

    if leftovers.is_in_use(device_name):
        # Its table is in use too, whatever socket the agent answers on.
        raise ControlError(
            f"a running agent has the device {device_name}: stop it first, or correct device.name"
        )
    done = []
    if remove_stale(control_path):
        done.append(f"removed the socket {control_path}")
    return done + leftovers.remove(device_name)
