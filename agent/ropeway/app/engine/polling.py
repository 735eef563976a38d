"""Busy polling: for a moment after a packet, the loop looks for the answer instead of sleeping.

Waking a sleeping process takes longer than handling a packet, above all on a quiet machine. If
answers have come soon, the loop looks for the next one, as Linux does for halted guests
(`Documentation/virt/kvm/halt-polling.rst`): only after packets, only as long as it pays, never for
more than a small share of the time, and only if the agent may use more than one processor. There is
no busy polling during bulk transfers: then packets wait for processor time, and polling would take
it from other programs and agents.
"""

from __future__ import annotations

from typing import Dict

# Tuning
#: The longest look for an answer: a round trip in a LAN, and the handling at the other end.
SPAN_S = 0.0004
#: The largest share of the time that is spent on looking.
SHARE = 0.1
#: Time that was not spent is saved up to this.
SAVED_S = 0.01
#: After so many late or missing answers in a row the loop does not look for more.
TRUST_MAX = 4
#: So many packets or more in one turn of the loop are bulk.
BULK = 8
#: Bulk lasts so long after its last turn: a few round trips, over which a sender spreads it.
BULK_HOLD_S = 0.01


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
        """Note how many packets of the virtual network were carried since the start."""
        if carried - self._carried >= BULK:
            self._bulk_until = now + BULK_HOLD_S
        self._carried = carried

    def span_s(self, occasion: str, now: float) -> float:
        """Return how long to look for what follows an occasion, 0 to `SPAN_S`."""
        if self._alone or now < self._bulk_until or self._trust.get(occasion, 0) <= 0:
            return 0.0
        self._saved_s = min(SAVED_S, self._saved_s + SHARE * (now - self._at))
        self._at = now
        return SPAN_S if self._saved_s >= SPAN_S else 0.0

    def learn(self, occasion: str, waited_s: float, looked_s: float, *, answered: bool) -> None:
        """Note how long the loop waited, and how long it looked, until an answer or a timer."""
        self._saved_s -= looked_s
        trust = self._trust.get(occasion, 0)
        if waited_s >= SPAN_S:
            self._trust[occasion] = max(0, trust - 1)
        elif answered:
            self._trust[occasion] = min(TRUST_MAX, trust + 1)
