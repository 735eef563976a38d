"""Redundant delivery against its arithmetic: what two lossy links lose together."""

from __future__ import annotations

from tests.system.stage import Pair
from tests.system.traffic import binomial_interval, ping

LOSS_PERCENT = 20
PINGS = 2500
INTERVAL_S = 0.005


def test_one_packet_in_five_lost_on_each_link_each_way_loses_what_it_must(pair: Pair) -> None:
    a, b = pair.start()
    for port in (*pair.a.ports.values(), *pair.b.ports.values()):
        port.drop(LOSS_PERCENT)
    p = LOSS_PERCENT / 100
    share = 1 - (1 - p * p) ** 2  # both copies lost, there or back: 7.84 %
    low, high = binomial_interval(PINGS, share, 0.99)
    # One fair draw in a hundred lies outside, so that one gets a second draw.
    draws = []
    for _ in range(2):
        verdict = ping(pair.a, b.address, PINGS, INTERVAL_S)
        assert verdict.sent == PINGS
        assert verdict.duplicated == 0
        draws.append(verdict.lost)
        print(f"{verdict}: {verdict.lost / PINGS:.2%}, expected {share:.2%}, {low} to {high}")
        if low <= verdict.lost <= high:
            break
    else:
        raise AssertionError(
            f"lost {draws} of {PINGS}, outside {low} to {high} both times\n"
            f"{a.peer(b.address)}\n{b.peer(a.address)}"
        )
