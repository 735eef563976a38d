"""Debian root file systems: made once by mmdebstrap, cached, and used through overlays.

    root = ensure_root("bookworm", "host")              # /var/cache/ropeway-lab/bookworm-host-...
    with Overlay(root, Path("/var/lib/somewhere")) as overlay:
        overlay.run(["apt-get", "update"])              # with this machine's network
        (overlay.root / "etc/hostname").write_text("vm0\\n")

A cached root is never written to again: its name carries a digest of what it was made from, so a
changed package list makes a new one, and the old one is removed as soon as nothing stands on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from . import process, progress
from .errors import LabError

CACHE = Path("/var/cache/ropeway-lab")
STATE = Path("/var/lib/ropeway-lab")
TEMPORARY = "root-"
BOOTSTRAP_LIMIT_S = 900.0
UNMOUNT_LIMIT_S = 60.0

# Raised when the recipe below changes in a way that the package list does not show.
RECIPE = "1"

# What a machine needs to boot; apt brings the rest (it has the network only in a chroot).
MINIMAL = ("dbus", "systemd", "systemd-sysv")

# What a machine of the lab needs: it has no way to a mirror, so the dependencies of the ropeway
# package and of Ansible's apt module are in the root.
HOST = (
    *MINIMAL,
    "adduser",
    "iproute2",
    "iputils-ping",
    "libsodium23",
    "netplan.io",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "python3-cryptography",
    "python3-jsonschema",
    "python3-yaml",
    "tcpdump",
    "udev",
)

VARIANTS: Dict[str, Tuple[str, ...]] = {"minimal": MINIMAL, "host": HOST}

# Units that only cost time in a machine that lives for minutes; not every suite has all of them.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
)


def ensure_root(suite: str, variant: str = "host", extra: Sequence[str] = ()) -> Path:
    """Return the cached root of a Debian suite, bootstrapping it first if there is none.

    `variant` is "host" (a machine of the lab) or "minimal" (boots, and nothing more); `extra` are
    further packages. The result is read-only by convention: put an Overlay over it. Two processes
    that want the same root wait for each other. Raises LabError if the bootstrap fails.
    """
    if variant not in VARIANTS:
        raise LabError(f"There is no root variant {variant}; choose of {', '.join(VARIANTS)}.")
    packages = sorted({*VARIANTS[variant], *extra})
    family = f"{suite}-{variant}" + ("" if not extra else "-" + _digest(sorted(extra))[:6])
    root = CACHE / f"{family}-{_digest([RECIPE, suite, *packages, *MASKED])[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{family}.lock"):
        if not root.is_dir():
            with progress.step(f"Bootstrapping a Debian {suite} root ({len(packages)} packages)"):
                _bootstrap(suite, packages, root)
        _remove_outdated(family, root)
    return root


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (made if need be); says so if it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"Waiting for another process that holds {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bootstrap(suite: str, packages: Sequence[str], root: Path) -> None:
    process.require("mmdebstrap")
    unfinished = root.with_name(f"{root.name}.unfinished")
    _remove_tree(unfinished)
    argv = [
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        f"--include={','.join(packages)}",
        # Every machine gets keys and an identity of its own.
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
        '--customize-hook=rm -f "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id',
        '--customize-hook=rm -f "$1"/etc/hostname "$1"/etc/resolv.conf',
        *(f'--customize-hook=ln -sf /dev/null "$1"/etc/systemd/system/{unit}' for unit in MASKED),
        suite,
        str(unfinished),
    ]
    mirror = host_mirror()
    if mirror is not None:
        argv.append(mirror)
    try:
        process.run_visibly(argv, what=f"mmdebstrap {suite}", timeout_s=BOOTSTRAP_LIMIT_S)
        unfinished.rename(root)
    finally:
        _remove_tree(unfinished)


def host_mirror() -> Optional[str]:
    """The Debian archive that this machine itself uses; None (mmdebstrap's default) if none."""
    if shutil.which("apt-get") is None:
        return None
    lines = process.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
            "Identifier: Packages",
        ]
    ).stdout.splitlines()
    for line in lines:
        origin, label, component, address = line.split("|", 3)
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return address.rstrip("/")
    return None


def _remove_outdated(family: str, current: Path) -> None:
    in_use = {option for mount in mounts() for option in mount.lower}
    for other in CACHE.glob(f"{family}-*"):
        digest = other.name[len(family) + 1 :].split(".")[0]
        is_root = len(digest) == 12 and all(letter in "0123456789abcdef" for letter in digest)
        if is_root and other != current and other not in in_use:
            _remove_tree(other)


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5)): where, of what kind, and an overlay's lowers."""

    target: Path
    kind: str
    lower: Tuple[Path, ...]


def mounts() -> List[Mount]:
    """Everything mounted in this mount namespace, in the order in which it was mounted."""
    result = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        target = before.split(" ")[4].encode().decode("unicode_escape")
        kind, _, options = after.split(" ", 2)
        lowers = [o.partition("=")[2] for o in options.split(",") if o.startswith("lowerdir=")]
        lower = tuple(Path(path) for value in lowers for path in value.split(":"))
        result.append(Mount(Path(target), kind, lower))
    return result


