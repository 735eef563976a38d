"""Copies over links that fail at different times, where two of three links share a mast."""

import pytest

from ropeway.core.explain import Question
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from ropeway.core.strand import policy
from tests.emulator.pair import B, EmulatedPair
from tests.unit.emulator import traces


def holes(first, every, length_s, until=400):
    """Outages, as the emulator's links take them."""
    return "+".join(f"{at}-{at + length_s}" for at in range(first, until, every))


def three_links(length_s, mode=Mode.REDUNDANT, **fields):
    """lte0 and lte1 fail together, and a slower link at other times."""
    mast, other = holes(10, 17, length_s), holes(3, 29, length_s)
    return EmulatedPair(
        [
            f"delay_ms=20,jitter_ms=2,black_hole={mast}",
            f"delay_ms=24,jitter_ms=2,black_hole={mast}",
            f"delay_ms=45,jitter_ms=2,black_hole={other}",
        ],
        classes=(TrafficClass("all", Match(), mode, **fields),),
    )


def chosen(pair):
    return {c.link for c in pair.nodes[0].tables.strands[B].classes[0].carrying}


def shares(pair, node=0):
    return {tuple(one["links"]): one["together"] for one in pair.status(node)["joint"]}


def test_two_copies_go_over_links_that_fail_at_different_times(monkeypatch):
    pair = three_links(0.5, copies=2)
    first = pair.stream(100, 250, 90)
    lost, changes, before = 0, 0, chosen(pair)
    for _ in range(12):
        lost += pair.stream(100, 250, 10).lost
        changes += chosen(pair) != before
        before = chosen(pair)
        assert before != {2, 3}, "both on one mast"
    print(shares(pair))
    assert first.lost > 0 == lost
    assert changes <= len(range(10, 120, 17)) + len(range(3, 120, 29)), "at most once an outage"
    assert shares(pair)[2, 3] > 0.7
    assert max(shares(pair)[2, 4], shares(pair)[3, 4]) < 0.3

    monkeypatch.setattr(policy, "_joint_ms", lambda together: 0.0)
    by_cost = three_links(0.5, copies=2)
    by_cost.stream(100, 250, 90)
    assert by_cost.stream(100, 250, 60).lost > 0


@pytest.fixture(scope="module")
def learnt():
    """A pair that has been through several outages."""
    pair = three_links(0.5, copies=2)
    pair.stream(100, 250, 120)
    return pair


def test_other_end_learns_it_of_the_same_links(learnt):
    (one,) = learnt.status(1)["peers"]
    remotes = {tuple(one["remotes"]): one["together"] for one in one["joint"]}
    assert remotes[2, 3] > 0.7
    assert remotes[2, 4] < 0.3


def test_explain_says_with_which_link_one_fails(learnt):
    answer = learnt.nodes[0].explain(Question(B), learnt._clock)
    (spare,) = (one for one in answer["links"] if not one["carries"])
    assert spare["index"] in (2, 3)
    assert "% of its troubles with eth" in spare["why"]


def test_adaptive_class_goes_to_a_link_that_fails_at_other_times():
    pair = three_links(0.5, Mode.ADAPTIVE)
    pair.stream(100, 250, 60)
    assert shares(pair)[2, 3] > 0.9
    # By cost alone it would be the other one on the mast, which is quicker.
    for outage_s in (112, 129, 163):
        pair.stream(100, 250, outage_s + 1.5 - pair.now)
        print(outage_s, chosen(pair))
        assert chosen(pair) == {4}


def test_idle_links_teach_nothing():
    pair = three_links(3.0, copies=2)
    pair.run(380)
    assert pair.status()["joint"] == []


def test_recorded_links_of_two_operators_are_told_from_two_of_one():
    traces.load("lte-verizon"), traces.load("lte-tmobile")
    found = {}
    for other in ("lte-tmobile", "lte-verizon"):
        pair = EmulatedPair(
            ["trace=lte-verizon", f"trace={other}"],
            classes=(TrafficClass("all", Match(), Mode.REDUNDANT),),
        )
        pair.stream(2000, 1250, 150)
        found[other] = pair.status()["joint"][0]["together"]
    print(found)
    assert found["lte-tmobile"] < 0.3
    assert found["lte-verizon"] > 0.7
