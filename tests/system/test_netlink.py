"""What the agent reads of a kernel and tells it, beside what `ip` makes of the same kernel."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, Iterator

import pytest

from ropeway.kernel import generation, tun
from ropeway.kernel.udp import preferred_source
from ropeway.steward import selection
from ropeway.steward.interface import Change, Interface
from ropeway.steward.netlink import device, interfaces, requests, routes, steering
from ropeway.steward.netlink.hints import Hints
from tests.system.bed.stage import Pair
from tests.system.bed.topology import PREFIX, namespace, remove_namespace, run, until

DEVICE = "ropeway0"
PERMANENT_S = 4294967295


class Kernel:
    """A network namespace with interfaces of several kinds."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}-netlink"
        run(["ip", "netns", "add", self.name])

    def ip(self, *arguments: str) -> None:
        run(["ip", "-n", self.name, *arguments])

    def ip_json(self, *arguments: str) -> list[dict[str, Any]]:
        return list(json.loads(run(["ip", "-n", self.name, "-j", "-d", *arguments])))

    def index(self, name: str) -> int:
        return int(self.ip_json("link", "show", "dev", name)[0]["ifindex"])

    def dump(self) -> dict[str, Interface]:
        with self.inside():
            return {one.name: one for one in interfaces.interfaces(ipv6=True)}

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the namespace, with a netlink socket of it."""
        requests.connection.cache_clear()
        try:
            with namespace(self.name):
                yield
        finally:
            requests.connection.cache_clear()


def test_what_the_kernel_announces_about_devices_arrives_and_is_no_copy_of_this_machine() -> None:
    """A real copy takes a hypervisor; this shows that socket, group and format are right."""
    hints = generation.GenerationHints()
    with contextlib.closing(hints), contextlib.closing(select.epoll()) as ready:
        ready.register(hints.fileno(), select.EPOLLIN)
        # ABI/testing/sysfs-uevent: what a process has the kernel announce has SYNTH_ARG_ before it.
        Path("/sys/class/net/lo/uevent").write_text(f"change {uuid.uuid4()} NEWVMGENID=1")
        assert ready.poll(5.0)
        assert not hints.drain()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    try:
        yield made
    finally:
        remove_namespace(made.name)


def expected(shown: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the agent should know of an interface that `ip -d -j address` shows so."""
    flags = shown["flags"]
    ipv4 = [a for a in shown["addr_info"] if a["family"] == "inet"]
    ipv6 = [
        a for a in shown["addr_info"]
        if a["family"] == "inet6" and a["scope"] == "global"
        and not a.get("tentative") and not a.get("dadfailed")
    ]  # fmt: skip
    ipv6.sort(key=lambda a: 2 if a.get("deprecated") else 1 if a.get("temporary") else 0)
    return (
        shown["ifindex"],
        shown["mtu"],
        "UP" in flags and "LOWER_UP" in flags,
        "UP" in flags,
        "LOOPBACK" in flags,
        shown["link_type"] == "ether",
        "master" in shown,
        shown.get("linkinfo", {}).get("info_kind"),
        shown.get("ifalias"),
        tuple(f"{a['local']}/{a['prefixlen']}" for a in ipv4),
        tuple(f"{a['local']}/{a['prefixlen']}" for a in ipv6),
    )


def known(interface: Interface) -> tuple[Any, ...]:
    return (
        interface.index,
        interface.mtu,
        interface.up,
        interface.admin_up,
        interface.loopback,
        interface.ethernet,
        interface.master != 0,
        interface.kind,
        interface.alias,
        interface.addresses,
        interface.addresses6,
    )


