"""Busy polling: for a moment after a packet, looking for its answer instead of falling asleep.

To be woken costs more time than to handle a packet, on a machine that is otherwise quiet above
all. So where answers have come soon, the loop keeps looking for the next one, as Linux does for
halted guests (`Documentation/virt/kvm/halt-polling.rst`): only after packets, only as long as it
pays, never for more than a small share of the time, and only where the agent may use
more than one processor. Beside bulk nothing is looked for: there a packet waits for processor time,
and looking takes that from the programs and agents that share the machine.
"""

from __future__ import annotations

from typing import Dict

# Tuning
SPAN_S = 0.0004
"""The longest look for an answer: a round trip in a LAN and what takes place at its other end."""
SHARE = 0.1
"""Of all time, this much at most is spent on looking."""
SAVED_S = 0.01
"""What was not spent of it is kept up to this."""
TRUST_MAX = 4
"""Answers that were late or missing, on end, after which no more are looked for."""
BULK = 8
"""So many packets in one turn of the loop are bulk, at the least."""
BULK_HOLD_S = 0.01
"""Bulk lasts so long after its last turn: a few round trips, over which a sender spreads it."""


class BusyPoll:
    """Decides how long to look for what comes next. Occasions are any keys, few of them.

    All times are monotonic seconds.
    """

    def __init__(self, processors: int, now: float) -> None:
        self._alone = processors < 2
        self._trust: Dict[str, int] = {}
        self._saved_s = 0.0
        self._at = now
        self._carried = 0
        self._bulk_until = now

    def note(self, carried: int, now: float) -> None:
        """Take how many packets of the virtual network were carried, in all, up to now."""
        if carried - self._carried >= BULK:
            self._bulk_until = now + BULK_HOLD_S
        self._carried = carried

    def span_s(self, occasion: str, now: float) -> float:
        """Give how long to look for what follows an occasion, 0 to `SPAN_S`."""
        if self._alone or now < self._bulk_until or self._trust.get(occasion, 0) <= 0:
            return 0.0
        self._saved_s = min(SAVED_S, self._saved_s + SHARE * (now - self._at))
        self._at = now
        return SPAN_S if self._saved_s >= SPAN_S else 0.0

    def learn(self, occasion: str, waited_s: float, looked_s: float, *, answered: bool) -> None:
        """Note how long was waited, and looked, until something followed or the wait was over."""
        self._saved_s -= looked_s
        trust = self._trust.get(occasion, 0)
        if waited_s >= SPAN_S:
            self._trust[occasion] = max(0, trust - 1)
        elif answered:
            self._trust[occasion] = min(TRUST_MAX, trust + 1)
