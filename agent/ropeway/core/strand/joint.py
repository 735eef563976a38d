"""Which ends of a host's connections fail together: modems on one mast, or of one operator.

An end is a link of this host, or an interface of another one. It is in trouble when at least half
of its connections that are measured are so within :data:`TOGETHER_S`. Two ends fail together if
the troubles of both begin so close to each other. To multiply the loss of two links as if they were
independent would be wrong by as much as they do.
"""

from __future__ import annotations

import itertools
import math
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Generic,
    Iterable,
    Iterator,
    List,
    Optional,
    Set,
    TypeVar,
)

from ropeway.core.strand.strand import NEVER
from ropeway.core.timers import NOT_DUE
from ropeway.core.tuning import (
    JOINT_HALF_S,
    JOINT_PAIRS_MAX,
    JOINT_TROUBLES_MIN,
    MEASURED_S,
    NEW_TROUBLE_S,
    PROBE_S,
    TOGETHER_S,
)

#: What names an end: the index of an interface, or an endpoint while that is not known.
EndT = TypeVar("EndT")


class Pair:
    """How often two ends were in trouble, and how often both at once; each counts half in time."""

    __slots__ = ("_at", "_began", "_common", "_troubles")

    def __init__(self) -> None:
        self._at = self._began = NEVER
        self._common = self._troubles = 0.0

    def note(self, began: float, is_common: bool, now: float) -> None:
        """Count a trouble of one that began then; ``is_common`` if the other has one of that time.

        The other one's was counted already if it would have shown in both.
        """
        self._common, self._troubles = self.common(now), self.troubles(now)
        self._at = now
        self._troubles += abs(began - self._began) > TOGETHER_S or not is_common
        self._common = min(self._common + is_common, self._troubles)
        self._began = began

    def troubles(self, now: float) -> float:
        """Return how many troubles either of both had lately; a common one is one."""
        return self._troubles * self._left(now)

    def common(self, now: float) -> float:
        """Return how many of them both had."""
        return self._common * self._left(now)

    def together(self, now: float) -> Optional[float]:
        """Return the share of the troubles that both had; None while there were too few."""
        if self.troubles(now) < JOINT_TROUBLES_MIN:
            return None
        return self._common / self._troubles

    def _left(self, now: float) -> float:
        return math.pow(2.0, -min(64.0, (now - self._at) / JOINT_HALF_S))


class _Window:
    """The connections of an end that are in trouble since ``at``, in monotonic seconds."""

    __slots__ = ("at", "troubled")

    def __init__(self, at: float) -> None:
        self.at = at
        self.troubled: Set[Any] = set()


class Joint(Generic[EndT]):
    """The pairs of ends that were in trouble lately, worked out from their connections."""

    __slots__ = ("_began", "_end_of", "_lasted", "_open", "due", "pairs")

    def __init__(self, end_of: Callable[[Any], EndT]) -> None:
        """``end_of`` returns the end of a connection."""
        self._end_of = end_of
        #: By both ends.
        self.pairs: Dict[FrozenSet[EndT], Pair] = {}
        #: When :meth:`look` is due, in monotonic seconds.
        self.due = NOT_DUE
        self._open: Dict[EndT, _Window] = {}
        # When the last trouble of an end began, and when it was seen last.
        self._began: Dict[EndT, float] = {}
        self._lasted: Dict[EndT, float] = {}

    def note(self, connection: Any, now: float) -> None:
        """Note that a connection is in trouble."""
        end = self._end_of(connection)
        window = self._open.get(end)
        if window is None:
            window = self._open[end] = _Window(now)
            self.due = min(self.due, now + TOGETHER_S)
        window.troubled.add(connection)

    def look(self, connections: Iterable[Any], now: float) -> None:
        """Judge the troubles that are old enough; ``connections`` are all that there are."""
        of_end: Dict[EndT, List[Any]] = {}
        for one in connections:
            of_end.setdefault(self._end_of(one), []).append(one)
        known = of_end.keys()
        if len(self.pairs) >= JOINT_PAIRS_MAX:
            self.pairs = {both: pair for both, pair in self.pairs.items() if both <= known}
        for end in [e for e, window in self._open.items() if now >= window.at + TOGETHER_S]:
            self._judge(end, self._open.pop(end), of_end, now)
        self.due = min((w.at + TOGETHER_S for w in self._open.values()), default=NOT_DUE)
        # Ends come and go, and another host decides how many of its own it names.
        for gone in self._lasted.keys() - known:
            del self._lasted[gone], self._began[gone]

    def together(self, one: EndT, other: EndT, now: float) -> Optional[float]:
        """Return which share of their troubles two ends had at once, 0 to 1; None if not known."""
        pair = self.pairs.get(frozenset((one, other)))
        return None if pair is None else pair.together(now)

    def _judge(self, end: EndT, window: _Window, of_end: Dict[EndT, List[Any]], now: float) -> None:
        # No more are counted than it takes: another host decides when this is looked at.
        enough = 2 * len(window.troubled) + 1
        count = len(list(itertools.islice(self._measured(end, window, of_end), enough)))
        if not 0 < count < enough:
            return
        is_new = window.at >= self._lasted.get(end, NEVER) + NEW_TROUBLE_S
        self._lasted[end] = now
        if not is_new:
            return
        self._began[end] = window.at
        for other in of_end.keys() - {end}:
            if next(self._measured(other, window, of_end), None) is None:
                continue
            both = frozenset((end, other))
            if both not in self.pairs and len(self.pairs) >= JOINT_PAIRS_MAX:
                continue
            gap_s = abs(window.at - self._began.get(other, NEVER))
            self.pairs.setdefault(both, Pair()).note(window.at, gap_s <= TOGETHER_S, now)

    def _measured(self, end: EndT, window: _Window, of_end: Dict[EndT, List[Any]]) -> Iterator[Any]:
        """Yield the connections of an end that would have shown trouble."""
        is_new = self._began.get(end, NEVER) >= window.at - TOGETHER_S
        for one in of_end.get(end, ()):
            if is_new or one in window.troubled or _is_measured(one, window.at):
                yield one


def _is_measured(connection: Any, at: float) -> bool:
    """Return whether a connection would have shown trouble at a time.

    It lived, and it carried data or was asked often: short troubles pass between a few frames.
    """
    active_until: float = min(connection.strand.idle_at, connection.spare_at)
    is_busy = bool(connection.quality.estimate.rate_out.kbit) or connection.probe_s < PROBE_S
    return at < active_until and is_busy and bool(connection.heard_at >= at - MEASURED_S)
