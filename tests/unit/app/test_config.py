"""The configuration file: what holds, and every way in which one does not."""

from __future__ import annotations

import json
import random
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.app import config
from ropeway.core.node import Node, Settings

EXAMPLE = Path(__file__).parents[3] / "agent" / "examples" / "ropeway.yaml"

MINIMAL = """\
encapsulation: classic
network: 10.0.0.0/24
address: 10.0.0.1
"""


def faults(text: str) -> list:
    """Return the errors of `text` without the name of the file."""
    with pytest.raises(config.ConfigError) as caught:
        config.parse(textwrap.dedent(text).encode(), "f")
    assert all(line.startswith("f:") for line in caught.value.errors)
    return [line[len("f:") :] for line in caught.value.errors]


def test_minimal_file_gets_the_documented_defaults():
    assert config.parse(MINIMAL.encode(), "f") == config.Config(
        encapsulation="classic",
        network="10.0.0.0/24",
        address="10.0.0.1",
        router=None,
        forward=False,
        device_name="ropeway0",
        device_mtu=None,
        include=("*",),
        exclude=(),
        remotes=(),
        control=config.Control(),
    )


def test_whole_file():
    text = MINIMAL + textwrap.dedent(
        """\
        router: 10.0.0.2
        forward: true
        device: {name: rope1, mtu: 1400}
        interfaces: {include: ["en*", "wl*"], exclude: [enp0s9]}
        remotes:
          - host: 10.0.0.2
            addresses: [192.168.0.3, {address: 192.168.1.3, index: 4}]
          - {host: 10.0.0.3, addresses: [192.168.0.4]}
        control: {path: /run/x.sock, owner: root, group: adm, mode: "0600"}
        """
    )
    assert config.parse(text.encode(), "f") == config.Config(
        encapsulation="classic",
        network="10.0.0.0/24",
        address="10.0.0.1",
        router="10.0.0.2",
        forward=True,
        device_name="rope1",
        device_mtu=1400,
        include=("en*", "wl*"),
        exclude=("enp0s9",),
        remotes=(
            config.Remote("10.0.0.2", "192.168.0.3", 0),
            config.Remote("10.0.0.2", "192.168.1.3", 4),
            config.Remote("10.0.0.3", "192.168.0.4", 0),
        ),
        control=config.Control("/run/x.sock", "root", "adm", 0o600),
    )


def test_example_file_holds():
    assert config.read(str(EXAMPLE)).encapsulation == "classic"


def test_device_address_has_the_prefix_length_of_the_network():
    assert config.parse(MINIMAL.encode(), "f").device_address == "10.0.0.1/24"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "1: the file is empty: start from the example configuration"),
        ("# nothing\n", "1: the file is empty: start from the example configuration"),
        ("[a]", "1: write a mapping with the keys encapsulation, network, address and remotes,"
                " not a list"),
        ("a: [", "1: this is not YAML: expected the node content, but found '<stream end>'"),
        ("a: b\n---\nc: d\n", "2: this is not YAML: but found another document"),
        ("a: \x01", "1: this is not YAML: unacceptable character #x0001: special characters are"
                    " not allowed"),
    ],
)  # fmt: skip
def test_not_a_configuration_at_all(text, error):
    marked = [line for line in faults(text) if "missing" not in line and "unknown" not in line]
    assert error in marked


