"""Three hosts: two clients that share no LAN, and the router between them."""

from __future__ import annotations

import os
import random
import socket
import struct

import pytest

from tests.system.bed.agents import DEVICE
from tests.system.bed.puppet import Puppet, ipv4, udp
from tests.system.bed.reference_node import Frame, with_checksum
from tests.system.bed.stage import Pair, Triple
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import (
    Device,
    assert_whole,
    both_ways,
    checksum,
    drain,
    ping,
)

ICMP_UNREACHABLE = 3
ICMP_TIME_EXCEEDED = 11
PACKETS = 250
BATCH = 50
MARK = b"ropeway!"
PATIENCE_S = 20.0
OVERHEAD = 60
ETHERNET_BYTES = 14


def random_packets(source: str, destination: str, count: int, mtu: int) -> list[bytes]:
    """Return packets with odd headers of every sort, each with its number at the end."""
    seed = int(os.environ.get("ROPEWAY_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"ROPEWAY_SEED={seed}")
    draw = random.Random(seed)
    packets = []
    for number in range(count):
        options = draw.choice(
            [
                b"",
                b"",
                b"\x01" * draw.randrange(1, 40),  # no operation
                b"\x07\x27\x04" + bytes(36),  # record route
                b"\x94\x04\x00\x00",  # router alert, RFC 2113
                b"\x44\x0c\x05\x00" + bytes(8),  # timestamp
                b"\x88\x04" + draw.randbytes(2),  # stream identifier
            ]
        )
        room = mtu - 20 - len(options) - 3 - len(MARK) - 8
        payload = draw.randbytes(draw.choice([0, 1, 8, draw.randrange(room), room]))
        flags = draw.choice([0, 0x4000, 0x2000, 0x8000, 0x6000])  # none, DF, MF, reserved, DF+MF
        packets.append(
            ipv4(
                source,
                destination,
                payload + MARK + struct.pack("!Q", number),
                protocol=draw.choice([1, 6, 17, 47, 50, 132, draw.randrange(256)]),
                ttl=draw.choice([2, 3, 64, 255, draw.randrange(2, 256)]),
                tos=draw.randrange(256),
                identification=draw.randrange(1 << 16),
                flags_and_offset=flags | draw.choice([0, 0, draw.randrange(1 << 13)]),
                options=options,
            )
        )
    return packets


def carry(packets: list[bytes], sender: Host, receiver: Host) -> list[bytes]:
    """Send packets as they are into one host's device; return what comes out of the other's.

    Each is a flow of its own, and flows may overtake each other: the order is that of sending.
    """
    into, out = Device(sender, DEVICE), Device(receiver, DEVICE)
    arrived: list[bytes] = []
    try:
        for start in range(0, len(packets), BATCH):
            batch = packets[start : start + BATCH]
            for packet in batch:
                into.send(packet)
            wanted = len(arrived) + len(batch)
            for packet in out.receive(PATIENCE_S):
                if packet[-16:-8] == MARK:
                    arrived.append(packet)
                if len(arrived) == wanted:
                    break
    finally:
        into.close()
        out.close()
    # A router changes TTL and checksum, which stand before byte 12.
    places = {packet[12:]: place for place, packet in enumerate(packets)}
    return sorted(arrived, key=lambda packet: places.get(packet[12:], -1))


def one_hop_further(packet: bytes) -> bytes:
    """Return a packet as RFC 1812 has it behind a router: TTL and checksum, nothing else."""
    length = (packet[0] & 15) * 4
    header = packet[:8] + bytes([packet[8] - 1]) + packet[9:length]
    return with_checksum(header) + packet[length:]


def test_packet_arrives_byte_for_byte_over_a_strand(pair: Pair) -> None:
    a, _ = pair.start()
    packets = random_packets(pair.a_address, pair.b_address, PACKETS, a.status()["device"]["mtu"])
    assert carry(packets, pair.a, pair.b) == packets


def test_forwarded_packet_differs_in_ttl_and_checksum_only(triple: Triple) -> None:
    vm0, _, vm2 = triple.start()
    packets = random_packets(vm0.address, vm2.address, PACKETS, vm0.status()["device"]["mtu"])
    assert carry(packets, triple.vm0, triple.vm2) == [one_hop_further(one) for one in packets]


def test_clients_talk_through_the_router_while_each_of_four_links_is_cut(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    with both_ways(triple.vm0, vm0.address, triple.vm2, vm2.address) as verdicts:
        for client in (vm0, vm2):
            for lan, port in client.host.ports.items():
                link = (port.ip, triple.vm1.ports[lan].ip)
                both = client.carrying(router.address)
                port.block()
                client.wait_carrying(router.address, *(both - {link}))
                port.unblock()
                client.wait_carrying(router.address, *both)
                router.wait_carrying(client.address, *(pair[::-1] for pair in both))
    assert_whole(verdicts)
    assert router.status()["counters"]["forwarded"] >= sum(v.sent for v in verdicts.values())


def icmp_error(host: Host, packet: bytes, provoke: socket.socket) -> tuple[int, int, str]:
    """Send a packet; return type, code and source of the ICMP error that quotes it."""
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        icmp.settimeout(PATIENCE_S)
        provoke.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
        while True:
            answer = icmp.recv(2048)
            message = answer[(answer[0] & 15) * 4 :]
            if (
                message[0] in (ICMP_UNREACHABLE, ICMP_TIME_EXCEEDED)
                and packet[4:6] == message[12:14]
            ):
                assert checksum(message) == 0
                assert message[20:28] == packet[12:20], "it quotes other addresses"
                return message[0], message[1], socket.inet_ntoa(answer[12:16])


def raw_sender(host: Host) -> socket.socket:
    return host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def test_ttl_that_ends_at_the_router_gives_time_exceeded(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    packet = ipv4(vm0.address, vm2.address, b"x" * 40, ttl=1, identification=4711)
    with raw_sender(triple.vm0) as out:
        assert icmp_error(triple.vm0, packet, out) == (ICMP_TIME_EXCEEDED, 0, router.address)


def test_host_that_nobody_knows_gives_unreachable_from_the_router(triple: Triple) -> None:
    vm0, router, _ = triple.start()
    packet = ipv4(vm0.address, "10.0.0.99", b"x" * 40, identification=4712)
    with raw_sender(triple.vm0) as out:
        kind, code, source = icmp_error(triple.vm0, packet, out)
    assert (kind, source) == (ICMP_UNREACHABLE, router.address)
    assert code in (0, 1)


def test_packet_that_is_too_big_for_the_links_gives_fragmentation_needed(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    for lan in ("net2", "net3"):
        triple.vm1.ip("link", "set", triple.vm1.ports[lan].interface, "mtu", "1400")
    until(
        lambda: [link["mtu"] for link in router.status()["links"]].count(1400) == 2,
        5,
        lambda: f"the router knows the MTUs: {router.status()['links']}",
    )
    mtu = 1400 - OVERHEAD
    too_big = ipv4(
        vm0.address, vm2.address, bytes(mtu - 20 + 1), identification=4713, flags_and_offset=0x4000
    )
    with raw_sender(triple.vm0) as out:
        assert icmp_error(triple.vm0, too_big, out) == (ICMP_UNREACHABLE, 4, router.address)
    fits = udp(vm0.address, vm2.address, bytes(mtu - 28), 4714)
    assert carry([fits[:-16] + MARK + bytes(8)], triple.vm0, triple.vm2)


def test_router_fragments_what_may_be_fragmented(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    for lan in ("net2", "net3"):
        triple.vm1.ip("link", "set", triple.vm1.ports[lan].interface, "mtu", "600")
    until(
        lambda: [link["mtu"] for link in router.status()["links"]].count(600) == 2,
        5,
        lambda: f"the router knows the MTUs: {router.status()['links']}",
    )
    content = random.Random(1).randbytes(1400)
    with triple.vm2.socket(socket.AF_INET, socket.SOCK_DGRAM) as into, raw_sender(
        triple.vm0
    ) as out:
        into.bind((vm2.address, 4716))
        into.settimeout(PATIENCE_S)
        packet = udp(vm0.address, vm2.address, content, 4716, identification=4716)
        out.sendto(packet, (vm2.address, 0))
        assert into.recv(2048) == content
    assert triple.vm2.counters("Ip")["ReasmOKs"] == 1


def test_large_packets_pass_whole(triple: Triple) -> None:
    vm0, _, vm2 = triple.start()
    mtu = vm0.status()["device"]["mtu"]
    assert mtu == 1500 - OVERHEAD
    with both_ways(
        triple.vm0, vm0.address, triple.vm2, vm2.address, rate=200, size=mtu - 28
    ) as verdicts:
        until(lambda: vm2.delivered() > 200, 10, "200 packets of full size")
    assert_whole(verdicts)


def test_client_that_does_not_forward_passes_nothing_on(classic_pair: Pair) -> None:
    pair = classic_pair
    a, b = pair.start()
    intruder = pair.topology.host("intruder")
    port = intruder.connect("net0", "eth0", "192.168.0.66/24")
    puppet = Puppet(port, "10.0.0.66", 5, pair.b.ports["net0"].ip, 12)
    puppet.shake_hands()
    delivered = a.delivered()
    forwarded = b.status()["counters"]["forwarded"]
    puppet.say(2, 1, udp("10.0.0.66", a.address, b"pass it on", 4000))
    puppet.say(2, 2, udp("10.0.0.66", b.address, b"for yourself", 4000))
    until(lambda: b.peer_status("10.0.0.66")["delivered"] >= 1, 5, lambda: f"taken: {b.status()}")
    assert b.status()["counters"]["forwarded"] == forwarded
    assert a.delivered() == delivered
    puppet.close()


def payload_frames(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.payload is not None]


@pytest.mark.parametrize("destination", ["10.0.0.66", "10.0.0.255", "224.0.0.5"])
def test_router_never_echoes_a_packet_to_where_it_came_from(
    classic_pair: Pair, destination: str
) -> None:
    pair = classic_pair
    router = pair.b_agent(forward=True).start()
    intruder = pair.topology.host("intruder")
    port = intruder.connect("net0", "eth0", "192.168.0.66/24")
    puppet = Puppet(port, "10.0.0.66", 5, pair.b.ports["net0"].ip, 12)
    puppet.shake_hands()
    packet = udp("10.0.0.77", destination, b"do not come back", 4000)
    puppet.say(2, 1, packet)
    # What follows it and is answered proves that the first one has been dealt with.
    puppet.say(2, 2, ipv4("10.0.0.66", router.address, echo_request(), protocol=1))
    puppet.wait_for(
        lambda frame: frame.payload is not None and frame.payload[20] == 0, "the echo reply"
    )
    assert [
        frame for frame in payload_frames(puppet.hear()) if b"come back" in frame.payload[28:]
    ] == []
    puppet.close()


def echo_request() -> bytes:
    message = b"\x08\x00\x00\x00\x12\x34\x00\x01"
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def test_two_routers_that_point_at_each_other_do_not_loop(classic_pair: Pair) -> None:
    pair = classic_pair
    a = pair.a_agent(forward=True, router=pair.b_address).start()
    b = pair.b_agent(forward=True, router=pair.a_address).start()
    pair.wait_whole(a, b)
    tap = pair.topology.capture("net0")
    packet = ipv4(a.address, "10.0.0.99", b"round and round", ttl=64, identification=4715)
    with raw_sender(pair.a) as out:
        kind, _, source = icmp_error(pair.a, packet, out)
    assert (kind, source) == (ICMP_UNREACHABLE, b.address)
    ping(pair.a, b.address, count=5, interval_s=0.01)
    frames = [Frame.unpack(frame[ETHERNET_BYTES:]) for frame in drain(tap)]
    tap.close()
    copies = [frame for frame in frames if frame is not None and frame.payload == packet]
    assert len(copies) == 1
