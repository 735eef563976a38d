"""What travels in the secure encapsulation: control frames as bytes, trains of data frames."""

from dataclasses import replace

import pytest

from ropeway.core.frame import data as secure
from ropeway.core.frame.data import Control, Train


@pytest.mark.parametrize("flag", ["answer", "calls", "challenge", "takes_partial"])
@pytest.mark.parametrize("state", [0, 1, 2])
def test_each_flag_of_a_control_frame_stands_for_itself(flag, state):
    control = Control(state=state, src_index=2, dst_index=3, way=1, **{flag: True})
    assert secure.decode_control(secure.encode_control(control)) == control


def test_partial_packets_are_taken_only_where_bit_32_says_so():
    body = bytearray(secure.encode_control(Control(state=2, src_index=2, dst_index=3, way=1)))
    assert not secure.decode_control(bytes(body)).takes_partial
    body[0] |= 32
    assert secure.decode_control(bytes(body)).takes_partial


PLACES = (
    (2, ("192.0.2.1", 51840)),
    (3, ("2001:db8::1", 1)),
    *((9, (f"10.0.0.{number}", 65535)) for number in range(14)),
)


@pytest.mark.parametrize("count", [0, 1, 2, 16])
@pytest.mark.parametrize("size", [0, 50, 51, 1400])
def test_announced_endpoints_follow_what_older_versions_read(count, size):
    silent = Control(state=2, src_index=2, dst_index=3, way=1, observed=("192.0.2.9", 5))
    control = replace(silent, announced=PLACES[:count])
    body = secure.encode_control(control, size)
    assert secure.decode_control(body) == control
    assert body[: secure.CONTROL_SIZE] == secure.encode_control(silent)
    assert len(body) >= size


def test_no_more_endpoints_are_announced_or_read_than_fit_every_path():
    control = Control(state=2, src_index=2, dst_index=3, way=1, announced=PLACES + PLACES)
    body = secure.encode_control(control)
    assert secure.decode_control(body).announced == PLACES
    outer = secure.outer_size("2001:db8::1") + secure.OVERHEAD + len(body)
    assert outer <= secure.IPV4_MTU_MIN
    at = secure.CONTROL_SIZE
    longer = body[:at] + bytes((17,)) + body[at + 1 :] + bytes(22)
    assert secure.decode_control(longer).announced == PLACES


def test_a_body_that_is_shorter_than_it_announces_is_malformed():
    control = Control(state=2, src_index=2, dst_index=3, way=1, announced=PLACES[:3])
    body = secure.encode_control(control)
    for length in range(secure.CONTROL_SIZE + 1, len(body)):
        assert secure.decode_control(body[:length]) is None
    assert secure.decode_control(body[: secure.CONTROL_SIZE]).announced == ()


def test_kinds_of_sealed_frames_cannot_be_passed_off_as_another():
    kinds = {secure.DATA: secure.DATA_AD, secure.CONTROL: secure.CONTROL_AD}
    kinds[secure.PARTIAL] = secure.PARTIAL_AD
    assert all(bytes([kind]) == data for kind, data in kinds.items())
    assert len(kinds) == 3


@pytest.mark.parametrize(
    ("size", "parts", "frames"),
    [
        (4, [b"abcd"], [b"abcd"]),
        (4, [b"abcd", b"ef"], [b"abcd", b"ef"]),
        (4, [b"a", b"bcd"], [b"abcd"]),
        (4, [b"a", b"bcd", b"efgh", b"i", b"j"], [b"abcd", b"efgh", b"ij"]),
        (4, [b"a", b"bcd", b"e", b"fgh"], [b"abcd", b"efgh"]),
    ],
)
def test_a_train_is_cut_into_its_frames(size, parts, frames):
    assert Train(size, len(frames), parts).frames() == frames
