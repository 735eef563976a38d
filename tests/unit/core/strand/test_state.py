"""Connection states: the table, and two ends that run it over a bad line."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core.strand.state import TRANSITIONS, Input, State, answers


def test_every_state_has_an_answer_to_every_input():
    assert set(TRANSITIONS) == set(itertools.product(State, Input))


def test_below_2_a_frame_leads_to_one_more_than_its_state_at_most_2():
    for own, received in itertools.product((State.SENDING, State.HEARING), range(3)):
        assert TRANSITIONS[own, Input(received)] == min(2, received + 1)


def test_an_established_end_falls_only_by_silence_loss_or_the_fall_of_the_other():
    for what in Input:
        falls = what >= Input.HEARD_RESTART
        assert (TRANSITIONS[State.ESTABLISHED, what] < State.ESTABLISHED) == falls


def test_silence_and_loss_leave_nothing_known():
    for own in State:
        assert TRANSITIONS[own, Input.SILENT] == State.SENDING
        assert TRANSITIONS[own, Input.GONE] == State.SENDING


def test_two_established_ends_do_not_answer_each_other():
    assert not answers(State.ESTABLISHED, 2)
    for own, received in itertools.product(State, range(3)):
        if (own, received) != (State.ESTABLISHED, 2):
            assert answers(own, received)


class End:
    def __init__(self):
        self.state = State.SENDING

    def take(self, received):
        """Take a frame's state; give the state of the answer, or None."""
        before = self.state
        self.state = TRANSITIONS[before, Input(received)]
        return int(self.state) if answers(before, received) else None


@settings(max_examples=300)
@given(st.data())
def test_two_ends_establish_whatever_is_lost_doubled_or_reordered(data):
    ends = (End(), End())
    flying = []  # (to, state)
    for _ in range(data.draw(st.integers(0, 30), label="bad steps")):
        what = data.draw(st.sampled_from(("greet 0", "greet 1", "deliver", "lose", "double")))
        if what.startswith("greet"):
            sender = int(what[-1])
            flying.append((1 - sender, int(ends[sender].state)))
        elif flying:
            at = data.draw(st.integers(0, len(flying) - 1), label="which")
            to, state = flying[at]
            if what != "double":
                del flying[at]
            if what == "deliver":
                answer = ends[to].take(state)
                if answer is not None:
                    flying.append((1 - to, answer))
    # The line gets well: everything arrives, and each end greets while it is unfinished.
    deliveries = 0
    for _ in range(4):
        flying.extend(
            (1 - number, int(end.state)) for number, end in enumerate(ends) if end.state < 2
        )
        while flying:
            to, state = flying.pop(0)
            answer = ends[to].take(state)
            if answer is not None:
                flying.append((1 - to, answer))
            deliveries += 1
            assert deliveries < 500, "answers do not come to an end"
    assert [end.state for end in ends] == [State.ESTABLISHED, State.ESTABLISHED]
