"""Which reading of the configuration holds.

The engine reads hostile bytes, so it names a reading by its number and never says what was read:
neither device nor address nor port. Two readings are known: the one that holds, and the last one,
which the engine goes over to or leaves, as it can. The next steward finds both, so it depends
neither on the engine nor on what has become of the file.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Optional

from ropeway.app.config.model import Config
from ropeway.steward.handover import Handover
from ropeway.steward.settings import Settings, settings_of


class Refused(Exception):
    """What the engine asks for is not granted; `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class _Reading:
    number: int
    settings: Settings


class Readings:
    """The reading that holds, if the agent has begun, and the last one; left in `handover`."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._held: Optional[_Reading] = None
        self._last: Optional[_Reading] = None
        left = handover.find()
        if left:
            # Only stewards have that memory.
            self._held, self._last = pickle.loads(left)  # noqa: S301

    @property
    def held(self) -> Optional[Settings]:
        """The settings that hold; None before the beginning."""
        return None if self._held is None else self._held.settings

    @property
    def known(self) -> Optional[Settings]:
        """The settings that hold, or before the beginning those of the last reading."""
        reading = self._held or self._last
        return None if reading is None else reading.settings

    def note(self, number: int, config: Config) -> None:
        """Keep what was read; `ValueError` where it is too large to be left to another steward."""
        self._leave(self._held, _Reading(number, settings_of(config)))

    def take_over(self, number: int) -> Settings:
        """Have the reading of that number hold, and return its settings; `Refused` says why not."""
        held, last = self._held, self._last
        if held is not None and held.number == number:
            return held.settings
        if last is None or last.number != number:
            raise Refused(
                f"the steward does not know reading {number} of the configuration, and goes on with"
                " the one before: reload, and restart the agent if this stays"
            )
        if held is not None and held.settings.differs_lastingly(last.settings):
            raise Refused(
                "the steward was asked to change the device, its address or the port while it runs,"
                " and did not: restart the agent"
            )
        self._leave(last, last)
        return last.settings

    def _leave(self, held: Optional[_Reading], last: Optional[_Reading]) -> None:
        self._handover.leave(pickle.dumps((held, last), pickle.HIGHEST_PROTOCOL))
        self._held, self._last = held, last
