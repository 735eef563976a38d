"""The running agent: its parts are made, connected, and run until a signal.

Each part has a module of its own and its own state. Parts know the loop and what is handed to them,
never the engine.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from typing import Any, Dict, Optional

from ropeway import __version__
from ropeway.app import systemd
from ropeway.app.config.model import Config
from ropeway.app.control.client import ControlError
from ropeway.app.control.server import Client, ControlMistake, ControlServer
from ropeway.app.engine import chores, firewall_guard, no_device, nodes, upkeep
from ropeway.app.engine.commands import Commands
from ropeway.app.engine.continuity import boot_clock
from ropeway.app.engine.copies import CopyGuard
from ropeway.app.engine.device import DEVICE_MTU_MIN, Device, outgoing_intake
from ropeway.app.engine.freshness import Bound
from ropeway.app.engine.interfaces import Interfaces, Wish
from ropeway.app.engine.links import Links, Opener
from ropeway.app.engine.loop import Loop, Signals
from ropeway.app.engine.polling import BusyPoll
from ropeway.app.engine.ports import Ports, Receivers
from ropeway.app.engine.pump import Pump, Reports
from ropeway.app.engine.reload import LiveConfig, Reload
from ropeway.app.engine.status import Granted, Status
from ropeway.app.engine.wakefulness import Wakefulness
from ropeway.app.errors import ConfigError, StartError
from ropeway.app.store.callers import Callers
from ropeway.core import events
from ropeway.kernel import process
from ropeway.kernel.features import ON

log = logging.getLogger("ropeway")


class Engine:
    """One agent from its start to its end.

    `path` is where `config` was read from, and is read again when the agent is told to.
    """

    def __init__(self, config: Config, path: Optional[str] = None) -> None:
        self._config = config
        self._path = path
        bound = Bound(config.max_age_s, boot_clock)
        #: The loop that the agent runs in.
        self.loop = Loop(bound, BusyPoll(len(os.sched_getaffinity(0)), boot_clock()))
        self._started_at = boot_clock()
        self._callers: Optional[Callers] = None
        self._copies: Optional[CopyGuard] = None
        # The rest is made by `run`, each in one place.
        self.made: nodes.Made
        self.pump: Pump
        self.links: Links
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
            signals = Signals(self.loop, lambda now: self.reload.ask_by_signal(now))
            stack.callback(signals.close)
            self._start(stack, granted)
            systemd.notify("READY=1")
            log.info("ropeway %s is ready as %s", __version__, self._config.device_address)
            chores.Garbage.spare_what_there_is()
            self.loop.run(self.pump)
            log.info("stopping on %s", signal.Signals(signals.stopped_by).name)
            if self._callers is not None:
                self._callers.remember()
            systemd.notify("STOPPING=1")

    # --- start

    def _start(self, stack: contextlib.ExitStack, granted: Granted) -> None:
        # First of all, because it refuses where another agent runs already.
        control = self._open_control(stack)
        self.reload = Reload(
            self.loop, self._path, lambda config, now: self._live.apply(config, now)
        )
        stack.callback(self.reload.close)
        self.made = nodes.make(self._config, self._started_at)
        self.made.node.set_max_age(self.loop.bound.max_age_s)
        self._start_packets(stack)
        self._guard(stack)
        self._follow_interfaces(stack)
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

    def _start_packets(self, stack: contextlib.ExitStack) -> None:
        """Open the device, and make the path of packets between it and the links."""
        config, loop, made = self._config, self.loop, self.made
        ports = Ports(loop, made.incoming())
        try:
            tun, index = upkeep.open_device(config.device_name, nodes.device_features(config))
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
            device.attach(tun, index)
        except OSError as error:
            sentence = no_device.why(config.device_name, error)
            if error.errno == errno.EINVAL:
                raise ConfigError([sentence]) from error
            raise StartError(sentence) from error
        if made.secure is not None and headers:
            made.secure.take_partial()
        opener = Opener(config, nodes.socket_features(config))
        self.links = Links(
            opener, made.node, ports, self.pump.receive, self._look_soon, self._status_soon
        )
        stack.callback(self.links.close)

    def _guard(self, stack: contextlib.ExitStack) -> None:
        """Guard what an encapsulation needs guarded, and remove what others left."""
        config, loop, made = self._config, self.loop, self.made
        upkeep.remove_left()
        if made.secure is None or made.starts is None:
            guard = self._guard_firewall()
            stack.callback(guard.close)
            loop.add(guard)
            return
        # Whoever has the device owns the table of its name: an agent that was killed may have left
        # that of a classic network.
        firewall_guard.remove_left(config.device_name)
        self._copies = CopyGuard(loop, made.secure, made.starts)
        stack.callback(self._copies.close)
        loop.add(self._copies)
        loop.add(chores.EpochFollower(self._started_at, made.secure, made.starts))
        self._callers = Callers(config.device_name, self._started_at, made.secure.callers)
        loop.add(self._callers)

    def _guard_firewall(self) -> firewall_guard.FirewallGuard:
        try:
            return firewall_guard.FirewallGuard(self.loop, self._config.device_name)
        except OSError as error:
            raise StartError(str(error)) from error

    def _follow_interfaces(self, stack: contextlib.ExitStack) -> None:
        config, loop = self._config, self.loop
        keeper = upkeep.Upkeep(
            config,
            nodes.device_features(config),
            self.pump.device.attach,
            self._device_configured,
            lambda at: self.interfaces.look_by(at),
        )
        self.interfaces = Interfaces(loop, config, keeper, self._wish, self.links.follow)
        stack.callback(self.interfaces.close)
        loop.add(self.interfaces)
        loop.add(self.links)
        self._live = LiveConfig(
            config, self.made, loop.bound, self.pump.wakefulness, self.interfaces
        )

    def _start_status(self, granted: Granted) -> None:
        config, loop, made, pump = self._config, self.loop, self.made, self.pump
        disabled = config.offload_disable if made.secure is not None else None
        status = Status(
            made.node, pump, self.links, self.interfaces, granted, disabled, self._started_at
        )
        self._commands = Commands(
            made,
            config.port,
            self._path,
            status.whole,
            self.reload,
            self._wish_changed,
            loop.clock,
        )
        self._status_line = chores.StatusLine(loop, status.line, lambda: made.node.watch.carrying)
        loop.add(self._status_line)
        loop.add(chores.Watchdog(self._started_at))

    def _look_first(self) -> None:
        try:
            self.interfaces.start()
        except OSError as error:
            raise StartError(
                f"the device {self._config.device_name} cannot be set up"
                f" ({error.strerror or error}): give the agent CAP_NET_ADMIN"
            ) from error

    # --- what parts report to each other

    def _answer(self, request: Dict[str, Any], client: Client) -> Any:
        return self._commands.answer(request, client)

    def _wish(self) -> Wish:
        node, device = self.made.node, self.pump.device
        return Wish(
            device_index=device.index,
            device_mtu=max(node.device_mtu, DEVICE_MTU_MIN),
            far=node.called(),
            receiving=self.links.receiving(),
            unheard=self.links.unheard(),
        )

    def _device_configured(self, mtu: int, now: float) -> None:
        self.pump.device.mtu = mtu
        self.made.node.note(events.DeviceMtuSet(self._config.device_name, mtu), now)

    def _receive_failed(self, receiver: Receivers, error: OSError, now: float) -> None:
        self.links.receive_failed(receiver, error, now)

    def _look_soon(self, now: float) -> None:
        self.interfaces.look_soon(now)

    def _wish_changed(self, now: float) -> None:
        self.interfaces.wish_changed(now)

    def _status_soon(self, now: float) -> None:
        self._status_line.soon(now)

    def _stood_still(self, now: float) -> None:
        if self._copies is not None:
            self._copies.catch_up(now)
