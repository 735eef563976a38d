"""A router with 500 clients that are real to it: joining, traffic, memory, and a restart."""

from __future__ import annotations

import pytest

from tests.bench.clients import Carried, ManyClients
from tests.system.bed import pace
from tests.system.bed.stage import Stage

CLIENTS = 500
FEW = 5
PACKETS_PER_S = 20
SECONDS = 5.0
#: On a fast machine; one that is half as quick takes twice the time for the same.
BACK_S = 10.0
CLIENT_KIB = 45
#: What a packet of one of many clients costs, of what one of a few costs.
COST_RATIO = 1.2


def carried_by(crowd: ManyClients) -> Carried:
    crowd.join()
    carried = crowd.carry(pace.rate(PACKETS_PER_S), SECONDS)
    print(f"{crowd.clients} clients: {carried.packet_us:.0f} us/packet, {carried}")
    assert carried.sent > crowd.clients
    assert (carried.lost, carried.wrong) == (0, 0)
    return carried


@pytest.mark.rotates
@pytest.mark.alone
def test_router_serves_five_hundred_clients_as_cheaply_as_five(stage: Stage) -> None:
    few, many = ManyClients(stage, FEW), ManyClients(stage, CLIENTS)
    base = carried_by(few)
    few_kib = few.router.rss_kib()
    few.end()
    carried = carried_by(many)
    client_kib = (many.router.rss_kib() - few_kib) / (CLIENTS - FEW)
    back_s = many.restart()
    print(f"{client_kib:.1f} KiB a client, back {back_s:.1f} s after a restart")
    assert carried.packet_us <= COST_RATIO * base.packet_us
    assert 0 < client_kib <= CLIENT_KIB
    assert back_s <= BACK_S / pace.share()
