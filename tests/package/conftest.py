"""One package for all tests, and the roots and machines of each suite to try it on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from tests.lab.lab import Lab
from tests.lab.roots import Overlay, ensure_root, temporary_overlay

from . import deb
from .node import Node

SUITES = ("bullseye", "bookworm", "trixie")
TOPOLOGY = Path(__file__).with_name("topology.json")


@pytest.fixture(scope="session", autouse=True)
def _root_only() -> None:
    if os.geteuid() != 0:
        pytest.fail("The package tests install into Debian roots: run them as root.")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    return deb.build(directory / "work", directory / "dist")


@pytest.fixture(scope="session")
def older(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a lower version."""
    return deb.with_version(package, "0.0.9", tmp_path_factory.mktemp("older"))


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


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One machine of each suite, all on the same two LANs."""
    lab = Lab("rwpkg-", TOPOLOGY)
    lab.up()
    try:
        for name in lab.machines:
            Node(lab, name).connect()
        yield lab
    finally:
        lab.down()


@pytest.fixture(params=["d11", "d12", "d13"], ids=SUITES)
def node(request: pytest.FixtureRequest, lab: Lab, package: Path) -> Node:
    """A machine on which the agent runs, as every other machine's does."""
    for name in lab.machines:
        Node(lab, name).bring_up(package)
    return Node(lab, request.param)
