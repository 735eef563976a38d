"""What two agents carry between them on this machine, measured before the tests."""

from __future__ import annotations

import os
import time

from tests.system.bed.pace import SHARE
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.traffic import flood

#: What a fast machine carries over two links: datagrams of SIZE, a second.
FULL_PACKETS = 80_000
SIZE = 200
#: More than any machine carries.
FLOOD_RATE = 400_000
LOAD_S = 1.5
LOOK_S = 0.05
#: A stream still has to find what is lost for a moment.
LEAST_SHARE = 0.1


def find_out() -> None:
    """Have every stream of this run go at this machine's share of its rate."""
    if SHARE in os.environ:
        return
    stage = Stage()
    try:
        pair = Pair(stage)
        _, b = pair.start()
        with flood(pair.a, pair.b, pair.b_address, size=SIZE, rate=FLOOD_RATE):
            before, began = b.delivered(), time.monotonic()
            while time.monotonic() < began + LOAD_S:
                time.sleep(LOOK_S)
            carried = (b.delivered() - before) / (time.monotonic() - began)
    finally:
        stage.close()
    os.environ[SHARE] = str(max(LEAST_SHARE, min(1.0, carried / FULL_PACKETS)))
