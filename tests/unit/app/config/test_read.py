"""The configuration file: what holds, and every way in which one does not."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import pwd
import random
import re
import signal
import socket
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.app import errors
from ropeway.app.config import lines, model, names, on_host, read, reading, schema
from ropeway.app.engine import reload
from ropeway.app.store import keys
from ropeway.core.classic.node import ClassicNode
from ropeway.core.node import SecureNode
from ropeway.core.settings import PeerSettings, SecureSettings, Settings

EXAMPLES = Path(__file__).parents[4] / "agent" / "examples"

MINIMAL = """\
encapsulation: classic
network: 10.0.0.0/24
address: 10.0.0.1
"""


def faults(text: str) -> list:
    """Return the errors of `text` without the name of the file."""
    with pytest.raises(errors.ConfigError) as caught:
        read.parse(textwrap.dedent(text).encode(), "f")
    assert all(line.startswith("f:") for line in caught.value.errors)
    return [line[len("f:") :] for line in caught.value.errors]


def test_minimal_file_gets_the_documented_defaults():
    assert read.parse(MINIMAL.encode(), "f") == model.Config(
        encapsulation="classic",
        network="10.0.0.0/24",
        address="10.0.0.1",
        routers=(),
        forward=False,
        device_name="ropeway0",
        device_mtu=None,
        include=("*",),
        exclude=model.DEFAULT_EXCLUDE,
        control=model.Control(),
        remotes=(),
        peers=(),
    )
    loaded = json.loads(schema.SCHEMA_PATH.read_text(encoding="utf-8"))
    patterns = loaded["properties"]["interfaces"]["properties"]["exclude"]["default"]
    assert tuple(patterns) == model.DEFAULT_EXCLUDE
    example = yaml.safe_load((EXAMPLES / "ropeway.yaml").read_text(encoding="utf-8"))
    assert example["interfaces"]["exclude"] == patterns


def test_every_host_has_the_ipv6_address_that_ends_in_its_virtual_one():
    config = read.parse((SECURE + "network6: FD12:3456:789a:1:0::/64").encode(), "f")
    assert config.network6 == "fd12:3456:789a:1::/64"
    assert config.device_address6 == "fd12:3456:789a:1::a00:1/64"
    assert read.parse(SECURE.encode(), "f").device_address6 is None


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("network6: fd12::1/64", "network6: fd12::1/64 has host bits set: write fd12::/64"),
        ("network6: fd12::g/64", "network6: write an IPv6 network with the prefix length 64, such"
                                 " as fd12:3456:789a:1::/64, not fd12::g/64"),
        ("network6: fd12::/48", "network6: write an IPv6 network with the prefix length 64, such"
                                " as fd12:3456:789a:1::/64, not fd12::/48"),
        ("network6: 1::2::3/64", "network6: '1::2::3/64' is no IPv6 network"),
        *((f"network6: {text}/64",
           f"network6: {text}/64 is no network of hosts: choose a private one, such as"
           " fd12:3456:789a:1::/64") for text in ("ff02::", "fe80::", "::")),
        ("network6: fd12::/64\ndevice: {mtu: 1279}",
         "device.mtu: IPv6 needs 1280 bytes: write at least that, or remove network6"),
    ],
)  # fmt: skip
def test_faults_of_the_ipv6_network(line, error):
    assert [text.partition(": ")[2] for text in faults(SECURE + line)] == [error]


def test_real_address_may_lie_in_the_range_of_the_virtual_network():
    text = MINIMAL + "peers: [{host: 10.0.0.2, addresses: [10.0.0.77]}]\n"
    assert read.parse(text.encode(), "f").remotes == (model.Remote("10.0.0.2", "10.0.0.77", 0),)
    text = SECURE + peer(addresses=["10.0.0.77"])
    assert read.parse(text.encode(), "f").peers[0].endpoints == (("10.0.0.77", 51840),)


#: Networks that routers at home, modems, container engines and VPNs hand out.
HANDED_OUT = [
    "192.168.0.0/16", "10.0.0.0/15", "10.8.0.0/16", "10.10.0.0/16", "10.42.0.0/15", "10.96.0.0/12",
    "10.244.0.0/16", "172.16.0.0/12", "100.64.0.0/10", "169.254.0.0/16",
]  # fmt: skip


def test_examples_use_a_network_that_nobody_hands_out():
    top = EXAMPLES.parents[1]
    readme = (top / "README.md").read_text(encoding="utf-8")
    texts = [
        readme[readme.index("## Two hosts by hand") : readme.index("## A fleet")],
        (top / "docs" / "by-hand.md").read_text(encoding="utf-8"),
        (top / "docs" / "roll-out.md").read_text(encoding="utf-8"),
        *(path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.yaml")),
        schema.SCHEMA_PATH.read_text(encoding="utf-8"),
        (top / "agent" / "man" / "ropeway.8").read_text(encoding="utf-8"),
        *(path.read_text(encoding="utf-8") for path in top.glob("roles/*/README.md")),
    ]
    for text in texts:
        for found in re.findall(r"(?:network: |such as `?|BR )([0-9.]+/[0-9]+)", text):
            network = ipaddress.IPv4Network(found)
            assert not any(network.overlaps(ipaddress.IPv4Network(n)) for n in HANDED_OUT), found
    assert sum("10.213.77.0/24" in text for text in texts) >= 5


def test_the_configurations_of_the_readme_are_accepted():
    readme = (EXAMPLES.parents[1] / "README.md").read_text(encoding="utf-8")
    readme = readme[readme.index("## Two hosts by hand") : readme.index("## A fleet")]
    base, robot = (
        read.parse(re.sub(r"THE KEY THAT \w+ \w+ PRINTED", KEY_2, text).encode(), "README.md")
        for text in re.findall(r"^```yaml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    )
    assert (base.routers, base.forward) == ((), True)
    assert (robot.routers[0], robot.peers[0].host) == (base.address, base.address)
    assert base.peers[0].host == robot.address
    assert len(robot.peers[0].endpoints) == 2


def test_one_router_and_a_list_of_one_are_the_same():
    (one, several) = (
        read.parse(f"{MINIMAL}{line}\n".encode(), "f")
        for line in ("router: 10.0.0.2", "routers: [10.0.0.2]")
    )
    assert one == several
    assert one.routers == ("10.0.0.2",)


def test_whole_file():
    text = MINIMAL + textwrap.dedent(
        """\
        router: 10.0.0.2
        forward: true
        device: {name: rope1, mtu: 1400}
        interfaces: {include: ["en*", "wl*"], exclude: [enp0s9]}
        peers:
          - host: 10.0.0.2
            addresses: [192.168.0.3, {address: 192.168.1.3, index: 4}]
          - {host: 10.0.0.3, addresses: [192.168.0.4]}
        control: {path: /run/x.sock, owner: root, group: adm, mode: "0600"}
        """
    )
    assert read.parse(text.encode(), "f") == model.Config(
        encapsulation="classic",
        network="10.0.0.0/24",
        address="10.0.0.1",
        routers=("10.0.0.2",),
        forward=True,
        device_name="rope1",
        device_mtu=1400,
        include=("en*", "wl*"),
        exclude=("enp0s9",),
        remotes=(
            model.Remote("10.0.0.2", "192.168.0.3", 0),
            model.Remote("10.0.0.2", "192.168.1.3", 4),
            model.Remote("10.0.0.3", "192.168.0.4", 0),
        ),
        control=model.Control("/run/x.sock", "root", "adm", 0o600),
    )


@pytest.mark.parametrize(("name", "encapsulation"), [("ropeway", "secure"), ("classic", "classic")])
def test_example_file_holds(name, encapsulation):
    path = EXAMPLES / f"{name}.yaml"
    assert read.read(str(path), with_keys=False).encapsulation == encapsulation


def test_device_address_has_the_prefix_length_of_the_network():
    assert read.parse(MINIMAL.encode(), "f").device_address == "10.0.0.1/24"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "1: the file is empty: start from the example configuration"),
        ("# nothing\n", "1: the file is empty: start from the example configuration"),
        ("[a]", "1: write a mapping with the keys network, address and peers,"
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
        ("forwrd: true", "4: forwrd: unknown setting: did you mean forward?"),
        ("qqq: 1", "4: qqq: unknown setting: remove it; the settings here are encapsulation,"
                   " network, network6, address, leases, router, routers, forward, announce,"
                   " device, interfaces, links, classes, port, private_key_file, rollover_s,"
                   " copy_dscp, direct, max_age_s, cpu_latency_us, offload, peers, control"),
        *((f"max_age_s: {number}", "4: max_age_s: write a number of seconds from 0.1 to 60, or 0"
                                   f" for no bound, not {number}")
          for number in (0.09, 60.1, -1, "true")),
        ("max_age_s: .nan", "4: max_age_s: write a number of seconds from 0.1 to 60, or 0 for no"
                            " bound, not nan"),
        ("cpu_latency_us: -1", "4: cpu_latency_us: write a number of microseconds from 0 to"
                               " 1000000, or null, not -1"),
        ("cpu_latency_us: 1000001", "4: cpu_latency_us: write a number of microseconds from 0 to"
                                    " 1000000, or null, not 1000001"),
        ("cpu_latency_us: true", "4: cpu_latency_us: write a number of microseconds from 0 to"
                                 " 1000000, or null, not true"),
        ("forward: 1", "4: forward: write true or false, not 1"),
        ("direct: true",
         "4: direct: only the encapsulation secure has this setting: remove it"),
        ("copy_dscp: true",
         "4: copy_dscp: only the encapsulation secure has this setting: remove it"),
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
        ("device: {nmae: x}", "4: device.nmae: unknown setting: did you mean name?"),
        ("device:", "4: device: write a mapping with the keys name, mtu and precedence, not"
            " nothing"),
        ("interfaces: {include: eth0}", "4: interfaces.include: write a list of interface names"
                                        ' or shell patterns, such as ["en*"], not eth0'),
        ("interfaces: {exclude: [7]}", "4: interfaces.exclude[0]: write an interface name or a"
                                       ' shell pattern, such as "en*", not 7'),
        ("router: 10.0.0", "4: router: write an IPv4 address without a prefix length, such as"
                           " 192.168.0.3, not 10.0.0"),
        ("router: 10.0.0.02", "4: router: write an IPv4 address without a prefix length, such as"
                              " 192.168.0.3, not 10.0.0.02"),
        ("peers: {}",
         "4: peers: write a list of hosts, each a mapping with the key host, not a mapping"),
        ("peers: [10.0.0.2]", "4: peers[0]: write a mapping with the keys host and addresses,"
                                " not 10.0.0.2"),
        ("peers: [{addresses: [1.2.3.4]}]",
         "4: peers[0].host: this setting is missing: add it"),
        ("peers: [{host: 10.0.0.2}]",
         "4: peers[0].addresses: this setting is missing: add it"),
        ("peers: [{host: 10.0.0.2, addresses: []}]",
         "4: peers[0].addresses: write a list of at least one IPv4 address, not an empty list"),
        ("peers: [{host: 10.0.0.2, addresses: [1.2.3]}]",
         "4: peers[0].addresses[0]: write an IPv4 address without a prefix length, such as"
         " 192.168.0.3, not 1.2.3"),
        ("peers: [{host: 10.0.0.2, addresses: [router.example]}]",
         "4: peers[0].addresses[0]: only the encapsulation secure resolves names: write an IPv4"
         " address"),
        ("peers: [{host: 10.0.0.2, addresses: [{index: 1}]}]",
         "4: peers[0].addresses[0].address: this setting is missing: add it"),
        ("peers: [{host: 10.0.0.2, addresses: [{address: 1.2.3.4, index: 0}]}]",
         "4: peers[0].addresses[0].index: write an interface index, a number from 1 to"
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
        ("routers: 10.0.0.2", "4: routers: write a list of 1 to 8 virtual addresses, such as"
                              " [10.213.77.1, 10.213.77.2], not 10.0.0.2"),
        ("routers: [10.0.0.2, 10.0.0.3]", "4: routers: only the encapsulation secure has several"
                                          " routers: write one"),
        ("router: 10.0.0.255", "4: router: 10.0.0.255 is the broadcast address of 10.0.0.0/24:"
                               " choose another one"),
        ("device: {name: lo}",
         "4: device.name: lo means something else to Linux: choose another name"),
        ("control: {path: /" + "ä" * 60 + "}",
         "4: control.path: a socket's path has at most 107 bytes, not 121"),
        ("peers: [{host: 10.0.0.1, addresses: [1.2.3.4]}]",
         "4: peers[0].host: 10.0.0.1 is this host's own address: remove the entry"),
        ("peers: [{host: 10.9.0.1, addresses: [1.2.3.4]}]",
         "4: peers[0].host: 10.9.0.1 is outside the network 10.0.0.0/24: choose an address"
         " inside it"),
        ("peers: [{host: 10.0.0.2, addresses: [1.2.3.4, {address: 1.2.3.4, index: 9}]}]",
         "4: peers[0].addresses[1].address: 1.2.3.4 stands in line 4 already: remove one"),
        ("peers: [{host: 10.0.0.2, addresses: [10.0.0.2]}]",
         "4: peers[0].addresses[0]: 10.0.0.2 is the virtual address of a host: write one of its"
         " real addresses"),
        ("peers: [{host: 10.0.0.2, addresses: [10.0.0.1]}]",
         "4: peers[0].addresses[0]: 10.0.0.1 is the virtual address of a host: write one of its"
         " real addresses"),
        ("peers: [{host: 10.0.0.2, addresses: [127.0.0.1]}]",
         "4: peers[0].addresses[0]: 127.0.0.1 is no address of another host: write one of its"
         " real addresses"),
        ("peers: [{host: 10.0.0.2, addresses: [0.1.2.3]}]",
         "4: peers[0].addresses[0]: 0.1.2.3 is no address of another host: write one of its"
         " real addresses"),
        ("peers: [{host: 10.0.0.2, addresses: [240.0.0.1]}]",
         "4: peers[0].addresses[0]: 240.0.0.1 is no address of another host: write one of its"
         " real addresses"),
        ("peers: [{host: 10.0.0.2, addresses: [{address: 255.255.255.255}]}]",
         "4: peers[0].addresses[0].address: 255.255.255.255 is no address of another host:"
         " write one of its real addresses"),
        ("peers:\n- host: 10.0.0.2\n  addresses:\n  - {address: 1.2.3.4, index: 9}\n"
         "  - {address: 1.2.3.5, index: 9}",
         "8: peers[0].addresses[1].index: 9 stands in line 7 already: an index belongs to one"
         " interface of the host"),
        ("peers:\n- host: 10.0.0.2\n  addresses:\n"
         + "".join(f"  - 1.2.3.{n}\n" for n in range(33)),
         "6: peers[0].addresses: a host has at most 32 addresses, not 33: remove some"),
        # the other encapsulation
        ("remotes: []", "4: remotes: this setting is called peers now: rename it"),
        ("port: 51840", "4: port: only the encapsulation secure has this setting: remove it"),
        ("rollover_s: 60",
         "4: rollover_s: only the encapsulation secure has this setting: remove it"),
        ("offload: {disable: [tso]}",
         "4: offload: only the encapsulation secure has this setting: remove it"),
        ("offload: {}", "4: offload: only the encapsulation secure has this setting: remove it"),
        ("private_key_file: /k",
         "4: private_key_file: only the encapsulation secure has this setting: remove it"),
        ("peers: [{host: 10.0.0.2, addresses: [1.2.3.4], public_key: x}]",
         "4: peers[0].public_key: only the encapsulation secure has keys: remove it"),
        ('peers: [{host: 10.0.0.2, addresses: ["1.2.3.4:5"]}]',
         "4: peers[0].addresses[0]: write an IPv4 address without a prefix length, such as"
         " 192.168.0.3, not 1.2.3.4:5"),
        # YAML
        ("forward: true\nforward: false",
         "5: forward: this setting stands twice, in line 4 too: remove one"),
        ("device: {1: 2}", "4: device: the name of a setting must be a plain word"),
        ("router: 2001-99-99", "4: router: the value '2001-99-99' cannot be read: put it in"
                               " quotes"),
        ("peers: &a [*a]", "4: peers[0]: this alias contains itself: write the value out"),
    ],
)  # fmt: skip
def test_one_fault_gives_one_error(line, error):
    assert faults(MINIMAL + line) == [error]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("encapsulation: secure\naddress: 10.0.0.1", "1: network: this setting is missing: add it"),
        ("encapsulation: sealed\nnetwork: 10.0.0.0/24\naddress: 10.0.0.1",
         "1: encapsulation: write secure or classic, not sealed"),
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
         " 10.213.77.0/24, not 10.0.0.0/31"),
        ('encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: "10.0.0.1\\n"',
         "3: address: write an IPv4 address without a prefix length, such as 10.213.77.3, or lease,"
         " not '10.0.0.1\\n'"),
        ("encapsulation: classic\nnetwork: 240.0.0.0/24\naddress: 240.0.0.1",
         "2: network: 240.0.0.0/24 is no network of hosts: choose a private one, such as"
         " 10.213.77.0/24"),
        ("encapsulation: classic\nnetwork: 127.0.0.0/8\naddress: 127.0.0.1",
         "2: network: 127.0.0.0/8 is no network of hosts: choose a private one, such as"
         " 10.213.77.0/24"),
    ],
)  # fmt: skip
def test_one_fault_in_the_required_keys(text, error):
    assert faults(text) == [error]


KEY_2 = keys.encode(keys.public_of(bytes([2]) * 32))
PUBLIC_TEXTS = [keys.encode(keys.public_of(bytes([n]) * 32)) for n in range(1, 7)]
# X25519 ignores the highest bit, so this is the same key.
KEY_2_AGAIN = keys.encode(bytes(a | b for a, b in zip(keys.decode(KEY_2), bytes(31) + b"\x80")))
KEY_3 = keys.encode(keys.public_of(bytes([3]) * 32))
SECURE = "network: 10.0.0.0/24\naddress: 10.0.0.1\n"


def test_whole_file_of_a_secure_network():
    text = SECURE + textwrap.dedent(
        f"""\
        encapsulation: secure
        router: 10.0.0.2
        port: 51841
        private_key_file: /somewhere/key
        rollover_s: 2.5
        offload: {{disable: [uso, udp_segment, uso]}}
        peers:
          - host: 10.0.0.2
            public_key: {KEY_2}
            next_public_key: {KEY_3}
            psk_file: /somewhere/psk
            addresses:
              - 192.168.0.3
              - "192.168.1.3:51840"
              - 192.168.2.3:1
              - "2001:db8::3"
              - 2001:DB8::4
              - "[2001:db8:0::3]:51840"
              - "[2001:db8::5]"
        """
    )
    good = read.parse(text.encode(), "f")
    assert (good.encapsulation, good.port, good.rollover_s) == ("secure", 51841, 2.5)
    assert (good.private_key_file, good.private_key) == ("/somewhere/key", b"")
    assert good.offload_disable == {"uso", "udp_segment"}
    assert good.remotes == ()
    assert good.peers == (
        model.Peer(
            host="10.0.0.2",
            public_keys=(keys.decode(KEY_2), keys.decode(KEY_3)),
            endpoints=(
                ("192.168.0.3", 51841),
                ("192.168.1.3", 51840),
                ("192.168.2.3", 1),
                ("2001:db8::3", 51841),
                ("2001:db8::4", 51841),
                ("2001:db8::3", 51840),
                ("2001:db8::5", 51841),
            ),
            psk_file="/somewhere/psk",
            psk=bytes(32),
        ),
    )


def test_secure_is_the_default():
    good = read.parse(SECURE.encode(), "f")
    assert (good.encapsulation, good.port, good.rollover_s) == ("secure", 51840, 120.0)
    assert good.private_key_file == "/etc/ropeway/private.key"
    assert good.offload_disable == frozenset()


@pytest.mark.parametrize(
    ("text", "disabled"),
    [
        ("offload: {}", set()),
        ("offload: {disable: []}", set()),
        ("offload: {disable: [vnet_hdr, tso, uso, udp_segment, udp_gro]}",
         {"vnet_hdr", "tso", "uso", "udp_segment", "udp_gro"}),
    ],
)  # fmt: skip
def test_only_a_restart_changes_what_the_kernel_may_do(text, disabled):
    before = read.parse(SECURE.encode(), "f")
    after = read.parse((SECURE + text).encode(), "f")
    assert after.offload_disable == disabled
    assert model.what_differs(before, after) == (["offload.disable"] if disabled else [])


@pytest.mark.parametrize("limit_us", [None, 0, 20, 1_000_000])
@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_how_soon_processors_wake_may_be_limited_on_every_network(encapsulation, limit_us):
    text = f"{SECURE}encapsulation: {encapsulation}\n"
    before = read.parse(text.encode(), "f")
    after = read.parse(f"{text}cpu_latency_us: {json.dumps(limit_us)}\n".encode(), "f")
    assert (before.cpu_latency_us, after.cpu_latency_us) == (None, limit_us)
    differing = [] if limit_us is None else ["cpu_latency_us"]
    assert model.what_differs(before, after) == differing


@pytest.mark.parametrize(
    ("listed", "error"),
    [
        ("203.0.113.7", "write a list of at most 3 IPv4 or IPv6 addresses of this host, not"
                        " 203.0.113.7"),
        ("[1.2.3.4, 1.2.3.5, 1.2.3.6, 1.2.3.7]",
         "write a list of at most 3 IPv4 or IPv6 addresses of this host, not a list"),
        ("[7]", "[0]: write an IPv4 or IPv6 address without port or prefix length, such as"
                " 203.0.113.7, not 7"),
        ("[203.0.113.7/32]", "[0]: '203.0.113.7/32' is no IPv4 or IPv6 address: write one without"
                             " port or prefix length, such as 203.0.113.7"),
        ("['fe80::1%eth0']", "[0]: 'fe80::1%eth0' is no IPv4 or IPv6 address: write one without"
                             " port or prefix length, such as 203.0.113.7"),
        ("[127.0.0.1]", "[0]: 127.0.0.1 reaches no other host: write an address that others send"
                        " to"),
        ("['::1']", "[0]: ::1 reaches no other host: write an address that others send to"),
        ("['fe80::1']", "[0]: fe80::1 reaches no other host: write an address that others send"
                        " to"),
        ("[10.0.0.7]", "[0]: 10.0.0.7 is an address of the virtual network 10.0.0.0/24: write a"
                       " real one"),
        ("[203.0.113.7, 203.0.113.7]", "[1]: 203.0.113.7 stands in line 3 already: remove one"),
        ("['2001:db8::7', '2001:db8:0::7']", "[1]: 2001:db8::7 stands in line 3 already: remove"
                                             " one"),
        ("[192.168.0.3]", "[0]: 192.168.0.3 is an address of 10.0.0.2 too: write it for one host"
                          " only"),
    ],
)  # fmt: skip
def test_named_addresses_that_others_cannot_send_to_are_refused(listed, error):
    peers = f"peers: [{{host: 10.0.0.2, public_key: {KEY_2}, addresses: ['192.168.0.3:1']}}]\n"
    with pytest.raises(errors.ConfigError) as caught:
        read.parse(f"{SECURE}interfaces: {{addresses: {listed}}}\n{peers}".encode(), "f")
    joint = "" if error.startswith("[") else ": "
    assert caught.value.errors == (f"f:3: interfaces.addresses{joint}{error}",)


def test_named_addresses_are_for_the_encapsulation_secure():
    text = f"{SECURE}interfaces: {{addresses: [203.0.113.7, '2001:DB8:0::7']}}\n"
    after = read.parse(text.encode(), "f")
    assert after.named_addresses == ("203.0.113.7", "2001:db8::7")
    before = read.parse(SECURE.encode(), "f")
    assert model.what_differs(before, after) == ["interfaces.addresses"]
    with pytest.raises(errors.ConfigError) as caught:
        read.parse(f"{text}encapsulation: classic\n".encode(), "f")
    assert caught.value.errors == (
        "f:3: interfaces.addresses: only the encapsulation secure has this setting: remove it",
    )


def test_whole_numbers_may_be_written_with_a_point():
    text = f"{SECURE}cpu_latency_us: 20.0\ndevice: {{mtu: 1400.0}}\nport: 51841.0\n"
    good = read.parse(text.encode(), "f")
    numbers = (good.cpu_latency_us, good.device_mtu, good.port)
    assert numbers == (20, 1400, 51841)
    assert {type(number) for number in numbers} == {int}
    listed = "peers: [{host: 10.0.0.2, addresses: [{address: 192.168.0.2, index: 9.0}]}]\n"
    classic = read.parse(f"{SECURE}encapsulation: classic\n{listed}".encode(), "f")
    assert [type(remote.index) for remote in classic.remotes] == [int]


def peer(**changes):
    """Return a line with one peer."""
    return "peers: " + json.dumps([{"host": "10.0.0.2", "public_key": KEY_2, **changes}])


NO_ENDPOINT = (
    " is neither an IPv4 or IPv6 address nor a name: write one with or without a port, such as"
    ' 192.168.0.3, "192.168.0.3:51840", "[2001:db8::3]:51840" or "router.example.net:51840"'
)
NOT_OF_A_HOST = " is no address of another host: write one of its real addresses, no link-local one"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("port: 0", "3: port: write a UDP port, a number from 1 to 65535, not 0"),
        ("port: 65536", "3: port: write a UDP port, a number from 1 to 65535, not 65536"),
        ("rollover_s: 1.9", "3: rollover_s: write a number of seconds from 2 to 3600, not 1.9"),
        ("rollover_s: .nan", "3: rollover_s: write a number of seconds from 2 to 3600, not nan"),
        ("offload: {disable: [tso, gso]}", "3: offload.disable[1]: write vnet_hdr, tso, uso,"
                                           " udp_segment or udp_gro, not gso"),
        ("offload: {disable: udp_gro}", "3: offload.disable: write a list of features, such as"
                                        " [udp_segment], not udp_gro"),
        ("offload: {disabled: []}", "3: offload.disabled: unknown setting: did you mean disable?"),
        ("offload: [tso]", "3: offload: write a mapping with the key disable, not a list"),
        ("private_key_file: 4a7d1ed4", "3: private_key_file: write the absolute path of a file"),
        ("private_key: 4a7d1ed4",
         "3: private_key: unknown setting: did you mean private_key_file?"),
        ("peers: [{host: 10.0.0.2}]", "3: peers[0].public_key: this setting is missing: add it"),
        (peer(public_key="4a7d1ed4"),
         "3: peers[0].public_key: write a public key as `ropeway pubkey` prints it, the base64"
         " text of 32 bytes"),
        # The last character of the text has two bits too many.
        (peer(public_key="A" * 42 + "B="),
         "3: peers[0].public_key: this is no public key: write it as `ropeway pubkey` prints it"),
        (peer(next_public_key=KEY_2),
         "3: peers[0].next_public_key: this is the public_key of the same host: write its next"
         " one, or leave next_public_key out"),
        (f"peers:\n- {{host: 10.0.0.2, public_key: {KEY_2}}}\n"
         f"- {{host: 10.0.0.3, public_key: {KEY_2_AGAIN}}}",
         "5: peers[1].public_key: this public key belongs to 10.0.0.2 already, in line 4: every"
         " host has a key of its own"),
        (f"peers:\n- {{host: 10.0.0.2, public_key: {KEY_2}}}\n"
         f"- {{host: 10.0.0.3, public_key: {KEY_2}}}",
         "5: peers[1].public_key: this public key belongs to 10.0.0.2 already, in line 4: every"
         " host has a key of its own"),
        (f"peers:\n- {{host: 10.0.0.2, public_key: {KEY_2}}}\n"
         f"- {{host: 10.0.0.3, public_key: {KEY_3}, next_public_key: {KEY_2}}}",
         "5: peers[1].next_public_key: this public key belongs to 10.0.0.2 already, in line 4:"
         " every host has a key of its own"),
        (peer(psk_file="geheim"), "3: peers[0].psk_file: write the absolute path of a file"),
        (peer(addresses=[{"address": "1.2.3.4", "index": 5}]),
         "3: peers[0].addresses[0]: write an IPv4 or IPv6 address or a name, with or without a"
         ' port, such as 192.168.0.3, "192.168.0.3:51840", "[2001:db8::3]:51840" or'
         ' "router.example.net:51840", not a mapping'),
        (peer(addresses=["1.2.3"]), "3: peers[0].addresses[0]: '1.2.3'" + NO_ENDPOINT),
        (peer(addresses=["1.2.3.4:0"]), "3: peers[0].addresses[0]: '1.2.3.4:0'" + NO_ENDPOINT),
        (peer(addresses=["1.2.3.4:65536"]),
         "3: peers[0].addresses[0]: '1.2.3.4:65536'" + NO_ENDPOINT),
        (peer(addresses=["router.example:65536"]),
         "3: peers[0].addresses[0]: 'router.example:65536'" + NO_ENDPOINT),
        (peer(addresses=["router_1.example"]),
         "3: peers[0].addresses[0]: 'router_1.example'" + NO_ENDPOINT),
        (peer(addresses=["router.example", "Router.Example:51840"]),
         "3: peers[0].addresses[1]: Router.Example:51840 stands in line 3 already: remove one"),
        (peer(addresses=["1.2.3.4", *(f"r{n}.example" for n in range(32))]),
         "3: peers[0].addresses: a host has at most 32 addresses, not 33: remove some"),
        (peer(addresses=["fe80::1%eth0"]),
         "3: peers[0].addresses[0]: 'fe80::1%eth0'" + NO_ENDPOINT),
        (peer(addresses=["[1.2.3.4]:5"]), "3: peers[0].addresses[0]: '[1.2.3.4]:5'" + NO_ENDPOINT),
        (peer(addresses=["2001:db8::3:51840"]),
         "3: peers[0].addresses[0]: 2001:db8::3:51840: an IPv6 address with a port is written"
         ' "[2001:db8::3]:51840"'),
        ("port: 4500\n" + peer(addresses=["2001:db8::3:4500"]),
         "4: peers[0].addresses[0]: 2001:db8::3:4500 ends in a port, or seems to: write"
         ' "[2001:db8::3]:4500", or "[2001:db8::3:4500]" if it is an address without a port'),
        ("peers:\n- host: 10.0.0.2\n  addresses:\n  - [2001:db8::3]:51840",
         "6: this is not YAML: expected <block end>, but found '<scalar>': put an address in"
         " brackets into quotes"),
        (f"peers:\n- host: 10.0.0.2\n  public_key: {KEY_2}\n  addresses:\n"
         "  - 2001:2:3:4:5:6:7:8",
         "7: peers[0].addresses[0]: 2001:2:3:4:5:6:7:8 is a number to YAML: put the address into"
         " quotes"),
        ('device: {name: "rw0\\n"}', "3: device.name: write an interface name of 1 to 15 letters,"
                                     " digits, dots, hyphens and underscores, not 'rw0\\n'"),
        ('private_key_file: "/a\\0b"', "3: private_key_file: write the absolute path of a file"),
        ('private_key_file: "/ab\\n"', "3: private_key_file: write the absolute path of a file"),
        ('control: {path: "/a\\ud800b"}',
         "3: control.path: write an absolute path of at most 107 bytes, not '/a\\ud800b'"),
        (peer(psk_file="/a\ud800b"), "3: peers[0].psk_file: write the absolute path of a file"),
        (peer(addresses=["fe80::1"]), "3: peers[0].addresses[0]: fe80::1" + NOT_OF_A_HOST),
        (peer(addresses=["::"]), "3: peers[0].addresses[0]: ::" + NOT_OF_A_HOST),
        (peer(addresses=["ff02::1"]), "3: peers[0].addresses[0]: ff02::1" + NOT_OF_A_HOST),
        (peer(addresses=["127.0.0.1"]), "3: peers[0].addresses[0]: 127.0.0.1" + NOT_OF_A_HOST),
        (peer(addresses=["10.0.0.2:5"]),
         "3: peers[0].addresses[0]: 10.0.0.2 is the virtual address of a host: write one of its"
         " real addresses"),
        (peer(addresses=["1.2.3.4", "1.2.3.4:51840"]),
         "3: peers[0].addresses[1]: 1.2.3.4:51840 stands in line 3 already: remove one"),
        (peer(addresses=[f"1.2.3.{n}" for n in range(33)]),
         "3: peers[0].addresses: a host has at most 32 addresses, not 33: remove some"),
        ("routers: []\n" + peer(),
         "3: routers: write a list of 1 to 8 virtual addresses, such as [10.213.77.1,"
         " 10.213.77.2], not an empty list"),
        ("routers: [10.0.0.2, 10.0.0.1]\n" + peer(),
         "3: routers[1]: 10.0.0.1 is this host's own address: write the other routers only"),
        ("routers: [10.0.0.2, 10.0.0.2]\n" + peer(),
         "3: routers[1]: 10.0.0.2 is in the list already: remove one"),
        ("routers: [10.0.0.2, 10.0.0.300]\n" + peer(),
         "3: routers[1]: write an IPv4 address without a prefix length, such as 192.168.0.3, not"
         " 10.0.0.300"),
        ("routers: [10.0.0.2, 10.0.0.3]\n" + peer(),
         "3: routers[1]: 10.0.0.3 is not among the peers: add it there with its public key,"
         " because without it nothing can be sent to the router"),
        ("router: 10.0.0.2\nrouters: [10.0.0.2]\n" + peer(),
         "4: routers: router is set as well: write all routers here, and remove router"),
        ("router: 10.0.0.3\n" + peer(),
         "3: router: 10.0.0.3 is not among the peers: add it there with its public key, because"
         " without it nothing can be sent to the router"),
    ],
)  # fmt: skip
def test_one_fault_of_a_secure_network_gives_one_error(line, error):
    assert faults(SECURE + line) == [error]


def test_endpoints_may_be_names():
    listed = ["192.168.0.3", "Router.example.net", "router", "router.example.net:51841"]
    (found,) = read.parse((SECURE + peer(addresses=listed)).encode(), "f").peers
    assert found.endpoints == (("192.168.0.3", 51840),)
    assert found.names == (
        ("router.example.net", 51840),
        ("router", 51840),
        ("router.example.net", 51841),
    )


def test_a_name_with_a_port_needs_no_quotes():
    text = SECURE + "peers:\n- {host: 10.0.0.2, public_key: %s, addresses: [a.example:5, b:6]}"
    assert read.parse((text % KEY_2).encode(), "f").peers[0].names == (("a.example", 5), ("b", 6))


def test_a_file_has_only_so_many_names():
    def text(count):
        listed = [f"r{number}.example" for number in range(count)]
        peers = []
        for number in range(0, count, 16):
            key = keys.encode(keys.public_of(bytes([number // 16]) * 32))
            addresses = [f"{name}{port}" for name in listed[number:][:16] for port in ("", ":5")]
            host = f"10.0.0.{2 + number // 16}"
            peers.append({"host": host, "public_key": key, "addresses": addresses})
        return SECURE + "peers: " + json.dumps(peers)

    read.parse(text(names.NAMES_MAX).encode(), "f")
    assert faults(text(names.NAMES_MAX + 1)) == [
        "3: peers: a file has at most 256 different names in addresses, not 257: write the"
        " addresses of some hosts instead"
    ]


class TestKeys:
    """The files of keys that a configuration names."""

    @pytest.fixture
    def secure(self, tmp_path):
        """Return a function that gives the faults of a file with one more line."""
        self.directory = tmp_path
        self.write("private.key", bytes([1]) * 32)

        def faults_with(line=""):
            path = tmp_path / "ropeway.yaml"
            own = f"private_key_file: {tmp_path}/private.key\n"
            path.write_text(SECURE + own + line)
            try:
                return read.read(str(path))
            except errors.ConfigError as error:
                return [text[len(f"{path}:") :] for text in error.errors]

        return faults_with

    def write(self, name, content, mode=0o600):
        path = self.directory / name
        path.write_text(keys.encode(content) + "\n" if isinstance(content, bytes) else content)
        path.chmod(mode)
        return path

    def test_keys_are_read_and_in_no_repr(self, secure):
        psk = self.write("psk", bytes([7]) * 32, 0o640)
        good = secure(peer(psk_file=str(psk)))
        assert good.private_key == bytes([1]) * 32
        assert good.peers[0].psk == bytes([7]) * 32
        assert repr(bytes([1]) * 32)[2:-1] not in repr(good)
        assert repr(bytes([7]) * 32)[2:-1] not in repr(good)

    def test_private_key_that_is_not_there(self, secure):
        path = self.directory / "private.key"
        path.unlink()
        assert secure() == [
            f"3: private_key_file: the private key {path} is not there: make it with"
            " `ropeway genkey`"
        ]

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_private_key_that_others_can_read(self, secure, mode):
        path = self.directory / "private.key"
        path.chmod(mode)
        (error,) = secure()
        assert f"{path} is open to others (mode {mode:04o}): run `chmod 0600 {path}`" in error

    @pytest.mark.parametrize("mode", [0o644, 0o660])
    def test_psk_that_others_can_read_or_write(self, secure, mode):
        path = self.write("psk", bytes([7]) * 32, mode)
        (error,) = secure(peer(psk_file=str(path)))
        assert error.startswith(
            f"4: peers[0].psk_file: the pre-shared key {path} is open to others"
        )

    @pytest.mark.parametrize(
        "content", ["", "geheim", "QUJD\n", keys.encode(bytes(32)) * 2, "Ä" * 44, "A" * 1000]
    )
    def test_file_that_holds_no_key_is_not_quoted(self, secure, content):
        path = self.write("private.key", content)
        (error,) = secure()
        assert f"{path} is not the base64 text of 32 bytes: move the file away and make it" in error
        assert len(error) < 250
        assert "geheim" not in error

    def test_directory_instead_of_a_key(self, secure):
        (self.directory / "private.key").unlink()
        (self.directory / "private.key").mkdir()
        (error,) = secure()
        assert "is not a file" in error or "Is a directory" in error

    def test_own_key_as_that_of_another_host(self, secure):
        own = keys.encode(keys.public_of(bytes([1]) * 32))
        for changes in ({"public_key": own}, {"next_public_key": own}):
            (error,) = secure(peer(**changes))
            assert error == (
                f"4: peers[0].{next(iter(changes))}: this is this host's own key, that of 10.0.0.1:"
                " write the one of 10.0.0.2, which `ropeway pubkey` prints there"
            )

    def test_own_key_that_looks_different(self, secure):
        own = keys.public_of(bytes([1]) * 32)
        (error,) = secure(peer(public_key=keys.encode(own[:31] + bytes([own[31] | 0x80]))))
        assert "this is this host's own key" in error

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (bytes(32), "holds zeros only, which is no secret: make one"),
            (bytes([1]) * 32, "holds this host's private key, which no other host may have"),
        ],
    )
    def test_psk_that_is_no_secret_of_two(self, secure, content, error):
        psk = self.write("psk", content)
        (told,) = secure(peer(psk_file=str(psk)))
        assert told.startswith(f"4: peers[0].psk_file: {psk} {error}")

    def test_keys_that_the_service_could_not_read(self, secure, tmp_path):
        psk = self.write("psk", bytes([7]) * 32)
        secure(peer(psk_file=str(psk)))
        # No user has this number: (uid_t) -1 means none to chown(2).
        user = pwd.struct_passwd(("service", "x", 2**32 - 1, 2**32 - 1, "", "/", "/bin/false"))
        with pytest.raises(errors.ConfigError) as caught:
            read.read(str(tmp_path / "ropeway.yaml"), reader=user)
        assert [line.split("run ")[1] for line in caught.value.errors] == [
            f"`chown service: {tmp_path}/private.key`",
            f"`chown service: {psk}`",
        ]

    def test_key_that_is_no_point_to_agree_upon(self, secure):
        (error,) = secure(peer(public_key=keys.encode(bytes(32))))
        assert error.startswith("4: peers[0].public_key: this is no public key")

    def test_every_fault_is_told_at_once(self, secure):
        (self.directory / "private.key").chmod(0o644)
        found = secure(f"port: 0\n{peer(psk_file='/none', addresses=['1.2'])}")
        assert [error.split(":")[1] for error in found] == [
            " private_key_file", " port", " peers[0].addresses[0]", " peers[0].psk_file"
        ]  # fmt: skip

    def test_reading_apart_brings_the_keys_along(self, secure, tmp_path):
        secure()
        assert reading.read_apart(str(tmp_path / "ropeway.yaml")).private_key == bytes([1]) * 32


class TestHost:
    """What a configuration names on its host besides keys."""

    @pytest.fixture
    def check(self, tmp_path, monkeypatch):
        """Return a function that gives the faults of a file with one more line."""
        monkeypatch.setattr(on_host, "INTERFACES_DIRECTORY", str(tmp_path / "net"))
        (tmp_path / "net" / "eth0").mkdir(parents=True)
        (tmp_path / "net" / "rope0").mkdir()
        (tmp_path / "net" / "rope0" / "tun_flags").write_text("0x1001\n")
        self.path = tmp_path / "r.yaml"

        def check(line):
            self.path.write_text(MINIMAL + line)
            try:
                read.read(str(self.path))
            except errors.ConfigError as error:
                return [text[len(f"{self.path}:") :] for text in error.errors]
            return []

        return check

    @pytest.mark.parametrize(("key", "what"), [("owner", "user"), ("group", "group")])
    def test_owner_that_nobody_knows(self, check, key, what):
        assert check(f"control: {{{key}: nosuch-at-all}}") == [
            f"4: control.{key}: there is no {what} nosuch-at-all: create it first"
        ]
        assert check(f'control: {{{key}: "a\\0b"}}') == [
            f"4: control.{key}: there is no {what} 'a\\x00b': create it first"
        ]
        assert check(f"control: {{{key}: root}}") == []

    def test_file_where_the_socket_is_to_stand(self, check):
        assert check(f"control: {{path: {self.path}}}") == [
            f"4: control.path: {self.path} is not a socket: remove it or choose another path"
        ]
        assert check(f"control: {{path: {self.path}.sock}}") == []

    def test_device_of_another_kind(self, check):
        assert check("device: {name: eth0}") == [
            "4: device.name: an interface eth0 stands already and is of another kind: choose"
            " another name"
        ]
        assert check("device: {name: rope0}") == []
        assert check("device: {name: rope1}") == []

    def test_another_host_is_not_asked(self, check):
        check("device: {name: eth0}")
        assert read.read(str(self.path), with_keys=False).device_name == "eth0"


def test_dscp_is_copied_only_if_asked_for_and_a_reload_changes_it():
    plain = read.parse(SECURE.encode(), "f")
    copied = read.parse((SECURE + "copy_dscp: true\n").encode(), "f")
    assert (plain.copy_dscp, copied.copy_dscp) == (False, True)
    assert model.what_differs(plain, copied) == ["copy_dscp"]
    assert "copy_dscp" in reload.APPLIED_LIVE


def test_what_differs_is_named_as_in_the_file():
    before = read.parse((SECURE + peer()).encode(), "f")
    after = read.parse(
        (SECURE + f"port: 1\ndevice: {{name: x}}\npeers: [{{host: 10.0.0.2, public_key: {KEY_3}}}]")
        .encode(), "f")  # fmt: skip
    assert model.what_differs(before, after) == ["device.name", "port"]
    assert model.what_differs(before, before) == []


def test_every_part_of_a_configuration_is_compared_or_applied():
    """A new key must not be overlooked where the file is read again."""
    before = read.parse(SECURE.encode(), "f")
    applied = {"remotes", "peers", "tenants", "private_key_file", "private_key"}
    for field in dataclasses.fields(model.Config):
        changed = dataclasses.replace(before, **{field.name: object()})
        assert bool(model.what_differs(before, changed)) is (field.name not in applied)


def test_child_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "read", lambda path: signal.pause())
    child = reading.Reading(str(tmp_path / "r.yaml"))
    child.give_up()
    # It has ended, and nobody has to wait for it. Other tests may have left children of theirs.
    with pytest.raises(ChildProcessError):
        os.waitpid(child._child, os.WNOHANG)


@pytest.fixture
def tended():
    """Handle signals as the agent does, and put them back."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    wakeup = signal.set_wakeup_fd(sender.fileno())
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {n: signal.signal(n, lambda number, frame: None) for n in numbers}
    yield receiver
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(wakeup)
    receiver.close()
    sender.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_child_ends_on_signals_and_tells_the_parent_of_none(tmp_path, monkeypatch, tended, number):
    monkeypatch.setattr(read, "read", lambda path: signal.pause())
    child = reading.Reading(str(tmp_path / "r.yaml"))
    os.kill(child._child, number)
    assert child.take() is True
    with pytest.raises(errors.ConfigError, match="check-config"):
        child.result()
    tended.setblocking(False)
    with pytest.raises(BlockingIOError):
        tended.recv(1)


