"""IPv6 between the hosts of the virtual network, with the kernel's own ping6, TCP and UDP."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.stage import Pair, Stage, Triple
from tests.system.bed.topology import Host, Topology, until
from tests.system.bed.traffic import assert_whole, both_ways, bulk, ping, transfer_both_ways
from tests.system.test_two_links import wait_cut

pytestmark = pytest.mark.skipif(
    not Path("/proc/sys/net/ipv6").exists(), reason="the kernel has no IPv6"
)

NETWORK6 = "fd12:3456:789a:1::/64"
A, B, C = (f"fd12:3456:789a:1::a00:{number}" for number in (1, 2, 3))
TIMED_S = 10.0
SMALL_MTU, TINY_MTU = 1380, 1000
BYTES = 3_000_000
PORT = 4321
# include/uapi/linux/in6.h, include/uapi/linux/errqueue.h and RFC 4443
IPV6_MTU = 24
IPV6_RECVERR = 25
MSG_ERRQUEUE = 0x2000
SO_EE_ORIGIN_ICMP6 = 3
TIME_EXCEEDED = 3
EXTENDED_ERROR = struct.Struct("=IBBBBII")


def wait_addresses(*agents: Agent) -> None:
    for agent in agents:
        until(
            lambda agent=agent: len(own_addresses(agent.host)) == 1,
            TIMED_S,
            "the device has its IPv6 address, and no other",
        )


def with_ipv6(topology: Topology) -> None:
    """Let devices that are made from now on have IPv6, which the bed's hosts have not."""
    for host in topology.hosts.values():
        host.sysctl("net/ipv6/conf/default/disable_ipv6", 0)


def own_addresses(host: Host) -> list[str]:
    (device,) = host.ip_json("-6", "address", "show", "dev", DEVICE) or [{}]
    return [one["local"] for one in device.get("addr_info", ())]


def ping6(host: Host, address: str, *options: str) -> None:
    host.run("ping", "-6", "-c", "20", "-i", "0.02", "-W", "5", *options, address)


def kernel_mtu(host: Host, address: str) -> int:
    """What the kernel holds for the largest packet on the way to an address."""
    with host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect((address, PORT))
        return probe.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def started(pair: Pair, **keys: Any) -> tuple[Agent, Agent]:
    with_ipv6(pair.topology)
    agents = pair.start(network6=NETWORK6, **keys)
    wait_addresses(*agents)
    return agents


def test_two_hosts_talk_and_a_cut_link_loses_nothing(stage: Stage) -> None:
    pair = Pair(stage)
    a, b = started(pair)
    assert own_addresses(pair.a) == [A]
    ping6(pair.a, B)
    ping6(pair.b, A, "-s", "20000")  # in fragments, that the kernel itself makes
    with both_ways(pair.a, A, pair.b, B) as verdicts:
        for lan in ("net0", "net1"):
            pair.a.ports[lan].block()
            wait_cut(pair, a, b, lan)
            pair.a.ports[lan].unblock()
            pair.wait_whole(a, b)
    assert_whole(verdicts)
    assert a.status()["address6"] == A
    assert not [warning for warning in a.status()["warnings"] if "IPv6" in warning]


@pytest.mark.parametrize("disabled", [[], ["vnet_hdr", "tso", "uso"]], ids=["offloads", "none"])
def test_bulk_arrives_whole_both_ways(stage: Stage, disabled: list[str]) -> None:
    pair = Pair(stage)
    a, b = started(pair, offload={"disable": disabled})
    transfer_both_ways(pair.a, A, pair.b, B)
    for agent in (a, b):
        dropped = agent.status()["counters"]["dropped"]
        assert not any(dropped[why] for why in ("malformed_inner", "spoofed", "ipv6", "not_ipv4"))


