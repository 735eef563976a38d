"""The published schema of the status: what agents print conforms, and nothing else does."""

from __future__ import annotations

import copy

import jsonschema
import pytest

from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.app.control.status_schema import SCHEMA, faults
from tests.unit.app.monitor import recorded
from tests.unit.core import classic_world, secure_world


def mended(node_status):
    """Return a recorded status with the parts that a node tells replaced by `node_status`."""
    found = {k: v for k, v in recorded.status().items() if k not in SECURE_ONLY}
    links = found.pop("links")
    found.update(node_status)
    of_sockets = ("receive_drops", "dropped", "buffers", "unusable")
    for link in found["links"]:
        link.update({key: links[0][key] for key in of_sockets})
    for peer in found["peers"]:
        if found["encapsulation"] == "secure":
            peer["names"] = []
    if found["encapsulation"] == "secure":
        found["offload"] = {}
    return found


SECURE_ONLY = ("port", "public_key", "cipher", "offload", "classes", "joint")


def objects(schema, path="status"):
    """Yield every part of a schema that describes an object, with where it is."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}.{key}")


def test_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_every_object_of_the_schema_is_closed():
    found = dict(objects(SCHEMA))
    assert len(found) > 10
    for path, one in found.items():
        assert one.get("additionalProperties", True) is not True, path


def test_every_field_of_the_schema_has_its_meaning():
    for path, one in objects(SCHEMA):
        for name, field in one.get("properties", {}).items():
            granted = path.endswith("process")
            assert granted or "description" in field or "$ref" in field, (path, name)


def test_recorded_status_conforms():
    assert faults(recorded.status()) == []
    assert faults(recorded.hostile()) != []


@pytest.mark.parametrize("seconds", [0.0, 0.05, 20.0])
def test_nodes_of_a_secure_network_conform(seconds):
    world = secure_world.three()
    world.run(seconds)
    for node in world.nodes.values():
        assert faults(mended(node.status(world.now))) == []


@pytest.mark.parametrize("mode", Mode)
def test_nodes_with_classes_of_traffic_conform(mode):
    world = secure_world.three(classes=(TrafficClass("voice", Match(), mode),))
    world.run(5.0)
    for node in world.nodes.values():
        status = mended(node.status(world.now))
        assert status["classes"] == [{"name": "voice", "mode": mode.value, "parity": 0}]
        assert [one["name"] for one in status["peers"][0]["classes"]] == ["voice", None]
        assert faults(status) == []


def test_nodes_whose_links_had_troubles_conform():
    world = secure_world.pair()
    node, troubles = world.nodes["a"], world.nodes["a"]._peers.troubles
    world.send("a", classic_world.udp("10.0.0.1", "10.0.0.2"))
    for _ in range(6):
        for strand in node.tables.strands.values():
            strand.idle_at = world.now + 60
            for connection in strand.connections.values():
                troubles.note(connection, world.now)
        world.run(10)
    status = mended(node.status(world.now))
    assert status["joint"][0]["links"] == [2, 3]
    assert status["peers"][0]["joint"][0]["together"] == 1.0
    assert faults(status) == []


@pytest.mark.parametrize("seconds", [0.0, 20.0])
def test_nodes_of_a_classic_network_conform(seconds):
    world = classic_world.three()
    world.run(seconds)
    for node in world.nodes.values():
        assert faults(mended(node.status(world.now))) == []


def places(value):
    """Yield every object in a status, but those whose keys are counted or numbered things."""
    if isinstance(value, dict):
        yield value
        for key, one in value.items():
            if key not in COUNTED:
                yield from places(one)
    elif isinstance(value, list):
        for one in value:
            yield from places(one)


COUNTED = ("dropped", "send_errors", "read_errors", "write_errors", "buffers", "offload")


def test_a_field_without_a_description_is_refused_wherever_it_is():
    status = recorded.status()
    for number, _ in enumerate(list(places(status))):
        spoilt = copy.deepcopy(status)
        list(places(spoilt))[number]["novelty"] = 1
        assert faults(spoilt) != []


def test_fields_of_secure_networks_are_refused_on_classic_ones():
    world = classic_world.pair()
    world.run(5.0)
    status = mended(next(iter(world.nodes.values())).status(world.now))
    status["peers"][0]["session"] = None
    assert faults(status) != []
