"""The command ``calls``: runs what is asked for, and tells of all that its folder has."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Iterable, Sequence

from tests.emulator.calls import MODES, RATES_KBIT, plot, run
from tests.emulator.calls.carried import Stretch, worst
from tests.emulator.calls.judge import HEADINGS, Course, row
from tests.emulator.compare import table
from tests.emulator.report import RIDES
from tests.system.bed.topology import sweep

STRETCH = "stretch.json"


def calls(
    ride: str,
    seconds: float,
    from_s: float | None,
    kinds: Sequence[str],
    modes: Sequence[str],
    folder: Path,
) -> None:
    """Run every kind in every mode; print tables, draw pictures. Raises Missing."""
    for kind in kinds:
        run.need(kind)
    traces = RIDES[ride]
    if from_s is None:
        stretch = worst(ride, traces, seconds, min(RATES_KBIT.values()))
    else:
        stretch = Stretch(ride, traces, from_s, seconds)
    folder.mkdir(parents=True, exist_ok=True)
    _keep_apart(folder, stretch)
    sweep()
    for kind in kinds:
        for mode in modes:
            print(f"{kind} {mode}, {stretch.seconds:g} s", flush=True)
            for course in run.run(kind, mode, stretch.links, stretch.seconds):
                course.save(folder / f"{kind}-{course.way}.json")
    tell(folder, stretch)


def _keep_apart(folder: Path, stretch: Stretch) -> None:
    """Remove the courses of another stretch: they cannot be compared."""
    facts = json.dumps(asdict(stretch))
    file = folder / STRETCH
    if not file.exists() or file.read_text(encoding="ascii") != facts:
        for kind in RATES_KBIT:
            for old in (*folder.glob(f"{kind}-*.json"), folder / f"{kind}.svg"):
                old.unlink(missing_ok=True)
        file.write_text(facts, encoding="ascii")


def tell(folder: Path, stretch: Stretch) -> None:
    """Print a table of each kind and draw it."""
    for kind, rate_kbit in RATES_KBIT.items():
        courses = [Course.load(file) for file in _files(folder, kind, stretch)]
        if not courses:
            continue
        nowhere = stretch.nowhere(rate_kbit)
        without_s = sum(end - start for start, end in nowhere)
        print(
            f"\n**{kind}**: {stretch.ride} from {stretch.from_s:g} s, {stretch.seconds:g} s, "
            f"{without_s:.1f} s of them without a link\n"
        )
        print(table([HEADINGS, *(row(course, nowhere) for course in courses)], markdown=True))
        picture = folder / f"{kind}.svg"
        picture.write_text(plot.draw(stretch, courses, nowhere), encoding="ascii")
        print(f"\ndrawn: {picture}", flush=True)


def _files(folder: Path, kind: str, stretch: Stretch) -> Iterable[Path]:
    ways = (*stretch.traces, *reversed(MODES[:-1]))
    files = [folder / f"{kind}-{way}.json" for way in ways]
    return [file for file in files if file.exists()]
