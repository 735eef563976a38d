"""The table of sessions by index."""

from types import SimpleNamespace

from ropeway.core.session.table import SessionTable


def session(index):
    return SimpleNamespace(local_index=index, remote_index=bytes(4), reset_token=bytes(16))


def test_a_session_is_found_by_its_index_until_it_is_removed():
    table, one = SessionTable(), session(b"\1\2\3\4")
    table.add(one)
    assert table.by_index == {b"\1\2\3\4": one}
    assert table.remove(one)
    assert not table.by_index
    assert not table.remove(one)


def test_a_session_does_not_take_another_one_away_that_has_its_index():
    table, former, present = SessionTable(), session(b"\1\2\3\4"), session(b"\1\2\3\4")
    table.add(former)
    table.add(present)
    assert not table.remove(former)
    assert table.by_index == {b"\1\2\3\4": present}
