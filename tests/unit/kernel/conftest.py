"""A kernel behind netlink that answers as the test says."""

from __future__ import annotations

import pytest

from ropeway.kernel import nlmsg
from tests.unit.kernel.fake_netlink import Kernel


@pytest.fixture
def kernel(monkeypatch):
    """Put a kernel in place that gives a list of replies for each request, in turn."""

    def install(*answers):
        made = Kernel(*answers)
        monkeypatch.setattr(nlmsg.socket, "socket", made)
        return made

    return install
