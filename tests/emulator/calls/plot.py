"""One picture for each kind of call: what the links could carry, and how old the picture was."""

from __future__ import annotations

import math
from html import escape
from typing import Iterable, List, Sequence, Tuple

from tests.emulator.calls.carried import Span, Stretch
from tests.emulator.calls.judge import FREEZE_S, Course
from tests.emulator.spec import parse

WIDTH, LEFT, RIGHT, TOP = 960, 150, 20, 46
PANEL, BETWEEN = 84, 34
#: The height of the bars that show which links carried.
USED = 4
#: The scale of the rates, in kbit/s; what is less is drawn at its lower end.
LEAST_KBIT, MOST_KBIT = 100.0, 1e6
#: The scale of the ages, in ms; what is older is drawn at its upper end.
OLDEST_MS = 1000.0
STEP_S = 0.1
COLOURS = ("#1f6fb4", "#d9822b", "#2f8f4e", "#8a4fb0")
STYLE = """\
text{font:12px sans-serif;fill:#222}.t{font-size:15px}.s{fill:#666;font-size:11px}
.b{fill:#f7f7f7;stroke:#ccc}.f{fill:#e5484d;fill-opacity:.3}.n{fill:#999;fill-opacity:.45}
polyline{fill:none;stroke-width:1.3}.g{stroke:#ddd}.d{stroke:#999;stroke-dasharray:3 3}"""

Points = List[Tuple[float, float]]


