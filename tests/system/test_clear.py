"""What somebody who reads all LANs can see of the packets inside, and what they cost there."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from ropeway.core.frame.data import PACKET_TYPES
from tests.system.bed.agents import DEVICE
from tests.system.bed.puppet import udp
from tests.system.bed.stage import Pair, Stage, TwoFamilies
from tests.system.bed.topology import until
from tests.system.bed.traffic import Datagram, Device, assert_whole, both_ways, drain, ping

DATA = 4
OVERHEAD = 60
SENT = 300
PORT = 4100
PATIENCE_S = 20.0


def inner_bytes_in_clear(frames: list[bytes], pair: Pair, marker: bytes) -> list[bytes]:
    """Return the frames that show something of an inner packet.

    Its content, its pair of addresses in either order, or one's own ends of a name: any of them
    is eight bytes or longer, which sealed bytes hit by chance once in 10**19.
    """
    ends = [socket.inet_aton(address) for address in (pair.a_address, pair.b_address)]
    telltales = (marker, ends[0] + ends[1], ends[1] + ends[0])
    return [frame for frame in frames if any(telltale in frame for telltale in telltales)]


def marks_of(frames: list[bytes], pair: Pair) -> dict[str, set[int]]:
    """Return the DS fields of the outer headers that host a sends with packets, by its address."""
    found: dict[str, set[int]] = {port.ip: set() for port in pair.a.ports.values()}
    for frame in frames:
        ipv6 = frame[12:14] == b"\x86\xdd"
        family, addresses, size = (
            (socket.AF_INET6, frame[22:38], 54) if ipv6 else (socket.AF_INET, frame[26:30], 34)
        )
        protocol = frame[20 if ipv6 else 23]
        if protocol != socket.IPPROTO_UDP or frame[size + 8] not in PACKET_TYPES:
            continue
        field = (frame[14] << 4 | frame[15] >> 4) & 0xFF if ipv6 else frame[15]
        source = socket.inet_ntop(family, addresses)
        if source in found:
            found[source].add(field)
    return found


@pytest.mark.parametrize("offloads", [[], ["udp_segment"]], ids=["trains", "frame by frame"])
def test_outer_headers_have_the_dscp_of_the_packets_where_it_is_asked_for(
    stage: Stage, offloads: list[str]
) -> None:
    pair = TwoFamilies(stage)
    a, _ = pair.start(offload={"disable": offloads})
    with pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect((pair.b_address, PORT))
        for copied in (False, True):
            if copied:
                a.config["copy_dscp"] = True
                assert a.reload().returncode == 0
            for dscp in (46, 34):
                # The second lowest bit says that the sender knows ECN.
                out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2 | 2)
                taps = [pair.topology.capture(lan) for lan in pair.a.ports]
                for _ in range(SENT):
                    with contextlib.suppress(ConnectionRefusedError):
                        out.send(bytes(1000))
                assert ping(pair.a, pair.b_address, count=5, interval_s=0.01).lost == 0
                frames = [frame for tap in taps for frame in drain(tap)]
                for tap in taps:
                    tap.close()
                # The pings have none.
                expected = {0, dscp << 2} if copied else {0}
                assert marks_of(frames, pair) == {
                    port.ip: expected for port in pair.a.ports.values()
                }


def test_no_inner_byte_crosses_a_lan_in_clear_on_secure(each_pair: Pair) -> None:
    """Classic is there to show that the detector would find something."""
    pair, encapsulation = each_pair, each_pair.encapsulation
    marker = random.SystemRandom().randbytes(16)
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    # From the first handshake on, with a rollover and a cut link in it.
    keys = {"rollover_s": 2} if encapsulation == "secure" else {}
    a, b = pair.start(**keys)
    into, out = Device(pair.a, DEVICE), Device(pair.b, DEVICE)
    arrived = 0
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=200) as verdicts:
        pair.a.ports["net0"].block()
        for number in range(SENT):
            content = marker + number.to_bytes(4, "big") + marker
            into.send(udp(pair.a_address, pair.b_address, content, PORT))
        for packet in out.receive(PATIENCE_S):
            arrived += marker in packet
            if arrived == SENT:
                break
        pair.a.ports["net0"].unblock()
        if encapsulation == "secure":
            until(lambda: a.rollovers(pair.b_address) >= 2, PATIENCE_S, "two rollovers")
        pair.wait_whole(a, b)
    for device in (into, out):
        device.close()
    assert_whole(verdicts)
    assert arrived == SENT
    frames = [frame for tap in taps for frame in drain(tap)]
    for tap in taps:
        tap.close()
    found = inner_bytes_in_clear(frames, pair, marker)
    print(f"{encapsulation}: {len(frames)} frames, {len(found)} with inner bytes in clear")
    assert len(frames) > SENT
    if encapsulation == "secure":
        assert [frame.hex() for frame in found[:3]] == []
    else:
        assert len(found) >= SENT


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 1440 - 28])
def test_data_frame_is_its_packet_and_sixty_bytes(pair: Pair, size: int) -> None:
    pair.start()
    ping(pair.a, pair.b_address, count=2, interval_s=0.01)
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    into, out = Device(pair.a, DEVICE), Device(pair.b, DEVICE)
    packet = udp(pair.a_address, pair.b_address, bytes(size), PORT)
    into.send(packet)
    assert next(got for got in out.receive(PATIENCE_S) if got == packet)
    own = {port.ip for port in pair.a.ports.values()}
    frames: list[Datagram] = []

    def copies() -> list[bytes]:
        frames.extend(filter(None, (Datagram.unpack(f) for tap in taps for f in drain(tap))))
        return [
            frame.payload
            for frame in frames
            if frame.source in own
            and frame.payload[:1] == bytes([DATA])
            and frame.packet_bytes == len(packet) + OVERHEAD
        ]

    until(
        lambda: len(copies()) >= len(taps),
        PATIENCE_S,
        lambda: (
            f"a copy of {len(packet) + OVERHEAD} bytes on each LAN, there were "
            f"{[(frame.payload[:1], frame.packet_bytes) for frame in frames]}"
        ),
    )
    sealed = [copy[4:] for copy in copies()]
    for one in (*taps, into, out):
        one.close()
    assert max(map(sealed.count, sealed)) == len(taps), "copies are the same but for bytes 1 to 3"
