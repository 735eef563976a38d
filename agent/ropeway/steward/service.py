"""The steward's process: takes orders, keeps the host as the engine wishes, and tells what it sees.

It ends when the engine's end of the pipe is closed, and removes what it made.
"""

from __future__ import annotations

import logging
import socket
from typing import Callable, Dict, Optional, Sequence, Type

from ropeway.steward import answers, orders, state, upkeep
from ropeway.steward.alone import wait_for_turn
from ropeway.steward.budgets import Budgets
from ropeway.steward.configuration import Configuration
from ropeway.steward.copies import CopyWatch
from ropeway.steward.failures import StartFailed
from ropeway.steward.firewall_guard import FirewallGuard, remove_left
from ropeway.steward.handover import Handover
from ropeway.steward.leases import Leases
from ropeway.steward.links import open_for_link
from ropeway.steward.loop import Loop, Part, Schedule
from ropeway.steward.names import Names
from ropeway.steward.pipe import Closed, Messages, close_all, send_whole
from ropeway.steward.readings import Readings, Refused
from ropeway.steward.settings import Settings
from ropeway.steward.watch import Watch

log = logging.getLogger("ropeway")

#: Sends an answer with descriptors, which it closes then.
Tell = Callable[[answers.Answer, Sequence[int]], None]


