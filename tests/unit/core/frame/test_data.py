"""Data frames: their kinds, and trains of them."""

import pytest

from ropeway.core.frame.data import CONTROL, CONTROL_AD, DATA, DATA_AD, PARTIAL, PARTIAL_AD, Train


def test_kinds_of_sealed_frames_cannot_be_passed_off_as_another():
    kinds = {DATA: DATA_AD, CONTROL: CONTROL_AD}
    kinds[PARTIAL] = PARTIAL_AD
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
