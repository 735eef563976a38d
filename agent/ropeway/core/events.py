"""What has happened, for the log: past tense, never changed, each one a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ropeway.core.endpoint import Endpoint, endpoint_text
from ropeway.core.link import Link
from ropeway.core.token_bucket import TokenBucket
from ropeway.core.tuning import (
    CHANGES_EVERY_S,
    CHANGES_MAX,
    CHANGES_TOLD,
    EVENTS_BURST,
    EVENTS_PER_S,
    LACK_CHANGES_TOLD,
)


@dataclass(frozen=True)
class LinkAppeared:
    """A local interface began to take part."""

    link: Link

    def __str__(self) -> str:
        return f"link {self.link.name}({self.link.index}) appeared with {_addresses(self.link)}"


@dataclass(frozen=True)
class LinkChanged:
    """Addresses, MTU or carrier of a link changed."""

    before: Link
    after: Link

    def __str__(self) -> str:
        return "link {0.name}({0.index}) is {1}, has {2}, MTU {0.mtu}".format(
            self.after,
            "up" if self.after.up else "down",
            _addresses(self.after),
        )


@dataclass(frozen=True)
class LinkVanished:
    """A local interface ceased to take part."""

    link: Link

    def __str__(self) -> str:
        return f"link {self.link.name}({self.link.index}) vanished"


@dataclass(frozen=True)
class ConnectionEstablished:
    """Both ways of a connection were found to work (state 2)."""

    host: str
    link: int
    remote: int
    address: str

    def __str__(self) -> str:
        return (
            f"connection {self.link} -> {self.remote} to {self.host} at {self.address} established"
        )


@dataclass(frozen=True)
class ConnectionLost:
    """An established connection fell back or ended; one that fell may carry for a while yet."""

    host: str
    link: int
    remote: int
    #: Why, as the end of a sentence.
    reason: str

    def __str__(self) -> str:
        return f"connection {self.link} -> {self.remote} to {self.host} lost: {self.reason}"


@dataclass(frozen=True)
class RemoteMoved:
    """A remote interface was heard from another address, and the old one had been silent."""

    host: str
    remote: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"interface {self.remote} of {self.host} moved from {self.before} to {self.after}"


@dataclass(frozen=True)
class SessionMade:
    """A host proved its key, and packets can be sealed for it; rollovers are not reported."""

    host: str

    def __str__(self) -> str:
        return f"session with {self.host} made"


@dataclass(frozen=True)
class SessionLost:
    """A host cannot be sent to until a session is made anew."""

    host: str
    #: Why, as the end of a sentence.
    reason: str

    def __str__(self) -> str:
        return f"session with {self.host} lost: {self.reason}"


@dataclass(frozen=True)
class SessionUnanswered:
    """A host has been asked for a session for a while and has not answered."""

    host: str
    #: What may be the matter, as the end of a sentence.
    reason: str

    def __str__(self) -> str:
        return f"no session with {self.host}: {self.reason}"


@dataclass(frozen=True)
class EndpointMoved:
    """A connection's other end was heard, sealed, from somewhere else."""

    host: str
    link: int
    remote: int
    before: Endpoint
    after: Endpoint

    def __str__(self) -> str:
        return (
            f"connection {self.link} -> {self.remote} to {self.host} moved from"
            f" {endpoint_text(self.before)} to {endpoint_text(self.after)}"
        )


@dataclass(frozen=True)
class PathMtuFound:
    """The largest packet that a connection carries is another than before."""

    host: str
    link: int
    remote: int
    #: Size in bytes of the outer IP packet.
    mtu: int

    def __str__(self) -> str:
        return f"connection {self.link} -> {self.remote} to {self.host} has path MTU {self.mtu}"


@dataclass(frozen=True)
class DeviceMtuSet:
    """The device's MTU is another than before."""

    name: str
    #: In bytes.
    mtu: int

    def __str__(self) -> str:
        return f"device {self.name} has MTU {self.mtu}"


@dataclass(frozen=True)
class HandshakeRefused:
    """A handshake by somebody who does not belong, belongs elsewhere, or is behind was refused."""

    #: A sentence that names the host of the configuration that it concerns.
    note: str

    def __str__(self) -> str:
        return self.note


@dataclass(frozen=True)
class LinkCarriesNothing:
    """No peer has been reached over a link for a while."""

    #: 0 for one that is expected and not there.
    link: int
    name: str
    #: Why, as the end of a sentence.
    fault: str

    def __str__(self) -> str:
        return (
            f"link {_link(self.name, self.link)} carries nothing: {self.fault}; mend it, or leave"
            " it out by interfaces.exclude"
        )


