"""What the way to a neighbour costs."""

import pytest

from ropeway.core.network.link_cost import COST_MIN, LinkCost


@pytest.mark.parametrize(
    ("rtt_ms", "lost", "cost"),
    [
        (None, 0.0, 96),
        (0.0, 0.0, 96),
        (10.0, 0.0, 96),
        (60.0, 0.0, 146),
        (5000.0, 0.0, 696),
        (10.0, 0.5, 192),
        (10.0, 1.0, 384),
    ],
)
def test_the_cost_grows_with_round_trips_and_loss_within_bounds(rtt_ms, lost, cost):
    assert LinkCost().note(rtt_ms, lost) == cost


def test_the_cost_follows_slowly_and_not_each_sway():
    cost = LinkCost()
    assert cost.note(50.0, 0.0) == 136
    assert {cost.note(50.0 + sway, 0.0) for sway in (5, -5, 8, -8) * 10} == {136}
    after = [cost.note(300.0, 0.0) for _ in range(60)]
    assert after[0] < 300 - 10 + COST_MIN
    assert after == sorted(after)
    assert after[-1] > 340
