"""One package for all tests, and one root of each suite to try it on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from tests.lab.roots import Overlay, ensure_root, temporary_overlay

from . import deb

SUITES = ("bullseye", "bookworm", "trixie")


@pytest.fixture(scope="session", autouse=True)
def _root_only() -> None:
    if os.geteuid() != 0:
        pytest.fail("The package tests install into Debian roots: run them as root.")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    return deb.build(directory / "work", directory / "dist")


@pytest.fixture(params=SUITES)
def minimal(request: pytest.FixtureRequest) -> Iterator[Overlay]:
    """A root with nothing in it that ropeway needs, and a network to get it from."""
    with temporary_overlay(ensure_root(request.param, "minimal")) as overlay:
        yield overlay


@pytest.fixture(params=SUITES)
def host(request: pytest.FixtureRequest) -> Iterator[Overlay]:
    """A root with everything that ropeway needs, for what can do without a network."""
    with temporary_overlay(ensure_root(request.param, "host")) as overlay:
        yield overlay
