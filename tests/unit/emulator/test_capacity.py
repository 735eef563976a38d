"""What a connection finds out of how much its path carries, over links whose answer is known.

A link's rate counts IP packets; a connection's counts frames, which have 28 bytes less each.
"""

import itertools

import pytest

from ropeway.core.tuning import SPREAD_PROBE_S
from tests.emulator.pair import EmulatedPair

SIZE = 1000
RTTS_MS = (4, 40, 160)
RATES_KBIT = (1000, 3000, 10_000)
PROBES_S = (None, SPREAD_PROBE_S)


def carried(link, phases, probe_s=None, seed=1):
    """Send (kbit/s, seconds) after one another from a to b; give a's capacity after each."""
    pair = EmulatedPair([link], seed)
    pair.start(16, 100, sum(seconds for _, seconds in phases), back=True)
    for node in (0, 1):
        if probe_s is not None:
            pair.connections(node)[0].probe_s = probe_s
    for rate_kbit, seconds in phases:
        pair.start(rate_kbit, SIZE, seconds)
        pair.run(seconds)
        found = pair.connections()[0].quality.estimate.capacity_out
        yield found.kbit, found.sureness


@pytest.mark.parametrize("probe_s", PROBES_S)
@pytest.mark.parametrize(("jitter_ms", "loss"), [(0, 0), (20, 0), (0, 0.02), (20, 0.02)])
def test_capacity_of_a_link_that_a_flow_fills_is_within_a_fifth(probe_s, jitter_ms, loss):
    for seed, (rtt_ms, rate_kbit) in enumerate(itertools.product(RTTS_MS, RATES_KBIT)):
        link = f"rtt_ms={rtt_ms},rate_kbit={rate_kbit},jitter_ms={jitter_ms},loss={loss}"
        phases = [(0.4 * rate_kbit, 4), (1.2 * rate_kbit, 4)]
        (early, how), (kbit, _) = carried(link, phases, probe_s, seed)
        assert how == "at least", link
        assert early <= 0.5 * rate_kbit, link
        assert abs(kbit - rate_kbit) <= 0.2 * rate_kbit, (link, kbit)


@pytest.mark.parametrize("probe_s", PROBES_S)
@pytest.mark.parametrize("more", ["", ",jitter_ms=20", ",jitter_ms=60,loss=0.02"])
def test_link_that_has_carried_much_and_carries_little_is_not_taken_for_a_slow_one(probe_s, more):
    phases = [(2000, 5), (133_000, 1), (2000, 15), (500, 5)]
    found = carried(f"rtt_ms=40,rate_kbit=150000{more}", phases, probe_s)
    before, *after = (kbit for kbit, _ in found)
    assert before == pytest.approx(2000, rel=0.1)
    assert after == pytest.approx([133_000] * 3, rel=0.15)


@pytest.mark.parametrize(("probe_s", "seconds"), [(None, 5), (SPREAD_PROBE_S, 2)])
def test_full_link_that_gets_slower_is_measured_anew(probe_s, seconds):
    link = "rtt_ms=40,rates=0:20000+10:4000"
    phases = [(2000, 4), (22_000, 6), (8000, seconds)]
    _, before, after = carried(link, phases, probe_s)
    assert before == (pytest.approx(20_000, rel=0.1), "measured")
    assert after == (pytest.approx(4000, rel=0.2), "measured")


@pytest.mark.parametrize("probe_s", PROBES_S)
def test_no_link_is_thought_to_carry_half_as_much_again_as_it_does(probe_s):
    links = ("jitter_ms=60", "loss=0.2,burst=10", "reorder=0.05", "black_hole=2-3+7-7.4", "")
    for seed, more in enumerate(links):
        link = f"rtt_ms=40,rate_kbit=4000,{more}".rstrip(",")
        for kbit, _ in carried(link, [(400, 5), (40, 5), (8000, 5), (3000, 5)], probe_s, seed):
            assert kbit <= 1.5 * 4000, (link, kbit)
