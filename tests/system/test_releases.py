"""Agents of two releases on one strand, and one taking the other's place."""

from __future__ import annotations

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.checksums import watched
from tests.system.bed.stage import Pair
from tests.system.bed.traffic import bulk, ping, transfer_both_ways
from tests.system.test_offload import ALL, assert_clean, offload

PINGS = 500
PING_INTERVAL_S = 0.002
#: What an agent up to 0.2 does with frames whose checksum is incomplete: it does not know them.
REFUSE_PARTIAL = """
from ropeway.core.frame import data
from ropeway.core.node import SecureNode
inbound = SecureNode.inbound
def refusing(self, received, key, now):
    known = [one for one in received if one[0][:1] != bytes([data.PARTIAL])]
    return inbound(self, known, key, now)
SecureNode.inbound = refusing
"""


def grow_old(agent: Agent) -> None:
    """Let an agent behave as up to 0.2 from its next start on: packets one by one, all complete."""
    agent.config.update(offload(ALL))
    agent.cheat = REFUSE_PARTIAL


def upgrade(agent: Agent) -> None:
    """Let an agent be today's from its next start on."""
    agent.config.pop("offload", None)
    agent.cheat = ""


def start(pair: Pair, a: Agent, b: Agent) -> None:
    a.start()
    b.start()
    pair.wait_whole(a, b)


def assert_traffic(pair: Pair) -> None:
    with watched(pair.a, pair.b):
        transfer_both_ways(pair.a, pair.a_address, pair.b, pair.b_address)
    for host, address in ((pair.a, pair.b_address), (pair.b, pair.a_address)):
        verdict = ping(host, address, PINGS, PING_INTERVAL_S)
        print(verdict)
        assert (verdict.lost, verdict.duplicated) == (0, 0), verdict


@pytest.mark.parametrize("calling", [True, False], ids=["old one calls", "old one is called"])
def test_old_and_new_carry_everything_for_each_other(pair: Pair, calling: bool) -> None:
    a, b = pair.a_agent(), pair.b_agent()
    grow_old(a if calling else b)
    start(pair, a, b)
    assert_traffic(pair)
    assert_clean(a, b)


def test_new_takes_the_place_of_old_and_back_under_a_transfer(pair: Pair) -> None:
    a, b = pair.a_agent(), pair.b_agent()
    grow_old(b)
    start(pair, a, b)
    for change in (upgrade, grow_old):
        with bulk(pair.a, pair.b, pair.b_address) as there, bulk(
            pair.b, pair.a, pair.a_address
        ) as back:
            # The address comes back with the device, and connections have outlived the change.
            b.terminate()
            change(b)
            b.start()
            pair.wait_whole(a, b)
            for transfer in (there, back):
                moved = transfer.stop()
                print(moved)
                assert moved.whole, moved
        assert_traffic(pair)
    assert_clean(a, b)
