"""What is done beside the packets: systemd, garbage, the epoch, callers."""

from __future__ import annotations

import pytest

from ropeway.app.engine import chores


class Due:
    """As much of the loop as a part needs that becomes due sooner."""

    def __init__(self):
        self.at = float("inf")

    def clock(self):
        return 10.0

    def sooner(self, at):
        self.at = min(self.at, at)


@pytest.fixture
def sent(monkeypatch):
    lines = []
    monkeypatch.setattr(chores.systemd, "notify", lines.append)
    return lines


def test_systemd_is_told_once_a_second_at_most_how_the_agent_is(sent):
    loop = Due()
    line = chores.StatusLine(loop, lambda now: f"at {now}", lambda: (0, 0))
    line.soon(10.0)
    line.tick(10.0)
    line.soon(10.1)
    assert loop.at == 10.0
    for now in (10.2, 10.9):
        line.tick(now)
    assert sent == ["STATUS=at 10.0"]
    assert line.deadline() == 10.0 + chores.STATUS_EVERY_S
    line.tick(line.deadline())
    assert sent == ["STATUS=at 10.0", "STATUS=at 11.0"]


def test_systemd_is_told_when_another_number_of_links_carries(sent):
    carrying = [(0, 0)]
    line = chores.StatusLine(Due(), lambda now: "changed", lambda: carrying[0])
    line.tick(10.0)
    assert sent == []
    carrying[0] = (1, 1)
    line.tick(line.deadline())
    assert sent == ["STATUS=changed"]
    line.tick(line.deadline())
    assert len(sent) == 1


def test_without_a_watchdog_nothing_is_ever_due(monkeypatch):
    monkeypatch.setattr(chores.systemd, "watchdog_s", lambda: None)
    assert chores.Watchdog(10.0).deadline() == float("inf")
