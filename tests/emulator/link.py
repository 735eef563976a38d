"""One direction of a link, as a model: when does a packet that is sent now arrive, if ever?

The way of a packet, in this order:

1. A black hole takes it while one is open. The carrier stays, nobody is told.
2. The queue before the bottleneck takes it, first in, first out, or drops it where it is full.
3. The bottleneck sends it, bit by bit, at the rate that it has at that time.
4. The medium loses it, or not: it has used its part of the rate.
5. It arrives after the delay. Jitter never changes the order; what is reordered comes later than
   those sent after it, and holds none of them up.

There is no clock: times are seconds from 0, when a trace begins. Nothing is random but what the
seed says, so two models with one seed and the same packets do the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import Dict, Optional, Sequence, Tuple, Union

from tests.emulator.trace import Trace

#: How long a packet may wait before the bottleneck, unless something else is said.
QUEUE_MS = 300.0
#: How much later a reordered packet arrives, unless something else is said.
REORDER_MS = 20.0


class Lost(Enum):
    """Where a packet was lost."""

    BLACK_HOLE = "black hole"
    QUEUE = "queue"
    MEDIUM = "medium"


@dataclass(frozen=True)
class GilbertElliott:
    """Losses that come in bursts: a good and a bad state, each with its own share of losses.

    ``to_bad`` and ``to_good`` are the chances to change the state before each packet or, with
    ``step_ms``, every so many milliseconds, whether anything is sent or not.
    """

    to_bad: float
    to_good: float
    loss_bad: float = 1.0
    loss_good: float = 0.0
    step_ms: Optional[float] = None

    @classmethod
    def of(cls, loss: float, burst: float, step_ms: Optional[float] = None) -> GilbertElliott:
        """Return what loses this share, in bursts of this mean length in packets or steps."""
        if not 0 < loss < 1 or burst < 1:
            raise ValueError("loss has to be between 0 and 1, and the mean burst 1 or more")
        to_bad = loss / (1 - loss) / burst
        if to_bad > 1:
            raise ValueError(f"a loss of {loss:g} needs bursts longer than {burst:g}")
        return cls(to_bad, 1 / burst, step_ms=step_ms)


Loss = Union[float, GilbertElliott]


class LinkModel:
    """A one-way link; ask :meth:`send` for each packet, in the order of time.

    ``delay_ms``: from the bottleneck to the other end; a capacity trace has half of its
    ``base_rtt_ms`` unless told, an rtt trace half of its row's on top.
    ``jitter_ms``: up to so much more, evenly drawn for each packet, the order kept.
    ``loss``: a share, 0..1, or GilbertElliott.
    ``reorder``: the share of packets that come ``reorder_ms`` later.
    ``rate_kbit``: of all that :meth:`send` is told, None for no bottleneck.
    ``queue_ms``: the longest wait for the bottleneck to begin with a packet; one that would wait
    longer is dropped, also because of an outage to come. ``queue_bytes``: the largest number of
    bytes that wait, the rest of the packet being sent among them. Either; QUEUE_MS if neither.
    ``black_holes``: (from_s, to_s) pairs in which what is sent is lost.
    ``trace``: gives the rate, or the delay and the loss. A row with loss 1 loses what is sent
    until the next row; half a round-trip time of delay is on each way.

    ``delay_ms``, ``jitter_ms``, ``loss``, ``reorder`` and ``black_holes`` may be changed at any
    time. ``sent``, ``arrived`` and ``lost`` count packets; ``sent_bytes`` and ``arrived_bytes``
    their bytes.
    """

    def __init__(
        self,
        seed: int,
        delay_ms: Optional[float] = None,
        jitter_ms: float = 0.0,
        loss: Loss = 0.0,
        reorder: float = 0.0,
        reorder_ms: float = REORDER_MS,
        rate_kbit: Optional[float] = None,
        queue_ms: Optional[float] = None,
        queue_bytes: Optional[int] = None,
        black_holes: Sequence[Tuple[float, float]] = (),
        trace: Optional[Trace] = None,
    ) -> None:
        if queue_ms is not None and queue_bytes is not None:
            raise ValueError("a queue has a limit in ms or in bytes, not both")
        if rate_kbit is not None and rate_kbit <= 0:
            raise ValueError("rate_kbit has to be more than 0; a black hole carries nothing")
        capacity = trace if trace is not None and trace.rate_kbit else None
        if capacity is not None and rate_kbit is not None:
            raise ValueError(f"the trace {capacity.name} has the rate already")
        if delay_ms is None:
            delay_ms = trace.base_rtt_ms / 2 if trace is not None else 0.0
        self.delay_ms = delay_ms
        self.jitter_ms = jitter_ms
        self.loss = loss
        self.reorder = reorder
        self.reorder_ms = reorder_ms
        self.black_holes = tuple(black_holes)
        self.queue_bytes = queue_bytes
        self._queue_s = (QUEUE_MS if queue_ms is None else queue_ms) / 1000
        if capacity is None and rate_kbit is not None:
            # A trace of one row, which lasts for long enough not to lose precision at its ends.
            capacity = Trace("constant", 1e6, [0.0], rate_kbit=[rate_kbit])
        self._capacity = capacity
        self._rtt = trace if trace is not None and trace.rtt_ms else None
        self._random = random.Random(seed)
        self._bad = False
        self._bad_since = 0.0  # the time that the state was drawn for
        self._sent_at = 0.0
        self._taken = 0.0  # bits of the bottleneck that are spoken for, from 0 s on
        self._last_arrival = 0.0
        self.sent = self.arrived = 0
        self.sent_bytes = self.arrived_bytes = 0
        self.lost: Dict[Lost, int] = dict.fromkeys(Lost, 0)

    def send(self, now_s: float, size: int) -> Optional[float]:
        """Send a packet of so many bytes; return when it arrives, None if it is lost."""
        if now_s < self._sent_at:
            raise ValueError(f"time goes back from {self._sent_at:.6f} to {now_s:.6f} s")
        self._sent_at = now_s
        self.sent += 1
        self.sent_bytes += size
        for from_s, to_s in self.black_holes:
            if from_s <= now_s < to_s:
                self.lost[Lost.BLACK_HOLE] += 1
                return None
        gone_at = self._pass_bottleneck(now_s, size)
        if gone_at is None:
            self.lost[Lost.QUEUE] += 1
            return None
        delay_ms = self.delay_ms
        if self._rtt is not None:
            row = self._rtt.row(gone_at)
            delay_ms += self._rtt.rtt_ms[row] / 2
            if self._chance(self._rtt.loss[row]):
                self.lost[Lost.MEDIUM] += 1
                return None
        if self._medium_loses(gone_at):
            self.lost[Lost.MEDIUM] += 1
            return None
        self.arrived += 1
        self.arrived_bytes += size
        if self.jitter_ms:
            delay_ms += self._random.random() * self.jitter_ms
        arrival = max(gone_at + delay_ms / 1000, self._last_arrival)
        if self._chance(self.reorder):
            return arrival + self.reorder_ms / 1000
        self._last_arrival = arrival
        return arrival

    def quiet_delay_ms(self, size: int) -> float:
        """Return what a packet takes at 0 s, or at a trace's mean rate, without queue or jitter."""
        delay_ms = self.delay_ms + (self._rtt.rtt_ms[0] / 2 if self._rtt is not None else 0.0)
        return delay_ms + (8 * size / self._capacity.mean_kbit if self._capacity else 0.0)

    def waiting_ms(self, now_s: float) -> float:
        """Return how long a packet sent now would wait for the bottleneck."""
        if self._capacity is None:
            return 0.0
        start = max(self._capacity.carried(now_s), self._taken)
        return max(self._capacity.begins(start) - now_s, 0.0) * 1000

    def _pass_bottleneck(self, now_s: float, size: int) -> Optional[float]:
        capacity = self._capacity
        if capacity is None:
            return now_s
        carried = capacity.carried(now_s)
        start = max(carried, self._taken)
        if self.queue_bytes is not None:
            waiting = (start - carried) / 8
            if waiting > 0 and waiting + size > self.queue_bytes + 1e-6:
                return None
        elif capacity.begins(start) - now_s > self._queue_s + 1e-9:
            return None
        self._taken = start + 8 * size
        return max(capacity.ends(self._taken), now_s)

    def _medium_loses(self, at_s: float) -> bool:
        loss = self.loss
        if not isinstance(loss, GilbertElliott):
            return self._chance(loss)
        changes = 1.0
        if loss.step_ms is not None:
            steps = int((at_s - self._bad_since) * 1000 / loss.step_ms + 1e-9)
            self._bad_since += steps * loss.step_ms / 1000
            changes = steps
        # The chance to be in the bad state after so many chances to change, from this state.
        share = loss.to_bad / (loss.to_bad + loss.to_good)
        kept = (1 - loss.to_bad - loss.to_good) ** changes
        self._bad = self._chance(share + (self._bad - share) * kept)
        return self._chance(loss.loss_bad if self._bad else loss.loss_good)

    def _chance(self, share: float) -> bool:
        # No draw where the outcome is certain: a link without losses needs no randomness.
        return share >= 1 or (share > 0 and self._random.random() < share)
