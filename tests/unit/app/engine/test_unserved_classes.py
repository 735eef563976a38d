"""The warning about classes of traffic that no link carries."""

import pytest

from ropeway.app.engine.status import unserved_classes
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import pair

BULK = Match(protocols=frozenset((17,)))


@pytest.mark.parametrize("mode", list(Mode))
def test_a_class_that_is_off_on_all_links_is_dropped_counted_and_warned_of(mode):
    classes = (TrafficClass("bulk", BULK, mode, off=("eth*",)), TrafficClass("rest", Match()))
    world = pair(classes=classes)
    world.run(2.0)
    world.send("a", udp("10.0.0.1", "10.0.0.2"), udp("10.0.0.1", "10.0.0.2"))
    world.run(0.1)
    assert world.delivered["b"] == []
    assert world.dropped("a")["off"] == 2
    (warning,) = unserved_classes(world.nodes["a"].status(world.now))
    assert warning.startswith("class bulk: its packets to 10.0.0.2 are dropped")


def test_no_warning_while_a_link_is_left_or_the_host_is_not_reached():
    world = pair(classes=(TrafficClass("bulk", BULK, off=("eth2",)),))
    assert unserved_classes(world.nodes["a"].status(world.now)) == []
    world.run(2.0)
    assert unserved_classes(world.nodes["a"].status(world.now)) == []
    world.lost |= {"192.168.1.2"}
    world.run(60.0)
    assert unserved_classes(world.nodes["a"].status(world.now)) != []
    world.lost |= {"192.168.0.2"}
    world.run(60.0)
    assert unserved_classes(world.nodes["a"].status(world.now)) == []


def test_several_hosts_are_one_warning():
    peers = [
        {"host": f"10.0.0.{n}", "best_state": 2, "classes": [{"name": "a", "links": []}]}
        for n in (2, 3, 4)
    ]
    (warning,) = unserved_classes({"peers": peers})
    assert "10.0.0.2 and 2 other hosts are" in warning
    assert unserved_classes({"peers": [{"host": "10.0.0.2", "best_state": 2}]}) == []
