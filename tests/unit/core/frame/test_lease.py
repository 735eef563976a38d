"""Questions for leases and grants as bytes."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.frame.lease import Grant, Question, decode_lease, encode_lease

PROTOCOL = Path(__file__).resolve().parents[4] / "agent" / "PROTOCOL.md"
NUMBER = bytes((1, 2, 3, 4))
VECTORS = {
    "question": Question(NUMBER),
    "grant": Grant(NUMBER, bytes((10, 0, 0, 7)), 3600, 1300),
}


@pytest.mark.parametrize("name", VECTORS)
def test_bodies_are_as_the_document_has_them(name):
    text = PROTOCOL.read_text(encoding="utf-8")
    written = re.search(rf"```\n(?:question\n.*\n)?{name}\n  ([0-9a-f]+)\n", text)
    assert written is not None
    assert encode_lease(VECTORS[name]).hex() == written.group(1)
    assert decode_lease(bytes.fromhex(written.group(1))) == VECTORS[name]


@pytest.mark.parametrize("name", VECTORS)
def test_what_follows_is_for_later_versions(name):
    assert decode_lease(encode_lease(VECTORS[name]) + b"more") == VECTORS[name]


@pytest.mark.parametrize("name", VECTORS)
def test_what_is_too_short_is_no_body(name):
    body = encode_lease(VECTORS[name])
    assert [decode_lease(body[:size]) for size in range(len(body))] == [None] * len(body)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_are_not(body):
    found = decode_lease(body)
    assert found is None or body.startswith(encode_lease(found))
