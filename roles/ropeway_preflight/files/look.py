"""Says in one go what a role has to know of a host, so that it can leave alone what is right.

Run by the roles on the host, through `python3 -`, with one argument, a JSON object:

    paths      paths and shell patterns: is it there, whose is it, and what may others do with it
    contents   the same for regular files, and the SHA-256 of what they hold
    commands   a name for each, and its arguments

It changes nothing. It prints a JSON object with "paths", which has each path that exists and what
`attributes` says of it, and "commands", which has what `answer` says of each.
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

# Of a file that is read, as much is held at a time.
CHUNK_BYTES = 1 << 20
# A command that takes longer is one that hangs.
COMMAND_LIMIT_S = 30
# As a shell says that there is no such command, or that it was ended for its time.
NOT_FOUND, TIMED_OUT = 127, 124


def attributes(path: str, read: bool) -> Dict[str, str]:
    """The mode (four octal digits), owner and group of what is at `path`.

    With `read` also the SHA-256 of a regular file, in hexadecimal. A number takes the place of a
    name that the host does not know.
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


def answer(argv: List[str]) -> Dict[str, Any]:
    """What a command says: "rc", its exit status, "stdout" and "stderr" without a last line end."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
    except OSError as error:
        return {"rc": NOT_FOUND, "stdout": "", "stderr": str(error)}
    except subprocess.TimeoutExpired:
        words = f"no answer within {COMMAND_LIMIT_S} s"
        return {"rc": TIMED_OUT, "stdout": "", "stderr": words}
    return {"rc": done.returncode, "stdout": _text(done.stdout), "stderr": _text(done.stderr)}


def look(question: Dict[str, Any]) -> Dict[str, Any]:
    """The answer to a question in the form that the head of this file gives."""
    paths: Dict[str, Dict[str, str]] = {}
    for kind in ("paths", "contents"):
        for pattern in question.get(kind, []):
            for path in sorted(glob.glob(pattern)) or [pattern]:
                if os.path.lexists(path):
                    paths[path] = attributes(path, kind == "contents")
    commands = {name: answer(argv) for name, argv in question.get("commands", {}).items()}
    return {"paths": paths, "commands": commands}


def _text(said: bytes) -> str:
    return said.decode(errors="replace").rstrip("\r\n")


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
    print(json.dumps(look(json.loads(sys.argv[1]))))
