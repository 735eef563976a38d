"""A strand: all connections to one host, and the choice of those that carry packets."""

from __future__ import annotations

from typing import (
    Any,
    Dict,
    Generic,
    Hashable,
    List,
    Optional,
    Tuple,
    TypeVar,
)

from ropeway.core import events
from ropeway.core.link import Role
from ropeway.core.packet import ipv4
from ropeway.core.strand.state import TRANSITIONS, Input, State
from ropeway.core.tuning import GREETING_MIN_S, MAX_COPIES

NEVER = float("-inf")

#: What tells the remote interfaces of one host apart: an index, or an address until it is known.
RemoteKey = Hashable


class Traffic:
    """What a connection has carried; the data side counts."""

    __slots__ = (
        "duplicates",
        "first",
        "newest",
        "received",
        "received_bytes",
        "sent",
        "sent_bytes",
    )

    def __init__(self) -> None:
        #: Data frames, and their bytes without IP and UDP headers.
        self.sent = 0
        self.sent_bytes = 0
        self.received = 0
        self.received_bytes = 0
        #: Packets whose first copy, or a later one, came over the connection.
        self.first = 0
        self.duplicates = 0
        #: The sequence of the newest frame that was received; far from all before the first.
        self.newest = -(1 << 15)


class Connection:
    """One (local interface, remote interface) pair of a strand.

    The data side counts in ``traffic`` and fills ``outbox``, which the control side fills with its
    own frames too. All else the control side writes, and the data side reads what it needs to send.
    """

    __slots__ = (
        "cost",
        "fell_at",
        "greet_at",
        "greet_pause_s",
        "heard_at",
        "link",
        "mtu",
        "outbox",
        "role",
        "sent_at",
        "source",
        "state",
        "traffic",
        "way",
    )

    def __init__(self, way: int, link: int) -> None:
        #: A number that tells it from the other connections of the strand.
        self.way = way
        #: Index of the local interface.
        self.link = link
        #: The local address that frames come from; None while nothing can be sent.
        self.source: Optional[str] = None
        #: Largest inner packet that fits.
        self.mtu = 0
        self.state = State.SENDING
        #: Those of the local link.
        self.role = Role.ALWAYS
        self.cost = 0
        #: What is to be sent: frames, or trains of them, as the encapsulation has it.
        self.outbox: List[Any] = []
        self.traffic = Traffic()
        self.sent_at = NEVER
        self.heard_at = NEVER
        #: When it was established last, if nothing but its frames has said since that it is not.
        self.fell_at = NEVER
        self.greet_at = NEVER
        self.greet_pause_s = GREETING_MIN_S

    @property
    def far(self) -> RemoteKey:
        """What distinguishes the remote interface."""
        raise NotImplementedError

    @property
    def duty(self) -> Role:
        """Which packets it carries."""
        return self.role

    @property
    def ends(self) -> Tuple[str, int, int]:
        """The other host, the local interface's index and the remote one's, 0 if not known."""
        raise NotImplementedError

    @property
    def far_address(self) -> str:
        """The remote interface's address."""
        raise NotImplementedError


