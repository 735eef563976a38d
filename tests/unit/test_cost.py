"""What a packet costs the interpreter: instructions and calls are counted, no time is taken.

The same on every machine, and so a guard against what makes the way of a packet grossly longer.
How quick it is, ``make bench`` measures.
"""

import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ropeway.core import tuning
from ropeway.core.packet import ipv4, segments
from ropeway.core.session import aead
from tests.bench.many_clients import Star, classes, memory_kib
from tests.unit.core.secure_streams import numbered
from tests.unit.core.secure_world import PORT, pair
from tests.unit.core.test_several_routers import A as ORIGIN
from tests.unit.core.test_several_routers import C as DESTINATION
from tests.unit.core.test_several_routers import network as two_routers

AGENT = str(Path(segments.__file__).parents[2])
PACKETS = 64
#: What the bars were taken on, with about 15 % to spare; others compile to other instructions, and
#: from 3.12 on not every instruction is told of.
TAKEN_ON = (3, 11)
ELSEWHERE = 1.3
TCP, UDP = 6, 17
ACK = 0x10


class Cost:
    """Runs something twice, the same way, and counts what the agent's own code does.

    The cipher's library is left out: which it is, and what it does in Python, is the machine's.
    """

    def __init__(self, prepare, run):
        """``run`` is given what ``prepare`` returns."""
        self.instructions = self.calls = 0
        self.result = None
        for hook, count in ((sys.settrace, self._trace), (sys.setprofile, self._profile)):
            prepared = prepare()
            before = sys.gettrace() if hook is sys.settrace else sys.getprofile()
            hook(count)
            try:
                self.result = run(prepared)
            finally:
                hook(before)

    def _trace(self, frame, event, _argument):
        if not _own(frame):
            return None
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            self.instructions += 1
        return self._trace

    def _profile(self, frame, event, _argument):
        """Count calls of C functions, and of Python that is not the agent's: a library's."""
        if event == "c_call":
            self.calls += _own(frame)
        elif event == "call":
            self.calls += not _own(frame) and frame.f_back is not None and _own(frame.f_back)

    def assert_at_most(self, instructions, calls, packets=PACKETS):
        """Compare with what a packet may cost."""
        found = (self.instructions / packets, self.calls / packets)
        print(f"a packet: {found[0]:.1f} instructions, {found[1]:.2f} calls")
        spare = 1.0 if sys.version_info[:2] == TAKEN_ON else ELSEWHERE
        assert 0 < found[1] <= calls * spare
        if sys.version_info[:2] <= TAKEN_ON:
            assert 0 < found[0] <= instructions * spare


def _own(frame):
    path = frame.f_code.co_filename
    return path.startswith(AGENT) and path != aead.__file__


def packet(number, size, protocol=UDP):
    """A partial packet of ``size`` bytes of one flow, the ``number``-th of it."""
    source, destination = ipv4.pack("10.0.0.1"), ipv4.pack("10.0.0.2")
    if protocol == TCP:
        sequence = number * (size - 40)
        header = struct.pack(">HHIIBBHHH", 4000, 80, sequence, 7, 5 << 4, ACK, 500, 0, 0)
    else:
        header = struct.pack(">HHHH", 4000, 80, size - 20, 0)
    network = struct.pack(">BBHHHBBH", 0x45, 0, size, number, 0x4000, 64, protocol, 0)
    addresses = source + destination
    checksum = struct.pack(">H", ipv4.checksum(network + addresses))
    body = header + bytes(size - 20 - len(header))
    pseudo = addresses + struct.pack(">HH", protocol, len(body))
    at = 16 if protocol == TCP else 6
    partial = struct.pack(">H", ipv4.checksum(pseudo) ^ 0xFFFF)
    return network[:10] + checksum + addresses + body[:at] + partial + body[at + 2 :]


def batch(size=1200):
    return [packet(number, size) for number in range(PACKETS)]


def world(partial):
    """Two hosts over two links, of which both take packets with partial checksums, or neither."""
    made = pair()
    if partial:
        for node in made.nodes.values():
            node.take_partial()
    made.run(2.0)
    # The first packets wake the strands, which is not what is counted.
    made.send("a", packet(0, 100))
    made.run(0.5)
    assert len(made.delivered["b"]) == 1
    return made


