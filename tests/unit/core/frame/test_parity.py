"""Parity frames as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.frame.data import LANES
from ropeway.core.frame.parity import COVERED_MAX, PARITY_SIZE, Parity, decode_parity, encode_parity


@st.composite
def parities(draw):
    longest = draw(st.integers(1, 1500))
    return Parity(
        draw(st.integers(0, LANES - 1)),
        draw(st.integers(0, 2**64 - 1 - COVERED_MAX)),
        draw(st.integers(1, COVERED_MAX)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 0xFFFF)),
        draw(st.integers(0, 256**longest - 1)),
        longest,
    )


@given(parities())
def test_what_is_encoded_is_decoded(parity):
    body = encode_parity(parity)
    assert len(body) == PARITY_SIZE + parity.longest
    assert decode_parity(body) == parity


@given(st.binary(max_size=64))
def test_any_bytes_are_a_frame_within_bounds_or_none(body):
    parity = decode_parity(body)
    if parity is not None:
        assert encode_parity(parity) == body
        assert 0 <= parity.lane < LANES
        assert 1 <= parity.count <= COVERED_MAX
        assert parity.first + parity.count <= 2**64


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 0},
        {"count": COVERED_MAX + 1},
        {"lane": LANES},
        {"lane": 63},
        {"first": 2**64 - 1, "count": 2},
    ],
)
def test_what_no_host_sends_is_no_frame(fields):
    good = Parity(0, 0, 2, 0, 0, 0, 1)
    assert decode_parity(encode_parity(good)) == good
    assert decode_parity(encode_parity(good._replace(**fields))) is None
