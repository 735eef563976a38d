"""Which of a strand's connections carry a class of traffic.

A chooser decides for one class of one strand. It is asked whenever something was measured or has
changed, never for a packet.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Optional, Protocol, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.packet.traffic_class import Mode, TrafficClass
from ropeway.core.strand.class_table import Share
from ropeway.core.strand.secure import SecureConnection
from ropeway.core.strand.strand import NEVER

Connections = Tuple[SecureConnection, ...]
#: Returns which share of their troubles two connections have at once, 0 to 1, at a time.
Together = Callable[[SecureConnection, SecureConnection, float], float]


class Chooser(Protocol):
    """Chooses the connections that carry one class of traffic of one strand."""

    @property
    def repeats(self) -> bool:
        """Whether connections that are added may have to repeat what others carried."""

    def choose(self, candidates: Connections, now: float) -> Connections:
        """Return those of the candidates that carry the class from now on."""

    @property
    def repeat_since(self) -> Optional[float]:
        """Since when packets may be lost that the last choice's new connections can repeat."""

    @property
    def lost(self) -> Connections:
        """Over which connections those were sent; none for any."""

    @property
    def shares(self) -> Tuple[Share, ...]:
        """What each chosen connection takes, where each packet goes over one; else nothing."""

    #: How many packets one parity frame covers, as far as the other end takes such; 0 for none.
    parity: int

    def probe_s(self, connection: SecureConnection) -> float:
        """Return how often a connection has to be measured while data flows, in seconds."""


def cost_ms(connection: SecureConnection, now: float) -> float:
    """Return what weighs a path: its usual time one way, how that varies, its troubles, its cost.

    A path that loses much looks quick by its times alone, so losses weigh too.
    """
    estimate = connection.quality.estimate
    if estimate.rtt_ms is None or estimate.rtt_var_ms is None:
        return float("inf")
    return (
        estimate.rtt_ms / 2
        + 2 * estimate.rtt_var_ms
        + tuning.LOSS_COST_MS * (estimate.loss_out.share or 0.0)
        + tuning.TROUBLE_COST_MS * estimate.troubles(now)
        + tuning.LINK_COST_MS * connection.cost
    )


def _apart(one: SecureConnection, other: SecureConnection, now: float) -> float:
    """Return that two connections never fail together."""
    return 0.0


class Redundant:
    """Copies over all connections, or over the best ``copies`` of them."""

    repeats = False
    parity = 0
    repeat_since = None
    lost: Connections = ()
    shares: Tuple[Share, ...] = ()

    def __init__(self, copies: Optional[int] = None, together: Together = _apart) -> None:
        self._copies = copies
        self._together = together
        self._chosen: Connections = ()
        self._chosen_at = NEVER

    def choose(self, candidates: Connections, now: float) -> Connections:
        """Return the candidates, or the best of them, spread over what fails at different times."""
        if self._copies is None or len(candidates) <= self._copies:
            self._chosen = candidates
        elif (
            now >= self._chosen_at + tuning.CHOICE_S
            # There may have been fewer, or none, when they were chosen last.
            or len(self._chosen) < self._copies
            or not set(self._chosen) <= set(candidates)
        ):
            self._chosen_at = now
            self._chosen = self._best(candidates, self._copies, now)
        return self._chosen

    def _best(self, candidates: Connections, copies: int, now: float) -> Connections:
        costs: Dict[SecureConnection, float] = {}
        for one in candidates:
            stays = tuning.SWITCH_SHARE if one in self._chosen else 1.0
            costs[one] = stays * cost_ms(one, now)
        left = sorted(candidates, key=lambda one: costs[one])
        chosen: List[SecureConnection] = []
        while len(chosen) < copies:
            apart = [c for c in left if not any(_share_an_end(c, one) for one in chosen)]
            joint_ms = {
                c: max((_joint_ms(self._together(c, one, now)) for one in chosen), default=0.0)
                for c in apart or left
            }
            chosen.append(min(joint_ms, key=lambda one: costs[one] + joint_ms[one]))
            left.remove(chosen[-1])
        return tuple(chosen)

    def probe_s(self, connection: SecureConnection) -> float:
        """Return the pause that is usual: nothing here has to be known sooner."""
        return tuning.PROBE_S