def outbound(made, packets, partial):
    """Send packets; give the trains for each endpoint."""
    node = made.nodes["a"]
    node.outbound(packets, made.now, partial)
    return {endpoint: trains for (_, endpoint), trains in node.take_trains().items()}


def inbound(made, trains, partial):
    """Let a batch arrive over both links; give what the device is written."""
    node = made.nodes["b"]
    for number, (endpoint, those) in enumerate(sorted(trains.items())):
        source = (f"192.168.{number}.2", PORT)
        received = [(b"".join(train.parts), source, train.size) for train in those]
        node.inbound(received, (12 + number, endpoint[0]), made.now)
    return node.take_partial_packets() if partial else node.take_packets()


def super_packet():
    """A device's read: one TCP super-packet, and how many segments of 1200 bytes there are."""
    count = 50
    whole = packet(0, 40 + count * 1160, TCP)
    head = segments.VNET.pack(segments.NEEDS_CSUM, segments.GSO_TCPV4, 40, 1160, 20, 16)
    return head + whole, count


def alone():
    """Reads of one packet of 200 bytes each, as of a device without USO."""
    head = segments.VNET.pack(segments.NEEDS_CSUM, 0, 0, 0, 20, 6)
    return [head + one for one in batch(200)]


def test_what_is_counted_comes_through():
    for partial in (False, True):
        made = world(partial)
        trains = outbound(made, batch(), partial)
        counts = [sum(train.count for train in those) for those in trains.values()]
        assert counts == [PACKETS, PACKETS]
        assert inbound(made, trains, partial) == batch()
    read, count = super_packet()
    ((cut, partial),) = segments.split([read])
    assert partial
    assert [len(one) for one in cut] == [1200] * count
    (merged,) = segments.merge(cut, False)
    assert b"".join(merged)[10:] == read[10:]


@pytest.mark.parametrize("partial", [False, True])
def test_the_way_out_over_two_links(partial):
    packets = batch()
    cost = Cost(lambda: world(partial), lambda made: outbound(made, packets, partial))
    cost.assert_at_most(instructions=171, calls=7.5)


@pytest.mark.parametrize("partial", [False, True])
def test_the_way_in_over_two_links(partial):
    def sent():
        made = world(partial)
        return made, outbound(made, batch(), partial)

    cost = Cost(sent, lambda given: inbound(*given, partial))
    assert len(cost.result) == PACKETS
    cost.assert_at_most(instructions=350, calls=11.6)


#: Hosts on the way through two routers, each by an address of its own: where its packets come to.
CLIENT, BY, FAR = ("a", "192.168.0.3"), ("r", "192.168.0.1"), ("c", "192.168.1.4")


def labelled():
    """A network with two routers, and what the client sends through them."""
    made = two_routers()
    packets = [numbered(ORIGIN, DESTINATION, count) for count in range(PACKETS)]
    made.send("a", packets[0])
    made.run(0.5)
    return made, packets


def handed_on(made, trains, to, source):
    """Let trains to an address arrive at the host that has it; give what it has to send."""
    name, address = to
    node = made.nodes[name]
    received = [
        (b"".join(train.parts), (source, PORT), train.size)
        for (_, endpoint), those in trains.items()
        for train in those
        if endpoint[0] == address
    ]
    (index,) = (one.index for one in made.links(name) if one.addresses[0].startswith(address))
    node.inbound(received, (index, address), made.now)
    return node.take_trains()


def test_the_ways_of_packets_through_two_routers():
    def out(given):
        made, packets = given
        made.nodes["a"].outbound(packets, made.now)
        return made.nodes["a"].take_trains()

    sending = Cost(labelled, out)
    sending.assert_at_most(instructions=256, calls=14.3)

    def at_router():
        made, packets = labelled()
        return made, out((made, packets))

    passing = Cost(at_router, lambda given: handed_on(*given, BY, CLIENT[1]))
    passing.assert_at_most(instructions=430, calls=16.8)

    def at_destination():
        made, trains = at_router()
        return made, handed_on(made, trains, BY, CLIENT[1])

    def arrive(given):
        handed_on(*given, FAR, "192.168.1.1")
        return given[0].nodes["c"].take_packets()

    taking = Cost(at_destination, arrive)
    assert len(taking.result) == PACKETS
    taking.assert_at_most(instructions=423, calls=13.7)


