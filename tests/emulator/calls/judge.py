"""What became of a call or a stream: freezes, what came late, what it cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from tests.emulator.calls.carried import Span

#: The longest time between two pictures, or packets of a stream, that is no freeze.
FREEZE_S = 0.2
#: What is played later than this after it was captured is late.
LATE_S = 0.2
#: What was captured so short before the end may still be under way.
UNDER_WAY_S = 1.0
#: What was sent while no link carried is missed for so long after a link carries again: a queue
#: that was full, and the time in which a request to repeat and its answer pass.
AFTER_S = 0.3


@dataclass(frozen=True)
class Course:
    """One call or stream; all times in seconds from the moment at which the links began.

    ``way`` is a mode, or the name of the link that carried it without ropeway.
    """

    kind: str
    way: str
    #: Without ropeway, over one link.
    alone: bool
    seconds: float
    #: By number: when each picture or packet was captured.
    captured: Dict[int, float]
    #: Number and time of what was played, in the order of time.
    played: Sequence[Tuple[int, float]]
    #: What went over all links, and what the call gave to be sent; IP packets.
    sent_bytes: int
    given_bytes: int
    #: From when on which links were used, numbered from 0; empty without ropeway.
    used: Sequence[Tuple[float, Sequence[int]]] = ()
    #: The latest that the emulated links themselves delivered a packet.
    wire_late_ms: float = 0.0
    #: When programs waited for a processor, and for how long; see :mod:`.stalls`.
    stalls: Sequence[Tuple[float, float]] = ()

    @property
    def freezes(self) -> List[Span]:
        """Where for longer than FREEZE_S nothing new was played; the last may reach the end."""
        times = [at for _, at in self.new() if at < self.seconds]
        edges = [*times, self.seconds]
        pairs = zip(edges, edges[1:])
        return [(a, b) for a, b in pairs if b > 0 and b - a > FREEZE_S] or (
            [(0.0, self.seconds)] if not times else []
        )

    @property
    def longest_s(self) -> float:
        """The longest time for which nothing new was played, a freeze or not."""
        edges = [at for _, at in self.new() if at < self.seconds]
        edges = [max(at, 0.0) for at in edges] or [0.0]
        return max(b - a for a, b in zip(edges, [*edges[1:], self.seconds]))

    def avoidable(self, nowhere: Sequence[Span]) -> List[Span]:
        """Return the freezes that neither the links nor the machine explain.

        Some link carried all the time and for AFTER_S before, and it would have been a freeze also
        without the time for which programs waited for a processor.
        """
        return [
            (start, end)
            for start, end in self.freezes
            if all(to_s + AFTER_S <= start or from_s >= end for from_s, to_s in nowhere)
            and end - start - self.stalled_s(start, end) > FREEZE_S
        ]

    def stalled_s(self, start_s: float, end_s: float) -> float:
        """Return for how long programs waited for a processor then and LATE_S before."""
        # A wait is seen once it is over.
        waits = ((at - waited, at) for at, waited in self.stalls)
        return sum(
            min(to_s, end_s) - from_s
            for from_s, to_s in waits
            if from_s < end_s and to_s >= start_s - LATE_S
        )

    @property
    def late_share(self) -> float:
        """The share of all that was captured which was played late or never."""
        first: Dict[int, float] = {}
        for number, at in self.played:
            first.setdefault(number, at)
        due = {n: at for n, at in self.captured.items() if 0 <= at < self.seconds - UNDER_WAY_S}
        never = self.seconds + LATE_S
        late = sum(first.get(number, never) - at > LATE_S for number, at in due.items())
        return late / len(due) if due else 1.0

    @property
    def cost(self) -> float:
        """Bytes that went over the links, as a multiple of those that were given to be sent."""
        return self.sent_bytes / self.given_bytes if self.given_bytes else 0.0

    def new(self) -> List[Tuple[int, float]]:
        """Return what was played and is newer than all before it.

        A broken picture may have any number: one that was not captured yet tells nothing.
        """
        newest, found = -1, []
        for number, at in self.played:
            if number > newest and self.captured.get(number, at) < at:
                newest = number
                found.append((number, at))
        return found

    def ages_ms(self, step_s: float) -> List[float]:
        """Return how old what one sees is at most, in each step."""
        steps = [0.0] * max(int(self.seconds / step_s), 1)
        new = self.new()
        for index, (number, at) in enumerate(new):
            end = new[index + 1][1] if index + 1 < len(new) else self.seconds
            captured = self.captured[number]
            for step in range(max(int(at / step_s), 0), min(int(end / step_s) + 1, len(steps))):
                until = min(end, (step + 1) * step_s)
                if until > at:
                    steps[step] = max(steps[step], (until - captured) * 1000)
        return steps

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="ascii")

    @classmethod
    def load(cls, path: Path) -> Course:
        """Return the course that :meth:`save` wrote."""
        found = json.loads(path.read_text(encoding="ascii"))
        found["captured"] = {int(number): at for number, at in found["captured"].items()}
        return cls(**found)


HEADINGS = ("", "freezes", "avoidable", "longest ms", "late", "cost", "waited ms")


def row(course: Course, nowhere: Sequence[Span]) -> Sequence[str]:
    """Return a line for a table, under HEADINGS."""
    return (
        course.way,
        f"{len(course.freezes)}",
        f"{len(course.avoidable(nowhere))}",
        f"{course.longest_s * 1000:.0f}",
        f"{course.late_share:.2%}",
        f"{course.cost:.2f}",
        f"{max((waited for _, waited in course.stalls), default=0.0) * 1000:.0f}",
    )