def test_interfaces_and_addresses_are_those_that_ip_shows(kernel: Kernel) -> None:
    for command in (
        "link set lo up",
        "link add br0 type bridge",
        "link add eth0 type veth peer name port",
        "link set port master br0",
        "link set eth0 mtu 1400 alias upstairs",
        "link set eth0 up",
        "link set port up",
        "tuntap add tun0 mode tun",
        "tuntap add tap0 mode tap",
        "address add 192.0.2.1/24 brd + dev eth0",
        "address add 192.0.2.9/24 dev eth0",
        "address add 198.51.100.1/28 dev eth0",
        "address add 10.1.1.1 peer 10.1.1.2 dev tun0",
        "address add 2001:db8::2/64 dev eth0 nodad",
        "address add 2001:db8:1::2/64 dev eth0 nodad",
        "address add 2001:db8::3/64 dev eth0 nodad preferred_lft 0",
        # With a prefix of its own and the manners of SLAAC, the kernel adds a temporary address.
        "address add 2001:db8:2::2/64 dev eth0 nodad mngtmpaddr valid_lft 9000 preferred_lft 8000",
    ):
        if "mngtmpaddr" in command:
            run(["ip", "netns", "exec", kernel.name, "sysctl", "-qw",
                 "net.ipv6.conf.eth0.use_tempaddr=1"])  # fmt: skip
        kernel.ip(*command.split())

    def settled() -> list[dict[str, Any]]:
        shown = kernel.ip_json("address", "show")
        moving = [a for i in shown for a in i["addr_info"] if a.get("tentative")]
        return [] if moving else shown

    shown = until(settled, 30, "no address is tentative any more")
    # One that stays tentative for longer than looking at it twice can take.
    run(["ip", "netns", "exec", kernel.name, "sysctl", "-qw",
         "net.ipv6.conf.eth0.dad_transmits=600"])  # fmt: skip
    kernel.ip("address", "add", "2001:db8::4/64", "dev", "eth0")
    shown = kernel.ip_json("address", "show")
    found = kernel.dump()
    assert {name: known(found[name]) for name in found} == {
        interface["ifname"]: expected(interface) for interface in shown
    }
    marks = [
        mark for a in next(i for i in shown if i["ifname"] == "eth0")["addr_info"] for mark in a
    ]
    assert {"temporary", "deprecated", "tentative"} <= set(marks)


def test_what_is_stacked_on_the_device_is_known_for_it(kernel: Kernel) -> None:
    for command in (
        f"tuntap add {DEVICE} mode tun",
        f"link set {DEVICE} alias ropeway",
        f"address add 10.0.0.1/24 dev {DEVICE}",
        "link add eth0 type veth peer name port",
        "address add 192.0.2.1/24 dev eth0",
        f"link add below type vxlan id 1 dev {DEVICE} dstport 4789",
        "link add between type vxlan id 2 remote 10.0.0.2 dstport 4790",
        "link add beside type vxlan id 3 local 192.0.2.1 remote 192.0.2.2 dev eth0 dstport 4791",
        "link add routed type vxlan id 4 remote 192.168.50.7 dstport 4792",
        "link add br0 type bridge",
        "link set below master br0",
        "link add inside type veth peer name outside",
        "link set inside master br0",
    ):
        kernel.ip(*command.split())
    for number, name in enumerate(
        ("below", "between", "beside", "br0", "outside", "port", "routed")
    ):
        kernel.ip("address", "add", f"172.16.{number}.1/24", "dev", name)
    rules = selection.Rules(["*"], [], DEVICE, kernel.index(DEVICE), "10.0.0.0/24", True)
    kernel.ip("link", "set", DEVICE, "up")
    kernel.ip("route", "add", "192.168.50.0/24", "via", "10.0.0.2")
    with kernel.inside():
        links, left_out = selection.select(list(kernel.dump().values()), rules, routes.leads_to)
    assert {link.name for link in links} == {"eth0", "port", "beside"}
    assert {one.name: one.reason for one in left_out if one.name != "lo"} == {
        "below": f"sends its packets through {DEVICE}, a virtual network",
        "routed": f"sends its packets through {DEVICE}, a virtual network",
        "between": f"sends its packets through {DEVICE}, a virtual network",
        "br0": f"sends its packets through {DEVICE}, a virtual network",
        "outside": f"sends its packets through {DEVICE}, a virtual network",
        "inside": "is a port of another interface and has no address",
    }


