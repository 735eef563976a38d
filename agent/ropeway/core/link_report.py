"""Which links carry and which do not: for the log, for status, and for the device's MTU."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set

from ropeway.core import events, redundancy
from ropeway.core.link import Link, Role
from ropeway.core.redundancy import LinkHealth, Watch
from ropeway.core.strand.strand import NEVER, Strand


class LinkReport:
    """What is known of a node's links besides the connections over them.

    ``links`` are those of the node by index, ``strands`` all of its strands.
    """

    def __init__(self, now: float) -> None:
        #: Whether links carry and peers are reached over them.
        self.watch = Watch(now)
        self._unusable: Sequence[LinkHealth] = ()
        #: By link index and errno's name.
        self._send_errors: Dict[int, Counter[str]] = {}

    def expect(self, unusable: Sequence[LinkHealth]) -> None:
        """Take the links that should carry and cannot, for a reason that only the outside knows.

        They may be links that the node has, or some that it will never see.
        """
        if unusable != self._unusable:
            self._unusable = unusable
            self.watch.look_soon()

    def send_failed(self, links: Mapping[int, Link], index: int, reason: str, count: int) -> None:
        """Count datagrams that a link refused; ``reason`` is the errno's name."""
        if index in links:
            self._send_errors.setdefault(index, Counter())[reason] += count

    def keep(self, links: Mapping[int, Link]) -> None:
        """Forget the counts of links that are gone."""
        for index in self._send_errors.keys() - links.keys():
            del self._send_errors[index]

    def look(
        self, links: Mapping[int, Link], strands: Iterable[Strand[Any]], log: events.Log, now: float
    ) -> None:
        """Report what has been lacking for a while, and what is there again, if it is due."""
        if now < self.watch.due:
            return
        strands = list(strands)
        # Those that a router has told of are a bonus: nobody counts on them.
        peers = [redundancy.of_peer(strand, links) for strand in strands if not strand.learnt]
        for event in self.watch.look(self._health(links, strands), peers, now):
            log.report(event, now)

    def status(
        self, links: Mapping[int, Link], strands: Iterable[Strand[Any]]
    ) -> List[Dict[str, Any]]:
        """Return what there is to see of each link, by index, ready for JSON."""
        strands = list(strands)
        carrying = {one.link for strand in strands for one in strand.carrying}
        return [
            {
                "index": link.index,
                "name": link.name,
                "addresses": [*link.addresses, *link.addresses6],
                "mtu": link.mtu,
                "up": link.up,
                "carries": not fault,
                "fault": fault or None,
                "send_errors": dict(self._send_errors.get(link.index, {})),
            }
            for fault, link in sorted(
                (
                    (health.fault or _unwanted(link, link.index in carrying), link)
                    for health, link in zip(self._health(links, strands), links.values())
                ),
                key=lambda both: both[1].index,
            )
        ]

    def _health(
        self, links: Mapping[int, Link], strands: Iterable[Strand[Any]]
    ) -> List[LinkHealth]:
        """Return whether each of ``links`` carries, then those that are expected besides."""
        known = {one.index: one for one in self._unusable if one.index in links}
        found = redundancy.of_links(links.values(), strands)
        besides = [one for one in self._unusable if one.index not in links]
        return [one if one.carries else known.get(one.index, one) for one in found] + besides


def _unwanted(link: Link, carries: bool) -> str:
    """Return why nothing is to pass over a link whose connections work; who decided, has told."""
    if link.role == Role.NEVER:
        return "its budget is used up"
    if link.role == Role.LAST and not carries:
        return "its budget is used up, so it carries only what no other link does"
    return ""


def in_use(strands: Iterable[Strand[Any]]) -> Set[int]:
    """Return the links over which a peer was heard or, while none was, those that greet one.

    What leads to no peer must not make everybody's packets smaller.
    """
    connections = [c for strand in strands for c in strand.connections.values()]
    heard = {c.link for c in connections if c.heard_at > NEVER}
    return heard or {c.link for c in connections if c.source is not None}


def of_peer(strand: Strand[Any], links: Mapping[int, Link]) -> Dict[str, Any]:
    """Return over which links, by index, a peer is reached, and over which it is not and why."""
    health = redundancy.of_peer(strand, links)
    return {
        "reached": sorted(health.reached),
        "lacking": [
            {"link": index, "fault": fault} for index, fault in sorted(health.lacking.items())
        ],
    }
