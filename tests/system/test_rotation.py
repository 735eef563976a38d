"""Which of the tests that take turns run on which day."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date, timedelta

from tests.system.bed import rotation
from tests.system.bed.agents import ROOT

FILES = ["tests/system/test_crash.py", "tests/system/test_steward.py"]


def test_each_test_runs_once_in_any_three_days_also_over_the_end_of_a_year() -> None:
    first = date(2026, 12, 29)
    days = [rotation.part_of_day(first + timedelta(days=number)) for number in range(8)]
    for before in range(len(days) - rotation.PARTS + 1):
        assert sorted(days[before : before + rotation.PARTS]) == list(range(rotation.PARTS))


def test_a_run_takes_one_of_the_parts_and_all_that_does_not_rotate() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]

    def collected(*arguments: str) -> set[str]:
        found = subprocess.run(
            [*command, *arguments, *FILES], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        return set(re.findall(r"^tests/system/.*::.*$", found, re.MULTILINE))

    def part(test: str) -> int:
        return rotation.part_of_test(test.removeprefix("tests/system/"))

    rotating, others, found = (
        collected("-m", "rotates"), collected("-m", "not rotates"), collected("--in-turn")
    )  # fmt: skip
    assert {part(test) for test in rotating} == set(range(rotation.PARTS))
    (today,) = {part(test) for test in found & rotating}
    assert found == others | {test for test in rotating if part(test) == today}