def test_many_interfaces_come_in_several_parts(kernel: Kernel) -> None:
    for number in range(60):
        kernel.ip("link", "add", f"a{number}", "type", "veth", "peer", "name", f"b{number}")
        kernel.ip("address", "add", f"10.7.{number}.1/24", "dev", f"a{number}")
    found = kernel.dump()
    assert len(found) == 121
    assert [found[f"a{number}"].addresses for number in range(60)] == [
        (f"10.7.{number}.1/24",) for number in range(60)
    ]


def test_device_is_configured_once_and_again_and_deleted(kernel: Kernel) -> None:
    kernel.ip("tuntap", "add", DEVICE, "mode", "tun")
    index = kernel.index(DEVICE)
    for mtu in (1400, 1300, 1300):
        with kernel.inside():
            device.configure(index, "10.0.0.1/24", mtu, "ropeway")
        (shown,) = kernel.ip_json("address", "show", "dev", DEVICE)
        assert shown["mtu"] == mtu
        assert shown["txqlen"] == device.QUEUE_PACKETS
        assert shown["ifalias"] == "ropeway"
        assert "UP" in shown["flags"]
        (own,) = shown["addr_info"]  # no link-local one of IPv6 either
        assert (own["local"], own["prefixlen"], own["scope"]) == ("10.0.0.1", 24, "global")
        assert own["valid_life_time"] == PERMANENT_S
        (shown,) = kernel.ip_json("link", "show", "dev", DEVICE)
        assert shown["inet6_addr_gen_mode"] == "none"
    with kernel.inside():
        with pytest.raises(OSError, match="Invalid argument") as caught:
            device.configure(index, "10.0.0.1/24", 70000, "ropeway")
        assert caught.value.errno == errno.EINVAL
        device.delete(index)
        device.delete(index)
        with pytest.raises(OSError, match=r"No such device"):
            device.configure(index, "10.0.0.1/24", 1400, "ropeway")
        assert DEVICE not in [name for _, name in socket.if_nameindex()]


def test_device_has_no_queue_but_those_of_its_descriptors(kernel: Kernel) -> None:
    with kernel.inside(), contextlib.closing(tun.open_device(DEVICE)):
        index = socket.if_nametoindex(DEVICE)
        device.leave_unqueued(index)
        device.configure(index, "10.0.0.1/24", 1400, "ropeway")
        shown = run(["ip", "netns", "exec", kernel.name, "tc", "qdisc", "show", "dev", DEVICE])
    assert shown.split()[:2] == ["qdisc", "noqueue"]
    assert len(shown.splitlines()) == 1


def test_device_that_a_process_holds_cannot_be_shared(pair: Pair) -> None:
    agent = pair.a_agent().start()
    other = pair.a_agent(instance="other", control={"path": str(agent.control_path) + ".other"})
    other.launch_only()
    assert other.process is not None
    assert other.process.wait(20) not in (0, None)
    assert "another process holds it" in other.log()
    assert agent.answers()


def test_device_without_ipv6(kernel: Kernel) -> None:
    kernel.ip("tuntap", "add", DEVICE, "mode", "tun")
    index = kernel.index(DEVICE)
    run(["ip", "netns", "exec", kernel.name, "sysctl", "-qw",
         f"net.ipv6.conf.{DEVICE}.disable_ipv6=1"])  # fmt: skip
    with kernel.inside():
        device.configure(index, "10.0.0.1/24", 1400, "ropeway")
    assert kernel.dump()[DEVICE].addresses == ("10.0.0.1/24",)


