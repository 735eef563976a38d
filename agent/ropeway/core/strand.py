"""A strand: all connections to one host, and the sending of a packet over them."""

from __future__ import annotations

from collections import Counter
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

    __slots__ = ("address", "configured", "connections", "heard_at", "index")

    def __init__(self, index: int, address: str, configured: bool, now: float) -> None:
        #: The interface index on its host; 0 while it is not known.
        self.index = index
        self.address = address
        #: Named by the configuration or by an operator, so never forgotten.
        self.configured = configured
        #: When it was heard last, or when it became known.
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
    )

    def __init__(self, strand: Strand, link: int, remote: Remote) -> None:
        self.strand = strand
        #: Index of the local interface.
        self.link = link
        self.remote = remote
        #: Where frames go; follows the remote interface's address.
        self.address = remote.address
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
        #: When state 2 was heard last.
        self.confirmed_at = _NEVER
        self.greet_at = _NEVER
        self.greet_pause_s = GREETING_MIN_S
        #: When the control side looks at this connection next.
        self.due = float("inf")

    def aim(self, own: bytes, source: Optional[str], link_mtu: int) -> None:
        """Compute what all frames of this connection share.

        ``own`` is this host's virtual address; ``source`` the local address, None for no route.
        """
        self.source = source
        self.mtu = link_mtu - classic.OVERHEAD
        if source is None:
            self.path = self.receive_path = b""
            return
        here, there = ipv4.pack(source), ipv4.pack(self.address)
        index = self.remote.index
        self.path = classic.path(here, there, own, self.link, index)
        self.receive_path = classic.path(there, here, self.strand.host_bytes, index, self.link)
        self.base = classic.base_sum(self.path)

    def empty_frame(self, now: float) -> None:
        """Put a frame without payload into the outbox: a greeting, an answer, a keepalive."""
        self.identification = self.identification % classic.IDENTIFICATION_MASK + 1
        self.outbox.append(
            classic.header(self.path, self.base, 0, self.identification, int(self.state))
        )
        self.sent += 1
        self.sent_bytes += classic.OVERHEAD
        self.sent_at = now


class Strand:
    """All connections to one host, with the id counter and the duplicate window they share."""

    __slots__ = (
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

    def choose(self) -> bool:
        """Work out which connections carry packets; True if the answer is another than before.

        All of the highest state do, up to :data:`MAX_COPIES`; above that, connections whose
        link or remote interface is not used yet come first.
        """
        usable = [c for c in self.connections.values() if c.source is not None]
        best = max((c.state for c in usable), default=State.SENDING)
        chosen = [c for c in usable if c.state == best]
        if len(chosen) > MAX_COPIES:
            chosen = _disjoint_first(chosen)
        before = (self.best_state, self.carrying)
        self.best_state = best
        self.carrying = tuple(chosen)
        self.limit = min((c.mtu for c in chosen), default=0)
        return (self.best_state, self.carrying) != before

    def send(self, packet: bytes, now: float, touched: List[Connection]) -> bool:
        """Put one copy of ``packet`` into the outbox of each carrying connection that it fits.

        Connections whose outbox was empty are added to ``touched``. False if it fits none.
        """
        size = len(packet)
        carrying: Iterable[Connection] = self.carrying
        if size > self.limit:
            carrying = [c for c in self.carrying if size <= c.mtu]
            if not carrying:
                return False
        self.last_id = self.last_id + 1 & classic.ID_MASK
        extra = self.last_id << classic.ID_SHIFT | classic.FORWARD | self.best_state
        header = classic.header
        for connection in carrying:
            # 1 to 65535: the kernel replaces an identification of 0.
            identification = connection.identification % 65535 + 1
            connection.identification = identification
            outbox = connection.outbox
            if not outbox:
                touched.append(connection)
            outbox.append(
                header(connection.path, connection.base, size, identification, extra) + packet
            )
            connection.sent += 1
            connection.sent_bytes += size + 34
            connection.sent_at = now
        return True


def _disjoint_first(connections: List[Connection]) -> List[Connection]:
    """Give at most :data:`MAX_COPIES`, each sharing as little as possible with those before."""
    left = list(connections)
    chosen: List[Connection] = []
    while left and len(chosen) < MAX_COPIES:
        links = Counter(connection.link for connection in chosen)
        remotes = Counter(connection.remote.key for connection in chosen)
        best = min(left, key=lambda c: links[c.link] + remotes[c.remote.key])
        left.remove(best)
        chosen.append(best)
    return chosen
