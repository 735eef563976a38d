"""The clock that goes on in suspend."""

from __future__ import annotations

import time

from ropeway.kernel.clock import boot_clock


def test_it_is_ahead_of_the_clock_that_stops_in_suspend_and_never_goes_back():
    before = time.monotonic()
    first, second = boot_clock(), boot_clock()
    assert before - 0.001 <= first <= second
