"""Which interfaces answer ARP for the addresses of others."""

from __future__ import annotations

import pytest

from ropeway.kernel import arp, reverse_path


@pytest.mark.parametrize(
    ("all_", "own", "answers"),
    [(0, 0, True), (1, 0, False), (0, 1, False), (0, 2, False), (3, 1, True), (8, 0, False),
     (0, None, True), (1, None, False)],
)  # fmt: skip
def test_interface_answers_for_others_unless_told_to_keep_to_its_own(
    tmp_path, monkeypatch, all_, own, answers
):
    monkeypatch.setattr(reverse_path, "SYSCTLS", str(tmp_path))
    for name, value in (("all", all_), ("eth0", own)):
        if value is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / "arp_ignore").write_text(f"{value}\n")
    assert arp.answers_for_others("eth0") is answers
