"""Why a start fails."""

from __future__ import annotations


class StartFailed(Exception):
    """The agent cannot start. `is_mistake` says whether another configuration would help."""

    def __init__(self, sentence: str, is_mistake: bool = False) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.is_mistake = is_mistake
