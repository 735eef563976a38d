"""The package on the controller."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Dict, List, Tuple

# The file name that dpkg-deb and debhelper give: NAME_VERSION_ARCHITECTURE.deb.
PACKAGE_NAME = re.compile(r"(?:^|/)ropeway_(?P<version>[^_/]+)_all\.deb$")


def newest_package(paths: Sequence[str]) -> str:
    """The path with the highest version among ropeway_VERSION_all.deb; "" if there is none."""
    packages = [path for path in paths if PACKAGE_NAME.search(path)]
    return max(packages, key=lambda path: _version_key(package_version(path)), default="")


def package_version(path: str) -> str:
    """VERSION out of .../ropeway_VERSION_all.deb; "" if the name is another one."""
    match = PACKAGE_NAME.search(path)
    return match["version"] if match else ""


def package_sha256(path: str) -> str:
    """The SHA-256 of a file on the controller, in hexadecimal; "" if there is none."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _version_key(version: str) -> List[Tuple[int, Tuple[int, ...]]]:
    """Sorts as Debian Policy 5.6.12 does, without epochs, which file names leave out."""
    key = []
    for number, text in re.findall(r"(\d*)([^\d]*)", version):
        # "~" before the end of the part, the end before letters, letters before other characters.
        order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text]
        key.append((int(number or 0), (*order, 0)))
    return key


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_newest_package": newest_package,
            "ropeway_package_sha256": package_sha256,
            "ropeway_package_version": package_version,
        }
