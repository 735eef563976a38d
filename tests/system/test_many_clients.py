"""A router with 500 clients that are real to it: memory, and a restart."""

from __future__ import annotations

import pytest

from tests.bench.clients import ManyClients
from tests.system.bed import pace
from tests.system.bed.stage import Stage

CLIENTS = 500
FEW = 5
#: On a fast machine; one that is half as quick takes twice the time for the same.
BACK_S = 10.0
CLIENT_KIB = 45


@pytest.mark.rotates
@pytest.mark.alone
def test_five_hundred_clients_take_little_memory_and_are_back_soon(stage: Stage) -> None:
    few, many = ManyClients(stage, FEW), ManyClients(stage, CLIENTS)
    few.join()
    few_kib = few.router.rss_kib()
    few.end()
    many.join()
    client_kib = (many.router.rss_kib() - few_kib) / (CLIENTS - FEW)
    back_s = many.restart()
    print(f"{client_kib:.1f} KiB a client, back {back_s:.1f} s after a restart")
    assert 0 < client_kib <= CLIENT_KIB
    assert back_s <= BACK_S / pace.share()
