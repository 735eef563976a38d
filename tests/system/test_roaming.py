"""A link that gets another address while packets flow, as when a lease changes."""

from __future__ import annotations

import pytest

from tests.system.agents import Agent, address_of
from tests.system.stage import Pair
from tests.system.topology import Stopwatch, until
from tests.system.traffic import assert_whole, both_ways

RATE = 1000
PROBE_S = 0.5
SLACK_S = 0.25


def received(agent: Agent, host: str, address: str) -> int:
    """Return how many data frames came over connections with a remote address."""
    return sum(
        known["received"] for known in agent.connections(host) if address_of(known) == address
    )


@pytest.mark.alone
def test_client_whose_address_changes_loses_nothing_and_is_followed_at_once(pair: Pair) -> None:
    a, b = pair.start()
    port, other = pair.a.ports["net0"], pair.a.ports["net1"]
    back_s = []
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=RATE) as verdicts:
        until(lambda: b.delivered() > RATE, 10, "traffic flows")
        for number in range(6):
            port.change_address(f"192.168.0.{77 + number}/24")
            watch = Stopwatch()
            until(
                lambda watch=watch: (
                    watch.look()
                    and received(b, pair.a_address, port.ip) > 0
                    and (port.ip, pair.b.ports["net0"].ip) in a.carrying(pair.b_address)
                ),
                5,
                lambda: f"{port.ip} is used: {b.connections(pair.a_address)}",
                every_s=0.01,
            )
            # And the other way: the far end sends there, too.
            until(
                lambda watch=watch: (
                    watch.look()
                    and (pair.b.ports["net0"].ip, port.ip) in b.carrying(pair.a_address)
                ),
                5,
                lambda: f"{port.ip} is sent to: {b.connections(pair.a_address)}",
                every_s=0.01,
            )
            back_s.append(watch.look())
            assert (other.ip, pair.b.ports["net1"].ip) in a.carrying(pair.b_address)
            pair.wait_whole(a, b)
    print(f"used again after {', '.join(f'{seconds:.2f}' for seconds in back_s)} s")
    assert_whole(verdicts)
    assert max(back_s) < PROBE_S + SLACK_S
