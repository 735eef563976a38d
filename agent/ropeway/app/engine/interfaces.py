"""What the engine knows of the host's interfaces, and what it wants of them.

The engine receives whole snapshots and never asks the kernel about interfaces itself. Events of the
kernel are hints; a dump is the truth.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence, Tuple

from ropeway.app import overlap, own_address, selection, shared_lan
from ropeway.app.config.model import SECURE, Config
from ropeway.app.engine.findings import Silent, reverse_path_sentences, shared_lan_sentences
from ropeway.app.engine.loop import RETRY_S, Loop
from ropeway.app.engine.rate_limited_log import RateLimitedLog
from ropeway.app.engine.upkeep import Upkeep
from ropeway.app.errors import ConfigError
from ropeway.app.route_lookup import RouteLookup
from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth
from ropeway.kernel import netlink, steering
from ropeway.kernel.netlink import Change
from ropeway.kernel.udp import preferred_source

log = logging.getLogger("ropeway")

# Tuning
#: Netlink may lose an event; a dump this often finds the change.
DUMP_EVERY_S = 30.0
#: A burst of netlink events costs one dump in this time ...
DUMP_GAP_S = 0.05
#: ... and dumps never take more than one part in this of the time.
DUMP_SHARE = 10
#: What the engine wishes changes without any event of netlink; it is compared this often.
WISH_EVERY_S = 1.0
#: Routes to far addresses that the engine has met since the last look are looked up this often.
LOOKUP_GAP_S = 0.05

_INF = float("inf")


@dataclass(frozen=True)
class Wish:
    """What the engine wants of the host, and what the host has to know of the engine."""

    #: The interface index of the open device; 0 if there is none and it has to be made.
    device_index: int
    #: The MTU in bytes that the device has to have.
    device_mtu: int
    #: Far addresses: each link says from which address the kernel sends there.
    far: Sequence[str] = ()
    #: The interfaces that sockets receive by, by index; None if sockets receive by any interface.
    receiving: Optional[Sequence[int]] = None
    #: Links, by index, and their addresses for which no socket receives at other interfaces, and
    #: why.
    unheard: Mapping[Any, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The host's interfaces at one moment."""

    #: The interfaces that take part.
    links: Tuple[Link, ...] = ()
    #: The interfaces that the configuration names and that take no part.
    missing: Tuple[LinkHealth, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What only the status shows."""

    #: The interfaces that take no part, each with the reason.
    left_out: Sequence[Mapping[str, Any]]
    #: What is wrong with the device, and why packets do not reach it, as sentences; "" is nothing.
    device_faults: Sequence[str]
    #: What else keeps this host from being as it should be, as sentences.
    warnings: Sequence[str]


class DumpSchedule:
    """When interfaces and routes are dumped, and routes to far addresses looked up.

    All times are seconds of the loop's clock.
    """

    def __init__(self, now: float) -> None:
        self._interfaces_due = now
        self._routes_due = _INF
        self._lookup_due = _INF
        self._looked_up_at = -_INF
        self._gap_s = DUMP_GAP_S
        self._dumped_at = -_INF

    def deadline(self) -> float:
        """Return when the next dump is due."""
        return min(self._interfaces_due, self._routes_due, self._lookup_due)

    def soon(self, now: float, change: Change) -> None:
        """Dump what may have changed at once, or as soon as the gap after the last dump allows."""
        due = max(now, self._dumped_at + self._gap_s)
        if change is Change.INTERFACES:
            self.by(due)
        elif change is Change.ROUTES:
            self._routes_due = min(self._routes_due, due)

    def by(self, at: float) -> None:
        """Dump everything at `at` at the latest."""
        self._interfaces_due = min(self._interfaces_due, at)

    def look_up_soon(self, now: float) -> None:
        """Look routes up at once, or as soon as the gap after the last time allows."""
        self._lookup_due = max(now, self._looked_up_at + LOOKUP_GAP_S)

    def is_lookup_due(self, now: float) -> bool:
        """Say whether routes have to be looked up now."""
        return now >= self._lookup_due

    def note_lookup(self, now: float) -> None:
        """Take note that the routes to all far addresses were looked up."""
        self._lookup_due, self._looked_up_at = _INF, now

    def due(self, now: float) -> Change:
        """Return what has to be dumped now, and take note that it is."""
        if now >= self._interfaces_due:
            self._interfaces_due, self._routes_due = now + DUMP_EVERY_S, _INF
            return Change.INTERFACES
        if now >= self._routes_due:
            self._routes_due = _INF
            return Change.ROUTES
        return Change.NOTHING

    def note(self, began_at: float, ended_at: float) -> None:
        """Let the next dump wait the longer the longer this one took."""
        self._dumped_at = ended_at
        self._gap_s = max(DUMP_GAP_S, DUMP_SHARE * (ended_at - began_at))


class Interfaces:
    """Follows the interfaces, gives a snapshot after each look, and keeps the device as wished.

    `wish` returns what the engine wants at the moment; `deliver` takes a snapshot and the time.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        upkeep: Upkeep,
        wish: Callable[[], Wish],
        deliver: Callable[[Snapshot, float], None],
    ) -> None:
        self._loop = loop
        self._config = config
        self._secure = config.encapsulation == SECURE
        self._upkeep = upkeep
        self._wish = wish
        self._deliver = deliver
        self._repeated = RateLimitedLog()
        self._schedule = DumpSchedule(loop.clock())
        self._wish_due = loop.clock()
        self._dumped: Sequence[netlink.Interface] = ()
        self._left_out: Sequence[selection.LeftOut] = ()
        self._shared_lans: Sequence[shared_lan.SharedLan] = ()
        self._lookup = RouteLookup(preferred_source)
        #: What was found last.
        self.snapshot = Snapshot()
        self._hints = netlink.Hints(self._secure)
        loop.register(self._hints.fileno(), self._hinted)

    def start(self) -> None:
        """Look for the first time and set the device up.

        `OSError` where the kernel refuses, `ConfigError` where a link has the virtual address.
        """
        now = self._loop.clock()
        self._look(now, netlink.dump(self._secure), starting=True)
        if not self.snapshot.links:
            log.warning(
                "no interface takes part yet: look at interfaces.include and interfaces.exclude"
            )

    def close(self) -> None:
        """Follow nothing any more, and undo what leads packets to the device."""
        self._loop.unregister(self._hints.fileno())
        self._hints.close()
        self._upkeep.close()

    def set_config(self, config: Config, now: float) -> None:
        """Choose interfaces by another configuration from now on."""
        self._config = config
        self.look_soon(now)

    def look_soon(self, now: float, change: Change = Change.INTERFACES) -> None:
        """Look at what may have changed at once, or as soon as the last dump allows."""
        self._schedule.soon(now, change)
        self._loop.sooner(self._schedule.deadline())

    def look_by(self, at: float) -> None:
        """Look at everything at `at` at the latest."""
        self._schedule.by(at)
        self._loop.sooner(at)

    def wish_changed(self, now: float) -> None:
        """Look up routes to the far addresses that the engine wishes to reach now."""
        self._schedule.look_up_soon(now)
        self._loop.sooner(self._schedule.deadline())

    def deadline(self) -> float:
        """Return when a look, or a comparison of wishes, is due."""
        return min(self._schedule.deadline(), self._wish_due)

    def tick(self, now: float) -> None:
        """Look at the interfaces, if that is due, and compare the device's MTU with the wish."""
        change = self._schedule.due(now)
        if change is not Change.NOTHING:
            self._dump(change, now)
        elif self._schedule.is_lookup_due(now):
            links = self._look_up(self.snapshot.links, self._wish(), now)
            self.snapshot = dataclasses.replace(self.snapshot, links=links)
            self._deliver(self.snapshot, now)
        if now >= self._wish_due:
            self._wish_due = now + WISH_EVERY_S
            if self._wish().device_mtu != self._upkeep.mtu:
                self.look_soon(now)

    def shown(self) -> Shown:
        """Return what only the status shows."""
        return Shown(
            left_out=[dataclasses.asdict(one) for one in self._left_out],
            device_faults=[self._upkeep.device_fault, self._upkeep.steering_fault],
            warnings=[
                *self._overlap_sentences(),
                *self._own_address_sentences(),
                *self._shared_lan_sentences(self._wish()),
                *self._absent_sentences(),
            ],
        )

    def filtered(self, silent: Sequence[Silent]) -> List[str]:
        """Return which of the `silent` connections hear nothing because of the kernel's filter."""
        names = {link.index: link.name for link in self.snapshot.links if link.up}
        return reverse_path_sentences(silent, names)

    def _hinted(self, _events: int, now: float) -> None:
        self.look_soon(now, self._hints.drain())

    def _dump(self, change: Change, now: float) -> None:
        what = "network interfaces" if change is Change.INTERFACES else "routes"
        try:
            dumped = (
                netlink.dump(self._secure)
                if change is Change.INTERFACES
                else netlink.dump_routes(self._dumped, self._secure)
            )
        except OSError as error:
            log.warning("the %s cannot be listed (%s)", what, error.strerror or error)
            self.look_by(now + RETRY_S)
            return
        if change is Change.INTERFACES:
            self._look(now, dumped)
        else:
            self._look_at_routes(now, dumped)

    def _look(
        self, now: float, dumped: Sequence[netlink.Interface], starting: bool = False
    ) -> None:
        """Give a snapshot of what was dumped, and bring the device in line with the wish."""
        self._note_dump(dumped, now)
        wish = self._wish()
        self._select(wish, now)
        for one in self._left_out:
            if one.stacked:
                sentence = f"{one.name}({one.index}) takes no part, because it {one.reason}"
                self._repeated.warn(sentence, now)
        if starting:
            _refuse_virtual_address(self._config, self.snapshot.links)
        self._shared_lans = shared_lan.find(dumped, self.snapshot.links)
        self._deliver(self.snapshot, now)
        wish = self._wish()
        for sentence in (
            *self._absent_sentences(),
            *sorted(self._overlap_sentences()),
            *self._own_address_sentences(),
            *self._shared_lan_sentences(wish),
        ):
            self._repeated.warn(sentence, now)
        self._tend(wish, now, starting)

    def _look_at_routes(self, now: float, dumped: Sequence[netlink.Interface]) -> None:
        """Give a snapshot with other routes; nothing else has changed."""
        self._note_dump(dumped, now)
        wish = self._wish()
        self._select(wish, now)
        self._deliver(self.snapshot, now)
        self._upkeep.steer(
            self._device(wish.device_index), self._overlaps(), self._config.precedence, now
        )

    def _note_dump(self, dumped: Sequence[netlink.Interface], began_at: float) -> None:
        self._dumped = dumped
        self._lookup.set_interfaces(dumped)
        self._schedule.note(began_at, self._loop.clock())

    def _tend(self, wish: Wish, now: float, starting: bool) -> None:
        device, overlaps = self._device(wish.device_index), self._overlaps()
        self._upkeep.tend(device, wish.device_mtu, overlaps, self._config.precedence, now, starting)

    def _device(self, index: int) -> Optional[netlink.Interface]:
        return next((i for i in self._dumped if index and i.index == index), None)

    def _look_up(self, links: Sequence[Link], wish: Wish, now: float) -> Tuple[Link, ...]:
        """Return `links` with the sources to reach the far addresses from."""
        self._schedule.note_lookup(now)
        return tuple(self._lookup.complete(links, wish.far))

    def _select(self, wish: Wish, now: float) -> None:
        """Divide what was dumped into links and others."""
        config = self._config
        rules = selection.Rules(
            config.include,
            config.exclude,
            config.device_name,
            wish.device_index,
            config.network,
            self._secure,
            config.named_addresses,
        )
        links, self._left_out = selection.select(self._dumped, rules, _leads_to)
        self.snapshot = Snapshot(
            links=self._look_up(links, wish, now),
            missing=tuple(selection.missing(config.include, config.exclude, links, self._left_out)),
        )

    def _overlaps(self) -> List[overlap.Overlap]:
        return overlap.find(self._dumped, self._config.network, self._wish().device_index)

    def _overlap_sentences(self) -> List[str]:
        config = self._config
        return [
            overlap.sentence(one, config.network, config.device_name, config.precedence)
            for one in self._overlaps()
        ]

    def _own_address_sentences(self) -> List[str]:
        return [str(one) for one in own_address.find(self._config, self._dumped)]

    def _absent_sentences(self) -> List[str]:
        """Return which addresses the configuration names and no interface has."""
        named = self._config.named_addresses
        there = selection.present(self._dumped, named)
        return [
            f"interfaces.addresses: no interface has {address}, so nothing comes to it: add it, or"
            " remove it from the configuration"
            for address in named
            if address not in there
        ]

    def _shared_lan_sentences(self, wish: Wish) -> List[str]:
        """Return where frames for a link may come by another interface and are lost there."""
        lost = [_why_unheard(pair, wish) for pair in self._shared_lans]
        return shared_lan_sentences(self._shared_lans, lost)


def _refuse_virtual_address(config: Config, links: Iterable[Link]) -> None:
    for link in links:
        if config.address in [text.split("/")[0] for text in link.addresses]:
            raise ConfigError(
                [
                    f"address: {link.name}({link.index}) has {config.address} already:"
                    " choose another address or network, or exclude that interface"
                ]
            )


def _why_unheard(pair: shared_lan.SharedLan, wish: Wish) -> str:
    """Return why sockets lose what comes for a link by the other interface of its LAN."""
    if wish.receiving is not None:
        return "" if pair.other.index in wish.receiving else f"{pair.other.name} takes no part"
    why = wish.unheard.get((pair.link.index, pair.address))
    return f"no socket can take them there ({why})" if why else ""


def _leads_to(address: str) -> int:
    try:
        return steering.leads_to(address)
    except OSError:
        return 0
