"""Chromium without a window, driven over the pipe of its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.system.bed.topology import Host

# https://chromedevtools.github.io/devtools-protocol/: JSON, each message ended by a zero byte; the
# browser reads descriptor 3 and writes descriptor 4 with --remote-debugging-pipe.
END = b"\0"
START_S = 30.0
SHOW_S = 15.0
LOOK_S = 0.1
#: As Debian and others call it.
NAMES = ("chromium", "chromium-browser")


def program() -> str | None:
    """Return the path of the distribution's Chromium, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


#: Puts two descriptors where the browser expects them, and becomes it.
PIPES = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page in a browser of its own, inside a host's namespace. Use it in ``with``."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._received = b""
        #: What the browser complained of: errors of scripts, refused resources.
        self.complaints: list[str] = []

    def __enter__(self) -> Browser:
        chromium = program()
        assert chromium is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--hide-scrollbars", "--no-proxy-server",
            f"--user-data-dir={self._directory}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        start = [sys.executable, "-c", PIPES, str(to_read), str(to_write), chromium, *options]
        self._process = subprocess.Popen(
            self._host.command(*start),
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self._directory)},
        )
        os.close(to_read)
        os.close(to_write)
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """Have a screen of that size, in pixels of the style sheet."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return what a script gives, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a script gives something true."""
        end = time.monotonic() + SHOW_S
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"not true: {expression}; {self.complaints}"
            self._listen(LOOK_S)

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + END)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            for reply in self._listen(end - time.monotonic()):
                if reply.get("id") == number:
                    assert "error" not in reply, (method, reply["error"])
                    result: dict[str, Any] = reply["result"]
                    return result
        raise AssertionError(f"the browser does not answer {method}")

    def _listen(self, wait_s: float) -> list[dict[str, Any]]:
        """Return what has come, and note complaints among it."""
        if select.select([self._from], [], [], max(0.0, wait_s))[0]:
            more = os.read(self._from, 1 << 20)
            assert more, "the browser has ended"
            self._received += more
        *messages, self._received = self._received.split(END)
        replies = [json.loads(message) for message in messages]
        for reply in replies:
            self._note(reply.get("method"), reply.get("params", {}))
        return replies

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
