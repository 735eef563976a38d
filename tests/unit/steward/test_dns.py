"""Questions to a name server and its answers."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.steward import dns

NAME = "router.example.net"
ASKED = b"\6router\7example\3net\0"


def record(kind, data, name=b"\xc0\x0c", network=1):
    return name + struct.pack(">2HIH", kind, network, 60, len(data)) + data


def address(text):
    packed = ipaddress.ip_address(text).packed
    return record(dns.A if len(packed) == 4 else dns.AAAA, packed)


def answer(*records, number=7, flags=0x8180, asked=ASKED, kind=dns.A):
    header = struct.pack(">6H", number, flags, 1, len(records), 0, 0)
    return header + asked + struct.pack(">2H", kind, 1) + b"".join(records)


def test_a_question_has_the_form_of_rfc_1035():
    assert dns.question(0x1234, NAME, dns.AAAA) == (
        b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + ASKED + b"\0\x1c\0\1"
    )


def test_all_addresses_of_the_kind_are_found():
    found = answer(address("192.0.2.1"), address("2001:db8::1"), address("192.0.2.2"))
    assert dns.addresses(found, 7, NAME, dns.A) == ["192.0.2.1", "192.0.2.2"]
    found = answer(address("2001:db8::1"), kind=dns.AAAA)
    assert dns.addresses(found, 7, NAME, dns.AAAA) == ["2001:db8::1"]


def test_an_alias_leads_to_its_records():
    alias = record(5, b"\4real\xc0\x13")
    far = record(dns.A, bytes([192, 0, 2, 5]), name=b"\4real\xc0\x13")
    assert dns.addresses(answer(alias, far), 7, NAME, dns.A) == ["192.0.2.5"]


def test_a_name_without_records_has_no_addresses():
    assert dns.addresses(answer(), 7, NAME, dns.A) == []


def test_a_question_may_come_back_in_other_letters():
    assert dns.addresses(answer(asked=ASKED.upper()), 7, NAME, dns.A) == []


@pytest.mark.parametrize(
    "other",
    [
        answer(address("192.0.2.1"), number=8),
        answer(address("192.0.2.1"), flags=0x0180),
        answer(address("192.0.2.1"), flags=0x8183),
        answer(address("192.0.2.1"), flags=0x8182),
        answer(address("192.0.2.1"), asked=b"\5other\0"),
        answer(address("192.0.2.1"), kind=dns.AAAA),
        answer(address("192.0.2.1"))[:-1],
        b"",
        b"\0\7",
    ],
)
def test_what_answers_something_else_is_none(other):
    assert dns.addresses(other, 7, NAME, dns.A) is None


@given(st.binary(max_size=80), st.integers(0, 5))
def test_no_answer_raises(tail, count):
    header = struct.pack(">6H", 7, 0x8180, 1, count, 0, 0)
    dns.addresses(tail, 7, NAME, dns.A)
    dns.addresses(header + tail, 7, NAME, dns.A)
    dns.addresses(header + ASKED + struct.pack(">2H", dns.A, 1) + tail, 7, NAME, dns.A)
