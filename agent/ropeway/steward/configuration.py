"""The configuration, read on behalf of the engine."""

from __future__ import annotations

import functools
from typing import Callable, Optional

from ropeway.app.config import reading
from ropeway.app.errors import ConfigError
from ropeway.steward import answers, orders
from ropeway.steward.loop import Schedule

# Tuning
#: Reading the configuration takes no longer; `ropeway reload` waits for 12 s.
READING_LIMIT_S = 8.0

_INF = float("inf")


class Configuration:
    """Reads the file at `path` in a child process, and says what came of it to `say`."""

    def __init__(
        self, loop: Schedule, path: str, say: Callable[[answers.ConfigurationRead], None]
    ) -> None:
        self._loop = loop
        self._path = path
        self._say = say
        self._reading: Optional[reading.Reading] = None
        self._number = 0
        self._due = _INF

    def read(self, order: orders.ReadConfiguration) -> None:
        """Read the file as it is now; a reading that is under way is given up."""
        self.close()
        self._number = order.number
        try:
            self._reading = reading.Reading(self._path)
        except OSError as error:
            self._fail(f"{self._path} cannot be read ({error.strerror}): try again")
            return
        self._due = self._loop.clock() + READING_LIMIT_S
        self._loop.register(self._reading.fileno(), functools.partial(self._read_on, self._reading))

    def deadline(self) -> float:
        """Return when a reading is given up."""
        return self._due

    def tick(self, now: float) -> None:
        """Give a reading up that takes too long."""
        if now >= self._due:
            self.close()
            self._fail(f"reading {self._path} takes too long: try again")

    def close(self) -> None:
        """Give up what is being read."""
        if self._reading is not None:
            self._end().give_up()

    def _read_on(self, begun: reading.Reading, _events: int, _now: float) -> None:
        # The descriptor of one that was given up may be that of the next.
        if begun is not self._reading or not begun.take():
            return
        try:
            self._say(answers.ConfigurationRead(self._number, self._end().result()))
        except ConfigError as error:
            self._say(answers.ConfigurationRead(self._number, None, tuple(error.errors)))

    def _end(self) -> reading.Reading:
        ended = self._reading
        assert ended is not None
        self._loop.unregister(ended.fileno())
        self._reading, self._due = None, _INF
        return ended

    def _fail(self, sentence: str) -> None:
        self._say(answers.ConfigurationRead(self._number, None, (sentence,)))
