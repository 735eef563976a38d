"""The core is tested without sockets, processes or a real clock."""

import socket
import subprocess
import time

import pytest


@pytest.fixture(autouse=True)
def no_outside_world(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a test of the core reached outside of it")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(time, "sleep", refuse)
