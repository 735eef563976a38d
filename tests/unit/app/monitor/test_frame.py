"""What `ropeway top` shows, as text."""

from __future__ import annotations

import pytest

from ropeway.app.monitor import frame
from ropeway.app.monitor.history import History
from ropeway.app.monitor.lines import Look, text_of
from tests.unit.app.monitor import recorded

WIDE = """\
ropeway 10.0.0.1   2/3 links   1/1 hosts   up 10 s   version 0.8.0

LINK          STATE    RTT ms  RTT                       LOSS %  QUEUE ms  OUT bit/s  OUT                       IN bit/s
eth0          carries     0.9                        ▇▇     0.0       0.1       152k                        ▇▇      152k
eth1          carries     1.2                        ▇▇    19.0       0.4       153k                        ▇▇      153k
eth2          carries nothing: it is down

BUDGET    USED       OF   %                PER    UNTIL
eth1    4.0 GB  10.0 GB  40  [####......]  month  -

CLASS     MODE       PACKETS/s  LINKS
voice     redundant        200  eth0, eth1
bulk      single           200  eth0
the rest  redundant        200  eth0, eth1

CONNECTION    STATE    RTT ms  RTT                       LOSS %  QUEUE ms  OUT bit/s  OUT                       IN bit/s
10.0.0.2  reached over 2 of 3 links, session 8 s, 20 rescued (3/s)
  eth0 -> 12  carries     0.9                        ▇▇     0.0       0.1       152k                        ▇▇      152k
  eth1 -> 13  carries     1.2                        ▇▇    19.0       0.4       153k                        ▇▇      153k
  1 more without a route"""  # noqa: E501 - a terminal of 120 columns
NARROW = """\
ropeway 10.0.0.1   2/3 links   1/1 hosts

LINK          RTT ms  LOSS %  OUT bit/s
eth0             0.9     0.0       152k
eth1             1.2    19.0       153k
eth2          carries nothing: it is do~

BUDGET    USED       OF   %  UNTIL
eth1    4.0 GB  10.0 GB  40  -

CLASS     MODE       PACKETS/s
voice     redundant        200
bulk      single           200
the rest  redundant        200

CONNECTION    RTT ms  LOSS %  OUT bit/s
10.0.0.2  reached over 2 of 3 links, se~
  eth0 -> 12     0.9     0.0       152k
  eth1 -> 13     1.2    19.0       153k
  1 more without a route"""


def seen(status, width):
    """Return the frame for `status` and one a second before it."""
    history = History()
    history.take(status)
    later = recorded.a_second_later(status)
    history.take(later)
    return frame.of(later, history, width)


def texts(shown):
    return [text_of(line) for line in shown.whole()]


@pytest.mark.parametrize(("width", "expected"), [(120, WIDE), (40, NARROW)])
def test_one_host(width, expected):
    assert "\n".join(texts(seen(recorded.with_classes(), width))) == expected


@pytest.mark.parametrize("width", [1, 5, 40, 80, 120, 300])
@pytest.mark.parametrize("count", [0, 1, 12, 40])
def test_every_line_fits_and_every_host_is_there(count, width):
    lines = texts(seen(recorded.with_peers(count), width))
    assert max(map(len, lines)) <= width
    if width >= 40:
        hosts = [line.split()[0] for line in lines if line.startswith("10.0.0.")]
        assert hosts == [f"10.0.0.{2 + at}" for at in range(count)]
        # The titles of connections are there once.
        assert sum(line.startswith("CONNECTION") for line in lines) == min(count, 1)
        classes = [line for line in lines if line.startswith("voice")]
        assert [line.split()[2] for line in classes][:count] == [str(200 * count)][:count]


@pytest.mark.parametrize("width", [40, 120])
@pytest.mark.parametrize(
    "status",
    [recorded.hostile(), recorded.older(), recorded.classic(), {}],
    ids=["hostile", "older", "classic", "empty"],
)
def test_whatever_the_status_says_is_text_that_fits(status, width):
    history = History()
    history.take(status)
    for shown in (frame.of(status, history, width), frame.waiting(recorded.HOSTILE, width)):
        for line in texts(shown):
            assert len(line) <= width
            assert line.isprintable()


def test_rates_of_a_classic_network_are_counted():
    lines = texts(seen(recorded.classic(), 120))
    assert [line.split()[-1] for line in lines if line.startswith("eth0")] == ["122k"]
    assert [line.split()[-1] for line in lines if line.startswith("  eth0")] == ["122k"]


def test_capacity_is_shown_where_the_agent_measures_it():
    status = recorded.status()
    connections = status["peers"][0]["connections"]
    for connection, capacity_kbit in zip(connections, (20_400.0, None, None)):
        connection["estimate"]["capacity_kbit"] = capacity_kbit
    lines = texts(seen(status, 140))
    assert lines[2].endswith("CAPACITY")
    assert [line.split()[-1] for line in lines if "eth0" in line] == ["20.4M", "20.4M"]
    assert [line.split()[-1] for line in lines if "eth1" in line] == ["-", "-"]


def looks(shown, text):
    """Return the looks of the pieces that have this text."""
    return {piece.look for line in shown.whole() for piece in line if text in piece.text}


