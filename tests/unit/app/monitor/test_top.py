"""`ropeway top` beside a control socket: on a terminal, and where there is none."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ropeway.app import cli
from ropeway.app.monitor import source, terminal, top
from tests.unit.app.monitor import recorded
from tests.unit.app.monitor.fake_agent import FakeAgent
from tests.unit.app.monitor.terminals import AGENT, ENTER, HURRY, LEAVE, START, WAIT_S, Terminal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.sock"


@pytest.fixture
def hurry(monkeypatch):
    """Let the command in this process ask without a pause."""
    monkeypatch.setattr(source, "FRESH_S", 0.0)
    monkeypatch.setattr(top, "EVERY_S", 0.0)


@pytest.fixture
def on_terminal(path):
    with contextlib.ExitStack() as kept:

        def start(*arguments, **options):
            made = Terminal(str(path), *arguments, **options)
            kept.callback(made.close)
            return made

        yield start


@pytest.mark.parametrize("way", ["q", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_the_terminal_is_left_as_it_was(on_terminal, path, way):
    with FakeAgent(path):
        shown = on_terminal()
        shown.shows(b"CONNECTION")
        assert shown.raw
        assert ENTER in shown.output
        if way == "q":
            shown.keys(b"q")
        else:
            shown.process.send_signal(getattr(signal, way))
        assert shown.ended() == 0
    assert shown.as_before
    assert b"Traceback" not in shown.output


def test_the_terminal_is_left_as_it_was_by_an_error_of_the_command_itself(on_terminal, path):
    broken = "from ropeway.app.monitor import frame; frame.of = lambda *_: 1 / 0"
    with FakeAgent(path):
        shown = on_terminal(before=broken)
        assert shown.ended() == 1
    assert ENTER in shown.output
    assert b"ZeroDivisionError" in shown.output.rpartition(LEAVE)[2]
    assert shown.as_before


def test_the_terminal_is_given_back_while_the_command_is_suspended(on_terminal, path):
    with FakeAgent(path):
        shown = on_terminal()
        shown.shows(b"CONNECTION")
        shown.process.send_signal(signal.SIGTSTP)
        shown.until(lambda _: shown.as_before, "way back")
        os.waitid(os.P_PID, shown.process.pid, os.WSTOPPED | os.WNOWAIT)
        shown.process.send_signal(signal.SIGCONT)
        shown.shows(b"CONNECTION")
        assert shown.raw
        shown.keys(b"q")
        assert shown.ended() == 0
    assert shown.as_before


def test_the_agent_may_be_restarted(on_terminal, path):
    with FakeAgent(path):
        shown = on_terminal()
        shown.shows(b"CONNECTION")
    shown.shows(b"not running, waiting")
    with FakeAgent(path):
        shown.shows(b"CONNECTION")
        shown.keys(b"q")
        assert shown.ended() == 0


def test_keys_of_another_place_are_not_read(on_terminal, path):
    with FakeAgent(path), open(os.devnull, "rb") as nowhere:
        shown = on_terminal(keyboard=nowhere.fileno())
        shown.shows(b"CONNECTION")
        assert not shown.raw
        shown.process.send_signal(signal.SIGINT)
        assert shown.ended() == 0
    assert shown.as_before


def test_arrows_scroll_and_the_size_may_change(on_terminal, path):
    with FakeAgent(path, recorded.with_peers(40)):
        shown = on_terminal()
        shown.shows(b"1 to 22 of ")
        shown.keys(b"\x1b[B\x1b[Bj")
        shown.shows(b"4 to 25 of ")
        shown.keys(b"k")
        shown.shows(b"3 to 24 of ")
        shown.resize(12, 60)
        shown.process.send_signal(signal.SIGWINCH)
        shown.shows(b"3 to 12 of ")
        shown.keys(b"q")
        assert shown.ended() == 0


def test_a_request_that_is_refused_ends_it(on_terminal, path):
    with FakeAgent(path) as agent:
        agent.refusal = "you may not"
        shown = on_terminal()
        assert shown.ended() == 1
    assert b"ropeway: you may not" in shown.output.rpartition(LEAVE)[2]
    assert shown.as_before


@pytest.mark.parametrize("why", ["dumb", "no rich"])
def test_plain_text_where_nothing_else_can_be(on_terminal, path, why):
    before = HURRY + ("" if why == "dumb" else "\nsys.modules['rich'] = None")
    with FakeAgent(path):
        shown = on_terminal(before=before, term="dumb" if why == "dumb" else "xterm")
        shown.until(lambda written: written.count(b"CONNECTION") > 2, "frames")
        shown.process.send_signal(signal.SIGTERM)
        assert shown.ended() == 0
    assert b"\x1b" not in shown.output
    assert (b"python3-rich" in shown.output) == (why == "no rich")
    assert shown.as_before


def test_one_frame_on_a_terminal_has_colours_and_moves_no_cursor(on_terminal, path):
    with FakeAgent(path):
        shown = on_terminal("--once")
        assert shown.ended() == 0
    assert b"\x1b[32mcarries" in shown.output
    assert not re.sub(rb"\x1b\[[0-9;]*m", b"", shown.output).count(b"\x1b")


def test_one_frame_shows_rates(path, capsys, monkeypatch, hurry):
    monkeypatch.setenv("COLUMNS", "100")
    with FakeAgent(path) as agent:
        assert cli.main(["top", "--once", "--control", str(path)]) == 0
        assert agent.requests == 2
    lines = capsys.readouterr().out.splitlines()
    assert "voice     redundant        200  eth0, eth1" in lines
    assert lines[0].startswith("ropeway 10.0.0.1   2/3 links   1/1 hosts")
    assert max(map(len, lines)) <= 100


def test_one_frame_of_no_agent_is_an_error(path, capsys):
    assert cli.main(["top", "--once", "--control", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"ropeway: no agent answers on {path}")


def test_the_agent_is_asked_no_more_than_once_a_second(path, capsys):
    started_at = time.monotonic()
    with FakeAgent(path) as agent:
        assert cli.main(["top", "--once", "--control", str(path)]) == 0
        assert agent.requests == 2
    assert time.monotonic() - started_at >= source.FRESH_S
    assert top.EVERY_S > source.FRESH_S, "the same answer would be shown twice"


def test_who_has_seen_enough_ends_it_quietly(path):
    with FakeAgent(path):
        code = START.format(HURRY)
        command = [sys.executable, "-c", code, "top", "--control", str(path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(AGENT)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert b"ropeway 10.0.0.1" in process.stdout.readline()
            process.stdout.close()
            assert process.wait(WAIT_S) == 1
            assert process.stderr is not None
            assert process.stderr.read() == b""


def test_the_size_of_no_terminal_is_a_usual_one(tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert terminal.size_of(file) == (terminal.WIDTH, terminal.HEIGHT)
        assert not terminal.understands_codes(file)
