"""Redundant delivery against its arithmetic: what two lossy links lose together."""

from __future__ import annotations

import pytest

from tests.system.bed.stage import Pair
from tests.system.bed.traffic import binomial_interval, ping

pytestmark = [pytest.mark.alone, pytest.mark.rotates]

LOSS_PERCENT = 20
PINGS = 2500
DRAWS = 2
INTERVAL_S = 0.005


def test_one_packet_in_five_lost_on_each_link_each_way_loses_what_it_must(pair: Pair) -> None:
    """What 2500 pings lose lies in the 99 % interval, in the first draw or else in the second.

    One fair draw in a hundred lies outside, so that one gets a second draw and no more: a whole
    agent fails once in 10,000 runs. The kernel draws the losses, so there is no seed to repeat.
    """
    a, b = pair.start()
    for port in (*pair.a.ports.values(), *pair.b.ports.values()):
        port.drop(LOSS_PERCENT)
    p = LOSS_PERCENT / 100
    share = 1 - (1 - p * p) ** 2  # both copies lost, there or back: 7.84 %
    low, high = binomial_interval(PINGS, share, 0.99)
    draws = []
    for _ in range(DRAWS):
        verdict = ping(pair.a, b.address, PINGS, INTERVAL_S)
        assert verdict.sent == PINGS
        assert verdict.duplicated == 0
        draws.append(verdict.lost)
        print(f"{verdict}: {verdict.lost / PINGS:.2%}, expected {share:.2%}, {low} to {high}")
        if low <= verdict.lost <= high:
            break
    else:
        raise AssertionError(
            f"lost {draws} of {PINGS}, outside {low} to {high} every time\n"
            f"{a.peer_status(b.address)}\n{b.peer_status(a.address)}"
        )
