"""Messages between hosts: routes, leases, and whatever is about no single connection.

A message goes out over all connections that carry packets, sealed once; the receiver takes the
first copy. It may be lost all the same, or come after a later one: whoever sends it repeats it.
"""

from __future__ import annotations

from typing import Callable, Dict

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.frame.control import TAKES_MESSAGES
from ropeway.core.frame.data import LINK_PART, MESSAGE, MESSAGE_AD
from ropeway.core.frame.message import MESSAGE_MAX, Kind, decode_message, encode_message
from ropeway.core.peers.outgoing import Outgoing
from ropeway.core.peers.sessions import Sessions
from ropeway.core.session.session import Session
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables
from ropeway.core.token_bucket import SharedBudget

#: Takes the body of a message that a host has sealed, at a time in monotonic seconds. The host may
#: be hostile all the same.
Handler = Callable[[SecureStrand, bytes, float], None]


class Messages:
    """Sends messages, and hands those that arrive to the part that they concern."""

    def __init__(
        self, tables: Tables[SecureStrand], sessions: Sessions, outgoing: Outgoing, now: float
    ) -> None:
        self._tables = tables
        self._sessions = sessions
        self._outgoing = outgoing
        #: Who takes messages of a kind; those of other kinds are ignored.
        self.handlers: Dict[int, Handler] = {}
        self._budget = SharedBudget(
            tuning.MESSAGES_PER_S,
            tuning.MESSAGES_BURST,
            tuning.MESSAGES_STRAND_PER_S,
            tuning.MESSAGES_STRAND_BURST,
            now,
        )

    def room(self, strand: SecureStrand) -> int:
        """Return how many bytes the body of a message may have; 0 if none can be sent now."""
        session = strand.session
        if session is None or not session.features & TAKES_MESSAGES or not strand.carrying:
            return 0
        return min(MESSAGE_MAX, strand.limit - 1)

    def send(self, strand: SecureStrand, kind: Kind, body: bytes) -> bool:
        """Send a message, once; False if the host cannot be told now, or takes none.

        ``body`` has at most :meth:`room` bytes.
        """
        session = strand.session
        if session is None or not 0 < len(body) <= self.room(strand):
            return False
        frame = LINK_PART.pack(MESSAGE, 0, 0)
        frame += session.seal(MESSAGE_AD, encode_message(kind, body))
        for connection in strand.carrying:
            if connection.source is not None:
                key = (connection.link, connection.source)
                self._outgoing.put(key, connection.endpoint, frame)
        return True

    def take(self, session: Session, datagram: bytes, now: float) -> None:
        """Take a message of a session."""
        body = self._sessions.open(session, datagram, now)
        if isinstance(body, Drop):
            # Later copies are as they should be.
            if body != Drop.REPLAYED:
                self._tables.dropped[body] += 1
            return
        if not self._budget.take(session.host, now):
            self._tables.dropped[Drop.FLOOD] += 1
            return
        message = decode_message(body)
        if message is None:
            self._tables.dropped[Drop.MALFORMED] += 1
            return
        handler = self.handlers.get(message[0])
        if handler is not None:
            handler(self._tables.strands[session.host], message[1], now)
