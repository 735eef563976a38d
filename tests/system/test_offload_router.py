"""Super-packets and incomplete checksums on their way through a router."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.checksums import Seen, watched
from tests.system.bed.stage import Triple
from tests.system.bed.traffic import bulk, transfer_both_ways
from tests.system.test_offload import (
    ALL,
    NONE,
    assert_clean,
    assert_same,
    draw,
    offload,
    received,
    sockets,
)
from tests.system.test_router import PACKETS, carry, one_hop_further, random_packets

#: What the one client, the router and the other client leave off.
OFF = {
    "all on": (NONE, NONE, NONE),
    "a client without": (ALL, NONE, NONE),
    "the router without": (NONE, ALL, NONE),
    "both clients without": (ALL, NONE, ALL),
    "a client without vnet_hdr": (NONE, NONE, {"vnet_hdr"}),
}
TOS = 0xB8  # expedited forwarding, RFC 3246
TTL = 64
TRANSFER_BYTES = 4_000_000
TRANSFER_S = 30.0


@pytest.fixture(params=OFF.values(), ids=OFF.keys())
def off(request: pytest.FixtureRequest) -> Any:
    return request.param


def start(triple: Triple, off: Any) -> tuple[Agent, Agent, Agent]:
    router = triple.router(**offload(off[1])).start()
    vm0 = triple.client("vm0", **offload(off[0])).start()
    vm2 = triple.client("vm2", **offload(off[2])).start()
    for client in (vm0, vm2):
        triple.wait_whole(client, router)
    return vm0, router, vm2


def test_tcp_between_clients_arrives_whole_both_ways(triple: Triple, off: Any) -> None:
    vm0, router, vm2 = agents = start(triple, off)
    with watched(triple.vm0, triple.vm2) as watch:
        transfer_both_ways(triple.vm0, vm0.address, triple.vm2, vm2.address)
    assert_clean(*agents)
    assert router.status()["counters"]["forwarded"] > 0
    for host, disabled in ((triple.vm0, off[0]), (triple.vm2, off[2])):
        if "vnet_hdr" in disabled:
            # Whoever cannot be told gets whole checksums, whoever they came from.
            assert not any(seen.partial for seen in watch.incoming(host))


def test_forwarded_packet_differs_in_ttl_and_checksum_only(triple: Triple, off: Any) -> None:
    vm0, _, vm2 = start(triple, off)
    packets = random_packets(vm0.address, vm2.address, PACKETS, vm0.status()["device"]["mtu"])
    assert carry(packets, triple.vm0, triple.vm2) == [one_hop_further(one) for one in packets]


def unsealed(seen: Seen) -> tuple[bytes, bytes]:
    """Return what a router may not change: all but TTL and both checksums."""
    packet = seen.packet
    header = packet[:8] + packet[9:10] + packet[12:20]
    return header, seen.payload[:6] + seen.payload[8:]


def test_single_datagrams_keep_their_header(triple: Triple, off: Any) -> None:
    agents = start(triple, off)
    vm2 = agents[-1]
    chosen = draw()
    with watched(triple.vm0, triple.vm2) as watch:
        with sockets(triple.vm0, triple.vm2, vm2.address) as (out, into):
            out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS)
            for _ in range(200):
                # One at a time, so that none becomes part of a larger one.
                payload = chosen.randbytes(chosen.randrange(1400))
                out.send(payload)
                assert received(into, 1) == [payload]
        watch.look()
        sent = [seen for seen in watch.packets[triple.vm0] if seen.outgoing]
        arrived = watch.incoming(triple.vm2)
        assert [unsealed(seen) for seen in arrived] == [unsealed(seen) for seen in sent]
        assert {seen.packet[1] for seen in arrived} == {TOS}
        assert {seen.packet[8] for seen in sent} == {TTL}
        assert {seen.packet[8] for seen in arrived} == {TTL - 1}
    assert_clean(*agents)


def test_super_packets_keep_their_marks(triple: Triple) -> None:
    vm0, _, vm2 = agents = start(triple, (NONE, NONE, NONE))
    with watched(triple.vm0, triple.vm2) as watch:
        with bulk(triple.vm0, triple.vm2, vm2.address, size=TRANSFER_BYTES, tos=TOS) as transfer:
            assert transfer.finish(TRANSFER_S).whole
        watch.look()
        arrived = watch.incoming(triple.vm2)
        mtu = vm0.status()["device"]["mtu"]
        assert max(len(seen.packet) for seen in arrived) > mtu
        assert {(seen.packet[1], seen.packet[8]) for seen in arrived} == {(TOS, TTL - 1)}
    assert_clean(*agents)


def test_bursts_of_datagrams_to_both_sides_of_the_router_arrive_once(triple: Triple) -> None:
    vm0, router, vm2 = agents = start(triple, (NONE, NONE, ALL))
    chosen = draw()
    with watched(triple.vm0, triple.vm1, triple.vm2):
        for address, host in ((vm2.address, triple.vm2), (router.address, triple.vm1)):
            with sockets(triple.vm0, host, address) as (out, into):
                for size in (1, 100, 1000, 1400):
                    sent = [chosen.randbytes(size + 8) for _ in range(60)]
                    for payload in sent:
                        out.send(payload)
                    assert_same(received(into, len(sent)), sent)
        with sockets(triple.vm2, triple.vm0, vm0.address) as (out, into):
            sent = [chosen.randbytes(900) for _ in range(60)]
            for payload in sent:
                out.send(payload)
            assert_same(received(into, len(sent)), sent)
    assert_clean(*agents)
