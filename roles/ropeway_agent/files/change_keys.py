"""Changes the key of one peer in the configurations of a host, and reloads the agents.

The role ropeway_agent runs it on the host, as `python3 -`. OLD and NEXT are public keys (base64) of
the host whose key changes:

    announce OLD NEXT   accept NEXT beside OLD; print "connected" if there is a session with it
    switch OLD NEXT     on that host itself: rename private.key.next to private.key
    verify OLD NEXT     wait until every session with it uses NEXT
    settle OLD NEXT     accept only NEXT

Each step may run again. It prints the files that it changed. If an agent needs a restart for a
change, the file is restored and the exit status is 1.
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

# The form in which templates/ropeway.yaml.j2 writes the keys of a peer, and the control socket.
PUBLIC = '    public_key: "{}"\n'
NEXT = '    next_public_key: "{}"\n'
CONTROL = re.compile(r'^control:\n  path: "([^"\n]+)"$', re.MULTILINE)
PEER = re.compile(r"^  - host: (\S+)\n((?:    .*\n)*)", re.MULTILINE)
MARK = "# Managed by Ansible (role ropeway_agent)"

# The base64 of 32 bytes. Any other text could add lines to a configuration.
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")

POLL_S = 0.5
# `best_state` of a peer with a connection that works both ways.
ESTABLISHED = 2
# Exit status of `ropeway reload`: the change needs a restart, and nothing was applied.
NEEDS_RESTART = 3


class Refused(Exception):
    """The change failed; the text says why and what to do."""


def public_key(text: str) -> str:
    """Return `text` if it is a public key; otherwise raise ArgumentTypeError."""
    if PUBLIC_KEY.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a public key, so nothing was changed")
    return text


def announced(text: str, old: str, new: str) -> str:
    """Return the configuration `text` with `new` accepted beside `old`."""
    both = PUBLIC.format(old) + NEXT.format(new)
    present = re.escape(PUBLIC.format(old)) + r'(?:    next_public_key: "[^"]*"\n)?'
    return re.sub(present, both, text)


def settled(text: str, old: str, new: str) -> str:
    """Return the configuration `text` with only `new` accepted."""
    for form in (PUBLIC.format(old) + NEXT.format(new), PUBLIC.format(old)):
        text = text.replace(form, PUBLIC.format(new))
    return text


class Host:
    """The configurations in `folder`, and the command of the agent."""

    def __init__(self, folder: Path, command: str) -> None:
        self.folder = folder
        self.command = command

    def configurations(self) -> List[Path]:
        """Return the files that the role has written."""
        return [
            path
            for path in sorted(self.folder.glob("*.yaml"))
            if path.read_text(encoding="utf-8").startswith(MARK)
        ]

    def edit(self, change: Any, old: str, new: str) -> bool:
        """Apply `change` to each file, and reload the agents that have the peer.

        Return whether a file changed. Refused if an agent does not accept the change.
        """
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
        """Replace private.key by private.key.next, and reload the agents that use it."""
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
        """Reload the agent of the configuration `path`, if it is running."""
        unit = "ropeway" if path.stem == "ropeway" else f"ropeway@{path.stem}"
        if subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode:
            return
        done = self._run("reload", "--control", self._control(path))
        if done.returncode == NEEDS_RESTART:
            raise Refused(
                f"{path} has other changes, for which its agent must restart "
                f"({done.stderr.strip()}): run site.yml first."
            )
        if done.returncode != 0:
            raise Refused(f"The agent does not accept {path}: {done.stderr.strip()}")

    def sessions(self, old: str, new: str) -> Iterator[Dict[str, Any]]:
        """Yield the status of the peer that has one of the keys, from each agent."""
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
        """Return whether there is a session with the peer."""
        return any(peer["best_state"] == ESTABLISHED for peer in self.sessions(old, new))

    def verify(self, old: str, new: str, limit_s: float) -> None:
        """Wait for a session with the peer, until all use `new`; Refused after `limit_s`."""
        end = time.monotonic() + limit_s
        while True:
            sessions = [p for p in self.sessions(old, new) if p["best_state"] == ESTABLISHED]
            if sessions and all((p.get("session") or {}).get("peer_key") == new for p in sessions):
                return
            if time.monotonic() > end:
                raise Refused(f"No session uses the new key {new} after {limit_s:.0f} s.")
            time.sleep(POLL_S)

    def _control(self, path: Path) -> str:
        match = CONTROL.search(path.read_text(encoding="utf-8"))
        if match is None:
            raise Refused(f"{path} has no control socket: run site.yml first.")
        return match[1]

    def _replace(self, path: Path, text: str) -> None:
        """Replace a file by `text`, with the same owner and mode, if the agent accepts it."""
        beside = path.with_suffix(".yaml.new")
        status = path.stat()
        # The new file must at no time have more readers than the old one.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.chown(beside, status.st_uid, status.st_gid)
            os.chmod(beside, status.st_mode & 0o777)
            done = self._run("check-config", str(beside))
            if done.returncode != 0:
                raise Refused(f"The agent refuses the changed {path}: {done.stderr.strip()}")
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
    """Run one step; return 1, with a message on stderr, if it fails."""
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
