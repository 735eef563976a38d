"""A kernel behind netlink that answers as the test says."""

from __future__ import annotations

import pytest

from ropeway.kernel import nlmsg, sysctl
from tests.unit.kernel.fake_netlink import Kernel


@pytest.fixture
def kernel(monkeypatch):
    """Put a kernel in place that gives a list of replies for each request, in turn."""

    def install(*answers):
        made = Kernel(*answers)
        monkeypatch.setattr(nlmsg.socket, "socket", made)
        return made

    return install


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