def unmount_below(directory: Path) -> None:
    """Unmount whatever is mounted on or below `directory`, the innermost first."""
    for mount in reversed(mounts()):
        if mount.target == directory or directory in mount.target.parents:
            process.wait_for(
                lambda target=mount.target: _try_unmount(target),  # type: ignore[misc]
                what=f"Unmounting {mount.target} (some process still uses it)",
                timeout_s=UNMOUNT_LIMIT_S,
            )


def _try_unmount(target: Path) -> bool:
    process.run(["umount", str(target)], check=False)
    return all(mount.target != target for mount in mounts())


def _remove_tree(tree: Path) -> None:
    if not tree.exists():
        return
    unmount_below(tree)
    if any(tree == mount.target or tree in mount.target.parents for mount in mounts()):
        raise LabError(f"Something is still mounted below {tree}: unmount it, then try again.")
    # A subprocess: rmtree of /var/lib-sized trees is several times faster this way.
    process.run(["rm", "-rf", "--one-file-system", str(tree)], timeout_s=300)


class Overlay:
    """A writable view of a cached root; what is written stays in `directory`.

    `directory` holds upper, work and the mount point `root`, and is removed together with its
    contents by `remove`. As a context manager it mounts on entry and removes on exit.
    """

    def __init__(self, lower: Path, directory: Path) -> None:
        self.lower = lower
        self.directory = directory
        self.root = directory / "root"

    def mount(self) -> None:
        """Mount it, clearing what an earlier run left in `directory`."""
        self.remove()
        self.directory.mkdir(parents=True)
        if self._stands_on_overlay():
            # The kernel refuses an overlay's upper directory on another overlay.
            process.run(["mount", "-t", "tmpfs", "ropeway-lab", str(self.directory)])
        upper, work = self.directory / "upper", self.directory / "work"
        for made in (upper, work, self.root):
            made.mkdir()
        layers = f"lowerdir={self.lower},upperdir={upper},workdir={work}"
        process.run(["mount", "-t", "overlay", "-o", layers, "ropeway-lab", str(self.root)])

    def _stands_on_overlay(self) -> bool:
        resolved = self.directory.resolve()
        around = [m for m in mounts() if m.target == resolved or m.target in resolved.parents]
        # None at all in a chroot whose / is no mount point.
        innermost = max(around, key=lambda mount: len(mount.target.parts), default=None)
        return innermost is not None and innermost.kind == "overlay"

    def remove(self) -> None:
        """Unmount it and delete what was written; no error if there is nothing."""
        _remove_tree(self.directory)

    def run(
        self,
        argv: Sequence[str],
        *,
        binds: Sequence[str] = (),
        timeout_s: float = 300.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in it, with this machine's network, /proc, /sys and name resolution.

        `binds` are systemd-nspawn's --bind arguments ("FROM" or "FROM:TO"). Nothing of it is
        left running. Raises LabError if it fails and `check` holds.
        """
        process.require("systemd-nspawn")
        return process.run(
            [
                "systemd-nspawn",
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--as-pid2",
                "--pipe",
                "--resolv-conf=copy-host",
                "--timezone=off",
                f"--machine={self._machine_name()}",
                f"--directory={self.root}",
                *(f"--bind={bind}" for bind in binds),
                "--",
                *argv,
            ],
            timeout_s=timeout_s,
            check=check,
        )

    def _machine_name(self) -> str:
        # nspawn refuses two machines of one name; the directory is what tells overlays apart.
        return "ropeway-" + _digest([str(self.directory)])[:12]

    def __enter__(self) -> Overlay:
        self.mount()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.remove()


@contextmanager
def temporary_overlay(lower: Path) -> Iterator[Overlay]:
    """An Overlay in a directory of its own below STATE, removed at the end.

    What processes that are no more have left of theirs is removed first.
    """
    sweep_temporary()
    directory = _own_directory()
    try:
        with Overlay(lower, directory) as overlay:
            yield overlay
    finally:
        # Labs may have their state beside it.
        with suppress(OSError):
            STATE.rmdir()


def _own_directory() -> Path:
    while True:
        STATE.mkdir(parents=True, exist_ok=True)
        # Another process that has just removed its own removes STATE, too, if nothing is in it.
        with suppress(FileNotFoundError):
            return Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{process.own_mark()}-", dir=STATE))


def sweep_temporary() -> List[Path]:
    """Remove the temporary overlays whose makers are no more; return their directories."""
    swept = []
    for directory in sorted(STATE.glob(f"{TEMPORARY}*")):
        owner = directory.name[len(TEMPORARY) :].partition("-")[0]
        if process.lives(owner):
            continue
        for pid in process.processes():
            if f"--directory={directory / 'root'}" in process.arguments_of(pid):
                process.end(pid)
        _remove_tree(directory)
        swept.append(directory)
    return swept
