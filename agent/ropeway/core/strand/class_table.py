"""What the data side needs to know of the classes of traffic of a strand, and what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Deque, List, NamedTuple, Optional, Tuple

from ropeway.core import tuning
from ropeway.core.strand.strand import NEVER

if TYPE_CHECKING:
    from ropeway.core.strand.secure import SecureConnection


class Sealed(NamedTuple):
    """Packets that were sealed, without the headers in which copies differ."""

    #: Type of the frames, and the index of the session.
    kind: int
    session: bytes
    #: The counter of the first; the others follow.
    first: int
    texts: List[bytes]
    #: The DS field of the outer headers; see :class:`ropeway.core.frame.data.Train`.
    ds_field: int = 0


class Recent(NamedTuple):
    """What was sent lately over some connections, and may have to be repeated over others."""

    #: In monotonic seconds.
    at: float
    sealed: Sealed
    #: Bytes of its ciphertexts.
    size: int
    #: The connection that they were sent over, if it was one of several shares.
    over: Optional[SecureConnection] = None


class Share:
    """What a connection takes of a class that is spread over several."""

    __slots__ = ("connection", "delay_s", "free_at", "rate")

    def __init__(self, connection: SecureConnection, delay_s: float, rate: float) -> None:
        self.connection = connection
        #: What the way takes without a queue, in seconds, and bytes that go over it in a second.
        self.delay_s = delay_s
        self.rate = rate
        #: When all that it was given has left its queue, in monotonic seconds.
        self.free_at = NEVER


class ClassTable:
    """What the data side needs to know of one class of traffic of a strand, and its notes."""

    __slots__ = (
        "carrying",
        "direct",
        "group",
        "kept",
        "lane",
        "packets",
        "parity",
        "parity_frames",
        "parity_over",
        "parity_wait_s",
        "recent",
        "recent_bytes",
        "repeated",
        "shares",
        "unordered",
    )

    def __init__(self, lane: Optional[int] = None, unordered: bool = False) -> None:
        #: The connections that carry the class, of those that carry the strand.
        self.carrying: Tuple[SecureConnection, ...] = ()
        #: The same where each packet goes over all of them and nothing else has to be done.
        self.direct: Tuple[SecureConnection, ...] = ()
        #: The lane that counts the packets of the class; None where nobody needs to.
        self.lane = lane
        #: Whether it is counted for its parity frames alone, and the other end keeps no order.
        self.unordered = unordered
        #: How many packets one parity frame covers, 0 for none now, and over which connection it
        #: goes.
        self.parity = 0
        self.parity_over: Optional[SecureConnection] = None
        #: How long after the first packet that it covers it is sent at the latest, in seconds.
        self.parity_wait_s = tuning.PARITY_AGE_S
        #: What the next one covers so far, which the data side keeps.
        self.group: Optional[Any] = None
        #: Parity frames that were sent.
        self.parity_frames = 0
        #: Where each packet goes over one of several connections: what each of them takes.
        self.shares: Tuple[Share, ...] = ()
        #: Whether packets are kept for a while, since other connections may have to repeat them.
        self.kept = False
        #: None before the first, as where nothing is kept.
        self.recent: Optional[Deque[Recent]] = None
        self.recent_bytes = 0
        #: Packets that were sent, and those that were sent again over other connections.
        self.packets = 0
        self.repeated = 0

    def forget_recent(self) -> None:
        """Keep nothing that was sent."""
        self.recent = None
        self.recent_bytes = 0
