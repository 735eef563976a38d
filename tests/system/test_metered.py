"""A metered link carries next to nothing while another link does, by the kernel's counters."""

from __future__ import annotations

from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import assert_whole, both_ways
from tests.system.test_budgets import carried

LIMIT_S = 60.0
#: What the other link carries before and while bytes are counted.
WARM_BYTES = 700_000
COUNTED_BYTES = 1_500_000
#: The share of it that the metered link may carry.
SHARE = 0.05
ADAPTIVE = [{"name": "all", "mode": "adaptive"}]


def flows(host: Host, size: int) -> None:
    """Wait until the other link has carried so many bytes more."""
    end = carried(host, "eth1") + size
    until(lambda: carried(host, "eth1") >= end, LIMIT_S, "eth1 carries")


def test_metered_link_is_left_alone_and_carries_at_once(stage: Stage) -> None:
    pair = Pair(stage)
    a = pair.a_agent(links={"eth0": {"metered": True}}, classes=ADAPTIVE).start()
    b = pair.b_agent(classes=ADAPTIVE).start()
    pair.wait_whole(a, b)

    def settled() -> bool:
        """Whether both ends know of it, and the size of packets is known."""
        peers = [peer for agent in (a, b) for peer in agent.status()["peers"]]
        of = [one for peer in peers for one in peer["connections"] if one["metered"]]
        return len(of) == 2 and all(one["mtu_settled"] for one in of)

    until(settled, LIMIT_S, "both ends know that eth0 is metered")
    (link,) = (link for link in a.status()["links"] if link["name"] == "eth0")
    assert (link["metered"], link["cost"]) == (True, 500)

    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        # What a flow begins with may go over all links.
        flows(pair.a, WARM_BYTES)
        before, other = carried(pair.a, "eth0"), carried(pair.a, "eth1")
        flows(pair.a, COUNTED_BYTES)
        over = carried(pair.a, "eth0") - before
        other = carried(pair.a, "eth1") - other
        print(f"{over} bytes over eth0, {other} over eth1")
        # A busy machine makes answers late, and then both carry for a moment.
        assert over < other * SHARE
        pair.a.ports["net1"].unplug()
        until(lambda: carried(pair.a, "eth0") >= before + 100_000, LIMIT_S, "eth0 carries")
    assert_whole(verdicts)
