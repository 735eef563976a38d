"""Names of other hosts: resolved now, and again and again.

Each resolution waits in a thread of its own, so that a name server that does not answer delays
nothing else. The last good answer holds until there is another one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, Iterable, List, Sequence, Tuple

from ropeway.app.config.endpoints import is_global
from ropeway.app.rate_limited_log import RateLimitedLog
from ropeway.core import tuning
from ropeway.steward import resolver
from ropeway.steward.answers import Resolved
from ropeway.steward.loop import Schedule
from ropeway.steward.orders import Resolve

log = logging.getLogger("ropeway")

# Tuning
#: A name that resolves is resolved again this often, in seconds.
RESOLVE_EVERY_S = 300.0
#: First, and longest, pause before a name is tried again that does not resolve, or that leads to a
#: host without an established connection.
RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
#: Each pause is shorter by up to this share, so that a fleet does not ask in step.
JITTER = 0.1
#: Names that are resolved at one time.
THREADS_MAX = 4
#: So many addresses are named in a sentence, and so many names have one.
SHOWN_MAX = 4
FAULTS_MAX = 16

_INF = float("inf")


@dataclass
class _Name:
    """What is known of one name. Times are seconds of the loop's clock."""

    due: float
    pause_s: float = RETRY_MIN_S
    began_at: float = -_INF
    is_running: bool = False
    is_urgent: bool = False
    #: The last good answer.
    addresses: Tuple[str, ...] = ()
    #: What is wrong with the last answer, as a sentence; empty for nothing.
    fault: str = ""


