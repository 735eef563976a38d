"""The engine's end of the pipe: orders go out, answers come in, and nothing ever waits.

Orders of which only the newest counts replace one that is not sent yet, so a steward that hangs
costs no memory.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import select
import socket
import time
from typing import Any, Callable, Dict, List, Optional, Protocol, Tuple, Type

from ropeway.steward import answers, keeper, orders
from ropeway.steward.pipe import Closed, Messages, close_all, frame

log = logging.getLogger("ropeway")

#: Takes an answer, the descriptors that came with it, and the time.
Handler = Callable[[Any, List[int], float], None]

# Tuning
#: A start takes no longer; the service gives the agent 30 s.
CALL_LIMIT_S = 25.0
#: Removing what was made takes no longer: an nft that hangs is given up before.
STOP_LIMIT_S = 4.0
#: While a start waits, it is looked at this often whether the agent has to stop.
STOP_LOOK_S = 0.1

#: Whether the steward answers is asked this often; one that has not answered for longer hangs.
PING_EVERY_S = 10.0
HANGS_AFTER_S = 30.0

NOBODY = "nobody starts the steward again"


class Loop(Protocol):
    """What the client needs of the engine's loop."""

    #: Gives the time in seconds.
    clock: Callable[[], float]

    def register(self, descriptor: int, handler: Callable[[int, float], None], /) -> None:
        """Have `handler` called when the descriptor is readable."""

    def modify(self, descriptor: int, events: int, /) -> None:
        """Wait for other events of a registered descriptor."""

    def unregister(self, descriptor: int, /) -> None:
        """Forget a registered descriptor, which is open still."""


class StewardGone(Exception):
    """The steward has ended, or takes too long."""


class Interrupted(Exception):
    """The agent has to stop, so nothing is waited for."""


