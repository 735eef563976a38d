"""Orders of the engine, which the steward takes only in their form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.steward import orders

WISH = orders.Wish(
    device_index=7,
    devices_received=1,
    device_mtu=1440,
    snapshot=3,
    far=("192.168.0.2", "2001:db8::2"),
    receiving=(2, 3),
    unheard=((2, "192.168.0.1", "Too many open files"),),
    silent=(orders.Silent(2, "eth0", "192.168.0.1", "192.168.0.2"),),
    routes=("192.168.80.0/24", "10.0.0.0/8"),
)
COUNT_USE = orders.CountUse("0123456789abcdef", {"wwan0": 1 << 40}, {"wwan0": 7}, final=True)
WRITE_LEASES = orders.WriteLeases(
    1, (("10.0.0.7", "00" * 32), ("10.0.0.8", ""), ("10.0.0.9", None))
)
ALL = [
    orders.ReadConfiguration(4),
    orders.BeginState(),
    orders.Remember(),
    orders.Remember(5, ("00" * 32,), {"10.0.0.2": (("192.0.2.1", 51840), ("2001:db8::1", 1))}),
    orders.Remember(lease=("10.0.0.7", 3600, 1300)),
    orders.Remember(lease=("", 0, 0)),
    orders.SetAddress("10.0.0.7"),
    orders.SetAddress(),
    orders.ReadLeases(),
    WRITE_LEASES,
    COUNT_USE,
    orders.Begin(0),
    orders.Resume(3),
    orders.Change(3),
    WISH,
    orders.Wish(0, 0, 68),
    orders.LookSoon(),
    orders.Resolve(("router.example.net",), ("router.example.net",)),
    orders.OpenSocket(1, 2, "eth0", "192.168.0.1"),
    orders.OpenSocket(1, 2, "eth0", "192.168.0.1", stray=True),
    orders.OpenSocket(1, 2, "eth0"),
    orders.Ping(),
    orders.Stop(),
]


@pytest.mark.parametrize("order", ALL, ids=lambda order: type(order).__name__)
def test_order_arrives_as_it_was_given(order):
    assert orders.decode(orders.encode(order)) == order


def test_name_of_an_interface_may_be_strange():
    order = orders.OpenSocket(1, 2, "eth\u200b0\u0007")
    assert orders.decode(orders.encode(order)) == order


def test_every_kind_of_order_is_tried():
    assert {type(order) for order in ALL} == set(orders._CHECKS)


def spoilt(order, *path_and_value):
    *path, last, value = path_and_value
    data = json.loads(orders.encode(order))
    place = data
    for key in path:
        place = place[key]
    place[last] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        b'{"order": "Nothing"}',
        b'{"order": ["Stop"]}',
        b'{"order": "Stop", "more": 1}',
        b'{"order": "ReadConfiguration"}',
        spoilt(WISH, "device_index", -1),
        spoilt(WISH, "device_index", True),
        spoilt(WISH, "device_index", 1 << 31),
        spoilt(WISH, "device_mtu", 70_000),
        spoilt(WISH, "far", ["router.example"]),
        spoilt(WISH, "far", "192.168.0.2"),
        spoilt(WISH, "receiving", [1.5]),
        spoilt(WISH, "unheard", [[2, "192.168.0.1"]]),
        spoilt(WISH, "silent", [{"index": 2}]),
        spoilt(WISH, "routes", ["0.0.0.0/0"]),
        spoilt(WISH, "routes", ["8.8.8.0/24"]),
        spoilt(WISH, "routes", ["192.168.80.1/24"]),
        spoilt(WISH, "routes", ["fd00::/8"]),
        spoilt(WISH, "routes", ["192.168.80.0/24"] * 1025),
        spoilt(orders.Begin(0), "reading", -1),
        spoilt(orders.Begin(0), "reading", "0"),
        spoilt(orders.Begin(0), "device_name", "eth0"),
        spoilt(orders.Begin(0), "settings", {"device_name": "eth0"}),
        spoilt(orders.Resume(0), "settings", {"device_name": "eth0"}),
        spoilt(orders.Change(0), "settings", {"device_name": "eth0"}),
        spoilt(orders.BeginState(), "device_name", "other0"),
        spoilt(orders.Remember(), "device_name", "other0"),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "port", 53),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "name", "a/b"),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "name", "../x"),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "name", "x" * 16),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "name", "eth0\n"),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "stray", 1),
        spoilt(orders.Remember(), "epoch", 0),
        spoilt(orders.Remember(), "reset_keys", ["00" * 31]),
        spoilt(orders.Remember(), "callers", {"10.0.0.2": [["192.0.2.1", 70_000]]}),
        spoilt(orders.SetAddress(), "address", "10.0.0.7/24"),
        spoilt(orders.SetAddress(), "address", "eth0"),
        spoilt(orders.Remember(), "lease", ["10.0.0.7", -1, 0]),
        spoilt(WRITE_LEASES, "changes", [["10.0.0.7", "00"]]),
        spoilt(WRITE_LEASES, "changes", [["x", None]]),
        spoilt(WRITE_LEASES, "changes", [["10.0.0.7", None]] * 4097),
        spoilt(COUNT_USE, "totals", {"../x": 1}),
        spoilt(COUNT_USE, "totals", {"wwan0": -1}),
        spoilt(COUNT_USE, "totals", {f"wwan{number}": 1 for number in range(257)}),
        spoilt(COUNT_USE, "correct", [["wwan0", 1]]),
        spoilt(COUNT_USE, "run", 7),
        spoilt(COUNT_USE, "final", None),
        spoilt(orders.Resolve(("vm2",)), "names", ["a b"]),
        spoilt(orders.Resolve(("vm2",)), "urgent", ["-"]),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "name", ""),
        spoilt(orders.OpenSocket(1, 2, "eth0"), "address", "eth0"),
    ],
)
def test_what_breaks_the_form_is_no_order(message):
    with pytest.raises(orders.Malformed):
        orders.decode(message)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_order(message):
    with pytest.raises(orders.Malformed):
        orders.decode(message)
