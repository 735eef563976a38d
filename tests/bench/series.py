"""Samples of one quantity, one a round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Callable


@dataclass
class Series:
    """The same quantity measured again and again, in the order of the rounds."""

    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __str__(self) -> str:
        return number(self.middle)

    @property
    def spread(self) -> str:
        return f"{number(self.low)} to {number(self.high)}"

    def paired(self, other: Series, unit: str, how: Callable[[float, float], float]) -> Series:
        """Combine with another series round by round: what was measured side by side."""
        both = [how(mine, its) for mine, its in zip(self.values, other.values)]
        return Series(unit, both)

    def over(self, other: Series) -> Series:
        """Return the ratio to another series in each round; rounds with nothing to divide by go."""
        pairs = [(mine, its) for mine, its in zip(self.values, other.values) if its]
        return Series("", [mine / its for mine, its in pairs])

    def beyond(self, other: Series) -> Series:
        """Return the difference to another series in each round."""
        return self.paired(other, self.unit, lambda mine, its: mine - its)

    def report(self) -> dict[str, Any]:
        """Return what goes into the JSON result."""
        summary: dict[str, Any] = {"unit": self.unit}
        if self.values:
            summary.update(median=self.middle, min=self.low, max=self.high)
        return {**summary, "values": self.values}


def number(value: float) -> str:
    """Write a number with about three digits that matter, and no fewer before the point."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}"