class Steered:
    """One copy over the best connection, and over all while that one is in trouble.

    Trouble is an answer that does not come in time, a loss, or a time on the way that leaves too
    little of what packets may take. All connections carry then for a while, longer each time that
    trouble comes again soon. What was sent since the last answer is repeated.
    """

    repeats = True
    lost: Connections = ()
    shares: Tuple[Share, ...] = ()

    def __init__(
        self,
        within_ms: Optional[float],
        late_ms: float,
        tolerates_loss: float,
        together: Together = _apart,
    ) -> None:
        """``within_ms`` is what packets may take, None for any time.

        An answer that is late by ``late_ms`` is trouble, and so is a loss above the share
        ``tolerates_loss``.
        """
        self._within_ms = within_ms
        self._late_ms = late_ms
        self._tolerates_loss = tolerates_loss
        self.parity = 0
        self._together = together
        self._best: Optional[SecureConnection] = None
        self._chosen: Connections = ()
        self._all_until = NEVER
        self._hold_s = tuning.HOLD_MIN_S
        self.repeat_since: Optional[float] = None

    def choose(self, candidates: Connections, now: float) -> Connections:
        """Return the best candidate, or all of them."""
        before, self.repeat_since = self._chosen, None
        since = None
        if len(candidates) > 1:
            since = self._find_best(candidates, now)
        else:
            if self._best is not None and self._best not in candidates:
                # What it carried last may have gone with it.
                since = self._best.quality.estimate.confirmed_at
            self._best = candidates[0] if candidates else None
        alone = self._best is not None and now >= self._all_until
        self._chosen = (self._best,) if alone and self._best is not None else candidates
        if since is not None and before and set(self._chosen) - set(before):
            self.repeat_since = since
        return self._chosen

    def probe_s(self, connection: SecureConnection) -> float:
        """Return the pause that shows soon enough when a connection gets worse.

        The best one is measured the more often the more it carries: that costs a share of it.
        """
        rate_kbit = connection.quality.estimate.rate_out.kbit
        if connection is not self._best or not rate_kbit:
            return tuning.QUICK_PROBE_S
        pause_s = tuning.PROBE_KBIT / (tuning.PROBE_SHARE * rate_kbit)
        return min(max(pause_s, tuning.BEST_PROBE_S), tuning.QUICK_PROBE_S)

    def _find_best(self, candidates: Connections, now: float) -> Optional[float]:
        """Choose the best; return since when its packets may be lost if it is in trouble."""
        best, since = self._best, None
        if best is not None:
            gone = best not in candidates
            if not gone and not _is_known(best, now):
                since = best.quality.estimate.confirmed_at
                self._hold(tuning.HOLD_MIN_S, now)
            elif gone or self._is_in_trouble(best, now):
                since = best.quality.estimate.confirmed_at
                best.quality.estimate.note_trouble(now)
                self._hold_longer(now)
            if gone:
                best = None
        good = [c for c in candidates if _is_known(c, now) and not self._is_in_trouble(c, now)]
        other = self._next_best(good or candidates, now, None if since is None else self._best)
        worse = best is not None and other is not best
        if best is not None and worse and (since is not None or self._beats(other, best, now)):
            best = None
        if best is None:
            # Make before break: all carry until the other one has shown that it does.
            self._hold(tuning.HOLD_MIN_S, now)
            best = other
        self._best = best
        if not good:
            self._hold(tuning.HOLD_MIN_S, now)
        return since

    def _next_best(
        self, candidates: Sequence[SecureConnection], now: float, left: Optional[SecureConnection]
    ) -> SecureConnection:
        """Return the best; after trouble with ``left`` what fails at other times is better."""
        if left is None:
            return min(candidates, key=lambda c: cost_ms(c, now))
        costs = {c: cost_ms(c, now) for c in candidates}
        for one in costs:
            if one is not left:
                costs[one] += _joint_ms(self._together(one, left, now))
        return min(costs, key=lambda c: costs[c])

    def _is_in_trouble(self, connection: SecureConnection, now: float) -> bool:
        tolerates_loss = self._tolerates_loss
        if self.parity and self._within_ms is not None:
            # A packet stays lost where one of so many others is lost too.
            tolerates_loss = math.sqrt(tolerates_loss / self.parity)
        if _is_failing(connection, self._late_ms, tolerates_loss, now):
            return True
        estimate = connection.quality.estimate
        if self._within_ms is None or estimate.rtt_latest_ms is None or estimate.rtt_min_ms is None:
            return False
        one_way_ms = estimate.rtt_latest_ms - estimate.rtt_min_ms / 2
        return one_way_ms > tuning.WITHIN_SHARE * self._within_ms

    def _beats(self, one: SecureConnection, other: SecureConnection, now: float) -> bool:
        """Return whether one is so much better that it is worth changing to it."""
        mine, theirs = (cost_ms(c, now) for c in (one, other))
        return mine < tuning.SWITCH_SHARE * theirs

    def _hold(self, seconds: float, now: float) -> None:
        self._all_until = max(self._all_until, now + seconds)

    def _hold_longer(self, now: float) -> None:
        """Have all carry, for longer than last time if that was lately."""
        if now >= self._all_until:
            calm_s = now - self._all_until
            if calm_s < tuning.HOLD_MEMORY * self._hold_s:
                self._hold_s = min(tuning.HOLD_GROWTH * self._hold_s, tuning.HOLD_MAX_S)
            else:
                self._hold_s = tuning.HOLD_MIN_S
        self._hold(self._hold_s, now)


