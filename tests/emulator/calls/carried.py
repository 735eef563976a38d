"""Where a link of a ride carries a flow, and which stretch of the ride has the most to tell.

A link carries at a moment if a flow of that rate, alone on the link from the start of the ride on,
would then come over it no more than QUEUE_MS later than over the empty link. That follows from the
trace alone: it is the same for all modes, whatever the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from tests.emulator.spec import LinkSpec, SpecWrong, parse

STEP_S = 0.02
QUEUE_MS = 100.0

#: From and to, in seconds from the start of the ride or the stretch.
Span = Tuple[float, float]


@dataclass(frozen=True)
class Stretch:
    """Part of a ride over several links; times of ``carried`` count from its start."""

    ride: str
    traces: Tuple[str, ...]
    from_s: float
    seconds: float

    @property
    def links(self) -> Tuple[str, ...]:
        """The links, as :mod:`tests.emulator.spec` reads them."""
        return tuple(f"trace={trace},from_s={self.from_s:g}" for trace in self.traces)

    def failed(self, rate_kbit: float) -> List[List[Span]]:
        """Return for each link when it does not carry a flow of this rate."""
        return [_spans(_carries(link, rate_kbit, self.seconds)) for link in self.links]

    def nowhere(self, rate_kbit: float) -> List[Span]:
        """Return when no link carries a flow of this rate."""
        links = [_carries(link, rate_kbit, self.seconds) for link in self.links]
        return _spans([any(step) for step in zip(*links)])


def worst(ride: str, traces: Sequence[str], seconds: float, rate_kbit: float) -> Stretch:
    """Return the stretch in which the link that fails less fails longest, and then the others.

    Raises SpecWrong for a ride that is too short.
    """
    whole = [f"trace={trace}" for trace in traces]
    length_s = min(_one_way(link).options["trace"].length_s for link in whole)
    carries = [_carries(link, rate_kbit, length_s) for link in whole]
    if seconds > length_s:
        raise SpecWrong(f"the ride {ride} has {length_s:.0f} s, which is less than {seconds:g}")

    def failures(from_s: int) -> List[int]:
        first, last = round(from_s / STEP_S), round((from_s + seconds) / STEP_S)
        return sorted(steps[first:last].count(False) for steps in carries)

    starts = range(int(length_s - seconds) + 1)
    return Stretch(ride, tuple(traces), max(starts, key=failures), seconds)


def _one_way(link: str) -> LinkSpec:
    return parse(link)[0]


def _carries(link: str, rate_kbit: float, seconds: float) -> List[bool]:
    """Return for each step whether the link carries."""
    model = _one_way(link).model(seed=0)
    size = int(rate_kbit * 1000 * STEP_S / 8)
    carries = []
    for step in range(round(seconds / STEP_S)):
        now = step * STEP_S
        arrival = model.send(now, size)
        carries.append(
            arrival is not None and (arrival - now) * 1000 <= model.quiet_delay_ms(0) + QUEUE_MS
        )
    return carries


def _spans(carries: Sequence[bool]) -> List[Span]:
    spans: List[Span] = []
    for step, carried in enumerate(carries):
        if carried:
            continue
        start_s, end_s = step * STEP_S, (step + 1) * STEP_S
        if spans and spans[-1][1] > start_s - STEP_S / 2:
            start_s = spans.pop()[0]
        spans.append((round(start_s, 3), round(end_s, 3)))
    return spans
