"""Requests over netlink: errors are `OSError`, and a torn dump is made again."""

from __future__ import annotations

import errno

import pytest
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ropeway.steward.netlink import device, requests


def test_torn_dump_is_made_again(kernel):
    kernel(NetlinkDumpInterrupted(), NetlinkDumpInterrupted(), [{"index": 1}])
    assert requests.dump(ifinfmsg(), RTM_GETLINK, "network interfaces") == [{"index": 1}]


def test_dump_that_is_always_torn_is_an_error(kernel):
    kernel(*[NetlinkDumpInterrupted()] * requests.DUMP_TRIES)
    with pytest.raises(OSError, match="network interfaces change all the time"):
        requests.dump(ifinfmsg(), RTM_GETLINK, "network interfaces")


def test_what_the_kernel_refuses_has_its_number_and_text(kernel):
    kernel(NetlinkError(errno.EPERM))
    with pytest.raises(PermissionError, match="not permitted"):
        requests.request(ifinfmsg(), RTM_DELLINK)


def test_deleting_what_is_gone_is_no_error(kernel):
    kernel(NetlinkError(errno.ENODEV))
    device.delete(7)
    kernel(NetlinkError(errno.EBUSY))
    with pytest.raises(OSError, match="busy"):
        device.delete(7)


def test_device_on_a_kernel_without_ipv6_is_configured(kernel):
    made = kernel(NetlinkError(errno.EAFNOSUPPORT), [], NetlinkError(errno.EINVAL), [])
    device.configure(7, "10.0.0.1/24", 1400, "ropeway")
    assert not made.answers
