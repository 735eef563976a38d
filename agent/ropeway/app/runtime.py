"""The running agent: the only loop and the only clock.

One turn of the loop, in the order of the code:

1. wait until a descriptor is ready or something is due;
2. packets from the TUN device, and datagrams from each link, go to the node in batches;
3. signals, netlink hints and the control socket are served;
4. the node ticks if it is due;
5. what the node wants sent, delivered and logged is sent, delivered and logged;
6. what is due besides: a dump of the interfaces, the watchdog, idle control clients.

Nothing here decides about the protocol; the node does.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import gc
import logging
import random
import select
import signal
import socket
import time
from typing import Any, Dict, Iterable, List, Optional, Sequence

from ropeway import __version__
from ropeway.app import systemd
from ropeway.app.cleanup import DEVICE_ALIAS
from ropeway.app.config import Config, ConfigError
from ropeway.app.control import ControlError, ControlServer
from ropeway.core.classic_node import ClassicNode
from ropeway.core.handshake import State
from ropeway.core.link import Link
from ropeway.core.node import Settings
from ropeway.kernel import firewall, netlink
from ropeway.kernel.netlink import Change
from ropeway.kernel.sockets import LinkSockets
from ropeway.kernel.tun import Tun

log = logging.getLogger("ropeway")

# Tuning
BATCH_PACKETS = 64
"""Packets taken from one descriptor in one turn, so that no other waits long."""
DUMP_EVERY_S = 30.0
"""Netlink may lose an event; a dump this often finds it."""
DUMP_GAP_S = 0.05
"""A burst of netlink events costs one dump in this time ..."""
DUMP_SHARE = 10
"""... and dumps never take more than one part in this of the time."""
RETRY_S = 1.0
"""Pause before the device or a link's sockets are tried again."""
FIREWALL_TIMEOUT_S = 3.0
"""Nothing else runs while nft does, and the watchdog has to be fed."""
STATUS_EVERY_S = 1.0
"""The line in `systemctl status` changes no more often."""
GC_THRESHOLDS = (20000, 20, 20)

# RFC 791, section 3.2: every network carries 68 bytes; Linux gives no IPv4 to a smaller device.
DEVICE_MTU_MIN = 68


class StartError(Exception):
    """The agent cannot start; the text is a sentence that says what to do."""


