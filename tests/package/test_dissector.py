"""The Wireshark dissector, in a real tshark, on both encapsulations' test vectors."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest

from tests.unit.core.secure_vectors import vectors

SCRIPT = Path(__file__).parents[2] / "agent" / "wireshark" / "ropeway.lua"
LINKTYPE_RAW = 101
PORT = 51840

# Captured from the first implementation; the same as in PROTOCOL.md.
CLASSIC_GREETING = bytes.fromhex(
    "48000022010000004004c209c0a812b9c0a812c40a00000102000000020000000000"
)
CLASSIC_PACKET = bytes.fromhex(
    "48000044020000004004c0e7c0a812b9c0a812c40a00000102000000020000000e00"
    "450000226e5c40004011b86c0a0000010a000002ce7a6400000e958248656c6c6f00"
)

Frame = dict[str, list[str]]


def ipv4(payload: bytes, protocol: int) -> bytes:
    source, target = socket.inet_aton("192.168.0.2"), socket.inet_aton("192.168.0.3")
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, source, target
    )
    return header + payload


def ipv6(payload: bytes, protocol: int) -> bytes:
    source, target = (socket.inet_pton(socket.AF_INET6, f"2001:db8::{n}") for n in (2, 3))
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, source, target) + payload


def udp(payload: bytes, port: int = PORT) -> bytes:
    return struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload


def secure(payload: bytes, port: int = PORT) -> bytes:
    return ipv4(udp(payload, port), 17)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Holds what tshark reads, readable for the user it runs as."""
    with tempfile.TemporaryDirectory(prefix="ropeway-dissector-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def dissect(directory: Path) -> Any:
    """Give what tshark says about packets: field -> values, the frame's own columns included."""
    if shutil.which("tshark") is None:
        pytest.fail("tshark is not here: apt install tshark.")

    def run(packets: list[bytes], *options: str) -> list[Frame]:
        capture = directory / "capture.pcap"
        records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW)]
        for packet in packets:
            records.append(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
        capture.write_bytes(b"".join(records))
        script = shutil.copy(SCRIPT, directory)
        tshark = ["tshark", "-n", "-X", f"lua_script:{script}", "-r", str(capture), *options]
        details = said_by([*tshark, "-T", "ek"], directory)
        columns = ["-T", "fields", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info"]
        shown = said_by([*tshark, *columns], directory)
        layers = [json.loads(line)["layers"] for line in details if '"layers"' in line]
        assert len(layers) == len(shown) == len(packets)
        frames = []
        for layer, line in zip(layers, shown):
            frame: Frame = {}
            flatten(layer, frame)
            frame["protocol"], frame["info"] = ([column] for column in line.split("\t"))
            frames.append(frame)
        return frames

    return run


def said_by(command: list[str], home: Path) -> list[str]:
    """Run tshark with neither preferences nor plugins of whoever runs the tests."""
    environment = {"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=True,
        # From 4.4 on Wireshark runs no Lua as root, and does not say so.
        user="nobody" if os.geteuid() == 0 else None,
    )
    assert "Lua" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def flatten(node: Any, into: Frame) -> None:
    """Collect leaves by the last part of their names: `ropeway_ropeway_type` is `ropeway_type`."""
    for name, value in node.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                flatten(one, into)
            else:
                into.setdefault(name.replace("ropeway_ropeway_", "ropeway_"), []).append(str(one))


def hexadecimal(data: bytes) -> list[str]:
    return [data.hex(":")]


def test_classic_frames_show_header_and_packet(dissect):
    greeting, packet = dissect([CLASSIC_GREETING, CLASSIC_PACKET])
    assert greeting["protocol"] == ["Ropeway"]
    assert greeting["info"] == ["Greeting of 10.0.0.1, interface 2 to 2, state 0"]
    for frame, identification, state, forward, number in (
        (greeting, "1", "0", "false", "0"),
        (packet, "2", "2", "true", "1"),
    ):
        assert frame["ropeway_host"] == ["10.0.0.1"]
        assert frame["ropeway_src_index"] == frame["ropeway_dst_index"] == ["2"]
        assert frame["ropeway_identification"] == [identification]
        assert frame["ropeway_state"] == [state]
        assert [v.lower() in ("true", "1") for v in frame["ropeway_forward"]] == [forward == "true"]
        assert frame["ropeway_id"] == [number]
    assert packet["info"][0].startswith("Packet 1 of 10.0.0.1, interface 2 to 2: ")
    assert packet["ip_ip_src"] == ["192.168.18.185", "10.0.0.1"]
    assert packet["protocol"] == ["UDP"]


def test_labels_are_counted_apart_from_their_packets(dissect):
    frame = vectors()["data frame with it, type 10, counter 4"]
    in_lane = bytes((16 + 24 + 2,)) + frame[1:]
    session = frame[4:8].hex()
    found = dissect([secure(one) for one in (frame, in_lane)])
    assert [one["ropeway_type"] for one in found] == [["10"], ["42"]]
    assert [one["info"][0] for one in found] == [
        f"Packet of 34 bytes, labelled, session {session}, counter 4, way 5",
        f"Packet of 34 bytes, labelled, checksum partial, lane 2, session {session}, counter 4,"
        " way 5",
    ]


def test_a_parity_frame_is_told_from_packets(dissect):
    frame = vectors()["parity frame, type 9, counter 5"]
    (found,) = dissect([secure(frame)])
    assert found["ropeway_type"] == ["9"]
    session = frame[4:8].hex()
    assert found["info"] == [f"Parity of packets, 51 bytes, session {session}, counter 5, way 5"]


def test_all_secure_types_show_their_parts(dissect):
    known = vectors()
    initiation, response = known["initiation"], known["response"]
    data, control = known["data frame, counter 1"], known["control frame, counter 0"]
    cookie = known["cookie, for the initiation"]
    reset = known["reset, of the session of the data frame"]
    partial = known["data frame with it, type 7, counter 2"]
    in_lane = known["data frame of lane 2, type 18, counter 0 of the lane"]
    every = (initiation, response, cookie, data, control, reset, partial, in_lane)
    frames = dissect([secure(f) for f in every])
    assert [frame["ropeway_type"] for frame in frames] == [[n] for n in (*"1234567", "18")]
    assert {frame["protocol"][0] for frame in frames} == {"Ropeway"}
    session = data[4:8].hex()
    assert [frame["info"][0] for frame in frames] == [
        "A handshake begins",
        f"The handshake of session {response[4:8].hex()} is answered",
        "The handshake is to be repeated with a cookie",
        f"Packet of 34 bytes, session {session}, counter 1, way 5",
        f"Control frame of 50 bytes, session {session}, counter 0",
        f"Session {session} is not known any more",
        f"Packet of 34 bytes, checksum partial, session {session}, counter 2, way 5",
        f"Packet of 34 bytes, lane 2, session {session}, counter 0, way 5",
    ]
    first, second, third, fourth, fifth, sixth, seventh, eighth = frames
    assert first["ropeway_ephemeral"] == hexadecimal(initiation[4:36])
    assert first["ropeway_static"] == hexadecimal(initiation[36:84])
    assert first["ropeway_payload"] == hexadecimal(initiation[84:140])
    assert first["ropeway_mac1"] == hexadecimal(initiation[140:156])
    assert first["ropeway_mac2"] == hexadecimal(bytes(16))
    assert second["ropeway_index"] == hexadecimal(response[4:8])
    assert second["ropeway_payload"] == hexadecimal(response[40:80])
    assert second["ropeway_mac1"] == hexadecimal(response[80:96])
    assert third["ropeway_salt"] == hexadecimal(cookie[4:20])
    assert third["ropeway_about"] == hexadecimal(initiation[140:148])
    assert (fourth["ropeway_way"], fourth["ropeway_sequence"]) == (["5"], ["6"])
    assert fourth["ropeway_counter"] == ["1"]
    assert fourth["ropeway_sealed"] == hexadecimal(data[16:50])
    assert fourth["ropeway_tag"] == hexadecimal(data[50:])
    assert fifth["ropeway_sealed_length"] == ["50"]
    assert sixth["ropeway_token"] == hexadecimal(reset[8:])
    assert (seventh["ropeway_way"], seventh["ropeway_sequence"]) == (["5"], ["7"])
    assert seventh["ropeway_sealed"] == hexadecimal(partial[16:50])
    assert eighth["ropeway_counter"] == ["0"]
    assert not any("_expert" in name for frame in frames for name in frame if "ropeway" in name)


def test_a_cookie_in_an_initiation_and_large_counters_are_shown(dissect):
    initiation = bytearray(vectors()["initiation"])
    initiation[-1] = 1
    data = b"\x04\x05\x06\0" + b"abcd" + (2**63 + 1).to_bytes(8, "little") + bytes(20)
    with_cookie, late = dissect([secure(bytes(initiation)), secure(data)])
    assert with_cookie["info"] == ["A handshake begins, with a cookie"]
    assert late["ropeway_counter"] == [str(2**63 + 1)]


def test_secure_frames_are_known_over_ipv6_and_on_other_ports(dissect):
    data = vectors()["data frame, counter 1"]
    packets = [ipv6(udp(data), 17), secure(data, 51900)]
    over_ipv6, elsewhere = dissect(packets)
    assert over_ipv6["ropeway_type"] == ["4"]
    assert "ropeway_type" not in elsewhere
    over_ipv6, elsewhere = dissect(packets, "-o", "ropeway.ports:51840,51900")
    assert over_ipv6["ropeway_type"] == elsewhere["ropeway_type"] == ["4"]


@pytest.mark.parametrize(
    ("packet", "sentence"),
    [
        (secure(b"\x0cabc"), "There is no type 12."),
        (secure(b"\x01" + bytes(170)), "The initiation has 171 bytes instead of 172."),
        (
            secure(b"\x04" + bytes(30)),
            "The data frame has 31 bytes; 32 is the least that it can have.",
        ),
        (
            secure(b"\x07" + bytes(30)),
            "The partial data frame has 31 bytes; 32 is the least that it can have.",
        ),
        (
            CLASSIC_GREETING[:3] + b"\x21" + CLASSIC_GREETING[4:33],
            "The frame ends before its state.",
        ),
        (
            CLASSIC_GREETING[:32] + b"\x0e\0",
            "A packet is announced, but nothing follows.",
        ),
    ],
)
def test_what_is_malformed_says_what_is_wrong(dissect, packet: bytes, sentence: str):
    (frame,) = dissect([packet])
    assert frame["info"] == [sentence]
    assert any("malformed" in name for name in frame)


def data_frame(kind: int, counter: int, length: int) -> bytes:
    return struct.pack("<BBH4sQ", kind, 1, counter & 0xFFFF, b"abcd", counter) + bytes(length)


@pytest.mark.parametrize("first", [1, 250, 2**32 + 250])
def test_frames_that_the_kernel_carried_together_are_taken_apart(dissect, first: int):
    pieces = [data_frame(7, first + n, 300) for n in range(9)] + [data_frame(4, first + 9, 99)]
    (frame,) = dissect([secure(b"".join(pieces))])
    assert frame["ropeway_frames"] == ["10"] * 10
    assert frame["ropeway_type"] == ["7"] * 9 + ["4"]
    assert frame["ropeway_counter"] == [str(first + n) for n in range(10)]
    assert frame["ropeway_sealed_length"] == ["284"] * 9 + ["83"]
    assert frame["info"] == [
        "10 frames together. Packet of 284 bytes, checksum partial, session 61626364,"
        f" counter {first}, way 1"
    ]


def test_what_is_wrong_among_frames_carried_together_is_said(dissect):
    good = [data_frame(4, n, 84) for n in range(3)]
    strange = b"\x09" + bytes(99)
    (frame,) = dissect([secure(b"".join([*good[:2], strange, good[2], bytes(1)]))])
    assert frame["ropeway_type"] == ["4", "4", "9", "4", "0"]
    assert frame["info"][0].startswith("5 frames together. Packet of 68 bytes")
    assert any("malformed" in name for name in frame)


def test_a_frame_in_which_its_own_index_stands_stays_one(dissect):
    faked = bytearray(data_frame(4, 5, 300))
    faked[104:108] = b"abcd"
    faked[204:208] = b"abcd"
    faked[200] = 4
    faked[212:216] = b"\xff" * 4
    (frame,) = dissect([secure(bytes(faked))])
    assert frame["ropeway_type"] == ["4"]
    assert "ropeway_frames" not in frame


def test_other_tunnels_over_ip_protocol_4_are_left_alone(dissect):
    ping = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
    frames = dissect([ipv4(ipv4(ping, 1), 4), ipv6(ipv4(ping, 1), 4)])
    for frame in frames:
        assert frame["protocol"] == ["ICMP"]
        assert not any(name.startswith("ropeway") for name in frame)


def test_cut_off_captures_do_no_harm(dissect):
    whole = [secure(v) for name, v in vectors().items() if "frame" in name or name == "initiation"]
    for frame in dissect([packet[:40] for packet in [*whole, CLASSIC_PACKET]]):
        assert frame["info"]
    train = secure(b"".join(data_frame(4, n, 284) for n in range(5)))
    for frame in dissect([train[:size] for size in (40, 70, 340, 350, 700)]):
        assert frame["info"]
