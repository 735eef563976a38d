"""What a router with 4 links and 10 peers takes while nobody sends anything."""

from __future__ import annotations

import sys

import pytest

from tests.system.bed import pace
from tests.system.bed.crowd import Crowd
from tests.system.bed.stage import Stage

WATCH_S = 60.0
ENGINE_KIB = 40 << 10
ALL_KIB = 80 << 10
#: On a fast machine; one that is half as quick takes twice the time for the same.
CPU_SHARE = 0.005


@pytest.mark.rotates
@pytest.mark.alone
def test_idle_router_keeps_to_its_memory_and_processor_time(stage: Stage) -> None:
    crowd = Crowd(stage, "secure", sys.executable)
    crowd.start()
    idle = crowd.idle(WATCH_S)
    print(idle)
    # Resident memory counts a shared page in each process: no less than what they take together.
    assert idle.rss_kib["engine"] <= ENGINE_KIB
    assert sum(idle.rss_kib.values()) <= ALL_KIB
    assert sum(idle.cpu.values()) <= CPU_SHARE / pace.share()
