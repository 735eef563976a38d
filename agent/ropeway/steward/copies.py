"""Whether the kernel announces that this virtual machine was cloned or set back to a snapshot."""

from __future__ import annotations

import logging
from typing import Callable, Optional

from ropeway.kernel import generation
from ropeway.steward import answers
from ropeway.steward.loop import Schedule

log = logging.getLogger("ropeway")


class CopyWatch:
    """Says so to `say` when the kernel does."""

    def __init__(self, loop: Schedule, say: Callable[[answers.MachineCopied], None]) -> None:
        self._loop = loop
        self._say = say
        self._hints: Optional[generation.GenerationHints] = None
        try:
            self._hints = generation.GenerationHints()
        except OSError as error:
            log.info(
                "the kernel cannot say whether this machine is cloned (%s)",
                error.strerror or error,
            )
            return
        loop.register(self._hints.fileno(), self._hinted)

    def close(self) -> None:
        """Stop listening to the kernel."""
        if self._hints is not None:
            self._loop.unregister(self._hints.fileno())
            self._hints.close()

    def _hinted(self, _events: int, _now: float) -> None:
        if self._hints is not None and self._hints.drain():
            self._say(answers.MachineCopied())
