"""Rate limits: how often things that strangers cause may happen."""

from __future__ import annotations

from typing import Dict, Hashable


class TokenBucket:
    """A rate limit: ``rate`` tokens come a second, at most ``burst`` are kept."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def left(self, now: float) -> float:
        """Give the tokens there are at ``now`` (monotonic seconds)."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return self._tokens

    def take(self, now: float) -> bool:
        """Take one token; False if there is none at ``now`` (monotonic seconds)."""
        if self.left(now) < 1.0:
            return False
        self._tokens -= 1.0
        return True


#: Whose shares of a budget are remembered.
MAX_SHARES = 1024


class SharedBudget:
    """A rate limit for all together, of which nobody uses up what another needs.

    ``rate`` and ``burst`` are everybody's; ``share_rate`` and ``share_burst``, smaller ones, are
    the most that one gets.
    """

    __slots__ = ("_share_burst", "_share_rate", "_shares", "_whole")

    def __init__(
        self, rate: float, burst: float, share_rate: float, share_burst: float, now: float
    ) -> None:
        self._whole = TokenBucket(rate, burst, now)
        self._share_rate = share_rate
        self._share_burst = share_burst
        #: By whose they are, the one that was used last at the end.
        self._shares: Dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        """Shares that are remembered."""
        return len(self._shares)

    def take(self, who: Hashable, now: float) -> bool:
        """Take one token for ``who``; False if there is none at ``now`` (monotonic seconds)."""
        shares = self._shares
        share = shares.pop(who, None)
        if share is None:
            share = TokenBucket(self._share_rate, self._share_burst, now)
            if len(shares) >= MAX_SHARES:
                del shares[next(iter(shares))]
        shares[who] = share
        return share.left(now) >= 1.0 and self._whole.take(now) and share.take(now)
