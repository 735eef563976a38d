"""The status tree, held against the one of the specification."""

from __future__ import annotations

import copy

import pytest

from ropeway.app.control.tree import render
from ropeway.kernel import features


def connection(remote, address, **changes):
    values = {
        "link": 2,
        "remote": remote,
        "source": "192.168.18.185",
        "address": address,
        "state": 2,
        "carries": True,
        "routed": True,
        "sent": 10,
        "received": 9,
        "sent_bytes": 1000,
        "received_bytes": 900,
        "first": 5,
        "duplicates": 4,
        "heard_s": 0.123,
    }
    values.update(changes)
    return values


STATUS = {
    "version": "0.2.0",
    "device": {"name": "ropeway0", "index": 20, "mtu": 1466},
    "links": [
        {
            "index": 2,
            "name": "ens33",
            "addresses": ["192.168.18.185/24"],
            "mtu": 1500,
            "up": True,
            "send_errors": {},
        }
    ],
    "peers": [
        {
            "host": "10.0.0.2",
            "remotes": [
                {"index": 4, "address": "8.8.8.8", "origin": "configured"},
                {"index": 2, "address": "192.168.18.186", "origin": "learnt"},
            ],
            "connections": [
                connection(4, "8.8.8.8", state=0, received=0, heard_s=None, first=0, duplicates=0),
                connection(2, "192.168.18.186"),
            ],
        }
    ],
}

TREE = """\
- tun device: ropeway0(20)
- local devices:
  - ens33(2): 192.168.18.185
- remote devices:
  - 10.0.0.2:
    - 4: 8.8.8.8
    - 2: 192.168.18.186
- connections:
  - 10.0.0.2:
    - 2 -> 4 : state 0, sent 10, received 0, first 0, duplicates 0, never heard
    - 2 -> 2 : state 2, sent 10, received 9, first 5, duplicates 4, heard 0.1 s ago"""


def test_tree_of_the_specification():
    assert render(STATUS) == TREE


def test_several_routers_say_which_of_them_carry():
    status = copy.deepcopy(STATUS)
    states = [(False, False), (True, True), (True, True), (True, False)]
    status["routers"] = [
        {"host": f"10.0.0.{number}", "established": established, "carries": carries}
        for number, (established, carries) in enumerate(states, 1)
    ]
    line = "- routers: 10.0.0.1 down, 10.0.0.2 carries, 10.0.0.3 carries, 10.0.0.4 in reserve"
    assert line in render(status).splitlines()
    status["routers"] = status["routers"][1:2]
    assert "routers" not in render(status)


def test_tree_of_an_agent_that_knows_nobody():
    assert render({**STATUS, "links": [], "peers": []}) == (
        "- tun device: ropeway0(20)\n- local devices:\n- remote devices:\n- connections:"
    )


def test_interfaces_that_do_not_take_part_say_why():
    left_out = [
        {"index": index, "name": f"veth{index}", "reason": "is excluded by veth*"}
        for index in range(3, 40)
    ]
    lines = render({**STATUS, "not_taking_part": left_out}).splitlines()
    at = lines.index("- local devices that do not take part:")
    assert lines[at + 1] == "  - veth3(3): is excluded by veth*"
    assert lines[at + 16 : at + 19] == [
        "  - veth18(18): is excluded by veth*",
        "  - and 21 more, which --json shows",
        "- remote devices:",
    ]