def test_changes_are_hinted_at(kernel: Kernel) -> None:
    with kernel.inside():
        hints = Hints(ipv6=True)
    try:
        assert hints.drain() is Change.NOTHING
        kernel.ip("link", "set", "lo", "up")
        assert hints.drain(limit=1000) is Change.INTERFACES
        kernel.ip("route", "add", "10.0.0.0/8", "dev", "lo")
        assert hints.drain() is Change.ROUTES
    finally:
        hints.close()


def test_the_kernel_tells_from_which_address_it_would_send(kernel: Kernel) -> None:
    kernel.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    kernel.ip("link", "set", "far0", "up")
    kernel.ip("link", "set", "eth0", "up")
    for address in ("10.1.1.5/24", "192.168.7.2/24"):
        kernel.ip("address", "add", address, "dev", "eth0")
    for address in ("fd00::2/64", "2001:db8::2/64"):
        kernel.ip("address", "add", address, "dev", "eth0", "nodad")
    kernel.ip("route", "add", "default", "via", "192.168.7.1")
    kernel.ip("route", "add", "203.0.113.0/24", "via", "192.168.7.1", "src", "10.1.1.5")
    kernel.ip("-6", "route", "add", "default", "via", "fd00::1", "dev", "eth0")
    with kernel.inside():
        assert preferred_source("eth0", "198.51.100.3") == "192.168.7.2"
        assert preferred_source("eth0", "203.0.113.3") == "10.1.1.5"
        assert preferred_source("eth0", "10.1.1.9") == "10.1.1.5"
        assert preferred_source("eth0", "2001:db8:5::1") == "2001:db8::2"
        assert preferred_source("eth0", "fd00:1::1") == "fd00::2"
        assert preferred_source("eth9", "198.51.100.3") is None


