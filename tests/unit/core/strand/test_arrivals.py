"""Runs of lost frames, reordering, and the skew of copies: by hand, and between emulated nodes."""

import random

import pytest

from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from ropeway.core.strand.arrivals import SAMPLED_ONE_IN, SKEW_MS, Arrivals, Bursts, Copies
from ropeway.core.strand.strand import Traffic
from ropeway.core.tuning import BURSTS_S, DEADLINE_MS, SAMPLE_S, SAMPLED_MAX
from tests.emulator.pair import EmulatedPair
from tests.unit.core import secure_world
from tests.unit.core.classic_world import udp

OLD, NEW = b"\1\1\1\1", b"\2\2\2\2"


class Frames:
    """Frames of a connection as the data side takes them, one train after the other."""

    def __init__(self, start=0):
        self.traffic = Traffic()
        self.arrivals = Arrivals(self.traffic)
        self.at, self.now = start, 100.0

    def come(self, count=1, session=OLD):
        """The next frames come, in one train."""
        self.take(self.at, self.at + count - 1, count, session)
        self.at += count

    def take(self, first, last, count, session=OLD):
        if (last & 0xFFFF) == self.traffic.newest + count:
            self.traffic.newest = last & 0xFFFF
        else:
            self.arrivals.note(first & 0xFFFF, last & 0xFFFF, count, session, self.now)

    def lose(self, count=1):
        self.at += count

    @property
    def bursts(self):
        return self.arrivals.bursts(self.now)


@pytest.mark.parametrize("start", [0, 65000, 65535])
def test_frames_in_order_are_no_loss_wherever_the_counter_begins_anew(start):
    frames = Frames(start)
    for count in (1, 43, 1, 64, 700):
        frames.come(count)
    assert frames.bursts == Bursts()
    assert frames.arrivals.late == 0


@pytest.mark.parametrize("start", [0, 65530])
def test_runs_are_counted_with_their_lengths(start):
    frames = Frames(start)
    for lost in (1, 3, 8):
        frames.come(4)
        frames.lose(lost)
    frames.come()
    assert frames.bursts == Bursts(runs=3, frames=12, longest=8)


def test_run_within_a_train_is_one():
    frames = Frames()
    frames.come()
    frames.take(1, 9, 6)
    frames.at = 10
    frames.come()
    assert frames.bursts == Bursts(1, 3, 3)


def test_frames_that_were_only_overtaken_are_late_and_not_lost():
    frames = Frames()
    frames.come(5)
    frames.take(7, 9, 3)
    frames.take(5, 6, 2)
    frames.take(10, 10, 1)
    assert frames.bursts == Bursts()
    assert frames.arrivals.late == 2


def test_run_of_which_a_part_is_late_is_shorter():
    frames = Frames()
    frames.come(5)
    frames.take(9, 9, 1)
    frames.take(6, 6, 1)
    assert frames.bursts == Bursts(1, 3, 3)


def test_runs_are_forgotten_after_two_spans():
    frames = Frames()
    frames.come()
    frames.lose(5)
    frames.come()
    frames.now += BURSTS_S * 1.5
    assert frames.bursts.longest == 5
    frames.now += BURSTS_S
    assert frames.bursts == Bursts()


def test_host_that_starts_anew_has_lost_nothing():
    frames = Frames()
    frames.come(5000)
    frames.at = 1
    frames.come(session=NEW)
    frames.come(session=NEW)
    assert frames.bursts == Bursts()


def test_run_over_the_change_of_a_session_counts():
    frames = Frames()
    frames.come(5000)
    frames.lose(3)
    frames.come(session=NEW)
    assert frames.bursts == Bursts(1, 3, 3)


def test_sequences_that_somebody_made_up_neither_raise_nor_count_below_nothing():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, frames = random.Random(seed), Frames()
    for _ in range(5000):
        first, last = chance.randrange(1 << 16), chance.randrange(1 << 16)
        frames.take(first, last, chance.randrange(1, 64), chance.choice((OLD, NEW)))
        frames.now += chance.random()
        runs, lost, longest = frames.bursts
        assert 0 <= runs <= lost
        assert 0 <= longest <= 1 << 15


def test_skew_falls_into_its_bucket_and_each_way_counts_once():
    copies = Copies()
    for number, ways_ms in enumerate([(0.0, 0.4), (0.0, 0.6), (0.0, 30.0), (0.0, 700.0)]):
        for way, skew_ms in enumerate(ways_ms, 1):
            for _ in range(2):
                copies.note((-1, 64 * number), way, number + skew_ms / 1000)
    assert copies.counts[:2] == [1, 1]
    assert copies.counts[SKEW_MS.index(50.0)] == 1
    assert copies.counts[-1] == 1
    assert copies.sum_ms == pytest.approx(731.0)


