"""Sentences for the log about handshakes that strangers may cause as often as they like."""

from __future__ import annotations

from typing import Dict, Optional

from ropeway.core.session.admission import bound
from ropeway.core.token_bucket import TokenBucket

#: One note about a key in this time, in seconds, and notes in this time at most.
NOTE_PAUSE_S = 60.0
MAX_NOTES = 32


class Notes:
    """Lets few notes about each public key pass, and few in all."""

    def __init__(self, now: float) -> None:
        self._noted_at: Dict[bytes, float] = {}
        self._budget = TokenBucket(MAX_NOTES / NOTE_PAUSE_S, MAX_NOTES, now)

    def note(self, about: bytes, sentence: str, now: float) -> Optional[str]:
        """Return the sentence, or None if the log has had enough of them."""
        last = self._noted_at.get(about)
        if (last is not None and now - last < NOTE_PAUSE_S) or not self._budget.take(now):
            return None
        self._noted_at.pop(about, None)
        bound(self._noted_at, MAX_NOTES)
        self._noted_at[about] = now
        return sentence
