"""Traces of real links for a test, which is skipped where they are not there."""

import pytest

from tests.emulator import trace


def load(name):
    try:
        return trace.load(name)
    except trace.TraceAbsent as absent:
        pytest.skip(f"NOT TESTED against a real link: {absent}")
