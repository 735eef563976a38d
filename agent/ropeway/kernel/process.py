"""What the kernel may do with this process, and how soon it runs it.

Sources: prctl(2), sched(7), sched_setattr(2), mlockall(2); `include/uapi/linux/prctl.h`,
`include/uapi/linux/sched/types.h`, `include/uapi/asm-generic/mman.h`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
import time
from typing import Callable, Dict, Optional, Union

from ropeway.kernel import libc

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
NAME_BYTES_MAX = 15  # include/linux/sched.h: TASK_COMM_LEN, without the zero at its end
SCHED_OTHER = 0
SCHED_FLAG_RESET_ON_FORK = 0x01
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4

#: How long the process runs before another one's turn may come, and with that how soon its own
#: comes: the least that Linux takes.
SLICE_US = 100
AUTOGROUP_PATH = "/proc/self/autogroup"

# systemd's container interface: its manager, or systemd inside, writes the kind there.
CONTAINER_FILES = ("run/host/container-manager", "run/systemd/container")
#: What others leave in the file system of a container.
CONTAINER_MARKS = {".dockerenv": "docker", "run/.containerenv": "podman"}

# struct sched_attr, version 0: size, policy, flags, nice, priority, runtime, deadline, period. The
# runtime of SCHED_OTHER is its slice in nanoseconds since Linux 6.12; before, it reads as 0.
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
# The number of sched_setattr by machine and bits of a pointer; sched_getattr is the next one. A C
# library has neither before glibc 2.41. A process of 32 bits may run on a kernel of 64.
_SCHED_SETATTR = {
    ("x86_64", 64): 314,
    ("aarch64", 64): 274,
    ("riscv64", 64): 274,
    ("armv6l", 32): 380,
    ("armv7l", 32): 380,
    ("armv8l", 32): 380,
    ("aarch64", 32): 380,
}
# Between two unprivileged changes of any autogroup on the host the kernel wants HZ / 10 ticks.
_AUTOGROUP_PAUSE_S = 0.11
_AUTOGROUP_TRIES = 3


def container(root: str = "/") -> Optional[str]:
    """Return the kind of container this process runs in, such as "docker"; None for none.

    "other" is one of a kind that says no name. `root` is where the file system begins.
    """
    for path in CONTAINER_FILES:
        try:
            with open(os.path.join(root, path), encoding="ascii", errors="replace") as file:
                return file.read(64).strip() or "other"
        except OSError:
            continue
    for path, kind in CONTAINER_MARKS.items():
        if os.path.exists(os.path.join(root, path)):
            return kind
    return None


def forbid_dumps() -> None:
    """Keep this process's memory, and with it its keys, out of core dumps and debuggers.

    Only root can look into it from then on. `OSError` where the kernel refuses.
    """
    libc.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def set_name(text: str) -> None:
    """Set this thread's name, as `ps` and /proc/self/comm show it; the kernel keeps 15 bytes."""
    libc.call("prctl", PR_SET_NAME, text.encode()[:NAME_BYTES_MAX] + b"\0", 0, 0, 0)


def serve_promptly() -> Dict[str, Union[int, str]]:
    """Ask to run as soon as a packet is there, and say what the kernel grants.

    Each value is a number, or "on", or a sentence why not:

    - ``nice``: the niceness that the process has, -20 to 19; it is left as it is.
    - ``autogroup``: the niceness of its session, made the same. Where the kernel shares processor
      time between sessions first (CONFIG_SCHED_AUTOGROUP), that of a process counts only among
      those of its own session, and a service has one for itself.
    - ``slice_us``: microseconds of its slice, :data:`SLICE_US` since Linux 6.12. Children that it
      forks from then on have an ordinary one, and no niceness below 0.
    - ``memory_lock``: whether pages stay in memory once they were used, so that no packet waits for
      the disk. What was never used is not read in, so this takes no memory at once.

    To be called before :func:`forbid_dumps`, which closes the file of the autogroup. Never raises;
    may take 0.3 s where several processes ask at once.
    """
    steps: Dict[str, Callable[[], Union[int, str]]] = {
        "nice": _nice,
        "autogroup": _set_autogroup,
        "slice_us": _set_slice,
        "memory_lock": _lock_memory,
    }
    granted: Dict[str, Union[int, str]] = {}
    for name, step in steps.items():
        try:
            granted[name] = step()
        except OSError as error:
            granted[name] = error.strerror or str(error)
    return granted


def _nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def _set_autogroup() -> Union[int, str]:
    if os.getsid(0) != os.getpid():
        return "the session is not its own"
    nice = _nice()
    for left in reversed(range(_AUTOGROUP_TRIES)):
        try:
            with open(AUTOGROUP_PATH, "r+b", buffering=0) as file:
                file.write(b"%d" % nice)
            return nice
        except FileNotFoundError:
            return "not in this kernel"
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_AUTOGROUP_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _set_slice() -> Union[int, str]:
    number = _SCHED_SETATTR.get((os.uname().machine, 64 if sys.maxsize > 1 << 32 else 32))
    if number is None:
        return "not known for this machine"
    size = _SCHED_ATTR.size
    wanted = _SCHED_ATTR.pack(
        size, SCHED_OTHER, SCHED_FLAG_RESET_ON_FORK, _nice(), 0, SLICE_US * 1000, 0, 0
    )
    libc.call("syscall", number, 0, wanted, 0)
    found = ctypes.create_string_buffer(size)
    libc.call("syscall", number + 1, 0, found, size, 0)
    runtime = _SCHED_ATTR.unpack(found.raw)[5]
    return int(runtime) // 1000 or "not before Linux 6.12"


def _lock_memory() -> str:
    # Under a limit, growing beyond it would fail later, in the middle of the work.
    unlimited = resource.RLIM_INFINITY
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != unlimited:
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))
        except (OSError, ValueError):
            return f"no more than {limit // 1024} KiB may be locked"
    libc.call("mlockall", MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
    return "on"


def return_memory() -> None:
    """Give back to the system what was freed: glibc keeps it otherwise, after a burst for good.

    Takes about 1 ms. Does nothing with another C library. Source: malloc_trim(3).
    """
    if libc.has("malloc_trim"):
        libc.call("malloc_trim", 0)
