"""The connections of all strands: how they come, change their state and path, and go."""

from __future__ import annotations

from typing import List, Optional, Union

from ropeway.core import events, tuning
from ropeway.core.endpoint import Endpoint, is_ipv6, without_prefix
from ropeway.core.link import METERED_COST, Role
from ropeway.core.peers.links import Links
from ropeway.core.peers.settling import Settling
from ropeway.core.peers.troubles import Troubles
from ropeway.core.strand.connection_parts import Path
from ropeway.core.strand.secure import SecureConnection, SecureStrand, connection_key
from ropeway.core.strand.state import Input, State
from ropeway.core.strand.strand import NEVER, advance
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE, Timers
from ropeway.core.token_bucket import SharedBudget

#: The largest index of a network interface: the kernel counts in a signed int.
INDEX_MAX = 2**31 - 1


class Connections:
    """Makes, changes and ends connections.

    Each change of a state goes through :meth:`advance`, but for that of a connection that ends.
    """

    def __init__(
        self,
        tables: Tables[SecureStrand],
        links: Links,
        settling: Settling,
        troubles: Troubles,
        timers: Timers[Union[SecureConnection, SecureStrand]],
        log: events.Log,
        now: float,
    ) -> None:
        self._tables = tables
        self._links = links
        self._settling = settling
        self._troubles = troubles
        self._timers = timers
        self._log = log
        self._learning = SharedBudget(
            tuning.LEARN_HOSTS_PER_S,
            tuning.LEARN_HOSTS_BURST,
            tuning.LEARN_STRAND_PER_S,
            tuning.LEARN_STRAND_BURST,
            now,
        )

    # Life.

    def connect(
        self, strand: SecureStrand, link: int, remote: int, endpoint: Endpoint, now: float
    ) -> Optional[SecureConnection]:
        """Make a connection over a link to an endpoint; None if there are too many.

        ``remote`` is the index of the remote interface, 0 while it is not known.
        """
        way = strand.free_way()
        if not way:
            return None
        link_mtu = self._links[link].mtu
        connection = SecureConnection(strand, way, link, link_mtu, remote, endpoint, now)
        strand.by_way[way] = connection
        strand.connections[link, connection_key(connection)] = connection
        self.weigh(connection)
        connection.source = self._source(connection)
        connection.fit()
        self.greet_soon(connection, now)
        self._settling.note(strand)
        return connection

    def learn(
        self, strand: SecureStrand, link: int, remote: int, endpoint: Endpoint, now: float
    ) -> Optional[SecureConnection]:
        """Make a connection to where a host has spoken from, within the limits for that."""
        if remote > INDEX_MAX or not self._learning.take(strand.host, now):
            return None
        if not self._has_room(strand, now):
            return None
        return self.connect(strand, link, remote, endpoint, now)

    def end(self, connection: SecureConnection, reason: str, now: float) -> None:
        """Forget a connection; ``reason`` ends the sentence that reports it."""
        strand = connection.strand
        # Nothing follows for the connection itself: its link may be gone.
        advance(connection, Input.GONE, reason, self._log, now)
        self._timers.remove(connection)
        connection.outbox.clear()
        connection.source = None
        strand.by_way.pop(connection.way, None)
        del strand.connections[connection.link, connection_key(connection)]
        self._settling.note(strand)

    def forget_silent(self, strand: SecureStrand, now: float) -> None:
        """End learnt connections that have been silent for long."""
        for connection in list(strand.connections.values()):
            quiet_s = now - max(connection.heard_at, connection.pacing.lost_at)
            fallen = not connection.calls and connection.state == State.SENDING
            if fallen and quiet_s >= tuning.FORGET_S:
                self.end(connection, "it was silent for long", now)

    def find(
        self, strand: SecureStrand, link: int, remote: int, endpoint: Endpoint, now: float
    ) -> Optional[SecureConnection]:
        """Return the connection that a frame belongs to, made now if need be; None without room.

        It may be known by the endpoint only: then the frame tells its remote interface.
        """
        found = strand.connections.get((link, (remote, is_ipv6(endpoint[0]))))
        same_endpoint = [
            c
            for c in strand.connections.values()
            if c.link == link
            and c is not found
            and (endpoint in c.candidates or endpoint == c.endpoint)
            and (not c.remote or _has_fallen(c, now))
        ]
        if found is None and same_endpoint:
            found = same_endpoint.pop()
            del strand.connections[link, connection_key(found)]
            found.remote = remote
            if found.endpoint != endpoint:
                found.endpoint, found.proven = endpoint, False
            strand.connections[link, connection_key(found)] = found
        elif found is None:
            found = self.learn(strand, link, remote, endpoint, now)
            if found is None:
                return None
        # Several endpoints have led to one interface: it keeps them all and is greeted at one.
        for other in same_endpoint:
            found.candidates += [e for e in other.candidates if e not in found.candidates]
            self.end(other, "its interface is known", now)
        if same_endpoint and found.state == State.SENDING:
            self._return_to_candidate(found, now)
        return found

    def _has_room(self, strand: SecureStrand, now: float) -> bool:
        """Return whether one more connection may be learnt, if need be instead of a silent one."""
        learnt = _learnt(strand)
        if len(learnt) < tuning.MAX_REMOTES_PER_PEER:
            return True
        if len(learnt) < tuning.MAX_LEARNT_OF_HOST:
            of_all = sum(len(_learnt(one)) for one in self._tables.strands.values())
            if of_all < tuning.MAX_LEARNT_REMOTES:
                return True
        idle = [c for c in learnt if c.state != State.ESTABLISHED]
        if not idle:
            return False
        self.end(min(idle, key=lambda c: c.heard_at), "others took its place", now)
        return True

    # State.

    def advance(
        self, connection: SecureConnection, what: Input, now: float, reason: str = "it was silent"
    ) -> None:
        """Apply the table; all that follows from a new state follows from here."""
        before = connection.state
        if not advance(connection, what, reason, self._log, now):
            return
        if connection.state == State.SENDING:
            connection.pacing.lost_at = now
            self._return_to_candidate(connection, now)
        if connection.state != State.ESTABLISHED:
            if before == State.ESTABLISHED:
                if what in (Input.SILENT, Input.HEARD_FALLEN):
                    self._troubles.note(connection, now)
                # Who starts anew, perhaps as an older version, says again what it wants.
                connection.report.role = Role.ALWAYS
            self.greet_soon(connection, now)
        self._settling.note(connection.strand)

    # Path.

    def follow_link(self, connection: SecureConnection, now: float) -> None:
        """Bring a connection in line with its link, which has changed; end it without a route."""
        link = self._links[connection.link]
        self.weigh(connection)
        connection.quality.path_mtu.set_link_mtu(link.mtu, now)
        self.fit(connection, now)
        source = self._source(connection)
        if source is None and connection.candidates:
            source = self._next_endpoint(connection)
        if source is None and not connection.remote and not self._may_have_route(connection):
            self.end(connection, "the link has no route to it", now)
        elif source != connection.source:
            connection.source = source
            connection.cookie.forget()
            self.restart_path(connection, now)
            reason = "its address changed"
            if source is None:
                connection.outbox.clear()
                reason = "the link is down, or has no address or no route"
            self.advance(connection, Input.GONE, now, reason)
            self.greet_soon(connection, now)

    def keep_candidates(self, strand: SecureStrand, now: float) -> None:
        """Call no endpoint of a strand that is neither configured nor announced any more."""
        called = {*strand.endpoints, *strand.announced.places}
        for connection in list(strand.connections.values()):
            kept = [e for e in connection.candidates if e in called]
            if kept == connection.candidates:
                continue
            connection.candidates = kept
            if not kept and not connection.remote:
                self.end(connection, "its endpoint was removed", now)
            elif connection.state == State.SENDING:
                self._return_to_candidate(connection, now)

    def try_next_path(self, connection: SecureConnection, now: float) -> None:
        """Go on to the link's next address, and after the last one to the next endpoint.

        What the routes prefer comes first, but only an answer shows which address is let through.
        """
        before = connection.path
        link = self._links[connection.link]
        texts = link.addresses6 if connection.ipv6 else link.addresses
        own = [without_prefix(text) for text in texts]
        best = self._links.source_for(link, connection.endpoint)
        order = sorted(own, key=lambda address: address != best)
        place = order.index(connection.source) + 1 if connection.source in order else 0
        if best is not None and place < len(order):
            connection.source = order[place]
        else:
            connection.source = None
            connection.source = self._next_endpoint(connection)
        if connection.path != before:
            connection.cookie.forget()
            self.restart_path(connection, now)
            self._settling.note(connection.strand)

    def move(self, connection: SecureConnection, path: Path, answered: bool, now: float) -> None:
        """Follow the other end to where it was heard from, or has ``answered`` a challenge."""
        before = connection.endpoint
        connection.endpoint, connection.source = path
        connection.proven = answered
        connection.migration.end()
        connection.cookie.forget()
        self.restart_path(connection, now)
        self._settling.note(connection.strand)
        if before != connection.endpoint and connection.heard_at != NEVER:
            moved = events.EndpointMoved(*connection.ends, before, connection.endpoint)
            self._log.report(moved, now)

    def weigh(self, connection: SecureConnection) -> None:
        """Take what a connection's link is for, and costs; the other end's may be metered too."""
        link = self._links[connection.link]
        connection.role, connection.metering.here = link.role, link.metered
        connection.cost = max(link.cost, METERED_COST * connection.report.metered)

    def restart_path(self, connection: SecureConnection, now: float) -> None:
        """Forget what was measured of a path that the connection has left."""
        connection.quality.restart(now)
        connection.report.observed = None
        self.fit(connection, now)

    def fit(self, connection: SecureConnection, now: float) -> None:
        """Have packets fit what is known of the path now."""
        before, path_mtu = (connection.mtu, connection.quality.assumed), connection.quality.path_mtu
        connection.fit()
        if (connection.mtu, connection.quality.assumed) != before:
            self._settling.note(connection.strand)
        # The sizes that a search goes through are nobody's news.
        if path_mtu.settled and path_mtu.mtu != connection.quality.reported_mtu:
            connection.quality.reported_mtu = path_mtu.mtu
            self._log.report(events.PathMtuFound(*connection.ends, path_mtu.mtu), now)

    def _return_to_candidate(self, connection: SecureConnection, now: float) -> None:
        """Go back to a candidate endpoint from one where nobody has answered."""
        if connection.remote and connection.calls and not connection.assured:
            connection.source = self._next_endpoint(connection)
            self.restart_path(connection, now)
            self._settling.note(connection.strand)

    def _next_endpoint(self, connection: SecureConnection) -> Optional[str]:
        """Go on to the next candidate with a route; return the source, None without any."""
        candidates = connection.candidates
        for _ in range(len(candidates)):
            before = connection.endpoint
            connection.endpoint = candidates[0]
            # What was announced carries nothing where it answered long ago.
            if before != connection.endpoint or not connection.configured:
                connection.proven = False
            candidates.append(candidates.pop(0))
            source = self._source(connection)
            if source is not None:
                return source
        return None

    def _source(self, connection: SecureConnection) -> Optional[str]:
        """Return the local address to send from; None if nothing can be sent."""
        link = self._links[connection.link]
        if not link.up:
            return None
        source = connection.source
        best = self._links.source_for(link, connection.endpoint)
        # What the other end speaks to is kept as long as it is there: NATs expect it.
        heard = connection.heard_at != NEVER
        if heard and source is not None and link.holds(source):
            return None if self._links.has_no_route(link, connection.endpoint) else source
        return best

    def _may_have_route(self, connection: SecureConnection) -> bool:
        """Return whether there is a route, or may be, to one of a connection's endpoints."""
        link = self._links[connection.link]
        endpoints = connection.candidates or [connection.endpoint]
        return link.up and not all(link.has_no_route(endpoint[0]) for endpoint in endpoints)

    # Time.

    def greet_soon(self, connection: SecureConnection, now: float) -> None:
        """Have the other end greeted now, and with growing pauses from then on."""
        connection.greet_pause_s = tuning.GREETING_MIN_S
        connection.greet_at = now
        self.schedule(connection, now)

    def schedule(self, connection: SecureConnection, now: float) -> None:
        """Set the timer of a connection to the moment at which something is due."""
        if connection.source is None or connection.strand.session is None:
            return
        if connection.state == State.ESTABLISHED:
            due = min(
                connection.next_at(now),
                connection.silent_at(now),
                connection.quality.estimate.late_due,
            )
            if now < connection.spare_at or probes_once(connection, now):
                due = min(due, connection.quality.path_mtu.deadline())
            if now >= connection.spare_at and connection.strand.is_active(now):
                # A look costs nothing, and shows soon that packets pass.
                due = min(due, now + tuning.PROBE_S)
        else:
            due = connection.greet_at if connection.may_speak else NOT_DUE
            if connection.state:
                due = min(due, connection.silent_at(now))
        self._timers.bring_forward(connection, max(min(due, connection.migration.due), now))


def probes_once(connection: SecureConnection, now: float) -> bool:
    """Return whether a quiet metered connection still has to find how much its path carries."""
    quiet = connection.metered and now >= connection.spare_at
    spare = connection in connection.strand.spares
    return quiet and not spare and not connection.quality.path_mtu.settled


def _learnt(strand: SecureStrand) -> List[SecureConnection]:
    """Return the connections over which a host spoke first."""
    return [connection for connection in strand.connections.values() if not connection.calls]


def _has_fallen(connection: SecureConnection, now: float) -> bool:
    """Return whether another interface may take the place of a connection's at its endpoint.

    One that is idle is not silent: whoever has kept back a frame would end it by forging a source.
    """
    silent = now - connection.heard_at >= tuning.SILENCE_S
    return silent and connection.state == State.SENDING
