"""What travels in the secure encapsulation: control frames as bytes, trains of data frames."""

import pytest

from ropeway.core import secure
from ropeway.core.secure import Control, Train


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
