"""The sessions that can be read, by what a datagram names them by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Optional

if TYPE_CHECKING:
    from ropeway.core.session.session import Session


class SessionTable:
    """All sessions of this host; the control side writes it, the data side reads it."""

    def __init__(self) -> None:
        #: By the four bytes that the peer puts into its frames.
        self.by_index: Dict[bytes, Session] = {}
        self._by_token: Dict[bytes, Session] = {}

    def add(self, session: Session) -> None:
        """Have frames of a session read from now on."""
        self.by_index[session.local_index] = session
        self._by_token[session.remote_index + session.reset_token] = session

    def remove(self, session: Session) -> bool:
        """Have no frame of a session read any more; return whether it was here."""
        token = session.remote_index + session.reset_token
        if self._by_token.get(token) is session:
            del self._by_token[token]
        known = self.by_index.get(session.local_index) is session
        if known:
            del self.by_index[session.local_index]
        return known

    def with_token(self, token: bytes) -> Optional[Session]:
        """Return the session whose peer's index and reset token those 20 bytes are, or None."""
        return self._by_token.get(token)