class Spread:
    """One copy, over that one of the connections by which it arrives first.

    Which one that is, is worked out for each packet, from the :class:`Share` of each connection:
    its time without a queue, its rate, and the queue that the packets before it make. Rate and
    queue are corrected here by what is measured. A connection that fails takes no part, and what
    was sent over it since its last answer is repeated over another one.
    """

    repeats = True

    def __init__(self) -> None:
        self.parity = 0
        self._shares: Dict[SecureConnection, _Measured] = {}
        self.shares: Tuple[Share, ...] = ()
        self.repeat_since: Optional[float] = None
        self.lost: Connections = ()

    def choose(self, candidates: Connections, now: float) -> Connections:
        """Return the candidates that work, or all; the first one is the quickest."""
        self.repeat_since = None
        good = [c for c in candidates if _is_fresh(c, now) and not self._fails(c, now)]
        shared = [share.connection for share in self.shares]
        self.lost = tuple(c for c in shared if c not in good) if good else ()
        if self.lost:
            self.repeat_since = min(c.quality.estimate.confirmed_at for c in self.lost)
        for one in self.lost:
            one.quality.estimate.note_trouble(now)
        # Bulk pays for bytes only where nothing else works, or may work.
        hopeful = good or [c for c in candidates if not self._fails(c, now)]
        free = [c for c in hopeful if not c.metered]
        chosen = sorted(free or good or candidates, key=lambda c: cost_ms(c, now))
        for gone in set(self._shares) - set(candidates):
            del self._shares[gone]
        measured = [self._shares.setdefault(c, _Measured(c)) for c in chosen]
        for entry in measured:
            entry.look(now)
        self.shares = tuple(one.share for one in measured)
        return tuple(chosen)

    def probe_s(self, connection: SecureConnection) -> float:
        """Return the pause after which a queue is noticed before it is long."""
        return tuning.SPREAD_PROBE_S

    def _fails(self, connection: SecureConnection, now: float) -> bool:
        return _is_failing(connection, tuning.SPREAD_LATE_MS, tuning.SPREAD_LOSS, now)