def test_link_that_is_down_without_address_and_refused_to_send():
    status = copy.deepcopy(STATUS)
    status["links"][0].update(addresses=[], up=False, send_errors={"ENOBUFS": 3, "EAGAIN": 1})
    assert "  - ens33(2): no address, down, EAGAIN 1, ENOBUFS 3" in render(status).splitlines()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "budget 3214.0 of 5000.0 MB, 64 % until 2026-12-15"),
        ({"used_bytes": 5 * 10**9, "used_up": True},
         "budget 5000.0 of 5000.0 MB, used up until 2026-12-15"),
        ({"resets_at": None}, "budget 3214.0 of 5000.0 MB, 64 %"),
    ],
)  # fmt: skip
def test_link_with_a_budget_says_what_is_used(change, said):
    status = copy.deepcopy(STATUS)
    status["links"][0]["budget"] = {
        "used_bytes": 3214 * 10**6,
        "bytes": 5 * 10**9,
        "per": "month",
        "resets_at": "2026-12-15T00:00:00+01:00",
        "then": "last",
        "used_up": False,
        **change,
    }
    line = next(one for one in render(status).splitlines() if "budget" in one)
    assert line.endswith(", " + said)
    status["links"][0]["cost"] = 10
    assert f", cost 10, {said}" in render(status)


def test_link_that_cannot_be_used_says_why():
    status = copy.deepcopy(STATUS)
    taken = "another program has UDP port 51840 there"
    status["links"][0].update(addresses=[], unusable=taken)
    assert f"  - ens33(2): cannot be used: {taken}" in render(status).splitlines()
    status["links"][0].update(addresses=["192.168.18.185/24"])
    assert f"  - ens33(2): 192.168.18.185, cannot be used: {taken}" in render(status).splitlines()
    status["links"][0]["unusable"] = None
    assert render(status) == TREE


def test_links_that_carry_nothing_are_counted_and_say_why():
    status = copy.deepcopy(STATUS)
    down = {**status["links"][0], "index": 4, "name": "eth1", "addresses": [], "up": False}
    status["links"][0].update(carries=False, fault="it has no route to any peer")
    status["links"] += [
        {**status["links"][0], "index": 3, "name": "eth0", "carries": True, "fault": None},
        {**down, "carries": False, "fault": "it is down"},
    ]
    status["missing_links"] = [{"index": 0, "name": "wwan0", "fault": "it is not there"}]
    status["not_taking_part"] = [{"index": 7, "name": "wwan0", "reason": "is not there"}]
    lines = render(status).splitlines()
    assert lines[1:6] == [
        "- local devices: 1 of 4 links carries",
        "  - ens33(2): 192.168.18.185, carries nothing: it has no route to any peer",
        "  - eth0(3): 192.168.18.185",
        "  - eth1(4): no address, down",
        "  - wwan0: carries nothing: it is not there",
    ]
    assert lines[6] == "- remote devices:"
    status["links"][2]["carries"] = True
    assert "- local devices: 2 of 4 links carry" in render(status)


def test_host_that_is_not_reached_over_all_links_says_over_which():
    status = copy.deepcopy(STATUS)
    lacking = [{"link": 2, "fault": "no answer"}, {"link": 99, "fault": "the link is down"}]
    status["peers"][0]["links"] = {"reached": [3], "lacking": lacking}
    lines = render(status).splitlines()
    at = lines.index("  - 10.0.0.2:")
    assert lines[at + 1] == (
        "    - reached over 1 of 3 links, not over ens33(2): no answer, ?(99): the link is down"
    )
    status["peers"][0]["links"] = {"reached": [2], "lacking": []}
    assert render(status) == TREE


def test_what_a_virtual_network_does_not_carry_is_told_when_it_has_happened():
    dropped = {"multicast": 12, "broadcast": 0, "ipv6": 3, "malformed": 7}
    lines = render({**STATUS, "counters": {"dropped": dropped}}).splitlines()
    assert lines[1] == "- not carried, since only IPv4 unicast is: 12 multicast, 3 IPv6"
    nothing = dict.fromkeys(dropped, 0)
    assert render({**STATUS, "counters": {"dropped": nothing}}) == TREE


def test_connection_shows_what_share_of_its_frames_is_lost_while_it_works():
    status = copy.deepcopy(STATUS)
    spec, works = status["peers"][0]["connections"]
    spec["loss"] = works["loss"] = 0.0213
    lines = render(status).splitlines()
    assert lines[-1].endswith("heard 0.1 s ago, loss 2.1 %")
    assert "loss" not in lines[-2]