def test_child_ends_although_nobody_gives_it_up(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "READING_MAX_S", 1)
    monkeypatch.setattr(read, "read", lambda path: signal.pause())
    child = reading.Reading(str(tmp_path / "r.yaml"))
    assert child.take() is True
    with pytest.raises(errors.ConfigError, match="check-config"):
        child.result()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_child_holds_no_descriptor_of_its_parent(tmp_path, monkeypatch):
    def tell(path):
        raise errors.ConfigError(
            [
                name
                for name in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{name}")
            ]
        )

    monkeypatch.setattr(read, "read", tell)
    receiver, sender = os.pipe()
    try:
        with pytest.raises(errors.ConfigError) as caught:
            reading.read_apart(str(tmp_path / "r.yaml"))
    finally:
        os.close(receiver)
        os.close(sender)
    # The three standard ones, at most, and its own end of the pipe.
    assert len([name for name in caught.value.errors if int(name) > 2]) == 1


def test_child_that_dies_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "read", lambda path: os._exit(9))
    with pytest.raises(errors.ConfigError, match="check-config"):
        reading.read_apart(str(tmp_path / "r.yaml"))


def test_every_fault_is_told_at_once_in_the_order_of_the_file():
    text = """\
        encapsulation: classic
        network: 10.0.0.0/24
        address: 10.0.1.1
        forwrd: true
        peers:
          - host: 10.0.0.2
            addresses:
              - 192.168.0.3
              - 192.168.0.3
          - host: 10.0.0.2
            addresses: [999.1.1.1]
        """
    assert faults(text) == [
        "3: address: 10.0.1.1 is outside the network 10.0.0.0/24: choose an address inside it",
        "4: forwrd: unknown setting: did you mean forward?",
        "9: peers[0].addresses[1]: 192.168.0.3 stands in line 8 already: remove one",
        "10: peers[1].host: 10.0.0.2 stands in line 6 already: put all its addresses there",
        "11: peers[1].addresses[0]: write an IPv4 address without a prefix length, such as"
        " 192.168.0.3, not 999.1.1.1",
    ]


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(errors.ConfigError, match="No such file") as caught:
        read.read(str(tmp_path / "none.yaml"))
    assert len(caught.value.errors) == 1


