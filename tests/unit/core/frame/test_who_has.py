"""Who-has as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.frame.message import MESSAGE_MAX
from ropeway.core.frame.who_has import (
    MAX_ENDPOINTS,
    Answer,
    Ask,
    Here,
    Verdict,
    decode,
    encode,
)

ENDPOINTS = (("192.0.2.1", 51840), ("2001:db8::1", 1), ("203.0.113.7", 65535))


@pytest.mark.parametrize(
    "said",
    [
        Here(()),
        Here(ENDPOINTS),
        Ask("10.0.0.9"),
        Answer("10.0.0.9", Verdict.UNKNOWN),
        Answer("10.0.0.9", Verdict.REFUSED),
        Answer("10.0.0.9", Verdict.KNOWN, bytes(range(32)), ENDPOINTS),
    ],
)
def test_what_is_said_is_heard(said):
    assert decode(encode(said)) == said
    assert decode(encode(said) + b"later") == said


def test_no_more_endpoints_are_said_or_heard_than_fit():
    many = tuple(("2001:db8::1", port) for port in range(1, MAX_ENDPOINTS + 9))
    body = encode(Answer("10.0.0.9", Verdict.KNOWN, bytes(32), many))
    assert decode(body).endpoints == many[:MAX_ENDPOINTS]
    assert len(body) <= MESSAGE_MAX
    longer = bytes((1, MAX_ENDPOINTS + 1)) + bytes(18 * (MAX_ENDPOINTS + 1))
    assert len(decode(longer).endpoints) == MAX_ENDPOINTS


@pytest.mark.parametrize("said", [Here(ENDPOINTS), Ask("10.0.0.9"), Answer("10.0.0.9", Verdict(1))])
def test_what_is_cut_short_is_nothing(said):
    body = encode(said)
    for size in range(len(body)):
        assert decode(body[:size]) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(body):
    said = decode(body)
    assert said is None or decode(encode(said)) == said
