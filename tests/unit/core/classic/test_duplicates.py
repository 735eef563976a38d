"""The window of duplicates: against a naive model, at high rates, with late copies."""

from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.classic.duplicates import DuplicateWindow
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
