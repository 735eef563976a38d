"""The replay window: by a literal table and against a set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.session.replay import REPLAY_BITS, REPLAY_REACH, ReplayWindow

ONE, OTHER = 1, 2  # two connections


TOP = 2 * REPLAY_BITS
NEW, DUPLICATE, TOO_OLD = ReplayWindow.NEW, ReplayWindow.DUPLICATE, ReplayWindow.TOO_OLD


@pytest.mark.parametrize(
    "arrivals",
    [
        pytest.param(
            [(0, NEW), (0, DUPLICATE), (1, NEW), (1, DUPLICATE), (0, DUPLICATE)], id="first"
        ),
        pytest.param(
            [(9, NEW), (8, NEW), (7, NEW), (7, DUPLICATE), (8, DUPLICATE)], id="reordered"
        ),
        pytest.param([(7, NEW), (8, NEW), (7, DUPLICATE), (15, NEW), (16, NEW)], id="next byte"),
        pytest.param(
            [
                (REPLAY_REACH, NEW),
                (1, NEW),
                (1, DUPLICATE),
                (0, TOO_OLD),
                (REPLAY_REACH + 1, NEW),
                (1, TOO_OLD),
                (2, NEW),
            ],
            id="reach",
        ),
        pytest.param(
            [
                (REPLAY_BITS - 1, NEW),
                (REPLAY_BITS, NEW),
                (REPLAY_BITS - 1, DUPLICATE),
                (9, NEW),
                (8, TOO_OLD),
                (REPLAY_BITS + 9, NEW),
                (REPLAY_BITS + 8, NEW),
            ],
            id="round the ring",
        ),
        pytest.param(
            [
                (5, NEW),
                (TOP, NEW),
                (TOP, DUPLICATE),
                (5, TOO_OLD),
                (TOP - REPLAY_REACH, TOO_OLD),
                (TOP - REPLAY_REACH + 1, NEW),
                (TOP - REPLAY_REACH + 1, DUPLICATE),
                (TOP - 1, NEW),
                (TOP + 1, NEW),
            ],
            id="farther than the ring",
        ),
        pytest.param(
            [
                (REPLAY_BITS - 20, NEW),
                (REPLAY_BITS - 2, NEW),
                (REPLAY_BITS + 40, NEW),
                (REPLAY_BITS - 20, DUPLICATE),
                (REPLAY_BITS - 2, DUPLICATE),
                (REPLAY_BITS - 3, NEW),
                (REPLAY_BITS + 3, NEW),
                (REPLAY_BITS + 39, NEW),
            ],
            id="jump over the end",
        ),
        pytest.param([(2**64 - 1, NEW), (2**64 - 1, DUPLICATE), (2**64 - 2, NEW)], id="64 bits"),
        pytest.param(
            [
                (5, NEW),
                (2**40, NEW),
                (2**40, DUPLICATE),
                (5, DUPLICATE),
                (4, NEW),
                (4, DUPLICATE),
                (6, NEW),
                (6, DUPLICATE),
                (2**32 + 6, TOO_OLD),
                (REPLAY_BITS + 6, NEW),
                (6, TOO_OLD),
                (2**40 + 4, NEW),
                (2**40 - 1, NEW),
                (2**41, NEW),
                (REPLAY_BITS + 5, TOO_OLD),
                (2**40 - 1, DUPLICATE),
                (2**40 + 5, NEW),
                (2**41 + 5, NEW),
                (2**41 - 5, NEW),
            ],
            id="skips",
        ),
    ],
)
def test_replay_window_by_table(arrivals):
    window = ReplayWindow()
    for counter, expected in arrivals:
        assert window.check(counter) == expected, counter
        if expected == NEW:
            window.mark(counter)


@given(
    st.lists(
        st.one_of(
            st.integers(-40, 40),
            st.integers(-REPLAY_BITS - 50, REPLAY_BITS + 50),
            st.sampled_from([-REPLAY_REACH, 1 - REPLAY_REACH, REPLAY_REACH, REPLAY_BITS]),
        ),
        max_size=150,
    )
)
def test_replay_window_agrees_with_a_set(steps):
    window = ReplayWindow()
    received, top, counter = set(), -1, 0
    for step in steps:
        counter = max(0, counter + step)
        if counter <= top - REPLAY_REACH:
            expected = TOO_OLD
        else:
            expected = DUPLICATE if counter in received else NEW
        assert window.check(counter) == expected
        window.mark(counter)
        received.add(counter)
        top = max(top, counter)


SKIPS = [2**32, -(2**32), 2**33 + 7, 2**40, -(2**40), 2**40 + REPLAY_BITS]


@given(
    st.lists(
        st.one_of(
            st.integers(-300, 300), st.integers(-REPLAY_BITS, REPLAY_BITS), st.sampled_from(SKIPS)
        ),
        max_size=80,
    )
)
def test_replay_window_takes_nothing_twice_however_counters_are_skipped(steps):
    window, received, counter = ReplayWindow(), set(), 0
    # The last steps go back over all that was received.
    for step in [*steps, *(-step for step in reversed(steps))]:
        counter = max(0, counter + step)
        judged = window.check(counter)
        assert judged != (NEW if counter in received else DUPLICATE)
        if judged == NEW:
            window.mark(counter)
            received.add(counter)


@pytest.mark.parametrize("ahead", [1, 7, 8, 9, 16, 40, 4096, REPLAY_BITS - 9, REPLAY_BITS])
@pytest.mark.parametrize("full", [REPLAY_BITS, REPLAY_BITS + 77])
def test_a_jump_over_a_full_ring_leaves_nothing_marked_on_its_way(ahead, full):
    window = ReplayWindow()
    for counter in range(full):
        window.mark(counter)
    window.mark(full - 1 + ahead)
    end = full - 1 + ahead
    in_reach = range(max(full, end - REPLAY_REACH + 1), end)
    assert all(window.check(counter) == NEW for counter in in_reach)
    assert window.check(full - 1) == (TOO_OLD if ahead >= REPLAY_REACH else DUPLICATE)


def test_a_check_alone_changes_nothing():
    window = ReplayWindow()
    assert window.check(10**9) == NEW
    assert window.check(0) == NEW
    window.mark(0)
    assert window.check(10**9) == NEW
    assert window.check(1) == NEW


def test_what_is_too_old_is_not_marked_over_what_is_new():
    window = ReplayWindow()
    window.mark(REPLAY_BITS + 100)
    window.mark(101)  # shares its bit with the counter one ring above
    window.mark(100)
    assert window.check(REPLAY_BITS + 101) == NEW
    assert window.check(REPLAY_BITS + 99) == NEW


def test_a_second_of_50_000_packets_fits_twice():
    window = ReplayWindow()
    for counter in range(100_000, 200_000):
        window.mark(counter)
    assert all(window.check(counter) == NEW for counter in range(99_999, 68_937, -1))
    assert all(window.check(counter) == DUPLICATE for counter in range(100_000, 200_000))


def test_a_window_takes_only_what_its_counters_need():
    sizes = []
    for highest in (0, 1000, 8 * 1024 - 1, REPLAY_BITS - 1, 10 * REPLAY_BITS):
        window = ReplayWindow()
        window.mark(highest)
        assert window.check(highest) == DUPLICATE
        sizes.append(len(window._ring))
    assert sizes == [128, 128, 1024, REPLAY_BITS // 8, REPLAY_BITS // 8]
