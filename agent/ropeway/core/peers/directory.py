"""What a router knows of where its hosts can be called, and what it says of that to others."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint
from ropeway.core.frame import who_has
from ropeway.core.frame.message import Kind
from ropeway.core.frame.who_has import Answer, Ask, Here, Verdict
from ropeway.core.peers.messages import Messages
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables


class Directory:
    """Answers which key a host has and where it can be called, and tells that host who asked.

    Both learn it at the same time, so that each opens the way for the other's calls. Only hosts
    that want to be called are in it.
    """

    def __init__(
        self,
        tables: Tables[SecureStrand],
        messages: Messages,
        may_meet: Callable[[str], bool],
    ) -> None:
        """``may_meet`` says whether a host may be called by others, by its virtual address."""
        self._tables = tables
        self._messages = messages
        self._may_meet = may_meet
        #: Where hosts say that they can be called, and when they said so.
        self._here: Dict[str, Tuple[Tuple[Endpoint, ...], float]] = {}
        #: When a host was told of another one that had asked for it: (told, of whom), oldest first.
        self._told: Dict[Tuple[str, str], float] = {}

    def __len__(self) -> int:
        """Hosts that are in it."""
        return len(self._here)

    def note(self, strand: SecureStrand, here: Here, now: float) -> None:
        """Take where a host says that it can be called."""
        self._here[strand.host] = (here.endpoints, now)

    def answer(self, strand: SecureStrand, ask: Ask, now: float) -> None:
        """Answer a host that asks for another one, and tell that one."""
        verdict = self._verdict(strand.host, ask.host, now)
        if verdict != Verdict.KNOWN:
            self._say(strand, Answer(ask.host, verdict))
            return
        asked = self._tables.strands[ask.host]
        self._say(strand, self._of(asked))
        # A host that asks again and again must not make another one's life hard.
        told = (asked.host, strand.host)
        at = self._told.pop(told, float("-inf"))
        if now - at >= tuning.WHO_HAS_TOLD_S:
            self._say(asked, self._of(strand))
            at = now
        self._told[told] = at
        while len(self._told) > tuning.WHO_HAS_TOLD_MAX:
            del self._told[next(iter(self._told))]

    def _verdict(self, asker: str, host: str, now: float) -> Verdict:
        asked = self._tables.strands.get(host)
        if asked is None or host == asker or not (self._may_meet(asker) and self._may_meet(host)):
            return Verdict.REFUSED
        # Who asks, but is not here, could not be called back.
        there = asked.session is not None and asked.best_state == State.ESTABLISHED
        both = all(self._is_here(one, now) for one in (asker, host))
        return Verdict.KNOWN if there and both else Verdict.UNKNOWN

    def _is_here(self, host: str, now: float) -> bool:
        _, at = self._here.get(host, ((), float("-inf")))
        return now - at <= tuning.HERE_HOLD_S

    def _of(self, strand: SecureStrand) -> Answer:
        """Return what there is to say of a host that has a session."""
        said, _ = self._here[strand.host]
        seen = [c.endpoint for c in strand.connections.values() if c.state == State.ESTABLISHED]
        # Where it was seen comes first: a host behind NAT has no other endpoint that leads there.
        endpoints = tuple(dict.fromkeys((*seen[: who_has.MAX_ENDPOINTS // 2], *said)))
        key = strand.session.public_key if strand.session else bytes(32)
        return Answer(strand.host, Verdict.KNOWN, key, endpoints[: who_has.MAX_ENDPOINTS])

    def _say(self, strand: SecureStrand, answer: Answer) -> None:
        self._messages.send(strand, Kind.WHO_HAS, who_has.encode(answer))

    def forget(self, now: float) -> None:
        """Forget hosts that have not said for long that they are here, or that are gone."""
        self._here = {
            host: said
            for host, said in self._here.items()
            if host in self._tables.strands and now - said[1] <= tuning.HERE_HOLD_S
        }
