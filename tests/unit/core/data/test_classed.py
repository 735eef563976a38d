"""Runs are sent over the connections that carry the class of their packets."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ropeway.core.data.classed import ClassedSender, quickest
from ropeway.core.drops import Drop
from ropeway.core.packet import runs
from ropeway.core.packet.traffic_class import Classifier, Match
from ropeway.core.strand.class_table import ClassTable, Share
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables
from tests.unit.core.packet.test_traffic_class import likely, matches, packet


class Sender:
    """Notes what is sent."""

    def __init__(self):
        self.sent = []

    def send_over(self, strand, connections, run, now, partial, labels=None):
        self.sent.append((connections, list(run)))

    def put(self, connections, *sealed):
        raise AssertionError("nothing was lost")

    def seal_lane(self, strand, lane, run, now, partial, labels=None):
        raise AssertionError("no class has a lane")


def behind_options(port):
    return packet(ports=(port, 1), options=bytes(4))


@given(matches, st.lists(likely, max_size=12))
@example([Match(ports=((5004, 5004),))], [behind_options(5004), behind_options(1)])
def test_each_packet_goes_where_its_class_goes(rules, packets):
    tables, sender = Tables(), Sender()
    classifier = Classifier(rules)
    refused = []
    classed = ClassedSender(sender, tables, classifier, lambda part, *_: refused.extend(part))
    strand = SecureStrand.__new__(SecureStrand)
    strand.carrying = ("all",)
    strand.session = None
    strand.classes = tuple(ClassTable() for _ in range(len(rules) + 1))
    for number, table in enumerate(strand.classes):
        # Every third class is off everywhere.
        table.carrying = table.direct = () if number % 3 == 1 else (number,)
    expected = Counter()
    for run in runs.cut(packets, Drop.NOT_IPV4, Counter()):
        expected.update(classifier.class_of(one) for one in run)
        sender.sent.clear()
        classed.send_over(strand, strand.carrying, run, 1.0, False)
        over = [(c, one) for (c,), part in sender.sent for one in part]
        kept = [(classifier.class_of(one), one) for one in run]
        assert over == [(c, one) for c, one in kept if c % 3 != 1]
    for number, table in enumerate(strand.classes):
        assert table.packets == (expected[number] if table.carrying else 0)
    off = sum(count for number, count in expected.items() if number % 3 == 1)
    assert [classifier.class_of(one) % 3 for one in refused] == [1] * off
    assert not tables.dropped


@pytest.mark.parametrize(("carrying", "refused"), [(("small",), 0), ((), 1)])
def test_what_only_links_fit_that_are_off_is_too_big_and_not_off(carrying, refused):
    tables, told = Tables(), []
    classed = ClassedSender(Sender(), tables, Classifier([]), lambda *what: told.append(what))
    strand = SecureStrand.__new__(SecureStrand)
    strand.carrying = ("small", "large")
    strand.session = None
    strand.classes = (ClassTable(),)
    strand.classes[0].carrying = strand.classes[0].direct = carrying
    one = packet()
    classed.send_over(strand, ["large"], (one,), 1.0, True)
    assert len(told) == refused
    assert tables.dropped == ({} if refused else {Drop.TOO_BIG: 1})


class Path:
    """A connection with a rate in bytes/s and a delay, which carries packets in order."""

    def __init__(self, rate, delay_s):
        self.rate = rate
        self.delay_s = delay_s
        self.free_at = 0.0

    def arrives(self, size, now):
        self.free_at = max(now, self.free_at) + size / self.rate
        return self.free_at + self.delay_s


def spread_over(paths, count, pause_s, size=1000):
    """Arrival times and paths of packets that are sent one by one."""
    shares = [Share(path, path.delay_s, path.rate) for path in paths]
    found = []
    for number in range(count):
        now = number * pause_s
        path = quickest(shares, size, now).connection
        found.append((path.arrives(size, now), path))
    return found


def test_a_quick_link_carries_alone_while_its_queue_is_shorter_than_the_others_way():
    near, far = Path(2_500_000, 0.01), Path(1_250_000, 0.06)
    found = spread_over((near, far), 1000, 1000 / 2_400_000)
    assert {path for _, path in found} == {near}


def test_packets_are_spread_by_rate_and_arrive_almost_in_order():
    near, far = Path(2_500_000, 0.01), Path(1_250_000, 0.06)
    found = spread_over((near, far), 4000, 1000 / 3_700_000)
    share = sum(path is far for _, path in found[2000:]) / 2000
    assert share == pytest.approx(1 / 3, abs=0.02)
    times = [at for at, _ in found]
    behind = [max(times[:number]) - at for number, at in enumerate(times) if number]
    assert max(behind) < 0.002


def test_what_is_known_of_no_path_goes_over_the_first():
    one, other = Share("one", 0.0, 1000.0), Share("other", 0.0, 1000.0)
    assert quickest((one, other), 100, 5.0) is one
    assert quickest((one, other), 100, 5.0) is other