@pytest.mark.parametrize(
    ("line", "error"),
    [
        # schema
        ("forwrd: true", "4: forwrd: unknown key: did you mean forward?"),
        ("qqq: 1", "4: qqq: unknown key: remove it; the keys here are encapsulation, network,"
                   " address, router, forward, device, interfaces, remotes, control"),
        ("forward: 1", "4: forward: write true or false, not 1"),
        ("device: {mtu: 575}",
         "4: device.mtu: write auto or a number of bytes from 576 to 65535, not 575"),
        ("device: {mtu: 65536}",
         "4: device.mtu: write auto or a number of bytes from 576 to 65535, not 65536"),
        ("device: {mtu: large}",
         "4: device.mtu: write auto or a number of bytes from 576 to 65535, not large"),
        ("device: {mtu: true}",
         "4: device.mtu: write auto or a number of bytes from 576 to 65535, not true"),
        ("device: {name: a b}", "4: device.name: write an interface name of 1 to 15 letters,"
                                " digits, dots, hyphens and underscores, not a b"),
        ("device: {nmae: x}", "4: device.nmae: unknown key: did you mean name?"),
        ("device:", "4: device: write a mapping with the keys name and mtu, not nothing"),
        ("interfaces: {include: eth0}", "4: interfaces.include: write a list of interface names"
                                        ' or shell patterns, such as ["en*"], not eth0'),
        ("interfaces: {exclude: [7]}", "4: interfaces.exclude[0]: write an interface name or a"
                                       ' shell pattern, such as "en*", not 7'),
        ("router: 10.0.0", "4: router: write an IPv4 address without a prefix length, such as"
                           " 192.168.0.3, not 10.0.0"),
        ("router: 10.0.0.02", "4: router: write an IPv4 address without a prefix length, such as"
                              " 192.168.0.3, not 10.0.0.02"),
        ("remotes: {}", "4: remotes: write a list of hosts, each with the keys host and"
                        " addresses, not a mapping"),
        ("remotes: [10.0.0.2]", "4: remotes[0]: write a mapping with the keys host and addresses,"
                                " not 10.0.0.2"),
        ("remotes: [{addresses: [1.2.3.4]}]",
         "4: remotes[0].host: this key is missing: add it"),
        ("remotes: [{host: 10.0.0.2}]",
         "4: remotes[0].addresses: this key is missing: add it"),
        ("remotes: [{host: 10.0.0.2, addresses: []}]",
         "4: remotes[0].addresses: write a list of at least one IPv4 address, not an empty list"),
        ("remotes: [{host: 10.0.0.2, addresses: [1.2.3]}]",
         "4: remotes[0].addresses[0]: write an IPv4 address without a prefix length, such as"
         " 192.168.0.3, not 1.2.3"),
        ("remotes: [{host: 10.0.0.2, addresses: [{index: 1}]}]",
         "4: remotes[0].addresses[0].address: this key is missing: add it"),
        ("remotes: [{host: 10.0.0.2, addresses: [{address: 1.2.3.4, index: 0}]}]",
         "4: remotes[0].addresses[0].index: write an interface index, a number from 1 to"
         " 2147483647, not 0"),
        ("control: {path: here.sock}",
         "4: control.path: write an absolute path of at most 107 bytes, not here.sock"),
        ("control: {mode: 0660}",
         '4: control.mode: write octal digits in quotes, such as "0660", not 432'),
        ("control: {owner: 0}", "4: control.owner: write the name of a user, or null, not 0"),
        # sense
        ("router: 10.0.1.2", "4: router: 10.0.1.2 is outside the network 10.0.0.0/24: choose an"
                             " address inside it"),
        ("router: 10.0.0.1", "4: router: 10.0.0.1 is this host's own address: leave router out on"
                             " the router itself"),
        ("router: 10.0.0.255", "4: router: 10.0.0.255 is the broadcast address of 10.0.0.0/24:"
                               " choose another one"),
        ("device: {name: lo}",
         "4: device.name: lo means something else to Linux: choose another name"),
        ("control: {path: /" + "ä" * 60 + "}",
         "4: control.path: a socket's path has at most 107 bytes, not 121"),
        ("remotes: [{host: 10.0.0.1, addresses: [1.2.3.4]}]",
         "4: remotes[0].host: 10.0.0.1 is this host's own address: remove the entry"),
        ("remotes: [{host: 10.9.0.1, addresses: [1.2.3.4]}]",
         "4: remotes[0].host: 10.9.0.1 is outside the network 10.0.0.0/24: choose an address"
         " inside it"),
        ("remotes: [{host: 10.0.0.2, addresses: [1.2.3.4, {address: 1.2.3.4, index: 9}]}]",
         "4: remotes[0].addresses[1].address: 1.2.3.4 stands in line 4 already: remove one"),
        ("remotes: [{host: 10.0.0.2, addresses: [10.0.0.2]}]",
         "4: remotes[0].addresses[0]: 10.0.0.2 is inside the virtual network 10.0.0.0/24: write"
         " one of its real addresses"),
        ("remotes: [{host: 10.0.0.2, addresses: [127.0.0.1]}]",
         "4: remotes[0].addresses[0]: 127.0.0.1 is no address of another host: write one of its"
         " real addresses"),
        ("remotes: [{host: 10.0.0.2, addresses: [0.1.2.3]}]",
         "4: remotes[0].addresses[0]: 0.1.2.3 is no address of another host: write one of its"
         " real addresses"),
        ("remotes: [{host: 10.0.0.2, addresses: [240.0.0.1]}]",
         "4: remotes[0].addresses[0]: 240.0.0.1 is no address of another host: write one of its"
         " real addresses"),
        ("remotes: [{host: 10.0.0.2, addresses: [{address: 255.255.255.255}]}]",
         "4: remotes[0].addresses[0].address: 255.255.255.255 is no address of another host:"
         " write one of its real addresses"),
        ("remotes:\n- host: 10.0.0.2\n  addresses:\n  - {address: 1.2.3.4, index: 9}\n"
         "  - {address: 1.2.3.5, index: 9}",
         "8: remotes[0].addresses[1].index: 9 stands in line 7 already: an index belongs to one"
         " interface of the host"),
        ("remotes:\n- host: 10.0.0.2\n  addresses:\n"
         + "".join(f"  - 1.2.3.{n}\n" for n in range(33)),
         "6: remotes[0].addresses: a host has at most 32 addresses, not 33: remove some"),
        # YAML
        ("forward: true\nforward: false",
         "5: forward: this key stands twice, in line 4 too: remove one"),
        ("device: {1: 2}", "4: device: a key must be a plain word"),
        ("router: 2001-99-99", "4: router: the value '2001-99-99' cannot be read: put it in"
                               " quotes"),
        ("remotes: &a [*a]", "4: remotes[0]: this alias contains itself: write the value out"),
    ],
)  # fmt: skip
def test_one_fault_gives_one_error(line, error):
    assert faults(MINIMAL + line) == [error]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("network: 10.0.0.0/24\naddress: 10.0.0.1",
         "1: encapsulation: this key is missing: add it"),
        ("encapsulation: secure\nnetwork: 10.0.0.0/24\naddress: 10.0.0.1",
         "1: encapsulation: write classic, not secure"),
        ("encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.0.0",
         "3: address: 10.0.0.0 is the network address of 10.0.0.0/24: choose another one"),
        ("encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.0.255",
         "3: address: 10.0.0.255 is the broadcast address of 10.0.0.0/24: choose another one"),
        ("encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.1.1",
         "3: address: 10.0.1.1 is outside the network 10.0.0.0/24: choose an address inside it"),
        ("encapsulation: classic\nnetwork: 10.0.0.1/24\naddress: 10.0.0.1",
         "2: network: 10.0.0.1/24 has host bits set: write 10.0.0.0/24"),
        ("encapsulation: classic\nnetwork: 10.0.0.0/31\naddress: 10.0.0.1",
         "2: network: write an IPv4 network with a prefix length from 8 to 30, such as"
         " 10.0.0.0/24, not 10.0.0.0/31"),
        ('encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: "10.0.0.1\\n"',
         "3: address: '10.0.0.1\\n' is no IPv4 address"),
        ("encapsulation: classic\nnetwork: 240.0.0.0/24\naddress: 240.0.0.1",
         "2: network: 240.0.0.0/24 is no network of hosts: choose a private one, such as"
         " 10.0.0.0/24"),
        ("encapsulation: classic\nnetwork: 127.0.0.0/8\naddress: 127.0.0.1",
         "2: network: 127.0.0.0/8 is no network of hosts: choose a private one, such as"
         " 10.0.0.0/24"),
    ],
)  # fmt: skip
def test_one_fault_in_the_required_keys(text, error):
    assert faults(text) == [error]


