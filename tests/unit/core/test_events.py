"""What is reported where something comes and goes again and again."""

from __future__ import annotations

import pytest

from ropeway.core import events, tuning
from ropeway.core.link import Link

HOST = "10.0.0.2"


def link(index=3, name="wlan0", up=True):
    return Link(index, name, ("192.168.0.2/24",), 1500, up)


def lost(link=3, host=HOST):
    return events.ConnectionLost(host, link, 12, "it fell silent")


def established(link=3, host=HOST):
    return events.ConnectionEstablished(host, link, 12, "192.168.0.3")


class Journal:
    """A log with a clock, that is looked at as the runtime does."""

    def __init__(self):
        self.now = 100.0
        self.log = events.Log(self.now)
        self.lines = []

    def report(self, *happened):
        for event in happened:
            self.log.report(event, self.now)
        self.look()

    def look(self):
        self.lines += map(str, self.log.take())

    def wait(self, seconds):
        end = self.now + seconds
        while self.log.due <= end:
            self.now = max(self.now, self.log.due)
            self.log.expire(self.now)
            self.look()
        self.now = end


def flap(journal, seconds, every_s=2.0):
    """Lose a connection and have it back, every so often."""
    for _ in range(int(seconds / every_s)):
        journal.report(lost())
        journal.wait(every_s / 2)
        journal.report(established())
        journal.wait(every_s / 2)


def test_an_outage_is_told_at_once_and_in_full():
    journal = Journal()
    for _ in range(10):
        journal.report(lost(), established())
        journal.wait(61.0)
    assert journal.lines == [str(lost()), str(established())] * 10


def test_a_connection_that_flaps_is_told_once_a_minute_with_a_count():
    journal = Journal()
    flap(journal, 600)
    assert journal.lines[: tuning.CHANGES_TOLD] == [str(lost()), str(established())] * 4
    counted = journal.lines[tuning.CHANGES_TOLD :]
    assert len(counted) == 10
    assert counted[0] == (
        "connections of link 3 to 10.0.0.2: 52 more changes within 60 s, the last:"
        " connection 3 -> 12 to 10.0.0.2 at 192.168.0.3 established"
    )
    assert "60 more changes within 60 s" in counted[-1]
    # Quiet again, it is told at once again.
    journal.wait(121.0)
    journal.report(lost())
    assert journal.lines[-1] == str(lost())


def test_a_day_of_flapping_takes_little_of_the_journal():
    journal = Journal()
    flap(journal, 86400)
    size = sum(map(len, journal.lines))
    assert size < 300_000, f"{size} bytes"


def test_how_it_is_at_last_is_told():
    journal = Journal()
    flap(journal, 10)
    journal.report(lost())
    assert journal.lines[-1] != str(lost())
    journal.wait(60.0)
    assert journal.lines[-1].endswith(f"the last: {lost()}")
    assert journal.log.due < float("inf")
    journal.wait(60.0)
    assert journal.log.due == float("inf")


def test_other_hosts_and_links_are_told_meanwhile():
    journal = Journal()
    journal.report(events.LinkAppeared(link()), events.LinkAppeared(link(4, "eth0")))
    flap(journal, 30)
    for other in (lost(link=4), lost(host="10.0.0.7")):
        journal.report(other)
        assert journal.lines[-1] == str(other)


def test_a_modem_that_comes_back_under_another_index_is_the_same_link():
    journal = Journal()
    for index in range(10, 310, 10):
        here = link(index, "wwan0")
        journal.report(events.LinkAppeared(here), established(index))
        journal.wait(1.0)
        journal.report(events.LinkVanished(here), lost(index))
        journal.wait(1.0)
    journal.wait(60.0)
    counted = [line for line in journal.lines if "more changes" in line]
    assert [line.split(":")[0] for line in counted] == [
        "link wwan0", "connections of link wwan0 to 10.0.0.2"
    ] * (len(counted) // 2)  # fmt: skip
    assert len(journal.lines) == 2 * tuning.CHANGES_TOLD + len(counted)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (
            events.LinkChanged(link(), link(up=False)), events.LinkChanged(link(up=False), link()),
            "link wlan0",
        ),
        (
            events.SessionMade(HOST), events.SessionLost(HOST, "it was forgotten"),
            "the session with 10.0.0.2",
        ),
        (
            events.RemoteMoved(HOST, 5, "1.2.3.4", "1.2.3.5"),
            events.RemoteMoved(HOST, 5, "1.2.3.5", "1.2.3.4"),
            "the addresses of 10.0.0.2",
        ),
        (
            events.PathMtuFound(HOST, 3, 12, 1400), events.PathMtuFound(HOST, 3, 12, 1500),
            "paths of link 3 to 10.0.0.2",
        ),
        (
            events.DeviceMtuSet("ropeway0", 1340), events.DeviceMtuSet("ropeway0", 1440),
            "the MTU of device ropeway0",
        ),
    ],
)  # fmt: skip
def test_whatever_goes_to_and_fro_is_counted(one, other, what):
    journal = Journal()
    for _ in range(10):
        journal.report(one, other)
    assert len(journal.lines) == tuning.CHANGES_TOLD
    journal.wait(60.0)
    assert journal.lines[-1] == f"{what}: 12 more changes within 60 s, the last: {other}"


def test_what_a_stranger_causes_is_limited_as_before_and_fills_no_table():
    journal = Journal()
    for number in range(5000):
        journal.report(events.RemoteMoved(f"10.{number >> 8}.{number & 255}.1", 1, "a", "b"))
    assert len(journal.log._changes) == tuning.CHANGES_MAX
    for number in range(5000):
        journal.report(events.LinkAppeared(link(number + 1, f"veth{number}")))
    assert len(journal.log._names) <= tuning.CHANGES_MAX
    told = [line for line in journal.lines if "more events" not in line]
    assert len(told) <= tuning.EVENTS_BURST + 1