def advance(connection: Connection, what: Input, reason: str, log: events.Log, now: float) -> bool:
    """Apply the table to a connection; False if its state stays what it was.

    What users see of it is reported; ``reason``, the end of a sentence, says why it was lost.
    """
    before = connection.state
    after = TRANSITIONS[before, what]
    if after == before:
        return False
    connection.state = after
    fell = before == State.ESTABLISHED and what != Input.GONE
    if fell or after == State.ESTABLISHED or what == Input.GONE:
        connection.fell_at = now if fell else NEVER
    if after == State.ESTABLISHED:
        established = events.ConnectionEstablished(*connection.ends, connection.far_address)
        log.report(established, now)
    elif before == State.ESTABLISHED:
        log.report(events.ConnectionLost(*connection.ends, reason), now)
    return True


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Strand(Generic[ConnectionT]):
    """All connections to one host."""

    __slots__ = (
        "best_state",
        "carrying",
        "connections",
        "delivered",
        "doubtful",
        "duplicates",
        "host",
        "host_bytes",
        "learnt",
        "limit",
        "refuses_ipv6",
        "spares",
    )

    def __init__(self, host: str) -> None:
        #: The other host's virtual address.
        self.host = host
        self.host_bytes = ipv4.pack(host)
        self.connections: Dict[Tuple[int, RemoteKey], ConnectionT] = {}
        #: The highest state of any connection that can be used.
        self.best_state = State.SENDING
        #: The connections that carry packets; empty if none can be used.
        self.carrying: Tuple[ConnectionT, ...] = ()
        #: Those that could carry packets and do not, because of their duty.
        self.spares: Tuple[ConnectionT, ...] = ()
        #: Whether some of them are not established, and carry until the others have proven more.
        self.doubtful = False
        #: Largest packet that fits every one of them.
        self.limit = 0
        #: Whether the host has said that it takes no IPv6 packets. Before it says anything it gets
        #: them: only an older version refuses, and counts what it drops.
        self.refuses_ipv6 = False
        self.delivered = 0
        self.duplicates = 0
        #: Whether a router has told of the host, and the configuration does not have it.
        self.learnt = False

    def choose(self) -> bool:
        """Work out which connections carry packets; True if the answer is another than before.

        All established ones do, or while there is none all that can be used: a way that is
        known to work in one direction only must not keep packets from a way that works in the
        other. For the same reason one that fell carries on until all that are established have
        proven that they worked in both directions after its fall. At most :data:`MAX_COPIES`:
        established ones first, and among those of a kind the ones that share no link or remote,
        and cost less.

        A connection whose duty is :attr:`Role.LAST` does so only while no other one is established.
        """
        usable = self._willing(self._usable())
        best = max((c.state for c in usable), default=State.SENDING)
        fallen: List[ConnectionT] = []
        if best == State.ESTABLISHED:
            established = self._distinct([c for c in usable if c.state == best])
            fallen = [
                c
                for c in usable
                if c.fell_at != NEVER
                and not all(self._works_since(other, c.fell_at) for other in established)
            ]
            usable = established
        self.doubtful = bool(fallen)
        if len(usable) + len(fallen) > MAX_COPIES:
            usable = _disjoint_first(usable)
            fallen = _disjoint_first(fallen)
        usable = (usable + fallen)[:MAX_COPIES]
        before = (self.best_state, self.carrying)
        self.best_state = best
        self.carrying = tuple(usable)
        self.limit = min((c.mtu for c in usable), default=0)
        return (self.best_state, self.carrying) != before

    @property
    def is_called(self) -> bool:
        """Whether an address is known at which the host can be called."""
        raise NotImplementedError

    def _usable(self) -> List[ConnectionT]:
        """Return the connections over which something can be sent."""
        return [c for c in self.connections.values() if c.source is not None]

    def _willing(self, usable: List[ConnectionT]) -> List[ConnectionT]:
        """Leave out connections that are not to carry packets now; the rest are ``spares``."""
        willing = [c for c in usable if c.duty == Role.ALWAYS]
        if len(willing) == len(usable):
            self.spares = ()
            return usable
        if not any(c.state == State.ESTABLISHED for c in willing):
            willing = [c for c in usable if c.duty != Role.NEVER]
        self.spares = tuple(c for c in usable if c not in willing)
        return willing

    def _works_since(self, connection: ConnectionT, since: float) -> bool:
        """Return whether an established connection has worked both ways at ``since`` or later."""
        raise NotImplementedError

    def _distinct(self, connections: List[ConnectionT]) -> List[ConnectionT]:
        """Leave out established connections that add nothing to the others."""
        return connections

    def hold(self, packet: bytes, origin: Optional[Strand[Any]], now: float) -> bool:
        """Keep a packet that nothing can carry yet; False if it is not worth waiting.

        ``origin`` is the strand that it came from, None for this host itself.
        """
        return False


#: A packet that waits for a session, the strand that it came from, None for this host, and since
#: when it waits, in monotonic seconds.
Held = Tuple[bytes, Optional[Strand[Any]], float]


def _disjoint_first(connections: List[ConnectionT]) -> List[ConnectionT]:
    """Order connections so that the first ones share as few links and remotes as they can.

    In the table of links by remotes that is one diagonal after the other.
    """
    links: Dict[int, int] = {}
    remotes: Dict[RemoteKey, int] = {}
    for connection in connections:
        links.setdefault(connection.link, len(links))
        remotes.setdefault(connection.far, len(remotes))
    size = max(len(links), len(remotes))
    return sorted(connections, key=lambda c: ((remotes[c.far] - links[c.link]) % size, c.cost))
