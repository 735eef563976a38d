"""Fixtures: stages that end with their test, and what the machine must have."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any, Iterator

import pytest
from _pytest.runner import runtestprotocol

from tests.system.bed import capacity, pace, rotation
from tests.system.bed.again import Attempt, Turn, until_judged
from tests.system.bed.stage import Pair, Stage, Triple
from tests.system.bed.strain import Strain
from tests.system.bed.topology import sweep

TRIED_AGAIN = "tried again"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run take the tests whose turn it is today."""
    parser.addoption(
        "--in-turn",
        action="store_true",
        help="of the tests marked `rotates`, run today's part; each has its turn every"
        f" {rotation.PARTS} days",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the tests that measure and need the machine for themselves; the others may share it."""
    config.addinivalue_line("markers", "alone: load or time is measured; run nothing beside it")
    config.addinivalue_line("markers", "rotates: slow and seldom fails; takes turns with others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests whose turn is another day."""
    if not config.getoption("in_turn", default=False):
        return
    part = rotation.part_of_day(date.today())
    others = [
        item
        for item in items
        if item.get_closest_marker("rotates")
        and rotation.part_of_test(f"{item.path.name}::{item.name}") != part
    ]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Find out what the machine carries, once for all workers."""
    if not session.config.option.collectonly and not os.geteuid():
        capacity.find_out()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the tests make of the machine, and of the day."""
    lines = [f"streams at {pace.share():.0%} of their full rate"]
    if config.getoption("in_turn", default=False):
        today = date.today()
        part = rotation.part_of_day(today) + 1
        lines.append(f"tests that take turns: part {part} of {rotation.PARTS}, for {today}")
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test until it can be judged."""
    ran = False

    def run(turn: Turn) -> Attempt:
        nonlocal ran
        if ran:
            item._initrequest()  # type: ignore[attr-defined]  # its fixtures are made anew
        ran = True
        with turn(), Strain() as strain:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        return Attempt(reports, any(report.failed for report in reports), strain)

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    attempt, passed_over = until_judged(run, shared=item.get_closest_marker("alone") is None)
    for report in attempt.reports:
        report.user_properties += [(TRIED_AGAIN, excuse) for excuse in passed_over]
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the tests that were tried again, and why."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, excuse in report.user_properties:
                if name == TRIED_AGAIN:
                    terminalreporter.write_line(f"{name}: {report.nodeid}: {excuse}")


@pytest.fixture(scope="session", autouse=True)
def _prerequisites() -> Iterator[None]:
    """Say in a sentence what the machine lacks, and start and end without leftovers."""
    if os.geteuid():
        pytest.fail("the system tests make network namespaces: run them as root", pytrace=False)
    for program in ("ip", "nft", "bridge", "dnsmasq"):
        if not shutil.which(program):
            pytest.fail(
                f"the system tests need {program}: install iproute2, nftables and dnsmasq-base",
                pytrace=False,
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
