"""What the status warns of, on a kernel that really does it."""

from __future__ import annotations

import socket

from tests.system.bed.stage import Pair
from tests.system.bed.topology import until

PATIENCE_S = 20.0
PORT = 51840


def test_agent_without_a_port_says_so_until_it_has_one(pair: Pair) -> None:
    other = pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("", PORT))
    a = pair.a_agent()
    a.write_config()
    checked = a.cli("check-config", str(a.config_path))
    assert f"has UDP port {PORT}" in checked.stderr, checked
    a.start()
    b = pair.b_agent().start()
    until(lambda: a.status()["warnings"], PATIENCE_S, a.log)
    (sentence,) = a.status()["warnings"]
    assert sentence.startswith("no link can be used, so no packet gets through: another program")
    assert a.log().count(sentence) == 1
    other.close()
    pair.wait_whole(a, b)
    assert a.status()["warnings"] == []
    assert "another program" not in a.cli("check-config", str(a.config_path)).stderr


def test_strict_filter_that_keeps_a_link_from_hearing_is_named(pair: Pair) -> None:
    pair.a.sysctl("net/ipv4/conf/eth1/rp_filter", 1)
    pair.a.ip("route", "add", "192.168.1.3/32", "dev", "eth0")
    a, b = pair.a_agent().start(), pair.b_agent().start()
    until(lambda: a.status()["warnings"], PATIENCE_S, a.log)
    assert a.status()["warnings"] == [
        "eth1(3): the kernel drops what comes from 192.168.1.3, because its route there leaves by"
        " eth0 and rp_filter is strict: set net.ipv4.conf.eth1.rp_filter to 2"
    ]
    pair.a.sysctl("net/ipv4/conf/eth1/rp_filter", 2)
    pair.wait_whole(a, b)
    until(lambda: a.status()["warnings"] == [], PATIENCE_S, a.log)


def test_link_that_a_firewall_blocks_carries_nothing_and_is_told_once(pair: Pair) -> None:
    rules = (
        "add table inet wall; "
        "add chain inet wall in { type filter hook input priority 0; }; "
        "add rule inet wall in iifname eth1 udp dport 51840 drop"
    )
    pair.b.run("nft", rules)
    a, b = pair.a_agent(), pair.b_agent()
    a.tuning["ropeway.core.redundancy:LACK_REPORT_S"] = 3.0
    b.start()
    a.start()
    sentence = "link eth1(3) carries nothing: no answer over it from 10.0.0.2; mend it"
    until(lambda: sentence in a.log(), PATIENCE_S, a.log)
    tree = a.cli("status", "--control", str(a.control_path)).stdout
    assert "- local devices: 1 of 2 links carries\n" in tree
    assert "- eth1(3): 192.168.1.2, carries nothing: no answer over it from 10.0.0.2\n" in tree
    assert "- reached over 1 of 2 links, not over eth1(3): no answer\n" in tree
    pair.b.run("nft", "delete table inet wall")
    until(lambda: "link eth1(3) carries\n" in a.log(), PATIENCE_S, a.log)
    pair.wait_whole(a, b)
    assert "carries" not in a.cli("status", "--control", str(a.control_path)).stdout
    assert a.log().count("carries nothing") == 1
