"""PROTOCOL.md says what the code does."""

import re
from pathlib import Path

from ropeway.core import tuning
from ropeway.core.handshake import TRANSITIONS, Input, State

TEXT = (Path(__file__).parents[3] / "agent" / "PROTOCOL.md").read_text()


def test_the_table_of_transitions_is_the_one_in_the_code():
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| (\d) \| (\d) \|$", TEXT, re.MULTILINE)
    assert {name for name, *_ in rows} == set(Input.__members__)
    for name, *states in rows:
        assert [TRANSITIONS[own, Input[name]] for own in State] == [int(s) for s in states]


def test_the_limits_and_timers_are_those_in_the_code():
    for text in (
        f"no higher state\n  was heard for {tuning.RESTART_S * 1000:.0f} ms",
        f"then every {tuning.GREETING_MAX_S:.0f} s, spread by",
        f"\n  {tuning.GREETING_JITTER * 100:.0f} %.",
        f"at most every\n  {tuning.ANSWER_PAUSE_S * 1000:.0f} ms",
        f"after {tuning.KEEPALIVE_S} s of its own silence",
        f"heard nothing for {tuning.SILENCE_S:.0f} s",
        f"At most {tuning.MAX_COPIES} carry;",
        f"two generations of {tuning.LATE_COPY_S:.0f} s",
        f"silent for {tuning.ADDRESS_HOLD_S:.0f} s",
        f"At most {tuning.LEARN_PER_S:.0f} unknown",
        f"at most {tuning.MAX_LEARNT_REMOTES} kept, {tuning.MAX_REMOTES_PER_PEER} of one host",
        f"forgotten\n  after {tuning.FORGET_UNPROVEN_S:.0f} s,",
        f"others after {tuning.FORGET_S:.0f} s of silence",
        f"limited to {tuning.GREETINGS_PER_S:.0f} a second",
    ):
        assert text in TEXT, text
