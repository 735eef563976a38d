"""Warnings about what comes and goes again and again, logged once an hour."""

from __future__ import annotations

import logging
from typing import Dict

log = logging.getLogger("ropeway")

# Tuning
#: A sentence is logged again only if it was not true for this long.
WARN_AGAIN_S = 3600.0
#: So many sentences are remembered.
WARNINGS_MAX = 256


class RateLimitedLog:
    """Logs a sentence unless it did so lately."""

    def __init__(self) -> None:
        self._warned_at: Dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many sentences are remembered."""
        return len(self._warned_at)

    def warn(self, sentence: str, now: float) -> None:
        """Log what is true at the moment, if it was not for `WARN_AGAIN_S` before."""
        if now - self._warned_at.get(sentence, float("-inf")) >= WARN_AGAIN_S:
            log.warning("%s", sentence)
        # The oldest first, so that the bound drops what has not been true for longest.
        self._warned_at.pop(sentence, None)
        self._warned_at[sentence] = now
        while len(self._warned_at) > WARNINGS_MAX:
            del self._warned_at[next(iter(self._warned_at))]
