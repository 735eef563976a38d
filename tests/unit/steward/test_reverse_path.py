"""Where the kernel drops what arrives, because of the way back."""

from __future__ import annotations

import pytest

from ropeway.steward import reverse_path


@pytest.mark.parametrize(
    ("all_", "own", "strict"),
    [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True), (2, 1, False), (1, 2, False),
     (0, None, False), (1, None, True), ("x", 0, False)],
)  # fmt: skip
def test_larger_value_counts(sysctls, all_, own, strict):
    sysctls("rp_filter", all_, own)
    assert reverse_path.is_strict("eth0") is strict