class Names:
    """Resolves the names that the engine wishes, and tells it when anything has changed.

    Addresses inside `network`, the virtual one, are left out. `links` returns the names of the
    interfaces that take part. `resolve` takes a name and these, and returns addresses; it may wait.
    """

    def __init__(
        self,
        loop: Schedule,
        network: str,
        tell: Callable[[Resolved], None],
        links: Callable[[], Sequence[str]],
        resolve: Callable[[str, Sequence[str]], Iterable[str]] = resolver.resolve,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._loop = loop
        self._network = ipaddress.IPv4Network(network)
        self._tell = tell
        self._links = links
        self._resolve = resolve
        self._spread = spread
        self._names: Dict[str, _Name] = {}
        self._running = 0
        self._repeated = RateLimitedLog()
        self._told = Resolved({}, ())
        # What threads have found: a name, its addresses, and why there are none.
        self._found: Deque[Tuple[str, Tuple[str, ...], str]] = deque()
        # A thread may come back after the end, when the descriptor may be somebody else's.
        self._lock = threading.Lock()
        self._closed = False
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        loop.register(self._wake, self._woken)

    def close(self) -> None:
        """Resolve nothing any more. Threads that wait for an answer end with the process."""
        self._loop.unregister(self._wake)
        with self._lock:
            self._closed = True
            os.close(self._wake)
            os.close(self._waker)

    def wish(self, order: Resolve, now: float) -> None:
        """Resolve these names, and no others; the urgent ones lead to a host that is not met."""
        for gone in self._names.keys() - set(order.names):
            del self._names[gone]
        for name in order.names:
            known = self._names.setdefault(name, _Name(now))
            was_urgent, known.is_urgent = known.is_urgent, name in order.urgent
            if known.is_urgent and not was_urgent:
                known.pause_s = RETRY_MIN_S
                known.due = min(known.due, max(now, known.began_at + RETRY_MIN_S))
        self._tell_changes(now)
        self._loop.sooner(self.deadline())

    def deadline(self) -> float:
        """Return when the next name has to be resolved, if one more can be now."""
        if self._running >= THREADS_MAX:
            return _INF
        return min((one.due for one in self._names.values() if not one.is_running), default=_INF)

    def tick(self, now: float) -> None:
        """Begin to resolve what is due, the urgent names first."""
        due = [
            (not one.is_urgent, one.due, name)
            for name, one in self._names.items()
            if now >= one.due and not one.is_running
        ]
        for _, _, name in sorted(due)[: THREADS_MAX - self._running]:
            self._begin(name, now)

    def _begin(self, name: str, now: float) -> None:
        one = self._names[name]
        one.began_at = now
        thread = threading.Thread(
            target=self._resolve_apart, args=(name, tuple(self._links())), daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._take(name, (), str(error), now)
            self._tell_changes(now)
        else:
            one.is_running = True
            self._running += 1

    def _resolve_apart(self, name: str, links: Sequence[str]) -> None:
        """Resolve a name, in a thread of its own."""
        addresses: Tuple[str, ...] = ()
        reason = ""
        try:
            addresses = tuple(self._resolve(name, links))
        except OSError as error:
            reason = error.strerror or str(error)
        except Exception as error:
            reason = repr(error)
        self._found.append((name, addresses, reason))
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.write(self._waker, b"\0")

    def _woken(self, _events: int, now: float) -> None:
        os.read(self._wake, 4096)
        while self._found:
            name, addresses, reason = self._found.popleft()
            self._running -= 1
            # A name that was removed meanwhile and named again is asked for anew.
            if name in self._names and self._names[name].is_running:
                self._names[name].is_running = False
                self._take(name, addresses, reason, now)
        self._tell_changes(now)
        self._loop.sooner(self.deadline())

    def _take(self, name: str, addresses: Sequence[str], reason: str, now: float) -> None:
        """Take what came of a resolution, and say when the next one is due."""
        one = self._names[name]
        good, others = self._divide(addresses)
        if good:
            one.addresses = good
        one.fault = _fault(name, good, others, reason, one.addresses)
        shorter = 1.0 - JITTER * self._spread()
        if good and not one.is_urgent:
            one.pause_s = RETRY_MIN_S
            one.due = one.began_at + RESOLVE_EVERY_S * shorter
        else:
            one.due = now + one.pause_s * shorter
            one.pause_s = min(2 * one.pause_s, RETRY_MAX_S)

    def _divide(self, addresses: Iterable[str]) -> Tuple[Tuple[str, ...], List[str]]:
        """Return which addresses may be another host's, in one order, and which may not."""
        good, others = [], []
        for text in dict.fromkeys(addresses):
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                others.append(text)
                continue
            if is_global(address) and address not in self._network:
                good.append(address)
            else:
                others.append(text)
        good.sort(key=lambda address: (address.version, address.packed))
        return tuple(map(str, good[: tuning.MAX_REMOTES_PER_PEER])), sorted(others)

    def _tell_changes(self, now: float) -> None:
        faults = [one.fault for one in self._names.values() if one.fault]
        more = len(faults) - FAULTS_MAX
        del faults[FAULTS_MAX:]
        for sentence in faults:
            if sentence not in self._told.faults:
                self._repeated.warn(sentence, now)
        if more > 0:
            faults.append(f"{more} more names do not resolve, or have odd addresses")
        addresses = {name: one.addresses for name, one in self._names.items() if one.addresses}
        resolved = Resolved(addresses, tuple(faults))
        if resolved != self._told:
            self._told = resolved
            self._tell(resolved)


def _fault(
    name: str, good: Sequence[str], others: Sequence[str], reason: str, kept: Sequence[str]
) -> str:
    """Return what is wrong with an answer, as a sentence; empty for nothing."""
    then = "; its last addresses are kept" if kept else ""
    if others:
        shown = ", ".join(others[:SHOWN_MAX])
        if len(others) > SHOWN_MAX:
            shown += f" and {len(others) - SHOWN_MAX} more"
        if good:
            return f"{name} has addresses that no other host can have, which are left out: {shown}"
        return (
            f"{name} has no address that another host can have, only {shown}{then}: mend its"
            " records, or write an address"
        )
    if good:
        return ""
    return (
        f"{name} does not resolve ({reason or 'it has no address'}), and is tried again{then}: look"
        " at its records and at the name servers of this host"
    )