def test_tcp_finds_what_a_smaller_link_behind_the_router_carries(stage: Stage) -> None:
    triple = Triple(stage)
    for lan in ("net2", "net3"):
        port = triple.vm2.ports[lan]
        triple.vm2.ip("link", "set", port.interface, "mtu", str(SMALL_MTU))
        far = triple.vm1.ports[lan]
        triple.vm1.ip("link", "set", far.interface, "mtu", str(SMALL_MTU))
    with_ipv6(triple.topology)
    agents = triple.start(network6=NETWORK6)
    wait_addresses(*agents)
    assert kernel_mtu(triple.vm0, C) > SMALL_MTU
    with bulk(triple.vm0, triple.vm2, C, size=BYTES) as transfer:
        moved = transfer.finish(60.0)
    assert moved.whole, moved
    # TCP may have been told a smaller size by the other end; a datagram has to find out.
    with triple.vm0.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((C, PORT))
        datagrams.send(bytes(SMALL_MTU))
        until(lambda: kernel_mtu(triple.vm0, C) < SMALL_MTU, 10, "the router says what is too big")
    assert kernel_mtu(triple.vm0, C) >= 1280


def test_the_router_says_that_a_packet_has_gone_too_far(stage: Stage) -> None:
    triple = Triple(stage)
    with_ipv6(triple.topology)
    agents = triple.start(network6=NETWORK6)
    wait_addresses(*agents)
    ping6(triple.vm0, C)
    with triple.vm0.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
        probe.setblocking(False)
        probe.sendto(b"x", (C, PORT))
        error, address = until(lambda: extended_error(probe), TIMED_S, "an error comes")
    assert error == errno.EHOSTUNREACH
    assert address == B


def extended_error(probe: socket.socket) -> tuple[int, str] | None:
    """The error that waits on a socket, and who has sent it (ip(7), IP_RECVERR)."""
    with contextlib.suppress(BlockingIOError):
        _, ancillary, _, _ = probe.recvmsg(512, 512, MSG_ERRQUEUE)
        for _, _, data in ancillary:
            number, origin, kind, *_ = EXTENDED_ERROR.unpack_from(data)
            assert (origin, kind) == (SO_EE_ORIGIN_ICMP6, TIME_EXCEEDED)
            offender = data[EXTENDED_ERROR.size :]  # struct sockaddr_in6
            return number, socket.inet_ntop(socket.AF_INET6, offender[8:24])
    return None


def test_links_below_1280_bytes_carry_ipv6_all_the_same(stage: Stage) -> None:
    pair = Pair(stage)
    for host in (pair.a, pair.b):
        for port in host.ports.values():
            host.ip("link", "set", port.interface, "mtu", str(TINY_MTU))
    started(pair)
    assert pair.a.link(DEVICE).get("mtu") == 1280
    ping6(pair.a, B, "-s", "1232", "-M", "do")
    with bulk(pair.a, pair.b, B, size=BYTES) as transfer:
        moved = transfer.finish(60.0)
    assert moved.whole, moved


def test_address_and_route_that_somebody_takes_away_come_back(stage: Stage) -> None:
    pair = Pair(stage)
    a, _ = started(pair)
    pair.a.ip("-6", "address", "delete", f"{A}/64", "dev", DEVICE)
    wait_addresses(a)
    pair.a.ip("-6", "route", "delete", NETWORK6, "dev", DEVICE)
    until(
        lambda: pair.a.ip_json("-6", "route", "show", NETWORK6, "dev", DEVICE),
        TIMED_S * 4,
        "the route is there again",
    )
    ping6(pair.a, B)


def test_a_host_without_ipv6_gets_none_and_the_sender_is_told(stage: Stage) -> None:
    pair = Pair(stage)
    with_ipv6(pair.topology)
    a = pair.a_agent(network6=NETWORK6).start()
    b = pair.b_agent().start()
    pair.wait_whole(a, b)
    wait_addresses(a)
    with pair.a.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.settimeout(TIMED_S)
        with pytest.raises(OSError, match="No route to host") as caught:
            client.connect((B, PORT))
    assert caught.value.errno == errno.EHOSTUNREACH
    assert b.status()["counters"]["dropped"]["malformed_inner"] == 0
    explained = a.cli("explain", B, "--control", str(a.control_path))
    assert "takes no IPv6 packets" in explained.stdout + explained.stderr


def test_a_host_whose_ipv6_is_off_goes_on_with_ipv4_and_says_so(stage: Stage) -> None:
    pair = Pair(stage)
    a, _ = pair.start(network6=NETWORK6)
    (warning,) = [one for one in a.status()["warnings"] if "network6" in one]
    assert "enable IPv6 on this host" in warning
    verdict = ping(pair.a, pair.b_address, count=20, interval_s=0.01)
    assert verdict.lost == 0, verdict
