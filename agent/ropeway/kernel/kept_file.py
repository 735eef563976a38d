"""A small file of /proc or /sys, opened once and read as often as wanted.

The kernel makes the text anew for each read that begins at offset 0, of sysfs (seq_read_iter() of
fs/seq_file.c) as of sysctls (proc_sys_read() of fs/proc/proc_sysctl.c).
"""

from __future__ import annotations

import contextlib
import os

BYTES_MAX = 1 << 16


class KeptFile:
    """The file at `path`, if it can be opened: otherwise its text is empty.

    A child of a fork may read it too, as no reading moves an offset.
    """

    def __init__(self, path: str) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> str:
        """Return the text as it is now; empty where it cannot be read any more."""
        with contextlib.suppress(OSError):
            return os.pread(self._fd, BYTES_MAX, 0).decode("ascii", "replace")
        return ""

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
