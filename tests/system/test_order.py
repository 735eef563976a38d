"""TCP over links of different rate, delay and loss, by how its class is sent."""

from __future__ import annotations

import pytest

from tests.emulator.bulk.command import rate_mbit, together

pytestmark = [pytest.mark.alone, pytest.mark.rotates]

SECONDS = 14.0
TCP = "cubic"


def test_spread_uses_the_rates_of_both_links_for_one_connection() -> None:
    links = [f"rate_kbit={rate},delay_ms=10,queue_ms=100" for rate in (10_000, 5_000)]
    rate = rate_mbit(together(links, "spread", SECONDS, TCP))
    print(f"{rate:.1f} of 15 Mbit/s")
    assert rate >= 0.85 * 15


def test_spread_is_no_worse_than_the_better_link_where_the_other_takes_much_longer() -> None:
    links = ["rate_kbit=10000,delay_ms=10,queue_ms=100", "rate_kbit=5000,delay_ms=60,queue_ms=100"]
    rate = rate_mbit(together(links, "spread", SECONDS, TCP))
    print(f"{rate:.1f} of 15 Mbit/s")
    # IP, TCP, the frame and its headers take a ninth of what the better link carries.
    assert rate >= 0.95 * 10 * 8 / 9


def test_losses_of_one_link_do_not_slow_a_connection_whose_packets_are_in_order() -> None:
    links = ["rate_kbit=20000,delay_ms=8,loss=0.02,queue_ms=100", "rate_kbit=9000,delay_ms=30"]
    rate = rate_mbit(together(links, "ordered", SECONDS, TCP))
    print(f"{rate:.1f} of the 9 Mbit/s that the link without losses carries")
    assert rate >= 0.95 * 9 * 8 / 9