def taking_part(
    interfaces: Iterable[netlink.Interface],
    include: Sequence[str],
    exclude: Sequence[str],
    device_name: str,
    device_index: int,
) -> List[Link]:
    """Select the interfaces that take part and make them links.

    The patterns choose by name, exclusion wins, and the loopback and the agent's own device never
    take part. Nor does what no packet can use: an interface without an IPv4 address, unless it is
    an Ethernet interface that is set up, stands alone, and may get its address any moment.
    """
    return [
        Link(
            index=interface.index,
            name=interface.name,
            addresses=interface.addresses,
            mtu=interface.mtu,
            up=interface.up,
            routes=interface.routes,
        )
        for interface in interfaces
        if not interface.loopback
        and device_name != interface.name
        and device_index != interface.index
        and _matches(interface.name, include)
        and not _matches(interface.name, exclude)
        and (
            interface.addresses
            or (interface.ethernet and interface.admin_up and not interface.enslaved)
        )
    ]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Runtime:
    """One agent from its start to its end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = firewall.table_of(config.device_name)
        self._epoll = select.epoll()
        self._tun: Optional[Tun] = None
        self._tun_fd = -1
        self._device_index = 0
        self._device_mtu = 0
        self._write_errors: Dict[str, int] = {}
        self._sockets: Dict[int, LinkSockets] = {}
        self._sockets_by_fd: Dict[int, LinkSockets] = {}
        self._unusable: Dict[int, str] = {}
        self._stop_signal = 0
        self._started_at = time.monotonic()
        self._interfaces: Sequence[netlink.Interface] = ()
        self._dump_due = self._started_at
        self._routes_due = float("inf")
        self._dump_gap_s = DUMP_GAP_S
        self._dumped_at = float("-inf")
        self._repair_at = float("-inf")
        self._status_due = float("inf")
        self._told_at = float("-inf")
        self._firewall_due = float("inf")
        self._firewall_at = float("-inf")
        limit_s = systemd.watchdog_s()
        # sd_watchdog_enabled(3) recommends half of the limit; a third leaves room for a slow turn.
        self._watchdog_every_s = limit_s / 3 if limit_s else float("inf")
        self._watchdog_due = self._started_at if limit_s else float("inf")
        self._node = ClassicNode(
            Settings(
                address=config.address,
                network=config.network,
                router=config.router,
                forward=config.forward,
                device_mtu=config.device_mtu,
            ),
            self._started_at,
            random.Random(),  # noqa: S311 - spreads greetings in time, keeps no secret
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        `StartError` where the agent cannot start, `ConfigError` where only another configuration
        would help. Whatever was made in the kernel is removed again on the way out, an error
        included.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._epoll.close)
            wake = self._catch_signals(stack)
            self._start(stack)
            systemd.notify("READY=1")
            log.info("ropeway %s is ready as %s", __version__, self._config.device_address)
            # What start-up made stays for good: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            self._loop(wake)
            log.info("stopping on %s", signal.Signals(self._stop_signal).name)
            systemd.notify("STOPPING=1")

    # --- start

    def _catch_signals(self, stack: contextlib.ExitStack) -> socket.socket:
        """Let SIGTERM and SIGINT wake the loop; return the socket that it wakes on."""
        wake, waker = socket.socketpair()
        stack.callback(wake.close)
        stack.callback(waker.close)
        wake.setblocking(False)
        waker.setblocking(False)
        stack.callback(
            signal.set_wakeup_fd,
            signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, self._note_signal))
        self._epoll.register(wake.fileno(), select.EPOLLIN)
        return wake

    def _note_signal(self, number: int, _frame: Any) -> None:
        self._stop_signal = number

    def _start(self, stack: contextlib.ExitStack) -> None:
        config = self._config
        try:
            # First of all, because it refuses where another agent runs already.
            self._control = ControlServer(
                config.control.path,
                config.control.owner,
                config.control.group,
                config.control.mode,
                self._epoll,
                self._answer,
            )
        except ControlError as error:
            raise StartError(str(error)) from error
        stack.callback(self._control.close)
        log.warning(
            "encapsulation classic: packets are neither authenticated nor encrypted; who can"
            " send on a link can read, forge and redirect the traffic of %s:"
            " use it on trusted LANs only",
            config.network,
        )
        try:
            firewall.replace(self._table)
        except OSError as error:
            raise StartError(str(error)) from error
        stack.callback(_remove_firewall, self._table)
        self._firewall = firewall.Watch(self._table)
        stack.callback(self._firewall.close)
        self._epoll.register(self._firewall.fileno(), select.EPOLLIN)
        stack.callback(self._close_links)
        stack.callback(self._close_device)
        try:
            self._open_device()
        except OSError as error:
            raise StartError(_why_no_device(config.device_name, error)) from error
        self._hints = netlink.Hints()
        stack.callback(self._hints.close)
        self._epoll.register(self._hints.fileno(), select.EPOLLIN)
        now = time.monotonic()
        for remote in config.remotes:
            try:
                self._node.add_remote(remote.host, remote.address, remote.index, now)
            except ValueError as error:
                raise ConfigError([f"remotes: {error}"]) from error
        try:
            self._look(now, starting=True)
        except OSError as error:
            raise StartError(
                f"the device {config.device_name} cannot be set up ({error.strerror or error}):"
                " give the agent CAP_NET_ADMIN"
            ) from error

    # --- the loop

    def _loop(self, wake: socket.socket) -> None:
        clock, poll, node = time.monotonic, self._epoll.poll, self._node
        sockets_by_fd = self._sockets_by_fd
        control, wake_fd = self._control, wake.fileno()
        hints_fd, firewall_fd = self._hints.fileno(), self._firewall.fileno()
        while not self._stop_signal:
            due = min(node.deadline(), self._due())
            ready = poll(max(0.0, due - clock()))
            now = clock()
            for descriptor, occasions in ready:
                link = sockets_by_fd.get(descriptor)
                if link is not None:
                    try:
                        datagrams = link.receive_batch(BATCH_PACKETS)
                    except OSError as error:
                        self._receive_failed(link, error, now)
                        continue
                    if datagrams:
                        node.inbound(datagrams, link.index, now)
                elif descriptor == self._tun_fd:
                    self._read_device(now)
                elif descriptor == hints_fd:
                    self._look_soon(now, self._hints.drain())
                elif descriptor == firewall_fd:
                    if self._firewall.lost():
                        self._firewall_due = max(now, self._firewall_at + RETRY_S)
                elif descriptor == wake_fd:
                    wake.recv(64)
                elif control.owns(descriptor):
                    control.handle(descriptor, occasions, now)
            if now >= node.deadline():
                node.tick(now)
            self._flush()
            if now >= self._due():
                self._keep_house(now)

    def _due(self) -> float:
        return min(
            self._dump_due,
            self._routes_due,
            self._watchdog_due,
            self._firewall_due,
            self._status_due,
            self._control.deadline(),
        )

    def _read_device(self, now: float) -> None:
        assert self._tun is not None
        try:
            packets = self._tun.read_batch(BATCH_PACKETS)
        except OSError as error:
            log.warning(
                "device %s is gone (%s): making it again",
                self._config.device_name,
                errno.errorcode.get(error.errno or 0, error),
            )
            self._close_device()
            self._look_soon(now)
            return
        if packets:
            self._node.outbound(packets, now)

    def _flush(self) -> None:
        """Carry out what the node has decided."""
        node, sockets = self._node, self._sockets
        for (index, address), datagrams in node.take_datagrams().items():
            link = sockets.get(index)
            if link is None:
                node.send_failed(index, "ENODEV", len(datagrams))
                continue
            refused = link.send_batch(address, datagrams)
            if refused:
                for reason, count in refused.items():
                    node.send_failed(index, reason, count)
        packets = node.take_packets()
        if packets:
            refused = self._tun.write_batch(packets) if self._tun else {"ENODEV": len(packets)}
            for reason, count in refused.items():
                self._write_errors[reason] = self._write_errors.get(reason, 0) + count
        events = node.take_events()
        if events:
            for event in events:
                log.info("%s", event)
            self._status_due = min(self._status_due, self._told_at + STATUS_EVERY_S)

    def _keep_house(self, now: float) -> None:
        if now >= self._dump_due:
            self._look(now)
            self._flush()
        elif now >= self._routes_due:
            self._look_at_routes(now)
            self._flush()
        if now >= self._firewall_due:
            self._restore_firewall(now)
        if now >= self._status_due:
            self._status_due = float("inf")
            self._told_at = now
            systemd.notify("STATUS=" + summary(self._node.status(now)))
        if now >= self._watchdog_due:
            self._watchdog_due = now + self._watchdog_every_s
            systemd.notify("WATCHDOG=1")
        self._control.expire(now)

    def _restore_firewall(self, now: float) -> None:
        self._status_due = float("inf")
        self._told_at = float("-inf")
        self._firewall_due = float("inf")
        self._firewall_at = now
        log.warning("the nft table %s was taken away: putting it back", self._table)
        try:
            firewall.replace(self._table, FIREWALL_TIMEOUT_S)
        except OSError as error:
            log.warning("%s: trying again", error)
            self._firewall_due = now + RETRY_S

    # --- links and the device follow what the kernel says

    def _look_soon(self, now: float, change: Change = Change.INTERFACES) -> None:
        """Dump at once, or as soon as the gap after the last dump allows."""
        due = max(now, self._dumped_at + self._dump_gap_s)
        if change is Change.INTERFACES:
            self._dump_due = min(self._dump_due, due)
        elif change is Change.ROUTES:
            self._routes_due = min(self._routes_due, due)

    def _look(self, now: float, starting: bool = False) -> None:
        """Dump the interfaces and bring sockets, node and device in line with them."""
        self._dump_due = now + DUMP_EVERY_S
        self._routes_due = float("inf")
        try:
            interfaces = netlink.dump()
        except OSError as error:
            if starting:
                raise
            log.warning("the network interfaces cannot be listed (%s)", error.strerror or error)
            self._dump_due = now + RETRY_S
            return
        self._note_dump(interfaces, now)
        links = self._taking_part()
        self._follow(links, now)
        self._set_links(links, now)
        self._tend_device(interfaces, now, starting)
        if starting and not links:
            log.warning(
                "no interface takes part yet: look at interfaces.include and interfaces.exclude"
            )

    def _look_at_routes(self, now: float) -> None:
        """Dump the routes alone, because nothing else has changed."""
        self._routes_due = float("inf")
        try:
            interfaces = netlink.dump_routes(self._interfaces)
        except OSError as error:
            log.warning("the routes cannot be listed (%s)", error.strerror or error)
            self._dump_due = min(self._dump_due, now + RETRY_S)
            return
        self._note_dump(interfaces, now)
        self._set_links(self._taking_part(), now)

    def _note_dump(self, interfaces: Sequence[netlink.Interface], began_at: float) -> None:
        self._interfaces = interfaces
        self._dumped_at = time.monotonic()
        self._dump_gap_s = max(DUMP_GAP_S, DUMP_SHARE * (self._dumped_at - began_at))

    def _taking_part(self) -> List[Link]:
        config = self._config
        return taking_part(
            self._interfaces, config.include, config.exclude, config.device_name, self._device_index
        )

    def _set_links(self, links: Sequence[Link], now: float) -> None:
        self._node.set_links([link for link in links if link.index in self._sockets], now)

    def _follow(self, links: Sequence[Link], now: float) -> None:
        """Hold a pair of sockets for each link, and none besides."""
        present = {link.index for link in links}
        for index in [index for index in self._sockets if index not in present]:
            self._close_link(index)
        for index in [index for index in self._unusable if index not in present]:
            del self._unusable[index]
        for link in links:
            sockets = self._sockets.get(link.index)
            if sockets is not None:
                if sockets.is_bound():
                    continue
                # It went away and came back under its index while nobody looked.
                self._close_link(link.index)
            try:
                opened = LinkSockets(link.index, link.name)
            except OSError as error:
                reason = error.strerror or str(error)
                if self._unusable.get(link.index) != reason:
                    log.warning("%s(%s) cannot be used: %s", link.name, link.index, reason)
                self._unusable[link.index] = reason
                self._dump_due = min(self._dump_due, now + RETRY_S)
                continue
            self._unusable.pop(link.index, None)
            self._sockets[link.index] = opened
            self._sockets_by_fd[opened.fileno()] = opened
            self._epoll.register(opened.fileno(), select.EPOLLIN)

    def _receive_failed(self, link: LinkSockets, error: OSError, now: float) -> None:
        if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
            # Unforeseen, so begin anew with fresh sockets rather than turn in circles.
            log.warning("receiving on %s failed: %s", link.name, error.strerror or error)
            self._close_link(link.index)
        self._look_soon(now)

    def _tend_device(
        self, interfaces: Sequence[netlink.Interface], now: float, starting: bool
    ) -> None:
        """Put back whatever of the device is not as it has to be."""
        config = self._config
        mtu = max(self._node.device_mtu, DEVICE_MTU_MIN)
        device = next((i for i in interfaces if i.index == self._device_index), None)
        faults = []
        if self._tun is None or device is None or device.name != config.device_name:
            faults.append("it is gone")
        else:
            if not device.admin_up:
                faults.append("it is down")
            if config.device_address not in device.addresses:
                faults.append("it lacks its address")
            if device.mtu != mtu:
                faults.append(f"its MTU is {device.mtu}, not {mtu}")
        if not faults:
            return
        expected = starting or (mtu != self._device_mtu and len(faults) == 1)
        if not expected:
            if now < self._repair_at:
                self._dump_due = min(self._dump_due, self._repair_at)
                return
            self._repair_at = now + RETRY_S
            log.warning("repairing device %s: %s", config.device_name, ", ".join(faults))
        try:
            if faults[0] == "it is gone":
                self._open_device()
            netlink.configure(self._device_index, config.device_address, mtu, DEVICE_ALIAS)
        except OSError as error:
            if starting:
                raise
            log.warning(
                "device %s cannot be repaired (%s): trying again",
                config.device_name,
                error.strerror or error,
            )
            self._dump_due = min(self._dump_due, now + RETRY_S)
            return
        self._device_mtu = mtu
        log.info("device %s has MTU %s", config.device_name, mtu)

    def _open_device(self) -> None:
        self._close_device()
        self._tun = Tun(self._config.device_name)
        self._tun_fd = self._tun.fileno()
        self._epoll.register(self._tun_fd, select.EPOLLIN)
        self._device_index = socket.if_nametoindex(self._config.device_name)

    def _close_device(self) -> None:
        if self._tun is not None:
            self._epoll.unregister(self._tun_fd)
            self._tun.close()
            self._tun = None
            self._tun_fd = -1
            self._device_index = 0

    def _close_link(self, index: int) -> None:
        link = self._sockets.pop(index)
        del self._sockets_by_fd[link.fileno()]
        self._epoll.unregister(link.fileno())
        link.close()

    def _close_links(self) -> None:
        for index in list(self._sockets):
            self._close_link(index)

    # --- the control socket

    def _answer(self, request: Dict[str, Any]) -> Any:
        """Answer one request; `ValueError` with a sentence where it cannot be met."""
        command = request["command"]
        now = time.monotonic()
        if command == "status":
            return self._status(now)
        if command == "remote-add":
            host, address = _text(request, "host"), _text(request, "address")
            index = request.get("index", 0)
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 1 << 31:
                raise ValueError("index is a number from 0 to 2147483647")
            self._node.add_remote(host, address, index, now)
            log.info("remote %s of %s added over the control socket", address, host)
            return None
        if command == "remote-remove":
            host = _text(request, "host")
            which = None if request.get("address") is None else _text(request, "address")
            self._node.remove_remote(host, which, now)
            log.info("remote %s of %s removed over the control socket", which or "*", host)
            return None
        raise ValueError("unknown command: the commands are status, remote-add and remote-remove")

    def _status(self, now: float) -> Dict[str, Any]:
        status: Dict[str, Any] = {
            "version": __version__,
            "uptime_s": round(now - self._started_at, 3),
        }
        status.update(self._node.status(now))
        status["device"] = {
            "name": self._config.device_name,
            "index": self._device_index,
            "mtu": self._device_mtu,
            "write_errors": dict(self._write_errors),
        }
        for link in status["links"]:
            sockets = self._sockets.get(link["index"])
            link["receive_drops"] = sockets.receive_drops() if sockets else 0
        return status


def summary(status: Dict[str, Any]) -> str:
    """Return the line that `systemctl status` shows."""
    up = sum(link["up"] for link in status["links"])
    reached = sum(peer["best_state"] == State.ESTABLISHED for peer in status["peers"])
    return "{} of {} links up, {} of {} hosts reached".format(
        up, len(status["links"]), reached, len(status["peers"])
    )


def _remove_firewall(table: str) -> None:
    try:
        firewall.delete(table)
    except OSError as error:
        log.warning("%s; `ropeway cleanup` removes the table", error)


def _why_no_device(name: str, error: OSError) -> str:
    advice = {
        errno.ENOENT: "load the kernel module tun",
        errno.ENODEV: "load the kernel module tun",
        errno.EPERM: "give the agent CAP_NET_ADMIN",
        errno.EACCES: "give the agent access to /dev/net/tun",
        errno.EBUSY: "another process holds it; stop that one or choose another device.name",
        errno.EINVAL: "an interface of that name stands already; choose another device.name",
    }.get(error.errno or 0, "look at the kernel's log")
    return f"the device {name} cannot be made ({error.strerror or error}): {advice}"


def _text(request: Dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError(f"{key} is missing or is not a short text")
    return value
