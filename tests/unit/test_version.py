"""One version, and one list of releases: the agent's, the package's and the change log's."""

from __future__ import annotations

import re
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import List, Tuple

import ropeway

CHECKOUT = Path(__file__).resolve().parents[2]


def newest(path: str, pattern: str) -> str:
    """The version in the first line of a file that matches."""
    found = re.search(pattern, (CHECKOUT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{path} names no version"
    return found.group(1)


def test_the_package_has_the_version_of_the_agent() -> None:
    assert newest("agent/debian/changelog", r"^ropeway \(([^)]+)\)") == ropeway.__version__


def test_the_change_log_opens_with_the_version_of_the_agent() -> None:
    assert newest("CHANGELOG.md", r"^## \[?(\d+\.\d+\.\d+)") == ropeway.__version__


def test_the_man_page_has_the_version_of_the_agent() -> None:
    assert newest("agent/man/ropeway.8", r"^\.TH .*\"ropeway ([^\"]+)\"") == ropeway.__version__


def releases_of_the_package() -> List[Tuple[str, datetime]]:
    """Versions in debian/changelog and when they were made, the newest first."""
    text = (CHECKOUT / "agent/debian/changelog").read_text(encoding="utf-8")
    versions = re.findall(r"^ropeway \(([^)]+)\) ", text, re.MULTILINE)
    stamps = re.findall(r"^ -- .+>  (.+)$", text, re.MULTILINE)
    assert len(versions) == len(stamps)
    return [(v, parsedate_to_datetime(stamp)) for v, stamp in zip(versions, stamps)]


def test_the_package_and_the_change_log_have_the_same_releases_of_the_same_days() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (\S+) \((\d+)-(\d+)-(\d+)\)$", text, re.MULTILINE)
    assert len(heads) == text.count("\n## ")
    logged = [(version, date(int(y), int(m), int(d))) for version, y, m, d in heads]
    assert [(version, at.date()) for version, at in releases_of_the_package()] == logged


def test_each_release_of_the_package_is_later_than_the_one_before() -> None:
    # The newest one is the time stamp of every file in the package.
    stamps = [at for _, at in releases_of_the_package()]
    assert stamps == sorted(stamps, reverse=True)
    assert len(set(stamps)) == len(stamps)


def test_the_day_of_the_week_fits_the_date() -> None:
    text = (CHECKOUT / "agent/debian/changelog").read_text(encoding="utf-8")
    stamps = re.findall(r"^ -- .+>  (.+)$", text, re.MULTILINE)
    assert stamps
    for stamp in stamps:
        assert parsedate_to_datetime(stamp).strftime("%a, %d %b %Y %H:%M:%S +0000") == stamp
