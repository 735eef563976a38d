"""The model of a link against answers that are known beforehand."""

import math

import pytest

from tests.emulator import trace
from tests.emulator.link import GilbertElliott, LinkModel, Lost
from tests.unit.emulator import traces

MANY = 20_000
#: 99 % of a normal distribution lie within so many standard deviations.
Z99 = 2.576


def spaced(link, count, gap_s=0.001, size=1000, start_s=0.0):
    """Send packets at equal distances; give (sent at, arrived at or None) of each."""
    times = [start_s + n * gap_s for n in range(count)]
    return [(at, link.send(at, size)) for at in times]


def delays_ms(sent):
    return [(arrival - at) * 1000 for at, arrival in sent if arrival is not None]


def share_lost(sent):
    return sum(arrival is None for _, arrival in sent) / len(sent)


def bursts(sent):
    """The lengths of runs of lost packets."""
    marks = "".join("x" if arrival is None else " " for _, arrival in sent)
    return [len(run) for run in marks.split()]


def test_a_plain_link_delays_every_packet_alike():
    link = LinkModel(1, delay_ms=25)
    assert delays_ms(spaced(link, 100)) == pytest.approx([25] * 100)
    assert (link.sent, link.arrived, link.arrived_bytes) == (100, 100, 100_000)


def test_jitter_stays_within_its_bounds_is_even_and_keeps_the_order():
    link = LinkModel(2, delay_ms=20, jitter_ms=10)
    # So far apart that no packet waits for the one before.
    late = delays_ms(spaced(link, MANY, gap_s=0.02))
    assert min(late) >= 20 - 1e-6
    assert max(late) <= 30 + 1e-6
    assert sum(late) / MANY == pytest.approx(25, abs=Z99 * 10 / math.sqrt(12 * MANY))
    near = [arrival for _, arrival in spaced(LinkModel(2, delay_ms=20, jitter_ms=10), MANY)]
    assert near == sorted(near)


@pytest.mark.parametrize("loss", [0.01, 0.2, 0.66])
def test_single_losses_have_their_share(loss):
    link = LinkModel(3, loss=loss)
    lost = share_lost(spaced(link, MANY))
    assert lost == pytest.approx(loss, abs=Z99 * math.sqrt(loss * (1 - loss) / MANY))
    assert link.lost[Lost.MEDIUM] == round(lost * MANY)


@pytest.mark.parametrize(("loss", "burst"), [(0.02, 4), (0.1, 20)])
def test_bursts_of_losses_have_their_share_and_mean_length(loss, burst):
    sent = spaced(LinkModel(4, loss=GilbertElliott.of(loss, burst)), 20 * MANY)
    runs = bursts(sent)
    # A burst is geometric: the deviation of its length is nearly its mean.
    mean_error = Z99 * burst / math.sqrt(len(runs))
    assert sum(runs) / len(runs) == pytest.approx(burst, abs=mean_error)
    # The share is that of bursts times their length, both as uncertain as the number of bursts.
    assert share_lost(sent) == pytest.approx(loss, abs=Z99 * loss * math.sqrt(2 / len(runs)))


@pytest.mark.parametrize("gap_s", [0.01, 0.1, 0.25])
def test_bursts_in_time_last_as_long_however_much_is_sent(gap_s):
    loss = GilbertElliott(0.0154, 0.0859, step_ms=100)
    sent = spaced(LinkModel(5, loss=loss), round(6000 / gap_s), gap_s)
    share = 0.0154 / (0.0154 + 0.0859)
    # About so many bursts in that time, as uncertain in length as in number.
    uncertain = Z99 / math.sqrt(60_000 * 0.0154 * (1 - share))
    assert share_lost(sent) == pytest.approx(share, rel=uncertain * math.sqrt(2))
    lengths = bursts(sent)
    if gap_s <= 0.1:
        mean_s = sum(lengths) / len(lengths) * gap_s
        assert mean_s == pytest.approx(0.1 / 0.0859, rel=uncertain)


def test_a_bad_state_may_lose_a_part_only():
    loss = GilbertElliott(0.01, 0.01, loss_bad=0.5, loss_good=0.1)
    assert share_lost(spaced(LinkModel(6, loss=loss), 10 * MANY)) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("loss", "burst"), [(0, 3), (1, 3), (0.9, 2), (0.1, 0.5)])
def test_bursts_that_cannot_be_are_refused(loss, burst):
    with pytest.raises(ValueError, match=r"loss|burst"):
        GilbertElliott.of(loss, burst)


