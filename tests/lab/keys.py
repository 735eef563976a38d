"""SSH: one key pair for the lab's controller, one host key per machine, one known_hosts."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import List

from . import process
from .topology import Host

SSH_PORT = 22
BANNER_TIMEOUT_S = 2.0


class Keys:
    """The controller's files below `directory`: id_ed25519, id_ed25519.pub, known_hosts.

    The roll-out records the machines' public keys for the virtual network beside them.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.private = directory / "id_ed25519"
        self.public = directory / "id_ed25519.pub"
        self.known_hosts = directory / "known_hosts"
        # As inventories/lab names it.
        self.recorded = directory / "ropeway_keys.yml"

    def create(self) -> None:
        """Make the key pair if there is none, and an empty known_hosts."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.private.exists() and self.public.exists()):
            self.private.unlink(missing_ok=True)
            self.public.unlink(missing_ok=True)
            _generate(self.private, "ropeway-lab")
        self.known_hosts.write_text("")
        # New machines make new keys.
        self.recorded.unlink(missing_ok=True)
        give_to_invoker(self.directory, self.private, self.public, self.known_hosts)

    def admit(self, host: Host, root: Path) -> None:
        """Give the machine at `root` a host key, and let the controller's key in as its root."""
        private = root / "etc/ssh/ssh_host_ed25519_key"
        _generate(private, host.name)
        kind, key = private.with_suffix(".pub").read_text().split()[:2]
        with self.known_hosts.open("a") as known:
            known.write(f"{host.management},{host.name} {kind} {key}\n")
        authorized = root / "root/.ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700, exist_ok=True)
        authorized.write_text(self.public.read_text())
        authorized.chmod(0o600)

    def ssh(self, host: Host, *command: str) -> List[str]:
        """The command line that runs `command` on a machine as root over the management network."""
        return [
            "ssh",
            "-F/dev/null",
            f"-oUserKnownHostsFile={self.known_hosts}",
            "-oStrictHostKeyChecking=yes",
            "-oBatchMode=yes",
            f"-i{self.private}",
            f"root@{host.management}",
            *command,
        ]

    def remove(self) -> None:
        """Delete the key pair, known_hosts and the record; no error if there are none."""
        for file in (self.private, self.public, self.known_hosts, self.recorded):
            file.unlink(missing_ok=True)
        # Results stay, and with them the folder.
        with contextlib.suppress(OSError):
            self.directory.rmdir()


def _generate(private: Path, comment: str) -> None:
    process.require("ssh-keygen")
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(private)])


def give_to_invoker(*paths: Path) -> None:
    """Under sudo, make the one who called it the owner of `paths`, as if he had made them."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if uid is not None and gid is not None:
        for path in paths:
            os.chown(path, int(uid), int(gid))


def ssh_answers(host: Host) -> bool:
    """Whether an SSH server greets on the machine's management address."""
    try:
        with socket.create_connection((host.management, SSH_PORT), BANNER_TIMEOUT_S) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
