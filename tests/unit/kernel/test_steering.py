"""The device's route and rules: what is there, and what is asked of the kernel."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from ropeway.kernel import nlmsg, routes, steering
from ropeway.kernel.steering import Rule, Steering
from tests.unit.kernel.fake_netlink import DONE, attribute, failure, message, number

NETWORK = "10.0.0.0/24"
CONSENT = [failure(0)]
ASIDE = Rule(NETWORK, 254, 5184, "10.0.0.57")
FIRST = Rule(NETWORK, 51840, 5185)
PLAIN = Steering(main=True, first=False)
AHEAD = Steering(main=False, first=True, rules=frozenset({ASIDE, FIRST}))


def route(network, index, table=254, type_=1, family=socket.AF_INET):
    address, length = network.split("/")
    body = struct.pack("=8BI", family, int(length), 0, 0, table & 0xFF, 2, 253, type_, 0)
    body += attribute(routes.RTA_DST, socket.inet_aton(address)) + number(routes.RTA_OIF, index)
    return message(routes.RTM_NEWROUTE, body + number(steering.RTA_TABLE, table))


def rule(network, table, priority, source="", protocol=steering.PROTOCOL, action=1):
    address, length = network.split("/")
    head = (socket.AF_INET, int(length), 32 if source else 0, 0, table & 0xFF, 0, 0, action, 0)
    body = struct.pack("=8BI", *head) + attribute(1, socket.inet_aton(address))
    if source:
        body += attribute(2, socket.inet_aton(source))
    body += number(6, priority) + number(15, table) + attribute(21, bytes([protocol]))
    return message(steering.RTM_NEWRULE, body)


OWN_RULES = rule(NETWORK, 254, 5184, "10.0.0.57") + rule(NETWORK, 51840, 5185)


def test_rules_are_wanted_only_where_addresses_overlap():
    assert steering.wanted("10.0.0.1/24", []) == PLAIN
    assert steering.wanted("10.0.0.1/24", ["10.0.0.57", "10.0.0.57"]) == AHEAD


def test_address_that_another_interface_has_too_stays_with_the_device():
    assert steering.wanted("10.0.0.1/24", ["10.0.0.1"]).rules == {FIRST}
    assert steering.wanted("10.0.0.1/24", ["10.0.0.1", "10.0.0.57"]) == AHEAD


def test_what_is_there_is_seen_and_nothing_of_others(kernel):
    made = kernel(
        [
            route(NETWORK, 20) + route(NETWORK, 2) + route("10.0.0.0/25", 20),
            route(NETWORK, 20, type_=3) + route(NETWORK, 20, table=7, family=10),
            DONE,
        ],
        [rule(NETWORK, 51840, 5185, protocol=0) + rule(NETWORK, 51840, 100),
         rule("10.0.0.0/16", 51840, 5185) + rule(NETWORK, 51840, 5185, action=6), DONE],
    )  # fmt: skip
    assert steering.look(20, NETWORK) == PLAIN
    assert made.asked[0] == (routes.RTM_GETROUTE, b"\x02" + bytes(11) + number(routes.RTA_OIF, 20))
    kernel([route(NETWORK, 20, table=51840), DONE], [OWN_RULES, DONE])
    assert steering.look(20, NETWORK) == AHEAD
    kernel([DONE], [DONE])
    assert steering.look(20, NETWORK) == Steering(main=False, first=False)


def test_new_way_stands_before_the_old_one_goes(kernel):
    made = kernel(CONSENT, CONSENT, CONSENT, CONSENT)
    steering.change(20, "10.0.0.1/24", PLAIN, AHEAD)
    asked = [kind for kind, _ in made.asked]
    assert asked == [routes.RTM_NEWROUTE, steering.RTM_NEWRULE, steering.RTM_NEWRULE,
                     steering.RTM_DELROUTE]  # fmt: skip
    assert made.asked[0][1] == bytes.fromhex("02180000 00a7fd01 00000000") + (
        attribute(1, bytes([10, 0, 0, 0]))
        + number(4, 20)
        + attribute(7, bytes([10, 0, 0, 1]))
        + number(15, 51840)
    )
    assert made.asked[1][1] == bytes.fromhex("02182000 00000001 00000000") + (
        attribute(1, bytes([10, 0, 0, 0]))
        + attribute(2, bytes([10, 0, 0, 57]))
        + number(6, 5184)
        + number(15, 254)
        + attribute(21, b"\xa7")
    )
    made = kernel(CONSENT, CONSENT, CONSENT, CONSENT)
    steering.change(20, "10.0.0.1/24", AHEAD, PLAIN)
    asked = [kind for kind, _ in made.asked]
    assert asked == [routes.RTM_NEWROUTE, steering.RTM_DELRULE, steering.RTM_DELRULE,
                     steering.RTM_DELROUTE]  # fmt: skip
    # As the kernel's own, so that it goes with the address.
    assert made.asked[0][1][4:8] == bytes([0, steering.RTPROT_KERNEL, 253, 1])


def test_only_what_differs_is_changed(kernel):
    made = kernel(CONSENT)
    steering.change(20, "10.0.0.1/24", Steering(False, True, frozenset({ASIDE})), AHEAD)
    assert [kind for kind, _ in made.asked] == [steering.RTM_NEWRULE]


def test_what_is_there_already_or_gone_is_no_error(kernel):
    made = kernel([failure(errno.EEXIST)], [failure(errno.EEXIST)], CONSENT, [failure(errno.ESRCH)])
    steering.change(20, "10.0.0.1/24", PLAIN, AHEAD)
    assert not made.answers
    made = kernel(CONSENT, [failure(errno.ENOENT)], CONSENT, CONSENT)
    steering.change(20, "10.0.0.1/24", AHEAD, PLAIN)
    assert not made.answers
    kernel(CONSENT, [failure(errno.EOPNOTSUPP)])
    with pytest.raises(OSError, match="not supported"):
        steering.change(20, "10.0.0.1/24", PLAIN, AHEAD)


def test_where_the_kernel_sends_is_asked(kernel):
    made = kernel([route("10.0.0.9/32", 20)])
    assert steering.leads_to("10.0.0.9") == 20
    assert made.asked == [
        (routes.RTM_GETROUTE, b"\x02\x20" + bytes(10) + attribute(1, bytes([10, 0, 0, 9])))
    ]
    kernel([failure(errno.ENETUNREACH)])
    assert steering.leads_to("10.0.0.9") == 0
    kernel([failure(errno.EPERM)])
    with pytest.raises(PermissionError):
        steering.leads_to("10.0.0.9")


def test_own_rules_go_on_the_way_out(kernel):
    other = rule("10.9.0.0/24", 51840, 5185)
    made = kernel([OWN_RULES + other, DONE], CONSENT, CONSENT)
    steering.remove_rules(NETWORK)
    assert [kind for kind, _ in made.asked[1:]] == [steering.RTM_DELRULE] * 2
    assert not any(bytes([10, 9, 0, 0]) in body for _, body in made.asked[1:])


def test_rules_without_a_route_in_the_table_are_left_by_a_killed_agent(kernel):
    running = rule("10.9.0.0/24", 51840, 5185)
    made = kernel(
        [OWN_RULES + running, DONE],
        [route(NETWORK, 2) + route("10.9.0.0/24", 21, table=51840), DONE],
        CONSENT,
        CONSENT,
    )
    assert steering.remove_left() == 2
    assert not any(bytes([10, 9, 0, 0]) in body for _, body in made.asked[2:])
    made = kernel([DONE])
    assert steering.remove_left() == 0
    assert not made.answers


def test_arbitrary_bytes_end(kernel):
    spoilt = nlmsg.message(steering.RTM_NEWRULE, 0, b"\x02" * 13)
    short = nlmsg.message(routes.RTM_NEWROUTE, 0, b"\x02" * 3)
    kernel([short + spoilt, DONE], [short + spoilt, DONE])
    assert steering.look(20, NETWORK) == Steering(main=False, first=False)
