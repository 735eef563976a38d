"""How fast the streams of the tests are on this machine.

Rates are written for a fast machine. A slower one gets its share of each, as
:mod:`tests.system.bed.capacity` has measured it, so that the tests load it no more than the fast
one.
"""

from __future__ import annotations

import os

#: Handed down to the workers of a run by the environment; whoever sets it has nothing measured.
SHARE = "ROPEWAY_TEST_SHARE"


def share() -> float:
    """Return this machine's share of every rate, above 0 and at most 1."""
    return float(os.environ.get(SHARE, "1"))


def rate(full: int) -> int:
    """Return the packets a second of a stream that has ``full`` of them on a fast machine."""
    return max(1, round(full * share()))