def test_samples_are_bounded_and_those_that_were_left_out_still_count():
    copies = Copies()
    copies.look(1, 0, 0.0)
    for number in range(10 * SAMPLED_MAX):
        copies.note((-1, number), 2, 0.001 * number)
    assert len(copies._samples) == SAMPLED_MAX
    copies.note((-1, 5000), 2, 10.0)
    assert len(copies._samples) == 1
    copies.look(1, 10**6, 10.0 + SAMPLE_S)
    copies.look(1, 0, 11.0 + SAMPLE_S)
    assert copies.avoided == SAMPLED_ONE_IN * (10 * SAMPLED_MAX + 1)


def misses_avoided(best_after_ms, lost=0):
    """One packet comes over a second connection, and over the best one later, if at all."""
    copies = Copies()
    copies.look(1, 0, 0.0)
    copies.note((-1, 64), 2, 1.0)
    if best_after_ms is not None:
        copies.note((-1, 64), 1, 1.0 + best_after_ms / 1000)
    for second in range(3, 6):
        copies.look(1, lost if second == 3 else 0, second)
    return copies.avoided


def test_miss_was_avoided_where_the_best_connection_is_too_late_or_loses():
    assert misses_avoided(DEADLINE_MS - 1) == 0
    assert misses_avoided(DEADLINE_MS + 1) == SAMPLED_ONE_IN
    assert misses_avoided(None, lost=1000) == SAMPLED_ONE_IN
    # It may not have been sent over that one at all.
    assert misses_avoided(None, lost=0) == 0
    assert misses_avoided(None, lost=3) == 3


def test_two_nodes_see_runs_and_skew_of_what_they_get():
    pair = EmulatedPair(["delay_ms=20,loss=0.05,burst=4", "delay_ms=50"])
    flow = pair.stream(4000, 500, 10, back_kbit=0)
    (peer,) = pair.status(1)["peers"]
    lossy, whole = (one["estimate"] for one in sorted(peer["connections"], key=lambda c: c["link"]))
    print(lossy, peer["skew"], peer["misses_avoided"])
    assert 2.5 < lossy["burst_in_mean"] < 6
    assert lossy["burst_in_longest"] >= 8
    assert (whole["bursts_in"], whole["burst_in_mean"]) == (0, None)
    counts = dict(zip(SKEW_MS, peer["skew"]["counts"]))
    assert counts[50.0] == sum(peer["skew"]["counts"]) > 0.8 * len(flow.sent_at) / SAMPLED_ONE_IN
    assert flow.lost == 0
    assert 0 <= peer["misses_avoided"] <= peer["rescued"] + 5 * SAMPLED_ONE_IN


def test_two_nodes_see_what_was_overtaken_and_do_not_take_it_for_lost():
    pair = EmulatedPair(["delay_ms=20,reorder=0.02,reorder_ms=8"])
    pair.stream(4000, 500, 8, back_kbit=0)
    (connection,) = pair.status(1)["peers"][0]["connections"]
    share = connection["reordered"] / connection["received"]
    print(share, connection["estimate"])
    assert 0.01 < share < 0.06


@pytest.mark.parametrize(("within_ms", "is_late"), [(20.0, True), (300.0, False)])
def test_what_is_too_late_is_what_the_class_says(within_ms, is_late):
    # The quicker connection brings two thirds, so that the other one is the best.
    classes = (TrafficClass("all", Match(), Mode.ADAPTIVE, within_ms=within_ms),)
    pair = EmulatedPair(["delay_ms=20,loss=0.3", "delay_ms=80"])
    pair.nodes[1]._set_classes(classes, pair._clock)
    pair.stream(4000, 500, 8, back_kbit=0)
    (peer,) = pair.status(1)["peers"]
    assert (peer["misses_avoided"] > 3000) == is_late


def test_frame_that_is_no_packet_has_the_usual_limit():
    world = secure_world.pair()
    world.run(1)
    node = world.nodes["b"]
    node._set_classes((TrafficClass("all", Match(), Mode.ADAPTIVE, within_ms=7.0),), world.now)
    limits = [
        node._receiver._within_ms(packet) for packet in (b"", bytes(9), udp("10.0.0.1", "10.0.0.2"))
    ]
    assert limits == [DEADLINE_MS, DEADLINE_MS, 7.0]


def test_best_connection_that_is_late_or_loses_makes_others_avoid_misses():
    pair = EmulatedPair(["delay_ms=20,loss=0.2", "delay_ms=200"])
    flow = pair.stream(4000, 500, 10, back_kbit=0)
    (peer,) = pair.status(1)["peers"]
    lost = 0.2 * len(flow.sent_at)
    print(peer["misses_avoided"], lost)
    assert peer["misses_avoided"] > 0.2 * lost
