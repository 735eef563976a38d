"""Requests to the kernel over one socket, with its errors as `OSError`.

Source of the messages: rtnetlink(7), `include/uapi/linux/rtnetlink.h`.
"""

from __future__ import annotations

import functools
import os
from typing import Any, List, Mapping, Sequence, Tuple

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

# Tuning
#: A dump that the kernel changed under it is repeated so often.
DUMP_TRIES = 10

Message = Mapping[str, Any]
#: Names of attributes with their values, as pyroute2 has them.
Attributes = Sequence[Tuple[str, Any]]


@functools.lru_cache(maxsize=None)
def connection() -> IPRoute:
    """Return the socket of this process, made when it is first needed."""
    # Filters of dumps are heeded only with this (Linux 4.20).
    return IPRoute(strict_check=True)


def make(kind: Any, fields: Mapping[str, Any], attributes: Attributes = ()) -> Any:
    """Return a message of one of pyroute2's classes."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    return message


def request(message: Any, kind: int, flags: int = 0) -> None:
    """Have the kernel change something; `OSError` says what it refused."""
    _exchange(message, kind, NLM_F_REQUEST | NLM_F_ACK | flags)


def ask(message: Any, kind: int) -> Message:
    """Return the kernel's one answer; `OSError` where it has none."""
    answers = _exchange(message, kind, NLM_F_REQUEST)
    return answers[0]


def dump(message: Any, kind: int, what: str) -> List[Message]:
    """Return all that the kernel has; `OSError` where it refuses or is never at rest."""
    for _ in range(DUMP_TRIES):
        try:
            return _exchange(message, kind, NLM_F_REQUEST | NLM_F_DUMP)
        except NetlinkDumpInterrupted:
            continue
    raise OSError(f"the kernel's {what} change all the time")


def _exchange(message: Any, kind: int, flags: int) -> List[Message]:
    try:
        return list(connection().nlm_request(message, msg_type=kind, msg_flags=flags))
    except NetlinkDumpInterrupted:
        raise
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
