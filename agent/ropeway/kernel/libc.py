"""Functions of the C library that Python has no name for."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, Union

_LIBRARY = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Union[int, bytes, ctypes.Array[Any]]) -> int:
    """Call a function that returns -1 on failure; return its result, or raise `OSError`."""
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = getattr(_LIBRARY, name)(*wide)
    if result == -1:
        code = ctypes.get_errno() or errno.EINVAL
        raise OSError(code, os.strerror(code))
    return int(result)


def has(name: str) -> bool:
    """Return whether the C library has a function of that name."""
    return hasattr(_LIBRARY, name)
