"""Changes one key in the configurations of a host and lets the agents read them.

Run by ropeway_agent on the host, through `python3 -`, with the public keys of the host whose key
is being changed (base64):

    announce OLD NEXT   accept NEXT beside OLD; prints "connected" if a session with it stands
    switch OLD NEXT     on that host itself: private.key.next becomes private.key
    verify OLD NEXT     wait until every session with it is made with NEXT
    settle OLD NEXT     accept NEXT alone

Each may be run again. What it has changed it prints; if an agent can't take a change without a
restart, the file is put back and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

# How templates/ropeway.yaml.j2 writes the two lines of a peer, and the path of the control socket.
PUBLIC = '    public_key: "{}"\n'
NEXT = '    next_public_key: "{}"\n'
CONTROL = re.compile(r'^control:\n  path: "([^"\n]+)"$', re.MULTILINE)
PEER = re.compile(r"^  - host: (\S+)\n((?:    .*\n)*)", re.MULTILINE)
MARK = "# Managed by Ansible (role ropeway_agent)"

# The base64 of 32 bytes. Anything else could bring lines of its own into a configuration.
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")

POLL_S = 0.5
ESTABLISHED = 2
# `ropeway reload`: the change needs a restart, and nothing was applied.
NEEDS_RESTART = 3


class Refused(Exception):
    """Says in a sentence why the change did not go through."""


def public_key(text: str) -> str:
    """`text`, if it is a public key; else ArgumentTypeError."""
    if PUBLIC_KEY.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no public key, so nothing was changed")
    return text


def announced(text: str, old: str, new: str) -> str:
    """`text` with `new` accepted beside `old`."""
    both = PUBLIC.format(old) + NEXT.format(new)
    present = re.escape(PUBLIC.format(old)) + r'(?:    next_public_key: "[^"]*"\n)?'
    return re.sub(present, both, text)


def settled(text: str, old: str, new: str) -> str:
    """`text` with `new` accepted alone."""
    for form in (PUBLIC.format(old) + NEXT.format(new), PUBLIC.format(old)):
        text = text.replace(form, PUBLIC.format(new))
    return text


class Host:
    """The configurations below `folder`, and the command of the agent."""

    def __init__(self, folder: Path, command: str) -> None:
        self.folder = folder
        self.command = command

    def configurations(self) -> List[Path]:
        """The files that the role has written."""
        return [
            path
            for path in sorted(self.folder.glob("*.yaml"))
            if path.read_text(encoding="utf-8").startswith(MARK)
        ]

    def edit(self, change: Any, old: str, new: str) -> bool:
        """Apply `change` to each file, and let the agents of all that know the host reload."""
        changed = False
        for path in self.configurations():
            before = path.read_text(encoding="utf-8")
            after = change(before, old, new)
            if after != before:
                self._replace(path, after)
                changed = True
                print("changed", path)
            if old in after or new in after:
                try:
                    self.reload(path)
                except Refused:
                    if after != before:
                        self._replace(path, before)
                    raise
        return changed

    def switch(self) -> None:
        """Let the prepared key become the key."""
        key = self.folder / "private.key"
        prepared = self.folder / "private.key.next"
        if prepared.exists():
            prepared.rename(key)
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
            print("changed", key)
        for path in self.configurations():
            if f'private_key_file: "{key}"' in path.read_text(encoding="utf-8"):
                self.reload(path)

    def reload(self, path: Path) -> None:
        """Let the agent of `path` read it again; nothing to do if none is running."""
        unit = "ropeway" if path.stem == "ropeway" else f"ropeway@{path.stem}"
        if subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode:
            return
        done = self._run("reload", "--control", self._control(path))
        if done.returncode == NEEDS_RESTART:
            raise Refused(
                f"{path} holds other changes, for which its agent has to restart "
                f"({done.stderr.strip()}): run site.yml first."
            )
        if done.returncode != 0:
            raise Refused(f"The agent does not take {path}: {done.stderr.strip()}")

    def sessions(self, old: str, new: str) -> Iterator[Dict[str, Any]]:
        """What the agents say of the peer that has one of the keys."""
        for path in self.configurations():
            for host, lines in PEER.findall(path.read_text(encoding="utf-8")):
                if old not in lines and new not in lines:
                    continue
                done = self._run("status", "--json", "--control", self._control(path))
                found = json.loads(done.stdout) if done.returncode == 0 else {}
                for peer in found.get("peers", []):
                    if peer["host"] == host:
                        yield peer

    def connected(self, old: str, new: str) -> bool:
        """Whether any session with the peer stands."""
        return any(peer["best_state"] == ESTABLISHED for peer in self.sessions(old, new))

    def verify(self, old: str, new: str, limit_s: float) -> None:
        """Wait until a session with the peer stands, and every one is made with `new`."""
        end = time.monotonic() + limit_s
        while True:
            standing = [p for p in self.sessions(old, new) if p["best_state"] == ESTABLISHED]
            if standing and all((p.get("session") or {}).get("peer_key") == new for p in standing):
                return
            if time.monotonic() > end:
                raise Refused(f"No session with the new key {new} stands after {limit_s:.0f} s.")
            time.sleep(POLL_S)

    def _control(self, path: Path) -> str:
        match = CONTROL.search(path.read_text(encoding="utf-8"))
        if match is None:
            raise Refused(f"{path} names no control socket: run site.yml first.")
        return match[1]

    def _replace(self, path: Path, text: str) -> None:
        """Put `text` in the place of a file, with the same owner and mode, once it is judged."""
        beside = path.with_suffix(".yaml.new")
        status = path.stat()
        # Never readable by more than the old file is.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.chown(beside, status.st_uid, status.st_gid)
            os.chmod(beside, status.st_mode & 0o777)
            done = self._run("check-config", str(beside))
            if done.returncode != 0:
                raise Refused(f"The agent refuses the change of {path}: {done.stderr.strip()}")
            beside.rename(path)
        finally:
            if beside.exists():
                beside.unlink()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.command, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )


def main() -> int:
    """Carry out one step; 1 after a sentence on stderr if it did not go through."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["announce", "switch", "verify", "settle"])
    parser.add_argument("old", type=public_key)
    parser.add_argument("new", type=public_key)
    parser.add_argument("--folder", type=Path, default=Path("/etc/ropeway"))
    parser.add_argument("--command", default="ropeway")
    parser.add_argument("--limit-s", type=float, default=150.0)
    options = parser.parse_args()
    host = Host(options.folder, options.command)
    try:
        if options.step == "announce":
            if host.connected(options.old, options.new):
                print("connected")
            host.edit(announced, options.old, options.new)
        elif options.step == "switch":
            host.switch()
        elif options.step == "verify":
            host.verify(options.old, options.new, options.limit_s)
        else:
            host.edit(settled, options.old, options.new)
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
