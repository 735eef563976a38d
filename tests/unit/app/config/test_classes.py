"""The classes of traffic in a configuration file."""

import re
from pathlib import Path

import pytest

from ropeway.app import errors
from ropeway.app.config import model, read
from ropeway.app.config.classes import DSCP
from ropeway.app.engine import nodes, reload
from ropeway.app.engine.starts import Starts
from ropeway.core.explain import Question
from ropeway.core.packet.traffic_class import Classifier, Match, Mode, TrafficClass

SECURE = "network: 10.213.77.0/24\naddress: 10.213.77.1\n"
DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "classes.md"
OVERLAY = 10 << 24 | 213 << 16 | 77 << 8


def config(classes):
    return read.parse(f"{SECURE}classes: {classes}\n".encode(), "f")


def faults(classes, before=SECURE):
    with pytest.raises(errors.ConfigError) as caught:
        read.parse(f"{before}classes: {classes}\n".encode(), "f")
    return [line.partition(":")[2] for line in caught.value.errors]


def test_a_class_with_all_keys():
    listed = config(
        """
  - name: voice
    match:
      dscp: [ef, af41, cs5, 7]
      protocol: udp
      ports: [5004, "6000-6100", "7000", 5005.0]
      addresses: [10.213.77.5, 10.213.77.32/28]
      size_max: 300
    mode: redundant
    copies: 2
    off: ["wwan*", eth0]
"""
    ).classes
    match = Match(
        dscp=frozenset((46, 34, 40, 7)),
        protocols=frozenset((17,)),
        ports=((5004, 5004), (6000, 6100), (7000, 7000), (5005, 5005)),
        networks=((OVERLAY + 5, 2**32 - 1), (OVERLAY + 32, 2**32 - 16)),
        size_max=300,
    )
    assert listed == (TrafficClass("voice", match, Mode.REDUNDANT, 2, off=("wwan*", "eth0")),)


def test_defaults_and_the_order_of_the_file():
    listed = config(
        "[{name: video, mode: adaptive, within_ms: 250}, {name: bulk, match: {protocol: 6},"
        " mode: single}, {name: rest, match: {}}, {name: load, mode: spread},"
        " {name: film, hold_ms: 60, parity: 8}]"
    ).classes
    assert listed == (
        TrafficClass("video", Match(), Mode.ADAPTIVE, within_ms=250.0),
        TrafficClass("bulk", Match(protocols=frozenset((6,))), Mode.SINGLE),
        TrafficClass("rest", Match(), Mode.REDUNDANT, None),
        TrafficClass("load", Match(), Mode.SPREAD, hold_ms=200),
        TrafficClass("film", Match(), hold_ms=60, parity=8),
    )
    assert read.parse(SECURE.encode(), "f").classes == ()


def test_recommended_classes_are_those_of_the_document():
    listings = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.M | re.S)
    (listed,) = (one for one in listings if "real-time" in one)
    written = read.parse(f"{SECURE}{listed}".encode(), "f").classes
    assert config("recommended").classes == written
    assert [one.name for one in written] == ["real-time", "small", "tcp", "rest"]