class _Measured:
    """The share of a connection, corrected by what is measured of it."""

    __slots__ = ("_known", "_looked_at", "_queue_s", "_sent_bytes", "share")

    def __init__(self, connection: SecureConnection) -> None:
        self.share = Share(connection, 0.0, tuning.SPREAD_RATE_MIN)
        self._looked_at = NEVER
        self._sent_bytes = 0
        self._queue_s = 0.0
        # Whether it was full since it began.
        self._known = False

    def look(self, now: float) -> None:
        """Correct time, rate and queue."""
        share = self.share
        connection = share.connection
        estimate = connection.quality.estimate
        rtt_s = (estimate.rtt_ms or 0.0) / 1000
        passed_s = now - self._looked_at
        if passed_s < max(tuning.SPREAD_PROBE_S, rtt_s):
            return
        sent = connection.traffic.sent_bytes - self._sent_bytes
        queue_s, before_s = (estimate.queue_ms or 0.0) / 1000, self._queue_s
        first = self._looked_at == NEVER
        self._looked_at, self._sent_bytes = now, connection.traffic.sent_bytes
        self._queue_s = queue_s
        share.delay_s = (estimate.rtt_min_ms or 0.0) / 2000
        if first:
            return
        if min(queue_s, before_s) > tuning.SPREAD_QUEUE_S:
            # It was full. What it was given went, but for what the queue grew by.
            arrived = sent * (1 - (estimate.loss_out.share or 0.0))
            rate = arrived / max(passed_s + queue_s - before_s, passed_s / 4)
            share.rate += tuning.SPREAD_RATE_SHARE * (rate - share.rate)
            share.rate = max(share.rate, tuning.SPREAD_RATE_MIN)
            self._known = True
        elif sent > tuning.SPREAD_USED * share.rate * passed_s:
            # It takes what it is given. Whether it takes more shows by giving it more.
            share.rate *= tuning.SPREAD_GROWTH if self._known else tuning.SPREAD_GROWTH_FIRST
        # The queue that was measured is an older one.
        slack_s = tuning.SPREAD_PROBE_S + 2 * share.delay_s
        share.free_at = min(max(share.free_at, now + queue_s - slack_s), now + queue_s + slack_s)


def chooser_for(what: TrafficClass, together: Together = _apart) -> Chooser:
    """Return a new chooser for a class."""
    if what.mode is Mode.ADAPTIVE:
        return Steered(what.within_ms, tuning.LATE_MIN_MS, tuning.ADAPTIVE_LOSS, together)
    if what.mode is Mode.SINGLE:
        return Steered(None, tuning.SINGLE_LATE_MS, tuning.SINGLE_LOSS, together)
    if what.mode is Mode.SPREAD:
        return Spread()
    return Redundant(what.copies, together)


def _joint_ms(together: float) -> float:
    """Return what it weighs that two connections have a share of their troubles at once."""
    return tuning.TOGETHER_COST_MS * together


def _is_failing(
    connection: SecureConnection, late_ms: float, tolerates_loss: float, now: float
) -> bool:
    """Return whether an answer is late by so much, or more than that share was lost lately."""
    estimate = connection.quality.estimate
    if now >= estimate.late_at(late_ms):
        return True
    if now >= estimate.lost_at + tuning.LOSS_FRESH_S:
        return False
    share = estimate.loss_out.share
    return share is None or share > tolerates_loss


def _is_known(connection: SecureConnection, now: float) -> bool:
    """Return whether times and loss were measured lately, or an answer is still awaited."""
    estimate = connection.quality.estimate
    return estimate.loss_out.share is not None and _is_fresh(connection, now)


def _is_fresh(connection: SecureConnection, now: float) -> bool:
    """Return whether times were measured lately, or an answer is still awaited."""
    estimate = connection.quality.estimate
    if estimate.rtt_ms is None:
        return False
    return now < estimate.echoed_at + tuning.OLD_S or estimate.is_awaited


def _share_an_end(one: SecureConnection, other: SecureConnection) -> bool:
    return one.link == other.link or one.far == other.far
