"""Control frames as bytes."""

from dataclasses import replace

import pytest

from ropeway.core.frame.control import (
    CONTROL_SIZE,
    HOLD_MAX_MS,
    MEASURED_SIZE,
    Control,
    Measured,
    decode_control,
    encode_control,
)
from ropeway.core.frame.data import LANES, OVERHEAD
from ropeway.core.frame.outer import IPV4_MTU_MIN, outer_size


@pytest.mark.parametrize("flag", ["answer", "calls", "challenge", "takes_partial", "shuts_out"])
@pytest.mark.parametrize("state", [0, 1, 2])
def test_each_flag_of_a_control_frame_stands_for_itself(flag, state):
    control = Control(state=state, src_index=2, dst_index=3, way=1, **{flag: True})
    assert decode_control(encode_control(control)) == control


def test_partial_packets_are_taken_only_where_bit_32_says_so():
    body = bytearray(encode_control(Control(state=2, src_index=2, dst_index=3, way=1)))
    assert not decode_control(bytes(body)).takes_partial
    body[0] |= 32
    assert decode_control(bytes(body)).takes_partial


PLACES = (
    (2, ("192.0.2.1", 51840)),
    (3, ("2001:db8::1", 1)),
    *((9, (f"10.0.0.{number}", 65535)) for number in range(14)),
)


@pytest.mark.parametrize("count", [0, 1, 2, 16])
@pytest.mark.parametrize("size", [0, 50, 51, 1400])
def test_announced_endpoints_follow_what_older_versions_read(count, size):
    silent = Control(state=2, src_index=2, dst_index=3, way=1, observed=("192.0.2.9", 5))
    control = replace(silent, announced=PLACES[:count])
    body = encode_control(control, size)
    assert decode_control(body) == control
    assert body[:CONTROL_SIZE] == encode_control(silent)
    assert len(body) >= size


def test_no_more_endpoints_are_announced_or_read_than_fit_every_path():
    control = Control(state=2, src_index=2, dst_index=3, way=1, announced=PLACES + PLACES)
    body = encode_control(control)
    assert decode_control(body).announced == PLACES
    outer = outer_size("2001:db8::1") + OVERHEAD + len(body)
    assert outer <= IPV4_MTU_MIN
    at = CONTROL_SIZE
    longer = body[:at] + bytes((17,)) + body[at + 1 :] + bytes(22)
    assert decode_control(longer).announced == PLACES


def test_a_body_that_is_shorter_than_it_announces_is_malformed():
    control = Control(state=2, src_index=2, dst_index=3, way=1, announced=PLACES[:3])
    body = encode_control(control)
    for length in range(CONTROL_SIZE + 1, len(body)):
        assert decode_control(body[:length]) is None
    assert decode_control(body[:CONTROL_SIZE]).announced == ()


MEASURED = Measured(clock=2**32 - 1, sent=7, received=2**31, queue_ms=12.5, jitter_ms=None)


@pytest.mark.parametrize("count", [0, 1, 16])
@pytest.mark.parametrize("size", [0, 1400])
def test_measurement_follows_what_is_announced(count, size):
    silent = Control(state=2, src_index=2, dst_index=3, way=1, announced=PLACES[:count])
    control = replace(silent, measured=MEASURED)
    body = encode_control(control, size)
    assert decode_control(body) == control
    # A later version may say more.
    assert decode_control(body + bytes(40)) == control
    plain = encode_control(silent)
    assert body[: len(plain)] == plain
    assert len(encode_control(control)) == len(plain) + MEASURED_SIZE + (not count)


@pytest.mark.parametrize("holds_ms", [(), (0,), (200, 0, 2000), (1,) * LANES])
def test_how_long_packets_of_lanes_are_held_follows_the_measurement(holds_ms):
    said = Control(state=2, src_index=2, dst_index=3, way=1, measured=MEASURED, holds_ms=holds_ms)
    body = encode_control(said)
    assert decode_control(body) == said
    # A later version may say more, also of lanes that this one does not have.
    assert decode_control(body + bytes(40)) == said
    at = len(body) - 1 - 2 * len(holds_ms)
    longer = body[:at] + bytes((1 + 2 * LANES + 4,)) + b"\x01\x00" * (LANES + 2)
    assert decode_control(longer).holds_ms == (1,) * LANES


def test_a_host_that_says_nothing_of_lanes_takes_none_of_their_frames():
    silent = Control(state=2, src_index=2, dst_index=3, way=1, measured=MEASURED)
    assert decode_control(encode_control(silent)).holds_ms is None
    probe = replace(silent, measured=None, probe=1400, holds_ms=(5,))
    assert decode_control(encode_control(probe, 1400)).holds_ms is None


