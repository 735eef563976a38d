"""The running agent: the only loop and the only clock.

One turn of the loop, in the order of the code:

1. wait until a descriptor is ready or something is due;
2. packets from the TUN device, and datagrams from each link, go to the node in batches, and what
   it makes of them is sent and delivered at once; where more of them come than can be carried they
   wait in a fair queue each, which is served a batch a turn; what has waited for too long is
   dropped;
3. signals, netlink hints and the control socket are served;
4. the node ticks if it is due;
5. what the node wants sent, delivered and logged is sent, delivered and logged;
6. what is due besides: a dump of the interfaces, the watchdog, idle control clients.

Nothing here decides about the protocol; the node does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import ipaddress
import logging
import os
import random
import resource
import select
import signal
import socket
import time
from collections import Counter
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Hashable,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from ropeway import __version__
from ropeway.app import overlap, own_address, selection, shared_lan, systemd
from ropeway.app.cleanup import DEVICE_ALIAS
from ropeway.app.config import read as configuration
from ropeway.app.config.read import Config, ConfigError
from ropeway.app.control.server import (
    REASON_RESTART,
    Client,
    ControlError,
    ControlMistake,
    ControlServer,
    Later,
    Refusal,
)
from ropeway.app.control.tree import summary
from ropeway.app.engine import no_device
from ropeway.app.engine.continuity import Break, Continuity, boot_clock
from ropeway.app.engine.freshness import Bound, DeviceSource, LinkMerge, LinkSource
from ropeway.app.engine.intake import Intake
from ropeway.app.engine.polling import BusyPoll
from ropeway.app.engine.wakefulness import Wakefulness
from ropeway.app.route_lookup import RouteLookup
from ropeway.app.store import state
from ropeway.core import events
from ropeway.core.classic.node import ClassicNode
from ropeway.core.data.router import Node
from ropeway.core.frame.data import Train
from ropeway.core.link import Link
from ropeway.core.packet import ipv4, segments
from ropeway.core.redundancy import LinkHealth
from ropeway.core.settings import Settings
from ropeway.kernel import arp, firewall, generation, netlink, process, reverse_path, steering, tun
from ropeway.kernel.classic_sockets import LinkSockets
from ropeway.kernel.features import ON, count_refused
from ropeway.kernel.netlink import Change
from ropeway.kernel.tun import Tun
from ropeway.kernel.udp import (
    UDP_FEATURES,
    Receiver,
    StraySocket,
    UdpSocket,
    preferred_source,
)

if TYPE_CHECKING:
    from ropeway.core.node import SecureNode
    from ropeway.core.settings import SecureSettings

log = logging.getLogger("ropeway")

# Tuning
EVENTS_MAX = 64
"""Descriptors looked at in one turn."""
DUMP_EVERY_S = 30.0
"""Netlink may lose an event; a dump this often finds it."""
DUMP_GAP_S = 0.05
"""A burst of netlink events costs one dump in this time ..."""
DUMP_SHARE = 10
"""... and dumps never take more than one part in this of the time."""
CALLERS_EVERY_S = 5.0
"""Where hosts have called from is on disk so soon: for a start after a kill."""
CONTINUITY_EVERY_S = 1.0
"""Whether this machine may be a copy is looked at this often: what a copy seals is one too many."""
STOOD_STILL_S = 3.0
"""The loop turns more often than this; otherwise it did not run, nor did perhaps the machine."""
MTU_EVERY_S = 1.0
"""What fits the ways to other hosts changes without any event of netlink."""
RETRY_S = 1.0
"""Pause before the device or a link's sockets are tried again."""
REPAIR_MAX_S = 60.0
"""Somebody who takes away from the device what belongs to it, again and again, gets his way for
pauses that double up to this one."""
FIREWALL_TIMEOUT_S = 3.0
"""Nothing else runs while nft does, and the watchdog has to be fed."""
READING_LIMIT_S = 8.0
"""Reading the configuration again takes no longer; control clients wait 10 s."""
ADDRESSES_PER_LINK_MAX = 8
"""A link has a socket at each of its addresses, and a few are as good as thousands."""
SOCKETS_MAX = 256
DESCRIPTORS_RESERVED = 128
"""What is no link's socket needs descriptors too: netlink, the device, control clients."""
LOOKUP_GAP_S = 0.05
"""Routes to addresses that the node has met since the last look are looked up this often."""
STATUS_EVERY_S = 1.0
"""The line in `systemctl status` changes no more often."""
COLLECT_S = 20.0
"""Garbage in cycles is looked for this often, and only while nothing else is to be done ..."""
QUIET_S = 0.1
"""Nothing else is to be done where no packet has come for this long."""
COLLECT_LATE_S = 300.0
"""... or at the latest after this time."""

WARN_AGAIN_S = 3600.0
"""What a link that comes and goes brings with it again and again is logged once ..."""
WARNINGS_MAX = 256
"""... and so many sentences are remembered for that."""
REVERSE_PATHS_MAX = 64
"""So many silent connections are looked into for a status, a call of the kernel each."""

# RFC 791, section 3.2: every network carries 68 bytes; Linux gives no IPv4 to a smaller device.
DEVICE_MTU_MIN = 68


Sockets = Union[LinkSockets, UdpSocket]
Receivers = Union[LinkSockets, Receiver]

OVERRUN_PIECES = 4
"""Read a turn of a queue of the device that brings too much: answered flows have left it."""
SENT, DELIVERED = "sent", "delivered"
"""After what an answer may follow soon."""
DEVICE = "device"
"""The intake's key of what was read from a queue of the device, before the queue's number."""
NO_SOCKETS = "it has just appeared"
DEVICE_FEATURES = frozenset(tun.FEATURES)
FEATURES = DEVICE_FEATURES | frozenset(UDP_FEATURES)
"""What the encapsulation secure asks of the kernel; classic frames have no use for it."""

# What of the configuration the running agent can take over by itself, whatever the node does.
APPLIED_LIVE = (
    *("interfaces.include", "interfaces.exclude", "interfaces.addresses"),
    *("cpu_latency_us", "max_age_s", "device.precedence"),
)


class StartError(Exception):
    """The agent cannot start; the text is a sentence that says what to do."""


def bindings(
    links: Iterable[Link], secure: bool, limit: int = SOCKETS_MAX
) -> Dict[Hashable, Tuple[Link, str]]:
    """Return what sockets there should be: by the node's key for each, its link and address.

    A link of a classic network has one, whatever its addresses. A link of a secure one has
    `ADDRESSES_PER_LINK_MAX` at most, and all together have `limit`.
    """
    wanted: Dict[Hashable, Tuple[Link, str]] = {}
    for link in links:
        for address in _addresses_used(link) if secure else ("",):
            if len(wanted) < limit:
                wanted[(link.index, address) if secure else link.index] = link, address
    return wanted


def _addresses_used(link: Link) -> List[str]:
    """Return the addresses that get sockets: the first of each family, half of each if need be."""
    half = ADDRESSES_PER_LINK_MAX // 2
    room6 = min(len(link.addresses6), max(half, ADDRESSES_PER_LINK_MAX - len(link.addresses)))
    chosen = (
        *link.addresses[: ADDRESSES_PER_LINK_MAX - room6],
        *link.addresses6[:room6],
    )
    return [text.split("/")[0] for text in chosen]


def _unshared(wanted: Dict[Hashable, Tuple[Link, str]]) -> Set[Hashable]:
    """Return which bindings of a secure network are the only one of their address."""
    times = Counter(address for _, address in wanted.values())
    return {key for key, (_, address) in wanted.items() if times[address] == 1}


