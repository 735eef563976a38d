"""The reference node is worth something only if it says what the captured vectors say."""

import pytest

from tests.system.reference_node import Frame
from tests.system.stage import Pair, Stage
from tests.system.topology import until
from tests.system.traffic import assert_whole, both_ways

HELLO_1 = "450000226e5c40004011b86c0a0000010a000002ce7a6400000e958248656c6c6f00"
HELLO_2 = "450000226f1540004011b7b30a0000010a000002ce7a6400000e958248656c6c6f00"
VECTORS = {
    "greeting": (
        "48000022010000004004c209c0a812b9c0a812c40a00000102000000020000000000",
        Frame("192.168.18.185", "192.168.18.196", "10.0.0.1", 2, 2, 0),
    ),
    "answer": (
        "48000022010000004004c208c0a812c4c0a812b90a00000202000000020000000100",
        Frame("192.168.18.196", "192.168.18.185", "10.0.0.2", 2, 2, 1),
    ),
    "first datagram": (
        "48000044020000004004c0e7c0a812b9c0a812c40a00000102000000020000000e00" + HELLO_1,
        Frame(
            "192.168.18.185", "192.168.18.196", "10.0.0.1", 2, 2, 2, 1, bytes.fromhex(HELLO_1), 2
        ),
    ),
    "second datagram": (
        "48000044030000004004bfe7c0a812b9c0a812c40a00000102000000020000001600" + HELLO_2,
        Frame(
            "192.168.18.185", "192.168.18.196", "10.0.0.1", 2, 2, 2, 2, bytes.fromhex(HELLO_2), 3
        ),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_reference_node_writes_and_reads_the_captured_vectors(name: str) -> None:
    packet, frame = VECTORS[name]
    assert frame.pack().hex() == packet
    assert Frame.unpack(bytes.fromhex(packet)) == frame


@pytest.mark.parametrize("links", [1, 2])
def test_two_reference_nodes_talk_to_each_other(stage: Stage, links: int) -> None:
    pair = Pair(stage, links, encapsulation="classic")
    a = stage.reference(pair.a, pair.a_address)
    for port in pair.b.ports.values():
        a.remote(pair.b_address, port.index, port.ip)
    b = stage.reference(pair.b, pair.b_address).start()
    a.start()
    # It sends across LANs, too: bound to a device without a route, the kernel takes the far address
    # for a neighbour, and the far host answers ARP for all of its addresses.
    for node, other in ((a, b), (b, a)):
        node.wait_states(
            other.address,
            "every connection at state 2",
            lambda states: len(states) == links**2 and set(states.values()) == {2},
        )
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=500) as verdicts:
        until(lambda: b.status()[a.address]["delivered"] > 500, 10, "500 packets delivered")
    assert_whole(verdicts)
