"""What is said of calls over a ride: where a link carried, what froze, and the picture of it."""

import xml.etree.ElementTree

import pytest

from tests.emulator import spec
from tests.emulator.calls import carried, plot
from tests.emulator.calls.judge import Course

RATE_KBIT = 2000
GOOD, POOR, NONE = 10000, 1900, 0


@pytest.fixture
def ride(tmp_path, monkeypatch):
    """Two links of one value a second: one fails at 3 s and 8 s, two at 8 s and 12 s."""
    monkeypatch.setenv("ROPEWAY_TRACES", str(tmp_path))
    for name, failing in (("one", (3, 8)), ("two", (8, 12))):
        rows = "".join(
            f"{second * 1000},{NONE if second in failing else GOOD},,\n" for second in range(20)
        )
        (tmp_path / f"{name}.csv").write_text(
            f"# kind=capacity step_ms=1000\nt_ms,rate_kbit,rtt_ms,loss\n{rows}", encoding="ascii"
        )
    return ("one", "two")


def course(**changed):
    """Return 10 s of 10 pictures a second, each played 50 ms after it was captured."""
    captured = {number: number / 10 for number in range(-10, 101)}
    captured = {number + 10: at for number, at in captured.items()}
    played = [(number, at + 0.05) for number, at in captured.items()]
    facts = {
        "way": "adaptive",
        "alone": False,
        "captured": captured,
        "played": played,
        "sent_bytes": 1500,
        "given_bytes": 1000,
        **changed,
    }
    return Course(kind="webrtc", seconds=10.0, **facts)


def without(start_s, end_s):
    """Return what is played of the same pictures except for those captured in between."""
    whole = course()
    return [(n, at) for n, at in whole.played if not start_s <= whole.captured[n] < end_s]


def test_a_link_fails_from_where_a_packet_would_wait_for_the_end_of_the_outage(ride):
    stretch = carried.Stretch("ride", ride, 0.0, 20.0)
    one, two = stretch.failed(RATE_KBIT)
    assert [(round(start), round(end)) for start, end in one] == [(3, 4), (8, 9)]
    assert [(round(start), round(end)) for start, end in two] == [(8, 9), (12, 13)]
    ((start, end),) = stretch.nowhere(RATE_KBIT)
    # A packet sent at 8.9 s would wait for 100 ms, and what is queued since 8.7 s goes first.
    assert (start, end) == (8.0, pytest.approx(8.96, abs=carried.STEP_S))


def test_a_link_that_is_slower_than_the_flow_fails_once_its_queue_is_full(ride, tmp_path):
    rows = "".join(f"{second * 1000},{POOR},,\n" for second in range(20))
    (tmp_path / "one.csv").write_text(
        f"# kind=capacity step_ms=1000\nt_ms,rate_kbit,rtt_ms,loss\n{rows}", encoding="ascii"
    )
    one, _ = carried.Stretch("ride", ride, 0.0, 20.0).failed(RATE_KBIT)
    ((start, end),) = one
    # 100 kbit/s too much are 79 ms of queue by then, and a step's packets take 21 ms themselves.
    assert start == pytest.approx(1.5, abs=0.04)
    assert end == 20


def test_the_worst_stretch_has_most_failures_of_both_links(ride):
    assert carried.worst("ride", ride, 10.0, RATE_KBIT).from_s in (3, 3.0)
    with pytest.raises(spec.SpecWrong, match="has 20 s, which is less than 30"):
        carried.worst("ride", ride, 30.0, RATE_KBIT)


def test_a_course_without_gaps_has_no_freeze_and_nothing_late():
    whole = course()
    assert whole.freezes == []
    assert whole.longest_s == pytest.approx(0.1)
    assert whole.late_share == 0
    assert whole.cost == 1.5
    assert max(whole.ages_ms(0.1)) == pytest.approx(150)


def test_a_freeze_lasts_from_the_last_picture_to_the_next_newer_one():
    frozen = course(played=without(4, 4.5))
    ((start, end),) = frozen.freezes
    assert (start, end) == (pytest.approx(3.95), pytest.approx(4.55))
    assert frozen.longest_s == pytest.approx(0.6)
    assert frozen.late_share == pytest.approx(5 / 90)
    assert max(frozen.ages_ms(0.1)) == pytest.approx(650)
    # An older one that comes meanwhile is nothing new.
    again = sorted([*frozen.played, (3, 4.2)], key=lambda one: one[1])
    assert course(played=again).freezes == frozen.freezes


def test_a_broken_picture_with_a_number_of_the_future_is_none():
    played = sorted([*course().played, (90, 4.0), (500, 4.1)], key=lambda one: one[1])
    broken = course(played=played)
    assert broken.new() == course().new()
    assert max(broken.ages_ms(0.1)) == pytest.approx(150)


def test_a_freeze_is_avoidable_unless_no_link_carried_in_it_or_just_before():
    frozen = course(played=without(4, 4.5))
    assert frozen.avoidable([]) == frozen.freezes
    assert frozen.avoidable([(1.0, 3.0), (4.6, 5.0)]) == frozen.freezes
    assert frozen.avoidable([(4.0, 4.1)]) == []
    assert frozen.avoidable([(3.5, 3.8)]) == []


def test_a_freeze_is_the_machines_if_it_is_none_without_what_programs_waited():
    played = without(4, 4.2)
    ((start, end),) = course(played=played).freezes
    assert end - start == pytest.approx(0.3)
    for stalls, avoidable in (
        ([(4.1, 0.06), (4.2, 0.06)], 0),
        ([(4.1, 0.06)], 1),
        ([(4.35, 0.3)], 0),
        ([(3.0, 0.5), (5.0, 0.5)], 1),
    ):
        assert len(course(played=played, stalls=stalls).avoidable([])) == avoidable


def test_what_is_never_played_is_one_freeze_to_the_end():
    for played in ([], [(0, -0.95)]):
        silent = course(played=played)
        ((_, end),) = silent.freezes
        assert end == 10.0
        assert silent.longest_s == 10.0
        assert silent.late_share == 1


def test_a_course_is_the_same_after_it_was_saved(tmp_path):
    whole = course(used=[[0.0, [0]], [4.0, [0, 1]]])
    whole.save(tmp_path / "course.json")
    loaded = course(used=[[0.0, [0]], [4.0, [0, 1]]]).load(tmp_path / "course.json")
    assert loaded.captured == whole.captured
    assert [tuple(one) for one in loaded.played] == whole.played


def test_the_picture_is_one_file_of_svg_that_names_what_it_shows(ride):
    stretch = carried.Stretch("ride", ride, 0.0, 10.0)
    courses = [
        course(used=[[0.0, [0]], [4.0, [0, 1]]]),
        course(way="single", played=without(4, 4.5)),
    ]
    drawn = plot.draw(stretch, courses, stretch.nowhere(RATE_KBIT))
    root = xml.etree.ElementTree.fromstring(drawn)
    told = " ".join(root.itertext())
    for word in ("webrtc over ride", "one", "two", "adaptive", "single", "1 freeze"):
        assert word in told
    assert "href" not in drawn
    assert "url(" not in drawn
