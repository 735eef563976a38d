"""What must outlive a restart, kept on disk on behalf of the engine."""

from __future__ import annotations

import logging
import os
import time

from ropeway.app.store import state
from ropeway.steward import answers, orders

log = logging.getLogger("ropeway")


def begin(name: str) -> answers.StateBegun:
    """Count a start of the agent of the device `name`, and return what earlier ones have left."""
    lease = state.read_lease(name, time.time())
    return answers.StateBegun(
        state.next_epoch(name, time.time()),
        state.next_reset_keys(name, os.urandom(state.RESET_KEY_BYTES)),
        state.read_callers(name),
        None if lease is None else answers.KeptLease(*lease),
    )


class State:
    """Keeps what the engine has to remember."""

    def __init__(self) -> None:
        self._warned = False

    def remember(self, name: str, order: orders.Remember) -> None:
        """Keep what an order says for the device `name`; where that fails, it is logged once."""
        try:
            if order.epoch is not None:
                state.write_epoch(name, order.epoch)
            if order.reset_keys is not None:
                keys = [bytes.fromhex(key) for key in order.reset_keys]
                state.write_reset_keys(name, keys)
            if order.callers is not None:
                state.write_callers(name, order.callers)
            if order.lease is not None:
                state.write_lease(name, time.time(), *order.lease)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "the state cannot be written (%s): after a restart, idle hosts are reached once"
                    " they call; let the user of the agent write there",
                    error.strerror or error,
                )