@dataclass(frozen=True)
class LinkCarries:
    """A peer is reached again over a link that was reported to carry nothing."""

    link: int
    name: str

    def __str__(self) -> str:
        return f"link {_link(self.name, self.link)} carries"


@dataclass(frozen=True)
class PeerLacksLink:
    """A host is reached, but has not been for a while over a link that has a way to it."""

    host: str
    link: int
    name: str
    #: Over how many links it is reached.
    reached: int
    #: Why not over this one, as the end of a sentence.
    fault: str

    def __str__(self) -> str:
        return (
            f"{self.host} is reached over {self.reached} link{'s' if self.reached > 1 else ''}"
            f" and not over {_link(self.name, self.link)}: {self.fault}"
        )


@dataclass(frozen=True)
class PeerReachedOver:
    """A host is reached again over a link that was reported not to reach it."""

    host: str
    link: int
    name: str

    def __str__(self) -> str:
        return f"{self.host} is reached over {_link(self.name, self.link)} too"


@dataclass(frozen=True)
class KeyShared:
    """A host was heard, and for a while somebody else used its key."""

    host: str
    here: Endpoint
    there: Endpoint

    def __str__(self) -> str:
        return f"{self.host}: {key_shared(self.here, self.there)}"


@dataclass(frozen=True)
class LeaseTaken:
    """This host has an address by a lease."""

    address: str
    router: str
    time_s: float

    def __str__(self) -> str:
        return f"this host is {self.address}, by a lease of {self.router} for {self.time_s:.0f} s"


@dataclass(frozen=True)
class LeaseLost:
    """This host has an address no longer."""

    address: str
    reason: str

    def __str__(self) -> str:
        return f"the lease of {self.address} is over, because {self.reason}: asking for another one"


@dataclass(frozen=True)
class LeasesExhausted:
    """A host came for a lease, and none was left."""

    size: int

    def __str__(self) -> str:
        return (
            f"a host that asks for a lease gets none, because all {self.size} addresses of the pool"
            " are taken: enlarge leases.pool, or free some with `ropeway leases release`"
        )


@dataclass(frozen=True)
class ChangedOften:
    """Something came and went, or moved to and fro, more often than it was reported."""

    #: What, such as "link wlan0".
    what: str
    count: int
    period_s: float
    #: The last of the changes, which tells how it is now.
    last: Event

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.count} more changes within {self.period_s:.0f} s, the last:"
            f" {self.last}"
        )


@dataclass(frozen=True)
class EventsSuppressed:
    """More happened than is reported."""

    count: int

    def __str__(self) -> str:
        return f"{self.count} more events were not reported"


Event = Union[
    LinkAppeared,
    LinkChanged,
    LinkVanished,
    ConnectionEstablished,
    ConnectionLost,
    RemoteMoved,
    SessionMade,
    SessionLost,
    SessionUnanswered,
    EndpointMoved,
    PathMtuFound,
    DeviceMtuSet,
    HandshakeRefused,
    KeyShared,
    LinkCarriesNothing,
    LinkCarries,
    PeerLacksLink,
    PeerReachedOver,
    LeaseTaken,
    LeaseLost,
    LeasesExhausted,
    ChangedOften,
    EventsSuppressed,
]


def is_warning(event: Event) -> bool:
    """Say whether an operator should look into what has happened."""
    last = event.last if isinstance(event, ChangedOften) else event
    warnings = (LinkCarriesNothing, PeerLacksLink, KeyShared, LeaseLost, LeasesExhausted)
    return isinstance(last, warnings)


def of_links(before: Mapping[int, Link], after: Mapping[int, Link]) -> List[Event]:
    """Give what has happened to the links, by index; routes that come and go are no news."""
    happened: List[Event] = []
    for index, link in after.items():
        if index not in before:
            happened.append(LinkAppeared(link))
        elif _visible(before[index]) != _visible(link):
            happened.append(LinkChanged(before[index], link))
    happened += [LinkVanished(before[index]) for index in before.keys() - after.keys()]
    return happened


def _told_max(event: Event) -> int:
    """Give how many changes of one kind and thing are told one by one."""
    lacks = (LinkCarriesNothing, LinkCarries, PeerLacksLink, PeerReachedOver)
    return LACK_CHANGES_TOLD if isinstance(event, lacks) else CHANGES_TOLD


def key_shared(here: Endpoint, there: Endpoint) -> str:
    """Say what it means that a host is heard ``here``, and that its key is used ``there``."""
    return (
        f"two hosts use its key: one is heard at {endpoint_text(here)}, another one calls from"
        f" {endpoint_text(there)}, or old handshakes are played back there; give one of them a key"
        " and an address of its own"
    )


