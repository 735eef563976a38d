"""Whether something keeps the wall clock right.

Source: adjtimex(2), `include/uapi/linux/timex.h`.
"""

from __future__ import annotations

import ctypes

from ropeway.kernel import libc

#: struct timex takes 208 bytes on 64-bit machines; `modes`, its first field, is 0 for reading.
_TIMEX_BYTES = 256
#: #define TIME_ERROR 5  /* clock not synchronized */
_TIME_ERROR = 5


def is_synchronised() -> bool:
    """Return whether NTP or its like has set the clock, and says that it is right."""
    try:
        return libc.call("adjtimex", ctypes.create_string_buffer(_TIMEX_BYTES)) != _TIME_ERROR
    except OSError:
        return False
