"""How long the loop looks for an answer before it falls asleep, with a clock set by hand."""

from __future__ import annotations

from ropeway.app.engine.polling import (
    BULK,
    BULK_HOLD_S,
    SAVED_S,
    SHARE,
    SPAN_S,
    TRUST_MAX,
    BusyPoll,
)

SOON_S = SPAN_S / 4
LATE_S = SPAN_S * 10


def answered(polling, times=TRUST_MAX, waited_s=SOON_S, occasion="sent"):
    for _ in range(times):
        polling.learn(occasion, waited_s, 0.0, answered=True)


def test_nothing_is_looked_for_before_answers_have_come_soon():
    polling = BusyPoll(2, 0.0)
    assert polling.span_s("sent", 10.0) == 0.0
    polling.learn("sent", LATE_S, 0.0, answered=True)
    assert polling.span_s("sent", 20.0) == 0.0
    polling.learn("sent", SOON_S, 0.0, answered=True)
    assert polling.span_s("sent", 30.0) == SPAN_S


def test_answers_that_stay_away_end_it_and_one_begins_it_anew():
    polling = BusyPoll(2, 0.0)
    answered(polling, times=100)
    for _ in range(TRUST_MAX):
        assert polling.span_s("sent", 10.0) == SPAN_S
        polling.learn("sent", LATE_S, 0.0, answered=True)
    assert polling.span_s("sent", 10.0) == 0.0
    polling.learn("sent", SOON_S, 0.0, answered=True)
    assert polling.span_s("sent", 10.0) == SPAN_S


def test_nothing_within_the_span_is_as_bad_as_a_late_answer():
    polling = BusyPoll(2, 0.0)
    answered(polling, times=1)
    polling.learn("sent", SPAN_S, 0.0, answered=False)
    assert polling.span_s("sent", 10.0) == 0.0


def test_a_wait_that_ended_early_without_an_answer_teaches_nothing():
    polling = BusyPoll(2, 0.0)
    polling.learn("sent", SOON_S, 0.0, answered=False)
    assert polling.span_s("sent", 10.0) == 0.0
    answered(polling, times=1)
    assert polling.span_s("sent", 10.0) == SPAN_S
    spans = 0
    while polling.span_s("sent", 10.0):
        polling.learn("sent", SOON_S, SPAN_S, answered=False)
        spans += 1
    assert spans == int(SAVED_S / SPAN_S)


def test_occasions_are_judged_apart():
    polling = BusyPoll(2, 0.0)
    answered(polling, occasion="delivered")
    assert polling.span_s("sent", 10.0) == 0.0
    assert polling.span_s("delivered", 10.0) == SPAN_S


def test_no_more_than_its_share_of_the_time_is_spent():
    polling = BusyPoll(2, 0.0)
    answered(polling)
    now, spent_s = 0.0, 0.0
    while now < 10.0:
        span_s = polling.span_s("sent", now)
        spent_s += span_s
        polling.learn("sent", SPAN_S / 2, span_s, answered=True)
        now += SPAN_S
    assert 0.8 * SHARE * now < spent_s <= SHARE * now + SAVED_S + SPAN_S


def test_beside_bulk_nothing_is_looked_for():
    polling = BusyPoll(2, 0.0)
    answered(polling)
    polling.note(BULK - 1, 10.0)
    assert polling.span_s("sent", 10.0) == SPAN_S
    polling.note(2 * BULK - 1, 10.0)
    assert polling.span_s("sent", 10.0 + BULK_HOLD_S / 2) == 0.0
    assert polling.span_s("sent", 10.0 + BULK_HOLD_S) == SPAN_S


def test_a_quiet_time_saves_up_little():
    polling = BusyPoll(2, 0.0)
    answered(polling)
    now, spans = 1000.0, 0
    while polling.span_s("sent", now):
        polling.learn("sent", SPAN_S / 2, SPAN_S, answered=True)
        spans += 1
    assert spans == int(SAVED_S / SPAN_S)


def test_on_a_single_processor_whoever_answers_needs_it():
    polling = BusyPoll(1, 0.0)
    answered(polling)
    assert polling.span_s("sent", 10.0) == 0.0
