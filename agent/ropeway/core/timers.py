"""What is due when: a heap that keeps nothing of what is gone."""

from __future__ import annotations

import heapq
from typing import Dict, Generic, Hashable, Iterator, List, Tuple, TypeVar

#: So many entries more than twice what waits may be out of date, before they are thrown away.
SPARE = 64
#: The time of what is not due at all, in seconds.
NOT_DUE = float("inf")
_What = TypeVar("_What", bound=Hashable)


class Timers(Generic[_What]):
    """Things with the time of each at which it is to be looked at, in monotonic seconds."""

    __slots__ = ("_due", "_heap", "_serial")

    def __init__(self) -> None:
        self._due: Dict[_What, float] = {}
        # Entries whose time is not that in ``_due`` are out of date.
        self._heap: List[Tuple[float, int, _What]] = []
        self._serial = 0

    def __len__(self) -> int:
        """Things that wait."""
        return len(self._due)

    @property
    def entries(self) -> int:
        """Entries that are held, those out of date included."""
        return len(self._heap)

    def set(self, what: _What, due: float) -> None:
        """Have something looked at at ``due`` and at no other time; infinity is never."""
        if due == NOT_DUE:
            self.remove(what)
        elif due != self._due.get(what):
            self._due[what] = due
            self._serial += 1
            heapq.heappush(self._heap, (due, self._serial, what))
            self._tidy()

    def bring_forward(self, what: _What, due: float) -> None:
        """Have something looked at at ``due`` at the latest.

        What is looked at too early is set anew then, which costs less than to move it each time.
        """
        if due < self._due.get(what, NOT_DUE):
            self.set(what, due)

    def remove(self, what: _What) -> None:
        """Forget something; nothing if it does not wait."""
        if self._due.pop(what, None) is not None:
            self._tidy()

    def next_at(self) -> float:
        """Return a time before which nothing is due; infinity if nothing waits."""
        return self._heap[0][0] if self._heap else NOT_DUE

    def take(self, now: float) -> Iterator[_What]:
        """Yield what is due, in the order of its times; each waits no longer when it is given."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, what = heapq.heappop(heap)
            if self._due.get(what) == due:
                del self._due[what]
                yield what

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._due) + SPARE:
            # In place: whoever takes what is due may set something meanwhile.
            self._heap[:] = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
