"""The epoch counts up whatever the clock does, callers and reset keys are kept, loss is told."""

from __future__ import annotations

import logging
import os
import stat

import pytest

from ropeway.app.store import state

NOW_S = 1_800_000_000.7


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


def test_first_start_takes_the_wall_clock(directory, caplog):
    assert state.next_epoch("ropeway0", NOW_S) == 1_800_000_000
    assert (directory / "ropeway0.epoch").read_text() == "1800000000\n"
    assert os.listdir(directory) == ["ropeway0.epoch"]
    assert caplog.records == []


@pytest.mark.parametrize("clock_s", [NOW_S, NOW_S - 1e9, 0.0, -5.0])
def test_every_start_counts_up(clock_s, caplog):
    state.next_epoch("ropeway0", NOW_S)
    epochs = [state.next_epoch("ropeway0", clock_s) for _ in range(3)]
    assert epochs == [1_800_000_001, 1_800_000_002, 1_800_000_003]
    assert caplog.records == []


def test_wall_clock_that_is_ahead_counts():
    state.next_epoch("ropeway0", NOW_S)
    assert state.next_epoch("ropeway0", NOW_S + 1000) == 1_800_001_000


def test_every_device_has_its_own(directory):
    state.next_epoch("ropeway0", NOW_S)
    state.next_epoch("ropeway1", 5.0)
    assert (directory / "ropeway1.epoch").read_text() == "5\n"


def test_first_of_several_directories_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    state.next_epoch("ropeway0", NOW_S)
    assert os.listdir(tmp_path) == ["one"]


@pytest.mark.parametrize("wild_s", [5e9, 4_200_000_000.0, 4_294_967_295.0])
def test_clock_that_is_wild_once_locks_nobody_out(wild_s, caplog):
    state.next_epoch("ropeway0", NOW_S)
    assert state.next_epoch("ropeway0", wild_s) == 1_800_000_001
    assert state.next_epoch("ropeway0", NOW_S + 9) == 1_800_000_009
    assert caplog.records == []


def test_clock_that_is_wild_at_the_first_start_leaves_room():
    assert state.next_epoch("ropeway0", 5e9) == 1
    assert state.next_epoch("ropeway0", NOW_S) == 1_800_000_000


def test_number_that_cannot_grow_never_shrinks(directory, caplog):
    directory.mkdir()
    (directory / "ropeway0.epoch").write_text(f"{state.EPOCH_MAX}\n")
    assert state.next_epoch("ropeway0", NOW_S) == state.EPOCH_MAX
    assert (directory / "ropeway0.epoch").read_text() == f"{state.EPOCH_MAX}\n"
    (record,) = caplog.records
    assert "cannot be counted up" in record.getMessage()


@pytest.mark.parametrize("content", ["", "soon\n", "-5\n", "1.5", "4294967296\n", "9" * 40])
def test_state_that_cannot_be_counted_up_is_told_and_replaced(directory, caplog, content):
    directory.mkdir()
    path = directory / "ropeway0.epoch"
    path.write_text(content)
    assert state.next_epoch("ropeway0", NOW_S) == 1_800_000_000
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path} holds ")
    assert path.read_text() == "1800000000\n"


def test_state_that_cannot_be_kept_is_told(directory, caplog):
    directory.write_text("no directory")
    assert state.next_epoch("ropeway0", NOW_S) == 1_800_000_000
    messages = [record.getMessage() for record in caplog.records]
    assert messages[-1].startswith(f"{directory}/ropeway0.epoch cannot be written (")


def test_state_is_on_disk_before_it_is_used(directory, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        state.os,
        "fsync",
        lambda descriptor: (synced.append(os.fstat(descriptor)), fsync(descriptor)),
    )
    state.next_epoch("ropeway0", NOW_S)
    file, folder = synced
    assert file.st_ino == (directory / "ropeway0.epoch").stat().st_ino
    assert folder.st_ino == directory.stat().st_ino


def test_write_that_fails_leaves_the_old_state(directory, monkeypatch, caplog):
    state.next_epoch("ropeway0", NOW_S)

    def full(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(state.os, "fsync", full)
    state.next_epoch("ropeway0", NOW_S)
    assert (directory / "ropeway0.epoch").read_text() == "1800000000\n"
    assert os.listdir(directory) == ["ropeway0.epoch"]
    assert "No space left" in caplog.records[-1].getMessage()


def test_epoch_that_was_kept_is_counted_on(directory):
    state.write_epoch("ropeway0", 1_800_000_000)
    assert state.next_epoch("ropeway0", 100.0) == 1_800_000_001


def test_reset_keys_that_were_kept_are_those_of_former_starts(directory):
    keys = [bytes([number]) * 32 for number in range(3)]
    state.write_reset_keys("ropeway0", keys)
    assert state.next_reset_keys("ropeway0", b"n" * 32) == (b"n" * 32, *keys)


CALLERS = {
    "10.0.0.1": [("192.0.2.1", 51840), ("2001:db8::1", 4000)],
    "10.0.0.3": [("192.0.2.3", 1)],
}


def test_callers_are_there_again_in_the_next_run(caplog):
    assert state.read_callers("ropeway0") == {}
    state.write_callers("ropeway0", CALLERS)
    assert state.read_callers("ropeway0") == CALLERS
    assert state.read_callers("ropeway1") == {}
    assert caplog.records == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"10.0.0.1": 4}',
        b'{"x": []}',
        b'{"10.0.0.1": [["192.0.2.1", 0]]}',
        b'{"10.0.0.1": [["192.0.2.1", "1"]]}',
        b'{"10.0.0.1": [["name", 1]]}',
        b'{"10.0.0.1": [[1]]}',
        b"[" * 100_000,
    ],
)
def test_a_spoilt_file_of_callers_is_told_and_no_more(directory, caplog, content):
    directory.mkdir()
    (directory / "ropeway0.callers").write_bytes(content)
    assert state.read_callers("ropeway0") == {}
    assert len(caplog.records) == 1


def reset_key(number):
    return bytes([number]) * 32


def test_a_start_has_the_reset_keys_of_the_last_ones(directory, caplog):
    for number in range(20):
        known = state.next_reset_keys("ropeway0", reset_key(number))
        assert known[:3] == tuple(reset_key(n) for n in range(number, -1, -1))[:3]
    assert len(known) == state.RESET_KEYS_MAX
    assert state.next_reset_keys("ropeway1", reset_key(1)) == (reset_key(1),)
    assert stat.S_IMODE((directory / "ropeway0.resets").stat().st_mode) == 0o600
    assert caplog.records == []


@pytest.mark.parametrize("content", [b"00", b"x" * 64, b"\xff", b"00" * 31 + b"\n" + b"00" * 33])
def test_spoilt_reset_keys_are_told_and_replaced(directory, caplog, content):
    directory.mkdir()
    (directory / "ropeway0.resets").write_bytes(content)
    assert state.next_reset_keys("ropeway0", reset_key(1)) == (reset_key(1),)
    (record,) = caplog.records
    assert "ropeway0.resets cannot be read" in record.getMessage()
    assert reset_key(1).hex() not in caplog.text
    assert state.next_reset_keys("ropeway0", reset_key(2)) == (reset_key(2), reset_key(1))


def test_reset_keys_that_cannot_be_kept_are_used_all_the_same(directory, caplog):
    directory.write_text("in the way")
    assert state.next_reset_keys("ropeway0", reset_key(1)) == (reset_key(1),)
    assert "ropeway0.resets cannot be written" in caplog.records[-1].getMessage()
