"""Warnings that are logged once an hour."""

from ropeway.app import rate_limited_log


def test_what_is_true_again_and_again_is_logged_once_an_hour(caplog):
    repeated = rate_limited_log.RateLimitedLog()
    for now in range(1000, 5000, 10):
        repeated.warn("it rains", now)
    for now in (8000, 8500, 12000, 15599):
        repeated.warn("it rains", now)
    assert caplog.messages == ["it rains"]
    repeated.warn("it rains", 15599 + 3600)
    assert caplog.messages == ["it rains"] * 2
    for number in range(2 * rate_limited_log.WARNINGS_MAX):
        repeated.warn(f"{number} drops", 20000)
    assert len(repeated) == rate_limited_log.WARNINGS_MAX
