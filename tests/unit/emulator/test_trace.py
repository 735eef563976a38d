"""What a trace says at each moment, and what is said of files that are none."""

import pytest

from tests.emulator import trace
from tests.unit.emulator import traces

CAPACITY = """\
# ropeway trace, format 1
# kind=capacity step_ms=1000
# a link; source: nowhere
t_ms,rate_kbit,rtt_ms,loss
5000,8,,
6000,0,,
7000,16,,
"""
RTT = """\
# kind=rtt step_ms=100
t_ms,rate_kbit,rtt_ms,loss
0,,40,0
100,,,1
200,,30,0.5
"""


def test_times_of_a_file_are_counted_from_its_first_row():
    read = trace.parse("t", CAPACITY)
    assert (read.times, read.length_s) == ([0, 1, 2], 3)
    assert read.rate_kbit == [8, 0, 16]
    assert read.mean_kbit == 8
    assert (read.kind, read.base_rtt_ms) == ("capacity", trace.CELLULAR_RTT_MS)


def test_what_was_carried_is_the_rate_added_up_and_goes_on_after_the_end():
    read = trace.parse("t", CAPACITY)
    assert [read.carried(at) for at in (0, 0.5, 1, 1.9, 2.5, 3, 3.5)] == [
        0, 4000, 8000, 8000, 16000, 24000, 28000,
    ]  # fmt: skip


def test_an_outage_parts_the_end_of_a_bit_from_the_beginning_of_the_next():
    read = trace.parse("t", CAPACITY)
    assert (read.ends(8000), read.begins(8000)) == (1, 2)
    assert (read.ends(4000), read.begins(4000)) == (0.5, 0.5)
    assert (read.ends(24000), read.begins(24000)) == (3, 3)
    assert (read.ends(32000), read.begins(32000)) == (4, 5)
    assert read.begins(0) == read.ends(0) == 0


def test_a_probe_that_was_lost_has_the_delay_of_the_one_before():
    read = trace.parse("t", RTT)
    assert (read.kind, read.rtt_ms, read.loss) == ("rtt", [40, 40, 30], [0, 1, 0.5])
    assert [read.row(at) for at in (0, 0.05, 0.1, 0.25, 0.31)] == [0, 0, 1, 2, 0]


def test_a_part_is_counted_from_its_own_beginning():
    part = trace.parse("t", CAPACITY).cut(0.5, 2)
    assert (part.times, part.rate_kbit, part.length_s) == ([0, 0.5, 1.5], [8, 0, 16], 2)
    assert part.carried(2) == 12000
    with pytest.raises(ValueError, match=r"3\.0 s long and has no part from 2 to 4 s"):
        trace.parse("t", CAPACITY).cut(2, 2)


def test_steps_are_a_trace_too():
    assert trace.steps([(0, 1000), (2, 500)], 4).mean_kbit == 750


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a kind, step_ms"),
        (CAPACITY.replace("kind=capacity", "kind=beauty"), "a kind, step_ms"),
        (CAPACITY.replace("t_ms,rate", "time,rate"), "line 4: the header"),
        (CAPACITY.replace("7000,16", "6000,16"), "line 7: t_ms has to rise"),
        (CAPACITY.replace("7000,16,,", "7000,16"), "line 7: not four numbers"),
        (CAPACITY.replace("7000,16", "7000,much"), "line 7: not four numbers"),
        (CAPACITY.replace("7000,16", "7000,"), "has no rate_kbit"),
        (RTT.replace("100,,,1", "100,,,0"), "neither rtt_ms nor loss 1"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_a_sentence(text, complaint):
    with pytest.raises(trace.TraceBroken, match=complaint):
        trace.parse("t", text)


def test_a_trace_that_carries_nothing_is_refused():
    with pytest.raises(ValueError, match="carries nothing"):
        trace.steps([(0, 0)], 1)


def test_an_absent_folder_or_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(trace.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(trace.TraceAbsent, match="none: set ROPEWAY_TRACES"):
        trace.folder()
    (tmp_path / "one.csv").write_text(CAPACITY)
    monkeypatch.setenv(trace.VARIABLE, str(tmp_path))
    assert trace.load("one").rate_kbit == [8, 0, 16]
    with pytest.raises(trace.TraceAbsent, match="no trace two; there are one"):
        trace.load("two")


@pytest.mark.parametrize(
    ("name", "length_s", "mean_kbit"),
    [
        ("drive-a-starlink", 1589, 119000),
        ("drive-a-verizon", 1589, 125000),
        ("lte-verizon", 140, 5000),
        ("lte-tmobile", 140, 16700),
    ],
)
def test_real_capacities_have_the_length_and_mean_that_their_folder_states(
    name, length_s, mean_kbit
):
    read = traces.load(name)
    assert read.length_s == pytest.approx(length_s, abs=1)
    assert read.mean_kbit == pytest.approx(mean_kbit, rel=0.01)


def test_real_round_trips_have_the_median_and_loss_that_their_folder_states():
    starlink, edge = traces.load("rtt-starlink"), traces.load("rtt-5g-edge")
    came = sorted(rtt for rtt, loss in zip(starlink.rtt_ms, starlink.loss) if not loss)
    assert came[len(came) // 2] == pytest.approx(34, abs=0.5)
    assert sum(starlink.loss) / len(starlink.loss) == pytest.approx(0.152, abs=0.001)
    assert sorted(edge.rtt_ms)[len(edge.rtt_ms) // 2] == pytest.approx(19, abs=0.5)
    assert (max(edge.rtt_ms), sum(edge.loss)) == (2480, 0)
