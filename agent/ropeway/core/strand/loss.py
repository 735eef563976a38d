"""How much of what a connection sends arrives, from what the other end says that it received."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

from ropeway.core.tuning import LOSS_FRAMES_MIN, LOSS_S, MAX_MARKS


class Loss:
    """The share of the data frames sent lately that did not arrive.

    The other end says how many it has received, and which control frame it had heard how long
    before. What had been sent by then is known for the moment of that control frame, and now; in
    between it is taken to have grown evenly.
    """

    __slots__ = ("_marks", "_received", "_sent", "_since", "share")

    def __init__(self) -> None:
        #: From 0, nothing lost, to 1; None while it is not known.
        self.share: Optional[float] = None
        # When control frames were sent, and after how many data frames, the oldest first.
        self._marks: Dict[int, Tuple[float, int]] = {}
        self._since = float("-inf")
        self._sent = 0.0
        self._received = 0

    def mark(self, mark: int, sent: int, now: float) -> None:
        """Note that ``sent`` data frames went before the control frame with ``mark``."""
        self._marks[mark] = (now, sent)
        if len(self._marks) > MAX_MARKS:
            del self._marks[next(iter(self._marks))]

    def note(self, echo: int, held_s: float, sent: int, received: int, now: float) -> None:
        """Take that ``received`` frames had arrived ``held_s`` after the control frame ``echo``.

        ``sent`` have been sent by now.
        """
        marked = self._marks.get(echo)
        if marked is not None:
            self._count(_sent_at(marked, held_s, sent, now), received, now)

    def _count(self, sent: float, received: int, now: float) -> None:
        # The other end may have begun to count anew.
        if self._since == float("-inf") or received < self._received or sent < self._sent:
            self._since, self._sent, self._received = now, sent, received
            return
        count = sent - self._sent
        if now < self._since + LOSS_S or count < LOSS_FRAMES_MIN:
            return
        self.share = min(1.0, max(0.0, 1.0 - (received - self._received) / count))
        self._since, self._sent, self._received = now, sent, received


def _sent_at(marked: Tuple[float, int], held_s: float, sent: int, now: float) -> float:
    """Return how many frames were sent ``held_s`` after a mark; ``sent`` were by ``now``."""
    marked_at, before = marked
    passed_s = now - marked_at
    share = min(1.0, held_s / passed_s) if passed_s > 0 else 0.0
    return before + (sent - before) * share
