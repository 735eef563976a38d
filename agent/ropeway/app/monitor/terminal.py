"""The terminal of `ropeway top`: its modes, its keys, and what is written to it.

Everything that changes the terminal is undone by `Screen.leave`, however the command ends.
"""

from __future__ import annotations

import io
import os
import sys
import termios
import tty
from typing import Any, Callable, Dict, List, Optional, Sequence, TextIO, Tuple

from ropeway.app.monitor.lines import ASCII_BLOCKS, BLOCKS, Line, Look, text_of

WIDTH, HEIGHT = 80, 24
"""Of a terminal that does not tell its size."""
READ_BYTES = 1024

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _EMPTY_LINE = "\x1b[H", "\x1b[K"

#: How far a key scrolls: lines, and pages.
_SCROLLS: Dict[bytes, Tuple[int, int]] = {
    b"j": (1, 0),
    b"k": (-1, 0),
    b"\x1b[B": (1, 0),
    b"\x1b[A": (-1, 0),
    b"\x1bOB": (1, 0),
    b"\x1bOA": (-1, 0),
    b" ": (0, 1),
    b"\x1b[6~": (0, 1),
    b"\x1b[5~": (0, -1),
}
_QUITS = (b"q", b"Q")

_STYLES = {
    Look.PLAIN: "",
    Look.TITLE: "reverse",
    Look.STRONG: "bold",
    Look.GOOD: "green",
    Look.WARNING: "yellow",
    Look.BAD: "bold red",
    Look.FAINT: "dim",
    Look.CURVE: "cyan",
}

#: Makes text for a terminal of lines, for a width.
Paint = Callable[[Sequence[Line], int], List[str]]


def plain(lines: Sequence[Line], _width: int) -> List[str]:
    """Return lines without any control codes."""
    return [text_of(line) for line in lines]


def rich_paint() -> Optional[Paint]:
    """Return what paints with the library Rich; None where it is not installed."""
    try:
        # Nothing else of ropeway needs it.
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return None

    def paint(lines: Sequence[Line], width: int) -> List[str]:
        file = io.StringIO()
        console: Any = Console(
            file=file,
            width=width,
            height=len(lines) + 1,
            force_terminal=True,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )
        for line in lines:
            text = Text(no_wrap=True, overflow="crop")
            for piece in line:
                text.append(piece.text, _STYLES[piece.look])
            console.print(text)
        return file.getvalue().split("\n")[: len(lines)]

    return paint


def blocks_of(file: TextIO) -> str:
    """Return what curves are drawn with on `file`."""
    try:
        BLOCKS.encode(file.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_BLOCKS
    return BLOCKS


def size_of(file: TextIO) -> Tuple[int, int]:
    """Return columns and lines of a terminal."""
    try:
        width, height = os.get_terminal_size(file.fileno())
    except (OSError, ValueError):
        return WIDTH, HEIGHT
    return width or WIDTH, height or HEIGHT


def understands_codes(file: TextIO) -> bool:
    """Tell whether `file` is a terminal whose cursor can be moved."""
    return file.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def write(file: TextIO, text: str) -> None:
    """Write `text`, with marks in place of what the terminal's encoding lacks."""
    encoding = file.encoding or "ascii"
    file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()


class Keys:
    """Keys as bytes come: how far to scroll, and whether to quit."""

    def __init__(self) -> None:
        #: Lines and pages to scroll that nobody has asked for yet.
        self._lines = self._pages = 0
        self.quit = False

    def feed(self, data: bytes) -> None:
        """Take what was typed. What is no key that means something is passed over."""
        while data:
            for key, (lines, pages) in _SCROLLS.items():
                if data.startswith(key):
                    self._lines += lines
                    self._pages += pages
                    data = data[len(key) :]
                    break
            else:
                self.quit = self.quit or data.startswith(_QUITS)
                data = data[1:]

    def scrolled(self, page: int) -> int:
        """Return by how many lines to scroll since the last time, with pages of `page` lines."""
        lines = self._lines + self._pages * page
        self._lines = self._pages = 0
        return lines


class Screen:
    """A terminal that is drawn on as a whole, and that gets back what was on it."""

    def __init__(self, paint: Paint, output: TextIO = sys.stdout) -> None:
        self._paint = paint
        self._output = output
        self._modes: Optional[List[Any]] = None
        self._entered = False
        #: Where keys come from; None if standard input is no terminal.
        self.keyboard: Optional[int] = None

    def __enter__(self) -> Screen:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal: another screen, no cursor, and keys as they are typed."""
        if sys.stdin is not None and sys.stdin.isatty():
            self.keyboard = sys.stdin.fileno()
            self._modes = termios.tcgetattr(self.keyboard)
            tty.setcbreak(self.keyboard)
        self._entered = True
        write(self._output, _ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was."""
        try:
            if self._entered:
                self._entered = False
                write(self._output, _LEAVE)
        finally:
            if self.keyboard is not None and self._modes is not None:
                termios.tcsetattr(self.keyboard, termios.TCSADRAIN, self._modes)
                self._modes = None

    def read(self) -> bytes:
        """Return what was typed; nothing if the terminal has gone."""
        assert self.keyboard is not None
        try:
            return os.read(self.keyboard, READ_BYTES)
        except OSError:
            return b""

    def size(self) -> Tuple[int, int]:
        """Return columns and lines."""
        return size_of(self._output)

    def draw(self, lines: Sequence[Line]) -> None:
        """Show `lines`, as many as the terminal has, in place of what is shown."""
        painted = self._paint(lines, self.size()[0])
        # Each line is emptied first: at its end the cursor may still be on its last character.
        write(self._output, _HOME + "\r\n".join(_EMPTY_LINE + line for line in painted))
