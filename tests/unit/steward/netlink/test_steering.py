"""The device's route and rules: what is there, and what is asked of the kernel."""

from __future__ import annotations

import errno
import socket

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_DELRULE, RTM_NEWROUTE, RTM_NEWRULE

from ropeway.steward.netlink import steering
from ropeway.steward.netlink.steering import Rule, Steering

NETWORK = "10.0.0.0/24"
ASIDE = Rule(NETWORK, 254, 5184, "10.0.0.57")
FIRST = Rule(NETWORK, 51840, 5185)
PLAIN = Steering(main=True, first=False)
AHEAD = Steering(main=False, first=True, rules=frozenset({ASIDE, FIRST}))


def route(network, index, table=254, type_=1, family=socket.AF_INET):
    address, length = network.split("/")
    return {
        "family": family,
        "dst_len": int(length),
        "type": type_,
        "table": table & 0xFF,
        "attrs": [("RTA_DST", address), ("RTA_OIF", index), ("RTA_TABLE", table)],
    }


def rule(network, table, priority, source="", protocol=steering.PROTOCOL, action=1):
    address, length = network.split("/")
    attributes = [
        ("FRA_DST", address),
        ("FRA_PRIORITY", priority),
        ("FRA_TABLE", table),
        ("FRA_PROTOCOL", protocol),
    ]
    if source:
        attributes.append(("FRA_SRC", source))
    return {
        "family": socket.AF_INET,
        "dst_len": int(length),
        "src_len": 32 if source else 0,
        "table": table & 0xFF,
        "action": action,
        "attrs": attributes,
    }


OWN_RULES = [rule(NETWORK, 254, 5184, "10.0.0.57"), rule(NETWORK, 51840, 5185)]


def kinds(made):
    return [kind for kind, _, _ in made.asked]


def test_rules_are_wanted_only_where_addresses_overlap():
    assert steering.wanted("10.0.0.1/24", []) == PLAIN
    assert steering.wanted("10.0.0.1/24", ["10.0.0.57", "10.0.0.57"]) == AHEAD


def test_address_that_another_interface_has_too_stays_with_the_device():
    assert steering.wanted("10.0.0.1/24", ["10.0.0.1"]).rules == {FIRST}
    assert steering.wanted("10.0.0.1/24", ["10.0.0.1", "10.0.0.57"]) == AHEAD


def test_what_is_there_is_seen_and_nothing_of_others(kernel):
    made = kernel(
        [route(NETWORK, 2), route("10.0.0.0/25", 20), route(NETWORK, 20)],
        [route(NETWORK, 20, table=7), route(NETWORK, 20, table=51840, type_=3)],
        [
            rule(NETWORK, 51840, 5185, protocol=0),
            rule(NETWORK, 51840, 100),
            rule("10.0.0.0/16", 51840, 5185),
            rule(NETWORK, 51840, 5185, action=6),
        ],
    )
    assert steering.look(20, NETWORK) == PLAIN
    # The kernel chooses: a host with a full routing table lists one route.
    assert [attributes for _, _, attributes in made.asked[:2]] == [
        {"RTA_TABLE": 254, "RTA_OIF": 20},
        {"RTA_TABLE": 51840, "RTA_OIF": 20},
    ]
    kernel([], [route(NETWORK, 20, table=51840)], OWN_RULES)
    assert steering.look(20, NETWORK) == AHEAD
    kernel([], [], [])
    assert steering.look(20, NETWORK) == Steering(main=False, first=False)


def test_new_way_stands_before_the_old_one_goes(kernel):
    made = kernel([], [], [], [])
    steering.change(20, "10.0.0.1/24", PLAIN, AHEAD)
    assert kinds(made) == [RTM_NEWROUTE, RTM_NEWRULE, RTM_NEWRULE, RTM_DELROUTE]
    assert made.asked[0][1:] == (
        {"family": 2, "dst_len": 24, "proto": 167, "scope": 253, "type": 1},
        {"RTA_DST": "10.0.0.0", "RTA_OIF": 20, "RTA_PREFSRC": "10.0.0.1", "RTA_TABLE": 51840},
    )
    assert made.asked[1][1:] == (
        {"family": 2, "dst_len": 24, "src_len": 32, "action": 1},
        {
            "FRA_DST": "10.0.0.0",
            "FRA_SRC": "10.0.0.57",
            "FRA_PRIORITY": 5184,
            "FRA_TABLE": 254,
            "FRA_PROTOCOL": 167,
        },
    )
    made = kernel([], [], [], [])
    steering.change(20, "10.0.0.1/24", AHEAD, PLAIN)
    assert kinds(made) == [RTM_NEWROUTE, RTM_DELRULE, RTM_DELRULE, RTM_DELROUTE]
    # As the kernel's own, so that it goes with the address.
    assert made.asked[0][1]["proto"] == steering.RTPROT_KERNEL


def test_only_what_differs_is_changed(kernel):
    made = kernel([])
    steering.change(20, "10.0.0.1/24", Steering(False, True, frozenset({ASIDE})), AHEAD)
    assert kinds(made) == [RTM_NEWRULE]


def test_what_is_there_already_or_gone_is_no_error(kernel):
    there, gone = NetlinkError(errno.EEXIST), NetlinkError(errno.ESRCH)
    made = kernel(there, there, [], gone)
    steering.change(20, "10.0.0.1/24", PLAIN, AHEAD)
    assert not made.answers
    made = kernel([], NetlinkError(errno.ENOENT), [], [])
    steering.change(20, "10.0.0.1/24", AHEAD, PLAIN)
    assert not made.answers
    kernel([], NetlinkError(errno.EOPNOTSUPP))
    with pytest.raises(OSError, match="not supported"):
        steering.change(20, "10.0.0.1/24", PLAIN, AHEAD)


def test_own_rules_go_on_the_way_out(kernel):
    made = kernel([*OWN_RULES, rule("10.9.0.0/24", 51840, 5185)], [], [])
    steering.remove_rules(NETWORK)
    assert kinds(made)[1:] == [RTM_DELRULE] * 2
    assert all(attributes["FRA_DST"] == "10.0.0.0" for _, _, attributes in made.asked[1:])


def test_rules_without_a_route_in_the_table_are_left_by_a_killed_agent(kernel):
    running = rule("10.9.0.0/24", 51840, 5185)
    made = kernel([*OWN_RULES, running], [route("10.9.0.0/24", 21, table=51840)], [], [])
    assert steering.remove_left() == 2
    assert all(attributes["FRA_DST"] == "10.0.0.0" for _, _, attributes in made.asked[2:])
    made = kernel([])
    assert steering.remove_left() == 0
    assert not made.answers
