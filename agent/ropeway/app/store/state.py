"""What an agent has to remember from one run to the next.

The epoch of its handshakes: peers take a handshake only if its stamp is newer than the last one
from the same host, so that a recorded one is of no use. Each start counts the epoch up. The wall
clock takes part, at the start and while a host does not answer, for a host whose state was lost:
those that remember it consider an older stamp stale, and have to call it back.

The endpoints of the hosts that called it: idle hosts call again only after a while, and could not
be reached until then.

The address that it has by a lease, for a start while its router does not answer.

The reset keys of its last starts: with them it can tell other hosts that it has lost the sessions
that it had with them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ropeway.core.endpoint import Endpoint

log = logging.getLogger("ropeway")

DEFAULT_DIRECTORY = "/var/lib/ropeway"
EPOCH_MAX = (1 << 32) - 1
CLOCK_MAX_S = 4_102_444_800
"""2100-01-01: a clock beyond that is wrong, and believing it would leave no room to count up."""
_FILE_BYTES_MAX = 32
_CALLERS_BYTES_MAX = 1 << 20
_LEASE_BYTES_MAX = 1 << 10
RESET_KEYS_MAX = 8
"""Starts whose sessions other hosts may still have: an agent that fails is started repeatedly."""
RESET_KEY_BYTES = 32


def next_epoch(device_name: str, wall_clock_s: float) -> int:
    """Count the epoch of the agent of `device_name` up and return it, 1 to `EPOCH_MAX`.

    It is larger than in every run before, and on disk when this returns. A state that cannot be
    read or written is a warning, and the epoch then is `wall_clock_s`, seconds since 1970, or 1
    where that is no plausible time.
    """
    path = path_of(device_name, "epoch")
    now = int(wall_clock_s) if 1 <= wall_clock_s < CLOCK_MAX_S else 1
    try:
        epoch = max(_read(path) + 1, now)
        if epoch > EPOCH_MAX:
            epoch = EPOCH_MAX
            log.warning(
                "%s holds a number that cannot be counted up, so other hosts consider the"
                " handshakes of this one stale: delete the file, and restart the agents of all"
                " hosts",
                path,
            )
    except FileNotFoundError:
        epoch = now
    except OSError as error:
        log.warning(
            "%s cannot be read (%s): counting from the wall clock; if that was set back, other"
            " hosts have to call this one back, and those of version 0.5.0 and earlier refuse it"
            " until the clock is set right",
            path,
            error.strerror or error,
        )
        epoch = now
    except ValueError as error:
        log.warning(
            "%s: counting from the wall clock; if that was set back, other hosts have to call"
            " this one back, and those of version 0.5.0 and earlier refuse it until the clock is"
            " set right",
            error,
        )
        epoch = now
    try:
        _write(path, f"{epoch}\n", os.fsync)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): if the wall clock is set back, other hosts have to call"
            " this one back after its next start, and those of version 0.5.0 and earlier refuse"
            " it; let the user of the agent write there",
            path,
            error.strerror or error,
        )
    return epoch


def write_epoch(device_name: str, epoch: int) -> None:
    """Keep an epoch that is in use; `OSError` where that is not possible.

    A power cut may take it back: the next start counts from the wall clock too.
    """
    _write(path_of(device_name, "epoch"), f"{epoch}\n", _leave_to_the_kernel)


def read_callers(device_name: str) -> Dict[str, List[Endpoint]]:
    """Return the endpoints by host that `write_callers` left, none where that cannot be read."""
    try:
        with open(path_of(device_name, "callers"), "rb") as file:
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
            path_of(device_name, "callers"),
            error,
        )
        return {}


def write_callers(device_name: str, callers: Mapping[str, Sequence[Endpoint]]) -> None:
    """Leave the endpoints of hosts for the next run; `OSError` where that is not possible.

    A power cut may take them back: no packet is to wait for the disk because of a hint.
    """
    _write(path_of(device_name, "callers"), json.dumps(callers) + "\n", _leave_to_the_kernel)


def read_lease(device_name: str, wall_clock_s: float) -> Optional[Tuple[str, float, int]]:
    """Return the address that this host has by a lease, for how many seconds more, and the MTU.

    None where there is none, where its time is over, or where that cannot be read.
    """
    path = path_of(device_name, "lease")
    try:
        with open(path, "rb") as file:
            kept = json.loads(file.read(_LEASE_BYTES_MAX))
        address = str(ipaddress.IPv4Address(kept["address"]))
        left_s = min(float(kept["until"]) - wall_clock_s, float(kept["left_s"]))
        mtu = int(kept["mtu"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning("%s cannot be read (%s): asking the router for an address", path, error)
        return None
    return (address, left_s, mtu) if left_s > 0 else None


def write_lease(device_name: str, now: float, address: str, left_s: int, mtu: int) -> None:
    """Keep what `read_lease` returns; an empty address forgets it. `OSError` if not possible.

    `now` is the wall clock, in seconds since 1970. A power cut may take it back: then the router is
    asked.
    """
    if not address:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path_of(device_name, "lease"))
        return
    kept = {"address": address, "until": now + left_s, "left_s": left_s, "mtu": mtu}
    _write(path_of(device_name, "lease"), json.dumps(kept) + "\n", _leave_to_the_kernel)


def next_reset_keys(device_name: str, fresh: bytes) -> Tuple[bytes, ...]:
    """Return `fresh`, the 32 secret bytes of this start, and those of former starts behind it.

    They are kept for the next start. A power cut may take that back. A state that cannot be read
    or written is a warning.
    """
    path = path_of(device_name, "resets")
    former: List[bytes] = []
    try:
        former = _read_reset_keys(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning(
            "%s cannot be read (%s): hosts that were connected before find out later that this one"
            " started anew",
            path,
            error,
        )
    keys = (fresh, *former)[:RESET_KEYS_MAX]
    try:
        write_reset_keys(device_name, keys)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): other hosts will find out later when this one starts anew;"
            " let the user of the agent write there",
            path,
            error.strerror or error,
        )
    return keys


def write_reset_keys(device_name: str, keys: Sequence[bytes]) -> None:
    """Keep the reset keys that are in use; `OSError` where that is not possible."""
    content = "".join(f"{key.hex()}\n" for key in keys)
    _write(path_of(device_name, "resets"), content, _leave_to_the_kernel)


def _read_reset_keys(path: str) -> List[bytes]:
    with open(path, "rb") as file:
        lines = file.read(RESET_KEYS_MAX * (2 * RESET_KEY_BYTES + 1)).split()
    keys = [bytes.fromhex(line.decode("ascii")) for line in lines]
    if any(len(key) != RESET_KEY_BYTES for key in keys):
        raise ValueError("a line is no key")
    return keys


def path_of(device_name: str, kind: str) -> str:
    """Return where a kind of state of the agent of a device is kept."""
    directory = os.environ.get("STATE_DIRECTORY", DEFAULT_DIRECTORY).split(":")[0]
    return os.path.join(directory, f"{device_name}.{kind}")


def write_durably(device_name: str, kind: str, content: str) -> None:
    """Replace a kind of state; it is on disk when this returns, or `OSError` says why not."""
    _write(path_of(device_name, kind), content, os.fsync)


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
        with open(fresh, "w", encoding="ascii", opener=_open_private) as file:
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


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
