"""The windows: against a naive model, at high rates, with late copies, by literal tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.classic.duplicates import REPLAY_BITS, REPLAY_REACH, DuplicateWindow, ReplayWindow
from ropeway.core.classic.frame import DUPLICATE_S, ID_MODULUS
from ropeway.core.tuning import LATE_COPY_S

ONE, OTHER = 1, 2  # two connections


def packet(number):
    return b"inner header" + number.to_bytes(8, "big")


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 0.4)),
        max_size=200,
    )
)
def test_within_500_ms_it_agrees_with_a_list_of_all_packets(arrivals):
    window = DuplicateWindow()
    seen = []
    now = 1000.0
    for packet_id, content, pause in arrivals:
        now += pause
        recent = any((packet_id, content) == known and now - at < DUPLICATE_S for known, at in seen)
        first = window.is_first(packet_id, packet(content), ONE, now)
        if recent:
            assert not first
        if (packet_id, content) not in [known for known, _ in seen]:
            assert first
        if first:
            seen.append(((packet_id, content), now))


def test_distinct_packets_at_30_000_a_second_are_all_first():
    window = DuplicateWindow()
    for number in range(90_000):
        now = 50.0 + number / 30_000
        assert window.is_first(number % ID_MODULUS, packet(number), ONE, now)
    assert window.crowded == 0


def test_every_late_copy_at_30_000_a_second_is_known_for_450_ms():
    window = DuplicateWindow()
    skew = 13_500
    for number in range(60_000):
        now = 50.0 + number / 30_000
        assert window.is_first(number % ID_MODULUS, packet(number), ONE, now)
        if number >= skew:
            late = number - skew
            assert not window.is_first(late % ID_MODULUS, packet(late), ONE, now)


def test_a_copy_that_waited_for_an_address_for_3_s_is_a_duplicate():
    window = DuplicateWindow()
    for number in range(1000):
        assert window.is_first(number, packet(number), ONE, 10 + number / 1000)
    assert not window.is_first(5, packet(5), OTHER, 13.0)


def test_the_same_packet_with_a_new_id_is_a_genuine_retransmission():
    window = DuplicateWindow()
    assert window.is_first(1, packet(7), ONE, 10.0)
    assert window.is_first(2, packet(7), ONE, 10.0)


def test_after_500_ms_the_same_connection_brings_no_copy_of_what_it_brought():
    window = DuplicateWindow()
    assert window.is_first(1, packet(0), ONE, 10.0)
    assert not window.is_first(1, packet(0), ONE, 10.4)
    assert window.is_first(1, packet(0), ONE, 10.6)


def test_idle_memory_is_given_back():
    window = DuplicateWindow()
    window.is_first(1, packet(0), ONE, 10.0)
    window.expire(10.1)
    assert not window.is_first(1, packet(0), OTHER, 10.2)
    window.expire(10.0 + 3 * LATE_COPY_S)
    assert len(window._new) + len(window._old) == 0


def test_the_same_bytes_and_id_are_new_when_the_ids_have_come_round():
    window = DuplicateWindow()
    assert window.is_first(1, packet(0), ONE, 10.0)
    for number in range(1, ID_MODULUS):
        assert window.is_first((1 + number) % ID_MODULUS, packet(number), ONE, 10.7)
    assert window.is_first(1, packet(0), ONE, 10.7)


def test_after_a_long_pause_nothing_is_remembered():
    window = DuplicateWindow()
    assert window.is_first(1, packet(0), ONE, 10.0)
    assert window.is_first(2, packet(1), ONE, 10.0 + 2 * LATE_COPY_S)
    assert window.is_first(1, packet(0), ONE, 10.0 + 4 * LATE_COPY_S)


def test_memory_is_bounded_and_crowding_is_counted():
    window = DuplicateWindow(limit=100)
    for number in range(1000):
        window.is_first(number, packet(number), ONE, 10.0)
    assert len(window._new) + len(window._old) <= 200
    assert window.crowded == 9


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
