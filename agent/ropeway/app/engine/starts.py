"""The epoch and the reset keys of this start, which no start before it used."""

from __future__ import annotations

import os
import time
from typing import Callable, Tuple

from ropeway.app.store.state import CLOCK_MAX_S, EPOCH_MAX, RESET_KEY_BYTES, RESET_KEYS_MAX

# Tuning
#: How far the wall clock is ahead when the epoch follows it: at first, and at most. Each time it is
#: twice as far, so that a host that is off for long does not wear out a memory card.
FOLLOW_MIN_S = 10.0
FOLLOW_MAX_S = 3600.0


class Starts:
    """What a start has, as it was on disk before the engine began.

    `remember` is given epoch and reset keys whenever they have changed.

    A host whose state was lost, and whose clock was set back, is refused by those that remember it.
    It is accepted again once its epoch is greater than it was, as soon as the clock is right.
    """

    def __init__(
        self,
        epoch: int,
        reset_keys: Tuple[bytes, ...],
        remember: Callable[[int, Tuple[bytes, ...]], None],
    ) -> None:
        #: The epoch, 1 to `EPOCH_MAX`.
        self.epoch = epoch
        #: The 32 secret bytes of this start, and those of former starts behind it.
        self.reset_keys = reset_keys
        self._remember = remember
        self._ahead_s = FOLLOW_MIN_S

    def renew(self) -> Tuple[int, Tuple[bytes, ...]]:
        """Return an epoch and reset keys that neither a copy nor an earlier start has used."""
        self.epoch = min(max(self.epoch + 1, _wall_clock()), EPOCH_MAX)
        fresh = os.urandom(RESET_KEY_BYTES)
        self.reset_keys = (fresh, *self.reset_keys)[:RESET_KEYS_MAX]
        self._remember(self.epoch, self.reset_keys)
        return self.epoch, self.reset_keys

    def follow_clock(self) -> bool:
        """Raise the epoch to the wall clock where that is far ahead; say whether it was."""
        now = _wall_clock()
        if self.epoch + self._ahead_s > now:
            return False
        self.epoch = now
        self._ahead_s = min(2 * self._ahead_s, FOLLOW_MAX_S)
        self._remember(self.epoch, self.reset_keys)
        return True


def _wall_clock() -> int:
    """Return the seconds since 1970; 0 where the clock is wrong beyond doubt."""
    now = time.time()
    return int(now) if 1 <= now < CLOCK_MAX_S else 0