def wired(kernel: Kernel, name: str, *addresses: str) -> int:
    """Make an interface with a carrier and these addresses; return its index."""
    kernel.ip("link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
    for end in (f"far-{name}", name):
        kernel.ip("link", "set", end, "up")
    for address in addresses:
        kernel.ip("address", "add", address, "dev", name, *(["nodad"] * (":" in address)))
    return kernel.index(name)


def test_interface_whose_default_route_comes_second_has_a_route_too(kernel: Kernel) -> None:
    first = wired(kernel, "eth0", "192.168.0.2/24", "2001:db8::2/64")
    second = wired(kernel, "eth1", "192.168.1.2/24", "2001:db8:1::2/64")
    for index, name in enumerate(("eth0", "eth1")):
        at = ("dev", name, "metric", str(100 + index))
        kernel.ip("route", "add", "default", "via", f"192.168.{index}.1", *at)
        kernel.ip("-6", "route", "add", "default", "via", f"2001:db8:{index}::1", *at)
    with kernel.inside():
        assert routes.source_by(first, "203.0.113.1", "192.168.0.2") == "192.168.0.2"
        assert routes.source_by(second, "203.0.113.1", "192.168.1.2") == "192.168.1.2"
        assert routes.source_by(first, "2001:db8:9::1", "2001:db8::2") == "2001:db8::2"
        assert routes.source_by(second, "2001:db8:9::1", "2001:db8:1::2") == "2001:db8:1::2"


def test_route_by_an_interface_is_found_wherever_it_stands(kernel: Kernel) -> None:
    first = wired(kernel, "eth0", "192.168.0.2/24", "2001:db8::2/64")
    second = wired(kernel, "eth1", "192.168.1.2/24", "2001:db8:1::2/64")
    kernel.ip("route", "add", "default", "via", "192.168.0.1")
    kernel.ip("route", "add", "203.0.113.0/24", "via", "192.168.1.1")
    kernel.ip("route", "add", "198.51.100.0/24", "via", "192.168.1.1", "table", "77")
    kernel.ip("-6", "route", "add", "2001:db8:7::/48", "via", "2001:db8:1::1")
    with kernel.inside():
        assert routes.source_by(first, "198.51.100.1", "192.168.0.2") == "192.168.0.2"
        assert routes.source_by(second, "203.0.113.1", "192.168.1.2") == "192.168.1.2"
        # Without an entry the kernel would take any address for a neighbour.
        assert routes.source_by(second, "198.51.100.1", "192.168.1.2") is None
        assert routes.source_by(second, "2001:db8:7::1", "2001:db8:1::2") == "2001:db8:1::2"
        assert routes.source_by(first, "2001:db8:7::1", "2001:db8::2") is None
        assert routes.source_by(first, "2001:db8:8::1", "2001:db8::2") is None
        assert routes.source_by(99, "198.51.100.1", "192.168.1.2") is None
        assert routes.source_by(second, "203.0.113.1", "192.168.9.9") is None
    kernel.ip("rule", "add", "from", "192.168.1.2", "lookup", "77")
    with kernel.inside():
        assert routes.source_by(second, "198.51.100.1", "192.168.1.2") == "192.168.1.2"


def test_routes_with_a_source_or_several_ways_or_none(kernel: Kernel) -> None:
    first = wired(kernel, "eth0", "192.168.0.2/24", "10.1.1.5/24")
    second = wired(kernel, "eth1", "192.168.1.2/24")
    for route in (
        "203.0.113.0/24 via 192.168.0.1 src 10.1.1.5",
        "198.51.100.0/24 nexthop via 192.168.0.1 nexthop via 192.168.1.1",
        "blackhole 203.0.113.128/25",
    ):
        kernel.ip("route", "add", *route.split())
    with kernel.inside():
        assert routes.source_by(first, "203.0.113.1", "192.168.0.2") == "10.1.1.5"
        assert routes.source_by(second, "198.51.100.1", "192.168.1.2") == "192.168.1.2"
        assert routes.source_by(first, "198.51.100.1", "192.168.0.2") == "192.168.0.2"
        assert routes.leads_to("203.0.113.200") == 0
        assert routes.leads_to("203.0.113.1") == first


def test_route_and_rules_of_the_device_are_made_seen_and_removed(kernel: Kernel) -> None:
    kernel.ip("tuntap", "add", DEVICE, "mode", "tun")
    index = kernel.index(DEVICE)
    with kernel.inside(), contextlib.closing(tun.open_device(DEVICE)):
        device.configure(index, "10.0.0.1/24", 1400, "ropeway")
        plain = steering.wanted("10.0.0.1/24", ())
        ahead = steering.wanted("10.0.0.1/24", ["10.0.0.77"])
        assert steering.look(index, "10.0.0.0/24") == plain
        steering.change(index, "10.0.0.1/24", plain, ahead)
        assert steering.look(index, "10.0.0.0/24") == ahead
        assert steering.remove_left() == 0
        steering.change(index, "10.0.0.1/24", ahead, plain)
        assert steering.look(index, "10.0.0.0/24") == plain
        steering.change(index, "10.0.0.1/24", plain, ahead)
    kernel.ip("link", "delete", DEVICE)
    with kernel.inside():
        assert steering.remove_left() == 2
        assert steering.remove_left() == 0


def test_full_routing_table_costs_no_more_than_an_empty_one(kernel: Kernel) -> None:
    first = wired(kernel, "eth0", "192.168.0.2/24")
    batch = "\n".join(
        f"route add 20.{number >> 8}.{number & 255}.0/24 via 192.168.0.1"
        for number in range(20_000)
    )

    def took_s() -> float:
        with kernel.inside():
            routes.source_by(first, "20.1.1.1", "192.168.0.2")
            began = time.perf_counter()
            for number in range(200):
                routes.source_by(first, f"20.{number}.1.1", "192.168.0.2")
            return time.perf_counter() - began

    before_s = took_s()
    subprocess.run(
        ["ip", "-n", kernel.name, "-batch", "-"], input=batch.encode(), check=True, timeout=60
    )
    after_s = took_s()
    print(f"200 look-ups take {before_s:.3f} s without and {after_s:.3f} s with 20 000 routes")
    assert after_s <= 3 * before_s + 0.05
