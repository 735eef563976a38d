"""The running agent: its parts are made, connected, and run until a signal.

Each part has a module of its own and its own state. Parts know the loop and what is handed to them,
never the engine.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any, Dict, List, Optional, Tuple

from ropeway import __version__
from ropeway.app import systemd
from ropeway.app.config.model import SECURE, Config
from ropeway.app.control.client import ControlError
from ropeway.app.control.server import Client, ControlMistake, ControlServer
from ropeway.app.engine import chores, nodes
from ropeway.app.engine.budgets import Budgets
from ropeway.app.engine.callers import Callers
from ropeway.app.engine.commands import Commands
from ropeway.app.engine.copies import CopyGuard
from ropeway.app.engine.device import DEVICE_MTU_MIN, Device, outgoing_intake
from ropeway.app.engine.freshness import Bound
from ropeway.app.engine.interfaces import Interfaces
from ropeway.app.engine.leases import GivenLeases, OwnLease
from ropeway.app.engine.links import Links
from ropeway.app.engine.loop import Loop, Signals
from ropeway.app.engine.names import Names
from ropeway.app.engine.opener import Opener
from ropeway.app.engine.polling import BusyPoll
from ropeway.app.engine.ports import Ports, Receivers
from ropeway.app.engine.pump import Pump, Reports
from ropeway.app.engine.reload import FIRST_READING, LiveConfig, Reload
from ropeway.app.engine.starts import Starts
from ropeway.app.engine.status import Granted, Status
from ropeway.app.engine.wakefulness import Wakefulness
from ropeway.app.errors import ConfigError, StartError
from ropeway.core import events
from ropeway.core.settings import UNASSIGNED
from ropeway.kernel import capabilities, process
from ropeway.kernel.clock import boot_clock
from ropeway.kernel.features import ON
from ropeway.kernel.tun import OpenedDevice, Tun
from ropeway.steward import answers, orders
from ropeway.steward.client import CALL_LIMIT_S, Interrupted, Steward, StewardGone
from ropeway.steward.orders import Silent, Wish

log = logging.getLogger("ropeway")

# Tuning
#: So many silent connections are looked into, a call of the kernel each.
SILENT_MAX = 64
#: The agent is ready without sockets that take longer.
SOCKETS_LIMIT_S = 3.0


class Engine:
    """One agent from its start to its end.

    `steward` is the process that reads the configuration at `path`, and does what may wait or needs
    privileges.
    """

    def __init__(self, steward: Steward, path: str) -> None:
        #: The other process, as this one sees it.
        self.steward = steward
        self._path = path
        config = self._config = read_config(steward)
        bound = Bound(config.max_age_s, boot_clock)
        #: The loop that the agent runs in.
        self.loop = Loop(bound, BusyPoll(len(os.sched_getaffinity(0)), boot_clock()))
        self._started_at = boot_clock()
        self._devices_received = 0
        self._callers: Optional[Callers] = None
        self._copies: Optional[CopyGuard] = None
        self._names: Optional[Names] = None
        self._given_leases: Optional[GivenLeases] = None
        self._own_lease: Optional[OwnLease] = None
        # The rest is made by `run`, each in one place.
        self.made: nodes.Made
        self.pump: Pump
        self.links: Links
        self.budgets: Budgets
        self.interfaces: Interfaces
        self.reload: Reload
        self._live: LiveConfig
        self._commands: Commands
        self._status_line: chores.StatusLine

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        `StartError` where the agent cannot start, `ConfigError` where only another configuration
        would help. Whatever was made in the kernel is removed again on the way out, an error
        included.
        """
        granted = process.serve_promptly()
        try:
            process.forbid_dumps()
        except OSError as error:
            log.warning("a core dump may contain the agent's keys (%s)", error.strerror or error)
        with contextlib.ExitStack() as stack:
            stack.callback(self.loop.close)
            signals = Signals(self.loop, lambda now: self.reload.ask(now))
            stack.callback(signals.close)
            self.steward.has_to_stop = lambda: bool(signals.stopped_by)
            try:
                self._start(stack, granted)
            except StewardGone as error:
                raise StartError(f"{error}: look at what it has logged") from error
            except Interrupted:
                log.info("stopping on %s, before the start was through", signals.stopped_by_name)
                return
            systemd.notify("READY=1")
            log.info("ropeway %s is ready as %s", __version__, self._own_name())
            chores.Garbage.spare_what_there_is()
            self.loop.run(self.pump)
            log.info("stopping on %s", signals.stopped_by_name)
            if self._callers is not None:
                self._callers.remember()
            self.budgets.finish()
            systemd.notify("STOPPING=1")

    def _own_name(self) -> str:
        """Return the virtual address with the network's prefix length, or why there is none."""
        if self.made.secure is None:
            return self._config.device_address
        address = self.made.secure.settings.address
        if address == UNASSIGNED:
            return f"a host that asks {self._config.routers[0]} for its address"
        return "{}/{}".format(address, self._config.network.split("/")[1])

    # --- start

    def _start(self, stack: contextlib.ExitStack, granted: Granted) -> None:
        # First of all, because it refuses where another agent runs already.
        control = self._open_control(stack)
        stack.callback(self.steward.stop)
        try:
            capabilities.drop_all()
        except OSError as error:
            log.warning("the engine keeps capabilities (%s)", error.strerror or error)
        self.reload = Reload(
            self.loop,
            self.steward,
            lambda config, reading, now: self._live.apply(config, reading, now),
        )
        stack.callback(self.reload.close)
        self.made = self._make_node()
        self.made.node.set_max_age(self.loop.bound.max_age_s)
        self._start_packets(stack)
        self._start_secure(stack)
        self._follow_interfaces()
        self._start_status(granted)
        for part in (
            self.reload,
            control,
            self.pump.wakefulness,
            chores.Garbage(self._started_at, self.pump.is_idle),
        ):
            self.loop.add(part)
        self._look_first()

    def _open_control(self, stack: contextlib.ExitStack) -> ControlServer:
        wanted = self._config.control
        try:
            control = ControlServer(
                wanted.path, wanted.owner, wanted.group, wanted.mode, self.loop, self._answer
            )
        except ControlMistake as error:
            raise ConfigError([str(error)]) from error
        except ControlError as error:
            raise StartError(str(error)) from error
        stack.callback(control.close)
        return control

    def _make_node(self) -> nodes.Made:
        config = self._config
        if config.encapsulation != SECURE:
            return nodes.make_classic(config, self._started_at)
        begun, _ = self.steward.call(orders.BeginState(), answers.StateBegun)
        starts = Starts(begun.epoch, begun.reset_keys, self._remember_start)
        made = nodes.make_secure(config, self._started_at, starts)
        assert made.secure is not None
        made.secure.recall(begun.callers, self._started_at)
        if made.secure.lease_client is not None:
            self._own_lease = OwnLease(made.secure, self.steward)
            if begun.lease is not None:
                self._own_lease.recall(begun.lease, self._started_at)
        return made

    def _start_packets(self, stack: contextlib.ExitStack) -> None:
        """Have the device made, and make the path of packets between it and the links."""
        config, loop, made, steward = self._config, self.loop, self.made, self.steward
        ports = Ports(loop, made.incoming())
        opened, descriptors = self._call(orders.Begin(FIRST_READING), answers.DeviceOpened)
        tun = Tun(config.device_name, OpenedDevice(tuple(descriptors), opened.features))
        headers = made.secure is not None and tun.features["vnet_hdr"] == ON
        outgoing = outgoing_intake(made.node, headers)
        device = Device(config.device_name, loop, outgoing, self._look_soon)
        wakefulness = Wakefulness(config.cpu_latency_us, loop.sooner)
        stack.callback(wakefulness.close)
        reports = Reports(
            self._receive_failed, self._stood_still, self._status_soon, self._wish_changed
        )
        self.pump = Pump(made.node, made.take_frames, ports, device, loop, wakefulness, reports)
        stack.callback(device.detach)
        try:
            device.attach(tun, opened.index)
        except OSError as error:
            raise StartError(f"the device {config.device_name} cannot be read: {error}") from error
        self._devices_received = 1
        if made.secure is not None and headers:
            made.secure.take_partial()
        opener = Opener(config, nodes.socket_features(config), steward)
        self.links = Links(
            loop,
            opener,
            made.node,
            ports,
            self.pump.receive,
            self._look_soon,
            self._status_soon,
            lambda name: self.budgets.purpose(name),
        )
        stack.callback(self.links.close)
        self.budgets = Budgets(loop, steward, ports, config, self.links.purposes_changed)

    def _call(self, order: orders.Order, kind: Any) -> Tuple[Any, List[int]]:
        """Give an order of the start; `StartError` or `ConfigError` where it fails."""
        answer, descriptors = self.steward.call(order, kind, answers.Failed)
        if isinstance(answer, answers.Failed):
            if answer.is_mistake:
                raise ConfigError([answer.sentence])
            raise StartError(answer.sentence)
        return answer, descriptors

    def _start_secure(self, stack: contextlib.ExitStack) -> None:
        """Start what only a secure network needs."""
        made, loop = self.made, self.loop
        if made.secure is None or made.starts is None:
            return
        self._copies = CopyGuard(loop, made.secure, made.starts)
        stack.callback(self._copies.close)
        loop.add(self._copies)
        loop.add(chores.EpochFollower(self._started_at, made.secure, made.starts))
        self._callers = Callers(self._started_at, made.secure.callers, self._remember_callers)
        loop.add(self._callers)
        self._given_leases = GivenLeases(made.secure, self.steward, loop.sooner)
        loop.add(self._given_leases)
        self._given_leases.look()

    def _follow_interfaces(self) -> None:
        config, loop, steward = self._config, self.loop, self.steward
        steward.on(answers.DeviceOpened, self._device_opened)
        steward.on(answers.DeviceConfigured, self._device_configured)
        steward.on(answers.MachineCopied, self._machine_copied)
        self.interfaces = Interfaces(loop, steward, self._wish, self._links_changed)
        if self._own_lease is not None:
            self._own_lease.mtu_changed = self.interfaces.wish_changed
        loop.add(self.interfaces)
        loop.add(self.budgets)
        loop.add(self.links)
        self._resolve_names()
        self._live = LiveConfig(
            config,
            self.made,
            loop.bound,
            self.pump.wakefulness,
            steward,
            self._names,
            self.budgets,
        )

    def _resolve_names(self) -> None:
        """Have the names of peers resolved, which only a secure network may have."""
        if self.made.secure is None:
            return
        names = Names(self.made.secure, self._config.peers, self._order_names, self._wish_changed)
        self.steward.on(answers.Resolved, lambda resolved, _with, now: names.take(resolved, now))
        self.loop.add(names)
        self._names = names

    def _order_names(self, order: orders.Resolve) -> None:
        self.steward.send(order, replaces=orders.Resolve)

    def _start_status(self, granted: Granted) -> None:
        config, loop, made, pump = self._config, self.loop, self.made, self.pump
        disabled = config.offload_disable if made.secure is not None else None
        status = Status(
            made.node,
            pump,
            self.links,
            self.interfaces,
            self.steward,
            self._names,
            self.budgets,
            granted,
            disabled,
            self._started_at,
            self._given_leases,
        )
        self._commands = Commands(
            made,
            self._path,
            status.whole,
            self.reload,
            self.budgets,
            self._wish_changed,
            loop.clock,
        )
        self._status_line = chores.StatusLine(loop, status.line, lambda: made.node.watch.carrying)
        loop.add(self._status_line)
        loop.add(chores.Watchdog(self._started_at))
        loop.add(self.steward)

    def _look_first(self) -> None:
        """Have the device configured and the links' sockets opened, before anybody is told."""
        failures: List[answers.Failed] = []
        self.steward.on(answers.Failed, lambda failed, _with, _now: failures.append(failed))
        self.interfaces.begin()
        if self._names is not None:
            self._names.begin()
        self.steward.wait_until(lambda: bool(self.pump.device.mtu or failures), CALL_LIMIT_S)
        if failures:
            failed = failures[0]
            raise (
                ConfigError([failed.sentence]) if failed.is_mistake else StartError(failed.sentence)
            )
        with contextlib.suppress(StewardGone):
            self.steward.wait_until(lambda: not self.links.sockets_wait, SOCKETS_LIMIT_S)
        self.links.tick(self.loop.clock())
        self.steward.attach(self.loop, self._steward_came, self._status_soon)

    # --- what parts report to each other

    def _answer(self, request: Dict[str, Any], client: Client) -> Any:
        return self._commands.answer(request, client)

    def _links_changed(self, snapshot: answers.Snapshot, now: float) -> None:
        # What is left of budgets is asked for before sockets are, and known before they come.
        self.budgets.follow(snapshot, now)
        self.links.follow(snapshot, now)

    def _wish(self) -> Wish:
        node, secure, device = self.made.node, self.made.secure, self.pump.device
        return Wish(
            device_index=device.index,
            devices_received=self._devices_received,
            device_mtu=max(node.device_mtu, DEVICE_MTU_MIN),
            snapshot=self.interfaces.snapshot.number,
            far=tuple(node.called()[: orders.FAR_MAX]),
            receiving=self.links.receiving(),
            unheard=self.links.unheard(),
            silent=self._silent(),
            routes=() if secure is None else secure.routes()[: orders.ROUTES_MAX],
        )

    def _silent(self) -> Tuple[Silent, ...]:
        if self.made.secure is None:
            return ()
        names = {link.index: link.name for link in self.interfaces.snapshot.links}
        return tuple(
            Silent(index, names[index], source, address)
            for index, source, address in self.made.secure.silent(SILENT_MAX)
            if index in names
        )

    def _steward_came(self, now: float) -> None:
        """Tell another steward what the one that has ended was told."""
        self._devices_received = 0
        if self._own_lease is not None:
            self._own_lease.start_again()
        self.steward.send(orders.Resume(self._live.reading))
        self.interfaces.begin()
        if self._names is not None:
            self._names.begin()
        self.budgets.start_again(now)
        self.links.start_again(now)
        self.reload.start_again()
        if self.made.starts is not None:
            self._remember_start(self.made.starts.epoch, self.made.starts.reset_keys)
        if self._callers is not None:
            self._callers.remember_again()
        if self._given_leases is not None:
            self._given_leases.start_again()
        self._status_soon(now)

    def _remember_start(self, epoch: int, reset_keys: Tuple[bytes, ...]) -> None:
        keys = tuple(key.hex() for key in reset_keys)
        self.steward.send(orders.Remember(epoch=epoch, reset_keys=keys), replaces="start")

    def _remember_callers(self, callers: Any) -> None:
        self.steward.send(orders.Remember(callers=callers), replaces="callers")

    def _device_opened(
        self, opened: answers.DeviceOpened, descriptors: List[int], now: float
    ) -> None:
        """Take over a device that had to be made again."""
        self._devices_received += 1
        tun = Tun(self._config.device_name, OpenedDevice(tuple(descriptors), opened.features))
        try:
            self.pump.device.attach(tun, opened.index)
        except OSError as error:
            log.warning("the device %s cannot be read: %s", self._config.device_name, error)
        self.interfaces.tell(now)

    def _device_configured(
        self, configured: answers.DeviceConfigured, _descriptors: List[int], now: float
    ) -> None:
        # Another steward tells it again.
        if configured.mtu != self.pump.device.mtu:
            self.pump.device.mtu = configured.mtu
            self.made.node.note(events.DeviceMtuSet(self._config.device_name, configured.mtu), now)

    def _machine_copied(
        self, _copied: answers.MachineCopied, _descriptors: List[int], now: float
    ) -> None:
        if self._copies is not None:
            self._copies.announced(now)

    def _receive_failed(self, receiver: Receivers, error: OSError, now: float) -> None:
        self.links.receive_failed(receiver, error, now)

    def _look_soon(self, now: float) -> None:
        self.interfaces.look_soon(now)
        self.interfaces.wish_changed(now)

    def _wish_changed(self, now: float) -> None:
        self.interfaces.wish_changed(now)

    def _status_soon(self, now: float) -> None:
        self._status_line.soon(now)

    def _stood_still(self, now: float) -> None:
        if self._copies is not None:
            self._copies.catch_up(now)


def read_config(steward: Steward) -> Config:
    """Return the configuration as the steward reads it; `ConfigError` says what is wrong."""
    try:
        read, _ = steward.call(orders.ReadConfiguration(FIRST_READING), answers.ConfigurationRead)
    except StewardGone as error:
        raise StartError(f"{error}: look at what it has logged") from error
    if read.config is None:
        raise ConfigError(list(read.errors))
    return read.config  # type: ignore[no-any-return]
