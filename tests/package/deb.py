"""Building the package and looking at it from the outside, by dpkg-deb only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional

from tests.lab import process

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD_LIMIT_S = 180.0
VENDORED = "usr/lib/ropeway/vendored"


def build(work: Path, output: Path, *, env: Optional[Mapping[str, str]] = None) -> Path:
    """Run agent/build-deb with directories of its own; return the package."""
    build_deb = str(CHECKOUT / "agent/build-deb")
    process.run(
        [build_deb, "--no-lintian", "--work", str(work), "--output", str(output)],
        timeout_s=BUILD_LIMIT_S,
        env=env,
    )
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


def extract(package: Path, directory: Path) -> None:
    """Unpack what the package would install below `directory`."""
    process.run(["dpkg-deb", "--extract", str(package), str(directory)])


def times(package: Path) -> List[str]:
    """When each path of the package was changed, as in "2026-11-23 06:40", UTC."""
    listed = process.run(["dpkg-deb", "--contents", str(package)], env={**os.environ, "TZ": "UTC"})
    return [" ".join(line.split(None, 5)[3:5]) for line in listed.stdout.splitlines()]


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