def test_file_that_is_far_too_large(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (read.FILE_BYTES_MAX + 1))
    with pytest.raises(errors.ConfigError, match="larger than"):
        read.read(str(path))


def test_nesting_that_is_far_too_deep():
    assert any("nested too deeply" in line for line in faults("a: " + "[" * 2000))


def bomb() -> str:
    """Give ten lines that stand for nine values to the power of nine."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for old, new in zip("abcdefghi", "bcdefghij"):
        lines.append(f"{new}: &{new} [{', '.join(['*' + old] * 9)}]")
    return "\n".join(lines) + "\n"


def test_aliases_that_repeat_each_other_are_told_at_once():
    assert faults(bomb()) == [
        "1: with what its aliases repeat the file has more than 65536 values: write fewer"
    ]


def test_aliases_that_people_use_hold():
    text = MINIMAL + "interfaces: {include: &names [eth0, wlan0], exclude: *names}\n"
    assert read.parse(text.encode(), "f").exclude == ("eth0", "wlan0")


def test_more_values_than_are_read_are_told():
    text = MINIMAL + "interfaces:\n  include: [" + "e, " * 70000 + "]\n"
    assert faults(text) == ["5: the file has more than 65536 values: write fewer"]


@pytest.mark.parametrize("value", ["1" * 9000, "1" + ":1" * 5000, "'" + "x" * 5000 + "'"])
def test_value_that_is_far_too_long(value):
    sentence = "4: a value has more than 4096 characters: make it shorter"
    assert faults(f"{MINIMAL}port: {value}\n") == [sentence]


@pytest.mark.parametrize("value", ["!!timestamp foo", '!!int ""', "!!bool foo", '!!float ""'])
def test_value_that_is_not_what_its_tag_says_is_told(value):
    assert "cannot be read: put it in quotes" in faults(f"{MINIMAL}port: {value}\n")[0]


def test_of_very_many_faults_the_first_are_told():
    told = faults(MINIMAL + "".join(f"k{number}: 1\n" for number in range(20000)))
    assert len(told) == lines.FAULTS_MAX + 1
    assert told[0].startswith("4: k0: unknown setting")
    assert told[-1] == " there may be more: mend these first"


def test_reading_apart_gives_what_reading_gives(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(MINIMAL)
    assert reading.read_apart(str(path)) == read.read(str(path))


def test_reading_apart_tells_every_fault(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(MINIMAL + "forwrd: 1\nrouter: x\n")
    with pytest.raises(errors.ConfigError) as caught:
        reading.read_apart(str(path))
    assert len(caught.value.errors) == 2


# What a hand may leave in the file: any text, and YAML that is nearly right.
_words = st.sampled_from(
    [
        *"[]{}:,-&*!|>'\"%@`#? \n",
        *(
            "encapsulation",
            "network",
            "address",
            "peers",
            "host",
            "public_key",
            "addresses",
            "device",
        ),
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
        read.parse(raw, "f")
    except errors.ConfigError as error:
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
            "peers": [{"host": f"{base}.{n}", "addresses": items} for n, items in hosts],
        }
    )
    try:
        good = read.parse(text.encode(), "f")
    except errors.ConfigError:
        return
    node = ClassicNode(
        Settings(good.address, good.network, good.routers, good.forward, good.device_mtu),
        0.0,
        random.Random(1),
    )
    for remote in good.remotes:
        node.add_remote(remote.host, remote.address, remote.index, 0.0)


_endpoints = st.one_of(
    _remote_addresses,
    st.sampled_from(["::1", "fe80::1", "2001:db8::1", "::ffff:192.0.2.1", "::", "64:ff9b::1"]),
    st.sampled_from(["192.168.0.1:1", "[2001:db8::1]:65535", "[::ffff:1.2.3.4]:5", "[fd00::1]:53"]),
    st.sampled_from(["a", "a.b:5", "a.b:0", "-a", "a.1", "1.a", "A.b", "a..b", "a.b.", "x" * 64]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.lists(st.integers(0, 5), min_size=1, max_size=2),
            st.lists(_endpoints, max_size=4),
        ),
        max_size=3,
    ),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_what_passes_is_what_the_secure_node_takes(hosts, router):
    listed = [
        {
            "host": f"10.0.0.{n}",
            "addresses": endpoints,
            **dict(zip(("public_key", "next_public_key"), (PUBLIC_TEXTS[k] for k in numbers))),
        }
        for n, numbers, endpoints in hosts
    ]
    data = {"network": "10.0.0.0/24", "address": "10.0.0.1", "peers": listed}
    if router:
        data["router"] = f"10.0.0.{router}"
    try:
        good = read.parse(json.dumps(data).encode(), "f")
    except errors.ConfigError:
        return
    peers = tuple(
        PeerSettings(p.host, p.public_keys, p.psk, p.endpoints, p.names) for p in good.peers
    )
    node = SecureNode(
        SecureSettings(good.address, good.network, good.routers, private_key=bytes([9]) * 32,
                       port=good.port, peers=peers, epoch=1),
        0.0, random.Random(1), bytes,
    )  # fmt: skip
    assert [peer["host"] for peer in node.status(0.0)["peers"]] == sorted(p.host for p in peers)


def budget_faults(text):
    return faults(f"{SECURE}{peer()}\nlinks: {text}\n")


@pytest.mark.parametrize(
    ("amount", "size"),
    [
        ("5GB", 5 * 10**9),
        ("5 GB", 5 * 10**9),
        ("5G", 5 * 10**9),
        ("1.5 MiB", 3 << 19),
        ("1000kB", 10**6),
        ("1000TB", 10**15),
        ("5000000000", 5 * 10**9),
        ("5.0e+9", 5 * 10**9),
        ("0.001GB", 10**6),
    ],
)
def test_budgets_of_links(amount, size):
    text = f"""{SECURE}{peer()}
