"""A link that gets another address while packets flow, as when a lease changes."""

from __future__ import annotations

import pytest

from tests.system.bed.agents import Agent, address_of
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Stopwatch, until
from tests.system.bed.traffic import assert_whole, both_ways, ping

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


@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_frames_leave_from_the_address_that_the_gateway_answers(
    stage: Stage, encapsulation: str
) -> None:
    topology = stage.topology("net0")
    a, b = topology.host("vm0"), topology.host("vm1")
    a.connect("net0", "eth0", "10.1.1.5/24", index=2)
    b.connect("net0", "eth0", "192.168.7.1/24", index=12)
    a.ip("address", "add", "192.168.7.2/24", "dev", "eth0")
    a.ip("route", "add", "default", "via", "192.168.7.1")
    b.ip("address", "add", "198.51.100.3/32", "dev", "eth0")
    caller = stage.agent(a, "10.0.0.1", encapsulation=encapsulation)
    caller.peer("10.0.0.2", "198.51.100.3")
    called = stage.agent(b, "10.0.0.2", encapsulation=encapsulation).peer("10.0.0.1").start()
    caller.start().wait_carrying("10.0.0.2", ("192.168.7.2", "198.51.100.3"))
    called.wait_carrying("10.0.0.1", ("198.51.100.3", "192.168.7.2"))
    assert ping(a, "10.0.0.2", count=20, interval_s=0.01).lost == 0
