"""The sessions that can be read, by the index in their frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict

if TYPE_CHECKING:
    from ropeway.core.session.session import Session


class SessionTable:
    """All sessions of this host; the control side writes it, the data side reads it."""

    __slots__ = ("by_index",)

    def __init__(self) -> None:
        #: By the four bytes that the peer puts into its frames.
        self.by_index: Dict[bytes, Session] = {}

    def add(self, session: Session) -> None:
        """Have frames of a session read from now on."""
        self.by_index[session.local_index] = session

    def remove(self, session: Session) -> bool:
        """Have no frame of a session read any more; False if it was not here."""
        known = self.by_index.get(session.local_index) is session
        if known:
            del self.by_index[session.local_index]
        return known