def draw(stretch: Stretch, courses: Sequence[Course], nowhere: Sequence[Span]) -> str:
    """Return an SVG: a panel of the links' rates, and one for each course."""
    kind = courses[0].kind
    bottom = TOP + (1 + len(courses)) * (PANEL + BETWEEN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 24}" '
        f'width="{WIDTH}" height="{bottom + 24}"><style>{STYLE}</style>',
        f'<rect width="{WIDTH}" height="{bottom + 24}" fill="#fff"/>',
        _text(LEFT, 20, f"{kind} over {stretch.ride} from {stretch.from_s:g} s", "t"),
        _text(
            LEFT, 36,
            "age of the newest that was played, in ms; on top: the links that were used; "
            f"red: a freeze of more than {FREEZE_S * 1000:.0f} ms; grey: no link could carry it",
            "s",
        ),
    ]  # fmt: skip
    panels = [
        _Panel(TOP + number * (PANEL + BETWEEN), stretch.seconds)
        for number in range(len(courses) + 1)
    ]
    parts += _rates(panels[0], stretch, nowhere)
    for panel, course in zip(panels[1:], courses):
        parts += _ages(panel, course, nowhere)
    ticks = range(0, int(stretch.seconds) + 1, max(int(stretch.seconds) // 12, 1))
    parts += [_text(panels[-1].x(tick), bottom - 8, f"{tick} s", "s", "middle") for tick in ticks]
    return "".join([*parts, "</svg>\n"])


class _Panel:
    def __init__(self, top: float, seconds: float) -> None:
        self.top = top
        self._per_s = (WIDTH - LEFT - RIGHT) / seconds

    def x(self, at_s: float) -> float:
        return round(LEFT + max(at_s, 0.0) * self._per_s, 1)

    def y(self, share: float) -> float:
        return round(self.top + PANEL * (1 - min(max(share, 0.0), 1.0)), 1)

    def ground(self) -> str:
        return (
            f'<rect class="b" x="{LEFT}" y="{self.top}" '
            f'width="{WIDTH - LEFT - RIGHT}" height="{PANEL}"/>'
        )

    def spans(self, spans: Iterable[Span], name: str) -> List[str]:
        return [
            f'<rect class="{name}" x="{self.x(start)}" y="{self.top}" '
            f'width="{max(self.x(end) - self.x(start), 1):.1f}" height="{PANEL}"/>'
            for start, end in spans
        ]

    def level(self, share: float, label: str, name: str = "g") -> str:
        y = self.y(share)
        return f'<line class="{name}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>' + _text(
            LEFT - 6, y + 4, label, "s", "end"
        )

    def line(self, points: Points, colour: str) -> str:
        where = " ".join(f"{self.x(at):g},{self.y(share):g}" for at, share in _thinned(points))
        return f'<polyline stroke="{colour}" points="{where}"/>'


def _rates(panel: _Panel, stretch: Stretch, nowhere: Sequence[Span]) -> List[str]:
    parts = [panel.ground(), *panel.spans(nowhere, "n")]
    decades = round(math.log10(MOST_KBIT / LEAST_KBIT))
    for decade in range(1, decades):
        label = f"{LEAST_KBIT * 10**decade / 1000:g}"
        parts.append(panel.level(decade / decades, label))
    for number, link in enumerate(stretch.links):
        trace = parse(link)[0].options["trace"]
        points: Points = []
        ends = [*trace.times[1:], trace.length_s]
        for start, end, rate in zip(trace.times, ends, trace.rate_kbit or [0.0] * len(ends)):
            if start < stretch.seconds:
                share = math.log10(max(rate, LEAST_KBIT) / LEAST_KBIT) / decades
                points += [(start, share), (min(end, stretch.seconds), share)]
        colour = COLOURS[number % len(COLOURS)]
        parts.append(panel.line(points, colour))
        y = panel.top + 16 + 16 * number
        parts.append(_text(4, y, f"{stretch.traces[number]}", "", "start", colour))
    return [*parts, _text(4, panel.top + PANEL - 4, "Mbit/s", "s")]


def _ages(panel: _Panel, course: Course, nowhere: Sequence[Span]) -> List[str]:
    ages = course.ages_ms(STEP_S)
    points = [((step + 0.5) * STEP_S, age / OLDEST_MS) for step, age in enumerate(ages)]
    freezes, avoidable = len(course.freezes), len(course.avoidable(nowhere))
    told = (
        f"{freezes or 'no'} freeze{'s' * (freezes != 1)}"
        + (f", {avoidable} of them avoidable" if freezes else ""),
        f"longest gap {course.longest_s * 1000:.0f} ms",
        f"{course.late_share:.1%} late",
        f"cost {course.cost:.2f}",
    )
    return [
        panel.ground(),
        *panel.spans(nowhere, "n"),
        *panel.spans(course.freezes, "f"),
        *_used(panel, course),
        panel.level(FREEZE_S * 1000 / OLDEST_MS, f"{FREEZE_S * 1000:.0f}", "d"),
        panel.level(1.0, f"{OLDEST_MS:.0f}"),
        panel.line(points, "#222"),
        _text(4, panel.top + 30, course.way),
        _text(4, panel.top + 46, "alone" if course.alone else "ropeway", "s"),
        _text(LEFT, panel.top + PANEL + 14, ", ".join(told), "s"),
    ]


def _used(panel: _Panel, course: Course) -> List[str]:
    """Draw a bar for each link while it was used."""
    parts = []
    ends = [at for at, _ in course.used[1:]] + [course.seconds]
    for (start, links), end in zip(course.used, ends):
        x, width = panel.x(start), panel.x(end) - panel.x(start)
        for link in links:
            y = panel.top - USED * (link + 1)
            colour = COLOURS[link % len(COLOURS)]
            parts.append(
                f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{USED - 1}" fill="{colour}"/>'
            )
    return parts


def _thinned(points: Points) -> Points:
    """Leave out points between two of the same height."""
    return [
        point
        for index, point in enumerate(points)
        if index in (0, len(points) - 1)
        or not points[index - 1][1] == point[1] == points[index + 1][1]
    ]


def _text(
    x: float, y: float, text: str, name: str = "", anchor: str = "start", colour: str = ""
) -> str:
    more = (f' class="{name}"' if name else "") + (f' style="fill:{colour}"' if colour else "")
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
