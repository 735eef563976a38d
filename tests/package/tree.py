"""What a root file system holds, and what changed in it between two looks."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Dict, List

# The package tools' own books and logs, and what only lives while a system runs.
IGNORED = (
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/ldconfig",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/log",
    # useradd and userdel keep the state before their last change.
    "/etc/.pwd.lock",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
)


def listing(root: Path) -> Dict[str, str]:
    """Every path below `root` with type, mode and owner; files below /etc with their contents."""
    found: Dict[str, str] = {}
    for directory, directories, files in os.walk(root):
        inside = "/" + os.path.relpath(directory, root) if directory != str(root) else ""
        directories[:] = [name for name in directories if f"{inside}/{name}" not in IGNORED]
        for name in [*directories, *files]:
            path = f"{inside}/{name}"
            if path not in IGNORED:
                found[path] = _describe(Path(directory, name), path)
    return found


def _describe(file: Path, path: str) -> str:
    status = file.lstat()
    words = [stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
    if stat.S_ISLNK(status.st_mode):
        words.append(os.readlink(file))
    elif stat.S_ISREG(status.st_mode) and path.startswith("/etc/"):
        words.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return " ".join(words)


def differences(before: Dict[str, str], after: Dict[str, str]) -> List[str]:
    """One sentence for each path that came, went or changed."""
    return [
        f"{path}: was {before.get(path, 'not there')}, is {after.get(path, 'not there')}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]
