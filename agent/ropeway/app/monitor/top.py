"""The command `ropeway top`: the status of a running agent, once a second, in the terminal."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from typing import Any, Awaitable, Callable, Optional, Set, TextIO

from ropeway.app.monitor import frame, terminal
from ropeway.app.monitor.history import History
from ropeway.app.monitor.lines import Look, Piece
from ropeway.app.monitor.source import FRESH_S, Answer, Source, over

EVERY_S = FRESH_S + 0.02
"""Pause between statuses; the source asks the agent no sooner than after its own."""
PLAIN_WIDTH = 120
"""Of lines that go to no terminal, unless COLUMNS says otherwise."""

EXIT_OK = 0
EXIT_FAILED = 1


def run(control: str, once: bool) -> int:
    """Show the agent on the socket `control`, for a second or until stopped; return the exit code.

    ``once`` prints one frame.
    """
    output = sys.stdout
    codes = terminal.understands_codes(output)
    paint = terminal.rich_paint() if codes else None
    if codes and paint is None and not once:
        print(
            "ropeway: the library Rich is missing, so this is plain text: install the package"
            " python3-rich",
            file=sys.stderr,
        )
    view = View(terminal.blocks_of(output))
    if once:
        return asyncio.run(_once(control, view, paint or terminal.plain, output))
    if paint is None:
        return asyncio.run(_plain(control, view, output))
    return asyncio.run(_live(control, view, terminal.Screen(paint, output)))


class View:
    """What is shown now, of the newest answer."""

    def __init__(self, blocks: str) -> None:
        self._blocks = blocks
        self._history = History()
        self._answer: Optional[Answer] = None
        self.offset = 0

    def take(self, answer: Answer) -> None:
        """Take what the agent answered, or why it did not."""
        self._answer = answer
        if answer.fault is None:
            self._history.take(answer.status)

    def frame(self, width: int) -> frame.Frame:
        """Return the lines for `width` columns."""
        if self._answer is None:
            return frame.Frame([[Piece("ropeway: asking the agent", Look.FAINT)]], [])
        if self._answer.fault is not None:
            return frame.waiting(self._answer.fault, width)
        return frame.of(self._answer.status, self._history, width, self._blocks)

    def page(self, width: int, height: int) -> Any:
        """Return at most `height` lines from where it was scrolled to."""
        lines, self.offset = frame.page(self.frame(width), self.offset, height, width)
        return lines


def _failed(answer: Answer) -> int:
    print(f"ropeway: {answer.fault}", file=sys.stderr)
    return EXIT_FAILED


async def _once(control: str, view: View, paint: terminal.Paint, output: TextIO) -> int:
    source = Source(over(control))
    for pause_s in (0.0, EVERY_S):
        await asyncio.sleep(pause_s)
        answer = await source.answer()
        if answer.fault is not None:
            return _failed(answer)
        view.take(answer)
    _print(view, paint, output)
    return EXIT_OK


def _print(view: View, paint: terminal.Paint, output: TextIO) -> None:
    width = shutil.get_terminal_size((PLAIN_WIDTH, terminal.HEIGHT)).columns
    terminal.write(output, "\n".join(paint(view.frame(width).whole(), width)) + "\n")


class Wake:
    """Ends a wait, for signals and keys."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.stopped = False
        self.suspended = False

    def now(self) -> None:
        """End the wait."""
        self._event.set()

    def stop(self) -> None:
        """End the command."""
        self.stopped = True
        self._event.set()

    def suspend(self) -> None:
        """Stop the process until somebody continues it."""
        self.suspended = True
        self._event.set()

    async def wait(self) -> None:
        """Wait until something has happened."""
        await self._event.wait()
        self._event.clear()


async def _frames(
    control: str, wake: Wake, show: Callable[[Optional[Answer]], Optional[int]]
) -> int:
    """Call `show` with each answer, and with None after each wake, until it gives an exit code."""
    source = Source(over(control))
    answering: Awaitable[Answer] = asyncio.ensure_future(source.answer())
    waking: Awaitable[None] = asyncio.ensure_future(wake.wait())
    while True:
        both: Set[Any] = {answering, waking}
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        answer = None
        if answering in done:
            answer = await answering
            answering = asyncio.ensure_future(_later(source))
        if waking in done:
            waking = asyncio.ensure_future(wake.wait())
        code = EXIT_OK if wake.stopped else show(answer)
        if code is not None:
            return code


async def _later(source: Source) -> Answer:
    await asyncio.sleep(EVERY_S)
    return await source.answer()


def _stop_on_signals(wake: Wake) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        loop.add_signal_handler(number, wake.stop)


async def _plain(control: str, view: View, output: TextIO) -> int:
    wake = Wake()
    _stop_on_signals(wake)
    first = True

    def show(answer: Optional[Answer]) -> Optional[int]:
        nonlocal first
        if answer is None:
            return None
        if first and answer.refused:
            return _failed(answer)
        view.take(answer)
        if not first:
            terminal.write(output, "\n")
        first = False
        _print(view, terminal.plain, output)
        return None

    return await _frames(control, wake, show)


async def _live(control: str, view: View, screen: terminal.Screen) -> int:
    wake, keys = Wake(), terminal.Keys()
    loop = asyncio.get_running_loop()
    # Before the terminal is changed, so that no signal comes too early for it to be given back.
    _stop_on_signals(wake)
    loop.add_signal_handler(signal.SIGWINCH, wake.now)
    loop.add_signal_handler(signal.SIGTSTP, wake.suspend)
    refused: Optional[Answer] = None
    answered = False

    def typed() -> None:
        data = screen.read()
        keys.feed(data)
        if keys.quit or not data:
            wake.stop()
        else:
            wake.now()

    def show(answer: Optional[Answer]) -> Optional[int]:
        nonlocal refused, answered
        if answer is not None:
            if answer.refused and not answered:
                refused = answer
                return EXIT_FAILED
            answered = True
            view.take(answer)
        if wake.suspended:
            wake.suspended = False
            screen.leave()
            os.kill(os.getpid(), signal.SIGSTOP)
            screen.enter()
        width, height = screen.size()
        view.offset += keys.scrolled(max(1, height - 4))
        screen.draw(view.page(width, height))
        return None

    with screen:
        if screen.keyboard is not None:
            loop.add_reader(screen.keyboard, typed)
        wake.now()
        code = await _frames(control, wake, show)
    if refused is not None:
        return _failed(refused)
    return code
