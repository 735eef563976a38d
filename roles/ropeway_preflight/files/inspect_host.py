"""Reads the state of a host in one task, so that a role only changes what differs from it.

The roles run it on the host, as `python3 -`, with one argument, a JSON object:

    paths      paths and shell patterns, whose mode, owner and group are read
    contents   paths of regular files, of which also the SHA-256 is read
    commands   commands by name: each is a list of the program and its arguments

It changes nothing. It prints a JSON object: "paths" has the result of `attributes` for each path
that exists, and "commands" that of `run` for each command.
"""

from __future__ import annotations

import glob
import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess
import sys
from typing import Any, Dict, List

# A file is read in pieces of this size.
CHUNK_BYTES = 1 << 20
# A command that takes longer is stopped: it hangs.
COMMAND_TIMEOUT_S = 30
# The exit statuses with which sh and timeout(1) report a missing and a stopped command.
NOT_FOUND, TIMED_OUT = 127, 124


def attributes(path: str, read: bool) -> Dict[str, str]:
    """Return the mode (four octal digits), owner and group of `path`.

    With `read`, add the SHA-256 of a regular file, in hexadecimal. Owner and group are numbers if
    the host has no names for them.
    """
    status = os.lstat(path)
    found = {
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": _owner(status.st_uid),
        "group": _group(status.st_gid),
    }
    if read and stat.S_ISREG(status.st_mode):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                digest.update(chunk)
        found["sha256"] = digest.hexdigest()
    return found


def run(argv: List[str]) -> Dict[str, Any]:
    """Run a command; return "rc", its exit status, and "stdout" and "stderr", without newline."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        return {"rc": NOT_FOUND, "stdout": "", "stderr": str(error)}
    except subprocess.TimeoutExpired:
        error = f"no answer within {COMMAND_TIMEOUT_S} s"
        return {"rc": TIMED_OUT, "stdout": "", "stderr": error}
    return {"rc": done.returncode, "stdout": _text(done.stdout), "stderr": _text(done.stderr)}


def inspect(question: Dict[str, Any]) -> Dict[str, Any]:
    """Return the answer to a question; the head of this file describes both."""
    paths: Dict[str, Dict[str, str]] = {}
    for kind in ("paths", "contents"):
        for pattern in question.get(kind, []):
            for path in sorted(glob.glob(pattern)) or [pattern]:
                if os.path.lexists(path):
                    paths[path] = attributes(path, kind == "contents")
    commands = {name: run(argv) for name, argv in question.get("commands", {}).items()}
    return {"paths": paths, "commands": commands}


def _text(output: bytes) -> str:
    return output.decode(errors="replace").rstrip("\r\n")


def _owner(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


if __name__ == "__main__":
    print(json.dumps(inspect(json.loads(sys.argv[1]))))
