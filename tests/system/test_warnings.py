"""What the status warns of, on a kernel that really does it."""

from __future__ import annotations

import socket

from tests.system.stage import Pair
from tests.system.topology import until

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
    assert a.status()["warnings"] == []