def _sockets_max() -> int:
    """Return how many bindings leave this process descriptors enough for the rest."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return SOCKETS_MAX
    # Two of each: one that sends, and one for what comes by another interface or as raw packets.
    return max(1, min(SOCKETS_MAX, (limit - DESCRIPTORS_RESERVED) // 2))


class Runtime:
    """One agent from its start to its end.

    `path` is where `config` was read from, and is read again when the agent is told to.
    """

    def __init__(self, config: Config, path: Optional[str] = None) -> None:
        self._config = config
        self._path = path
        self._secure = config.encapsulation == configuration.SECURE
        self._table = firewall.table_of(config.device_name)
        self._epoll = select.epoll()
        self._tun: Optional[Tun] = None
        #: The device's queues by descriptor, each with its number.
        self._queues: Dict[int, Tuple[int, DeviceSource]] = {}
        self._device_sources: List[DeviceSource] = []
        #: The number of the one that answered flows go to.
        self._answered = 0
        self._device_index = 0
        self._device_mtu = 0
        self._read_errors: Dict[str, int] = {}
        self._write_errors: Dict[str, int] = {}
        wanted = FEATURES - config.offload_disable if self._secure else frozenset()
        self._device_features = wanted & DEVICE_FEATURES
        self._socket_features = wanted - DEVICE_FEATURES
        self._sockets: Dict[Hashable, Sockets] = {}
        #: What receives by other interfaces, by the key of the sockets that it goes with, and
        #: where there is none, why not.
        self._strays: Dict[Hashable, StraySocket] = {}
        self._no_strays: Dict[Hashable, str] = {}
        self._receivers: Dict[int, LinkSource] = {}
        self._sockets_max = _sockets_max()
        self._unusable: Dict[Hashable, str] = {}
        self._left_out: Dict[int, str] = {}
        self._no_link_told = ""
        self._overlaps: List[overlap.Overlap] = []
        self._own_addresses: List[own_address.OwnAddress] = []
        self._shared_lans: List[shared_lan.SharedLan] = []
        self._warned_at: Dict[str, float] = {}
        # What the kernel makes by itself when the device gets its address.
        self._steering = steering.wanted(config.device_address, ())
        self._steering_fault = ""
        # What of the device is not as it has to be for now, as a sentence.
        self._device_fault = ""
        self._sealed: Optional[SecureNode] = None
        self._granted: Dict[str, Union[int, str]] = {}
        self._bound = Bound(config.max_age_s, boot_clock)
        self._merge = LinkMerge(self._bound)
        self._turn = 0
        self._occasion = ""
        self._packet_at = float("-inf")
        self._stop_signal = 0
        self._hangup = False
        self._reading: Optional[configuration.Reading] = None
        self._reading_fd = -1
        self._reading_due = float("inf")
        self._reload_answers: List[Later] = []
        self._read_again = False
        self._reload_next: List[Later] = []
        self._started_at = boot_clock()
        self._polling = BusyPoll(len(os.sched_getaffinity(0)), self._started_at)
        self._collected_at = self._started_at
        self._interfaces: Sequence[netlink.Interface] = ()
        self._dump_due = self._started_at
        self._routes_due = float("inf")
        self._lookup = RouteLookup(preferred_source)
        #: When addresses may be looked up that the node wants to know the sources for.
        self._lookup_at = float("-inf")
        self._dump_gap_s = DUMP_GAP_S
        self._dumped_at = float("-inf")
        self._repair_at = float("-inf")
        self._repair_pause_s = RETRY_S
        self._mtu_due = self._started_at
        self._callers: Dict[str, Tuple[Tuple[str, int], ...]] = {}
        self._callers_due = self._started_at + CALLERS_EVERY_S
        self._callers_told = False
        self._status_due = float("inf")
        self._told_at = float("-inf")
        self._carrying_told = (0, 0)
        self._continuity_due = float("inf")
        self._copies_fd = -1
        self._firewall_fd = -1
        self._firewall_due = float("inf")
        self._firewall_at = float("-inf")
        limit_s = systemd.watchdog_s()
        # sd_watchdog_enabled(3) recommends half of the limit; a third leaves room for a slow turn.
        self._watchdog_every_s = limit_s / 3 if limit_s else float("inf")
        self._watchdog_due = self._started_at if limit_s else float("inf")

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        `StartError` where the agent cannot start, `ConfigError` where only another configuration
        would help. Whatever was made in the kernel is removed again on the way out, an error
        included.
        """
        self._granted = process.serve_promptly()
        try:
            process.forbid_dumps()
        except OSError as error:
            log.warning("the agent's keys may stand in a core dump (%s)", error.strerror or error)
        with contextlib.ExitStack() as stack:
            stack.callback(self._epoll.close)
            wake = self._catch_signals(stack)
            self._start(stack)
            systemd.notify("READY=1")
            log.info("ropeway %s is ready as %s", __version__, self._config.device_address)
            # What start-up made stays for good, and no packet is to wait for the collector.
            gc.collect()
            gc.freeze()
            gc.disable()
            self._loop(wake)
            log.info("stopping on %s", signal.Signals(self._stop_signal).name)
            self._remember_callers(boot_clock())
            systemd.notify("STOPPING=1")

    # --- start

    def _catch_signals(self, stack: contextlib.ExitStack) -> socket.socket:
        """Let SIGTERM, SIGINT and SIGHUP wake the loop; return the socket that it wakes on."""
        wake, waker = socket.socketpair()
        stack.callback(wake.close)
        stack.callback(waker.close)
        wake.setblocking(False)
        waker.setblocking(False)
        stack.callback(
            signal.set_wakeup_fd,
            signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False),
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, self._note_signal))
        self._epoll.register(wake.fileno(), select.EPOLLIN)
        return wake

    def _note_signal(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._hangup = True
        else:
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
        except ControlMistake as error:
            raise ConfigError([str(error)]) from error
        except ControlError as error:
            raise StartError(str(error)) from error
        stack.callback(self._control.close)
        self._show_control(stack)
        stack.callback(self._stop_reading)
        if self._secure:
            self._sealed = self._secure_node()
            self._node: Node = self._sealed
            self._take_frames: Callable[[], Dict[Any, Any]] = self._sealed.take_trains
        else:
            classic = self._classic_node()
            self._node = classic
            self._take_frames = classic.take_datagrams
        self._node.set_max_age(self._bound.max_age_s)
        self._incoming = Intake(
            self._node.inbound, self._node.flow, self._node.packets_in, self._node.without_packets
        )
        stack.callback(self._close_links)
        stack.callback(self._close_device)
        try:
            self._open_device()
        except OSError as error:
            sentence = no_device.why(config.device_name, error)
            if error.errno == errno.EINVAL:
                raise ConfigError([sentence]) from error
            raise StartError(sentence) from error
        assert self._tun is not None
        self._outgoing = Intake(self._outbound, ipv4.flow, _one, _nothing_left, OVERRUN_PIECES)
        if self._sealed is not None and self._tun.features["vnet_hdr"] == ON:
            self._sealed.take_partial()
            self._outgoing = Intake(
                self._outbound_split,
                segments.flow,
                segments.count,
                _nothing_left_of_super_packets,
                OVERRUN_PIECES,
            )
        self._wakefulness = Wakefulness(config.cpu_latency_us)
        stack.callback(lambda: self._wakefulness.close())
        with contextlib.suppress(OSError):  # they lead nowhere
            steering.remove_left()
        stack.callback(self._stop_steering)
        # Whoever holds the device owns the table of its name.
        if self._secure:
            # An agent that was killed may have left the table of a classic network.
            with contextlib.suppress(OSError):
                firewall.delete(self._table)
            self._watch_for_copies(stack)
        else:
            self._close_ears(stack)
        self._hints = netlink.Hints(self._secure)
        stack.callback(self._hints.close)
        self._epoll.register(self._hints.fileno(), select.EPOLLIN)
        try:
            self._look(boot_clock(), starting=True)
        except OSError as error:
            raise StartError(
                f"the device {config.device_name} cannot be set up ({error.strerror or error}):"
                " give the agent CAP_NET_ADMIN"
            ) from error

    def _show_control(self, stack: contextlib.ExitStack) -> None:
        """Have the service find the control socket in its folder, wherever it stands.

        A changed file may name another place already, while the socket is where it was.
        """
        folder = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        path = os.path.join(folder, os.path.basename(configuration.DEFAULT_CONTROL_PATH))
        if not folder or path == self._config.control.path:
            return
        try:
            if os.path.islink(path):
                os.unlink(path)
            os.symlink(self._config.control.path, path)
        except OSError as error:
            log.warning(
                "%s cannot be made (%s), so the service cannot be reloaded: use `ropeway reload`",
                path,
                error.strerror or error,
            )
            return
        stack.callback(_remove_link, path)

    def _classic_node(self) -> ClassicNode:
        config = self._config
        log.warning(
            "encapsulation classic: packets are neither authenticated nor encrypted; who can"
            " send on a link can read, forge and redirect the traffic of %s:"
            " use it on trusted LANs only",
            config.network,
        )
        node = ClassicNode(
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
        for remote in config.remotes:
            try:
                node.add_remote(remote.host, remote.address, remote.index, self._started_at)
            except ValueError as error:
                raise ConfigError([f"peers: {error}"]) from error
        return node

    def _secure_node(self) -> SecureNode:
        # The other encapsulation does without the library of the ciphers.
        from ropeway.core.node import SecureNode

        self._epoch = state.Epoch(self._config.device_name, time.time())
        self._reset_keys = state.next_reset_keys(self._config.device_name, os.urandom(32))
        try:
            node = SecureNode(
                self._secure_settings(self._config),
                self._started_at,
                random.Random(),  # noqa: S311 - spreads greetings in time, keeps no secret
                os.urandom,
            )
        except ValueError as error:
            raise ConfigError([f"peers: {error}"]) from error
        node.recall(state.read_callers(self._config.device_name), self._started_at)
        return node

    def _secure_settings(self, config: Config) -> SecureSettings:
        from ropeway.core.settings import PeerSettings, SecureSettings

        return SecureSettings(
            address=config.address,
            network=config.network,
            router=config.router,
            forward=config.forward,
            device_mtu=config.device_mtu,
            private_key=config.private_key,
            port=config.port,
            peers=tuple(
                PeerSettings(
                    host=peer.host,
                    public_keys=peer.public_keys,
                    psk=peer.psk,
                    endpoints=peer.endpoints,
                )
                for peer in config.peers
            ),
            epoch=self._epoch.number,
            reset_keys=self._reset_keys,
            rollover_s=config.rollover_s,
        )

    def _close_ears(self, stack: contextlib.ExitStack) -> None:
        """Keep the kernel from answering classic datagrams, and watch that it stays so."""
        try:
            firewall.replace(self._table)
        except OSError as error:
            raise StartError(str(error)) from error
        stack.callback(_remove_firewall, self._table)
        self._firewall = firewall.Watch(self._table)
        stack.callback(self._firewall.close)
        self._firewall_fd = self._firewall.fileno()
        self._epoll.register(self._firewall_fd, select.EPOLLIN)

    # --- the loop

    def _loop(self, wake: socket.socket) -> None:
        clock, poll, node = boot_clock, self._epoll.poll, self._node
        receivers, bound, merge = self._receivers, self._bound, self._merge
        control, wake_fd = self._control, wake.fileno()
        hints_fd, firewall_fd = self._hints.fileno(), self._firewall_fd
        copies_fd = self._copies_fd
        outgoing, incoming = self._outgoing, self._incoming
        now, due = clock(), self._due()
        while not self._stop_signal:
            wait_s = 0.0
            if not outgoing.waits and not incoming.waits and not merge.goes_on:
                wait_s = max(0.0, min(min(node.deadline(), due) - clock(), bound.wake_s))
            occasion, self._occasion = self._occasion, ""
            if occasion and wait_s:
                ready = self._wait(occasion, wait_s)
            else:
                ready = poll(wait_s, EVENTS_MAX)
            before, now = now, clock()
            if not bound.note_poll(now, len(ready) < EVENTS_MAX):
                ready = poll(0.0, EVENTS_MAX)
                bound.note_poll(now, len(ready) < EVENTS_MAX)
                merge.begin(receivers.values())
            self._turn += 1
            if now - before >= STOOD_STILL_S:
                self._catch_up(now)
            links_wait = merge.goes_on
            if links_wait:
                self._read_merged(now)
            if len(ready) > 1:
                # What other hosts wait for goes out before copies of what came are looked at.
                ready.sort(key=self._is_no_device)
            for descriptor, occasions in ready:
                if descriptor in receivers:
                    source = receivers[descriptor]
                    source.look()
                    if not links_wait:
                        self._receive(source, now)
                elif descriptor in self._queues:
                    self._read_device(*self._queues[descriptor], now)
                elif descriptor == hints_fd:
                    self._look_soon(now, self._hints.drain())
                elif descriptor == firewall_fd:
                    if self._firewall.lost():
                        self._firewall_due = max(now, self._firewall_at + RETRY_S)
                elif descriptor == copies_fd:
                    self._look_for_copies(now)
                elif descriptor == wake_fd:
                    wake.recv(64)
                    if self._hangup:
                        self._hangup = False
                        self._reload_on_signal(now)
                elif descriptor == self._reading_fd:
                    self._read_on(now)
                elif control.owns(descriptor):
                    control.handle(descriptor, occasions, now)
            waited = incoming.waits or outgoing.waits
            if incoming.waits:
                incoming.serve(now, now - bound.max_age_s)
            if outgoing.waits:
                outgoing.serve(now, now - bound.max_age_s)
            if now >= node.deadline():
                node.tick(now)
            self._flush()
            if self._occasion or waited:
                self._packet_at = now
                self._wakefulness.note(node.carried, now)
                self._polling.note(node.carried, now)
                # The kernel itself looks only at its ticks, 4 ms apart, whether others wait for
                # this processor. Whoever gave it away often is soon given it back.
                os.sched_yield()
            due = self._due()
            if now >= due:
                self._keep_house(now, idle=now - self._packet_at >= QUIET_S)
                due = self._due()

    def _wait(self, occasion: str, wait_s: float) -> List[Tuple[int, int]]:
        """Wait for what follows a packet, and keep looking for it at first where that pays."""
        clock, poll = boot_clock, self._epoll.poll
        began = clock()
        span_s = min(self._polling.span_s(occasion, began), wait_s)
        ready = poll(0.0, EVENTS_MAX) if span_s else []
        while not ready and clock() - began < span_s:
            ready = poll(0.0, EVENTS_MAX)
        looked_s = clock() - began if span_s else 0.0
        if not ready:
            ready = poll(max(0.0, wait_s - looked_s), EVENTS_MAX)
        # A timer that runs out is no answer.
        self._polling.learn(occasion, clock() - began, looked_s, answered=bool(ready))
        return ready

    def _is_no_device(self, occasion: Tuple[int, int]) -> bool:
        return occasion[0] not in self._queues

    def _due(self) -> float:
        return min(
            self._dump_due,
            self._routes_due,
            self._lookup_at if self._node.wants_lookup else float("inf"),
            self._watchdog_due,
            self._firewall_due,
            self._status_due,
            self._mtu_due,
            self._continuity_due,
            self._reading_due,
            self._control.deadline(),
            self._wakefulness.deadline(),
        )

    def _read_merged(self, now: float) -> None:
        """Handle some of what came to the links while the agent stood still."""
        for source, dated in self._merge.take():
            self._incoming.hand_on(source.key, dated.reads, dated.since, now)
        if self._deliver():
            self._occasion = DELIVERED

    def _receive(self, source: LinkSource, now: float) -> None:
        try:
            self._incoming.read(source, self._turn, now)
        except OSError as error:
            self._receive_failed(source.sockets, error, now)
        if self._deliver():
            self._occasion = DELIVERED
            # The kernel answers some at once: echoes, acknowledgements.
            if self._tun is not None:
                self._read_device(self._answered, self._device_sources[self._answered], now)
        elif self._send():
            self._occasion = SENT

    def _read_device(self, number: int, source: DeviceSource, now: float) -> None:
        try:
            source.look()
            self._outgoing.read(source, self._turn, now)
        except OSError as error:
            if error.errno == errno.EBADFD:
                log.warning("device %s is gone", self._config.device_name)
                self._close_device()
            else:
                # Addresses and routes of the device are not to go for the sake of one packet.
                count_refused(self._read_errors, error)
            self._look_soon(now)
        if number == self._answered and self._outgoing.overruns((DEVICE, number)):
            self._spare_the_answered()
        if self._send():
            self._occasion = SENT

    def _spare_the_answered(self) -> None:
        """Have answered flows move away from a flood that fills their queue."""
        # Reading may just have told that the device is gone, and its queues with it.
        for number, _ in self._queues.values():
            if self._tun is not None and not self._outgoing.overruns((DEVICE, number)):
                self._answered = number
                self._tun.write_through(number)
                return

    def _outbound(self, packets: List[bytes], _: Hashable, now: float) -> None:
        """Hand packets that were read from the device to the node."""
        self._node.outbound(packets, now)

    def _outbound_split(self, reads: List[bytes], _: Hashable, now: float) -> None:
        """Hand them to the node where they came with headers, and perhaps as super-packets."""
        for packets, partial in segments.split(reads):
            self._node.outbound(packets, now, partial)

    def _flush(self) -> None:
        """Carry out what the node has decided."""
        self._send()
        self._deliver()
        self._incoming.oldest = self._outgoing.oldest = float("inf")
        happened = self._node.take_events()
        if happened:
            for event in happened:
                log.log(logging.WARNING if events.is_warning(event) else logging.INFO, "%s", event)
            self._status_due = min(self._status_due, self._told_at + STATUS_EVERY_S)

    def _expire(self) -> None:
        """Have the node drop what became too old in its hands: the agent stood still just now."""
        expired_at = self._bound.expired_at()
        if self._incoming.oldest < expired_at or self._outgoing.oldest < expired_at:
            self._node.expire_packets()

    def _expire_read(self, key: Hashable, reads: List[bytes]) -> List[bytes]:
        """Drop what was read from the device too late."""
        return self._outgoing.expire(key, reads)

    def _send(self) -> bool:
        """Send what the node has for others; say whether that was anything."""
        node, sockets = self._node, self._sockets
        if node.touched:
            self._expire()
        outgoing = self._take_frames()
        for (key, destination), frames in outgoing.items():
            link = sockets.get(key)
            if link is None:
                node.send_failed(key, "ENODEV", sum(map(_frames_in, frames)))
                continue
            refused = link.send_batch(destination, frames)
            if refused:
                for reason, count in refused.items():
                    node.send_failed(key, reason, count)
        return bool(outgoing)

    def _deliver(self) -> bool:
        """Write to the device what the node has for it; say whether that was anything."""
        node = self._node
        if not (node.packets or node.partial_packets):
            return False
        self._expire()
        if node.packets:
            write = self._tun.write_batch if self._tun else _no_device
            self._note_refused(write(node.take_packets()))
        if node.partial_packets:
            write = self._tun.write_partial if self._tun else _no_device
            self._note_refused(write(node.take_partial_packets()))
        return True

    def _note_refused(self, refused: Dict[str, int]) -> None:
        for reason, count in refused.items():
            self._write_errors[reason] = self._write_errors.get(reason, 0) + count

    def _keep_house(self, now: float, idle: bool) -> None:
        if now >= self._dump_due:
            self._look(now)
            self._flush()
        elif now >= self._routes_due:
            self._look_at_routes(now)
            self._flush()
        elif self._node.wants_lookup and now >= self._lookup_at:
            self._set_links(self._select()[0], now)
            self._flush()
        if now >= self._firewall_due:
            self._restore_firewall(now)
        if now >= self._status_due:
            self._status_due = float("inf")
            self._told_at = now
            self._carrying_told = self._node.watch.carrying
            line = self._no_link_told or summary(self._with_links(self._node.status(now)))
            systemd.notify("STATUS=" + line)
        if now >= self._watchdog_due:
            self._watchdog_due = now + self._watchdog_every_s
            systemd.notify("WATCHDOG=1")
        if now >= self._mtu_due:
            self._mtu_due = now + MTU_EVERY_S
            if max(self._node.device_mtu, DEVICE_MTU_MIN) != self._device_mtu:
                self._look_soon(now)
            if now >= self._callers_due:
                self._remember_callers(now)
            if self._node.watch.carrying != self._carrying_told:
                self._status_due = min(self._status_due, self._told_at + STATUS_EVERY_S)
            sealed = self._sealed
            if sealed is not None and sealed.unanswered(now) and self._epoch.follow(time.time()):
                sealed.raise_epoch(self._epoch.number)
        if now >= self._continuity_due:
            self._look_at_continuity(now)
            self._flush()
        if now >= self._reading_due:
            self._give_up_reading(now)
        self._control.expire(now)
        self._wakefulness.expire(now)
        if now - self._collected_at >= (COLLECT_S if idle else COLLECT_LATE_S):
            self._collected_at = now
            gc.collect()
            process.return_memory()

    def _remember_callers(self, now: float) -> None:
        """Have the next start find the hosts that have called this one."""
        self._callers_due = now + CALLERS_EVERY_S
        callers = self._sealed.callers() if self._sealed is not None else {}
        if not callers or callers == self._callers:
            return
        self._callers = callers
        try:
            state.write_callers(self._config.device_name, callers)
        except OSError as error:
            if not self._callers_told:
                self._callers_told = True
                log.warning(
                    "where hosts call from cannot be kept (%s): after a restart, idle ones are"
                    " reached once they call",
                    error.strerror or error,
                )

    def _restore_firewall(self, now: float) -> None:
        self._firewall_due = float("inf")
        self._firewall_at = now
        log.warning("the nft table %s was taken away: putting it back", self._table)
        try:
            firewall.replace(self._table, FIREWALL_TIMEOUT_S)
        except OSError as error:
            log.warning("%s: trying again", error)
            self._firewall_due = now + RETRY_S

    # --- whether this machine is still the one that made the sessions

    def _watch_for_copies(self, stack: contextlib.ExitStack) -> None:
        """Have the kernel say when this virtual machine is a copy; without it, look at clocks."""
        self._continuity = Continuity()
        self._continuity_due = self._started_at + CONTINUITY_EVERY_S
        try:
            self._copies = generation.GenerationHints()
        except OSError as error:
            log.info(
                "the kernel cannot say whether this machine is cloned (%s)",
                error.strerror or error,
            )
            return
        stack.callback(self._copies.close)
        self._copies_fd = self._copies.fileno()
        self._epoll.register(self._copies_fd, select.EPOLLIN)

    def _catch_up(self, now: float) -> None:
        """Look at what may have changed while nothing ran, before anything is sent."""
        if self._sealed is not None:
            self._look_at_continuity(now)
            self._sealed.catch_up(now)

    def _look_for_copies(self, now: float) -> None:
        if self._copies.drain():
            self._end_sessions("this virtual machine was cloned or set back to a snapshot", now)

    def _look_at_continuity(self, now: float) -> None:
        self._continuity_due = now + CONTINUITY_EVERY_S
        found = self._continuity.look()
        if found is Break.BOOT:
            self._end_sessions(found.value, now)
        elif found is not None and self._sealed is not None:
            self._warn(f"{found.value}: replacing all sessions", now)
            self._sealed.replace_sessions(*self._as_at_a_start(), now)

    def _end_sessions(self, reason: str, now: float) -> None:
        if self._sealed is not None:
            log.warning("%s: ending all sessions, since a copy may have their keys", reason)
            self._sealed.end_sessions(reason, *self._as_at_a_start(), now)

    def _as_at_a_start(self) -> Tuple[int, Tuple[bytes, ...]]:
        """Return an epoch and reset keys that neither a copy nor an earlier start has used."""
        self._epoch = state.Epoch(self._config.device_name, time.time())
        self._reset_keys = state.next_reset_keys(self._config.device_name, os.urandom(32))
        return self._epoch.number, self._reset_keys

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
            interfaces = netlink.dump(self._secure)
        except OSError as error:
            if starting:
                raise
            log.warning("the network interfaces cannot be listed (%s)", error.strerror or error)
            self._dump_due = now + RETRY_S
            return
        self._note_dump(interfaces, now)
        links, left_out = self._select()
        for one in left_out:
            if one.stacked:
                self._warn(f"{one.name}({one.index}) takes no part, because it {one.reason}", now)
        for sentence in self._absent_sentences():
            self._warn(sentence, now)
        self._check_overlaps(links, now, starting)
        self._own_addresses = own_address.find(self._config, interfaces)
        for own in self._own_addresses:
            self._warn(str(own), now)
        self._follow(links, now)
        self._check_shared_lans(links, now)
        self._set_links(links, now)
        self._expect(links, left_out)
        self._tend_device(interfaces, now, starting)
        if starting and not links:
            log.warning(
                "no interface takes part yet: look at interfaces.include and interfaces.exclude"
            )

    def _look_at_routes(self, now: float) -> None:
        """Dump the routes alone, because nothing else has changed."""
        self._routes_due = float("inf")
        try:
            interfaces = netlink.dump_routes(self._interfaces, self._secure)
        except OSError as error:
            log.warning("the routes cannot be listed (%s)", error.strerror or error)
            self._dump_due = min(self._dump_due, now + RETRY_S)
            return
        self._note_dump(interfaces, now)
        self._set_links(self._select()[0], now)
        if self._device_mtu:
            self._steer(self._device_in(interfaces), now)

    def _note_dump(self, interfaces: Sequence[netlink.Interface], began_at: float) -> None:
        self._interfaces = interfaces
        self._lookup.set_interfaces(interfaces)
        self._dumped_at = boot_clock()
        self._dump_gap_s = max(DUMP_GAP_S, DUMP_SHARE * (self._dumped_at - began_at))

    def _select(self) -> Tuple[List[Link], List[selection.LeftOut]]:
        """Return the interfaces that take part and those that do not."""
        config = self._config
        return selection.select(
            self._interfaces,
            selection.Rules(
                config.include,
                config.exclude,
                config.device_name,
                self._device_index,
                config.network,
                self._secure,
                config.named_addresses,
            ),
            _leads_to,
        )

    def _set_links(self, links: Sequence[Link], now: float) -> None:
        """Tell the node of the links, as far as there are sockets to use them."""
        sockets = self._sockets
        self._lookup_at = now + LOOKUP_GAP_S
        links = self._lookup.complete(links, self._node.called())
        if self._secure:
            links = [
                dataclasses.replace(
                    link,
                    addresses=_bound(link.addresses, link.index, sockets),
                    addresses6=_bound(link.addresses6, link.index, sockets),
                )
                for link in links
            ]
        else:
            links = [link for link in links if link.index in sockets]
        self._node.set_links(links, now)

    def _warn(self, sentence: str, now: float) -> None:
        """Log what holds at the moment, if it did not hold for `WARN_AGAIN_S` before."""
        if now - self._warned_at.get(sentence, float("-inf")) >= WARN_AGAIN_S:
            log.warning("%s", sentence)
        # The oldest first, so that the bound drops what has not held for longest.
        self._warned_at.pop(sentence, None)
        self._warned_at[sentence] = now
        while len(self._warned_at) > WARNINGS_MAX:
            del self._warned_at[next(iter(self._warned_at))]

    def _check_overlaps(self, links: Sequence[Link], now: float, starting: bool) -> None:
        """Warn of interfaces whose own network overlaps the virtual one.

        `ConfigError` at the start where a link has the virtual address.
        """
        for link in links:
            own = [text.split("/")[0] for text in link.addresses]
            if starting and self._config.address in own:
                raise ConfigError(
                    [
                        f"address: {link.name}({link.index}) has {self._config.address} already:"
                        " choose another address or network, or exclude that interface"
                    ]
                )
        self._overlaps = overlap.find(self._interfaces, self._config.network, self._device_index)
        for sentence in sorted(self._overlap_sentences()):
            self._warn(sentence, now)

    def _absent_sentences(self) -> List[str]:
        """Return which addresses the configuration names and no interface has."""
        named = self._config.named_addresses
        there = selection.present(self._interfaces, named)
        return [
            f"interfaces.addresses: no interface has {address}, so nothing comes to it: add it, or"
            " remove it from the configuration"
            for address in named
            if address not in there
        ]

    def _overlap_sentences(self) -> List[str]:
        config = self._config
        return [
            overlap.sentence(one, config.network, config.device_name, config.precedence)
            for one in self._overlaps
        ]

    def _check_shared_lans(self, links: Sequence[Link], now: float) -> None:
        """Warn where frames for a link may come by another interface and are lost there."""
        self._shared_lans = shared_lan.find(self._interfaces, links)
        for sentence in self._shared_lan_sentences():
            self._warn(sentence, now)

    def _shared_lan_sentences(self) -> List[str]:
        found = [(pair, self._why_lost(pair)) for pair in self._shared_lans]
        return [
            shared_lan.sentence(pair, why)
            for pair, why in found
            if why and arp.answers_for_others(pair.other.name)
        ]

    def _why_lost(self, pair: shared_lan.SharedLan) -> str:
        """Return why frames for a link's address are lost at the other interface of its LAN."""
        name, index = pair.other.name, pair.other.index
        if not self._secure and index not in self._sockets:
            return f"{name} takes no part"
        if self._secure and (pair.link.index, pair.address) in self._no_strays:
            why = self._no_strays[pair.link.index, pair.address]
            return f"no socket can take them there ({why})"
        if reverse_path.is_strict(name):
            with contextlib.suppress(OSError):
                if reverse_path.way_back(pair.address, pair.neighbour) != index:
                    return f"rp_filter is strict at {name} and answers leave by another interface"
        return ""

    def _note_left_out(
        self, links: Sequence[Link], wanted: Dict[Hashable, Tuple[Link, str]]
    ) -> None:
        """Tell, once each, which links have more addresses than there may be sockets."""
        before, self._left_out = self._left_out, {}
        for link in links:
            here = sum(of is link for of, _ in wanted.values())
            there = len(link.addresses) + len(link.addresses6) if self._secure else 1
            if here == there:
                continue
            sentence = "there are too many links"
            if self._secure:
                sentence = (
                    f"{there - here} of its {there} addresses stay unused, because they are too"
                    " many"
                )
            self._left_out[link.index] = sentence
            if link.index not in before:
                log.warning("%s(%s): %s", link.name, link.index, sentence)

    def _follow(self, links: Sequence[Link], now: float) -> None:
        """Hold the sockets that the links need, and none besides."""
        wanted = bindings(links, self._secure, self._sockets_max)
        self._note_left_out(links, wanted)
        unshared = _unshared(wanted) if self._secure else set()
        for key in [key for key in self._sockets if key not in wanted]:
            self._close_sockets(key)
        for key in [key for key in self._strays if key not in unshared]:
            self._close_stray(key)
        for key in [key for key in self._unusable if key not in wanted]:
            del self._unusable[key]
        for key, (link, address) in wanted.items():
            sockets = self._sockets.get(key)
            if sockets is not None:
                if sockets.is_bound():
                    continue
                # It went away and came back under its index while nobody looked.
                self._close_sockets(key)
            try:
                opened = self._open_sockets(link, address)
            except OSError as error:
                self._note_unusable(key, link, address, error, now)
                self._dump_due = min(self._dump_due, now + RETRY_S)
                continue
            self._unusable.pop(key, None)
            self._sockets[key] = opened
            self._note_receiver(opened)
        self._open_strays({key: wanted[key] for key in unshared})
        self._note_no_link(now)

    def _note_receiver(self, receiver: Receivers) -> None:
        self._receivers[receiver.fileno()] = LinkSource(
            receiver, self._bound, self._incoming.expire
        )

    def _open_strays(self, wanted: Dict[Hashable, Tuple[Link, str]]) -> None:
        """Receive by every interface what comes for an address that only one link has."""
        self._no_strays = {}
        for key, (link, address) in wanted.items():
            if key in self._strays or key not in self._sockets:
                continue
            try:
                stray = StraySocket(
                    link.index, link.name, address, self._config.port, self._socket_features
                )
                self._watch(stray)
            except OSError as error:
                self._no_strays[key] = error.strerror or str(error)
                continue
            self._strays[key] = stray
            self._note_receiver(stray)

    def _note_no_link(self, now: float) -> None:
        """Tell, when that begins and ends, that there are links but none can be used."""
        before, self._no_link_told = self._no_link_told, ""
        if self._unusable and not self._sockets:
            reasons = set(self._unusable.values())
            why = reasons.pop() if len(reasons) == 1 else "`ropeway status` says why of each"
            self._no_link_told = f"no link can be used, so no packet gets through: {why}"
        if self._no_link_told == before:
            return
        self._status_due = min(self._status_due, max(now, self._told_at + STATUS_EVERY_S))
        if self._no_link_told:
            log.error("%s; trying again every %.0f s", self._no_link_told, RETRY_S)
        else:
            log.info("a link can be used again")

    def _open_sockets(self, link: Link, address: str) -> Sockets:
        opened: Sockets
        if self._secure:
            opened = UdpSocket(
                link.index, link.name, address, self._config.port, self._socket_features
            )
        else:
            opened = LinkSockets(link.index, link.name)
        self._watch(opened)
        return opened

    def _watch(self, opened: Receivers) -> None:
        """Have the loop wake for what was just opened, or close it and raise the `OSError`."""
        try:
            self._epoll.register(opened.fileno(), select.EPOLLIN)
        except OSError:
            opened.close()
            raise

    def _note_unusable(
        self, key: Hashable, link: Link, address: str, error: OSError, now: float
    ) -> None:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"another program, perhaps a second agent, has UDP port {self._config.port} there:"
                " stop it, or choose another port"
            )
        place = f" at {address}" if address else ""
        self._warn(f"{link.name}({link.index}){place} cannot be used: {reason}", now)
        self._unusable[key] = reason

    def _receive_failed(self, receiver: Receivers, error: OSError, now: float) -> None:
        if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
            # Unforeseen, so begin anew with fresh sockets rather than turn in circles.
            log.warning("receiving on %s failed: %s", receiver.name, error.strerror or error)
            self._close_sockets(receiver.key)
        self._look_soon(now)

    def _tend_device(
        self, interfaces: Sequence[netlink.Interface], now: float, starting: bool
    ) -> None:
        """Put back whatever of the device is not as it has to be."""
        config = self._config
        mtu = max(self._node.device_mtu, DEVICE_MTU_MIN)
        device = self._device_in(interfaces)
        if self._tun is not None:
            self._tun.measure()
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
        self._device_fault = ""
        if not faults:
            self._steer(device, now)
            return
        expected = starting or (mtu != self._device_mtu and len(faults) == 1)
        if not expected and not self._may_repair(", ".join(faults), now):
            return
        try:
            if faults[0] == "it is gone":
                self._open_device()
            netlink.configure(self._device_index, config.device_address, mtu, DEVICE_ALIAS)
        except OSError as error:
            if starting:
                raise
            self._device_fault = (
                f"device {config.device_name} cannot be repaired"
                f" ({error.strerror or error}): trying again"
            )
            log.warning("%s", self._device_fault)
            self._dump_due = min(self._dump_due, now + RETRY_S)
            return
        self._device_mtu = mtu
        # Its way is looked at once it is seen as it is now.
        self._look_soon(now)
        self._node.note(events.DeviceMtuSet(config.device_name, mtu), now)

    def _device_in(self, interfaces: Sequence[netlink.Interface]) -> Optional[netlink.Interface]:
        return next((i for i in interfaces if i.index == self._device_index), None)

    def _may_repair(self, faults: str, now: float) -> bool:
        """Say whether it is time to repair the device, and log that; else look again in time."""
        if now < self._repair_at:
            self._dump_due = min(self._dump_due, self._repair_at)
            self._device_fault = (
                f"device {self._config.device_name} is repaired within"
                f" {self._repair_pause_s:.0f} s, because it was changed again and again: {faults}"
            )
            self._warn(self._device_fault, now)
            return False
        calm = now - self._repair_at >= REPAIR_MAX_S
        self._repair_pause_s = RETRY_S if calm else min(2 * self._repair_pause_s, REPAIR_MAX_S)
        self._repair_at = now + self._repair_pause_s
        log.warning("repairing device %s: %s", self._config.device_name, faults)
        return True

    def _steer(self, device: Optional[netlink.Interface], now: float) -> None:
        """See that packets for the virtual network are led to the device."""
        config, index = self._config, self._device_index
        if device is None or not device.admin_up or config.device_address not in device.addresses:
            return
        if device.master:
            # In a routing domain its route stands in the table of that.
            return
        self._device_fault = ""
        aside = [one.own for one in self._overlaps if one.inside and config.precedence]
        wanted = steering.wanted(config.device_address, aside)
        try:
            plain = not aside and self._steering == wanted
            if plain and steering.leads_to(_another_host(config)) == index:
                return
            found = steering.look(index, config.network)
            if found != wanted:
                changed = self._steering == wanted
                if changed and not self._may_repair(_what_lacks(found, wanted), now):
                    return
                steering.change(index, config.device_address, found, wanted)
        except OSError as error:
            self._note_not_steered(error, now)
            return
        self._steering, self._steering_fault = wanted, ""

    def _note_not_steered(self, error: OSError, now: float) -> None:
        sentence = (
            f"packets for {self._config.network} cannot be led to {self._config.device_name}"
            f" ({error.strerror or error})"
        )
        if sentence != self._steering_fault:
            log.warning("%s: trying again", sentence)
        self._steering_fault = sentence
        self._dump_due = min(self._dump_due, now + REPAIR_MAX_S)

    def _stop_steering(self) -> None:
        """Remove the rules on the way out; routes go with the device."""
        if not self._steering.rules:
            return
        try:
            steering.remove_rules(self._config.network)
        except OSError as error:
            log.warning(
                "the rules for %s stay behind (%s): `ropeway cleanup` removes them",
                self._config.network,
                error.strerror or error,
            )

    def _open_device(self) -> None:
        self._close_device()
        self._tun = Tun(self._config.device_name, self._device_features)
        self._answered = 0
        try:
            for number, queue in enumerate(self._tun.queues):
                self._epoll.register(queue.fileno(), select.EPOLLIN)
                source = DeviceSource(
                    (DEVICE, number), queue, self._tun, self._bound, self._expire_read
                )
                self._device_sources.append(source)
                self._queues[queue.fileno()] = number, source
        except OSError:
            self._close_device()
            raise
        self._device_index = socket.if_nametoindex(self._config.device_name)
        with contextlib.suppress(OSError):  # then it costs memory, and works as well
            netlink.leave_unqueued(self._device_index)

    def _close_device(self) -> None:
        if self._tun is not None:
            for descriptor in self._queues:
                self._epoll.unregister(descriptor)
            self._queues.clear()
            self._device_sources.clear()
            self._tun.close()
            self._tun = None
            self._device_index = 0

    def _close_sockets(self, key: Hashable) -> None:
        if key in self._strays:
            self._close_stray(key)
        self._incoming.forget(key)
        self._close_receiver(self._sockets.pop(key))

    def _close_stray(self, key: Hashable) -> None:
        self._close_receiver(self._strays.pop(key))

    def _close_receiver(self, receiver: Receivers) -> None:
        self._merge.forget(self._receivers.pop(receiver.fileno()))
        self._epoll.unregister(receiver.fileno())
        receiver.close()

    def _close_links(self) -> None:
        for key in list(self._sockets):
            self._close_sockets(key)

    # --- reading the configuration again

    def _reload_on_signal(self, now: float) -> None:
        try:
            self._ask_for_reading(now)
        except ValueError as error:
            log.warning("%s", error)

    def _ask_for_reading(self, now: float, answer: Optional[Later] = None) -> None:
        """Have the file read as it is now, and `answer` told how that went."""
        if self._reading is None:
            self._begin_reading(now)
        else:
            # The reading that is on may have passed over what has changed since.
            self._read_again = True
        if answer is not None:
            (self._reload_next if self._read_again else self._reload_answers).append(answer)

    def _begin_reading(self, now: float) -> None:
        """Let a child read the file; packets pass on meanwhile."""
        if self._path is None:
            raise ValueError("this agent was not started with a file to read: restart it")
        try:
            self._reading = configuration.Reading(self._path)
        except OSError as error:
            raise ValueError(
                f"{self._path} cannot be read ({error.strerror}): try again"
            ) from error
        self._reading_fd = self._reading.fileno()
        self._reading_due = now + READING_LIMIT_S
        self._epoll.register(self._reading_fd, select.EPOLLIN)

    def _give_up_reading(self, now: float) -> None:
        reading = self._end_reading()
        reading.give_up()
        self._reloaded(
            now,
            ValueError(f"reading {reading.path} takes too long, so nothing was changed: try again"),
        )

    def _stop_reading(self) -> None:
        """Tell those who wait for a reading, on the way out, that there will be none."""
        if self._reading is not None:
            self._end_reading().give_up()
        for answer in (*self._reload_answers, *self._reload_next):
            answer.refuse(ValueError("the agent is stopping, so nothing was changed"))

    def _read_on(self, now: float) -> None:
        assert self._reading is not None
        if not self._reading.take():
            return
        reading = self._end_reading()
        try:
            self._apply(reading.result(), now)
        except ConfigError as error:
            self._reloaded(
                now,
                ValueError("nothing was changed, because of this:\n" + "\n".join(error.errors)),
            )
        except ValueError as error:
            self._reloaded(now, error)
        else:
            self._reloaded(now, None)

    def _end_reading(self) -> configuration.Reading:
        reading = self._reading
        assert reading is not None
        self._epoll.unregister(self._reading_fd)
        self._reading, self._reading_fd, self._reading_due = None, -1, float("inf")
        return reading

    def _reloaded(self, now: float, error: Optional[ValueError]) -> None:
        """Tell the log, and who asked for it, how it went; read once more if need be."""
        answers, self._reload_answers = self._reload_answers, []
        if error is None:
            log.info("the configuration was read again and holds from now on")
        else:
            log.warning("the configuration was read again: %s", error)
        for answer in answers:
            if error is None:
                answer.give(None)
            else:
                answer.refuse(error)
        if self._read_again:
            self._read_again = False
            self._reload_answers, self._reload_next = self._reload_next, []
            try:
                self._begin_reading(now)
            except ValueError as begin_error:
                self._reloaded(now, begin_error)

    def _apply(self, config: Config, now: float) -> None:
        """Go over to `config`, whole or not at all; `ValueError` says why not."""
        before = self._config
        differing = set(configuration.what_differs(before, config)).difference(APPLIED_LIVE)
        if differing:
            raise Refusal(
                "{}: only a restart changes that, so nothing was changed; restart the service, or"
                " put it back".format(", ".join(sorted(differing))),
                REASON_RESTART,
            )
        if self._sealed is not None:
            try:
                self._sealed.reload(self._secure_settings(config), now)
            except ValueError as error:
                raise Refusal(str(error), REASON_RESTART) from error
        else:
            self._change_remotes(set(before.remotes), set(config.remotes), now)
        if config.cpu_latency_us != before.cpu_latency_us or self._wakefulness.refused:
            self._wakefulness.close()
            self._wakefulness = Wakefulness(config.cpu_latency_us, self._node.carried)
        self._bound.set(config.max_age_s)
        self._node.set_max_age(self._bound.max_age_s)
        self._config = config
        self._look_soon(now)

    def _change_remotes(
        self,
        before: Set[configuration.Remote],
        after: Set[configuration.Remote],
        now: float,
    ) -> None:
        kept = {remote.host for remote in after}
        for host in {remote.host for remote in before} - kept:
            with contextlib.suppress(ValueError):  # removed over the control socket already
                self._node.remove_remote(host, None, now)
        for remote in before - after:
            if remote.host in kept:
                with contextlib.suppress(ValueError):
                    self._node.remove_remote(remote.host, remote.address, now)
        for remote in after - before:
            self._node.add_remote(remote.host, remote.address, remote.index, now)

    # --- the control socket

    def _answer(self, request: Dict[str, Any], client: Client) -> Any:
        """Answer one request of `client`; `ValueError` with a sentence if it cannot be."""
        command = request["command"]
        now = boot_clock()
        if command == "status":
            return self._status(now)
        if command == "remote-add":
            host, address, number = self._remote(request, self._config.port)
            self._node.add_remote(host, address, number, now)
            self._look_soon(now, Change.ROUTES)
            log.info("remote %s of %s added over the control socket", address, host)
            return None
        if command == "remote-remove":
            host, which = _text(request, "host"), None
            if request.get("address") is not None:
                _, which, port = self._remote(request, 0)
                if self._secure and port:
                    raise ValueError("this forgets all ports of an address: leave the port out")
            self._node.remove_remote(host, which, now)
            log.info("remote %s of %s removed over the control socket", which or "*", host)
            return None
        if command == "reload":
            self._check_own(request.get("config"))
            answer = Later()
            self._ask_for_reading(now, answer)
            return answer
        if command == "keylog":
            if self._sealed is None:
                raise ValueError("only the encapsulation secure has session keys")
            if client.uid != 0:
                raise ValueError("the keys of sessions are for root alone: run this as root")
            if not client.knows_keys:
                client.knows_keys = True
                log.warning("the keys of the sessions are given out over the control socket")
            return self._sealed.session_keys()
        raise ValueError(
            "unknown command: the commands are status, remote-add, remote-remove, reload and keylog"
        )

    def _check_own(self, named: Any) -> None:
        """Refuse to read another file than the agent's own for whoever has `named` one."""
        if named is None or self._path is None:
            return
        if not isinstance(named, str) or os.path.realpath(named) != os.path.realpath(self._path):
            raise ValueError(
                f"this agent reads {os.path.abspath(self._path)} and no other file: name the"
                " control socket of the one that you mean with --control"
            )

    def _remote(self, request: Dict[str, Any], default_port: int) -> Tuple[str, str, int]:
        """Return host, address and, as the encapsulation has it, interface index or port."""
        host, text = _text(request, "host"), _text(request, "address")
        index = request.get("index", 0)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 1 << 31:
            raise ValueError("index is a number from 0 to 2147483647")
        if not self._secure:
            return host, text, index
        if index:
            raise ValueError("only the encapsulation classic takes an index: leave it out")
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        address, port = configuration.endpoint(text, default_port)
        return host, address, port

    def _status(self, now: float) -> Dict[str, Any]:
        status: Dict[str, Any] = {
            "version": __version__,
            "uptime_s": round(now - self._started_at, 3),
        }
        status.update(self._node.status(now))
        status["process"] = {
            **self._granted,
            "cpu_latency_us": self._wakefulness.granted,
            "cpu_latency_held": self._wakefulness.held,
        }
        status["device"] = {
            "name": self._config.device_name,
            "index": self._device_index,
            "mtu": self._device_mtu,
            "read_errors": dict(self._read_errors),
            "write_errors": dict(self._write_errors),
            "dropped": dict(sum(self._outgoing.dropped.values(), Counter())),
        }
        if self._secure:
            status["offload"] = self._offload()
        drops: Dict[int, int] = {}
        for receiver in (source.sockets for source in self._receivers.values()):
            drops[receiver.index] = drops.get(receiver.index, 0) + receiver.receive_drops()
        status["not_taking_part"] = [dataclasses.asdict(one) for one in self._select()[1]]
        for link in self._with_links(status)["links"]:
            index = link["index"]
            link["receive_drops"] = drops.get(index, 0)
            link["dropped"] = self._dropped_at(index)
            link["buffers"] = self._buffers_at(index)
            link["unusable"] = self._why_unusable(link["index"])
        status["warnings"] = self._warnings(status)
        return status

    def _with_links(self, status: Dict[str, Any]) -> Dict[str, Any]:
        """Add to the node's ``status`` the links that it does not know, and those not there."""
        links, left_out = self._select()
        known = {link["index"] for link in status["links"]}
        if not self._secure:
            # The node knows nothing of links without sockets.
            status["links"] += [
                _without_sockets(link, self._fault(link.index) or NO_SOCKETS)
                for link in links
                if link.index not in known
            ]
            status["links"].sort(key=lambda link: link["index"])
        status["missing_links"] = [
            dataclasses.asdict(one) for one in self._missing(links, left_out)
        ]
        return status

    def _missing(
        self, links: Sequence[Link], left_out: Sequence[selection.LeftOut]
    ) -> List[LinkHealth]:
        """Return the interfaces that the configuration names and that take no part."""
        config = self._config
        return selection.missing(config.include, config.exclude, links, left_out)

    def _expect(self, links: Sequence[Link], left_out: Sequence[selection.LeftOut]) -> None:
        """Tell the node which links should carry and cannot, as only this side knows."""
        faults = [(link, self._fault(link.index)) for link in links]
        unusable = [LinkHealth(link.index, link.name, fault) for link, fault in faults if fault]
        self._node.expect([*unusable, *self._missing(links, left_out)])

    def _fault(self, index: int) -> str:
        """Return why a link cannot be used, as the end of a sentence; empty where it can."""
        reason = self._why_unusable(index)
        return f"it cannot be used: {reason}" if reason else ""

    def _warnings(self, status: Dict[str, Any]) -> List[str]:
        """Return, as sentences, what keeps this host from being as it should be."""
        told = [self._no_link_told, self._device_fault, self._steering_fault]
        if not status["links"]:
            told.append(
                "no interface takes part, so no packet gets through: look at interfaces.include and"
                " interfaces.exclude"
            )
        told += self._overlap_sentences()
        told += [str(one) for one in self._own_addresses]
        told += self._shared_lan_sentences() + self._absent_sentences()
        if self._secure:
            told += _reverse_path_sentences(status)
        return [sentence for sentence in told if sentence]

    def _offload(self) -> Dict[str, str]:
        """Return for each feature of the kernel "on", or why packets go without it."""
        features: Dict[str, str] = {}
        told = [] if self._tun is None else [("", self._tun.features)]
        told += [
            (f"{sockets.name}: ", sockets.features)  # type: ignore[union-attr]
            for sockets in self._sockets.values()
        ]
        for place, there in told:
            for name, reason in there.items():
                if features.get(name, ON) == ON:
                    features[name] = ON if reason == ON else place + reason
        for name in self._config.offload_disable:
            features[name] = "off by configuration"
        return features

    def _dropped_at(self, index: int) -> Dict[str, int]:
        """Return how many frames of a link were dropped because too many came, by reason."""
        total: Counter[str] = Counter()
        for key, sockets in self._sockets.items():
            if sockets.index == index:
                total.update(self._incoming.dropped.get(key, {}))
        return dict(total)

    def _buffers_at(self, index: int) -> Dict[str, int]:
        """Return the smallest buffers of a link's sockets, in bytes as the kernel counts them."""
        found = [s.buffers() for s in self._sockets.values() if s.index == index]
        return {name: min(buffers[name] for buffers in found) for name in (found or ({},))[0]}

    def _why_unusable(self, index: int) -> Optional[str]:
        """Return why not all of a link can be used, or None where it can."""
        reasons = []
        if index in self._left_out and not any(s.index == index for s in self._sockets.values()):
            reasons.append(self._left_out[index])
        for key, reason in self._unusable.items():
            if key == index:
                reasons.append(reason)
            elif isinstance(key, tuple) and key[0] == index:
                reasons.append(f"{key[1]}: {reason}")
        return "; ".join(reasons) or None


def _without_sockets(link: Link, fault: str) -> Dict[str, Any]:
    return {
        "index": link.index,
        "name": link.name,
        "addresses": list(link.addresses),
        "mtu": link.mtu,
        "up": False,
        "carries": False,
        "fault": fault,
        "send_errors": {},
    }


def _reverse_path_sentences(status: Dict[str, Any]) -> List[str]:
    """Return which links hear nothing because the kernel drops it for the way back."""
    names = {link["index"]: link["name"] for link in status["links"] if link["up"]}
    strict = {index for index, name in names.items() if reverse_path.is_strict(name)}
    sentences: Dict[int, str] = {}
    silent = [
        connection
        for peer in status["peers"]
        for connection in peer["connections"]
        if connection["link"] in strict and connection["routed"] and not connection["state"]
    ]
    for connection in silent[:REVERSE_PATHS_MAX]:
        index, address = connection["link"], connection["address"]
        if index in sentences or ":" in address:
            continue
        try:
            back = reverse_path.way_back(connection["source"], address)
        except OSError:
            continue
        if back != index:
            name = names[index]
            way = f"leaves by {names.get(back, 'another interface')}" if back else "is missing"
            # sysctl(8) writes a dot in a name as a slash.
            sysctl = "net.ipv4.conf.{}.rp_filter".format(name.replace(".", "/"))
            sentences[index] = (
                f"{name}({index}): the kernel drops what comes from {address}, because its route"
                f" there {way} and rp_filter is strict: set {sysctl} to 2"
            )
    return list(sentences.values())


def _bound(
    addresses: Iterable[str], index: int, sockets: Dict[Hashable, Sockets]
) -> Tuple[str, ...]:
    return tuple(text for text in addresses if (index, text.split("/")[0]) in sockets)


def _leads_to(address: str) -> int:
    try:
        return steering.leads_to(address)
    except OSError:
        return 0


def _another_host(config: Config) -> str:
    """Return an address of the virtual network that is not this host's."""
    hosts = ipaddress.IPv4Network(config.network).hosts()
    return next(str(host) for host in hosts if str(host) != config.address)


def _what_lacks(found: steering.Steering, wanted: steering.Steering) -> str:
    if (wanted.main and not found.main) or (wanted.first and not found.first):
        return "it lacks its route"
    if wanted.rules - found.rules:
        return "a rule that leads to it is gone"
    return "another way leads to it"


def _one(_: bytes) -> int:
    return 1


def _nothing_left(reads: List[bytes]) -> Tuple[List[bytes], int]:
    return [], len(reads)


def _nothing_left_of_super_packets(reads: List[bytes]) -> Tuple[List[bytes], int]:
    return [], sum(map(segments.count, reads))


def _frames_in(sent: Union[Train, bytes]) -> int:
    return sent.count if isinstance(sent, Train) else 1


def _no_device(packets: List[bytes]) -> Dict[str, int]:
    return {"ENODEV": len(packets)}


def _remove_link(path: str) -> None:
    with contextlib.suppress(OSError):  # the service's folder may be gone already
        os.unlink(path)


def _remove_firewall(table: str) -> None:
    try:
        firewall.delete(table)
    except OSError as error:
        log.warning("%s; `ropeway cleanup` removes the table", error)


def _text(request: Dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError(f"{key} is missing or is not a short text")
    return value
