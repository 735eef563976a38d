"""What the watch makes of the messages about changes of nftables."""

from __future__ import annotations

import pytest

from ropeway.steward import firewall
from ropeway.steward.netlink import nft_watch
from ropeway.steward.netlink.nft_watch import NftWatch, table_gone

TABLE = firewall.table_of("ropeway0")
NEWTABLE, DELTABLE, DELCHAIN, NEWRULE, DELRULE = 0, 2, 5, 6, 8


def attribute(kind, value):
    size = (4 + len(value)).to_bytes(2, "little") + kind.to_bytes(2, "little")
    return size + value + bytes(-len(value) % 4)


def about(kind, table=TABLE, family=nft_watch.NFPROTO_IPV4, subsystem=10):
    body = bytes([family, 0, 0, 0])
    # An attribute of another kind first, as the kernel may order them.
    body += attribute(3, bytes(4)) + attribute(1, table.encode() + b"\0")
    head = (16 + len(body)).to_bytes(4, "little") + bytes([kind, subsystem]) + bytes(10)
    return head + body


@pytest.mark.parametrize("kind", [DELTABLE, DELCHAIN, DELRULE])
def test_deletion_is_noticed(kind):
    assert table_gone(TABLE, about(kind), False) is True


def test_own_replacement_is_none():
    replaced = [NEWTABLE, DELRULE, DELCHAIN, DELTABLE, NEWTABLE, NEWRULE]
    assert table_gone(TABLE, b"".join(map(about, replaced)), False) is False


@pytest.mark.parametrize(
    "strange",
    [
        about(DELTABLE, table="filter"),
        about(DELTABLE, table="ropeway-ropeway1"),
        about(DELTABLE, family=10),
        about(DELTABLE, subsystem=1),
        b"x" * 7,
        bytes(40),
    ],
)
def test_what_concerns_others_changes_nothing(strange):
    assert table_gone(TABLE, strange, False) is False
    assert table_gone(TABLE, strange, True) is True


def test_reading_what_was_lost_is_bounded():
    class Flood:
        reads = 0

        def recv(self, size):
            self.reads += 1
            return about(DELTABLE)

    watch = NftWatch.__new__(NftWatch)
    watch._table, watch._socket = TABLE, Flood()
    assert watch.lost() is True
    assert watch._socket.reads == nft_watch._MESSAGES_MAX
