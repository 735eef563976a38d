"""What has happened, for the log: past tense, never changed, each one a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Tuple, Union

from ropeway.core.counters import TokenBucket
from ropeway.core.link import Link
from ropeway.core.secure import Endpoint
from ropeway.core.tuning import EVENTS_BURST, EVENTS_PER_S


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
    """An established connection left the set that carries traffic."""

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
            f" {_endpoint(self.before)} to {_endpoint(self.after)}"
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
class HandshakeRefused:
    """Somebody who does not belong, or belongs elsewhere, asked for a session."""

    #: A sentence that names the host of the configuration that it concerns.
    note: str

    def __str__(self) -> str:
        return self.note


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
    HandshakeRefused,
    EventsSuppressed,
]


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


def _visible(link: Link) -> Tuple[Any, ...]:
    return link.name, link.addresses, link.addresses6, link.mtu, link.up


def _addresses(link: Link) -> str:
    return ", ".join((*link.addresses, *link.addresses6)) or "no address"


def _endpoint(endpoint: Endpoint) -> str:
    address, port = endpoint
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Log:
    """The events since the last look, at most so many a second: strangers can cause them."""

    def __init__(self, now: float) -> None:
        self._events: List[Event] = []
        self._suppressed = 0
        self._limit = TokenBucket(EVENTS_PER_S, EVENTS_BURST, now)

    def report(self, event: Event, now: float) -> None:
        """Note an event, or only count it if there were too many."""
        if self._limit.take(now):
            self._events.append(event)
        else:
            self._suppressed += 1

    def take(self) -> List[Event]:
        """Give the events since the last call, oldest first."""
        taken = self._events
        self._events = []
        if self._suppressed and taken:
            taken.append(EventsSuppressed(self._suppressed))
            self._suppressed = 0
        return taken
