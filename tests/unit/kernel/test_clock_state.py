"""Whether something keeps the wall clock right."""

from __future__ import annotations

import errno

import pytest

from ropeway.kernel import clock_state, libc


@pytest.mark.parametrize(("state", "synchronised"), [(0, True), (1, True), (4, True), (5, False)])
def test_the_kernel_says_so(monkeypatch, state, synchronised):
    asked = []

    def call(name, buffer):
        asked.append((name, bytes(buffer)))
        return state

    monkeypatch.setattr(libc, "call", call)
    assert clock_state.is_synchronised() is synchronised
    ((name, sent),) = asked
    assert name == "adjtimex"
    assert not any(sent), "with modes of 0 nothing is set"


def test_where_it_cannot_be_asked_it_is_not(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(libc, "call", refuse)
    assert clock_state.is_synchronised() is False


def test_this_kernel_answers():
    assert clock_state.is_synchronised() in (True, False)
