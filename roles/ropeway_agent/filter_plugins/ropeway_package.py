"""The package on the controller."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Dict, List, Tuple

# The form of the file name that dpkg-deb and debhelper use: NAME_VERSION_ARCHITECTURE.deb.
PACKAGE_NAME = re.compile(r"(?:^|/)ropeway_(?P<version>[^_/]+)_all\.deb$")


def newest_package(paths: Sequence[str]) -> str:
    """Return the path of the ropeway_VERSION_all.deb with the highest version, or ""."""
    packages = [path for path in paths if PACKAGE_NAME.search(path)]
    return max(packages, key=lambda path: _version_key(package_version(path)), default="")


def package_version(path: str) -> str:
    """Return VERSION of .../ropeway_VERSION_all.deb; "" if the name has another form."""
    match = PACKAGE_NAME.search(path)
    return match["version"] if match else ""


def package_sha256(path: str) -> str:
    """Return the SHA-256 of a file on the controller, in hexadecimal; "" if it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _version_key(version: str) -> List[Tuple[int, Tuple[int, ...]]]:
    """Return a key that sorts versions as Debian Policy 5.6.12 does.

    Epochs are not covered, since file names have none.
    """
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
