"""The nftables table of a classic network: made, watched, put back and removed."""

from __future__ import annotations

import contextlib
import logging

from ropeway.steward import firewall
from ropeway.steward.loop import RETRY_S, Schedule
from ropeway.steward.netlink.nft_watch import NftWatch

log = logging.getLogger("ropeway")

# Tuning
#: Nothing else of the steward runs while nft does.
FIREWALL_TIMEOUT_S = 3.0
#: On the way out nft is called twice, and the keeper waits 5 s in all.
CLOSE_TIMEOUT_S = 1.5


def remove_left(device_name: str) -> None:
    """Remove the table that a killed agent of a classic network may have left."""
    with contextlib.suppress(OSError):
        firewall.delete(firewall.table_of(device_name))


class FirewallGuard:
    """Keeps the kernel from answering classic datagrams, as long as it is open.

    `OSError` where changes of nftables cannot be watched.
    """

    def __init__(self, loop: Schedule, device_name: str) -> None:
        self._loop = loop
        self._table = firewall.table_of(device_name)
        self._restored_at = float("-inf")
        self._due = float("inf")
        self._watch = NftWatch(self._table)
        loop.register(self._watch.fileno(), self._hinted)

    def put(self) -> None:
        """Put the table in place; `OSError` with a sentence where it cannot be made."""
        firewall.replace(self._table)

    def put_soon(self, now: float) -> None:
        """Put the table in place at the next tick, and try again until it is there."""
        self._due = now

    def deadline(self) -> float:
        """Return when the table is put back."""
        return self._due

    def tick(self, now: float) -> None:
        """Put the table back if it was taken away."""
        if now < self._due:
            return
        self._due = float("inf")
        self._restored_at = now
        log.warning("the nft table %s is put back", self._table)
        try:
            firewall.replace(self._table, FIREWALL_TIMEOUT_S)
        except OSError as error:
            log.warning("%s: trying again", error)
            self._due = now + RETRY_S

    def close(self) -> None:
        """Stop watching, and remove the table."""
        self._loop.unregister(self._watch.fileno())
        self._watch.close()
        try:
            firewall.delete(self._table, CLOSE_TIMEOUT_S)
        except OSError as error:
            log.warning("%s; `ropeway cleanup` removes the table", error)

    def _hinted(self, _events: int, now: float) -> None:
        if self._watch.lost():
            self._due = max(now, self._restored_at + RETRY_S)
            self._loop.sooner(self._due)