def test_link_with_several_addresses():
    status = copy.deepcopy(STATUS)
    status["links"][0]["addresses"] = ["192.168.18.185/24", "10.9.9.9/8"]
    assert "  - ens33(2): 192.168.18.185, 10.9.9.9" in render(status).splitlines()


def test_remote_interface_whose_index_is_not_known_goes_by_its_address():
    status = copy.deepcopy(STATUS)
    peer = status["peers"][0]
    peer["remotes"] = [{"index": 0, "address": "8.8.8.8", "origin": "configured"}]
    peer["connections"] = [connection(0, "8.8.8.8", state=0, routed=False, heard_s=None)]
    lines = render(status).splitlines()
    assert "    - ?: 8.8.8.8" in lines
    assert lines[-1].startswith("    - 2 -> 8.8.8.8 : state 0, ")
    assert lines[-1].endswith(", never heard, no route")


def test_connection_that_works_but_carries_nothing():
    status = copy.deepcopy(STATUS)
    status["peers"][0]["connections"] = [connection(2, "192.168.18.186", carries=False)]
    assert render(status).endswith("heard 0.1 s ago, spare")


SECURE = {
    **STATUS,
    "peers": [
        {
            "host": "10.0.0.2",
            "session": {"age_s": 61.4, "initiated": True, "rollovers": 2},
            "handshake": None,
            "endpoints": ["192.168.18.186:51840", "[2001:db8::2]:51840"],
            "announced": [{"remote": 4, "endpoint": "192.168.18.186:51840"}],
            "connections": [
                connection(
                    0, "2001:db8::2", port=51840, state=0, routed=False, heard_s=None,
                    rtt_ms=None, mtu=1500, nat=None, observed=None,
                ),
                connection(
                    4, "192.168.18.186", port=51840, rtt_ms=12.345, mtu=1492, nat=True,
                    observed="203.0.113.7:40001",
                ),
            ],
        }
    ],
}  # fmt: skip


class TestSecure:
    """What a secure network shows besides."""

    def lines(self, **changes):
        status = copy.deepcopy(SECURE)
        status["peers"][0].update(changes)
        return render(status).splitlines()

    def test_tree(self):
        assert self.lines()[3:] == [
            "- remote devices:",
            "  - 10.0.0.2: session 61 s old, rolled over 2 times",
            "    - 4: 192.168.18.186:51840",
            "    - ?: [2001:db8::2]:51840",
            "- connections:",
            "  - 10.0.0.2:",
            "    - 2 -> [2001:db8::2]:51840 : state 0, sent 10, received 9, first 5, duplicates 4,"
            " never heard, no route, mtu 1500",
            "    - 2 -> 4 : state 2, sent 10, received 9, first 5, duplicates 4, heard 0.1 s ago,"
            " rtt 12.3 ms, mtu 1492, NAT, seen as 203.0.113.7:40001",
        ]

    def test_address_that_a_host_gives_as_its_own_and_where_it_was_not_reached(self):
        places = ["192.168.18.186:51840", "[2001:db8::2]:51840", "192.168.18.77:51840"]
        announced = [{"remote": 4, "endpoint": text} for text in places]
        assert self.lines(announced=announced)[5:8] == [
            "    - 4: 192.168.18.186:51840",
            "    - ?: [2001:db8::2]:51840",
            "    - 4: 192.168.18.77:51840, announced",
        ]

    def test_names_say_what_they_lead_to(self):
        names = [
            {"name": "a.example", "port": 5, "addresses": ["192.0.2.1", "2001:db8::1"]},
            {"name": "b.example", "port": 6, "addresses": []},
        ]
        assert self.lines(names=names)[5:7] == [
            "    - a.example:5 is 192.0.2.1, 2001:db8::1",
            "    - b.example:6 does not resolve",
        ]

    def test_host_without_a_session(self):
        waits = "waiting for the other end"
        assert f"  - 10.0.0.2: no session, {waits}" in self.lines(session=None, handshake=waits)
        assert "  - 10.0.0.2: no session" in self.lines(session=None)

    def test_session_that_is_being_replaced(self):
        session = {"age_s": 3.0, "initiated": True, "rollovers": 0}
        lines = self.lines(session=session, handshake="renewing")
        assert "  - 10.0.0.2: session 3 s old, renewing" in lines


