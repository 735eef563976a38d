"""What the kernel may do with this process. Source: prctl(2), `include/uapi/linux/prctl.h`."""

from __future__ import annotations

import ctypes
import os

PR_SET_DUMPABLE = 4


def forbid_dumps() -> None:
    """Keep this process's memory, and with it its keys, out of core dumps and debuggers.

    Only root can look into it from then on. `OSError` where the kernel refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