def test_every_fault_is_told_at_once_in_the_order_of_the_file():
    text = """\
        encapsulation: clasic
        network: 10.0.0.0/24
        address: 10.0.1.1
        forwrd: true
        remotes:
          - host: 10.0.0.2
            addresses:
              - 192.168.0.3
              - 192.168.0.3
          - host: 10.0.0.2
            addresses: [999.1.1.1]
        """
    assert faults(text) == [
        "1: encapsulation: write classic, not clasic",
        "3: address: 10.0.1.1 is outside the network 10.0.0.0/24: choose an address inside it",
        "4: forwrd: unknown key: did you mean forward?",
        "9: remotes[0].addresses[1]: 192.168.0.3 stands in line 8 already: remove one",
        "10: remotes[1].host: 10.0.0.2 stands in line 6 already: put all its addresses there",
        "11: remotes[1].addresses[0]: write an IPv4 address without a prefix length, such as"
        " 192.168.0.3, not 999.1.1.1",
    ]


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(config.ConfigError, match="No such file") as caught:
        config.read(str(tmp_path / "none.yaml"))
    assert len(caught.value.errors) == 1


def test_file_that_is_far_too_large(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (config.FILE_BYTES_MAX + 1))
    with pytest.raises(config.ConfigError, match="larger than"):
        config.read(str(path))