class Service:
    """What the steward does, apart from its process.

    `add` lets a part have deadlines; `tell` sends an answer. In `handover` is what another steward
    has left.
    """

    def __init__(
        self,
        loop: Schedule,
        add: Callable[[Part], None],
        tell: Tell,
        config_path: str,
        handover: Handover,
    ) -> None:
        self._loop = loop
        self._add = add
        self._tell = tell
        self._readings = Readings(handover)
        self._configuration = Configuration(loop, config_path, self.take_reading)
        add(self._configuration)
        self._watch: Optional[Watch] = None
        self._guard: Optional[FirewallGuard] = None
        self._copies: Optional[CopyWatch] = None
        self._names: Optional[Names] = None
        self._mark: Optional[socket.socket] = None
        self._state = state.State()
        self._leases = Leases(self._say)
        # What the engine says that this host has by a lease.
        self._leased_address = ""
        self._budgets = Budgets(lambda: loop.clock(), self._say)
        add(self._budgets)
        #: Whether the engine has asked for the end.
        self.stopping = False
        self._handlers: Dict[Type[orders.Order], Callable[..., None]] = {
            orders.ReadConfiguration: self._configuration.read,
            orders.BeginState: self._begin_state,
            orders.Remember: self._remember,
            orders.SetAddress: self._set_address,
            orders.ReadLeases: lambda _: self._leases.read(self._device_name()),
            orders.WriteLeases: lambda order: self._leases.write(self._device_name(), order),
            orders.CountUse: self._count_use,
            orders.Begin: self._begin,
            orders.Resume: self._resume,
            orders.Change: self._change,
            orders.Wish: self._take_wish,
            orders.Resolve: self._resolve,
            orders.LookSoon: self._look_soon,
            orders.OpenSocket: self._open_socket,
            orders.Ping: lambda _: self._say(answers.Pong()),
            orders.Stop: self._stop,
        }

    def take(self, order: orders.Order) -> None:
        """Carry an order out, or begin to."""
        self._handlers[type(order)](order)

    def take_reading(self, read: answers.ConfigurationRead) -> None:
        """Keep what was read of the configuration, and pass it on to the engine."""
        if read.config is not None:
            try:
                self._readings.note(read.number, read.config)
            except ValueError as error:
                sentence = f"the configuration is too large ({error}): name fewer addresses"
                read = answers.ConfigurationRead(read.number, None, (sentence,))
        self._say(read)

    def close(self) -> None:
        """Remove what was made in the kernel."""
        if self._watch is not None:
            self._watch.close()
        if self._guard is not None:
            self._guard.close()
        if self._copies is not None:
            self._copies.close()
        if self._names is not None:
            self._names.close()
        self._configuration.close()
        self._leases.close()
        # Last of all: whoever waits for it makes the same things.
        if self._mark is not None:
            self._mark.close()

    def _say(self, answer: answers.Answer) -> None:
        self._tell(answer, ())

    def _device_name(self) -> str:
        known = self._readings.known
        if known is None:
            raise orders.Malformed("an order that comes before a reading")
        return known.device_name

    def _begin_state(self, _: orders.BeginState) -> None:
        self._say(state.begin(self._device_name()))

    def _remember(self, order: orders.Remember) -> None:
        self._state.remember(self._device_name(), order)

    def _set_address(self, order: orders.SetAddress) -> None:
        known = self._readings.known
        if known is None:
            raise orders.Malformed("an order that comes before a reading")
        try:
            known.with_address(order.address)
        except ValueError as error:
            raise orders.Malformed(str(error)) from error
        self._leased_address = order.address
        held = self._readings.held
        if self._watch is not None and held is not None:
            self._watch.set_settings(self._with_address(held), self._loop.clock())

    def _with_address(self, settings: Settings) -> Settings:
        """Return settings with the address that this host has by a lease, if it gets one."""
        if not settings.lease_network:
            return settings
        return settings.with_address(self._leased_address)

    def _count_use(self, order: orders.CountUse) -> None:
        known = self._readings.known
        if known is None:
            raise orders.Malformed("an order that comes before a reading")
        self._budgets.take(known.device_name, known.budgets, order)

    def _begin(self, order: orders.Begin) -> None:
        if self._readings.held is not None:
            raise orders.Malformed("a second beginning")
        try:
            settings = self._readings.take_over(order.reading)
        except Refused as refused:
            raise orders.Malformed("a beginning without a reading") from refused
        try:
            self._prepare(settings)
        except StartFailed as failure:
            self._say(answers.Failed(failure.sentence, failure.is_mistake))

    def _prepare(self, settings: Settings) -> None:
        self._mark = wait_for_turn(settings.device_name)
        settings = self._with_address(settings)
        watch = self._watch = Watch(self._loop, settings, self._tell)
        watch.open_device()
        upkeep.remove_left()
        if settings.secure:
            # Whoever has the device owns the table of its name: an agent that was killed may have
            # left that of a classic network.
            remove_left(settings.device_name)
        else:
            try:
                self._guard = FirewallGuard(self._loop, settings.device_name)
                self._guard.put()
            except OSError as error:
                raise StartFailed(str(error)) from error
            self._add(self._guard)
        self._follow(settings, watch)
        watch.announce_device()

    def _resume(self, order: orders.Resume) -> None:
        held = self._readings.held
        if self._watch is not None or held is None:
            raise orders.Malformed("a resumption of nothing")
        settings = self._take_over(order.reading) or held
        self._mark = wait_for_turn(settings.device_name)
        if not settings.secure:
            try:
                self._guard = FirewallGuard(self._loop, settings.device_name)
            except OSError as error:
                log.warning("nftables cannot be watched (%s)", error.strerror or error)
            else:
                self._guard.put_soon(self._loop.clock())
                self._add(self._guard)
        settings = self._with_address(settings)
        self._watch = Watch(self._loop, settings, self._tell)
        self._follow(settings, self._watch)

    def _take_over(self, reading: int) -> Optional[Settings]:
        """Have a reading hold, and return its settings; None if refused, and the engine is told."""
        try:
            return self._readings.take_over(reading)
        except Refused as refused:
            log.warning("%s", refused.sentence)
            self._say(answers.Refused(refused.sentence))
            return None

    def _follow(self, settings: Settings, watch: Watch) -> None:
        self._add(watch)
        if settings.secure:
            self._copies = CopyWatch(self._loop, self._say)
            self._names = Names(self._loop, settings.network, self._say, watch.link_names)
            self._add(self._names)

    def _change(self, order: orders.Change) -> None:
        if self._watch is None:
            return
        settings = self._take_over(order.reading)
        if settings is not None:
            self._watch.set_settings(self._with_address(settings), self._loop.clock())

    def _take_wish(self, order: orders.Wish) -> None:
        if self._watch is None:
            return
        try:
            self._watch.take_wish(order, self._loop.clock())
        except StartFailed as failure:
            self._say(answers.Failed(failure.sentence, failure.is_mistake))

    def _resolve(self, order: orders.Resolve) -> None:
        if self._names is None or self._watch is None:
            return
        named = self._watch.settings.named
        names = tuple(name for name in order.names if name in named)
        urgent = tuple(name for name in order.urgent if name in named)
        self._names.wish(orders.Resolve(names, urgent), self._loop.clock())

    def _look_soon(self, _: orders.LookSoon) -> None:
        if self._watch is not None:
            self._watch.look_soon(self._loop.clock())

    def _open_socket(self, order: orders.OpenSocket) -> None:
        watch = self._watch
        if watch is None or watch.settings.secure != bool(order.address):
            raise orders.Malformed("a socket of the other encapsulation")
        try:
            descriptors = open_for_link(order, watch.links, watch.settings.port)
        except OSError as error:
            reason = error.strerror or str(error)
            self._say(answers.SocketOpened(order.number, error.errno or 0, reason))
        else:
            self._tell(answers.SocketOpened(order.number), descriptors)

    def _stop(self, _: orders.Stop) -> None:
        self.stopping = True


def serve(config_path: str, connection: socket.socket, handover: Handover) -> None:
    """Serve the engine at the other end of `connection` until it is gone or says so.

    In `handover` is what another steward has left, and is left what the next one has to know.
    """
    loop = Loop()
    messages = Messages(connection, orders.BYTES_MAX, descriptors=False)

    def tell(answer: answers.Answer, descriptors: Sequence[int]) -> None:
        try:
            send_whole(connection, answers.encode(answer), descriptors)
        except OSError:
            loop.stop()
        finally:
            close_all(descriptors)

    service = Service(loop, loop.add, tell, config_path, handover)

    def read(_events: int, _now: float) -> None:
        try:
            for message, _ in messages.read():
                service.take(orders.decode(message))
                if service.stopping:
                    break
        except Closed:
            loop.stop()
        except orders.Malformed as error:
            log.error("the engine has sent %s: ending", error)
            loop.stop()
        if service.stopping:
            loop.stop()

    loop.register(connection.fileno(), read)
    try:
        loop.run()
    finally:
        service.close()
        connection.close()
