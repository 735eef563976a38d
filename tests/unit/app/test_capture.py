"""Key lines, and captures of frames that are made here byte by byte."""

from __future__ import annotations

import io
import socket
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from ropeway.app import capture
from ropeway.core.frame.label import encode_label
from ropeway.core.session.aead import CIPHER_NAME
from tests.unit.core import secure_vectors

KEY_IN, KEY_OUT = bytes([1]) * 32, bytes([2]) * 32
INDEX_IN, INDEX_OUT = b"\x0a\x0b\x0c\x0d", b"\x01\x02\x03\x04"
SESSION = {
    "host": "10.0.0.2",
    "cipher": CIPHER_NAME,
    "receive_index": INDEX_IN.hex(),
    "receive_key": KEY_IN.hex(),
    "send_index": INDEX_OUT.hex(),
    "send_key": KEY_OUT.hex(),
}
PACKET = b"E\0\0\x1cinner packet, 28 bytes.."


def frame(counter, inner=PACKET, index=INDEX_IN, key=KEY_IN, kind=4, way=1):
    """Lay a data frame out: type, way, link sequence, index, counter, ciphertext and tag."""
    sealed = ChaCha20Poly1305(key).encrypt(
        bytes(4) + struct.pack("<Q", counter), inner, bytes([kind])
    )
    return struct.pack("<BBH4sQ", kind, way, counter & 0xFFFF, index, counter) + sealed


def udp4(payload, fragment=0x4000, protocol=17):
    datagram = struct.pack(">HHHH", 51840, 51840, 8 + len(payload), 0) + payload
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, fragment, 64, protocol, 0,
        socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2"),
    )  # fmt: skip
    return header + datagram


def udp6(payload):
    datagram = struct.pack(">HHHH", 51840, 51840, 8 + len(payload), 0) + payload
    return struct.pack(">IHBB", 6 << 28, len(datagram), 17, 64) + bytes(32) + datagram


def ethernet(packet, protocol=b"\x08\x00"):
    return (bytes(12) + protocol + packet).ljust(60, b"\0")


def pcap(*packets, linktype=1, magic=capture.MAGIC_US, order="<", cut=0):
    data = struct.pack(order + capture.FILE_HEADER_FIELDS, magic, 2, 4, 0, 0, 65535, linktype)
    for number, packet in enumerate(packets):
        kept = packet[: len(packet) - cut]
        data += struct.pack(order + "IIII", 1000 + number, 7, len(kept), len(packet)) + kept
    return io.BytesIO(data)


def keys():
    return capture.read_keys(capture.key_lines([SESSION]), "f")


def decrypt(file, **options):
    """Return the packets written, with their seconds, and the counts other than zero."""
    output = io.BytesIO()
    counts = capture.decrypt(capture.Pcap(file), keys(), output, **options)
    output.seek(0)
    written = capture.Pcap(output)
    assert written.linktype == 101
    return [(at, packet) for at, _, packet, _ in written], {k: n for k, n in counts.items() if n}


def test_key_lines_can_be_read_again():
    assert capture.key_lines([SESSION]) == [
        f"0a0b0c0d {CIPHER_NAME} {'01' * 32} in 10.0.0.2",
        f"01020304 {CIPHER_NAME} {'02' * 32} out 10.0.0.2",
    ]
    assert set(keys()) == {INDEX_IN, INDEX_OUT}
    assert capture.read_keys(["# comment\n", "\n"], "f") == {}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nonsense", "f:2: this is no line of `ropeway keylog`"),
        (f"0a0b {CIPHER_NAME} {'01' * 32}", "f:2: this is no line of `ropeway keylog`"),
        (f"0a0b0c0d {CIPHER_NAME} {'01' * 31}", "f:2: this is no line of `ropeway keylog`"),
        (f"0a0b0c0d ROT13 {'01' * 32} in", f"f:2: this version opens {CIPHER_NAME}, not ROT13"),
    ],
)
def test_line_that_is_none(line, error):
    with pytest.raises(capture.CaptureError) as caught:
        capture.read_keys(["\n", line], "f")
    assert str(caught.value) == error


def test_first_copies_of_both_directions():
    other = frame(1, index=INDEX_OUT, key=KEY_OUT)
    file = pcap(*(ethernet(udp4(f)) for f in (frame(1), frame(1, way=2), other, frame(2))))
    packets, counts = decrypt(file)
    assert packets == [(1000, PACKET), (1002, PACKET), (1003, PACKET)]
    assert counts == {"written": 3, "copies": 1}


