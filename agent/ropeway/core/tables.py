"""The tables between the control side and the data side, which know nothing else of each other.

The control side writes which sessions can be read, who takes the packets for a destination, and
which connections carry the packets of a strand. The data side reads that for each batch of packets,
and notes what it saw. Everything here is plain, so that another data plane can be filled from it.

The last step of a look-up is in the strands: :attr:`ropeway.core.strand.strand.Strand.carrying` is
the table of the connections that carry a strand's packets, and where there are classes of traffic
:attr:`ropeway.core.strand.secure.SecureStrand.classes` has one for each.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, Generic, List, Optional, Tuple, TypeVar

from ropeway.core.drops import Drop
from ropeway.core.packet.traffic_class import Classifier
from ropeway.core.session.table import SessionTable
from ropeway.core.strand.strand import Held, Strand

StrandT = TypeVar("StrandT", bound=Strand[Any])


class Tables(Generic[StrandT]):
    """What one node knows of where packets go and where they come from."""

    __slots__ = (
        "classifier",
        "dropped",
        "given_up",
        "next_hops",
        "released",
        "repeats",
        "sessions",
        "several",
        "strands",
        "touched",
        "unsettled",
        "within_ms",
        "woken",
    )

    def __init__(self) -> None:
        # What the control side writes.

        #: The other hosts, by virtual address as text.
        self.strands: Dict[str, StrandT] = {}
        #: The sessions that can be read; none in a classic network.
        self.sessions = SessionTable()
        #: Destination, four bytes -> the strand that takes its packets. What is not here is looked
        #: up by :class:`ropeway.core.network.routes.Routes`, which writes this table.
        self.next_hops: Dict[bytes, StrandT] = {}
        #: The same for destinations that several strands take, or that only some packets may go to;
        #: the first strand counts most. None of them is in ``next_hops``.
        self.several: Dict[bytes, Tuple[StrandT, ...]] = {}
        #: Strands whose carrying connections have to be chosen again.
        self.unsettled: Dict[StrandT, None] = {}
        #: Packets that waited for a session and can be sent now.
        self.released: List[Held] = []
        #: Tells the classes of traffic apart; None where all packets are of one.
        self.classifier: Optional[Classifier] = None
        #: What packets of each class, and of the rest, may take; empty without classes.
        self.within_ms: Tuple[float, ...] = ()
        #: What may be lost and has to be sent again: the table of a class, the connections over
        #: which, since when it was sent, in monotonic seconds, and over which connections, none
        #: for any.
        self.repeats: List[Tuple[Any, Tuple[Any, ...], float, Any]] = []
        #: Packets that waited for a session that did not come.
        self.given_up: List[Held] = []

        # What the data side writes.

        #: Connections whose outbox holds something. The control side adds those of its own frames.
        self.touched: List[Any] = []
        #: Strands that began to carry data since the last settling.
        self.woken: List[StrandT] = []
        #: Packets and frames that went no further, by reason; both sides count.
        self.dropped: Counter[Drop] = Counter()

    def forget_next_hops(self) -> None:
        """Have every next hop worked out anew."""
        self.next_hops.clear()
        self.several.clear()
