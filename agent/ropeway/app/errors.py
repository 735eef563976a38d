"""Errors that end the agent or its start, each with sentences for the user."""

from __future__ import annotations

from typing import Any, Sequence, Tuple


class StartError(Exception):
    """The agent cannot start; the text is a sentence that says what to do."""


class ConfigError(Exception):
    """The configuration is invalid; only editing it helps."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        #: One line for each fault.
        self.errors = tuple(errors)

    def __reduce__(self) -> Tuple[Any, ...]:
        return (ConfigError, (self.errors,))