def test_all_copies():
    file = pcap(*(ethernet(udp4(frame(1, way=way))) for way in (1, 2)))
    assert decrypt(file, all_copies=True) == (
        [(1000, PACKET), (1001, PACKET)], {"written": 2}
    )  # fmt: skip


def test_checksums_that_were_left_to_the_receiver_are_filled_in():
    frames = [frame(n, inner=secure_vectors.PARTIAL_PACKET, kind=7) for n in (1, 2)]
    packets, counts = decrypt(pcap(*map(udp4, frames), linktype=101))
    assert packets == [(1000, secure_vectors.PACKET), (1001, secure_vectors.PACKET)]
    assert counts == {"written": 2}


def labelled(count, spare=False, **options):
    label = encode_label(b"\x0a\0\0\1", 7, count, spare)
    return frame(count, inner=label + options.pop("inner", PACKET), **options)


def test_a_packet_that_travels_through_two_routers_is_written_once_and_without_its_label():
    """The copies are of two sessions, with keys of their own."""
    second = {"index": INDEX_OUT, "key": KEY_OUT, "spare": True}
    frames = [labelled(1, kind=10), labelled(1, kind=10, **second), labelled(2, kind=10)]
    file = pcap(*map(udp4, frames), linktype=101)
    packets, counts = decrypt(file)
    assert packets == [(1000, PACKET), (1002, PACKET)]
    assert counts == {"written": 2, "copies": 1}
    file.seek(0)
    assert len(decrypt(file, all_copies=True)[0]) == 3


def test_checksum_behind_a_label_is_filled_in():
    one = labelled(1, kind=11, inner=secure_vectors.PARTIAL_PACKET)
    assert decrypt(pcap(udp4(one), linktype=101))[0] == [(1000, secure_vectors.PACKET)]


def test_parity_frames_are_left_out():
    frames = [frame(1), frame(2, kind=9, inner=bytes(60)), frame(3)]
    packets, counts = decrypt(pcap(*map(udp4, frames), linktype=101))
    assert packets == [(1000, PACKET), (1002, PACKET)]
    assert counts == {"written": 2}


def test_frame_of_one_kind_is_not_opened_as_another():
    passed_off = [bytes([kind]) + frame(1, kind=other)[1:] for kind, other in ((7, 4), (4, 7))]
    assert decrypt(pcap(*map(udp4, passed_off), linktype=101)) == ([], {"not authentic": 2})


