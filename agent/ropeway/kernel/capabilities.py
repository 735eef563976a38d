"""The capabilities of this thread: what the kernel says it holds, and giving all of them up.

Sources: capabilities(7), capget(2), prctl(2); `include/uapi/linux/capability.h`,
`include/uapi/linux/prctl.h`, `include/uapi/linux/securebits.h`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import struct
from dataclasses import dataclass
from typing import Iterable, Iterator, Tuple

from ropeway.kernel import libc

# include/uapi/linux/capability.h, by number from 0.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
#: Two words of 32 bits: there is no number above 63.
NUMBERS = 64

#   struct __user_cap_header_struct { __u32 version; int pid; };  pid 0 is the calling thread
HEADER = struct.Struct("=Ii")
VERSION_3 = 0x20080522
#   struct __user_cap_data_struct { __u32 effective, permitted, inheritable; };  two of them, the
#   low words first
DATA = struct.Struct("=6I")

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_CLEAR_ALL = 4

# Each with its lock: user 0 gains nothing by an exec, a change of user gains nothing, and nothing
# becomes ambient again. KEEP_CAPS stays off.
SECBIT_NOROOT = 0x01 | 0x02
SECBIT_NO_SETUID_FIXUP = 0x04 | 0x08
SECBIT_KEEP_CAPS_LOCKED = 0x20
SECBIT_NO_CAP_AMBIENT_RAISE = 0x40 | 0x80


@dataclass(frozen=True)
class Capabilities:
    """The sets of one thread, each as names in the order of their numbers."""

    #: What the kernel checks.
    effective: Tuple[str, ...]
    #: What the thread may make effective.
    permitted: Tuple[str, ...]
    #: What an exec of a file with capabilities of its own may keep.
    inheritable: Tuple[str, ...]
    #: What any exec keeps.
    ambient: Tuple[str, ...]
    #: What an exec may gain.
    bounding: Tuple[str, ...]


def held() -> Capabilities:
    """Return what the calling thread holds. Opens no file."""
    found = ctypes.create_string_buffer(DATA.size)
    libc.call("capget", HEADER.pack(VERSION_3, 0), found)
    words = DATA.unpack(found.raw)
    effective, permitted, inheritable = (
        _names(number for number in range(NUMBERS) if _bit(words[kind], words[3 + kind], number))
        for kind in range(3)
    )
    return Capabilities(
        effective,
        permitted,
        inheritable,
        _names(
            number
            for number in range(NUMBERS)
            if _says(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number)
        ),
        _names(number for number in range(NUMBERS) if _says(PR_CAPBSET_READ, number, 0)),
    )


def drop_all() -> None:
    """Give up all capabilities of the calling thread, and every way to get one back.

    Other threads keep theirs, so call this while there is one thread. User 0 keeps nothing either,
    nor does a program that it starts. The bounding set and the secure bits stay where the thread
    lacks CAP_SETPCAP; the lack of new privileges makes up for that. `OSError` where the kernel
    refuses what it must not.
    """
    for number in range(NUMBERS):
        # EINVAL for a number that this kernel does not know.
        with _allowed(errno.EPERM, errno.EINVAL):
            libc.call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    with _allowed(errno.EPERM):
        bits = (
            SECBIT_NOROOT
            | SECBIT_NO_SETUID_FIXUP
            | SECBIT_KEEP_CAPS_LOCKED
            | SECBIT_NO_CAP_AMBIENT_RAISE
        )
        libc.call("prctl", PR_SET_SECUREBITS, bits, 0, 0, 0)
    libc.call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.call("capset", HEADER.pack(VERSION_3, 0), bytes(DATA.size))
    libc.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _says(*arguments: int) -> bool:
    """Return the answer of a prctl about one capability; no for one that the kernel lacks."""
    with _allowed(errno.EINVAL):
        return libc.call("prctl", *arguments, 0, 0) == 1
    return False


@contextlib.contextmanager
def _allowed(*codes: int) -> Iterator[None]:
    """Pass over `OSError` with one of these numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise


def _bit(low: int, high: int, number: int) -> int:
    return (low | high << 32) >> number & 1


def _names(numbers: Iterable[int]) -> Tuple[str, ...]:
    return tuple(NAMES[n] if n < len(NAMES) else f"CAP_{n}" for n in numbers)
