"""A steward within the engine's own process and loop, for tests over a kernel in memory.

Orders go through their bytes, as over the pipe. Answers wait until the loop turns.
"""

from __future__ import annotations

import socket
from collections import deque

from ropeway.app.engine.engine import Engine
from ropeway.kernel.clock import boot_clock
from ropeway.steward import answers, orders
from ropeway.steward.client import StewardGone
from ropeway.steward.handover import Handover
from ropeway.steward.service import Service


class LaterLoop:
    """A loop that there is not yet: what is registered by then is kept for it."""

    def __init__(self):
        self.clock = boot_clock
        self.loop = None
        self._handlers = {}
        self._parts = []

    def attach(self, loop):
        self.loop, self.clock = loop, loop.clock
        for descriptor, handler in self._handlers.items():
            loop.register(descriptor, handler)
        for part in self._parts:
            loop.add(part)

    def register(self, descriptor, handler):
        self._handlers[descriptor] = handler
        if self.loop is not None:
            self.loop.register(descriptor, handler)

    def unregister(self, descriptor):
        del self._handlers[descriptor]
        if self.loop is not None:
            self.loop.unregister(descriptor)

    def add(self, part):
        self._parts.append(part)
        if self.loop is not None:
            self.loop.add(part)

    def sooner(self, at):
        if self.loop is not None:
            self.loop.sooner(at)


class LocalSteward:
    """Has the manners of `client.Steward`. The first configuration that it reads is `config`."""

    def __init__(self, config, path=None):
        self.config = config
        self.orders = []
        self._told = deque()
        self._handlers = {}
        self._later = LaterLoop()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._service = Service(
            self._later, self._later.add, self._tell, path or "/nowhere", Handover()
        )
        self._stopped = False
        self.fault = ""
        self.came = None

    @property
    def upkeep(self):
        return self._service._watch._upkeep

    @property
    def warning(self):
        return self.fault

    def deadline(self):
        return float("inf")

    def tick(self, now):
        pass

    def status(self):
        return {"pid": 1, "restarts": 0, "fault": self.fault}

    def on(self, kind, handler):
        self._handlers[kind] = handler

    def send(self, order, replaces=None):
        if self._stopped:
            return
        self.orders.append(order)
        if isinstance(order, orders.ReadConfiguration) and order.number == 0:
            self._service.take_reading(answers.ConfigurationRead(0, self.config))
        else:
            self._service.take(orders.decode(orders.encode(order)))

    def call(self, order, *kinds):
        self.send(order)
        found = []
        before = {kind: self._handlers.get(kind) for kind in kinds}
        for kind in kinds:
            self.on(kind, lambda answer, descriptors, now: found.append((answer, descriptors)))
        self.wait_until(lambda: found, 1.0)
        self._handlers.update(before)
        return found[0]

    def wait_until(self, condition, limit_s):
        while not condition():
            if not self._told:
                raise StewardGone("the steward does not answer")
            self._give(self._later.clock())

    def attach(self, loop, came, went):
        self._later.attach(loop)
        loop.register(self._wake.fileno(), self._ready)
        #: Called when another steward takes over; set once the loop serves this one.
        self.came = came
        self._waker.send(b"x")

    def stop(self):
        self._stopped = True
        self._service.close()
        if self._later.loop is not None:
            self._later.loop.unregister(self._wake.fileno())
        self._wake.close()
        self._waker.close()

    def _tell(self, answer, descriptors):
        self._told.append((answer, list(descriptors)))
        if self._later.loop is not None and not self._stopped:
            self._waker.send(b"x")

    def _ready(self, _events, now):
        self._wake.recv(4096)
        while self._told:
            self._give(now)

    def _give(self, now):
        answer, descriptors = self._told.popleft()
        handler = self._handlers.get(type(answer))
        if handler is not None:
            handler(answer, descriptors, now)


def make_agent(config, path=None):
    """Return an agent whose steward reads `config` first, and the file at `path` from then on."""
    return Engine(LocalSteward(config, path), path or "/nowhere")
