"""The epoch and the reset keys of a start, which no start before it used."""

from __future__ import annotations

import os
import time
from typing import Tuple

from ropeway.app.store import state


class Starts:
    """Counts starts of the agent of `device_name`, on disk."""

    def __init__(self, device_name: str) -> None:
        self._device_name = device_name
        self.renew()

    @property
    def epoch(self) -> int:
        """The epoch of this start, 1 to `state.EPOCH_MAX`."""
        return self._epoch.number

    @property
    def reset_keys(self) -> Tuple[bytes, ...]:
        """The 32 secret bytes of this start, and those of former starts behind it."""
        return self._reset_keys

    def renew(self) -> Tuple[int, Tuple[bytes, ...]]:
        """Return an epoch and reset keys that neither a copy nor an earlier start has used."""
        self._epoch = state.Epoch(self._device_name, time.time())
        self._reset_keys = state.next_reset_keys(self._device_name, os.urandom(32))
        return self.epoch, self._reset_keys

    def follow_clock(self) -> bool:
        """Raise the epoch to the wall clock where that is far ahead; say whether it was."""
        return self._epoch.follow(time.time())
