"""One steward at a time for each device.

The steward of an agent that was killed removes what it made. Another one that began meanwhile would
lose what it has just made, so it waits for the end of the first.
"""

from __future__ import annotations

import errno
import logging
import socket
import time

log = logging.getLogger("ropeway")

# Tuning
WAIT_LIMIT_S = 5.0
LOOK_EVERY_S = 0.01


def wait_for_turn(device_name: str) -> socket.socket:
    """Wait until no other steward of that device runs; return what says so as long as it is open.

    It is a socket with an abstract name, of which each network namespace has its own (unix(7)).
    Whoever else holds the name only delays the start.
    """
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end = time.monotonic() + WAIT_LIMIT_S
    while True:
        try:
            mark.bind(f"\0ropeway-steward-{device_name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                log.warning("another steward of %s may be running: going on", device_name)
                return mark
            time.sleep(LOOK_EVERY_S)
        else:
            return mark
