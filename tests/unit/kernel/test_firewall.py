"""What the watch makes of nfnetlink messages, and what is said where nft is missing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.kernel import firewall
from tests.unit.kernel.fake_netlink import attribute, message, number

TABLE = firewall.table_of("ropeway0")
NEWTABLE, DELTABLE, DELCHAIN, NEWRULE, DELRULE = 0, 2, 5, 6, 8


def about(kind, table=TABLE, family=firewall.NFPROTO_IPV4, subsystem=10):
    name = attribute(firewall.NFTA_TABLE, table.encode() + b"\0")
    # An attribute of another kind first, as the kernel may order them.
    return message(subsystem << 8 | kind, bytes([family, 0, 0, 0]) + number(3, 1) + name)


@pytest.mark.parametrize("kind", [DELTABLE, DELCHAIN, DELRULE])
def test_deletion_is_noticed(kind):
    assert firewall.table_gone(TABLE, about(kind), False) is True


def test_own_replacement_is_none():
    replaced = [NEWTABLE, DELRULE, DELCHAIN, DELTABLE, NEWTABLE, NEWRULE]
    assert firewall.table_gone(TABLE, b"".join(map(about, replaced)), False) is False


@pytest.mark.parametrize(
    "strange",
    [
        about(DELTABLE, table="filter"),
        about(DELTABLE, table="ropeway-ropeway1"),
        about(DELTABLE, family=10),
        about(DELTABLE, subsystem=1),
    ],
)
def test_what_concerns_others_changes_nothing(strange):
    assert firewall.table_gone(TABLE, strange, False) is False
    assert firewall.table_gone(TABLE, strange, True) is True


@given(st.one_of(st.binary(max_size=200), st.builds(lambda b: about(DELTABLE) + b, st.binary())))
def test_arbitrary_bytes_end(messages):
    assert firewall.table_gone(TABLE, messages, False) in (True, False)


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


def test_reading_what_was_lost_is_bounded():
    class Flood:
        reads = 0

        def recv(self, size):
            self.reads += 1
            return about(DELTABLE)

    watch = firewall.Watch.__new__(firewall.Watch)
    watch._table, watch._socket = TABLE, Flood()
    assert watch.lost() is True
    assert watch._socket.reads == firewall.LOST_MESSAGES_MAX


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
