"""How much of what one end of a connection sends arrives at the other."""

from __future__ import annotations

import math
from array import array
from typing import Optional, Tuple

from ropeway.core.tuning import (
    LOSS_COUNTS_MAX,
    LOSS_EVERY_FRAMES,
    LOSS_EVERY_S,
    LOSS_FRAMES_MIN,
    LOSS_S,
)

#: Quantile of the normal distribution for an interval of 99 %.
_Z_99 = 2.576
#: Numbers of a pair: when it was taken, how many were sent, how many arrived.
_PAIR = 3


class Loss:
    """The share of the frames sent lately in one direction that did not arrive.

    It is fed with pairs of counts: of the first so many frames that were sent, so many have
    arrived.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        # Pairs in a row, which take a sixth of what an object for each would.
        self._counts = array("d")

    @property
    def share(self) -> Optional[float]:
        """From 0, nothing lost, to 1; None while too few frames were sent."""
        lost, frames = self._lately()
        return lost / frames if frames >= LOSS_FRAMES_MIN else None

    @property
    def interval(self) -> Tuple[float, float]:
        """The 99 % interval of the share, were losses independent; see :func:`wilson`."""
        lost, frames = self._lately()
        return wilson(lost, frames) if frames > 0 else (0.0, 1.0)

    def _lately(self) -> Tuple[float, float]:
        """Return how many of how many frames were lost."""
        counts = self._counts
        if not counts:
            return 0.0, 0.0
        frames = counts[-2] - counts[1]
        return min(frames, max(0.0, frames - (counts[-1] - counts[2]))), frames

    def note(self, sent: float, received: int, now: float) -> None:
        """Take that of the first ``sent`` frames ``received`` have arrived."""
        counts = self._counts
        if counts:
            # The other end may have begun to count anew.
            if sent < counts[-2] or received < counts[-1]:
                del counts[:]
            elif len(counts) > _PAIR and (
                now < counts[-6] + LOSS_EVERY_S or sent < counts[-5] + LOSS_EVERY_FRAMES
            ):
                # The newest pair is always in; the ones before it are so far apart.
                del counts[-_PAIR:]
        counts.extend((now, sent, received))
        while len(counts) > _PAIR * LOSS_COUNTS_MAX or self._is_old(now):
            del counts[:_PAIR]

    def _is_old(self, now: float) -> bool:
        """Return whether what came after the first pair says enough without it."""
        counts = self._counts
        if len(counts) < 3 * _PAIR:
            return False
        frames = counts[-2] - counts[_PAIR + 1]
        return now >= counts[_PAIR] + LOSS_S and frames >= LOSS_FRAMES_MIN


def wilson(lost: float, frames: float) -> Tuple[float, float]:
    """Return the 99 % interval of a share if ``lost`` of ``frames``, 1 or more, were."""
    share, square = lost / frames, _Z_99 * _Z_99
    middle = share + square / (2 * frames)
    half = _Z_99 * math.sqrt(share * (1 - share) / frames + square / (4 * frames * frames))
    whole = 1 + square / frames
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)