def _visible(link: Link) -> Tuple[Any, ...]:
    return link.name, link.addresses, link.addresses6, link.mtu, link.up


def _link(name: str, index: int) -> str:
    return f"{name}({index})" if index else name


def _addresses(link: Link) -> str:
    return ", ".join((*link.addresses, *link.addresses6)) or "no address"


@dataclass
class _Changes:
    """What has become of one thing since ``since``."""

    since: float
    told: int = 0
    #: How often it has changed since it was told of last, and what was the last of it.
    untold: int = 0
    last: Optional[Event] = None


class Log:
    """The events since the last look, at most so many a second: strangers can cause them.

    What comes and goes again and again is told each time at first, then once in
    :data:`CHANGES_EVERY_S` with a count, until it has been quiet for as long.
    """

    def __init__(self, now: float) -> None:
        self._events: List[Event] = []
        self._suppressed = 0
        self._limit = TokenBucket(EVENTS_PER_S, EVENTS_BURST, now)
        self._changes: Dict[str, _Changes] = {}
        self._names: Dict[int, str] = {}
        #: When :meth:`expire` has something to do.
        self.due = float("inf")

    def report(self, event: Event, now: float) -> None:
        """Note an event, or only count it if there were too many."""
        if isinstance(event, LinkAppeared):
            # A modem that comes and goes has another index each time.
            while len(self._names) >= CHANGES_MAX:
                del self._names[next(iter(self._names))]
            self._names[event.link.index] = event.link.name
        about = self._about(event)
        if about is None or self._is_told(about, event, now):
            self._note(event, now)

    def _note(self, event: Event, now: float) -> None:
        if self._limit.take(now):
            self._events.append(event)
        else:
            self._suppressed += 1

    def _is_told(self, about: str, event: Event, now: float) -> bool:
        """Say whether a change is told by itself; else count it."""
        changes = self._changes.get(about)
        if changes is not None and now >= changes.since + CHANGES_EVERY_S:
            self.expire(now)
            changes = self._changes.get(about)
        if changes is None:
            if len(self._changes) >= CHANGES_MAX:
                return True
            changes = self._changes[about] = _Changes(now)
            self.due = min(self.due, now + CHANGES_EVERY_S)
        if changes.told < _told_max(event):
            changes.told += 1
            return True
        changes.untold += 1
        changes.last = event
        return False

    def expire(self, now: float) -> None:
        """Tell what has changed more often than it was told."""
        for about, changes in list(self._changes.items()):
            if now < changes.since + CHANGES_EVERY_S:
                continue
            if changes.last is None:
                del self._changes[about]
                continue
            self._note(ChangedOften(about, changes.untold, now - changes.since, changes.last), now)
            self._changes[about] = _Changes(now, _told_max(changes.last))
        oldest = min((changes.since for changes in self._changes.values()), default=float("inf"))
        self.due = oldest + CHANGES_EVERY_S

    def _about(self, event: Event) -> Optional[str]:
        """Give what a change is a change of; None for what is no change to and fro."""
        if isinstance(event, (LinkAppeared, LinkVanished)):
            return f"link {event.link.name}"
        if isinstance(event, LinkChanged):
            return f"link {event.after.name}"
        if isinstance(event, (LinkCarriesNothing, LinkCarries)):
            return f"what link {event.name} carries"
        if isinstance(event, (PeerLacksLink, PeerReachedOver)):
            return f"the reach of {event.host} over link {event.name}"
        if isinstance(event, (SessionMade, SessionLost)):
            return f"the session with {event.host}"
        if isinstance(event, (LeaseTaken, LeaseLost)):
            return "the lease of this host"
        if isinstance(event, LeasesExhausted):
            return "the pool of leases"
        if isinstance(event, DeviceMtuSet):
            return f"the MTU of device {event.name}"
        if isinstance(event, RemoteMoved):
            return f"the addresses of {event.host}"
        if isinstance(event, (ConnectionEstablished, ConnectionLost)):
            what = "connections"
        elif isinstance(event, (EndpointMoved, PathMtuFound)):
            what = "paths"
        else:
            return None
        return f"{what} of link {self._names.get(event.link, event.link)} to {event.host}"

    def take(self) -> List[Event]:
        """Give the events since the last call, oldest first."""
        taken = self._events
        self._events = []
        if self._suppressed and taken:
            taken.append(EventsSuppressed(self._suppressed))
            self._suppressed = 0
        return taken
