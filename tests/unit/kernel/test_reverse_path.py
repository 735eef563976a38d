"""Where the kernel drops what arrives, because of the way back."""

from __future__ import annotations

import socket
import struct

import pytest

from ropeway.kernel import reverse_path, routes
from tests.unit.kernel.fake_netlink import attribute, message, number


@pytest.mark.parametrize(
    ("all_", "own", "strict"),
    [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True), (2, 1, False), (1, 2, False),
     (0, None, False), (1, None, True), ("x", 0, False)],
)  # fmt: skip
def test_larger_value_counts(sysctls, all_, own, strict):
    sysctls("rp_filter", all_, own)
    assert reverse_path.is_strict("eth0") is strict


def test_way_back_is_the_one_from_the_own_address(kernel):
    body = struct.pack("=8BI", socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0)
    made = kernel([message(routes.RTM_NEWROUTE, body + number(routes.RTA_OIF, 3))])
    assert reverse_path.way_back("192.168.0.2", "203.0.113.5") == 3
    assert made.asked == [
        (
            routes.RTM_GETROUTE,
            b"\x02\x20\x20" + bytes(9)
            + attribute(1, socket.inet_aton("203.0.113.5"))
            + attribute(2, socket.inet_aton("192.168.0.2")),
        )
    ]  # fmt: skip
