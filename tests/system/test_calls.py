"""A real WebRTC call through two agents, while one link after the other fails."""

from __future__ import annotations

import pytest

from tests.emulator.calls import Missing, run

pytestmark = pytest.mark.alone

CALL_S = 10.0
LINKS = ("delay_ms=17,black_hole=3-5", "delay_ms=20,black_hole=6-8")
#: Of the pictures; the others are late, and no two links fail at once.
LATE_MAX = 0.03


def test_a_webrtc_call_on_adaptive_does_not_freeze_while_links_fail_in_turn() -> None:
    try:
        run.need("webrtc")
    except Missing as missing:
        pytest.skip(f"NOT TESTED: {missing}")
    (call,) = run.run("webrtc", "adaptive", LINKS, CALL_S)
    print(f"longest gap {call.longest_s:.3f} s, {call.late_share:.2%} late, cost {call.cost:.2f}")
    assert call.freezes == []
    assert call.late_share <= LATE_MAX
    # One copy, its headers, and all that the failures took: less than two copies.
    assert call.cost < 2
