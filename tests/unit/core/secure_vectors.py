"""The secure encapsulation with fixed keys, for PROTOCOL.md; printed by

    python -m tests.unit.core.secure_vectors

Whatever the agent draws at random is bytes e1 at the initiator and e2 at the responder.
"""

from __future__ import annotations

import sys
import textwrap
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3] / "agent"))

from ropeway.core.endpoint import pack_endpoint
from ropeway.core.frame import who_has
from ropeway.core.frame.control import Control, encode_control
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    DATA,
    DATA_AD,
    HEADER,
    LABELLED,
    LANE,
    LANE_NONCE,
    LINK_PART,
    MESSAGE,
    MESSAGE_AD,
    PARITY,
    PARITY_AD,
    PARTIAL,
    PARTIAL_AD,
)
from ropeway.core.frame.label import encode_label
from ropeway.core.frame.parity import Parity, encode_parity
from ropeway.core.packet import ipv4
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.session.noise import KeyPair
from ropeway.core.session.outcomes import Answer, Completed, CookieReply
from ropeway.core.session.table import SessionTable

INITIATOR, RESPONDER = "10.0.0.1", "10.0.0.2"
PSK = b"\x33" * 32
EPOCH = 7
#: 192.168.0.2, port 51840, as the responder sees the initiator.
SOURCE = pack_endpoint(("192.168.0.2", 51840))
#: "Hello" from 10.0.0.1 to 10.0.0.2; the packet of the classic encapsulation's vectors.
PACKET = bytes.fromhex("450000226e5c40004011b86c0a0000010a000002ce7a6400000e958248656c6c6f00")
#: The same with the sum of the pseudo-header in place of its checksum.
PARTIAL_PACKET = PACKET[:26] + b"\x14\x22" + PACKET[28:]
#: A packet that follows the first one, and is longer.
LONGER_PACKET = bytes.fromhex(
    "450000276e5d40004011b8660a0000010a000002ce7a6400001364a748656c6c6f00616761696e"
)
CONTROL_BODY = Control(
    state=2,
    src_index=2,
    dst_index=3,
    way=1,
    pause_s=0.5,
    answer=True,
    mark=1000,
    echo=500,
    held_ms=20,
    probe=0,
    probe_heard=1500,
    observed=("192.168.0.3", 51840),
    received=4,
)
WAY, SEQUENCE = 5, 6
VECTOR_LANE = 2
VECTOR_START, VECTOR_COUNT = 0x030201, 9
AT = ("192.168.0.2", 51840)
MESSAGE_BODY = b"\xff\x01\x02"


class Peer(NamedTuple):
    host: str
    public_keys: tuple[bytes, ...]
    psk: bytes


