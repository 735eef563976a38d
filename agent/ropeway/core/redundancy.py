"""Redundancy: over which links peers are reached, and over which they could be but are not.

A link carries when it has an established connection to a peer. A peer lacks a link when it is
reached over another one, and this one has a way to it where nothing is established.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Hashable, Iterable, List, Mapping, Sequence, Tuple

from ropeway.core import events
from ropeway.core.link import Link
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import NEVER, Connection, Strand
from ropeway.core.tuning import LACK_LOOK_S, LACK_REPORT_S


@dataclass(frozen=True)
class LinkHealth:
    """Whether a link carries; one that is expected and not there has index 0."""

    index: int
    name: str
    #: Why it carries nothing, as the end of a sentence; empty where it carries.
    fault: str = ""

    @property
    def carries(self) -> bool:
        """Whether a peer is reached over it."""
        return not self.fault


@dataclass(frozen=True)
class PeerHealth:
    """Over which links, by index, a peer is reached."""

    host: str
    reached: Tuple[int, ...]
    #: Those that have a way to it, without an established connection, each with the reason.
    lacking: Mapping[int, str]


def of_links(links: Iterable[Link], strands: Iterable[Strand[Any]]) -> List[LinkHealth]:
    """Return whether each link carries, in the order of ``links``."""
    strands = list(strands)
    connections: Dict[int, List[Connection]] = {}
    for strand in strands:
        for connection in strand.connections.values():
            connections.setdefault(connection.link, []).append(connection)
    called = any(strand.is_called for strand in strands)
    return [
        LinkHealth(link.index, link.name, _fault(link, connections.get(link.index, ()), called))
        for link in links
    ]


def _fault(link: Link, connections: Sequence[Connection], called: bool) -> str:
    """Return why a link carries nothing; ``called`` says whether an address of a peer is known."""
    usable = [one for one in connections if one.source is not None]
    if any(one.state == State.ESTABLISHED for one in usable):
        return ""
    if not link.up:
        return "it is down"
    if not (link.addresses or link.addresses6):
        return "it has no address that can be used"
    hearing = [one for one in usable if one.state == State.HEARING]
    if hearing:
        return f"{_hosts(hearing)} heard over it, but nothing shows that this host is heard there"
    if usable:
        return f"no answer over it from {_names(usable)}"
    if called:
        return "it has no route to any peer"
    return "no peer has called over it"


def _hosts(connections: Iterable[Connection]) -> str:
    several = len({one.ends[0] for one in connections}) > 1
    return _names(connections) + (" are" if several else " is")


def _names(connections: Iterable[Connection]) -> str:
    hosts = list(dict.fromkeys(one.ends[0] for one in connections))
    if len(hosts) == 1:
        return hosts[0]
    return f"{hosts[0]} and {len(hosts) - 1} other host" + ("s" if len(hosts) > 2 else "")


def of_peer(strand: Strand[Any], links: Mapping[int, Link]) -> PeerHealth:
    """Return over which links a peer is reached and over which it is not."""
    reached: Dict[int, None] = {}
    lacking: Dict[int, str] = {}
    for connection in strand.connections.values():
        link = links.get(connection.link)
        if link is None:
            continue
        if connection.state == State.ESTABLISHED:
            reached[link.index] = None
        elif connection.source is not None:
            heard = connection.state == State.HEARING
            lacking[link.index] = "it is heard but does not hear" if heard else "no answer"
        elif not link.up and connection.heard_at != NEVER:
            lacking[link.index] = "the link is down"
    for index in reached:
        lacking.pop(index, None)
    return PeerHealth(strand.host, tuple(reached), lacking)


@dataclass
class _Lack:
    """Something that has been lacking since ``since``."""

    since: float
    reported: bool = False


class Watch:
    """Notes what is lacking, and tells it once it has lasted, and once when it is over."""

    def __init__(self, now: float) -> None:
        #: When :meth:`look` is to be called.
        self.due = float("inf")
        self._looked_at = now - LACK_LOOK_S
        self._lacks: Dict[Hashable, _Lack] = {}
        #: How many links carry, and how many there are, as they were looked at last.
        self.carrying = (0, 0)

    def look_soon(self) -> None:
        """Have it look again: links or connections are others than before."""
        self.due = min(self.due, self._looked_at + LACK_LOOK_S)

    def look(
        self, links: Sequence[LinkHealth], peers: Sequence[PeerHealth], now: float
    ) -> List[events.Event]:
        """Take how all links and peers are; return what has to be reported of it."""
        self._looked_at = now
        self.carrying = (sum(link.carries for link in links), len(links))
        carrying = {link.index: link for link in links if link.carries}
        begun: Dict[Hashable, events.Event] = {}
        ended: Dict[Hashable, events.Event] = {}
        for link in links:
            if link.carries:
                ended[link.name] = events.LinkCarries(link.index, link.name)
            else:
                begun[link.name] = events.LinkCarriesNothing(link.index, link.name, link.fault)
        for peer in peers:
            # A link without any connection has its own event, and a host that is off its session's.
            count = len(peer.reached)
            for index in peer.reached:
                name = carrying[index].name if index in carrying else ""
                ended[peer.host, name] = events.PeerReachedOver(peer.host, index, name)
            for index, fault in peer.lacking.items():
                if count and index in carrying:
                    name = carrying[index].name
                    begun[peer.host, name] = events.PeerLacksLink(
                        peer.host, index, name, count, fault
                    )
        return self._settle(begun, ended, now)

    def _settle(
        self,
        begun: Mapping[Hashable, events.Event],
        ended: Mapping[Hashable, events.Event],
        now: float,
    ) -> List[events.Event]:
        happened = []
        for key in [key for key in self._lacks if key not in begun]:
            if self._lacks.pop(key).reported and key in ended:
                happened.append(ended[key])
        for key, event in begun.items():
            lack = self._lacks.setdefault(key, _Lack(now))
            if not lack.reported and now >= lack.since + LACK_REPORT_S:
                lack.reported = True
                happened.append(event)
        waiting = [lack.since for lack in self._lacks.values() if not lack.reported]
        self.due = min(waiting, default=float("inf")) + LACK_REPORT_S
        return happened
