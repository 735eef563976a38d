"""Answers of the control socket, at once or later."""

from __future__ import annotations

import json
from typing import Any, Callable, Optional

REASON_RESTART = "restart"
"""The `reason` where only a restart of the agent can do what was asked for."""


class Refusal(ValueError):
    """A request that cannot be met, for a `reason` that the client can tell from others."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Later:
    """An answer that is still being made; its client waits, nobody else does."""

    def __init__(self) -> None:
        self._deliver: Optional[Callable[[bytes], None]] = None

    def give(self, result: Any) -> None:
        """Answer the client with `result`."""
        self._send(success(result))

    def refuse(self, error: ValueError) -> None:
        """Tell the client why there is no answer."""
        self._send(refusal(error))

    def to(self, deliver: Callable[[bytes], None]) -> None:
        """Name the function that takes the reply."""
        self._deliver = deliver

    def _send(self, reply: bytes) -> None:
        if self._deliver is not None:
            self._deliver(reply)


def success(result: Any) -> bytes:
    """Return the line that answers a request with `result`."""
    return json.dumps({"ok": True, "result": result}).encode() + b"\n"


def refusal(error: ValueError) -> bytes:
    """Return the line that says why a request is refused."""
    if isinstance(error, Refusal):
        reply = {"ok": False, "error": str(error), "reason": error.reason}
        return json.dumps(reply).encode() + b"\n"
    return error_reply(str(error))


def error_reply(sentence: str) -> bytes:
    """Return the line that answers a request with an error."""
    return json.dumps({"ok": False, "error": sentence}).encode() + b"\n"
