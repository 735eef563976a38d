"""What the lab tells the one who waits: every line with the time since the start."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Iterator

_started = time.monotonic()


def say(text: str) -> None:
    """Print one line, preceded by the seconds since the program started."""
    print(f"[{time.monotonic() - _started:7.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce something that may take a while and say how long it took."""
    say(f"{text} ...")
    began = time.monotonic()
    yield
    say(f"{text}: done in {time.monotonic() - began:.1f} s")
