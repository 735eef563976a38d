"""Initiations that wait for an answer, and those of others that were answered."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Tuple

from ropeway.core.session.admission import bound
from ropeway.core.session.messages import MAC1_START_SIZE
from ropeway.core.session.noise import Initiator
from ropeway.core.token_bucket import TokenBucket

#: An answer to an initiation is accepted until the initiation is this old, in seconds.
PENDING_S = 12.0
#: Copies of an initiation get the same answer for this time, in seconds ...
ANSWER_S = 20.0
#: ... and at this rate: as many at once as a host may have links, then so many a second.
ANSWER_BURST = 16.0
ANSWER_RATE = 20.0
#: Answers that are remembered.
MAX_ANSWERS = 1024
#: Initiations that are remembered, so that playing them back costs next to nothing.
MAX_SEEN = 4096


class Pending:
    """An initiation of this host that has not been answered."""

    __slots__ = ("host", "index", "mac1", "made_at", "message", "noise", "psk", "public_key")

    def __init__(
        self,
        host: str,
        public_key: bytes,
        psk: bytes,
        index: bytes,
        noise: Initiator,
        message: bytes,
        mac1: bytes,
        now: float,
    ) -> None:
        self.host = host
        self.public_key = public_key
        self.psk = psk
        self.index = index
        self.noise = noise
        self.message = message
        self.mac1 = mac1
        self.made_at = now

    def is_over(self, now: float) -> bool:
        """Return whether an answer comes too late."""
        return now - self.made_at >= PENDING_S


class PendingInitiations:
    """The initiations of this host that have not been answered."""

    def __init__(self) -> None:
        self._by_index: Dict[bytes, Pending] = {}
        self._by_mac1: Dict[bytes, Pending] = {}
        self._last_to: Dict[Tuple[str, bytes], Pending] = {}

    def __contains__(self, index: bytes) -> bool:
        """Return whether an initiation has that index of a session."""
        return index in self._by_index

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_index)

    def get(self, index: bytes) -> Optional[Pending]:
        """Return the initiation with an index, or None."""
        return self._by_index.get(index)

    def by_mac1(self, start: bytes) -> Optional[Pending]:
        """Return the initiation whose mac1 begins with what a cookie repeats, or None."""
        return self._by_mac1.get(start)

    def last_to(self, host: str, public_key: bytes) -> Optional[Pending]:
        """Return the last initiation to a host's key, or None."""
        return self._last_to.get((host, public_key))

    def add(self, pending: Pending) -> None:
        """Remember an initiation."""
        self._by_index[pending.index] = pending
        self._by_mac1[pending.mac1[:MAC1_START_SIZE]] = pending
        self._last_to[pending.host, pending.public_key] = pending

    def drop(self, pending: Pending) -> None:
        """Forget an initiation."""
        del self._by_index[pending.index]
        self._by_mac1.pop(pending.mac1[:MAC1_START_SIZE], None)
        if self._last_to.get((pending.host, pending.public_key)) is pending:
            del self._last_to[pending.host, pending.public_key]

    def drop_where(self, condition: Callable[[Pending], bool]) -> None:
        """Forget the initiations for which ``condition`` holds."""
        for pending in [pending for pending in self._by_index.values() if condition(pending)]:
            self.drop(pending)


class GivenAnswer:
    """An answer that copies of the same initiation get again."""

    __slots__ = ("given_at", "host", "rate", "reply")

    def __init__(self, host: str, reply: bytes, now: float) -> None:
        self.host = host
        self.reply = reply
        self.given_at = now
        self.rate = TokenBucket(ANSWER_RATE, ANSWER_BURST, now)


class SeenInitiations:
    """The initiations of others that need not be computed again, and the answers to them."""

    def __init__(self) -> None:
        self._answers: Dict[bytes, GivenAnswer] = {}
        #: By mac1, of new and of stale ones: whose key.
        self._keys: Dict[bytes, bytes] = {}

    def answer_to(self, initiation: bytes, now: float) -> Optional[GivenAnswer]:
        """Return the answer to an initiation, without its mac2, if it may be given again."""
        given = self._answers.get(initiation)
        return given if given is not None and now - given.given_at < ANSWER_S else None

    def note_answer(self, initiation: bytes, host: str, reply: bytes, now: float) -> None:
        """Remember the answer to an initiation."""
        while self._answers:
            oldest = next(iter(self._answers))
            if now - self._answers[oldest].given_at < ANSWER_S:
                break
            del self._answers[oldest]
        bound(self._answers, MAX_ANSWERS)
        self._answers[initiation] = GivenAnswer(host, reply, now)

    def forget_answers(self) -> None:
        """Repeat no answer any more."""
        self._answers.clear()

    def forget_answers_to(self, hosts: List[str]) -> None:
        """Repeat no answer to those hosts any more."""
        self._answers = {i: given for i, given in self._answers.items() if given.host not in hosts}

    def key_of(self, mac1: bytes) -> Optional[bytes]:
        """Return the public key that has sent the initiation with that mac1, or None."""
        return self._keys.get(mac1)

    def note(self, mac1: bytes, public_key: bytes) -> None:
        """Remember who has sent the initiation with that mac1."""
        bound(self._keys, MAX_SEEN)
        self._keys[mac1] = public_key
