"""Over which links each endpoint of a host is called, and where hosts were before."""

from __future__ import annotations

from dataclasses import replace
from typing import (
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from ropeway.core import events, tuning
from ropeway.core.endpoint import Endpoint, pack_endpoint
from ropeway.core.link import Link, Role
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.links import Links
from ropeway.core.peers.sessions import Sessions
from ropeway.core.peers.settling import Settling
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables


class Calls:
    """Brings the connections of strands in line with links, endpoints and earlier callers."""

    def __init__(
        self,
        handshakes: Handshakes,
        tables: Tables[SecureStrand],
        links: Links,
        connections: Connections,
        dialogue: Dialogue,
        sessions: Sessions,
        settling: Settling,
        log: events.Log,
        now: float,
    ) -> None:
        self._handshakes = handshakes
        self._tables = tables
        self._links = links
        self._connections = connections
        self._dialogue = dialogue
        self._sessions = sessions
        self._settling = settling
        self._log = log
        self._recalled: Dict[str, Tuple[Endpoint, ...]] = {}
        self._recall_until = now + tuning.FORGET_S

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; find the difference."""
        before, places = self._links.by_index, self._links.places
        if not self._links.replace(links):
            return
        self._settling.note_links_changed()
        for event in events.of_links(before, self._links.by_index):
            self._log.report(event, now)
        changed = {
            link.index
            for link in self._links
            if link.index in before and _says(link) != _says(before[link.index])
        }
        only_routes = _only_looked_up(before, self._links.by_index)
        for strand in self._tables.strands.values():
            if not only_routes or self._has_other_routes(strand, before):
                strand.announced.ask_anew()
                self.follow(strand, now)
        if places != self._links.places:
            for strand in self._tables.strands.values():
                for connection in strand.connections.values():
                    self._dialogue.announce(connection, now)
        self._say_roles(changed, now)

    def _say_roles(self, changed: Container[int], now: float) -> None:
        """Have the other ends know at once what links are for now."""
        for strand in self._tables.strands.values():
            for connection in strand.connections.values():
                if connection.link in changed and connection.state == State.ESTABLISHED:
                    self._dialogue.send(connection, now)

    def follow(self, strand: SecureStrand, now: float) -> None:
        """Bring a strand's connections in line with links and endpoints."""
        for connection in list(strand.connections.values()):
            if connection.link in self._links:
                self._connections.follow_link(connection, now)
            else:
                self._recall_over_others(connection, now)
                self._connections.end(connection, "the link vanished", now)
        self._call(strand, now)
        self._call_recalled(strand, now)
        if strand.connections and (strand.session is None or strand.request.is_open):
            self._sessions.request(strand, now)
        self._settling.note(strand)

    def _call(self, strand: SecureStrand, now: float) -> None:
        """Make connections to the endpoints that a host can be called at.

        Each link gets one before any gets a second. Beyond :data:`tuning.CALLED_ENOUGH` further
        ones of a link that has one would cost more than they are good for.
        """
        known: Dict[int, Dict[Endpoint, None]] = {link.index: {} for link in self._links}
        for connection in strand.connections.values():
            known[connection.link].update(dict.fromkeys(connection.candidates))
        called = sum(connection.calls for connection in strand.connections.values())
        # Whoever names this host's own address as another's is warned elsewhere.
        endpoints = [one for one in strand.endpoints if not self._links.holds(one[0])]
        many = len(self._links) * len(endpoints) > tuning.CALLED_ENOUGH
        missing = []
        for number, link in enumerate(self._links):
            if not link.up:
                continue
            # Where not all can be met over each link, each begins with another one.
            first = number % len(endpoints) if many else 0
            place = len(known[link.index])
            for endpoint in endpoints[first:] + endpoints[:first]:
                if endpoint in known[link.index]:
                    continue
                if self._links.source_for(link, endpoint) is not None:
                    missing.append((place, number, link.index, endpoint))
                    place += 1
        for place, _, index, endpoint in sorted(missing, key=lambda one: one[:2]):
            if place and called >= tuning.CALLED_ENOUGH:
                break
            # A host that called, or was called back, may be met there already.
            made = strand.connections.get((index, endpoint))
            made = made or self._connections.connect(strand, index, 0, endpoint, now)
            if made is not None:
                made.candidates = [endpoint]
                called += 1

    # Where hosts were before.

    def callers(self) -> Dict[str, Tuple[Endpoint, ...]]:
        """Return where hosts are that no configuration could name: they called, or moved."""
        callers = {}
        for host, strand in self._tables.strands.items():
            endpoints = tuple(
                connection.endpoint
                for connection in strand.connections.values()
                if connection.state == State.ESTABLISHED and not connection.configured
            )
            if endpoints:
                callers[host] = endpoints
        return callers

    def recall(self, callers: Mapping[str, Sequence[Endpoint]], now: float) -> None:
        """Ask hosts for a session where they were before this host started anew.

        A host that is idle would not notice for long, and could not be reached until then.
        """
        self._recalled = {
            host: tuple(endpoints[: tuning.MAX_REMOTES_PER_PEER])
            for host, endpoints in callers.items()
        }
        self._recall_until = now + tuning.FORGET_S
        for endpoints in self._recalled.values():
            for endpoint in endpoints:
                self._handshakes.know_source(pack_endpoint(endpoint))
        for strand in self._tables.strands.values():
            self.follow(strand, now)

    def forget(self, now: float) -> None:
        """Forget learnt connections that have been silent for long, and where hosts were before."""
        if now >= self._recall_until:
            self._recalled.clear()
        for strand in self._tables.strands.values():
            self._connections.forget_silent(strand, now)

    def called(self) -> List[str]:
        """Return the addresses that routes have to be looked up for, each once.

        The configured ones come first, and those that hosts have called from last.
        """
        strands = self._tables.strands.values()
        known: List[Iterable[Endpoint]] = [strand.endpoints for strand in strands]
        known += self._recalled.values()
        known += [strand.announced.places for strand in strands]
        known += [[c.endpoint for c in strand.connections.values()] for strand in strands]
        return list(dict.fromkeys(address for some in known for address, _ in some))

    def _has_other_routes(self, strand: SecureStrand, before: Mapping[int, Link]) -> bool:
        """Return whether more, or something else, is known of the routes to a host than before."""
        addresses = set(self._addresses(strand))
        return any(
            _known(link, address) != _known(before[link.index], address)
            for link in self._links
            for address in addresses
        )

    def _addresses(self, strand: SecureStrand) -> Iterator[str]:
        """Yield the addresses at which a host is, or may be; some more than once."""
        for connection in strand.connections.values():
            yield connection.endpoint[0]
            for address, _ in connection.candidates:
                yield address
        for some in (strand.endpoints, strand.announced.places):
            for address, _ in some:
                yield address
        for address, _ in self._recalled.get(strand.host, ()):
            yield address

    def _call_recalled(self, strand: SecureStrand, now: float) -> None:
        for link in self._links:
            there = [c for c in strand.connections.values() if c.link == link.index]
            for endpoint in self._recalled.get(strand.host, ()):
                met = any(c.endpoint == endpoint for c in there)
                if not met and self._links.source_for(link, endpoint) is not None:
                    self._connections.connect(strand, link.index, 0, endpoint, now)

    def _recall_over_others(self, connection: SecureConnection, now: float) -> None:
        """Have a host that was met over a link that vanished looked for there over others.

        Another card in the place of one that is gone has another hardware address, which the other
        end learns at once only from what this one sends.
        """
        if connection.configured or not connection.proven:
            return
        host = connection.strand.host
        endpoints = dict.fromkeys((connection.endpoint, *self._recalled.get(host, ())))
        self._recalled[host] = tuple(endpoints)[: tuning.MAX_REMOTES_PER_PEER]
        self._recall_until = now + tuning.FORGET_S


def _only_looked_up(before: Mapping[int, Link], after: Mapping[int, Link]) -> bool:
    """Return whether links differ in nothing but the routes that are known."""
    return before.keys() == after.keys() and all(
        link == replace(before[index], sources=link.sources, looked_up=link.looked_up)
        for index, link in after.items()
    )


def _known(link: Link, address: str) -> Tuple[bool, Optional[str]]:
    """Return what is known of a link's route to an address."""
    return address in link.looked_up, link.sources.get(address)


def _says(link: Link) -> Tuple[Role, bool]:
    """Return what the other ends are told of a link's purpose."""
    return link.role, link.metered
