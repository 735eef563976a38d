"""When the programs of a call had to wait for a processor: a freeze of then is the machine's."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Dict, List, Tuple

from tests.system.bed.agents import descendants_of

LOOK_S = 0.025
#: Shorter waits are not kept: they are as usual on a machine that does anything else.
LEAST_S = 0.01


class Stalls:
    """Looks at all threads of all programs that this one has started, for one block.

    ``found`` has the time of each look, in seconds from ``began_at``, at which some thread had
    waited since the look before, and how long the one that waited most; a look that is late itself
    counts too.
    """

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.found: List[Tuple[float, float]] = []

    def __enter__(self) -> List[Tuple[float, float]]:
        self._thread.start()
        return self.found

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        threads = [
            file
            for pid in descendants_of(os.getpid())
            for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
        ]
        waited: Dict[Path, int] = {}
        looked_at = time.monotonic()
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            most_s = now - looked_at - LOOK_S
            looked_at = now
            for file in threads:
                # Documentation/scheduler/sched-stats.rst: nanoseconds that it ran, and waited.
                with contextlib.suppress(OSError):
                    waited_ns = int(file.read_text(encoding="ascii").split()[1])
                    most_s = max(most_s, (waited_ns - waited.get(file, waited_ns)) / 1e9)
                    waited[file] = waited_ns
            if most_s >= LEAST_S:
                self.found.append((round(now - self._began_at, 3), round(most_s, 3)))
