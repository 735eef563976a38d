"""What the engine knows of the host's interfaces, and what it wants of them.

The steward sends whole snapshots; the engine answers each with its wish.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, List, Optional

from ropeway.app.engine.loop import Loop
from ropeway.steward.answers import Shown, Snapshot
from ropeway.steward.client import Steward
from ropeway.steward.orders import LookSoon, Wish

# Tuning
#: What the engine wishes changes without any event; it is compared this often.
WISH_EVERY_S = 1.0
#: What is compared grows with the far addresses, so it is less often by so much for each of them.
WISH_EVERY_EACH_S = 0.004
#: Far addresses that the engine has met are wished for so soon, all that came by then together.
WISH_GAP_S = 0.05
#: Each round costs what all addresses do, so it waits by so much longer for each of them: where
#: hundreds of hosts come at once, the rounds are few.
WISH_GAP_EACH_S = 0.001


class Interfaces:
    """Has the last snapshot, and keeps the steward up to date with what the engine wishes.

    `wish` returns what the engine wants at the moment; `deliver` takes a snapshot and the time.
    """

    def __init__(
        self,
        loop: Loop,
        steward: Steward,
        wish: Callable[[], Wish],
        deliver: Callable[[Snapshot, float], None],
    ) -> None:
        self._loop = loop
        self._steward = steward
        self._wish = wish
        self._deliver = deliver
        self._wished: Optional[Wish] = None
        self._wish_due = loop.clock() + WISH_EVERY_S
        self._wished_at = float("-inf")
        #: What was found last.
        self.snapshot = Snapshot()
        #: What only the status shows.
        self.shown = Shown()
        steward.on(Snapshot, self._take)
        steward.on(Shown, self._take_shown)

    def begin(self) -> None:
        """Tell a steward, the first one or another one, what the engine wishes."""
        # Another steward counts its snapshots from 1.
        self.snapshot = dataclasses.replace(self.snapshot, number=0)
        self._wished = None
        self.tell(self._loop.clock())

    def tell(self, now: float) -> None:
        """Tell the steward what the engine wishes, if that has changed."""
        wish = self._wish()
        self._wish_due = now + max(WISH_EVERY_S, len(wish.far) * WISH_EVERY_EACH_S)
        self._wished_at = now
        if wish != self._wished:
            self._wished = wish
            self._steward.send(wish, replaces=Wish)

    def look_soon(self, _now: float) -> None:
        """Have the interfaces looked at: something failed that they may explain."""
        self._steward.send(LookSoon(), replaces=LookSoon)

    def wish_changed(self, now: float) -> None:
        """Tell the steward soon of far addresses that the engine wishes to reach now."""
        known = len(self._wished.far) if self._wished is not None else 0
        gap_s = max(WISH_GAP_S, min(known * WISH_GAP_EACH_S, WISH_EVERY_S))
        self._wish_due = min(self._wish_due, max(now, self._wished_at + gap_s))
        self._loop.sooner(self._wish_due)

    def deadline(self) -> float:
        """Return when wishes are compared next."""
        return self._wish_due

    def tick(self, now: float) -> None:
        """Tell the steward what the engine wishes, if that is due."""
        if now >= self._wish_due:
            self.tell(now)

    def _take(self, snapshot: Snapshot, _descriptors: List[int], now: float) -> None:
        self.snapshot = snapshot
        self._deliver(snapshot, now)
        self.tell(now)

    def _take_shown(self, shown: Shown, _descriptors: List[int], _now: float) -> None:
        self.shown = shown
