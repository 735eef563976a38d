"""A terminal with `ropeway top` on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Callable

AGENT = Path(__file__).parents[4] / "agent"
ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
#: A bound on waiting, no bar.
WAIT_S = 30.0
#: Starts the command with something else broken or hurried first.
START = "import sys\n{}\nfrom ropeway.app.cli import main\nsys.exit(main(sys.argv[1:]))"
HURRY = "from ropeway.app.monitor import source; source.FRESH_S = 0.05"
STYLING = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A terminal with the command on it."""

    def __init__(
        self,
        path: str,
        *arguments: str,
        before: str = HURRY,
        term: str = "xterm-256color",
        size: tuple[int, int] = (24, 100),
        keyboard: int | None = None,
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        environment = {**os.environ, "PYTHONPATH": str(AGENT), "TERM": term}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "PYTHONIOENCODING"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", START.format(before), "top", "--control", path, *arguments],
            stdin=self.slave if keyboard is None else keyboard,
            stdout=self.slave,
            stderr=self.slave,
            env={**environment, "PYTHONUTF8": "1"},
            start_new_session=True,
        )

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, wait_s: float) -> None:
        if select.select([self.master], [], [], wait_s)[0]:
            self.output += os.read(self.master, 65536)

    def until(self, met: Callable[[bytes], object], what: object) -> bytes:
        """Wait until `met` of what is written from now on; return that."""
        end = time.monotonic() + WAIT_S
        start = len(self.output)
        while not met(self.output[start:]):
            assert time.monotonic() < end, f"no {what} in {self.output[-2000:]!r}"
            self.read(0.1)
        return self.output[start:]

    def shows(self, text: bytes) -> bytes:
        return self.until(lambda written: text in written, text)

    def keys(self, data: bytes) -> None:
        os.write(self.master, data)

    def ended(self) -> int | None:
        """Wait for the end; return the exit code."""
        self.until(lambda _: self.process.poll() is not None, "end")
        self.read(0.0)
        return self.process.returncode

    def frame(self) -> list[str]:
        """Return the lines of the last whole frame, without looks."""
        frames = self.output.decode(errors="replace").split("\x1b[H\x1b[K")
        return [STYLING.sub("", line).rstrip() for line in frames[-2].split("\r\n\x1b[K")]

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    @property
    def as_before(self) -> bool:
        """Say whether modes, cursor and screen are as they were."""
        return termios.tcgetattr(self.slave) == self.before and (
            self.output.count(ENTER) == self.output.count(LEAVE)
        )

    def close(self) -> None:
        """End the command, and remove the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)
