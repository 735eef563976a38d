"""The pool of a router that gives addresses to hosts: which host has which, and until when.

Hosts are known by their keys. An address goes to another key only once its time is over, its
present holder's included; the holder counts from when it asked, which is earlier. A holder is told
its address only after :meth:`Pool.written` has confirmed it, so that a crash cannot undo what was
promised. After a restart, what was written counts for a whole lease time more. Wall clocks take no
part.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import AbstractSet, Dict, Iterable, List, Optional, Set, Tuple

from ropeway.core.address_range import Range

#: A lease counts so much longer at the router than at its holder: two clocks may differ by a
#: hundredth, and an answer may be on its way for a while.
MARGIN_SHARE = 0.01
MARGIN_S = 10.0


@dataclass
class Lease:
    """An address that belongs to a key, or that belonged to one until not long ago."""

    address: str
    #: The public key of its holder; empty where it was taken away and its time is not over.
    key: bytes
    #: When another key may have it, in monotonic seconds.
    until: float
    #: Whether it is on disk.
    is_written: bool = False
    #: Whether its time was over, and it waits for its former holder or for another one.
    is_over: bool = False

    @property
    def is_in_force(self) -> bool:
        """Whether its holder may use it."""
        return bool(self.key) and self.is_written and not self.is_over

    @property
    def state(self) -> str:
        """What has become of it, in a word or two."""
        if self.is_over:
            return "over"
        return "held" if self.is_written else "being written"


#: An address, and the key that has it from now on; None where nothing is to be remembered.
Change = Tuple[str, Optional[bytes]]


class Pool:
    """Gives addresses of some ranges to keys, one each."""

    def __init__(self) -> None:
        self._time_s = 0.0
        self._by_address: Dict[str, Lease] = {}
        self._by_key: Dict[bytes, Lease] = {}
        # Addresses that nobody has or had, in the order in which they are given.
        self._fresh: OrderedDict[str, None] = OrderedDict()
        # Leases whose time is over, the longest over first.
        self._over: OrderedDict[str, Lease] = OrderedDict()
        self._allowed: Set[str] = set()
        self._keys: AbstractSet[bytes] = frozenset()
        self._changes: Dict[str, Optional[bytes]] = {}
        #: Whether a key found no address since the last look.
        self.is_exhausted = False

    def __len__(self) -> int:
        return len(self._by_address)

    @property
    def size(self) -> int:
        """How many addresses may be given."""
        return len(self._allowed)

    @property
    def held(self) -> int:
        """How many addresses hosts have now."""
        return sum(one.is_in_force for one in self._by_address.values())

    @property
    def free(self) -> int:
        """How many addresses the next hosts can have."""
        return len(self._fresh) + len(self._over)

    def leases(self) -> List[Lease]:
        """Return all leases in the order of their addresses."""
        return sorted(self._by_address.values(), key=lambda one: ipaddress.IPv4Address(one.address))

    def configure(
        self,
        ranges: Iterable[Range],
        excluded: AbstractSet[str],
        keys: AbstractSet[bytes],
        time_s: float,
    ) -> None:
        """Take the addresses that may be given, and the keys that may have one.

        Nothing of ``excluded`` is given, the first and last address of a network for instance.
        Leases that end by it leave their addresses closed until their time is over.
        """
        self._time_s = time_s
        listed = [
            str(ipaddress.IPv4Address(number))
            for one in ranges
            for number in range(one.first, one.last + 1)
        ]
        self._allowed = set(listed).difference(excluded)
        self._keys = keys
        for lease in list(self._by_key.values()):
            if lease.key not in keys or lease.address not in self._allowed:
                self._take_away(lease)
        self._fresh = OrderedDict(
            (address, None)
            for address in listed
            if address in self._allowed and address not in self._by_address
        )

    def load(self, kept: Iterable[Tuple[str, bytes]], now: float) -> None:
        """Take what was on disk at the start; each lease counts from now on."""
        for address, key in kept:
            lease = Lease(address, key, self._until(now), is_written=True)
            self._by_address[address] = lease
            self._fresh.pop(address, None)
            if key in self._keys and address in self._allowed:
                self._by_key[key] = lease
            elif key:
                self._take_away(lease)

    def ask(self, key: bytes, now: float) -> Optional[str]:
        """Return the address that a key has by now; None if it has none yet.

        Then one is looked for, if there is any: see :meth:`take_changes`.
        """
        lease = self._by_key.get(key)
        if lease is None:
            if key in self._keys:
                self._give(key, now)
            return None
        lease.until = max(lease.until, self._until(now))
        if lease.is_over:
            lease.is_over = False
            self._over.pop(lease.address, None)
        return lease.address if lease.is_written else None

    def take_changes(self, limit: int) -> List[Change]:
        """Return what has to be written, the first ``limit`` of it, in order.

        Addresses that nobody has any more come first: a key must not have two on disk. Leases are
        in force once :meth:`written` has them.
        """
        taken = sorted(self._changes.items(), key=lambda change: bool(change[1]))[:limit]
        for address, _ in taken:
            del self._changes[address]
        return taken

    def written(self, changes: Iterable[Change], now: float) -> List[str]:
        """Take note that changes are on disk; return the addresses that are in force by it."""
        found = []
        for address, key in changes:
            lease = self._by_address.get(address)
            if lease is not None and lease.key and lease.key == key and not lease.is_written:
                lease.is_written = True
                lease.until = max(lease.until, self._until(now))
                found.append(address)
        return found

    def release(self, address: str) -> bool:
        """End a lease now; False if nobody has that address.

        The address stays closed until its time is over: its holder may not have heard of it.
        """
        lease = self._by_address.get(address)
        if lease is None or not lease.key:
            return False
        self._take_away(lease)
        return True

    def expire(self, now: float) -> List[str]:
        """End the leases whose time is over; return the addresses that were in force by them.

        The address waits for its key, until another one needs it.
        """
        ended = []
        for lease in list(self._by_address.values()):
            if now < lease.until or lease.is_over:
                continue
            if not lease.key:
                self._forget(lease)
                continue
            lease.is_over = True
            self._over[lease.address] = lease
            if lease.is_written:
                ended.append(lease.address)
        return ended

    def _until(self, now: float) -> float:
        return now + self._time_s * (1 + MARGIN_SHARE) + MARGIN_S

    def _give(self, key: bytes, now: float) -> None:
        # What the disk does not know yet waits, or a key could have two addresses there.
        fresh = next((address for address in self._fresh if address not in self._changes), None)
        over = next((address for address in self._over if address not in self._changes), None)
        address = fresh or over
        if address is None:
            self.is_exhausted = not (self._fresh or self._over)
            return
        if address == fresh:
            del self._fresh[address]
        else:
            del self._by_key[self._over.pop(address).key]
        lease = Lease(address, key, self._until(now))
        self._by_address[address] = self._by_key[key] = lease
        self._change(address, key)

    def _take_away(self, lease: Lease) -> None:
        """Leave nothing of a lease but that its address is closed until its time is over."""
        self._by_key.pop(lease.key, None)
        self._over.pop(lease.address, None)
        lease.key = b""
        lease.is_written = True
        self._change(lease.address, b"")
        if lease.is_over:
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        del self._by_address[lease.address]
        self._change(lease.address, None)
        if lease.address in self._allowed:
            self._fresh[lease.address] = None

    def _change(self, address: str, key: Optional[bytes]) -> None:
        # At the end: a key that is given another address has lost its former one by then.
        self._changes.pop(address, None)
        self._changes[address] = key
