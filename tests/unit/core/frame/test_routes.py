"""Messages about routes, as bytes."""

from pathlib import Path

import pytest

from ropeway.core.frame.routes import (
    SEQNO_MAX,
    Everything,
    Receipt,
    Request,
    Update,
    decode,
    encode,
    encode_record,
)
from ropeway.core.packet.prefix import Prefix, parse

PROTOCOL = Path(__file__).parents[4] / "agent" / "PROTOCOL.md"
LAN = parse("192.168.80.0/24")
ORIGIN = bytes((10, 0, 0, 3))
RECORDS = (
    Update(LAN, ORIGIN, (1000 << 31) + 2, 96),
    Request(LAN, ORIGIN, (1000 << 31) + 3, 32),
    Receipt(6),
    Everything(),
)


def message(*records):
    return encode(0x01020304, 7, map(encode_record, records))


def test_the_vector_of_the_protocol_is_what_the_code_makes():
    text = message(*RECORDS).hex()
    lines = [text[at : at + 62] for at in range(0, len(text), 62)]
    assert "```\n{}\n```".format("\n".join(lines)) in PROTOCOL.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "10.0.0.1/32", "172.16.0.0/13", "fd00::/8", "fd00::1/128"]
)
def test_a_message_says_what_was_put_into_it(text):
    records = [Update(parse(text), ORIGIN, SEQNO_MAX - 1, 65535), *RECORDS]
    assert decode(message(*records)) == (0x01020304, 7, records)


def test_later_versions_may_say_more():
    longer = bytearray(encode_record(Receipt(6)) + b"more")
    longer[1] += 4
    body = message() + b"\xfe\x03abc" + bytes(longer)
    assert decode(body) == (0x01020304, 7, [Receipt(6)])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        message()[:-1],
        message(*RECORDS)[:-1],
        message() + b"\x01",
        message(Update(Prefix(bytes((192, 168, 80, 1)), 24), ORIGIN, 1, 1))[:-4],
        message(Update(LAN, ORIGIN, SEQNO_MAX, 1)),
        message(Request(LAN, ORIGIN, SEQNO_MAX, 1)),
        # Bits behind the length, lengths of no family, and families that there are not.
        message() + b"\x01\x14\x04\x14\xc0\xa8\xff" + bytes(14),
        message() + b"\x01\x15\x04\x21\xc0\xa8\x50\x01\x01" + bytes(14),
        message() + b"\x01\x13\x05\x18\xc0\xa8\x50" + bytes(14),
        message() + b"\x03\x02ab",
    ],
)
def test_what_is_no_message_is_none(body):
    assert decode(body) is None
