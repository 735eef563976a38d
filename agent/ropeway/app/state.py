"""What an agent has to remember from one run to the next.

The epoch of its handshakes: peers take a handshake only if its stamp is newer than the last one
from the same host, so that a recorded one is of no use. Each start counts the epoch up; the wall
clock only takes part so that a host whose state was lost is not refused by those that remember.

The endpoints of the hosts that called it: idle hosts call again only after a while, and could not
be reached until then.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

log = logging.getLogger("ropeway")

DEFAULT_DIRECTORY = "/var/lib/ropeway"
EPOCH_MAX = (1 << 32) - 1
CLOCK_MAX_S = 4_102_444_800
"""2100-01-01: a clock beyond that is wrong, and believing it would leave no room to count up."""
_FILE_BYTES_MAX = 32
_CALLERS_BYTES_MAX = 1 << 20

Endpoint = Tuple[str, int]


def next_epoch(device_name: str, wall_clock_s: float) -> int:
    """Count the epoch of the agent of `device_name` up and return it, 1 to `EPOCH_MAX`.

    It is larger than in every run before, and on disk when this returns. A state that cannot be
    read or written is a warning, and the epoch then is `wall_clock_s`, seconds since 1970, or 1
    where that is no plausible time.
    """
    path = _path(device_name, "epoch")
    now = int(wall_clock_s) if 1 <= wall_clock_s < CLOCK_MAX_S else 1
    try:
        epoch = max(_read(path) + 1, now)
        if epoch > EPOCH_MAX:
            epoch = EPOCH_MAX
            log.warning(
                "%s holds a number that cannot be counted up, so other hosts refuse this one:"
                " delete the file, and restart the agents of all hosts",
                path,
            )
    except FileNotFoundError:
        epoch = now
    except OSError as error:
        log.warning(
            "%s cannot be read (%s): counting from the wall clock; if that was set back, other"
            " hosts refuse this one until it catches up",
            path,
            error.strerror or error,
        )
        epoch = now
    except ValueError as error:
        log.warning(
            "%s: counting from the wall clock; if that was set back, other hosts refuse this one"
            " until it catches up",
            error,
        )
        epoch = now
    try:
        _write(path, f"{epoch}\n", os.fsync)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): other hosts may refuse this one after its next start, if"
            " the wall clock is set back; let the user of the agent write there",
            path,
            error.strerror or error,
        )
    return epoch


def read_callers(device_name: str) -> Dict[str, List[Endpoint]]:
    """Return the endpoints by host that `write_callers` left, none where that cannot be read."""
    try:
        with open(_path(device_name, "callers"), "rb") as file:
            listed = json.loads(file.read(_CALLERS_BYTES_MAX))
        return {
            str(ipaddress.IPv4Address(host)): [_endpoint(*endpoint) for endpoint in endpoints]
            for host, endpoints in listed.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning(
            "%s cannot be read (%s): idle hosts are reached once they call",
            _path(device_name, "callers"),
            error,
        )
        return {}


def write_callers(device_name: str, callers: Mapping[str, Sequence[Endpoint]]) -> None:
    """Leave the endpoints of hosts for the next run; `OSError` where that is not possible.

    A power cut may take them back: no packet is to wait for the disk because of a hint.
    """
    _write(_path(device_name, "callers"), json.dumps(callers) + "\n", _leave_to_the_kernel)


def _path(device_name: str, kind: str) -> str:
    directory = os.environ.get("STATE_DIRECTORY", DEFAULT_DIRECTORY).split(":")[0]
    return os.path.join(directory, f"{device_name}.{kind}")


def _endpoint(address: str, port: int) -> Endpoint:
    if not isinstance(port, int) or not 0 < port < 1 << 16:
        raise ValueError(f"{port!r} is no UDP port")
    return (str(ipaddress.ip_address(address)), port)


def _read(path: str) -> int:
    with open(path, "rb") as file:
        content = file.read(_FILE_BYTES_MAX).strip()
    if not content.isdigit():
        raise ValueError(f"{path} holds no number")
    if int(content) > EPOCH_MAX:
        raise ValueError(f"{path} holds a number larger than {EPOCH_MAX}")
    return int(content)


def _write(path: str, content: str, settle: Callable[[int], None]) -> None:
    """Replace the file at once or not at all; `settle` sees to what is open before it counts."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fresh = path + ".new"
    try:
        with open(fresh, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            settle(file.fileno())
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        settle(descriptor)
    finally:
        os.close(descriptor)


def _leave_to_the_kernel(_: int) -> None:
    pass
