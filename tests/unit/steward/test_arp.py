"""Which interfaces answer ARP for the addresses of others."""

from __future__ import annotations

import pytest

from ropeway.steward import arp


@pytest.mark.parametrize(
    ("all_", "own", "answers"),
    [(0, 0, True), (1, 0, False), (0, 1, False), (0, 2, False), (3, 1, True), (8, 0, False),
     (0, None, True), (1, None, False)],
)  # fmt: skip
def test_interface_answers_for_others_unless_told_to_keep_to_its_own(sysctls, all_, own, answers):
    sysctls("arp_ignore", all_, own)
    assert arp.answers_for_others("eth0") is answers
