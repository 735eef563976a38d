"""Fixtures: stages that end with their test, and what the machine must have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterator

import pytest

from tests.system.stage import Pair, Stage, Triple
from tests.system.topology import sweep


def pytest_configure(config: pytest.Config) -> None:
    """Name the tests that measure and need the machine for themselves; the others may share it."""
    config.addinivalue_line("markers", "alone: load or time is measured; run nothing beside it")


@pytest.fixture(scope="session", autouse=True)
def _prerequisites() -> Iterator[None]:
    """Say in a sentence what the machine lacks, and start and end without leftovers."""
    if os.geteuid():
        pytest.fail("the system tests make network namespaces: run them as root", pytrace=False)
    for program in ("ip", "nft", "bridge"):
        if not shutil.which(program):
            pytest.fail(
                f"the system tests need {program}: install iproute2 and nftables", pytrace=False
            )
    if not Path("/dev/net/tun").exists():
        pytest.fail("the system tests need /dev/net/tun: load the tun module", pytrace=False)
    sweep()
    yield
    sweep()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    try:
        yield made
    finally:
        made.show_logs()
        made.close()


@pytest.fixture
def pair(stage: Stage) -> Pair:
    return Pair(stage)


@pytest.fixture
def classic_pair(stage: Stage) -> Pair:
    return Pair(stage, encapsulation="classic")


@pytest.fixture(params=["secure", "classic"])
def each_pair(request: pytest.FixtureRequest, stage: Stage) -> Pair:
    """Give the two hosts once for each encapsulation."""
    return Pair(stage, encapsulation=request.param)


@pytest.fixture
def triple(stage: Stage) -> Triple:
    return Triple(stage)


@pytest.fixture(params=["secure", "classic"])
def each_triple(request: pytest.FixtureRequest, stage: Stage) -> Triple:
    """Give the three hosts once for each encapsulation."""
    return Triple(stage, encapsulation=request.param)
