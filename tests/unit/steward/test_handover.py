"""What a steward leaves to the next one: whole records, over forks and kills."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from ropeway.steward.handover import RECORD_BYTES_MAX, Handover

SEED = 20261128
KILLS = 40


def test_nothing_is_found_where_nothing_was_left():
    assert Handover().find() == b""


def test_the_last_record_counts_whatever_its_length():
    handover = Handover()
    for length in (0, 1, 5, RECORD_BYTES_MAX, 3, RECORD_BYTES_MAX, 0):
        record = bytes([length & 255]) * length
        handover.leave(record)
        assert handover.find() == record


def test_record_that_is_too_large_leaves_the_one_before():
    handover = Handover()
    handover.leave(b"before")
    with pytest.raises(ValueError, match="more than"):
        handover.leave(bytes(RECORD_BYTES_MAX + 1))
    assert handover.find() == b"before"


def test_children_find_what_another_child_left():
    handover = Handover()
    assert status_of(lambda: handover.leave(b"of the first")) == 0
    assert handover.find() == b"of the first"
    assert status_of(lambda: check(handover.find() == b"of the first")) == 0


def test_record_is_whole_whenever_its_writer_is_killed():
    print("seed", SEED)
    spread = random.Random(SEED)
    handover = Handover()
    handover.leave(b"\0" * 100_000)
    for _ in range(KILLS):
        child = fork(lambda: write_on(handover))
        time.sleep(spread.uniform(0.0, 0.004))  # the moment of the kill is what is tried
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = handover.find()
        assert len(found) == 100_000 + found[0]
        assert found == found[:1] * len(found)


def write_on(handover):
    number = handover.find()[0]
    while True:
        number = (number + 1) % 256
        handover.leave(bytes([number]) * (100_000 + number))


def check(condition):
    assert condition


def fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def status_of(work):
    return os.waitpid(fork(work), 0)[1]
