"""Telling systemd how the service is: sd_notify(3) and the journal's line prefix, sd-daemon(3)."""

from __future__ import annotations

import logging
import os
import socket
from typing import Optional

# include/systemd/sd-daemon.h: SD_ERR "<3>", SD_WARNING "<4>", SD_INFO "<6>", SD_DEBUG "<7>"
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def notify(*assignments: str) -> bool:
    """Send `assignments` ("READY=1", "STATUS=...") to the service manager; False if there is none.

    A manager that does not listen is never an error.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    # A leading @ stands for the zero byte of the abstract name space.
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        ) as channel:
            channel.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False
    return True


def watchdog_s() -> Optional[float]:
    """Return the seconds after which the manager kills a silent service; None if it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        limit_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return limit_s if limit_s > 0 else None


class JournalFormatter(logging.Formatter):
    """Lines that the journal sorts by priority: "<4>sentence"."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record with its priority in front of every line."""
        priority = next(value for level, value in _PRIORITIES if record.levelno >= level)
        prefix = f"<{priority}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def log_to_stderr() -> None:
    """Send every log record from INFO on to stderr, with priorities where the journal reads it."""
    handler = logging.StreamHandler()
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
