"""What the service manager is told, over a socket in a temporary folder."""

from __future__ import annotations

import logging
import os
import socket

import pytest

from ropeway.app import systemd


@pytest.fixture
def manager(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield channel


def test_assignments_arrive_in_one_datagram(manager):
    assert systemd.notify("READY=1", "STATUS=fine")
    assert manager.recv(100) == b"READY=1\nSTATUS=fine"


def test_abstract_name(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        name = f"ropeway-test-{os.getpid()}"
        channel.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert systemd.notify("STOPPING=1")
        assert channel.recv(100) == b"STOPPING=1"


def test_without_manager(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not systemd.notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "limit_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(monkeypatch, environment, limit_s):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_s() == limit_s


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.CRITICAL, "<3>one\n<3>two"),
        (logging.ERROR, "<3>one\n<3>two"),
        (logging.WARNING, "<4>one\n<4>two"),
        (logging.INFO, "<6>one\n<6>two"),
        (logging.DEBUG, "<7>one\n<7>two"),
    ],
)
def test_journal_lines_carry_their_priority(level, line):
    record = logging.LogRecord("ropeway", level, __file__, 1, "%s\ntwo", ("one",), None)
    assert systemd.JournalFormatter("%(message)s").format(record) == line
