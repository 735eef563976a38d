"""The leases of a router on disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat

import pytest

from ropeway.app.store import state
from ropeway.app.store.leases import LeaseFile, LeaseFileError
from ropeway.core.address_range import range_of
from ropeway.core.network.leases import Pool

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


def test_what_was_written_is_read_again():
    file = LeaseFile("r0")
    file.write([("10.0.0.5", KEY), ("10.0.0.6", OTHER)])
    file.write([("10.0.0.6", b""), ("10.0.0.7", OTHER)])
    file.write([("10.0.0.5", None)])
    file.close()
    assert sorted(LeaseFile("r0").read()) == [("10.0.0.6", b""), ("10.0.0.7", OTHER)]


def test_a_key_may_get_another_address_before_its_former_one_is_taken_away():
    file = LeaseFile("r0")
    file.write([("10.0.0.5", KEY)])
    file.write([("10.0.0.6", KEY), ("10.0.0.5", b"")])
    assert sorted(file.read()) == [("10.0.0.5", b""), ("10.0.0.6", KEY)]


def test_what_changes_while_the_disk_is_full_can_be_written_once_it_is_not():
    time_s = 60.0
    pool = Pool()
    reach = [range_of("10.0.0.5-10.0.0.6")]
    pool.configure(reach, set(), {KEY, OTHER, b"x" * 32}, time_s)
    file = LeaseFile("r0")
    pool.ask(KEY, 0.0)
    pool.ask(b"x" * 32, 0.0)
    changes = pool.take_changes(10)
    file.write(changes)
    pool.written(changes, 0.0)
    pool.expire(2 * time_s)
    pool.ask(OTHER, 2 * time_s)
    pool.ask(KEY, 2 * time_s)
    # The host that has got the address of the first one has to go.
    pool.configure(reach, set(), {KEY}, time_s)
    file.write(pool.take_changes(10))
    assert sorted(file.read()) == [("10.0.0.5", b""), ("10.0.0.6", KEY)]


def test_a_key_with_two_addresses_is_refused_whole():
    file = LeaseFile("r0")
    file.write([("10.0.0.5", KEY)])
    with pytest.raises(LeaseFileError, match="no host gets a new lease"):
        file.write([("10.0.0.8", OTHER), ("10.0.0.6", KEY)])
    assert file.read() == [("10.0.0.5", KEY)]


def test_each_write_is_synchronised_with_the_disk():
    database = LeaseFile("r0")._database
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nobody_else_may_read_it(directory):
    file = LeaseFile("r0")
    file.write([("10.0.0.5", KEY)])
    for name in os.listdir(directory):
        assert stat.S_IMODE(os.stat(directory / name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700


def test_what_a_killed_process_has_written_is_there():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        file = LeaseFile("r0")
        for number in range(200):
            file.write([(f"10.0.0.{number}", bytes((number,)) * 32)])
            os.write(writer, bytes((number,)))
        os._exit(0)
    os.close(writer)
    told = [os.read(reader, 1)[0] for _ in range(20)]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    kept = dict(LeaseFile("r0").read())
    assert all(kept[f"10.0.0.{number}"] == bytes((number,)) * 32 for number in told)


@pytest.mark.parametrize("content", [b"no database" * 100, b"\x00" * 5000])
def test_a_file_that_is_no_database_gives_a_sentence(directory, content):
    directory.mkdir()
    (directory / "r0.leases").write_bytes(content)
    with pytest.raises(LeaseFileError, match="so no leases are given"):
        LeaseFile("r0")


def test_a_file_of_a_later_version_is_left_alone():
    path = LeaseFile("r0").path
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(LeaseFileError, match="version 7"):
        LeaseFile("r0")


def test_the_own_lease_lasts_until_its_time_is_over():
    state.write_lease("r0", 1000.0, "10.0.0.7", 60, 1300)
    assert state.read_lease("r0", 1010.0) == ("10.0.0.7", 50.0, 1300)
    # A clock that was set back does not lengthen it.
    assert state.read_lease("r0", 10.0) == ("10.0.0.7", 60.0, 1300)
    assert state.read_lease("r0", 1060.0) is None
    state.write_lease("r0", 1010.0, "", 0, 0)
    assert state.read_lease("r0", 1010.0) is None
    state.write_lease("r0", 1010.0, "", 0, 0)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"address": "x"}', "[" * 2000])
def test_an_own_lease_that_cannot_be_read_is_none(directory, content):
    directory.mkdir()
    (directory / "r0.lease").write_text(content)
    assert state.read_lease("r0", 1000.0) is None
