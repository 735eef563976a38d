"""The reference node is worth something only if it says what the captured vectors say."""

import pytest

from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import until

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


def test_reference_node_dies_of_a_2_that_reaches_it_too_early(stage: Stage) -> None:
    """As the first implementation does, also where it is another one that says so."""
    pair = Pair(stage, 1, encapsulation="classic")
    a = stage.reference(pair.a, pair.a_address)
    for port in pair.b.ports.values():
        a.remote(pair.b_address, port.index, port.ip)
    b = stage.reference(pair.b, pair.b_address).start()
    a.start()
    until(lambda: not b.alive, 10, lambda: f"it ends: {b.log()}")
    assert "state 3: 192.168.0.2 says 2 to an end below 2" in b.log()
