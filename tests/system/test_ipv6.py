"""IPv4 and IPv6 underlays in one strand."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.system.bed.stage import Stage, TwoFamilies
from tests.system.bed.topology import Port
from tests.system.bed.traffic import assert_whole, both_ways, ping

pytestmark = pytest.mark.skipif(
    not Path("/proc/sys/net/ipv6").exists(), reason="the kernel has no IPv6"
)


@pytest.mark.parametrize(
    ("sever", "heal"),
    [(Port.block, Port.unblock), (Port.unplug, Port.plug)],
    ids=["silently blocked", "carrier lost"],
)
def test_link_of_either_family_carries_when_the_other_is_cut(
    stage: Stage, sever: Callable[[Port], None], heal: Callable[[Port], None]
) -> None:
    pair = TwoFamilies(stage)
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        for lan, port in pair.a.ports.items():
            left = [link for link in pair.links() if link[0] != port.ip]
            sever(port)
            a.wait_carrying(pair.b_address, *left)
            b.wait_carrying(pair.a_address, *(link[::-1] for link in left))
            heal(port)
            if ":" in port.ip and port.ip not in addresses(pair, lan):
                port.add_address()  # the kernel drops IPv6 addresses with the carrier
            pair.wait_whole(a, b)
    assert_whole(verdicts)


def addresses(pair: TwoFamilies, lan: str) -> set[str]:
    interface = pair.a.ports[lan].interface
    shown = pair.a.ip_json("address", "show", "dev", interface)[0]["addr_info"]
    return {known["local"] for known in shown}


def test_link_local_addresses_are_not_used(stage: Stage) -> None:
    pair = TwoFamilies(stage)
    a, _ = pair.start()
    assert not any(
        "fe80" in address for link in a.status()["links"] for address in link["addresses"]
    )
    assert ping(pair.a, pair.b_address, count=20, interval_s=0.01).lost == 0


def test_device_mtu_leaves_room_for_the_larger_header(stage: Stage) -> None:
    pair = TwoFamilies(stage)
    a, _ = pair.start()
    assert a.status()["device"]["mtu"] == 1500 - 80
    pair.a.ports["net6"].unplug()
    a.wait_carrying(pair.b_address, *pair.links()[:1])
    verdict = ping(pair.a, pair.b_address, count=20, interval_s=0.01)
    assert (verdict.lost, verdict.duplicated) == (0, 0)