class Steward:
    """The steward as the engine sees it.

    `connection` leads to the keeper, whose process ID is `keeper_pid`.
    """

    def __init__(self, connection: socket.socket, keeper_pid: int) -> None:
        self._keeper: Optional[socket.socket] = connection
        self._keeper_pid = keeper_pid
        self._pipe: Optional[socket.socket] = None
        self._messages: Optional[Messages] = None
        self._loop: Optional[Loop] = None
        self._handlers: Dict[Type[Any], Handler] = {}
        # Whole orders that are not sent yet, by what replaces them; and the rest of one.
        self._waiting: Dict[Any, bytes] = {}
        self._rest = b""
        # A steward has ended before the loop ran: what it was asked for is not answered any more.
        self._lost = False
        # When the question was put that is not answered yet, and when the next one is due.
        self._pinged_at: Optional[float] = None
        self._ping_due = float("-inf")
        self._hangs = False
        # Why the steward did not do what it was asked for, as a sentence.
        self._refused = ""
        #: Says whether the agent has to stop.
        self.has_to_stop: Callable[[], bool] = lambda: False
        self._came: Callable[[float], None] = lambda now: None
        self._went: Callable[[float], None] = lambda now: None
        #: The process ID of the steward that runs; 0 while none does.
        self.pid = 0
        #: How often another steward has taken over.
        self.restarts = -1

    # --- before the loop runs

    def call(self, order: orders.Order, *kinds: Type[Any]) -> Tuple[Any, List[int]]:
        """Give an order, and wait for an answer of one of the `kinds`.

        Other answers go to their handlers. `StewardGone` where none comes, `Interrupted` if the
        agent has to stop.
        """
        self.send(order)
        return self.wait_for(*kinds)

    def wait_for(self, *kinds: Type[Any]) -> Tuple[Any, List[int]]:
        """Wait for an answer of one of the `kinds`; others go to their handlers."""
        found: List[Tuple[Any, List[int]]] = []
        before = {kind: self._handlers.get(kind) for kind in kinds}
        for kind in kinds:
            self._handlers[kind] = lambda answer, with_it, now: found.append((answer, with_it))
        try:
            self.wait_until(lambda: bool(found), CALL_LIMIT_S)
        finally:
            for kind, handler in before.items():
                del self._handlers[kind]
                if handler is not None:
                    self._handlers[kind] = handler
        return found[0]

    def wait_until(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Serve the pipe until `condition` holds; `StewardGone` where it does not in time.

        `Interrupted` if the agent has to stop.
        """
        end = time.monotonic() + limit_s
        while not condition():
            left_s = end - time.monotonic()
            if self.has_to_stop():
                raise Interrupted
            if left_s <= 0:
                raise StewardGone(f"the steward has not answered within {limit_s:g} s")
            if self._lost or (self._keeper is None and self._pipe is None):
                raise StewardGone("the steward has ended")
            self._serve_once(min(left_s, STOP_LOOK_S))

    def _serve_once(self, timeout_s: float) -> None:
        waiting = select.poll()
        if self._keeper is not None:
            waiting.register(self._keeper, select.POLLIN)
        if self._pipe is not None:
            wants_out = select.POLLOUT if self._rest or self._waiting else 0
            waiting.register(self._pipe, select.POLLIN | wants_out)
        waiting.poll(timeout_s * 1000)
        now = self._loop.clock() if self._loop is not None else time.monotonic()
        self._greet(0, now)
        self._flush()
        self._read(0, now)

    # --- while the loop runs

    def attach(
        self,
        loop: Loop,
        came: Callable[[float], None],
        went: Callable[[float], None],
    ) -> None:
        """Be served by `loop` from now on.

        `came` is called when another steward has taken over, `went` when one has ended.
        """
        self._loop, self._came, self._went = loop, came, went
        if self._keeper is not None:
            loop.register(self._keeper.fileno(), self._greet)
        if self._pipe is not None:
            loop.register(self._pipe.fileno(), self._ready)
            self._flush()
        if self._lost and self._pipe is not None:
            self._came(loop.clock())
        self._lost = False

    def on(self, kind: Type[Any], handler: Handler) -> None:
        """Have `handler` called with each answer of a kind; it owns the descriptors."""
        self._handlers[kind] = handler

    def send(self, order: orders.Order, replaces: Any = None) -> None:
        """Give an order. One that is not sent yet and `replaces` the same is forgotten.

        An order to a steward that has ended is lost: the next one is told everything anew.
        """
        if self._pipe is None and self.restarts >= 0:
            return
        self._waiting[object() if replaces is None else replaces] = orders.encode(order)
        self._flush()

    def deadline(self) -> float:
        """Return when it is looked at whether the steward answers."""
        return self._ping_due

    def tick(self, now: float) -> None:
        """Ask whether the steward turns, or take note that it has not answered for long."""
        if now < self._ping_due:
            return
        self._ping_due = now + PING_EVERY_S
        if self._pinged_at is None:
            if self._pipe is not None:
                self._pinged_at = now
                self.send(orders.Ping(), replaces=orders.Ping)
        elif not self._hangs and now - self._pinged_at >= HANGS_AFTER_S:
            self._hangs = True
            log.warning("%s", self.fault)

    @property
    def fault(self) -> str:
        """Why there is no steward, or none that answers, as a sentence; empty while one does."""
        consequence = "changes of interfaces and addresses go unnoticed"
        if self._hangs:
            return f"the steward does not answer, so {consequence}: kill process {self.pid}"
        if self.pid:
            return ""
        if self._keeper is None:
            return f"the steward has ended and {NOBODY}, so {consequence}: restart the agent"
        return f"the steward has ended and is being started again; until then {consequence}"

    @property
    def warning(self) -> str:
        """What is amiss, as a sentence; empty if a steward runs that would be started again."""
        if self.pid and self._keeper is None:
            return f"the steward's keeper has ended, and {NOBODY} if it ends: restart the agent"
        return self.fault or self._refused

    def status(self) -> Dict[str, Any]:
        """Return what the status says of the steward."""
        return {"pid": self.pid, "restarts": max(0, self.restarts), "fault": self.fault}

    def stop(self) -> None:
        """Have what was made removed, and wait for that."""
        self.has_to_stop = lambda: False
        if self._pipe is not None:
            # What it tells from now on would be answered with more orders.
            self._handlers.clear()
            self.send(orders.Stop())
            self._unregister()
            with contextlib.suppress(StewardGone):
                self.wait_until(lambda: self._pipe is None, STOP_LIMIT_S)
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._drop()

    def _unregister(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None:
            return
        for connection in (self._keeper, self._pipe):
            if connection is not None:
                loop.unregister(connection.fileno())

    # --- the keeper's socket

    def _greet(self, _events: int, now: float) -> None:
        """Take over the pipe to another steward, or note that the keeper has ended."""
        if self._keeper is None:
            return
        rights = socket.CMSG_SPACE(array.array("i").itemsize)
        try:
            told, ancillary, _, _ = self._keeper.recvmsg(
                keeper.PID.size, rights, socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return
        except OSError:
            told, ancillary = b"", []
        if len(told) != keeper.PID.size or not ancillary:
            self._lose_keeper()
            return
        numbers = array.array("i")
        numbers.frombytes(ancillary[0][2])
        if self._pipe is not None:
            self._lose(now)
        self._pipe = socket.socket(fileno=numbers[0])
        self._pipe.setblocking(False)
        self._messages = Messages(self._pipe, answers.BYTES_MAX, descriptors=True)
        self.pid = int(keeper.PID.unpack(told)[0])
        self.restarts += 1
        if self._loop is not None:
            self._loop.register(self._pipe.fileno(), self._ready)
            log.warning("another steward has taken over (process %s)", self.pid)
            self._came(now)

    def _lose_keeper(self) -> None:
        assert self._keeper is not None
        log.warning("the steward's keeper has ended: restart the agent")
        if self._loop is not None:
            self._loop.unregister(self._keeper.fileno())
        self._keeper.close()
        self._keeper = None
        with contextlib.suppress(OSError):
            os.waitpid(self._keeper_pid, os.WNOHANG)

    # --- the pipe

    def _ready(self, events: int, now: float) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & ~select.EPOLLOUT:
            self._read(events, now)

    def _read(self, _events: int, now: float) -> None:
        if self._messages is None:
            return
        try:
            received = self._messages.read()
        except BlockingIOError:
            return
        except Closed:
            self._lose(now)
            return
        for message, descriptors in received:
            answer = answers.decode(message)
            if isinstance(answer, answers.Pong):
                self._pinged_at, self._hangs = None, False
            elif isinstance(answer, answers.Refused):
                self._refused = answer.sentence
            handler = self._handlers.get(type(answer))
            if handler is not None:
                handler(answer, descriptors, now)
            else:
                close_all(descriptors)

    def _flush(self) -> None:
        """Send what can be sent now."""
        if self._pipe is None:
            return
        try:
            while self._rest or self._waiting:
                if not self._rest:
                    self._rest = frame(self._waiting.pop(next(iter(self._waiting))))
                sent = self._pipe.send(self._rest)
                self._rest = self._rest[sent:]
        except BlockingIOError:
            pass
        except OSError:
            # That it has ended is read, too.
            self._rest = b""
            self._waiting.clear()
        if self._loop is not None:
            more = select.EPOLLOUT if self._rest else 0
            self._loop.modify(self._pipe.fileno(), select.EPOLLIN | more)

    def _lose(self, now: float) -> None:
        loop = self._loop
        if loop is not None:
            assert self._pipe is not None
            loop.unregister(self._pipe.fileno())
        else:
            self._lost = True
        self._drop()
        if loop is not None:
            log.warning("%s", self.fault)
            self._went(now)

    def _drop(self) -> None:
        if self._messages is not None:
            self._messages.close()
            self._messages = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self.pid = 0
        self._pinged_at, self._hangs, self._refused = None, False, ""
        self._rest = b""
        if self.restarts >= 0:
            # Orders to one that has ended mean nothing to the next one.
            self._waiting.clear()


def start(load: keeper.Load) -> Steward:
    """Start a steward that does what `load` returns, and see that it is started again."""
    return Steward(*keeper.start(load))
