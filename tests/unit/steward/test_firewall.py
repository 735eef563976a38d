"""The rules of the table, and what is said where nft is missing."""

from __future__ import annotations

import os

import pytest

from ropeway.steward import firewall

TABLE = firewall.table_of("ropeway0")


def test_rules_spare_what_a_bridge_passes_on():
    prerouting = (
        firewall.rules(TABLE).partition("chain prerouting")[2].partition("}")[0].splitlines()
    )
    rules = [line.strip() for line in prerouting[2:-1]]
    assert rules == ['meta iifkind "bridge" accept', "ip protocol 4 ip hdrlength 8 drop"]


def test_rules_drop_only_what_has_the_long_header():
    drops = [line.strip() for line in firewall.rules(TABLE).splitlines() if line.endswith("drop")]
    assert drops == [
        "ip protocol 4 ip hdrlength 8 drop",
        "ip protocol 4 ip hdrlength 8 drop",
        "icmp type parameter-problem @th,64,8 0x48 @th,136,8 4 drop",
    ]
    assert firewall.rules(TABLE).count("policy accept") == firewall.rules(TABLE).count("chain") == 3


def test_nft_that_hangs_is_given_up(tmp_path, monkeypatch):
    hanging = tmp_path / "nft"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(OSError, match=r"did not answer within 0\.1 s"):
        firewall.replace(TABLE, timeout_s=0.1)


def test_missing_nft_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(firewall, "SBIN", "")
    with pytest.raises(OSError, match="install the package nftables"):
        firewall.replace(TABLE)


def test_nft_is_found_where_a_user_would_not_look(tmp_path, monkeypatch):
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(firewall, "SBIN", f":{tmp_path}")
    with pytest.raises(OSError, match="nft refused the table ropeway-ropeway0: not today"):
        firewall.replace(TABLE)