def test_nesting_that_is_far_too_deep():
    assert any("nested too deeply" in line for line in faults("a: " + "[" * 2000))


def test_reading_apart_gives_what_reading_gives(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(MINIMAL)
    assert config.read_apart(str(path)) == config.read(str(path))


def test_reading_apart_tells_every_fault(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(MINIMAL + "forwrd: 1\nrouter: x\n")
    with pytest.raises(config.ConfigError) as caught:
        config.read_apart(str(path))
    assert len(caught.value.errors) == 2


# What a hand may leave in the file: any text, and YAML that is nearly right.
_words = st.sampled_from(
    [
        *"[]{}:,-&*!|>'\"%@`#? \n",
        *("encapsulation", "network", "address", "remotes", "host", "addresses", "device"),
        *(
            "classic",
            "10.0.0.0/24",
            "10.0.0.1",
            "1",
            "null",
            "true",
            "<<",
            "2001-01-01",
            ": ",
            "- ",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(_words, max_size=60).map("".join)))
def test_no_text_does_worse_than_be_refused(text):
    raw = text if isinstance(text, bytes) else text.encode()
    try:
        config.parse(raw, "f")
    except config.ConfigError as error:
        assert error.errors  # noqa: PT017 - either outcome is right


_remote_addresses = st.one_of(
    st.sampled_from(["0.1.2.3", "240.0.0.1", "255.255.255.255", "127.0.0.1", "10.0.0.9"]),
    st.integers(1, 5).map("192.168.0.{}".format),
)
_items = st.one_of(
    _remote_addresses,
    st.builds(
        lambda address, index: {"address": address, "index": index},
        _remote_addresses,
        st.integers(1, 3),
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.lists(_items, min_size=1, max_size=4)), max_size=3),
    st.sampled_from(["10.0.0.0/24", "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/8", "240.0.0.0/30"]),
)
def test_what_passes_is_what_the_node_takes(hosts, network):
    base = network.split("/")[0].rsplit(".", 1)[0]
    text = json.dumps(
        {
            "encapsulation": "classic",
            "network": network,
            "address": base + ".1",
            "remotes": [{"host": f"{base}.{n}", "addresses": items} for n, items in hosts],
        }
    )
    try:
        good = config.parse(text.encode(), "f")
    except config.ConfigError:
        return
    node = Node(
        Settings(good.address, good.network, good.router, good.forward, good.device_mtu),
        0.0,
        random.Random(1),
    )
    for remote in good.remotes:
        node.add_remote(remote.host, remote.address, remote.index, 0.0)
