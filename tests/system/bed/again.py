"""A test that failed while the machine was overloaded is tried again, with the machine for itself.

Such a failure tells nothing. One that is not excused by strain counts at once, and so does the
last of AGAIN further ones.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from tests.system.bed import turns
from tests.system.bed.strain import Strain

#: How often a test is tried again.
AGAIN = 2

Turn = Callable[[], "AbstractContextManager[None]"]


@dataclass(frozen=True)
class Attempt:
    """One run of a test: what is reported of it, and what strained the machine meanwhile."""

    reports: Sequence[Any]
    failed: bool
    strain: Strain

    def excuses(self, shared: bool) -> list[str]:
        """Return sentences that excuse a failure; a test that is alone makes its load itself."""
        return [*self.strain.late(), *(self.strain.busy() if shared else ())]


def until_judged(run: Callable[[Turn], Attempt], shared: bool) -> tuple[Attempt, list[str]]:
    """Run a test until it can be judged; return the attempt that counts, and why others do not.

    ``run`` runs it once, holding a turn; ``shared`` says that others may run beside it.
    """
    attempt = run(turns.beside_others if shared else turns.alone)
    excuses = attempt.excuses(shared)
    passed_over: list[str] = []
    while attempt.failed and excuses and len(passed_over) < AGAIN:
        passed_over.append("; ".join(excuses))
        attempt = run(turns.alone)
        excuses = attempt.excuses(shared=False)
    return attempt, passed_over
