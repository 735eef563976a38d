"""The classic encapsulation's strand: frames of all connections, ids, remote interfaces."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from ropeway.core import tuning
from ropeway.core.classic import frame as classic
from ropeway.core.classic.duplicates import DuplicateWindow
from ropeway.core.packet import ipv4
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import NEVER, Connection, RemoteKey, Strand


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
        self.connections: List[ClassicConnection] = []

    @property
    def key(self) -> RemoteKey:
        """What the strand finds this interface under."""
        return self.index or self.address


class ClassicConnection(Connection):
    """A connection whose frames are IPv4 packets with the classic header."""

    __slots__ = (
        "address",
        "answered_at",
        "base",
        "confirmed_at",
        "identification",
        "near",
        "path",
        "receive_path",
        "remote",
        "strand",
        "try_at",
    )

    def __init__(self, strand: ClassicStrand, link: int, remote: Remote) -> None:
        super().__init__(strand.next_way(), link)
        self.strand = strand
        self.remote = remote
        #: Where frames go; None if another connection of the link goes to the remote's address.
        self.address: Optional[str] = None
        #: The link's address to send from while it is there; None for what the kernel would take.
        self.near: Optional[str] = None
        #: When to try another one; infinity until this one was tried.
        self.try_at = float("inf")
        #: Bytes 12 to 31 of frames to send and of frames received.
        self.path = b""
        self.receive_path = b""
        self.base = 0
        self.identification = 0
        #: When a state above 0 was heard last: the other end had heard something.
        self.confirmed_at = NEVER
        self.answered_at = NEVER

    @property
    def far(self) -> RemoteKey:
        """What the remote interface is told apart by."""
        return self.remote.key

    @property
    def ends(self) -> Tuple[str, int, int]:
        """The other host, the local interface's index and the remote one's, 0 if not known."""
        return self.strand.host, self.link, self.remote.index

    @property
    def far_address(self) -> str:
        """The remote interface's address."""
        return self.address or self.remote.address

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
        self.traffic.sent += 1
        self.traffic.sent_bytes += classic.OVERHEAD + size
        self.sent_at = now
        # An end below 2 takes what it hears plus 1: the first implementation dies of a 3.
        shown = min(self.state, State.HEARING)
        return classic.header(self.path, self.base, size, self.identification, extra | shown)


class ClassicStrand(Strand[ClassicConnection]):
    """All connections to one host, with the id counter and the duplicate window they share."""

    __slots__ = ("_ways", "agreed", "last_id", "remotes", "window")

    def __init__(self, host: str, last_id: int) -> None:
        super().__init__(host)
        #: Addresses that the configuration or an operator named -> interface index, 0 if unknown.
        #: They are greeted for good; everything else is learnt and forgotten.
        self.agreed: Dict[str, int] = {}
        self.remotes: Dict[RemoteKey, Remote] = {}
        #: The id of the packet sent last. It starts anywhere, so that after a restart packets
        #: that are alike are not taken for copies of those before it.
        self.last_id = last_id
        self.window = DuplicateWindow()
        self._ways = 0

    @property
    def is_called(self) -> bool:
        """Whether an address is known at which the host can be called."""
        return bool(self.remotes)

    def has_agreed(self, remote: Remote) -> bool:
        """Say whether a remote is at an address that the configuration or an operator named."""
        return remote.address in self.agreed

    def next_way(self) -> int:
        """Give a new connection its number, 1 and up."""
        self._ways += 1
        return self._ways

    def _works_since(self, connection: ClassicConnection, since: float) -> bool:
        # Frames prove nothing of the other direction, but by then the other end would say 0.
        return connection.confirmed_at >= since + tuning.SILENCE_S + tuning.KEEPALIVE_S
