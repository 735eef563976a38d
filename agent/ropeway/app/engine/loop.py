"""The loop: it waits for descriptors and deadlines, and has the only clock.

It does not know what they are for. A descriptor is registered with its handler. A part says with
`deadline()` when it wants to run next, and `tick(now)` does what is due. The path of packets is one
object, the pump, which every turn begins and ends with.

One turn, in the order of the code:

1. wait until a descriptor is ready or something is due;
2. the pump begins the turn;
3. the handlers of ready descriptors run, those registered as first before the others;
4. the pump ends the turn: it serves queues, ticks the node, sends and delivers;
5. if a deadline has passed, every part ticks, and the pump sends what came of that.
"""

from __future__ import annotations

import select
import signal
import socket
from typing import Any, Callable, Dict, List, Protocol, Set, Tuple

from ropeway.app.engine.freshness import Bound
from ropeway.app.engine.polling import BusyPoll

# Tuning
#: Descriptors served in one turn.
EVENTS_MAX = 64
#: Pause before something that the kernel refused is tried again.
RETRY_S = 1.0

#: Takes epoll's events of a descriptor and the time in seconds of the loop's clock.
Handler = Callable[[int, float], None]


class Part(Protocol):
    """Something with deadlines. All times are seconds of the loop's clock."""

    def deadline(self) -> float:
        """Return when `tick` has something to do; infinity is never."""

    def tick(self, now: float) -> None:
        """Do what is due; called whenever a deadline of any part has passed."""


class Turns(Protocol):
    """The path of packets, as the loop drives it."""

    #: Something whose answer may follow soon was done in the turn before; empty if nothing was.
    occasion: str

    def wait_s(self, due: float) -> float:
        """Return how long the loop may wait, when the next deadline is `due`."""

    def stood_still(self) -> None:
        """Take note that the loop did not run for longer than a packet may wait."""

    def begin(self, now: float) -> None:
        """Begin a turn."""

    def end(self, now: float) -> None:
        """Do what all that happened in the turn has led to."""

    def flush(self, now: float) -> None:
        """Carry out what the node has decided."""


class Loop:
    """Waits for descriptors and deadlines until it is stopped.

    `bound` has the clock and says how long a packet may wait; `polling` decides how long to look
    for an answer before falling asleep.
    """

    def __init__(self, bound: Bound, polling: BusyPoll) -> None:
        #: The only clock: seconds since boot, those in suspend included.
        self.clock = bound.clock
        #: How long a packet may wait on this host.
        self.bound = bound
        #: How long to look for an answer before falling asleep.
        self.polling = polling
        self._epoll = select.epoll()
        self._handlers: Dict[int, Handler] = {}
        # Those that are handled before others.
        self._first: Set[int] = set()
        self._parts: List[Part] = []
        self._due = float("-inf")
        self._stopping = False

    def close(self) -> None:
        """Close the loop's own descriptor, after `run` or instead of it."""
        self._epoll.close()

    def register(
        self, descriptor: int, handler: Handler, events: int = select.EPOLLIN, first: bool = False
    ) -> None:
        """Have `handler` called when epoll reports `events`; `OSError` if that is impossible.

        A descriptor that is `first` is handled before all others of a turn.
        """
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler
        if first:
            self._first.add(descriptor)

    def modify(self, descriptor: int, events: int) -> None:
        """Wait for other events of a registered descriptor."""
        self._epoll.modify(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        """Forget a registered descriptor, which is open still."""
        del self._handlers[descriptor]
        self._first.discard(descriptor)
        self._epoll.unregister(descriptor)

    def add(self, part: Part) -> None:
        """Let a part have deadlines; parts tick in the order in which they were added."""
        self._parts.append(part)

    def sooner(self, at: float) -> None:
        """Note that a part's deadline is now `at`, which may be earlier than when it was asked.

        All parts are asked again after each round of ticks.
        """
        if at < self._due:
            self._due = at

    def stop(self) -> None:
        """Let `run` return after the turn; a signal's handler may call this."""
        self._stopping = True

    def run(self, pump: Turns) -> None:
        """Turn until `stop`."""
        clock, poll, handlers, bound = self.clock, self._epoll.poll, self._handlers, self.bound
        self._due = self._next()
        while not self._stopping:
            occasion, wait_s = pump.occasion, pump.wait_s(self._due)
            if occasion and wait_s:
                ready = self._wait(occasion, wait_s)
            else:
                ready = poll(wait_s, EVENTS_MAX)
            now = clock()
            if not bound.note_poll(now, len(ready) < EVENTS_MAX):
                ready = poll(0.0, EVENTS_MAX)
                bound.note_poll(now, len(ready) < EVENTS_MAX)
                pump.stood_still()
            pump.begin(now)
            if len(ready) > 1:
                ready.sort(key=self._is_late)
            for descriptor, events in ready:
                # A handler before it may have closed this one.
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler(events, now)
            pump.end(now)
            if now >= self._due:
                self._tick(now)
                pump.flush(now)

    def _tick(self, now: float) -> None:
        for part in self._parts:
            part.tick(now)
        self._due = self._next()

    def _next(self) -> float:
        return min((part.deadline() for part in self._parts), default=float("inf"))

    def _wait(self, occasion: str, wait_s: float) -> List[Tuple[int, int]]:
        """Wait for what follows a packet, and keep looking for it at first where that pays."""
        clock, poll = self.clock, self._epoll.poll
        began = clock()
        span_s = min(self.polling.span_s(occasion, began), wait_s)
        ready = poll(0.0, EVENTS_MAX) if span_s else []
        while not ready and clock() - began < span_s:
            ready = poll(0.0, EVENTS_MAX)
        looked_s = clock() - began if span_s else 0.0
        if not ready:
            ready = poll(max(0.0, wait_s - looked_s), EVENTS_MAX)
        # A timer that runs out is no answer.
        self.polling.learn(occasion, clock() - began, looked_s, answered=bool(ready))
        return ready

    def _is_late(self, ready: Tuple[int, int]) -> bool:
        return ready[0] not in self._first


class Signals:
    """SIGTERM and SIGINT stop the loop; SIGHUP has `hang_up` called in a turn."""

    def __init__(self, loop: Loop, hang_up: Callable[[float], None]) -> None:
        self._loop = loop
        self._hang_up = hang_up
        self._hung_up = False
        #: The signal that stopped the loop; 0 while it runs.
        self.stopped_by = 0
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        loop.register(self._wake.fileno(), self._woken)
        self._fd_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._before: Dict[int, Any] = {n: signal.signal(n, self.note) for n in numbers}

    @property
    def stopped_by_name(self) -> str:
        """The name of the signal that stopped the loop, such as "SIGTERM"."""
        return signal.Signals(self.stopped_by).name

    def note(self, number: int, _frame: Any) -> None:
        """Take a signal; the loop wakes, because Python writes to the wake-up descriptor."""
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self.stopped_by = number
            self._loop.stop()

    def close(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._loop.unregister(self._wake.fileno())
        self._wake.close()
        self._waker.close()

    def _woken(self, _events: int, now: float) -> None:
        self._wake.recv(64)
        if self._hung_up:
            self._hung_up = False
            self._hang_up(now)
