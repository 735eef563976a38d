"""Who-has as it arrives: what asks a router, and what a router answers."""

from __future__ import annotations

from typing import Optional

from ropeway.core.drops import Drop
from ropeway.core.frame import who_has
from ropeway.core.frame.who_has import Answer, Here
from ropeway.core.peers.direct import Direct
from ropeway.core.peers.directory import Directory
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables
from ropeway.core.timers import NOT_DUE
from ropeway.core.tuning import FORGET_EVERY_S


class WhoHas:
    """Hands messages to the directory of a router, and to what meets hosts without one."""

    def __init__(
        self,
        tables: Tables[SecureStrand],
        directory: Optional[Directory],
        direct: Optional[Direct],
        now: float,
    ) -> None:
        """``directory`` is None on a client, ``direct`` where hosts meet by routers only."""
        self._tables = tables
        self._directory = directory
        self._direct = direct
        self._forget_at = now if directory is not None else NOT_DUE

    def take(self, strand: SecureStrand, body: bytes, now: float) -> None:
        """Take a message; one that this host has no use for is ignored."""
        said = who_has.decode(body)
        if said is None:
            self._tables.dropped[Drop.MALFORMED] += 1
        elif isinstance(said, Answer):
            if self._direct is not None:
                self._direct.take(strand, said, now)
        elif self._directory is not None:
            if isinstance(said, Here):
                self._directory.note(strand, said, now)
            else:
                self._directory.answer(strand, said, now)

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""
        return min(self._forget_at, self._direct.deadline() if self._direct else NOT_DUE)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._directory is not None and now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            self._directory.forget(now)
        if self._direct is not None:
            self._direct.tick(now)
