"""A control socket that answers with a recorded status, one a thread, each a second further."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any

from tests.unit.app.monitor import recorded


class FakeAgent:
    """Answers every request on `path`; `status` is what it says next."""

    def __init__(self, path: Any, status: dict[str, Any] | None = None) -> None:
        self.path = str(path)
        self.status = recorded.with_classes() if status is None else status
        #: What it says in place of a status.
        self.refusal: str | None = None
        self.requests = 0

    def __enter__(self) -> FakeAgent:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        os.unlink(self.path)

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            with channel, channel.makefile("rwb") as lines:
                for line in lines:
                    assert json.loads(line) == {"command": "status"}
                    self.requests += 1
                    lines.write(json.dumps(self._answer()).encode() + b"\n")
                    lines.flush()

    def _answer(self) -> dict[str, Any]:
        if self.refusal is not None:
            return {"ok": False, "error": self.refusal}
        self.status = recorded.a_second_later(self.status)
        return {"ok": True, "result": self.status}
