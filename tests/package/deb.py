"""Building the package and looking at it from the outside, by dpkg-deb only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional

from tests.lab import process

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD_LIMIT_S = 180.0


def build(
    work: Path, output: Path, *, lintian: bool = False, env: Optional[Mapping[str, str]] = None
) -> Path:
    """Run agent/build-deb with directories of its own; return the package."""
    argv = [str(CHECKOUT / "agent/build-deb"), "--work", str(work), "--output", str(output)]
    if not lintian:
        argv.append("--no-lintian")
    process.run(argv, timeout_s=BUILD_LIMIT_S, env=env)
    (package,) = output.glob("ropeway_*_all.deb")
    return package


def field(package: Path, name: str) -> str:
    """A field of the package's control file; empty if it has none."""
    return process.run(["dpkg-deb", "--field", str(package), name]).stdout.strip()


def contents(package: Path) -> Dict[str, str]:
    """Every path of the package, without the leading dot, with its mode, owner and link target."""
    paths = {}
    for line in process.run(["dpkg-deb", "--contents", str(package)]).stdout.splitlines():
        mode, owner, _size, _day, _time, path = line.split(None, 5)
        path, _, target = path.partition(" -> ")
        paths[path[1:].rstrip("/")] = f"{mode} {owner} {target}".rstrip()
    return paths


def with_version(package: Path, version: str, directory: Path) -> Path:
    """The same package under another version, as `directory`/ropeway_VERSION_all.deb."""
    unpacked = directory / f"unpacked-{version}"
    process.run(["dpkg-deb", "--raw-extract", str(package), str(unpacked)])
    control = unpacked / "DEBIAN/control"
    changed = re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text())
    control.write_text(changed)
    result = directory / f"ropeway_{version}_all.deb"
    process.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(unpacked), str(result)])
    return result


def alternatives(depends: str) -> List[str]:
    """The parts of a Depends field: "a, b (>= 1)" gives ["a", "b (>= 1)"]."""
    return [part.strip() for part in depends.split(",") if part.strip()]
