"""A strand: all connections to one host, and the sending of a packet over them."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple, Union

from ropeway.core import classic, ipv4
from ropeway.core.dedup import DuplicateWindow
from ropeway.core.handshake import State
from ropeway.core.tuning import GREETING_MIN_S, MAX_COPIES

#: Key of a remote interface in its strand: its index, or its address while the index is unknown.
RemoteKey = Union[int, str]

_NEVER = float("-inf")


class Remote:
    """A network interface of another host."""

    __slots__ = ("address", "connections", "heard_at", "index")

    def __init__(self, index: int, address: str, now: float) -> None:
        #: The interface index on its host; 0 while it is not known.
        self.index = index
        #: The address that it was agreed at, or heard from last.
        self.address = address
        #: When it was heard from an unknown path last, or when it became known.
        self.heard_at = now
        #: The pairs that this interface is the far end of.
        self.connections: List[Connection] = []

    @property
    def key(self) -> RemoteKey:
        """What the strand finds this interface under."""
        return self.index or self.address


class Connection:
    """One (local interface, remote interface) pair of a strand.

    The data side reads and writes the counters and ``outbox``; all else is the control side's.
    """

    __slots__ = (
        "address",
        "answered_at",
        "base",
        "confirmed_at",
        "due",
        "duplicates",
        "first",
        "greet_at",
        "greet_pause_s",
        "heard_at",
        "identification",
        "link",
        "mtu",
        "outbox",
        "path",
        "receive_path",
        "received",
        "received_bytes",
        "remote",
        "sent",
        "sent_at",
        "sent_bytes",
        "source",
        "state",
        "strand",
        "way",
    )

    def __init__(self, strand: Strand, link: int, remote: Remote) -> None:
        self.strand = strand
        #: A number that no other connection of the strand ever had.
        self.way = strand.next_way()
        #: Index of the local interface.
        self.link = link
        self.remote = remote
        #: Where frames go; None if another connection of the link goes to the remote's address.
        self.address: Optional[str] = None
        #: The local address that frames come from; None while the link has no route there.
        self.source: Optional[str] = None
        #: Largest inner packet that fits the link.
        self.mtu = 0
        self.state = State.SENDING
        #: Bytes 12 to 31 of frames to send and of frames received.
        self.path = b""
        self.receive_path = b""
        self.base = 0
        self.identification = 0
        self.outbox: List[bytes] = []
        self.sent = 0
        self.sent_bytes = 0
        self.received = 0
        self.received_bytes = 0
        #: Packets whose first copy, or a later one, came over this connection.
        self.first = 0
        self.duplicates = 0
        self.sent_at = _NEVER
        self.heard_at = _NEVER
        #: When a state above 0 was heard last: the other end had heard something.
        self.confirmed_at = _NEVER
        self.answered_at = _NEVER
        self.greet_at = _NEVER
        self.greet_pause_s = GREETING_MIN_S
        #: When the control side looks at this connection next.
        self.due = float("inf")

    def fit(self, link_mtu: int) -> None:
        """Follow the MTU of the link, in bytes."""
        self.mtu = min(link_mtu, ipv4.SIZE_MAX) - classic.OVERHEAD

    def aim(self, own: bytes, source: Optional[str]) -> None:
        """Compute what all frames of this connection share.

        ``own`` is this host's virtual address; ``source`` the local address, None for no route.
        Frames for another address that were not taken yet are given up.
        """
        self.outbox.clear()
        self.source = source
        if source is None or self.address is None:
            self.path = self.receive_path = b""
            return
        here, there = ipv4.pack(source), ipv4.pack(self.address)
        index = self.remote.index
        self.path = classic.path(here, there, own, self.link, index)
        self.receive_path = classic.path(there, here, self.strand.host_bytes, index, self.link)
        self.base = classic.base_sum(self.path)

    def frame(self, size: int, extra: int, now: float) -> bytes:
        """Count a frame and give what stands before its payload of ``size`` bytes."""
        # 1 to 65535: the kernel replaces an identification of 0.
        self.identification = self.identification % classic.IDENTIFICATION_MASK + 1
        self.sent += 1
        self.sent_bytes += classic.OVERHEAD + size
        self.sent_at = now
        return classic.header(self.path, self.base, size, self.identification, extra | self.state)


class Strand:
    """All connections to one host, with the id counter and the duplicate window they share."""

    __slots__ = (
        "_ways",
        "agreed",
        "best_state",
        "carrying",
        "connections",
        "delivered",
        "duplicates",
        "host",
        "host_bytes",
        "last_id",
        "limit",
        "remotes",
        "window",
    )

    def __init__(self, host: str, last_id: int) -> None:
        #: The other host's virtual address.
        self.host = host
        self.host_bytes = ipv4.pack(host)
        #: Addresses that the configuration or an operator named -> interface index, 0 if unknown.
        #: They are greeted for good; everything else is learnt and forgotten.
        self.agreed: Dict[str, int] = {}
        self.remotes: Dict[RemoteKey, Remote] = {}
        self.connections: Dict[Tuple[int, RemoteKey], Connection] = {}
        #: The highest state of any connection that has a route.
        self.best_state = State.SENDING
        #: The connections that carry packets; empty if none has a route.
        self.carrying: Tuple[Connection, ...] = ()
        #: Largest packet that fits every one of them.
        self.limit = 0
        #: The id of the packet sent last. It starts anywhere, so that after a restart packets
        #: that are alike are not taken for copies of those before it.
        self.last_id = last_id
        self.window = DuplicateWindow()
        self.delivered = 0
        self.duplicates = 0
        self._ways = 0

    def has_agreed(self, remote: Remote) -> bool:
        """Say whether a remote is at an address that the configuration or an operator named."""
        return remote.address in self.agreed

    def next_way(self) -> int:
        """Give a new connection its number, 1 and up."""
        self._ways += 1
        return self._ways

    def choose(self) -> bool:
        """Work out which connections carry packets; True if the answer is another than before.

        All established ones do, or while there is none all that have a route: a way that is
        known to work in one direction only must not keep packets from a way that works in the
        other. At most :data:`MAX_COPIES`, and then those that share no link or remote first.
        """
        usable = [c for c in self.connections.values() if c.source is not None]
        best = max((c.state for c in usable), default=State.SENDING)
        if best == State.ESTABLISHED:
            usable = [c for c in usable if c.state == best]
        if len(usable) > MAX_COPIES:
            usable = _disjoint_first(usable)[:MAX_COPIES]
        before = (self.best_state, self.carrying)
        self.best_state = best
        self.carrying = tuple(usable)
        self.limit = min((c.mtu for c in usable), default=0)
        return (self.best_state, self.carrying) != before

    def send(self, packet: bytes, now: float, touched: List[Connection]) -> bool:
        """Put one copy of ``packet`` into the outbox of each carrying connection.

        Connections whose outbox was empty are added to ``touched``. False, and nothing sent, if
        there is none or the packet is too large for one.
        """
        if len(packet) > self.limit:
            return False
        self._send_over(self.carrying, packet, now, touched)
        return True

    def send_where_it_fits(self, packet: bytes, now: float, touched: List[Connection]) -> bool:
        """Send a packet that is too large for some connections over the others, if any."""
        fitting = [c for c in self.carrying if len(packet) <= c.mtu]
        if fitting:
            self._send_over(fitting, packet, now, touched)
        return bool(fitting)

    def _send_over(
        self,
        connections: Iterable[Connection],
        packet: bytes,
        now: float,
        touched: List[Connection],
    ) -> None:
        size = len(packet)
        self.last_id = self.last_id + 1 & classic.ID_MASK
        extra = self.last_id << classic.ID_SHIFT | classic.FORWARD
        for connection in connections:
            outbox = connection.outbox
            if not outbox:
                touched.append(connection)
            outbox.append(connection.frame(size, extra, now) + packet)


def _disjoint_first(connections: List[Connection]) -> List[Connection]:
    """Order connections so that the first ones share as few links and remotes as they can.

    In the table of links by remotes that is one diagonal after the other.
    """
    links: Dict[int, int] = {}
    remotes: Dict[RemoteKey, int] = {}
    for connection in connections:
        links.setdefault(connection.link, len(links))
        remotes.setdefault(connection.remote.key, len(remotes))
    size = max(len(links), len(remotes))
    return sorted(connections, key=lambda c: (remotes[c.remote.key] - links[c.link]) % size)