links:
  wwan0: {{budget: {{bytes: {amount}, per: month, reset_day: 31, then: never}}}}
  "wwan*": {{budget: {{bytes: 1MB, per: day}}}}
"""
    config = read.parse(text.encode(), "f")
    first, second = model.Budget(size, "month", 31, "never"), model.Budget(10**6, "day")
    assert config.budgets == (("wwan0", first), ("wwan*", second))
    assert model.setting_of(config.budgets, "wwan0") == first
    assert model.setting_of(config.budgets, "wwan1") == second
    assert model.setting_of(config.budgets, "eth0") is None
    assert model.setting_of(config.budgets[::-1], "wwan0") == first, "a name before a pattern"
    assert model.what_differs(read.parse((SECURE + peer()).encode(), "f"), config) == ["links"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{wwan0: {}}", "4: links.wwan0: write a cost, metered or a budget, or remove it"),
        ("{wwan0: {cost: 1001}}", "4: links.wwan0.cost: write a number from 0 to 1000, not 1001"),
        (
            "{wwan0: 7}",
            "4: links.wwan0: write a mapping with the keys cost, metered and budget, not 7",
        ),
        (
            "[wwan0]",
            "4: links: write a mapping of at most 64 interface names or shell patterns, such"
            ' as wwan0 or "wwan*", not a list',
        ),
        (
            "{wwan0: {budget: 5GB}}",
            "4: links.wwan0.budget: write a mapping with the keys bytes, per,"
            " reset_day and then, not 5GB",
        ),
        (
            "{wwan0: {budget: {per: day}}}",
            "4: links.wwan0.budget.bytes: this setting is missing: add it",
        ),
        (
            "{wwan0: {budget: {bytes: 5GB}}}",
            "4: links.wwan0.budget.per: this setting is missing: add it",
        ),
        (
            "{wwan0: {budget: {bytes: 5 gigs, per: day}}}",
            "4: links.wwan0.budget.bytes: write a number"
            " of bytes from 1 MB to 1000 TB, such as 5GB or 500MiB, not 5 gigs",
        ),
        (
            "{wwan0: {budget: {bytes: 999kB, per: day}}}",
            "4: links.wwan0.budget.bytes: write a number of bytes from 1 MB to 1000 TB, not 999kB",
        ),
        (
            "{wwan0: {budget: {bytes: 1001TB, per: day}}}",
            "4: links.wwan0.budget.bytes: write a number of bytes from 1 MB to 1000 TB, not 1001TB",
        ),
        (
            "{wwan0: {budget: {bytes: 1000, per: day}}}",
            "4: links.wwan0.budget.bytes: write a number of"
            " bytes from 1 MB to 1000 TB, such as 5GB or 500MiB, not 1000",
        ),
        (
            "{wwan0: {budget: {bytes: 5GB, per: week}}}",
            "4: links.wwan0.budget.per: write day or month, not week",
        ),
        (
            "{wwan0: {budget: {bytes: 5GB, per: month, reset_day: 32}}}",
            "4: links.wwan0.budget.reset_day: write a day of the month from 1 to 31, not 32",
        ),
        (
            "{wwan0: {budget: {bytes: 5GB, per: day, reset_day: 3}}}",
            "4: links.wwan0.budget.reset_day: a"
            " budget per day begins anew every day: remove it, or write per: month",
        ),
        (
            "{wwan0: {budget: {bytes: 5GB, per: day, then: stop}}}",
            "4: links.wwan0.budget.then: write last or never, not stop",
        ),
        (
            "{wwan0: {budgets: {bytes: 5GB, per: day}}}",
            "4: links.wwan0.budgets: unknown setting: did you mean budget?",
        ),
    ],
)
def test_what_is_wrong_with_a_budget_is_said(text, sentence):
    assert sentence in budget_faults(text)


def test_only_a_secure_network_has_budgets():
    text = MINIMAL + "links: {wwan0: {budget: {bytes: 5GB, per: day}}}\n"
    assert faults(text) == ["4: links: only the encapsulation secure has this setting: remove it"]


def test_metered_links():
    text = f"{SECURE}{peer()}\nlinks: {{wwan0: {{metered: true}}, 'eth*': {{metered: false}}}}\n"
    config = read.parse(text.encode(), "f")
    assert config.metered == (("wwan0", True), ("eth*", False))
    plain = read.parse((SECURE + peer()).encode(), "f")
    assert model.what_differs(plain, config) == ["links"]


def test_costs_of_links():
    text = f"{SECURE}{peer()}\nlinks: {{wwan0: {{cost: 10}}, 'eth*': {{cost: 0}}}}\n"
    config = read.parse(text.encode(), "f")
    assert (config.costs, config.budgets) == ((("wwan0", 10), ("eth*", 0)), ())
    assert model.what_differs(read.parse((SECURE + peer()).encode(), "f"), config) == ["links"]


def test_hosts_meet_without_the_router_only_if_asked_for_and_a_restart_changes_it():
    plain = read.parse(SECURE.encode(), "f")
    direct = read.parse((SECURE + "direct: true\n").encode(), "f")
    assert (plain.direct, direct.direct) == (False, True)
    assert model.what_differs(plain, direct) == ["direct"]
    assert "direct" not in reload.APPLIED_LIVE
    assert all(peer.direct for peer in plain.peers)