def numbered(count, size=100):
    """Return so many packets, the last of them shorter."""
    return [bytes([n]) * (size if n < count - 1 else size // 2) for n in range(count)]


@pytest.mark.parametrize("layout", [udp4, udp6])
@pytest.mark.parametrize("count", [2, 3, 44])
@pytest.mark.parametrize("size", [10, 100, 1400])
def test_frames_that_the_kernel_carried_together(count, size, layout):
    inner = numbered(count, size)
    train = b"".join(frame(n, packet) for n, packet in enumerate(inner))
    packets, counts = decrypt(pcap(layout(train), layout(train), linktype=101))
    assert packets == [(1000, packet) for packet in inner]
    assert counts == {"written": count, "copies": count}


def test_others_among_frames_that_the_kernel_carried_together():
    first, second, third = (frame(n, bytes([n]) * 80) for n in range(3))
    forged = second[:-1] + bytes([second[-1] ^ 1])
    control = frame(7, bytes(80), kind=5)
    later = frame(0, bytes(80), INDEX_OUT, KEY_OUT)
    strange = frame(0, bytes(80), b"none")
    for pieces, came, counts in (
        ([control, first, second], [0, 1], {"written": 2}),
        ([first, later, second], [0, 0, 1], {"written": 3}),
        ([first, forged, third, second], [0, 2, 1], {"written": 3, "not authentic": 1}),
        ([first, second, strange], [0, 1], {"written": 2, "without key": 1}),
        ([first, second, first], [0, 1], {"written": 2, "copies": 1}),
        ([first, second, bytes(20)], [0, 1], {"written": 2}),
    ):
        packets, counted = decrypt(pcap(udp4(b"".join(pieces)), linktype=101))
        assert [packet[0] for _, packet in packets] == came
        assert counted == counts


def test_frames_carried_together_and_cut_short():
    train = b"".join(frame(n, packet) for n, packet in enumerate(numbered(3)))
    assert decrypt(pcap(udp4(train), cut=5, linktype=101))[1] == {"written": 2, "cut short": 1}


def test_packet_that_holds_the_index_of_its_session():
    # What is sealed looks like anything; here a header seems to stand in it.
    plain = frame(1, bytes(200))
    faked = plain[:60] + plain[:8] + plain[68:]
    assert decrypt(pcap(udp4(faked), linktype=101)) == ([], {"not authentic": 1})


@pytest.mark.parametrize(
    ("packet", "linktype"),
    [
        (ethernet(udp4(frame(1))), 1),
        (ethernet(udp6(frame(1)), b"\x86\xdd"), 1),
        (ethernet(b"\0\x05\x08\x00" + udp4(frame(1)), b"\x81\x00"), 1),
        (ethernet(b"\0\x05\x81\x00\0\x06\x86\xdd" + udp6(frame(1)), b"\x88\xa8"), 1),
        (udp4(frame(1)), 101),
        (udp6(frame(1)), 101),
        (udp4(frame(1)), 228),
        (udp6(frame(1)), 229),
        (bytes(14) + b"\x08\x00" + udp4(frame(1)), 113),
        (b"\x86\xdd" + bytes(18) + udp6(frame(1)), 276),
    ],
)
def test_ways_to_capture(packet, linktype):
    assert decrypt(pcap(packet, linktype=linktype))[0] == [(1000, PACKET)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [capture.MAGIC_US, capture.MAGIC_NS])
def test_byte_orders_and_resolutions(order, magic):
    output = io.BytesIO()
    file = pcap(ethernet(udp4(frame(1))), order=order, magic=magic)
    capture.decrypt(capture.Pcap(file), keys(), output)
    output.seek(0)
    written = capture.Pcap(output)
    assert written.magic == magic
    assert list(written) == [(1000, 7, PACKET, False)]


@pytest.mark.parametrize(
    ("packet", "counts"),
    [
        (udp4(frame(1, index=b"none")), {"without key": 1}),
        (udp4(frame(1, key=bytes(32))), {"not authentic": 1}),
        (udp4(frame(1, kind=5)), {}),
        (udp4(b"\x04" * 31), {}),
        (udp4(frame(1), fragment=0x2000), {}),
        (udp4(frame(1), protocol=6), {}),
        (b"\x45", {}),
        (b"\x00" * 60, {}),
        (b"", {}),
    ],
)
def test_what_is_left_out(packet, counts):
    assert decrypt(pcap(packet, linktype=101)) == ([], counts)


def test_forged_frame_does_not_hide_the_true_one():
    forged = bytearray(frame(1))
    forged[-1] ^= 1
    packets, counts = decrypt(pcap(udp4(bytes(forged)), udp4(frame(1)), linktype=101))
    assert packets == [(1001, PACKET)]
    assert counts == {"not authentic": 1, "written": 1}


def test_frames_that_were_cut_short():
    file = pcap(udp4(frame(1)), cut=5, linktype=101)
    assert decrypt(file) == ([], {"cut short": 1})


def test_capture_that_is_still_being_written():
    data = pcap(udp4(frame(1)), udp4(frame(2)), linktype=101).getvalue()
    assert decrypt(io.BytesIO(data[:-5]))[1] == {"written": 1}
    assert decrypt(io.BytesIO(data[: 24 + 10]))[1] == {}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "this is no pcap file"),
        (b"\x0a\x0d\x0d\x0a" + bytes(40), "editcap -F pcap"),
        (b"\xd4\xc3\xb2\xa1", "this is no pcap file"),
        (pcap(linktype=127).getvalue(), "packets of link type 127 cannot be read"),
    ],
)
def test_file_that_is_no_capture(data, error):
    with pytest.raises(capture.CaptureError, match=error):
        capture.Pcap(io.BytesIO(data))


def test_damaged_capture():
    data = pcap(linktype=101).getvalue() + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30)
    with pytest.raises(capture.CaptureError, match="damaged"):
        list(capture.Pcap(io.BytesIO(data)))


@given(st.lists(st.binary(max_size=120), max_size=5), st.sampled_from([1, 101, 113, 276]))
def test_arbitrary_packets_end(packets, linktype):
    decrypt(pcap(*packets, linktype=linktype))