def test_what_is_amiss_stands_out():
    shown = seen(recorded.with_classes(), 120)
    assert looks(shown, "carries nothing") == {Look.BAD}
    assert looks(shown, "19.0") == {Look.BAD}
    assert looks(shown, "2/3 links") == {Look.WARNING}
    assert looks(shown, "1/1 hosts") == {Look.GOOD}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"state": 1}, "one way: heard, but not known to be heard there"),
        ({"state": 0, "heard_s": None}, "never heard"),
        ({"state": 0, "heard_s": 300.0}, "silent for 5 min"),
        ({"carries": False}, "spare"),
    ],
)
def test_state_of_a_connection(change, text):
    status = recorded.status()
    status["peers"][0]["connections"][0].update(change)
    (line,) = (line for line in texts(seen(status, 120)) if line.startswith("  eth0"))
    assert text in line


def test_host_that_is_not_reached():
    status = recorded.status()
    (peer,) = status["peers"]
    peer.update(best_state=0, session=None, handshake="no answer yet", connections=[])
    lines = texts(seen(status, 120))
    assert lines[-2:] == [
        "10.0.0.2  not reached, 3 rescued (3/s), no answer yet",
        "  no address of it is known",
    ]
    status["router"] = "10.0.0.9"
    assert "not reached directly, by the router 10.0.0.9" in texts(seen(status, 120))[-2]
    status["router"] = "10.0.0.2"
    assert "not reached," in texts(seen(status, 120))[-2]


def test_link_that_cannot_be_used_and_one_that_is_missing():
    status = recorded.status()
    status["links"][0]["unusable"] = "another program has the port"
    status["missing_links"] = [{"index": 0, "name": "wwan0", "fault": "it is not there"}]
    lines = texts(seen(status, 120))
    assert "eth0          cannot be used: another program has the port" in lines
    assert "wwan0         carries nothing: it is not there" in lines
    assert "2/4 links" in lines[0]


def test_warnings_are_at_the_top_some_of_them():
    status = recorded.status()
    status["warnings"] = [f"warning {number}" for number in range(5)]
    assert texts(seen(status, 60))[1:5] == [
        *(f"! warning {number}" for number in range(3)),
        "! and 2 more, which ropeway status shows",
    ]


def test_class_that_some_hosts_get_over_fewer_links():
    status = recorded.with_peers(2)
    status["peers"][1]["classes"][0]["links"] = [2]
    status["peers"][0]["classes"][1]["links"] = status["peers"][1]["classes"][1]["links"] = []
    lines = texts(seen(status, 120))
    assert "voice     redundant        400  eth0, eth1 to 1 of 2 hosts" in lines
    assert "bulk      single           400  none" in lines


def test_budget_that_is_used_up():
    status = recorded.with_classes()
    budget = status["links"][1]["budget"]
    budget.update(used_bytes=11 * 10**9, used_up=True, resets_at="2026-12-01T00:00:00+00:00")
    shown = seen(status, 120)
    assert "eth1    11.0 GB  10.0 GB  110  [##########]  month  2026-12-01" in texts(shown)
    assert looks(shown, "11.0 GB") == {Look.BAD}


HEIGHT = 24


def pages(shown, offset, height=HEIGHT):
    lines, offset = frame.page(shown, offset, height, 120)
    return [text_of(line) for line in lines], offset


@pytest.mark.parametrize("height", [1, 2, 5, 24, 500])
@pytest.mark.parametrize("count", [1, 40])
def test_a_page_fills_the_terminal(count, height):
    shown = seen(recorded.with_peers(count), 120)
    for offset in (-3, 0, 7, 10**6):
        lines, at = pages(shown, offset, height)
        assert len(lines) == height
        assert 0 <= at <= len(shown.body)


def test_scrolling_shows_every_line_and_stops_at_the_end():
    shown = seen(recorded.with_peers(40), 120)
    everything = texts(shown)
    found, offset = set(), 0
    while True:
        lines, at = pages(shown, offset)
        if at < offset:
            break
        assert lines[0] == everything[0], "the head stays"
        found.update(lines)
        offset = at + 1
    assert not set(everything) - found
    assert (
        lines[-1]
        == f"q quit   j k or arrows scroll   {at + 1} to {len(shown.body)} of {len(shown.body)}"
    )
    assert lines[-2] == everything[-1]


def test_titles_stay_above_what_has_scrolled():
    shown = seen(recorded.with_peers(40), 120)
    lines, _ = pages(shown, 60)
    assert lines[1].startswith("CONNECTION")
    lines, _ = pages(shown, 3)
    assert lines[1].startswith("LINK")


def test_no_scrolling_where_everything_fits():
    lines, at = pages(seen(recorded.status(), 120), 5)
    assert (lines[-1], at) == ("q quit", 0)


def test_waiting_says_what_for():
    shown = frame.waiting("no agent answers on /run/ropeway/control.sock: start it", 40)
    assert texts(shown) == [
        "ropeway: not running, waiting",
        "no agent answers on",
        "/run/ropeway/control.sock: start it",
    ]
