"""What is written to a terminal, and what comes from it."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from ropeway.app.monitor import frame, terminal
from ropeway.app.monitor.lines import ASCII_BLOCKS, BLOCKS, Look, Piece, text_of
from tests.unit.app.monitor import recorded
from tests.unit.app.monitor.test_frame import seen

STYLING = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def paint(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = terminal.rich_paint()
    assert found is not None
    return found


@pytest.mark.parametrize("width", [40, 120])
@pytest.mark.parametrize("count", [1, 12, 40])
def test_rich_shows_the_same_text_as_plain(paint, count, width):
    lines = seen(recorded.with_peers(count), width).whole()
    plain = terminal.plain(lines, width)
    assert [STYLING.sub("", line).rstrip() for line in paint(lines, width)] == plain
    assert not any("\x1b" in line for line in plain)


def test_rich_shows_colours_unless_told_not_to(paint, monkeypatch):
    line = [Piece("fine", Look.GOOD), Piece(" [bold]:smile: 10.0.0.1", Look.PLAIN)]
    (shown,) = paint([line], 40)
    assert shown.startswith("\x1b[32mfine\x1b[0m")
    assert "[bold]:smile: 10.0.0.1" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint([line], 40) == ["fine [bold]:smile: 10.0.0.1"]


@pytest.mark.parametrize("how", ["rich", "plain"])
def test_nothing_of_a_hostile_status_is_a_control_code(paint, how):
    shown = [*seen(recorded.hostile(), 120).whole(), *frame.waiting("\x1b[2J\x9b2J\a", 9).whole()]
    for text in (paint if how == "rich" else terminal.plain)(shown, 120):
        assert STYLING.sub("", text).isprintable()


def test_no_rich_is_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert terminal.rich_paint() is None


def test_the_command_loads_rich_for_nothing_else():
    code = (
        "import sys; from ropeway.app import cli; from ropeway.app.engine import engine\n"
        "try: cli.main(['status', '--control', '/none'])\n"
        "finally: print([name for name in sys.modules if name.partition('.')[0] == 'rich'])"
    )
    path = str(terminal.__file__).rsplit("/ropeway/", 1)[0]
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": path}
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize(
    ("encoding", "blocks"), [("utf-8", BLOCKS), ("ascii", ASCII_BLOCKS), ("latin-1", ASCII_BLOCKS)]
)
def test_a_terminal_gets_only_what_its_encoding_has(encoding, blocks):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    assert terminal.blocks_of(file) == blocks
    terminal.write(file, "▁ü")
    assert raw.getvalue() == "▁ü".encode(encoding, "replace")


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        (b"jjk", 1),
        (b"\x1b[B\x1b[B\x1bOB\x1b[A\x1bOA", 1),
        (b" \x1b[6~", 20),
        (b"\x1b[5~", -10),
        (b"xyz\x1b[Zj", 1),
        (b"\xff\x00\x1b", 0),
        (b"", 0),
    ],
)
def test_keys_that_scroll(typed, lines):
    keys = terminal.Keys()
    keys.feed(typed)
    assert keys.scrolled(10) == lines
    assert keys.scrolled(10) == 0
    assert not keys.quit


@pytest.mark.parametrize("typed", [b"q", b"Q", b"jq", b"\x1b[Bq"])
def test_keys_that_quit(typed):
    keys = terminal.Keys()
    keys.feed(typed)
    assert keys.quit


def test_lines_replace_what_is_shown():
    output = io.StringIO()
    terminal.Screen(terminal.plain, output).draw([[Piece("one")], [], [Piece("two")]])
    assert output.getvalue() == "\x1b[H\x1b[Kone\r\n\x1b[K\r\n\x1b[Ktwo"


def test_a_look_has_a_style():
    assert set(terminal._STYLES) == set(Look)
    assert text_of([Piece("a "), Piece("b  ")]) == "a b"
