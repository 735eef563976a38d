"""When processors are kept from deep sleep, with a clock set by hand and a kernel in memory."""

from __future__ import annotations

import errno
import os

import pytest

from ropeway.app.engine import wakefulness
from ropeway.app.engine.wakefulness import HOLD_S, Wakefulness

NEVER = float("inf")


class FakeLatency:
    """A request to the kernel; `refuses` is the error of its next call."""

    def __init__(self, limit_us):
        self.limit_us = limit_us
        self.said = []
        self.refuses = None

    def hold(self):
        self._say("hold")

    def release(self):
        self._say("release")

    def close(self):
        self.said.append("close")

    def _say(self, word):
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self.said.append(word)


@pytest.fixture
def requests(monkeypatch):
    """Return all requests that are made."""
    made = []

    def make(limit_us):
        made.append(FakeLatency(limit_us))
        return made[-1]

    monkeypatch.setattr(wakefulness.cpu_latency, "CpuLatency", make)
    monkeypatch.setattr(wakefulness.cpu_latency, "is_heeded", lambda: True)
    return made


def pass_packets(awake, first, until_s, every_s):
    """Carry one packet every `every_s` seconds; return how many were carried in all."""
    count, now = first, 0.0
    while now < until_s:
        count += 1
        awake.note(count, now)
        awake.tick(now)
        now += every_s
    return count


def test_nothing_is_asked_for_before_there_is_traffic(requests):
    awake = Wakefulness(20)
    assert (requests[0].limit_us, requests[0].said, awake.granted) == (20, [], 20)
    awake.note(1, 10.0)
    assert (requests[0].said, awake.held, awake.deadline()) == ([], False, NEVER)


def test_it_is_asked_for_once_while_packets_pass_and_taken_back_when_they_end(requests):
    awake = Wakefulness(0)
    carried = pass_packets(awake, 0, until_s=5.0, every_s=HOLD_S / 2)
    assert (requests[0].said, awake.held) == (["hold"], True)
    due = awake.deadline()
    assert 5.0 <= due <= 5.0 + HOLD_S
    awake.tick(due - 0.001)
    assert awake.held
    awake.tick(due)
    assert (requests[0].said, awake.held) == (["hold", "release"], False)
    assert awake.deadline() == NEVER
    awake.note(carried + 1, due + 1.0)
    assert not awake.held
    awake.note(carried + 2, due + 1.1)
    assert requests[0].said == ["hold", "release", "hold"]


def test_packets_far_apart_are_no_traffic(requests):
    awake = Wakefulness(0)
    pass_packets(awake, 0, until_s=60.0, every_s=HOLD_S * 1.1)
    assert requests[0].said == []


def limited_after(carried):
    """Return what gets its limit after so many packets were carried."""
    awake = Wakefulness(None)
    awake.note(carried, 0.0)
    awake.set_limit(0)
    return awake


def test_what_carries_no_packet_of_the_virtual_network_is_no_traffic(requests):
    awake = limited_after(7)
    for turn in range(1000):
        awake.note(7, turn / 1000)
    assert requests[0].said == []
    pass_packets(awake, 7, until_s=1.0, every_s=0.01)
    due = awake.deadline()
    awake.note(107, due)
    awake.tick(due)
    assert requests[0].said == ["hold", "release"]


def test_several_packets_at_once_are_traffic(requests):
    awake = Wakefulness(0)
    awake.note(2, 10.0)
    assert requests[0].said == ["hold"]


def test_what_was_carried_before_the_limit_was_set_is_no_traffic(requests):
    awake = limited_after(1000)
    awake.note(1000, 10.0)
    awake.note(1001, 10.1)
    assert not awake.held
    awake.note(1002, 10.2)
    assert awake.held


def test_where_no_kind_of_sleep_can_be_chosen_the_limit_is_told_to_have_no_effect(
    requests, monkeypatch, caplog
):
    monkeypatch.setattr(wakefulness.cpu_latency, "is_heeded", lambda: False)
    awake = Wakefulness(20)
    pass_packets(awake, 0, until_s=1.0, every_s=0.01)
    assert (requests, awake.held, awake.refused) == ([], False, True)
    assert awake.granted == "the kernel has no cpuidle driver"
    assert "leave it out" in caplog.text


def test_without_a_limit_the_kernel_is_never_asked(requests):
    awake = Wakefulness(None)
    pass_packets(awake, 0, until_s=1.0, every_s=0.01)
    awake.close()
    assert (requests, awake.granted, awake.held, awake.deadline()) == (
        [], "not asked for", False, NEVER
    )  # fmt: skip
    assert not awake.refused


@pytest.mark.parametrize("held", [False, True])
def test_after_its_end_nothing_is_asked_for(requests, held):
    awake = Wakefulness(0)
    carried = pass_packets(awake, 0, until_s=1.0, every_s=0.01) if held else 0
    awake.close()
    assert requests[0].said == ["hold"] * held + ["close"]
    assert not awake.held
    for number in range(10):
        awake.note(carried + number, 2.0 + number / 100)
        awake.tick(10.0)
    awake.close()
    assert requests[0].said == ["hold"] * held + ["close"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "give the agent's user access"),
        (errno.EPERM, "give the agent's user access"),
        (errno.ENOENT, "leave it out"),
    ],
)
def test_file_that_cannot_be_opened_is_told_with_what_to_do(
    requests, monkeypatch, caplog, code, advice
):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(wakefulness.cpu_latency, "CpuLatency", refuse)
    awake = Wakefulness(0)
    assert awake.refused
    assert awake.granted == f"/dev/cpu_dma_latency: {os.strerror(code)}"
    (record,) = caplog.records
    sentence = record.getMessage()
    assert "cpu_latency_us" in sentence
    assert os.strerror(code) in sentence
    assert advice in sentence
    pass_packets(awake, 0, until_s=1.0, every_s=0.01)
    assert not awake.held


@pytest.mark.parametrize("when", ["hold", "release"])
def test_kernel_that_refuses_later_is_asked_no_more(requests, caplog, when):
    awake = Wakefulness(0)
    if when == "release":
        pass_packets(awake, 0, until_s=1.0, every_s=0.01)
    requests[0].refuses = errno.EINVAL
    pass_packets(awake, 1000, until_s=1.0, every_s=0.01)
    awake.tick(10.0)
    assert requests[0].said[-1] == "close"
    assert awake.granted == "/dev/cpu_dma_latency: Invalid argument"
    assert (awake.refused, awake.held, awake.deadline()) == (True, False, NEVER)
    assert len(caplog.records) == 1
