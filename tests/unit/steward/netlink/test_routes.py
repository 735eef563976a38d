"""How far addresses are reached, by what the kernel answers."""

from __future__ import annotations

import errno

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from ropeway.steward.netlink import routes


def answer(*attributes, type_=1):
    return [{"type": type_, "attrs": list(attributes)}]


def refusal(code):
    return NetlinkError(code)


def test_where_the_kernel_sends_is_asked(kernel):
    made = kernel(answer(("RTA_OIF", 20)))
    assert routes.leads_to("10.0.0.9") == 20
    assert made.asked[0][1:] == ({"family": 2, "dst_len": 32}, {"RTA_DST": "10.0.0.9"})
    kernel(refusal(errno.ENETUNREACH))
    assert routes.leads_to("10.0.0.9") == 0
    kernel(refusal(errno.EPERM))
    with pytest.raises(PermissionError):
        routes.leads_to("10.0.0.9")


def test_way_back_is_the_one_from_the_own_address(kernel):
    made = kernel(answer(("RTA_OIF", 3)))
    assert routes.leads_to("203.0.113.5", "192.168.0.2") == 3
    assert made.asked[0][2] == {"RTA_DST": "203.0.113.5", "RTA_SRC": "192.168.0.2"}


def test_entry_that_matches_is_asked_for_by_interface_and_source(kernel):
    made = kernel(answer(("RTA_OIF", 3)))
    assert routes.source_by(3, "203.0.113.5", "192.168.0.2") == "192.168.0.2"
    assert made.asked[0][1:] == (
        {"family": 2, "dst_len": 32, "src_len": 32, "flags": routes.RTM_F_FIB_MATCH},
        {"RTA_DST": "203.0.113.5", "RTA_SRC": "192.168.0.2", "RTA_OIF": 3},
    )


def test_source_that_the_route_names_is_preferred(kernel):
    kernel(answer(("RTA_OIF", 3), ("RTA_PREFSRC", "192.168.0.7")))
    assert routes.source_by(3, "203.0.113.5", "192.168.0.2") == "192.168.0.7"


@pytest.mark.parametrize(
    "found",
    [
        refusal(errno.EHOSTUNREACH),
        refusal(errno.ENETUNREACH),
        refusal(errno.EINVAL),
        answer(("RTA_OIF", 4)),
        answer(("RTA_OIF", 3), type_=7),
        answer(("RTA_MULTIPATH", [{"oif": 4}, {"oif": 5}])),
        answer(),
    ],
)
def test_no_route_by_the_interface(kernel, found):
    kernel(found)
    assert routes.source_by(3, "203.0.113.5", "192.168.0.2") is None


def test_one_of_several_ways_is_a_route(kernel):
    kernel(answer(("RTA_MULTIPATH", [{"oif": 4}, {"oif": 3}])))
    assert routes.source_by(3, "2001:db8::1", "2001:db8:1::2") == "2001:db8:1::2"