@pytest.mark.parametrize(
    ("described", "name"),
    [
        ({"dscp": 46, "size": 1200}, "real-time"),
        ({"dscp": 34, "size": 1200, "protocol": 6}, "real-time"),
        ({"dscp": 48, "size": 1200}, "real-time"),
        ({"size": 200}, "small"),  # speech
        ({"size": 576, "port": 67}, "small"),  # DHCP
        ({"size": 88, "port": 22, "protocol": 6}, "small"),  # a keystroke
        ({"size": 84, "protocol": 1}, "small"),  # a ping
        ({"size": 1300, "port": 22, "protocol": 6}, "tcp"),
        ({"size": 1300}, "rest"),
        ({"size": 1300, "protocol": 1}, "rest"),
        ({"size": 1300, "protocol": 50}, "rest"),
    ],
)
def test_recommended_classes_send_what_is_urgent_or_small_over_all_links(described, name):
    classes = config("recommended").classes
    packet = Question("10.213.77.9", **described).packet("10.213.77.1")
    number = Classifier([one.match for one in classes]).class_of(packet)
    assert classes[number].name == name
    assert (classes[number].mode is Mode.REDUNDANT) == (name in ("real-time", "small"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("ef", 46), ("va", 44), ("le", 1), ("be", 0), ("cs1", 8), ("cs7", 56), ("af11", 10),
     ("af43", 38)],
)  # fmt: skip
def test_names_of_dscp_have_the_values_of_their_rfcs(name, value):
    assert config(f"[{{name: a, match: {{dscp: [{name}]}}}}]").classes[0].match.dscp == {value}
    assert DSCP[name] == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "classes: write recommended, or a list of at most 16 classes"),
        ("recommend", "classes: write recommended, or a list of at most 16 classes"),
        ('"recommended\\n"', "classes: write recommended, or a list of at most 16 classes"),
        ("[voice]", "classes[0]: write a mapping with the keys name, match"),
        ("[{mode: single}]", "classes[0].name: this setting is missing: add it"),
        ("[{name: Voice 1}]", "classes[0].name: write a name of 1 to 32 lower-case letters"),
        ("[{name: a}, {name: a}]", "classes[1].name: a stands in line 3 already: rename one"),
        (
            "[{name: a, mode: best}]",
            "classes[0].mode: write redundant, adaptive, single or spread, not best",
        ),
        ("[{name: a, modes: single}]", "classes[0].modes: unknown setting: did you mean mode?"),
        ("[{name: a, copies: 9}]", "classes[0].copies: write a number of copies from 1 to 8"),
        ("[{name: a, copies: 0}]", "classes[0].copies: write a number of copies from 1 to 8"),
        (
            "[{name: a, mode: single, copies: 1}]",
            "classes[0].copies: only the mode redundant has this key: remove it",
        ),
        ("[{name: a, within_ms: 50}]", "classes[0].within_ms: only the mode adaptive has this key"),
        (
            "[{name: a, mode: adaptive, within_ms: 5}]",
            "classes[0].within_ms: write a number of milliseconds from 10 to 10000, not 5",
        ),
        ("[{name: a, hold_ms: 2001}]", "classes[0].hold_ms: write a whole number of milliseconds"),
        ("[{name: a, parity: 1}]", "classes[0].parity: write a whole number of packets from 2"),
        ("[{name: a, parity: 33}]", "classes[0].parity: write a whole number of packets from 2"),
        (
            f"[{', '.join(f'{{name: a{n}, parity: 5}}' for n in range(9))}]",
            "classes[8]: at most 8 classes may have hold_ms, parity or the mode spread",
        ),
        ("[{name: a, hold_ms: 1.5}]", "classes[0].hold_ms: write a whole number of milliseconds"),
        (
            "[{name: a, mode: spread, hold_ms: 0}]",
            "classes[0].hold_ms: the mode spread needs some: write 1 to 2000",
        ),
        (
            f"[{', '.join(f'{{name: a{n}, hold_ms: 5}}' for n in range(9))}]",
            "classes[8]: at most 8 classes may have hold_ms, parity or the mode spread",
        ),
        ("[{name: a, off: eth0}]", "classes[0].off: write a list of interface names"),
        ("[{name: a, match: {dscp: [ef, af44]}}]", "classes[0].match.dscp[1]: write a DSCP value"),
        ("[{name: a, match: {dscp: [64]}}]", "classes[0].match.dscp[0]: write a DSCP value"),
        ("[{name: a, match: {dscp: []}}]", "classes[0].match.dscp: write a list of DSCP values"),
        ("[{name: a, match: {protocol: sctp}}]", "match.protocol: write tcp, udp, icmp or a"),
        ("[{name: a, match: {ports: [0]}}]", "match.ports[0]: write a port from 1 to 65535"),
        (
            '[{name: a, match: {ports: ["6100-6000"]}}]',
            "match.ports[0]: write a first and a greater last port from 1 to 65535, not 6100-6000",
        ),
        ('[{name: a, match: {ports: ["0-99999"]}}]', "match.ports[0]: write a first and a greater"),
        ('[{name: a, match: {ports: ["sip"]}}]', "match.ports[0]: write a port from 1 to 65535"),
        (
            "[{name: a, match: {protocol: icmp, ports: [5]}}]",
            "match.ports: protocol icmp has no ports: remove one of the two",
        ),
        ("[{name: a, match: {protocol: 47, ports: [5]}}]", "match.ports: protocol 47 has no ports"),
        (
            "[{name: a, match: {addresses: [vm1]}}]",
            "addresses[0]: write an IPv4 address or network",
        ),
        (
            "[{name: a, match: {addresses: [10.213.77.33/28]}}]",
            "addresses[0]: 10.213.77.33/28 has host bits set: write 10.213.77.32/28",
        ),
        (
            "[{name: a, match: {addresses: [192.168.0.3]}}]",
            "addresses[0]: 192.168.0.3 is outside the network 10.213.77.0/24: write virtual",
        ),
        ("[{name: a, match: {addresses: [0.0.0.0/0]}}]", "addresses[0]: 0.0.0.0/0 is outside"),
        ("[{name: a, match: {size_max: 19}}]", "match.size_max: write a number of bytes from 20"),
    ],
)
def test_one_fault_gives_one_sentence(text, sentence):
    (fault,) = faults(text)
    assert fault.startswith("3: ")
    assert sentence in fault


@pytest.mark.parametrize("key", ["off", '"off"'])
def test_off_needs_no_quotes(key):
    assert config(f"[{{name: a, {key}: [eth0]}}]").classes[0].off == ("eth0",)


def test_seventeen_classes_are_too_many():
    listed = ", ".join(f"{{name: c{number}}}" for number in range(17))
    (fault,) = faults(f"[{listed}]")
    assert "or a list of at most 16 classes" in fault
    assert len(config("[{}]".format(listed.rpartition(", ")[0])).classes) == 16


def test_all_faults_are_told_at_once():
    told = faults(
        "[{name: a, copies: 9, match: {dscp: [xx], ports: ['9-1'], addresses: [10.0.0.1]}},"
        " {name: a, mode: single, copies: 2}]"
    )
    assert len(told) == 6


def test_a_classic_network_has_no_classes():
    before = "encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.0.1\npeers: []\n"
    assert faults("[{name: a}]", before) == [
        "5: classes: only the encapsulation secure has this setting: remove it"
    ]


def test_the_node_is_told_and_a_reload_takes_them_over():
    before, after = read.parse(SECURE.encode(), "f"), config("[{name: a, mode: single}]")
    assert model.what_differs(before, after) == ["classes"]
    assert "classes" in reload.APPLIED_LIVE
    settings = nodes.secure_settings(after, Starts(1, (), lambda *_: None))
    assert settings.classes == after.classes