def test_tree_says_what_the_kernel_does_not_do_and_what_was_too_much():
    status = copy.deepcopy(STATUS)
    status["offload"] = {"vnet_hdr": "on", "uso": "Invalid argument", "udp_gro": "eth0: refused"}
    status["device"]["dropped"] = {"overload": 12}
    status["links"][0]["dropped"] = {"full": 1, "overload": 2}
    assert render(status).splitlines()[:4] == [
        "- tun device: ropeway0(20), overload 12",
        "- done without the kernel's help: uso Invalid argument, udp_gro eth0: refused",
        "- local devices:",
        "  - ens33(2): 192.168.18.185, full 1, overload 2",
    ]


def test_tree_is_silent_of_what_the_kernel_does_and_was_not_asked_for():
    assert render({**STATUS, "offload": {"tso": "on"}}) == TREE
    for granted in (0, 20, features.NOT_ASKED_FOR):
        assert render({**STATUS, "process": {"nice": 0, "cpu_latency_us": granted}}) == TREE


def test_tree_says_that_processors_sleep_as_they_like_where_they_should_not():
    status = {**STATUS, "process": {"cpu_latency_us": "Permission denied"}}
    line = "- done without the kernel's help: cpu_latency_us Permission denied"
    assert render(status).splitlines()[1] == line


def test_what_was_measured_of_a_path_is_told_while_the_connection_is_established():
    estimate = {"queue_ms": 41.26, "rate_kbit": 1523.4}
    status = copy.deepcopy(STATUS)
    status["peers"][0]["connections"] = [
        connection(2, "192.168.18.186", estimate=estimate),
        connection(3, "192.168.18.187", estimate=estimate, state=0),
        connection(4, "192.168.18.188", estimate={"queue_ms": None, "rate_kbit": None}),
    ]
    *_, established, silent, unknown = render(status).splitlines()
    assert "queue 41.3 ms, carries 1523 kbit/s" in established
    assert "queue" not in silent + unknown
    assert "carries" not in silent + unknown


@pytest.mark.parametrize(
    ("kbit", "sureness", "told"),
    [
        (24_310.5, "measured", "can carry 24310 kbit/s"),
        (9120.25, "at least", "can carry at least 9120 kbit/s"),
        (None, None, ""),
    ],
)
def test_what_a_connection_can_carry_is_told_with_how_sure_that_is(kbit, sureness, told):
    estimate = {"capacity_kbit": kbit, "capacity_is": sureness}
    status = copy.deepcopy(STATUS)
    status["peers"][0]["connections"] = [
        connection(2, "192.168.18.186", estimate=estimate),
        connection(3, "192.168.18.187", estimate=estimate, state=0),
    ]
    *_, established, silent = render(status).splitlines()
    assert told in established
    assert ("can carry" in established) == bool(told)
    assert "can carry" not in silent


def test_rescued_packets_of_a_host_are_told():
    status = copy.deepcopy(STATUS)
    session = {"age_s": 61, "rollovers": 2}
    status["peers"][0].update(session=session, handshake=None, rescued=17)
    assert "session 61 s old, rolled over 2 times, 17 packets rescued" in render(status)


def test_links_that_fail_together_are_named():
    status = copy.deepcopy(STATUS)
    (one,) = status["links"]
    status["links"].append({**one, "index": 9, "name": "lte1"})
    both = [one["index"], 9]
    status["joint"] = [{"links": both, "together": 0.8, "common": 8.01, "troubles": 10.02}]
    expected = f"- {one['name']} and lte1 fail together in 8 of 10 troubles"
    assert expected in render(status).splitlines()
    for unsure in (0.49, None):
        status["joint"][0]["together"] = unsure
        assert "together" not in render(status)