def test_a_time_beyond_the_longest_is_the_longest_and_half_a_time_is_none():
    said = Control(state=2, src_index=2, dst_index=3, way=1, measured=MEASURED, holds_ms=(9, 60000))
    body = encode_control(said)
    assert decode_control(body).holds_ms == (9, HOLD_MAX_MS)
    assert decode_control(body[:-1]).holds_ms == (9,)


def test_measurement_of_an_older_version_says_nothing_of_what_it_answers():
    measured = replace(MEASURED, ask_pause_s=0.5)
    control = Control(state=2, src_index=2, dst_index=3, way=1, measured=measured)
    body = encode_control(control)
    assert decode_control(body) == control
    older = body[: CONTROL_SIZE + 1] + bytes((17,)) + body[CONTROL_SIZE + 2 : -2]
    assert decode_control(older).measured == MEASURED
    assert decode_control(older[:-1]).measured is None


@pytest.mark.parametrize(("pause_s", "read_s"), [(0.0004, 0.0), (0.01, 0.01), (1e9, 65.535)])
def test_pauses_between_questions_are_read_in_milliseconds(pause_s, read_s):
    measured = replace(MEASURED, ask_pause_s=pause_s)
    control = Control(state=2, src_index=2, dst_index=3, way=1, measured=measured)
    found = decode_control(encode_control(control)).measured
    assert found.ask_pause_s == pytest.approx(read_s)


def test_longest_control_frame_fits_every_path():
    control = Control(
        state=2,
        src_index=2,
        dst_index=3,
        way=1,
        announced=PLACES,
        measured=MEASURED,
        holds_ms=(200,) * LANES,
    )
    assert outer_size("2001:db8::1") + OVERHEAD + len(encode_control(control)) <= IPV4_MTU_MIN


def test_part_of_a_measurement_is_none():
    control = Control(state=2, src_index=2, dst_index=3, way=1, measured=MEASURED)
    body = encode_control(control)
    for length in range(CONTROL_SIZE, len(body)):
        assert decode_control(body[:length]).measured is None
    shorter = body[: CONTROL_SIZE + 1] + bytes((15,)) + body[CONTROL_SIZE + 2 :]
    assert decode_control(shorter).measured is None


@pytest.mark.parametrize(("queue_ms", "read_ms"), [(0.0, 0.0), (0.04, 0.0), (9e9, 6553.4)])
def test_times_are_read_in_tenths_of_milliseconds_up_to_six_seconds(queue_ms, read_ms):
    measured = replace(MEASURED, queue_ms=queue_ms, sent=2**40 + 3)
    control = Control(state=2, src_index=2, dst_index=3, way=1, measured=measured)
    found = decode_control(encode_control(control)).measured
    assert found.queue_ms == pytest.approx(read_ms)
    assert found.sent == 3


@pytest.mark.parametrize(("sent", "read"), [(0, 0), (1, 1), (2, 2), (3, 0), (255, 0)])
def test_a_role_that_is_not_known_means_all_packets(sent, read):
    measured = replace(MEASURED, role=sent)
    control = Control(state=2, src_index=2, dst_index=3, way=1, measured=measured)
    assert decode_control(encode_control(control)).measured == replace(measured, role=read)


@pytest.mark.parametrize("holds_ms", [None, (), (5, 2000)])
@pytest.mark.parametrize("places", [(), PLACES])
@pytest.mark.parametrize("size", [0, 1400])
def test_features_follow_the_times_of_lanes(holds_ms, places, size):
    measured = Measured(clock=1, sent=2, received=3)
    control = Control(
        state=2,
        src_index=2,
        dst_index=3,
        way=1,
        announced=places,
        measured=measured,
        holds_ms=holds_ms,
    )
    said = decode_control(encode_control(replace(control, features=0x8001), size))
    assert said == replace(control, features=0x8001)
    assert decode_control(encode_control(control, size)).features == 0


@pytest.mark.parametrize(("tail", "features"), [(b"", 0), (b"\x00", 0), (b"\x01\x03", 3)])
@pytest.mark.parametrize("more", [b"", b"\xff"])
def test_of_features_later_versions_may_say_fewer_or_more(tail, features, more):
    measured = Measured(clock=1, sent=2, received=3)
    control = Control(state=2, src_index=2, dst_index=3, way=1, measured=measured, holds_ms=(7,))
    said = decode_control(encode_control(control) + tail + (more if tail else b""))
    assert said == replace(control, features=features)
    longer = decode_control(encode_control(control) + b"\x03\x01\x00\xff")
    assert longer == replace(control, features=1)
