"""The steward's loop: descriptors with handlers, and parts with deadlines.

It has the protocol of the engine's loop and none of its care for packets: here everything may wait.
"""

from __future__ import annotations

import select
from typing import Callable, Dict, List, Protocol

from ropeway.kernel.clock import boot_clock

# Tuning
#: Pause before something that the kernel refused is tried again.
RETRY_S = 1.0

#: Takes epoll's events of a descriptor and the time.
Handler = Callable[[int, float], None]


class Part(Protocol):
    """Something with deadlines, in seconds of the loop's clock."""

    def deadline(self) -> float:
        """Return when `tick` has something to do; infinity is never."""

    def tick(self, now: float) -> None:
        """Do what is due."""


class Schedule(Protocol):
    """What parts need of a loop."""

    #: Seconds since boot, those in suspend included.
    clock: Callable[[], float]

    def register(self, descriptor: int, handler: Handler, /) -> None:
        """Have `handler` called when the descriptor is readable."""

    def unregister(self, descriptor: int) -> None:
        """Forget a registered descriptor, which is open still."""

    def sooner(self, at: float) -> None:
        """Note that a deadline is now `at`, which may be earlier than before."""


class Loop:
    """Turns until it is stopped."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = boot_clock
        self._epoll = select.epoll()
        self._handlers: Dict[int, Handler] = {}
        self._parts: List[Part] = []
        self._stopping = False

    def register(self, descriptor: int, handler: Handler) -> None:
        """Have `handler` called when the descriptor is readable."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._handlers[descriptor] = handler

    def unregister(self, descriptor: int) -> None:
        """Forget a registered descriptor, which is open still."""
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)

    def add(self, part: Part) -> None:
        """Let a part have deadlines."""
        self._parts.append(part)

    def sooner(self, at: float) -> None:
        """Do nothing: all deadlines are asked for in each turn."""

    def stop(self) -> None:
        """Let `run` return after this turn."""
        self._stopping = True

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopping:
            due = min((part.deadline() for part in self._parts), default=float("inf"))
            wait_s = None if due == float("inf") else max(0.0, due - self.clock())
            for descriptor, events in self._epoll.poll(wait_s):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler(events, self.clock())
            now = self.clock()
            for part in self._parts:
                if now >= part.deadline():
                    part.tick(now)
