"""Tests of several workers side by side, and one that has the machine for itself."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from pathlib import Path
from typing import Iterator

GATE, STAGE = "rwsys-gate.lock", "rwsys-stage.lock"


@contextlib.contextmanager
def beside_others() -> Iterator[None]:
    """Hold a place that any number of workers may hold at once."""
    with _locked(STAGE, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the only place: wait until nobody else holds any, and let nobody in."""
    with _locked(STAGE, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    with _opened(name) as stage:
        # Whoever waits to be alone keeps the gate, or later ones would always be let in first.
        with _opened(GATE) as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(stage, how)
        yield


@contextlib.contextmanager
def _opened(name: str) -> Iterator[int]:
    # Not to be handed down: a program that outlives its test would hold the place.
    with open(Path(tempfile.gettempdir(), name), "w", encoding="ascii") as file:
        yield file.fileno()
