"""What several statuses in a row tell."""

from __future__ import annotations

import pytest

from ropeway.app.monitor.history import POINTS, History, class_key, connection_key, link_key
from tests.unit.app.monitor import recorded


def taken(*statuses):
    history = History()
    for status in statuses:
        history.take(status)
    return history


def test_counts_become_rates_with_the_second_status():
    first = recorded.with_classes()
    later = recorded.a_second_later(first)
    voice = class_key("10.0.0.2", "voice")
    assert taken(first).per_s(voice, "packets") is None
    history = taken(first, later)
    assert history.per_s(voice, "packets") == pytest.approx(200.0)
    assert history.per_s("10.0.0.2", "rescued") == pytest.approx(3.0)


def test_rate_is_as_measured_or_else_as_the_bytes_are_counted():
    for first, rate_kbit in ((recorded.status(), 151.84), (recorded.classic(), 121.6)):
        later = recorded.a_second_later(first)
        history = taken(first, later)
        connection = later["peers"][0]["connections"][0]
        key = connection_key("10.0.0.2", connection)
        found = history.rate_kbit(key, connection, "rate_kbit", "sent_bytes")
        assert found == pytest.approx(rate_kbit)
        assert list(history.curves(key).rates_kbit)[-1] == found


def test_a_curve_goes_back_so_far_and_no_further():
    history = History()
    status = recorded.status()
    for number in range(POINTS + 5):
        status["uptime_s"] += 1.0
        status["links"][0]["rtt_ms"] = float(number)
        history.take(status)
    assert list(history.curves(link_key(status["links"][0])).rtts_ms) == [
        float(number) for number in range(5, POINTS + 5)
    ]


def test_what_a_status_lacks_is_forgotten():
    status = recorded.with_peers(40)
    history = taken(status)
    gone = status["peers"].pop()
    status["links"].pop()
    history.take(status)
    key = connection_key(gone["host"], gone["connections"][0])
    assert not history.curves(key).rtts_ms
    assert len(history._curves) == 2 + 39 * 3
    assert all(gone["host"] not in key for key in history._counts)


def test_another_agent_begins_anew():
    first = recorded.a_second_later(recorded.with_classes())
    other = {**recorded.with_classes(), "uptime_s": 0.5}
    history = taken(first, other)
    assert history.per_s(class_key("10.0.0.2", "voice"), "packets") is None
    assert list(history.curves(link_key(first["links"][0])).rtts_ms) == [0.905]


def test_a_count_that_shrinks_has_no_rate():
    first = recorded.with_classes()
    later = recorded.a_second_later(first)
    later["peers"][0]["rescued"] = 0
    assert taken(first, later).per_s("10.0.0.2", "rescued") is None
