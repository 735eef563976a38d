"""Sessions that are replaced while packets flow."""

from __future__ import annotations

import time

import pytest

from tests.system.bed.stage import Pair
from tests.system.bed.topology import until
from tests.system.bed.traffic import assert_whole, both_ways

pytestmark = [pytest.mark.alone, pytest.mark.rotates]

ROLLOVER_S = 2
DURATION_S = 60
RATE_EACH_WAY = 2500


def test_rollover_every_two_seconds_for_a_minute_loses_and_duplicates_nothing(pair: Pair) -> None:
    a, b = pair.start(rollover_s=ROLLOVER_S)
    before = a.rollovers(pair.b_address), b.rollovers(pair.a_address)
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, RATE_EACH_WAY) as verdicts:
        end = time.monotonic() + DURATION_S
        until(lambda: time.monotonic() >= end, DURATION_S + 5, "a minute", every_s=0.5)
    rolled = (
        a.rollovers(pair.b_address) - before[0],
        b.rollovers(pair.a_address) - before[1],
    )
    print(f"{rolled} rollovers in {DURATION_S} s")
    assert_whole(verdicts)
    # The next one begins when the last one is done, which takes a moment.
    assert min(rolled) >= DURATION_S / ROLLOVER_S * 0.8
    pair.wait_whole(a, b)
