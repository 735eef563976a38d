"""A link whose budget is used up carries no more, by the counters of its interface."""

from __future__ import annotations

from typing import Any

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import assert_whole, both_ways

BUDGET = 2_000_000
ONE_PERCENT = BUDGET // 100
ETHERNET_SIZE = 14
LIMIT_S = 60.0
#: A train that the kernel cuts counts as one packet at an interface.
WHOLE = {"disable": ["udp_segment"]}


def carried(host: Host, interface: str) -> int:
    """Return the bytes of IP packets, ARP's included, that an interface has carried."""
    ((link,),) = [host.ip_json("-s", "link", "show", "dev", interface)]
    both = [link["stats64"][way] for way in ("rx", "tx")]
    return sum(way["bytes"] - ETHERNET_SIZE * way["packets"] for way in both)


def budget(agent: Agent) -> Any:
    """Return what the status says of the budget of eth0."""
    (link,) = (link for link in agent.status()["links"] if link["name"] == "eth0")
    return link["budget"]


def test_budget_is_neither_exceeded_nor_lost(stage: Stage) -> None:
    pair = Pair(stage)
    links = {"eth0": {"budget": {"bytes": BUDGET, "per": "month"}}}
    a = pair.a_agent(links=links, offload=WHOLE).start()
    b = pair.b_agent(offload=WHOLE).start()
    pair.wait_whole(a, b)
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address):
        until(lambda: budget(a)["used_bytes"] >= BUDGET * 0.4, LIMIT_S, "the budget is used")
    a.kill_whole()
    before = carried(pair.a, "eth0")
    a.start()
    pair.wait_whole(a, b)
    missing = budget(a)["used_bytes"] - carried(pair.a, "eth0")
    print(f"{before} bytes before the crash, {missing} bytes counted besides")
    # What strangers say to a socket that is not there is not counted, and ARP is none of it.
    assert -ONE_PERCENT / 4 <= missing <= ONE_PERCENT

    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        until(lambda: budget(a)["used_up"], LIMIT_S, "the budget is used up")
        end = carried(pair.a, "eth1") + BUDGET // 4
        until(lambda: carried(pair.a, "eth1") >= end, LIMIT_S, "the other link carries on")
        over = carried(pair.a, "eth0")
    assert_whole(verdicts)
    print(f"{over} bytes over eth0, budget {budget(a)}")
    assert BUDGET - ONE_PERCENT <= over <= BUDGET + ONE_PERCENT
    assert a.log().count("% of the budget of eth0 is used, ") == 1
    assert a.log().count("the budget of eth0 is used up") == 1

    a.terminate()
    a.start()
    assert budget(a)["used_up"]
    assert any("the budget of eth0 is used up" in told for told in a.status()["warnings"])
    # The last link there is carries in spite of its budget, and a larger budget gives it back.
    pair.a.ports["net1"].unplug()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address):
        more = over + BUDGET // 10
        until(lambda: carried(pair.a, "eth0") >= more, LIMIT_S, "the last link carries")
    pair.a.ports["net1"].plug()
    control = ("--control", str(a.control_path))
    assert "used up until" in a.cli("status", *control).stdout
    assert a.cli("budget", "set", "eth0", "1.5MB", *control).returncode == 0
    until(lambda: not budget(a)["used_up"], LIMIT_S, "the operator's figure counts")
    assert a.cli("budget", "set", "eth0", "3MB", *control).returncode == 0
    until(lambda: budget(a)["used_up"], LIMIT_S, "the operator's figure counts")
    a.config["links"]["eth0"]["budget"]["bytes"] = 10 * BUDGET
    assert a.reload().returncode == 0
    assert not budget(a)["used_up"]
    pair.wait_whole(a, b)
