"""Leases between the node and the steward: those that this host gives, and its own.

What is given is told to nobody before the steward has it on disk. Changes that come while it writes
go with the next order, so a thousand hosts at once cost a few writes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple

from ropeway.core.settings import UNASSIGNED
from ropeway.steward import answers, orders
from ropeway.steward.client import Steward

if TYPE_CHECKING:
    from ropeway.core.node import SecureNode
    from ropeway.core.peers.lease_client import Lease

log = logging.getLogger("ropeway")

# Tuning
#: What the disk refused is tried again after this time.
RETRY_S = 5.0

_INF = float("inf")


class GivenLeases:
    """Has the leases that a node gives kept by the steward."""

    def __init__(self, node: SecureNode, steward: Steward, sooner: Callable[[float], None]) -> None:
        self._node = node
        self._steward = steward
        self._sooner = sooner
        self._is_read = False
        self._is_asked = False
        self._number = 0
        # What the steward writes, or has failed to write.
        self._changes: Sequence[Tuple[str, Optional[bytes]]] = ()
        self._due = _INF
        #: Why leases are not given or not changed, as a sentence; empty if nothing is amiss.
        self.fault = ""
        node.lease_server.changed = self.look
        steward.on(answers.LeasesRead, self._take_read)
        steward.on(answers.LeasesWritten, self._take_written)

    def look(self) -> None:
        """Order what there is to do, unless the steward is at it already."""
        if not self._node.lease_server.is_on or self._due != _INF:
            return
        if not self._is_read:
            if not self._is_asked:
                self._is_asked = True
                self._steward.send(orders.ReadLeases())
        elif not self._changes:
            self._changes = self._node.lease_server.take_changes(orders.LEASES_MAX)
            if self._changes:
                self._number += 1
                self._write()

    def start_again(self) -> None:
        """Ask another steward for what the one that has ended may not have done."""
        self._is_asked = False
        if self._changes and self._due == _INF:
            self._write()
        self.look()

    def deadline(self) -> float:
        """Return when something is tried again."""
        return self._due

    def tick(self, now: float) -> None:
        """Try again what has failed."""
        if now >= self._due:
            self._due = _INF
            self.start_again()

    def _write(self) -> None:
        changes = tuple(
            (address, None if key is None else key.hex()) for address, key in self._changes
        )
        self._steward.send(orders.WriteLeases(self._number, changes))

    def _take_read(self, read: answers.LeasesRead, _descriptors: List[int], now: float) -> None:
        self._is_asked = False
        if self._failed(read.fault, now) or self._is_read:
            return
        self._is_read = True
        self._node.load_leases(read.kept, now)
        self.look()

    def _take_written(
        self, written: answers.LeasesWritten, _descriptors: List[int], now: float
    ) -> None:
        if written.number != self._number or not self._changes or self._failed(written.fault, now):
            return
        changes, self._changes = self._changes, ()
        self._node.leases_written(changes, now)
        self.look()

    def _failed(self, fault: str, now: float) -> bool:
        if fault and fault != self.fault:
            log.warning("%s", fault)
        self.fault = fault
        if fault:
            self._due = now + RETRY_S
            self._sooner(self._due)
        return bool(fault)


class OwnLease:
    """Gives the device the address that this host gets, and keeps it for the next start."""

    def __init__(self, node: SecureNode, steward: Steward) -> None:
        client = node.lease_client
        assert client is not None
        self._node = node
        self._steward = steward
        #: Called when the device's MTU may have to be another one.
        self.mtu_changed: Callable[[float], None] = lambda now: None
        client.changed = self._changed
        client.renewed = self._renewed

    def recall(self, kept: answers.KeptLease, now: float) -> None:
        """Begin with the address that this host had."""
        from ropeway.core.peers.lease_client import Lease

        client = self._node.lease_client
        assert client is not None
        client.recall(Lease(kept.address, now + kept.left_s, kept.mtu), now)

    def start_again(self) -> None:
        """Tell another steward which address this host has."""
        self._tell()

    def _changed(self, lease: Optional[Lease], now: float) -> None:
        self._node.set_address(UNASSIGNED if lease is None else lease.address)
        self._tell()
        if lease is None:
            self._steward.send(orders.Remember(lease=("", 0, 0)), replaces="lease")
        self.mtu_changed(now)

    def _renewed(self, lease: Lease, now: float) -> None:
        kept = (lease.address, max(0, int(lease.until - now)), lease.mtu)
        self._steward.send(orders.Remember(lease=kept), replaces="lease")

    def _tell(self) -> None:
        address = self._node.settings.address
        self._steward.send(
            orders.SetAddress("" if address == UNASSIGNED else address), replaces=orders.SetAddress
        )