def test_what_is_reordered_arrives_late_and_holds_nothing_up():
    link = LinkModel(7, delay_ms=10, reorder=0.05, reorder_ms=15)
    sent = spaced(link, MANY)
    late = delays_ms(sent)
    assert set(map(round, late)) == {10, 25}
    order = sorted(range(MANY), key=lambda n: sent[n][1])
    # RFC 4737: reordered is what arrives after one that was sent later.
    highest, reordered = -1, 0
    for number in order:
        reordered += number < highest
        highest = max(highest, number)
    deviation = math.sqrt(0.05 * 0.95 / MANY)
    # Two that are late in a row are both overtaken, so the share is that of the late ones.
    assert reordered / MANY == pytest.approx(0.05, abs=Z99 * deviation)


@pytest.mark.parametrize("rate_kbit", [500, 8000, 100_000])
def test_a_full_link_carries_its_rate(rate_kbit):
    link = LinkModel(8, rate_kbit=rate_kbit, queue_ms=50)
    gap_s = 1000 * 8 / (rate_kbit * 1000) / 1.5
    arrivals = [at for _, at in spaced(link, 5000, gap_s) if at is not None]
    carried = 1000 * 8 * (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    assert carried == pytest.approx(rate_kbit * 1000, rel=0.01)


def test_packets_wait_for_those_before_them():
    link = LinkModel(9, delay_ms=5, rate_kbit=1000, queue_ms=1000)
    # 1000 bytes take 8 ms at 1000 kbit/s.
    assert delays_ms(spaced(link, 4, gap_s=0)) == pytest.approx([13, 21, 29, 37])
    assert link.waiting_ms(0) == pytest.approx(32)
    assert link.waiting_ms(0.03) == pytest.approx(2)
    assert link.waiting_ms(1) == 0


def test_a_queue_in_ms_drops_what_would_wait_longer():
    link = LinkModel(10, rate_kbit=1000, queue_ms=80)
    sent = spaced(link, 20, gap_s=0)
    # The eleventh waits for ten of 8 ms each; the twelfth would wait for 88 ms.
    assert [arrival is None for _, arrival in sent] == [False] * 11 + [True] * 9
    assert link.lost[Lost.QUEUE] == 9
    assert max(delays_ms(sent)) == pytest.approx(88)


def test_a_queue_in_bytes_drops_what_finds_no_room():
    link = LinkModel(11, rate_kbit=1000, queue_bytes=10_000)
    sent = spaced(link, 20, gap_s=0)
    assert [arrival is None for _, arrival in sent] == [False] * 10 + [True] * 10
    # 8 ms later the room of one packet is free again.
    assert link.send(0.008, 1000) == pytest.approx(0.088)
    assert link.send(0.008, 1000) is None


def test_a_small_packet_finds_room_where_a_large_one_does_not():
    link = LinkModel(12, rate_kbit=1000, queue_bytes=1500)
    assert link.send(0, 1000) is not None
    assert link.send(0, 1000) is None
    assert link.send(0, 500) is not None


def test_overload_loses_what_the_rate_lacks():
    link = LinkModel(13, rate_kbit=2000)
    sent = spaced(link, 10_000)  # 8 Mbit/s for 10 s
    assert share_lost(sent) == pytest.approx(0.75, abs=0.01)
    assert max(delays_ms(sent)) == pytest.approx(304, abs=1)


def test_a_black_hole_takes_what_is_sent_while_it_is_open():
    link = LinkModel(14, delay_ms=30, black_holes=[(1, 2), (3, 3.5)])
    sent = spaced(link, 4000)
    lost = [round(at, 6) for at, arrival in sent if arrival is None]
    assert lost == [round(n / 1000, 6) for n in (*range(1000, 2000), *range(3000, 3500))]
    assert link.lost[Lost.BLACK_HOLE] == 1500


def test_an_outage_loses_what_would_wait_too_long_and_delays_the_rest():
    capacity = trace.steps([(0, 8000), (1, 0), (3, 8000)], 10)
    link = LinkModel(15, delay_ms=0, trace=capacity, queue_ms=300)
    sent = spaced(link, 4000, gap_s=0.002)
    lost = [at for at, arrival in sent if arrival is None]
    assert lost[0] == pytest.approx(1.0, abs=0.003)
    assert lost[-1] == pytest.approx(2.7, abs=0.005)
    assert max(delays_ms(sent)) == pytest.approx(300, abs=5)


def test_a_queue_in_bytes_keeps_what_fits_through_an_outage():
    capacity = trace.steps([(0, 8000), (1, 0), (3, 8000)], 10)
    link = LinkModel(16, delay_ms=0, trace=capacity, queue_bytes=100_000)
    sent = spaced(link, 2000, gap_s=0.002)
    # 500 packets a second are sent, and 100 fit.
    assert link.lost[Lost.QUEUE] == pytest.approx(1000 - 100, abs=2)
    assert max(delays_ms(sent)) == pytest.approx(2000, abs=5)


def test_a_capacity_trace_is_played_at_its_rates_with_its_base_delay():
    capacity = trace.steps([(0, 1000), (5, 4000)], 10)
    link = LinkModel(17, trace=capacity, queue_ms=100)
    arrivals = [at - 0.020 for _, at in spaced(link, 10_000) if at is not None]
    slow = sum(1000 for at in arrivals if at < 5)
    quick = sum(1000 for at in arrivals if 5 <= at < 10)
    assert (slow, quick) == (
        pytest.approx(1e6 / 8 * 5, rel=0.01),
        pytest.approx(4e6 / 8 * 5, rel=0.01),
    )


@pytest.mark.parametrize("name", ["drive-a-starlink", "drive-a-verizon", "lte-verizon"])
def test_a_real_link_that_is_kept_full_carries_the_bytes_of_its_trace(name):
    capacity = traces.load(name).cut(20, 10)
    link = LinkModel(18, trace=capacity, queue_ms=200)
    gap_s = 1500 * 8 / (max(capacity.rate_kbit) * 1000)
    base_s = capacity.base_rtt_ms / 2000
    sent = spaced(link, int(10 / gap_s), gap_s, size=1500)
    arrived = [at for _, at in sent if at is not None and at - base_s <= 10]
    assert len(arrived) * 1500 * 8 == pytest.approx(capacity.carried(10), rel=0.01)


def test_a_round_trip_is_half_on_each_way_and_a_lost_probe_is_lost():
    probes = trace.Trace("t", 0.4, [0, 0.1, 0.2, 0.3], rtt_ms=[40, 40, 60, 20], loss=[0, 1, 0, 0])
    link = LinkModel(19, trace=probes, delay_ms=5)
    sent = spaced(link, 8, gap_s=0.05)
    assert [arrival is None for _, arrival in sent] == [False] * 2 + [True] * 2 + [False] * 4
    assert delays_ms(sent) == pytest.approx([25, 25, 35, 35, 15, 15])


def test_a_stall_delivers_late_in_order_and_loses_nothing():
    probes = trace.Trace("t", 1, [0, 0.2, 0.4], rtt_ms=[20, 1000, 20], loss=[0, 0, 0])
    sent = spaced(LinkModel(20, trace=probes), 1000)
    arrivals = [arrival for _, arrival in sent]
    assert None not in arrivals
    assert arrivals == sorted(arrivals)
    # The last of the stall was sent at 0.399 s; those after it come with it.
    assert arrivals[500] == pytest.approx(0.899)
    assert max(delays_ms(sent)) == pytest.approx(500)


def test_the_real_stalls_of_5g_arrive_late_and_in_order():
    edge = traces.load("rtt-5g-edge")
    sent = spaced(LinkModel(21, trace=edge), int(edge.length_s * 100), gap_s=0.01)
    arrivals = [arrival for _, arrival in sent]
    assert None not in arrivals
    assert arrivals == sorted(arrivals)
    assert max(delays_ms(sent)) == pytest.approx(1240, abs=1)


def test_the_real_outages_of_starlink_lose_what_its_probes_lost():
    starlink = traces.load("rtt-starlink")
    sent = spaced(LinkModel(22, trace=starlink), int(starlink.length_s * 100), gap_s=0.01)
    outages_s, before = [], 0.0
    for start_s, end_s, loss in zip(
        starlink.times, [*starlink.times[1:], starlink.length_s], starlink.loss
    ):
        if loss and not before:
            outages_s.append(0.0)
        if loss:
            outages_s[-1] += end_s - start_s
        before = loss
    assert share_lost(sent) == pytest.approx(sum(outages_s) / starlink.length_s, abs=0.001)
    assert max(bursts(sent)) / 100 == pytest.approx(max(outages_s), abs=0.011)
    assert max(outages_s) > 40


def test_the_seed_decides_all_that_is_random():
    def run(seed):
        link = LinkModel(seed, delay_ms=5, jitter_ms=5, loss=0.1, reorder=0.1, rate_kbit=9000)
        return spaced(link, 1000)

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"queue_ms": 1, "queue_bytes": 1}, "not both"),
        ({"rate_kbit": 0}, "more than 0"),
        ({"rate_kbit": 1, "trace": trace.steps([(0, 1)], 1)}, "has the rate already"),
    ],
)
def test_a_link_that_cannot_be_is_refused(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        LinkModel(1, **wrong)


def test_time_does_not_go_back():
    link = LinkModel(1)
    link.send(2, 100)
    with pytest.raises(ValueError, match="goes back"):
        link.send(1, 100)
