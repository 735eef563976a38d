"""The status of the agent, asked for rarely enough that no packet notices."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import time
from typing import Any, Callable, Dict, Mapping, Optional

from ropeway.app.control import client

FRESH_S = 1.0
"""An answer serves whoever asks within that time, so the agent is asked once a second at most."""
ANSWER_S = 3.0
"""How long the agent may take to answer."""

Ask = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the agent said, or why it said nothing."""

    #: Empty if the agent did not answer.
    status: Mapping[str, Any]
    #: A sentence for a person; None if the agent answered.
    fault: Optional[str]
    #: How long the agent took, in seconds.
    took_s: float
    #: Whether an agent is there that does not serve whoever asks.
    refused: bool = False


def over(path: str) -> Ask:
    """Return what asks the agent whose control socket is at ``path``."""
    return lambda: client.request(path, {"command": "status"}, ANSWER_S)


def _boot_clock() -> float:
    """Return seconds that pass also while the machine sleeps, as the agent counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Source:
    """The newest status; everybody who asks meanwhile waits for the same answer."""

    def __init__(self, ask: Ask, clock: Callable[[], float] = _boot_clock) -> None:
        self._ask = ask
        self._clock = clock
        # One thread: a second question never waits in the agent beside the first.
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._lock = asyncio.Lock()
        self._answer: Optional[Answer] = None
        self._fresh_until = 0.0

    async def answer(self) -> Answer:
        """Return what the agent says now, or said less than ``FRESH_S`` ago."""
        async with self._lock:
            if self._answer is None or self._clock() >= self._fresh_until:
                loop = asyncio.get_running_loop()
                self._answer = await loop.run_in_executor(self._thread, self._question)
                self._fresh_until = self._clock() + FRESH_S
            return self._answer

    def _question(self) -> Answer:
        started_at = self._clock()
        status: Dict[str, Any] = {}
        fault = None
        refused = False
        try:
            found = self._ask()
            if isinstance(found, dict):
                status = found
            else:
                fault = "the agent answers with something other than a status: update it"
        except client.ControlError as error:
            fault = str(error)
            refused = not isinstance(error, client.NoAnswer)
        return Answer(status, fault, self._clock() - started_at, refused)
