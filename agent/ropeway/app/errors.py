"""Errors that end the agent or its start, each with sentences for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a configuration."""

    #: Line of the file, from 1; None if no line says it.
    line: Optional[int]
    #: The key, "peers[0].host"; empty for the file as a whole.
    place: str
    sentence: str


class StartError(Exception):
    """The agent cannot start; the text is a sentence that says what to do."""


class ConfigError(Exception):
    """The configuration is invalid; only editing it helps."""

    def __init__(self, errors: Sequence[str], faults: Optional[Sequence[Fault]] = None) -> None:
        super().__init__("\n".join(errors))
        #: One line for each fault.
        self.errors = tuple(errors)
        #: The same in parts, where it is known in parts.
        self.faults = tuple(Fault(None, "", one) for one in errors) if faults is None else faults

    def __reduce__(self) -> Tuple[Any, ...]:
        return (ConfigError, (self.errors, self.faults))
