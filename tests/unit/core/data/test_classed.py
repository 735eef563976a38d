"""Runs are sent over the connections that carry the class of their packets."""

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from ropeway.core.data.classed import ClassedSender
from ropeway.core.drops import Drop
from ropeway.core.packet import runs
from ropeway.core.packet.traffic_class import Classifier, Match
from ropeway.core.strand.secure import ClassTable, SecureStrand
from ropeway.core.tables import Tables
from tests.unit.core.packet.test_traffic_class import likely, matches, packet


class Sender:
    """Notes what is sent."""

    def __init__(self):
        self.sent = []

    def send_over(self, strand, connections, run, now, partial):
        self.sent.append((connections, list(run)))

    def put(self, connections, *sealed):
        raise AssertionError("nothing was lost")


def behind_options(port):
    return packet(ports=(port, 1), options=bytes(4))


@given(matches, st.lists(likely, max_size=12))
@example([Match(ports=((5004, 5004),))], [behind_options(5004), behind_options(1)])
def test_each_packet_goes_where_its_class_goes(rules, packets):
    tables, sender = Tables(), Sender()
    classifier = Classifier(rules)
    classed = ClassedSender(sender, tables, classifier)
    strand = SecureStrand.__new__(SecureStrand)
    strand.carrying = ("all",)
    strand.classes = tuple(ClassTable() for _ in range(len(rules) + 1))
    for number, table in enumerate(strand.classes):
        # Every third class is off everywhere.
        table.carrying = () if number % 3 == 1 else (number,)
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
    assert tables.dropped[Drop.OFF] == off
