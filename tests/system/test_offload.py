"""Trains and super-packets: whatever the kernel offers or lacks, the traffic is the same."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import socket
import struct
from typing import Iterator

import pytest

from tests.system.bed.agents import Agent
from tests.system.bed.checksums import watched
from tests.system.bed.stage import Pair, Stage, TwoFamilies
from tests.system.bed.topology import Host, Port
from tests.system.bed.traffic import (
    BUFFER_BYTES,
    SO_RCVBUFFORCE,
    bulk,
    checksum,
    ping,
    transfer_both_ways,
)
from tests.system.test_two_links import wait_cut

FEATURES = ("vnet_hdr", "tso", "uso", "udp_segment", "udp_gro")
ALL = frozenset(FEATURES)
NONE: frozenset[str] = frozenset()
#: What one end and the other leave off. The ends differ in who calls whom, and all traffic goes
#: both ways.
OFF = {
    "all on": (NONE, NONE),
    "all off": (ALL, ALL),
    "all off at one end": (ALL, NONE),
    "all off at the other": (NONE, ALL),
    "no vnet_hdr at one end": ({"vnet_hdr"}, NONE),
    "no vnet_hdr": ({"vnet_hdr"}, {"vnet_hdr"}),
    "no tso at the other end": (NONE, {"tso"}),
    "no tso": ({"tso"}, {"tso"}),
    "no uso at one end": ({"uso"}, NONE),
    "no uso": ({"uso"}, {"uso"}),
    "no udp_segment at the other end": (NONE, {"udp_segment"}),
    "no udp_gro at one end": ({"udp_gro"}, NONE),
    "neither udp_segment nor udp_gro": ({"udp_segment", "udp_gro"}, {"udp_segment", "udp_gro"}),
}
#: Features without which others have nothing to stand on.
NEEDED = {"tso": "vnet_hdr", "uso": "vnet_hdr"}
USO_KERNEL = (6, 2)
#: Why an agent drops what is damaged.
DAMAGED = ("malformed", "malformed_inner", "not_ipv4", "forged", "too_big")

STALL_S = 1.0
#: Bytes a second that leave the processors to the tests beside this one.
PACE = 3_000_000
PORT = 4800
#: What an agent with its capabilities is never refused.
RECEIVE_BYTES = 1 << 20
BURST = 32
BURST_S = 5.0
#: After the last datagram nothing more may come for so long.
AFTER_S = 0.3
PINGS = 500
PING_INTERVAL_S = 0.002
UDP_HEADERS = 28
LARGER = (1, 600, 3000, 9000, 20_000, 40_000)
UDP_LARGEST = 65_507
SEGMENT_BYTES = 1200
SEGMENTS = 40
SUPER_PACKETS = 8

SO_NO_CHECK = 11  # asm-generic/socket.h
UDP_SEGMENT = 103  # include/uapi/linux/udp.h
UDP_GRO = 104
# include/uapi/linux/sockios.h and ethtool.h: struct ethtool_value { __u32 cmd, data; }
SIOCETHTOOL = 0x8946
ETHTOOL_GTXCSUM = 0x16
ETHTOOL_STXCSUM = 0x17
ETHTOOL_VALUE = struct.Struct("=II")
IFREQ = struct.Struct("@16sP16x")


def kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


def offload(disabled: frozenset[str] | set[str]) -> dict[str, object]:
    """Return the key of the configuration, none where there is nothing to say."""
    return {"offload": {"disable": sorted(disabled)}} if disabled else {}


def assert_offload(agent: Agent, disabled: frozenset[str] | set[str]) -> None:
    """The status names each feature, and says why one is off."""
    told = agent.status()["offload"]
    assert set(told) == ALL
    for name, state in told.items():
        if name in disabled:
            assert "configuration" in state, told
        elif NEEDED.get(name) in disabled:
            assert state != "on", told
            assert state, told
        elif name != "uso" or kernel() >= USO_KERNEL:
            assert state == "on", told


@pytest.fixture(params=OFF.values(), ids=OFF.keys())
def off(request: pytest.FixtureRequest) -> tuple[set[str], set[str]]:
    one, other = request.param
    return one, other


def start(pair: Pair, off: tuple[set[str], set[str]]) -> tuple[Agent, Agent]:
    a = pair.a_agent(**offload(off[0])).start()
    b = pair.b_agent(**offload(off[1])).start()
    pair.wait_whole(a, b)
    return a, b


def assert_clean(*agents: Agent) -> None:
    """No agent found anything wrong in what it took, nor its kernel in what it was given."""
    for agent in agents:
        status = agent.status()
        dropped = status["counters"]["dropped"]
        assert not [why for why in DAMAGED if dropped.get(why)], dropped
        assert status["device"]["write_errors"] == {}


def test_tcp_arrives_whole_both_ways_at_once(pair: Pair, off: tuple[set[str], set[str]]) -> None:
    a, b = start(pair, off)
    with watched(pair.a, pair.b) as watch:
        transfer_both_ways(pair.a, pair.a_address, pair.b, pair.b_address)
    assert_clean(a, b)
    for agent, host, disabled in ((a, pair.a, off[0]), (b, pair.b, off[1])):
        assert_offload(agent, disabled)
        mtu = agent.status()["device"]["mtu"]
        whole = not disabled & {"vnet_hdr", "tso"}
        # The kernel leaves the cutting to the agent, or it does not.
        assert (watch.largest_outgoing(host) > mtu) == whole
        if "vnet_hdr" in disabled:
            assert not any(seen.partial for seen in watch.incoming(host))
    if not off[0] | off[1]:
        for host in (pair.a, pair.b):
            assert max(len(seen.packet) for seen in watch.incoming(host)) > mtu, "nothing is merged"


def test_tcp_goes_on_while_a_link_is_cut(pair: Pair, off: tuple[set[str], set[str]]) -> None:
    a, b = start(pair, off)
    port = pair.a.ports["net0"]
    with watched(pair.a, pair.b), bulk(pair.a, pair.b, pair.b_address, pace=PACE) as there, bulk(
        pair.b, pair.a, pair.a_address, pace=PACE
    ) as back:
        port.block()
        wait_cut(pair, a, b, "net0")
        port.unblock()
        pair.wait_whole(a, b)
        for transfer in (there, back):
            moved = transfer.stop()
            print(moved)
            assert moved.whole, moved
            assert moved.stall_s < STALL_S, moved


@contextlib.contextmanager
def sockets(sender: Host, receiver: Host, destination: str) -> Iterator[list[socket.socket]]:
    """Have a UDP socket that sends and one that it reaches."""
    with contextlib.ExitStack() as stack:
        out, into = (
            stack.enter_context(host.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for host in (sender, receiver)
        )
        into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        into.bind((destination, PORT))
        out.connect((destination, PORT))
        yield [out, into]


def received(into: socket.socket, wanted: int) -> list[bytes]:
    """Read datagrams until there are as many as wanted, cut apart if the kernel joined them."""
    got: list[bytes] = []
    into.settimeout(BURST_S)
    while len(got) < wanted:
        try:
            data, ancillary, _, _ = into.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        except TimeoutError:
            break
        size = len(data) or 1
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                size = int.from_bytes(value, "little")
        got += [data[at : at + size] for at in range(0, max(1, len(data)), size)]
    return got


def assert_same(got: list[bytes], sent: list[bytes]) -> None:
    """The same datagrams in whatever order, each once."""
    if sorted(got) != sorted(sent):
        missing = [len(one) for one in sent if one not in got]
        foreign = [len(one) for one in got if one not in sent]
        raise AssertionError(
            f"{len(sent)} sent, {len(got)} received; sizes not received: {missing[:20]}, "
            f"not sent: {foreign[:20]}"
        )


def assert_silent(into: socket.socket) -> None:
    into.settimeout(AFTER_S)
    with pytest.raises(TimeoutError):
        into.recv(1 << 16)


def draw() -> random.Random:
    seed = int(os.environ.get("ROPEWAY_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"ROPEWAY_SEED={seed}")
    return random.Random(seed)


def payload_that_sums_to_zero(out: socket.socket) -> bytes:
    """Return two bytes with which the UDP checksum is 0, which is sent as ffff (RFC 768)."""
    source, destination = out.getsockname(), out.getpeername()
    header = struct.pack("!HHHH", source[1], destination[1], 10, 0)
    pseudo = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    pseudo += struct.pack("!BBH", 0, socket.IPPROTO_UDP, 10)
    return struct.pack("!H", checksum(pseudo + header + bytes(2)))


def test_datagrams_arrive_intact_and_once(pair: Pair, off: tuple[set[str], set[str]]) -> None:
    a, b = start(pair, off)
    mtu = a.status()["device"]["mtu"]
    fits = mtu - UDP_HEADERS
    sizes = [*range(fits + 1), *(fits + more for more in LARGER), UDP_LARGEST]
    chosen = draw()
    chosen.shuffle(sizes)
    ways = ((pair.a, pair.b, pair.b_address), (pair.b, pair.a, pair.a_address))
    with watched(pair.a, pair.b) as watch:
        for sender, receiver, address in ways:
            with sockets(sender, receiver, address) as (out, into):
                for start_ in range(0, len(sizes), BURST):
                    sent = [chosen.randbytes(size) for size in sizes[start_ : start_ + BURST]]
                    for payload in sent:
                        out.send(payload)
                    assert_same(received(into, len(sent)), sent)
                    watch.look()
                zero = payload_that_sums_to_zero(out)
                out.send(zero)
                assert received(into, 1) == [zero]
                watch.look()
                last = watch.incoming(receiver)[-1]
                assert last.payload[8:] == zero
                assert last.partial or last.payload[6:8] == b"\xff\xff"
                # Who wants no checksum gets none.
                out.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
                sent = [chosen.randbytes(size) for size in (1, 700, 700, 700, fits)]
                for payload in sent:
                    out.send(payload)
                assert_same(received(into, len(sent)), sent)
                watch.look()
                for seen in watch.incoming(receiver)[-len(sent) :]:
                    assert not seen.partial
                    assert seen.payload[6:8] == bytes(2)
                assert_silent(into)
    assert_clean(a, b)
    verdict = ping(pair.a, pair.b_address, PINGS, PING_INTERVAL_S)
    print(verdict)
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict


def test_super_packets_of_an_application_keep_their_boundaries(
    pair: Pair, off: tuple[set[str], set[str]]
) -> None:
    agents = start(pair, off)
    chosen = draw()
    ways = (
        (agents[0], pair.a, pair.b, pair.b_address),
        (agents[1], pair.b, pair.a, pair.a_address),
    )
    with watched(pair.a, pair.b) as watch:
        for agent, sender, receiver, address in ways:
            for joined in (False, True):
                with sockets(sender, receiver, address) as (out, into):
                    into.setsockopt(socket.IPPROTO_UDP, UDP_GRO, joined)
                    for number in range(SUPER_PACKETS):
                        # The last segment of every other one is shorter.
                        size = SEGMENT_BYTES * SEGMENTS - 777 * (number % 2)
                        data = chosen.randbytes(size)
                        send_super_packet(agent, out, data)
                        sent = [
                            data[at : at + SEGMENT_BYTES] for at in range(0, size, SEGMENT_BYTES)
                        ]
                        assert_same(received(into, len(sent)), sent)
                        watch.look()
                    assert_silent(into)
    assert_clean(*agents)
    for agent, host in zip(agents, (pair.a, pair.b)):
        whole = agent.status()["offload"]["uso"] == "on"
        assert (watch.largest_outgoing(host) > SEGMENT_BYTES * 2) == whole


def send_super_packet(agent: Agent, out: socket.socket, data: bytes) -> None:
    size = struct.pack("=H", SEGMENT_BYTES)
    try:
        out.sendmsg([data], [(socket.IPPROTO_UDP, UDP_SEGMENT, size)])
    except OSError:
        # Up to Linux 6.10 a device without checksum offload takes none from anybody.
        assert agent.status()["offload"]["vnet_hdr"] != "on"
        for at in range(0, len(data), SEGMENT_BYTES):
            out.send(data[at : at + SEGMENT_BYTES])


def test_trains_travel_over_ipv6_alone(stage: Stage) -> None:
    pair = TwoFamilies(stage)
    for host in (pair.a, pair.b):
        host.ports["net4"].unplug()
    a, b = pair.a_agent().start(), pair.b_agent().start()
    _, link = pair.links()
    a.wait_carrying(pair.b_address, link)
    b.wait_carrying(pair.a_address, link[::-1])
    with watched(pair.a, pair.b):
        transfer_both_ways(pair.a, pair.a_address, pair.b, pair.b_address)
    assert_clean(a, b)


def test_status_shows_buffers_and_what_found_no_room(pair: Pair) -> None:
    a, b = pair.start()
    assert ping(pair.a, pair.b_address, count=20, interval_s=0.01).lost == 0
    for status in (a.status(), b.status()):
        assert status["device"]["dropped"] == {}
        assert len(status["links"]) == 2
        for link in status["links"]:
            assert link["dropped"] == {}
            assert set(link["buffers"]) == {"send", "receive"}
            assert link["buffers"]["receive"] >= RECEIVE_BYTES, (
                "the agent may have what it asks for"
            )
            assert link["buffers"]["send"] > 0


def refuse_checksums(port: Port) -> None:
    """Take the checksum offload of an interface away, as ``ethtool --offload X tx off`` does."""
    value = ctypes.create_string_buffer(ETHTOOL_VALUE.pack(ETHTOOL_STXCSUM, 0))
    request = IFREQ.pack(port.interface.encode(), ctypes.addressof(value))
    with port.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
        ETHTOOL_VALUE.pack_into(value, 0, ETHTOOL_GTXCSUM, 1)
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
    assert ETHTOOL_VALUE.unpack_from(value) == (ETHTOOL_GTXCSUM, 0)


def test_interface_without_checksum_offload_carries_as_well(pair: Pair) -> None:
    refuse_checksums(pair.a.ports["net0"])
    refuse_checksums(pair.b.ports["net1"])
    a, b = pair.start()
    with watched(pair.a, pair.b):
        transfer_both_ways(pair.a, pair.a_address, pair.b, pair.b_address)
    pair.wait_whole(a, b)
