"""The recommended classes over emulated links, beside every packet over every link."""

import pytest

from ropeway.app.config.classes import RECOMMENDED, classes_of
from tests.emulator.pair import EmulatedPair

#: Sent over all links: at what rate in kbit/s, in bytes, with which DSCP.
URGENT = {"a ping": (0.672, 84, 0), "speech": (80, 200, 0), "marked video": (2000, 1000, 34)}
LARGE = (2000, 1000, 0)


def stream(links, flow):
    rate_kbit, size, dscp = flow
    pair = EmulatedPair(links, classes=classes_of(RECOMMENDED))
    return pair.stream(rate_kbit, size, 12, dscp)


@pytest.mark.parametrize("flow", URGENT.values(), ids=URGENT)
def test_urgent_and_small_packets_do_not_wait_until_a_silent_link_is_known(flow):
    found = stream(["rtt_ms=40", "rtt_ms=30,black_hole=4-8"], flow)
    assert found.lost == 0
    assert max(found.latencies_ms) < 21


@pytest.mark.parametrize("flow", URGENT.values(), ids=URGENT)
def test_urgent_and_small_packets_outlive_losses_of_one_link(flow):
    found = stream(["rtt_ms=40", "rtt_ms=30,loss=0.5"], flow)
    assert found.lost == 0
    assert max(found.latencies_ms) < 21


def test_large_packets_are_sent_once_and_again_where_a_link_fell_silent():
    found = stream(["rtt_ms=40", "rtt_ms=30,black_hole=4-8"], LARGE)
    assert found.lost == 0
    assert found.cost < 1.15
