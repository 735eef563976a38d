"""Follows the host's interfaces, tells the engine what is there, and keeps the device as it wishes.

Events of the kernel are hints; a dump is the truth.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
from typing import Callable, Iterable, List, Optional, Sequence, Tuple

from ropeway.app.rate_limited_log import RateLimitedLog
from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth
from ropeway.kernel.tun import OpenedDevice
from ropeway.kernel.udp import preferred_source
from ropeway.steward import answers, no_device, overlap, selection
from ropeway.steward.device import open_device
from ropeway.steward.dump_schedule import DUMP_GAP_S, DumpSchedule
from ropeway.steward.failures import StartFailed
from ropeway.steward.interface import Change, Interface
from ropeway.steward.learnt_routes import LearntRoutes
from ropeway.steward.loop import RETRY_S, Schedule
from ropeway.steward.netlink import hints, interfaces, routes
from ropeway.steward.orders import Wish
from ropeway.steward.report import Report
from ropeway.steward.route_lookup import RouteLookup
from ropeway.steward.settings import Settings
from ropeway.steward.upkeep import Upkeep

log = logging.getLogger("ropeway")

# Tuning
#: What keeps links from receiving shows in settings of the kernel, which are looked at this often.
FINDINGS_EVERY_S = 2.0

_INF = float("inf")

#: Sends an answer with descriptors, which are closed then.
Tell = Callable[[answers.Answer, Sequence[int]], None]


class Watch:
    """Follows the interfaces by `settings`; what it sees and makes goes to `tell`."""

    def __init__(self, loop: Schedule, settings: Settings, tell: Tell) -> None:
        self._loop = loop
        self._settings = settings
        self._tell = tell
        self._repeated = RateLimitedLog()
        self._schedule = DumpSchedule(loop.clock())
        self._findings_due = loop.clock()
        # What the engine has not answered yet: it is the newest that counts.
        self._wish: Optional[Wish] = None
        self._starting = False
        self._tended = True
        self._first = False
        self._opened: Optional[Tuple[int, OpenedDevice]] = None
        self._devices_given = 0
        self._last_given = 0
        self._dumped: Sequence[Interface] = ()
        self._left_out: Sequence[selection.LeftOut] = ()
        self._report = Report(settings)
        self._lookup = RouteLookup(routes.source_by, preferred_source)
        self._snapshot = answers.Snapshot()
        self._told = answers.Shown()
        self._upkeep = Upkeep(settings, self._give_device, self._device_configured, self.look_by)
        self._learnt = LearntRoutes()
        self._hints = hints.Hints(settings.secure)
        loop.register(self._hints.fileno(), self._hinted)
        # When hints are listened to again; infinity while they are.
        self._listen_at = _INF

    # --- the start

    def open_device(self) -> None:
        """Make the device; `StartFailed` says why it cannot be made."""
        settings = self._settings
        try:
            self._opened = open_device(settings.device_name, frozenset(settings.device_features))
        except OSError as error:
            sentence = no_device.why(settings.device_name, error)
            raise StartFailed(sentence, error.errno == errno.EINVAL) from error
        self._starting = True

    def announce_device(self) -> None:
        """Give the device that was made to the engine."""
        assert self._opened is not None
        (index, opened), self._opened = self._opened, None
        self._give_device(index, opened)

    def close(self) -> None:
        """Follow nothing any more, and undo what leads packets to the device."""
        if self._listen_at == _INF:
            self._loop.unregister(self._hints.fileno())
        self._hints.close()
        if self._opened is not None:
            self._opened[1].close()
        self._learnt.close()
        self._upkeep.close()

    @property
    def settings(self) -> Settings:
        """The settings that interfaces are chosen by."""
        return self._settings

    @property
    def links(self) -> Tuple[Link, ...]:
        """The links of the last snapshot."""
        return self._snapshot.links

    # --- what the engine says

    def set_settings(self, settings: Settings, now: float) -> None:
        """Choose interfaces by other settings, of the same device, from now on."""
        self._settings = self._report.settings = settings
        self._upkeep.set_settings(settings)
        self.look_soon(now)

    def take_wish(self, wish: Wish, now: float) -> None:
        """Do what the engine wishes, and look at the interfaces where that has not been done.

        `StartFailed` where the first look shows that the agent cannot start.
        """
        before, self._wish = self._wish, wish
        if before is None:
            self._look_first(now)
            return
        if wish.far != before.far:
            self._schedule.look_up_soon(now)
        if (wish.receiving, wish.unheard) != (before.receiving, before.unheard):
            self._findings_due = now
        if wish.silent != before.silent:
            self._findings_due = now
        if wish.routes != before.routes:
            self._follow_routes()
            self._show_again(now)
        if self._tended:
            if wish.device_mtu != self._upkeep.mtu or wish.device_index != before.device_index:
                self.look_soon(now)
        elif wish.snapshot == self._snapshot.number:
            self._tend(now)

    def look_soon(self, now: float, change: Change = Change.INTERFACES) -> None:
        """Look at what may have changed at once, or as soon as the last dump allows."""
        self._schedule.soon(now, change)
        self._loop.sooner(self._schedule.deadline())

    def _listen_again(self, now: float) -> None:
        """Listen to hints again, or try that later if the kernel watches nothing more."""
        try:
            self._loop.register(self._hints.fileno(), self._hinted)
        except OSError:
            self._listen_at = now + DUMP_GAP_S
        else:
            self._listen_at = _INF

    def look_by(self, at: float) -> None:
        """Look at everything at `at` at the latest."""
        self._schedule.by(at)
        self._loop.sooner(at)

    def link_names(self) -> List[str]:
        """Return the names of the links that are up."""
        return [link.name for link in self._snapshot.links if link.up]

    # --- the loop's side

    def deadline(self) -> float:
        """Return when a look is due."""
        if self._wish is None:
            return _INF
        return min(self._schedule.deadline(), self._findings_due, self._listen_at)

    def tick(self, now: float) -> None:
        """Look at what is due."""
        if self._wish is None:
            return
        if now >= self._listen_at:
            self._listen_again(now)
        change = self._schedule.due(now)
        if change is Change.INTERFACES:
            self._dump(now)
        elif change is Change.ROUTES:
            self._look_at_routes(now)
        elif self._schedule.is_lookup_due(now):
            self._deliver(self._look_up(self._snapshot.links, now))
        if now >= self._findings_due:
            self._findings_due = now + FINDINGS_EVERY_S
            self._report.filter(self._wish.silent, self._snapshot.links)
            self._show_again(now)

    def _hinted(self, _events: int, now: float) -> None:
        self.look_soon(now, self._hints.drain())
        # A routing daemon may send a hundred thousand hints a second, and one is as good as all.
        self._loop.unregister(self._hints.fileno())
        self._listen_at = now + DUMP_GAP_S
        self._loop.sooner(self._listen_at)

    # --- looking

    def _look_first(self, now: float) -> None:
        starting, self._starting = self._starting, False
        self._schedule.due(now)
        try:
            dumped = interfaces.interfaces(self._settings.secure)
        except OSError as error:
            if starting:
                self._refuse_start(error)
            log.warning("the network interfaces cannot be listed (%s)", error.strerror or error)
            self.look_by(now + RETRY_S)
            return
        self._look(now, dumped, starting)
        if starting and not self._snapshot.links:
            log.warning(
                "no interface takes part yet: look at interfaces.include and interfaces.exclude"
            )

    def _refuse_start(self, error: OSError) -> None:
        raise StartFailed(
            f"the device {self._settings.device_name} cannot be set up"
            f" ({error.strerror or error}): give the agent CAP_NET_ADMIN"
        ) from error

    def _dump(self, now: float) -> None:
        try:
            dumped = interfaces.interfaces(self._settings.secure)
        except OSError as error:
            log.warning("the network interfaces cannot be listed (%s)", error.strerror or error)
            self.look_by(now + RETRY_S)
        else:
            self._look(now, dumped)

    def _look(self, now: float, dumped: Sequence[Interface], starting: bool = False) -> None:
        """Give a snapshot of what was dumped; the device follows once the engine answers."""
        if self._schedule.routes_may_differ(now) or dumped != self._dumped:
            self._lookup.forget()
        self._dumped = dumped
        links = self._select(now)
        self._schedule.note(now, self._loop.clock())
        for one in self._left_out:
            if one.stacked:
                sentence = f"{one.name}({one.index}) takes no part, because it {one.reason}"
                self._repeated.warn(sentence, now)
        if starting:
            _refuse_virtual_address(self._settings, links)
        self._report.note(dumped, links)
        self._tended = False
        self._first = starting
        self._deliver(links, self._missing(links))

    def _look_at_routes(self, now: float) -> None:
        """Look routes up again; nothing else has changed."""
        self._schedule.routes_may_differ(now)
        self._lookup.forget()
        links = self._select(now)
        self._schedule.note(now, self._loop.clock())
        # Some hosts have thousands of changes that are no matter of these links.
        if links != self._snapshot.links:
            self._deliver(links)
        self._upkeep.steer(self._device(), self._overlaps(), self._settings.precedence, now)
        self._follow_routes()
        self._show_again(now)

    def _tend(self, now: float) -> None:
        """Bring the device in line with the wish, and say what is wrong with this host."""
        assert self._wish is not None
        self._tended = True
        starting, self._first = self._first, False
        mtu, precedence = self._wish.device_mtu, self._settings.precedence
        try:
            self._upkeep.tend(self._device(), mtu, self._overlaps(), precedence, now, starting)
        except OSError as error:
            self._refuse_start(error)
        self._follow_routes()
        self._show_again(now)

    def _follow_routes(self) -> None:
        """Have the routes to networks behind other hosts that the engine wishes for."""
        assert self._wish is not None
        index = self._device_index()
        others = [one for one in self._dumped if one.index != index]
        wanted, far = self._wish.routes if self._settings.has_address else (), self._wish.far
        self._learnt.follow(self._device(), self._settings.address, wanted, far, others)

    def _look_up(self, links: Sequence[Link], now: float) -> Tuple[Link, ...]:
        """Return `links` with the sources to reach the far addresses from."""
        assert self._wish is not None
        found = tuple(self._lookup.complete(links, self._wish.far))
        self._schedule.note_lookup(self._loop.clock())
        if self._lookup.lacks:
            self._schedule.look_up_soon(now)
        return found

    def _select(self, now: float) -> Tuple[Link, ...]:
        """Divide what was dumped into links and others."""
        settings = self._settings
        rules = selection.Rules(
            settings.include,
            settings.exclude,
            settings.device_name,
            self._device_index(),
            settings.network,
            settings.secure,
            settings.named_addresses,
        )
        links, self._left_out = selection.select(self._dumped, rules, _leads_to)
        return self._look_up(links, now)

    def _missing(self, links: Sequence[Link]) -> Tuple[LinkHealth, ...]:
        settings = self._settings
        return tuple(selection.missing(settings.include, settings.exclude, links, self._left_out))

    # --- the device

    def _device_index(self) -> int:
        """Return the device's index: the last one given, until the engine has received it."""
        wish = self._wish
        if wish is None or wish.devices_received < self._devices_given:
            return self._last_given
        return wish.device_index

    def _device(self) -> Optional[Interface]:
        index = self._device_index()
        return next((i for i in self._dumped if index and i.index == index), None)

    def _give_device(self, index: int, opened: OpenedDevice) -> None:
        self._devices_given += 1
        self._last_given = index
        self._tell(answers.DeviceOpened(index, dict(opened.features)), opened.descriptors)

    def _device_configured(self, mtu: int) -> None:
        self._tell(answers.DeviceConfigured(mtu), ())

    # --- what the engine is told

    def _deliver(
        self,
        links: Tuple[Link, ...],
        missing: Optional[Tuple[LinkHealth, ...]] = None,
    ) -> None:
        before = self._snapshot
        self._snapshot = answers.Snapshot(
            before.number + 1,
            links,
            before.missing if missing is None else missing,
        )
        self._tell(self._snapshot, ())

    def _show_again(self, now: float) -> None:
        """Tell what the status shows, if that has changed, and log what is new."""
        assert self._wish is not None
        lasting = self._report.lasting(self._overlaps(), self._wish)
        for sentence in lasting:
            self._repeated.warn(sentence, now)
        shown = answers.Shown(
            left_out=[dataclasses.asdict(one) for one in self._left_out],
            device_faults=[
                self._upkeep.device_fault,
                self._upkeep.steering_fault,
                self._upkeep.ipv6_fault,
            ],
            warnings=[*lasting, *self._learnt.faults, *self._report.filtered],
        )
        if shown != self._told:
            self._told = shown
            self._tell(shown, ())

    def _overlaps(self) -> List[overlap.Overlap]:
        return overlap.find(self._dumped, self._settings.network, self._device_index())


def _refuse_virtual_address(settings: Settings, links: Iterable[Link]) -> None:
    for link in links:
        if settings.address in [text.split("/")[0] for text in link.addresses]:
            raise StartFailed(
                f"address: {link.name}({link.index}) has {settings.address} already:"
                " choose another address or network, or exclude that interface",
                is_mistake=True,
            )


def _leads_to(address: str) -> int:
    with contextlib.suppress(OSError):
        return routes.leads_to(address)
    return 0
