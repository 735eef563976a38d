from __future__ import annotations

import random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ropeway.app.monitor import metrics
from ropeway.app.monitor.metrics import Metrics, Totals
from ropeway.app.monitor.source import Answer
from tests.unit.app.monitor import recorded


def samples(found, exporter=None):
    """Give {(name, labels as a frozenset of pairs): value} of a status."""
    exposition = (exporter or Metrics()).exposition(recorded.answer(found)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((name, frozenset((key.rstrip("_"), one) for key, one in labels.items())))


def test_times_are_seconds_and_rates_are_bytes_a_second():
    found = samples(recorded.status())
    path = {"peer": "10.0.0.2", "link": "eth0"}
    assert value(found, "ropeway_rtt_seconds", **path) == pytest.approx(0.000905)
    assert value(found, "ropeway_queue_seconds", **path) == pytest.approx(0.0001)
    rate = value(found, "ropeway_link_transmit_bytes_per_second", link="eth0")
    assert rate == pytest.approx(151.84 * 1000 / 8)


def test_capacity_is_bytes_a_second_and_tells_how_sure_it_is():
    status = recorded.status()
    connections = status["peers"][0]["connections"]
    said = ((24_310.5, "measured", 12.25), (9120.0, "at least", 40.5))
    for connection, (kbit, sureness, age_s) in zip(connections, said):
        connection["estimate"].update(
            capacity_kbit=kbit, capacity_is=sureness, capacity_age_s=age_s
        )
    found = samples(status)
    for link, kbit, measured, age_s in (("eth0", 24_310.5, 1, 12.25), ("eth1", 9120.0, 0, 40.5)):
        path = {"peer": "10.0.0.2", "link": link}
        rate = value(found, "ropeway_connection_capacity_bytes_per_second", **path)
        assert rate == pytest.approx(kbit * 1000 / 8)
        assert value(found, "ropeway_connection_capacity_measured", **path) == measured
        assert value(found, "ropeway_connection_capacity_age_seconds", **path) == age_s
    unknown = {"peer": "10.0.0.2", "link": "eth2"}
    assert value(found, "ropeway_connection_capacity_measured", **unknown) is None


def test_what_only_grows_is_a_counter():
    found = samples(recorded.status())
    path = {"peer": "10.0.0.2", "link": "eth0"}
    assert value(found, "ropeway_transmit_packets_total", **path) == 2000
    assert value(found, "ropeway_transmit_bytes_total", **path) == 152000
    assert value(found, "ropeway_first_packets_total", **path) == 1997
    assert value(found, "ropeway_peer_delivered_packets_total", peer="10.0.0.2") == 2000


def test_a_lossy_link_and_one_that_is_down_are_told_apart():
    found = samples(recorded.status())
    assert value(found, "ropeway_loss_ratio", peer="10.0.0.2", link="eth1") == 0.1899
    assert value(found, "ropeway_loss_low_ratio", peer="10.0.0.2", link="eth1") == 0.1643
    assert value(found, "ropeway_link_carries", link="eth1") == 1
    assert value(found, "ropeway_link_carries", link="eth2") == 0
    assert value(found, "ropeway_link_up", link="eth2") == 0


def test_a_link_that_is_expected_and_missing_is_down():
    status = recorded.status()
    status["missing_links"] = [{"name": "wwan0", "fault": "there is no such interface"}]
    assert value(samples(status), "ropeway_link_up", link="wwan0") == 0


def test_classes_and_what_was_rescued_are_there():
    found = samples(recorded.with_classes())
    assert value(found, "ropeway_class_info", class_="bulk", mode="single") == 1
    assert value(found, "ropeway_class_packets_total", peer="10.0.0.2", class_="voice") == 1800
    assert value(found, "ropeway_class_links", peer="10.0.0.2", class_="voice") == 2
    assert value(found, "ropeway_peer_rescued_packets_total", peer="10.0.0.2") == 17


def test_parity_of_classes_is_counted():
    status = recorded.with_classes()
    for one in status["peers"][0]["classes"]:
        one.update(parity_frames=12, repaired=3)
    found, labels = samples(status), {"peer": status["peers"][0]["host"], "class_": "voice"}
    assert value(found, "ropeway_class_parity_frames_total", **labels) == 12
    assert value(found, "ropeway_class_repaired_packets_total", **labels) == 3


def test_skew_of_copies_is_a_histogram_in_seconds():
    found = samples(recorded.status())
    name, peer = "ropeway_copy_skew_seconds", {"peer": "10.0.0.2"}
    assert value(found, name + "_bucket", le="0.0005", **peer) == 19
    assert value(found, name + "_bucket", le="0.001", **peer) == 25
    assert value(found, name + "_bucket", le="+Inf", **peer) == 26
    assert value(found, name + "_count", **peer) == 26
    assert value(found, name + "_sum", **peer) == pytest.approx(0.009125)
    assert value(found, "ropeway_peer_deadline_misses_avoided_total", **peer) == 0


@pytest.mark.parametrize(
    "skew",
    [
        None,
        {"bounds_ms": [1, 2], "counts": [1, 2], "sum_ms": 3},
        {"bounds_ms": [2, 1], "counts": [1, 2, 3], "sum_ms": 3},
        {"bounds_ms": [1, 1], "counts": [1, 2, 3], "sum_ms": 3},
        {"bounds_ms": [1], "counts": [1, -2], "sum_ms": 3},
        {"bounds_ms": ["1"], "counts": [1, 2], "sum_ms": 3},
        {"bounds_ms": [1], "counts": [1, float("nan")], "sum_ms": 3},
        {"bounds_ms": list(range(10**5)), "counts": list(range(10**5 + 1)), "sum_ms": 3},
    ],
)
def test_histogram_that_is_none_is_left_out(skew):
    status = recorded.status()
    status["peers"][0]["skew"] = skew
    found = samples(status)
    assert len([name for name, _ in found if name == "ropeway_copy_skew_seconds_bucket"]) <= 17


def test_runs_of_lost_packets_and_reordering_are_there():
    status = recorded.status()
    connection = status["peers"][0]["connections"][0]
    connection["estimate"].update(burst_in_mean=2.5, burst_in_longest=7)
    connection["reordered"] = 9
    found = samples(status)
    path = {"peer": "10.0.0.2", "link": "eth0"}
    assert value(found, "ropeway_burst_in_packets", **path) == 2.5
    assert value(found, "ropeway_burst_in_longest_packets", **path) == 7
    assert value(found, "ropeway_reordered_packets_total", **path) == 9


def test_links_that_fail_together_have_a_share():
    status = recorded.status()
    status["joint"] = [
        {"links": [2, 3], "together": 0.8, "common": 8.0, "troubles": 10.0},
        {"links": [2, 4], "together": None, "common": 0.0, "troubles": 1.0},
        {"links": [2, 99], "together": 1.0, "common": 9.0, "troubles": 9.0},
        {"links": ["x"], "together": 1.0},
    ]
    found = samples(status)
    both = {"link": "eth0", "other": "eth1"}
    assert value(found, "ropeway_links_together_ratio", **both) == 0.8
    assert value(found, "ropeway_links_together_troubles", **both) == 10
    names = [name for name, _ in found if name.startswith("ropeway_links_together")]
    assert len(names) == 3


def test_packets_of_no_class_have_a_label_that_no_class_can_have():
    found = samples(recorded.with_classes())
    assert value(found, "ropeway_class_packets_total", peer="10.0.0.2", class_="(rest)") == 40


def test_a_budget_is_in_bytes_and_other_links_have_none():
    found = samples(recorded.with_classes())
    assert value(found, "ropeway_link_budget_used_bytes", link="eth1") == 4e9
    assert value(found, "ropeway_link_budget_bytes", link="eth1") == 1e10
    assert value(found, "ropeway_link_budget_used_up", link="eth1") == 0
    assert value(found, "ropeway_link_budget_bytes", link="eth0") is None


def test_an_agent_that_measures_less_has_fewer_metrics():
    found = samples(recorded.older())
    rtt_s = value(found, "ropeway_rtt_seconds", peer="10.0.0.2", link="eth0")
    assert rtt_s == pytest.approx(0.000905)
    assert value(found, "ropeway_queue_seconds", peer="10.0.0.2", link="eth0") is None
    assert value(found, "ropeway_peer_rescued_packets_total", peer="10.0.0.2") is None


def test_an_agent_that_does_not_answer_is_not_up():
    exposition = Metrics().exposition(Answer({}, "no agent answers", 3.0)).decode()
    assert "\nropeway_up 0.0\n" in exposition
    assert "ropeway_link_up" not in exposition


def test_every_metric_has_a_help_text_and_the_prefix():
    exposition = Metrics().exposition(recorded.answer(recorded.with_classes())).decode()
    families = list(text_string_to_metric_families(exposition))
    assert len(families) > 30
    for family in families:
        assert family.name.startswith("ropeway_"), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in ("gauge", "counter", "histogram"), family.name


def test_labels_are_few_and_known():
    found = samples(recorded.with_classes())
    names = {name for _, labels in found for name, _ in labels}
    assert names == {"link", "peer", "class", "mode", "reason", "version", "encapsulation", "le"}


def test_hostile_names_stay_values_of_labels():
    exporter = Metrics()
    found = samples(recorded.hostile(), exporter)
    values = {one for _, labels in found for _, one in labels}
    assert any("<img" in one for one in values)
    for one in values:
        assert len(one) <= metrics.LABEL_LENGTH_MAX
        assert one.isprintable(), one
    # The same once more, and a scrape that is refused for a series that is there twice.
    assert len(samples(recorded.hostile(), exporter)) == len(found)


@pytest.mark.parametrize("junk", [None, [], {}, "x", -1, True, float("nan"), 10**400, [[]], [None]])
def test_a_status_with_junk_anywhere_raises_nothing(junk):
    def spoiled(one):
        """Give the status once for each place, with junk in that place."""
        if isinstance(one, dict):
            for key in one:
                yield {**one, key: junk}
                yield from ({**one, key: inner} for inner in spoiled(one[key]))
        if isinstance(one, list) and one:
            yield [junk, *one[1:]]
            yield from ([inner, *one[1:]] for inner in spoiled(one[0]))

    exporter, count = Metrics(), 0
    for status in spoiled(recorded.with_classes()):
        list(exporter.of(recorded.answer(status)))
        count += 1
    assert count > 100


def test_two_links_of_one_name_make_one_series():
    status = recorded.status()
    for link in status["links"]:
        link["name"] = "eth0"
    exposition = Metrics().exposition(recorded.answer(status)).decode()
    assert exposition.count('ropeway_link_up{link="eth0"}') == 1


def test_the_series_of_a_metric_are_bounded():
    status = recorded.status()
    reasons = {f"reason {at}": at for at in range(metrics.SERIES_MAX + 100)}
    status["counters"]["dropped"] = reasons
    found = [name for name, _ in samples(status) if name == "ropeway_dropped_packets_total"]
    assert len(found) == metrics.SERIES_MAX


PLACE = ("10.0.0.2", "eth0")


def test_a_connection_that_goes_takes_nothing_away_from_a_sum():
    totals = Totals()
    one, other = ("1", "a"), ("2", "b")
    totals.take([(PLACE, one, "sent", 100.0), (PLACE, other, "sent", 10.0)])
    assert totals.take([(PLACE, other, "sent", 15.0)])[PLACE, "sent"] == 115
    # It comes back and counts from 0, as after a restart of the agent.
    found = totals.take([(PLACE, one, "sent", 7.0), (PLACE, other, "sent", 1.0)])
    assert found[PLACE, "sent"] == 123


def test_sums_never_go_back_whatever_connections_do():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    totals, before, values = Totals(), 0.0, {}
    for _ in range(2000):
        one = source.randrange(4)
        values[one] = source.choice([0.0, values.get(one, 0.0) + source.randrange(50)])
        if source.random() < 0.1:
            values.pop(source.choice(list(values)))
        counts = [(PLACE, (str(key),), "sent", counted) for key, counted in values.items()]
        now = totals.take([*counts, (PLACE, ("stays",), "sent", 1.0)])[PLACE, "sent"]
        assert now >= before
        before = now


def test_a_link_that_is_gone_is_forgotten():
    totals = Totals()
    totals.take([(PLACE, ("1",), "sent", 100.0)])
    assert totals.take([]) == {}
    assert totals.take([(PLACE, ("1",), "sent", 3.0)])[PLACE, "sent"] == 3
