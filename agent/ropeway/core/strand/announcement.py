"""Announcements: where a host says that its links can be called, and what is kept of it.

Nothing of it is believed: an endpoint is asked, and is used once it has answered. Questions never
add up to more bytes than the announcements had, so nobody gains by announcing what is not his.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Dict, FrozenSet, Iterable, List, Mapping, Tuple

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, Place, without_prefix
from ropeway.core.frame.control import MAX_ANNOUNCED
from ropeway.core.link import Link
from ropeway.core.session.session import Order, Session
from ropeway.core.token_bucket import TokenBucket

#: Where a frame goes: an endpoint, and the local address that it is sent from.
QuestionPath = Tuple[Endpoint, str]


def of_links(links: Iterable[Link], port: int) -> Tuple[Place, ...]:
    """Return the places at which links can be called, at most :data:`MAX_ANNOUNCED`.

    Each link gets one address of a kind before any gets another, and links that are up come first.
    Those that are down may be back when no other host can hear of it.
    """
    rows: List[List[Place]] = []
    for link in sorted(links, key=lambda link: (not link.up, link.index)):
        four, six = link.addresses, link.addresses6
        addresses = (*four[:1], *six[:1], *four[1:], *six[1:])
        rows.append([(link.index, (without_prefix(text), port)) for text in addresses])
    places = [place for row in zip_longest(*rows) for place in row if place is not None]
    return tuple(places[:MAX_ANNOUNCED])


class Announced:
    """The latest announcement of one host, and what was asked because of it."""

    __slots__ = (
        "_asked",
        "_bytes",
        "_looks",
        "_order",
        "_questions",
        "marks",
        "places",
        "withdrawn",
    )

    def __init__(self, now: float) -> None:
        #: The indices of interfaces on their host, by endpoint: some share an address.
        self.places: Mapping[Endpoint, Tuple[int, ...]] = {}
        #: What announcements before had, and this one has not.
        self.withdrawn: FrozenSet[Endpoint] = frozenset()
        #: When each question was sent, and where, by its mark; the oldest first.
        self.marks: Dict[int, Tuple[float, QuestionPath]] = {}
        self._order = Order()
        self._looks = TokenBucket(tuning.ANNOUNCEMENTS_PER_S, tuning.ANNOUNCEMENTS_BURST, now)
        self._questions = TokenBucket(tuning.QUESTIONS_PER_S, tuning.QUESTIONS_BURST, now)
        #: Bytes that came and that no question was sent for yet.
        self._bytes = 0
        #: When a link may ask an endpoint again, and how long the pause is then.
        self._asked: Dict[Tuple[int, Endpoint], Tuple[float, float]] = {}

    def is_due(self, session: Session, counter: int, now: float) -> bool:
        """Return whether an announcement is to be taken, and note it.

        Not if one came that was sent later, over whatever connection, or too many.
        """
        return self._order.advance(session, counter) and self._looks.take(now)

    def take(self, places: Mapping[Endpoint, Tuple[int, ...]], size: int) -> None:
        """Have ``places`` instead of those before; the announcement was ``size`` bytes long."""
        self._bytes = min(self._bytes + size, tuning.QUESTIONS_BYTES)
        if places != self.places:
            gone = frozenset(self.places).difference(places)
            # An interface has no address for a moment before it has another one.
            before = self.withdrawn.difference(places)
            self.withdrawn = gone | before if len(gone | before) <= MAX_ANNOUNCED else gone
            self.places = places
            self._asked = {way: at for way, at in self._asked.items() if way[1] in places}

    def forget(self) -> None:
        """Know no place any more."""
        self.places, self.withdrawn = {}, frozenset()
        self.ask_anew()

    def ask_anew(self) -> None:
        """Have no question wait for its turn: there are other ways now."""
        self._asked.clear()

    def may_ask(self, link: int, endpoint: Endpoint, size: int, now: float) -> bool:
        """Return whether a link may ask an endpoint in ``size`` bytes, and note it."""
        at, pause_s = self._asked.get((link, endpoint), (now, tuning.QUESTION_MIN_S))
        if now < at or size > self._bytes or not self._questions.take(now):
            return False
        self._bytes -= size
        self._asked[link, endpoint] = (now + pause_s, min(2 * pause_s, tuning.QUESTION_MAX_S))
        return True

    def note(self, mark: int, path: QuestionPath, now: float) -> None:
        """Know a question by its mark when it is answered."""
        self.marks[mark] = (now, path)
        if len(self.marks) > tuning.QUESTION_MARKS:
            del self.marks[next(iter(self.marks))]