def vectors() -> dict[str, bytes]:
    """Everything by name, in the order in which it is printed."""
    keys = {INITIATOR: KeyPair.of(b"\x11" * 32), RESPONDER: KeyPair.of(b"\x22" * 32)}
    ends = {
        host: Handshakes(
            keys[host],
            bytes(int(part) for part in host.split(".")),
            EPOCH,
            lambda n, drawn=drawn: drawn * n,
            0.0,
            SessionTable(),
        )
        for host, drawn in ((INITIATOR, b"\xe1"), (RESPONDER, b"\xe2"))
    }
    here, there = ends[INITIATOR], ends[RESPONDER]
    here.set_peers([Peer(RESPONDER, (keys[RESPONDER].public,), PSK)])
    there.set_peers([Peer(INITIATOR, (keys[INITIATOR].public,), PSK)])

    (initiation,) = here.initiate(RESPONDER, 0.0)
    answer = there.receive(initiation, SOURCE, 0.0)
    assert isinstance(answer, Answer)
    assert answer.session is not None
    completed = here.receive(answer.reply, SOURCE, 0.0)
    assert isinstance(completed, Completed)
    session = completed.session
    body = encode_control(CONTROL_BODY)
    control = LINK_PART.pack(CONTROL, 0, 0) + session.seal(CONTROL_AD, body)
    data = LINK_PART.pack(DATA, WAY, SEQUENCE) + session.seal(DATA_AD, PACKET)
    head = LINK_PART.pack(PARTIAL, WAY, SEQUENCE + 1)
    partial = head + session.seal(PARTIAL_AD, PARTIAL_PACKET)
    kind = LANE + VECTOR_LANE
    _, (text,) = session.seal_lane(bytes((kind,)), VECTOR_LANE, [PACKET])
    head = HEADER.pack(kind, WAY, SEQUENCE + 2, session.remote_index, 0)
    in_lane = head + text
    opened = answer.session.decrypt(LANE_NONCE.pack(VECTOR_LANE + 1, 0), text, bytes((kind,)))
    assert opened == PACKET
    message = LINK_PART.pack(MESSAGE, 0, 0) + session.seal(MESSAGE_AD, MESSAGE_BODY)
    label = encode_label(ipv4.pack(INITIATOR), VECTOR_START, VECTOR_COUNT, spare=True)
    labelled = LINK_PART.pack(LABELLED, WAY, SEQUENCE + 3)
    labelled += session.seal(bytes((LABELLED,)), label + PACKET)
    assert answer.session.open(labelled) == label + PACKET
    assert answer.session.open(message) == MESSAGE_BODY
    parity_body = parity_of(PACKET, LONGER_PACKET)
    first, (text,) = session.seal_run(PARITY_AD, [parity_body])
    parity = HEADER.pack(PARITY, WAY, SEQUENCE + 4, session.remote_index, first) + text
    assert answer.session.open(parity) == parity_body
    assert answer.session.open(control) == body
    assert answer.session.open(data) == PACKET
    assert answer.session.open(partial) == PARTIAL_PACKET
    assert ipv4.complete(PARTIAL_PACKET) == PACKET

    there.release(answer.session)
    (reset,) = there.resets_for(data, 0.0)
    return {
        "private key of the initiator": keys[INITIATOR].private,
        "private key of the responder": keys[RESPONDER].private,
        "pre-shared key": PSK,
        "public key of the initiator": keys[INITIATOR].public,
        "public key of the responder": keys[RESPONDER].public,
        "initiation": initiation,
        "response": answer.reply,
        "key of what the initiator sends": session.send_key,
        "key of what the responder sends": session.receive_key,
        "body of the control frame": body,
        "control frame, counter 0": control,
        "packet": PACKET,
        "data frame, counter 1": data,
        "packet, its checksum partial": PARTIAL_PACKET,
        "data frame with it, type 7, counter 2": partial,
        "data frame of lane 2, type 18, counter 0 of the lane": in_lane,
        "message of kind 255 with the body 0102, counter 3": message,
        "label of the packet with count 9 of start 010203, the second copy": label,
        "data frame with it, type 10, counter 4": labelled,
        "packet that follows it in lane 2": LONGER_PACKET,
        "body of the parity frame of two packets of lane 2, counters 0 and 1": parity_body,
        "parity frame, type 9, counter 5": parity,
        "who-has, here at 192.168.0.2 port 51840": who_has.encode(who_has.Here((AT,))),
        "who-has, ask for 10.0.0.2": who_has.encode(who_has.Ask(RESPONDER)),
        "who-has, answer: 10.0.0.2 is known, at 192.168.0.2 port 51840": who_has.encode(
            who_has.Answer(RESPONDER, who_has.Verdict.KNOWN, keys[RESPONDER].public, (AT,))
        ),
        "reset, of the session of the data frame": reset,
        "cookie, for the initiation": cookie_for(initiation, keys[RESPONDER]),
    }


def parity_of(one: bytes, other: bytes) -> bytes:
    """The body that covers the first two packets of the lane, of which the second is longer."""
    xor = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    sizes = len(one) ^ len(other)
    return encode_parity(Parity(VECTOR_LANE, 0, 2, 0, sizes, xor, len(other)))


def cookie_for(initiation: bytes, responder: KeyPair) -> bytes:
    """What a responder says to it while others flood it."""
    there = Handshakes(responder, b"\x0a\0\0\2", EPOCH, lambda n: b"\xe2" * n, 0.0, SessionTable())
    # Junk that only shows that its sender knows the responder's public key.
    junk = b"\x01\0\0\0" + bytes(136)
    mac1_key = blake2s(b"ropeway mac1" + responder.public).digest()
    mac1 = blake2s(junk, key=mac1_key, digest_size=16).digest()
    said = None
    while not isinstance(said, CookieReply):
        there.receive(junk + mac1 + bytes(16), SOURCE, 0.0)
        said = there.receive(initiation, SOURCE, 0.0)
    return said.reply


def text() -> str:
    """The vectors as PROTOCOL.md has them."""
    lines = []
    for name, value in vectors().items():
        lines.append(name)
        lines += textwrap.wrap(value.hex(), 96, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


if __name__ == "__main__":
    print(text())
