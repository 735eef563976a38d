"""Links described by text."""

import pytest

from tests.emulator import spec
from tests.emulator.link import GilbertElliott


def test_every_key_becomes_an_argument_of_the_model():
    out, back = spec.parse(
        "rtt_ms=40,jitter_ms=3,loss=0.1,burst=5,burst_ms=100,reorder=0.2,reorder_ms=7,"
        "rate_kbit=8000,queue_bytes=64000,black_hole=5-7+20-21.5"
    )
    assert out == back
    assert out.options == {
        "delay_ms": 20,
        "jitter_ms": 3,
        "loss": GilbertElliott.of(0.1, 5, 100),
        "reorder": 0.2,
        "reorder_ms": 7,
        "rate_kbit": 8000,
        "queue_bytes": 64000,
        "black_holes": [(5, 7), (20, 21.5)],
    }


def test_each_direction_may_have_its_own():
    out, back = spec.parse("delay_ms=5,loss=1 | delay_ms=6")
    assert (out.options, back.options) == ({"delay_ms": 5, "loss": 1}, {"delay_ms": 6})


def test_a_trace_is_named_and_begins_where_it_is_told(monkeypatch, tmp_path):
    text = "# kind=capacity step_ms=1000\nt_ms,rate_kbit,rtt_ms,loss\n0,1,,\n1000,2,,\n"
    (tmp_path / "slow.csv").write_text(text)
    monkeypatch.setenv("ROPEWAY_TRACES", str(tmp_path))
    (out, _) = spec.parse("trace=slow,from_s=1")
    assert (out.name, out.options["trace"].rate_kbit) == ("slow", [2])


def test_rates_follow_each_other_and_the_last_one_stays():
    (out, _) = spec.parse("rtt_ms=30,rates=0:8000+10:500+15:9000,queue_ms=9000")
    steps = out.options["trace"]
    assert [steps.rate_kbit[steps.row(at)] for at in (9, 10, 14, 15, 9000)] == [
        8000, 500, 500, 9000, 9000,
    ]  # fmt: skip
    assert out.options["delay_ms"] == 15


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("loss", "no KEY=VALUE"),
        ("loss=0.1,loss=0.2", "came before"),
        ("beauty=1", "no key beauty"),
        ("loss=much", "much"),
        ("rtt_ms=4,delay_ms=2", "say the same"),
        ("from_s=3", "needs a trace"),
        ("burst=3", "loss has to be"),
        ("rate_kbit=0", "more than 0"),
        ("queue_ms=1,queue_bytes=1", "not both"),
        ("rates=5:100", "from 0 s"),
        ("rates=fast", "could not convert"),
        ("black_hole=5", "could not convert"),
    ],
)
def test_what_describes_no_link_is_refused_with_a_sentence(text, complaint):
    with pytest.raises(spec.SpecWrong, match=complaint):
        spec.parse(text)
