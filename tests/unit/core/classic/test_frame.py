"""The classic encapsulation: captured vectors, round trip, arbitrary bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.classic import frame as classic
from ropeway.core.drops import Drop
from ropeway.core.packet import ipv4
from tests.unit.core.classic_world import encode

HERE, THERE = ipv4.pack("192.168.18.185"), ipv4.pack("192.168.18.196")
HOST_1, HOST_2 = ipv4.pack("10.0.0.1"), ipv4.pack("10.0.0.2")

INNER_1 = bytes.fromhex(
    "45000022 6e5c4000 4011b86c 0a000001 0a000002 ce7a6400 000e9582 48656c6c 6f00"
)
INNER_2 = bytes.fromhex(
    "45000022 6f154000 4011b7b3 0a000001 0a000002 ce7a6400 000e9582 48656c6c 6f00"
)

# Captured from the first implementation on x86-64.
VECTORS = {
    "greeting": (
        "48000022 01000000 4004c209 c0a812b9 c0a812c4 0a000001 02000000 02000000 0000",
        classic.Frame(1, HERE, THERE, HOST_1, 2, 2, 0, False, 0, b""),
    ),
    "answer": (
        "48000022 01000000 4004c208 c0a812c4 c0a812b9 0a000002 02000000 02000000 0100",
        classic.Frame(1, THERE, HERE, HOST_2, 2, 2, 1, False, 0, b""),
    ),
    "first packet": (
        "48000044 02000000 4004c0e7 c0a812b9 c0a812c4 0a000001 02000000 02000000 0e00"
        + INNER_1.hex(),
        classic.Frame(2, HERE, THERE, HOST_1, 2, 2, 2, True, 1, INNER_1),
    ),
    "next packet": (
        "48000044 03000000 4004bfe7 c0a812b9 c0a812c4 0a000001 02000000 02000000 1600"
        + INNER_2.hex(),
        classic.Frame(3, HERE, THERE, HOST_1, 2, 2, 2, True, 2, INNER_2),
    ),
}


def frames():
    address = st.binary(min_size=4, max_size=4)
    index = st.integers(0, 2**32 - 1)
    empty = st.tuples(st.just(False), st.just(b""))
    full = st.tuples(st.just(True), st.binary(max_size=1500))
    return st.builds(
        lambda ident, src, dst, host, si, di, state, carried, id_: classic.Frame(
            ident, src, dst, host, si, di, state, carried[0], id_, carried[1]
        ),
        st.integers(1, 65535),
        address,
        address,
        address,
        index,
        index,
        st.integers(0, 2),
        st.one_of(empty, full),
        st.integers(0, classic.ID_MODULUS - 1),
    )


@pytest.mark.parametrize("name", VECTORS)
def test_a_captured_frame_is_encoded_byte_for_byte(name):
    captured, frame = VECTORS[name]
    assert encode(frame).hex() == bytes.fromhex(captured).hex()


@pytest.mark.parametrize("name", VECTORS)
def test_a_captured_frame_is_decoded(name):
    captured, frame = VECTORS[name]
    assert classic.decode(bytes.fromhex(captured)) == frame


@given(frames())
def test_what_is_encoded_is_decoded(frame):
    datagram = encode(frame)
    assert classic.fault(datagram) is None
    assert classic.decode(datagram) == frame
    assert ipv4.checksum(datagram[:32]) == 0


@given(frames(), st.binary(min_size=1, max_size=40))
def test_padding_of_short_frames_is_ignored(frame, padding):
    assert classic.decode(encode(frame) + padding) == frame


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise(data):
    if classic.fault(data) is None:
        classic.decode(data)


@given(frames(), st.integers(0, 31), st.integers(1, 255))
def test_a_changed_byte_of_the_header_is_noticed(frame, at, change):
    datagram = bytearray(encode(frame))
    datagram[at] ^= change
    assert classic.fault(bytes(datagram)) in (Drop.CHECKSUM, Drop.MALFORMED)


@given(frames(), st.data())
def test_a_truncated_frame_is_malformed(frame, data):
    datagram = encode(frame)
    cut = data.draw(st.integers(0, len(datagram) - 1))
    assert classic.fault(datagram[:cut]) is Drop.MALFORMED


def test_a_received_3_is_taken_for_2():
    datagram = bytearray(bytes.fromhex(VECTORS["greeting"][0]))
    datagram[32] |= 3
    assert classic.fault(bytes(datagram)) is None
    assert classic.decode(bytes(datagram)).state == classic.state_of(bytes(datagram)) == 2


def test_a_payload_without_the_forward_bit_is_malformed():
    datagram = bytearray(bytes.fromhex(VECTORS["first packet"][0]))
    datagram[32] &= ~classic.FORWARD
    assert classic.fault(bytes(datagram)) is Drop.MALFORMED
