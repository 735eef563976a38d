"""Settings of the kernel, and its answers by netlink, as a test says."""

from __future__ import annotations

import pytest

from ropeway.steward import sysctl
from ropeway.steward.netlink import requests


@pytest.fixture
def sysctls(monkeypatch, tmp_path):
    """Have a setting stand for all interfaces and for eth0, where it is not None."""
    monkeypatch.setattr(sysctl, "SYSCTLS", str(tmp_path))

    def install(key, all_, own):
        for name, value in (("all", all_), ("eth0", own)):
            if value is not None:
                (tmp_path / name).mkdir()
                (tmp_path / name / key).write_text(f"{value}\n")

    return install


class FakeConnection:
    """Gives a list of messages for each request in turn, or raises what stands there instead."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def nlm_request(self, message, msg_type, msg_flags):
        about = {field[0]: message[field[0]] for field in message.fields if message[field[0]]}
        self.asked.append((msg_type, about, dict(message["attrs"])))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return iter(answer)


@pytest.fixture
def kernel(monkeypatch):
    """Put a kernel in place that gives a list of messages for each request, in turn."""

    def install(*answers):
        made = FakeConnection(*answers)
        monkeypatch.setattr(requests, "connection", lambda: made)
        return made

    return install