def test_cutting_and_merging_a_super_packet():
    read, count = super_packet()
    split = Cost(lambda: [read], segments.split)
    ((cut, _),) = split.result
    split.assert_at_most(instructions=64, calls=2.6, packets=count)
    merge = Cost(lambda: cut, lambda packets: segments.merge(packets, False))
    merge.assert_at_most(instructions=98, calls=6.3, packets=count)


def test_small_packets_that_nothing_merges():
    split = Cost(alone, segments.split)
    ((packets, partial),) = split.result
    assert partial
    assert len(packets) == PACKETS
    split.assert_at_most(instructions=104, calls=2.3)
    merge = Cost(lambda: packets, lambda packets: segments.merge(packets, False))
    assert len(merge.result) == PACKETS
    merge.assert_at_most(instructions=134, calls=5.8)


class Instructions:
    """Counts what the router's own code does, for :class:`tests.bench.many_clients.Star`."""

    def __init__(self):
        self._count = 0

    def start(self):
        self._count = 0
        sys.settrace(self._trace)

    def stop(self):
        sys.settrace(None)
        return self._count

    def _trace(self, frame, event, _argument):
        if not _own(frame):
            return None
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        # Calls and returns count like instructions.
        self._count += 1
        return self._trace


def spent_by_router(of, clients):
    star = Star(clients, of)
    # What data that begins to flow stirs up is over before anything is counted.
    star.load(20.0, 0.1)
    star.meter = Instructions()
    star.spent = type(star.spent)()
    star.run(2.0)
    return star.spent


def test_router_of_a_hundred_clients_pays_little_more_for_adaptive_classes(monkeypatch):
    clients = 8
    # Each has the share that it would have beside 99 others.
    monkeypatch.setattr(tuning, "NODE_ASKS_PER_S", tuning.NODE_ASKS_PER_S * clients / 100)
    most = 1.3 if sys.version_info[:2] <= TAKEN_ON else 1.3 * ELSEWHERE
    redundant = spent_by_router(classes("redundant", 1), clients)
    for count in (1, 3, 32):
        adaptive = spent_by_router(classes("adaptive", count), clients)
        ratio = adaptive.packet_us / redundant.packet_us
        print(f"{count} classes: {ratio:.2f} times as much for each packet")
        assert adaptive.packets == pytest.approx(redundant.packets, abs=clients)
        assert ratio <= most


def test_client_takes_less_than_forty_five_kib_of_a_router(monkeypatch):
    clients = 8
    monkeypatch.setattr(tuning, "NODE_ASKS_PER_S", tuning.NODE_ASKS_PER_S * clients / 100)
    for of in (classes("redundant", 1), classes("adaptive", 3)):
        kib = memory_kib(clients, of, 20.0)
        print(f"{kib:.1f} KiB")
        assert 16 < kib < 45


def test_one_more_known_route_makes_a_router_look_at_no_other_client():
    calls = {}
    for clients in (5, 25):
        router = Star(clients, ()).router
        links = [
            replace(
                link,
                sources={**link.sources, "203.0.113.9": link.addresses[0].split("/")[0]},
                looked_up=link.looked_up | {"203.0.113.9"},
            )
            for link in router._peers.links
        ]
        calls[clients] = _calls_of(lambda node=router, now=links: node.set_links(now, 2000.0))
    print(calls)
    # What would be done for each client is 200 calls and more.
    assert (calls[25] - calls[5]) / 20 < 60


def test_idle_client_costs_a_router_little_however_many_there_are():
    found = {}
    for clients in (5, 20):
        star = Star(clients, ())
        # Until no pause between two frames grows any more.
        star.run(300.0)
        star.meter = counted = CallMeter()
        star.run(60.0)
        found[clients] = counted.calls / clients / 60.0
    print(f"calls a second for each client: {found}")
    assert 0 < found[20] <= 1.1 * found[5]
    assert found[20] < 36


class CallMeter:
    """Counts the calls of the agent's functions between a start and a stop."""

    def __init__(self):
        self.calls = 0

    def start(self):
        sys.setprofile(self._called)

    def stop(self):
        sys.setprofile(None)
        return 0.0

    def _called(self, frame, event, _argument):
        self.calls += event == "call" and _own(frame)


def _calls_of(run):
    """Return how many functions of the agent are called."""
    meter = CallMeter()
    meter.start()
    try:
        run()
    finally:
        meter.stop()
    return meter.calls
