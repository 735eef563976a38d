"""Leases in the configuration: taken from a router, and given by one."""

from __future__ import annotations

import pytest

from ropeway.app.config import read
from ropeway.app.errors import ConfigError
from ropeway.core.settings import UNASSIGNED
from ropeway.steward.settings import settings_of

KEY = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
HEAD = "network: 10.0.0.0/24\naddress: "
ROUTER = f"router: 10.0.0.1\npeers: [{{host: 10.0.0.1, public_key: {KEY}}}]\n"
TENANT = f"peers: [{{host: lease, public_key: {KEY}}}]\n"
CLIENT = f"{HEAD}lease\n{ROUTER}"
GIVER = f"{HEAD}10.0.0.1\nleases: {{pool: 10.0.0.128/25}}\n{TENANT}"


def faults(text):
    with pytest.raises(ConfigError) as caught:
        read.parse(text.encode(), "f")
    return "\n".join(caught.value.errors)


def test_a_host_takes_its_address_from_its_router():
    config = read.parse(CLIENT.encode(), "f")
    assert config.is_leased
    assert config.address == UNASSIGNED


def test_a_router_gives_addresses_to_keys():
    config = read.parse(GIVER.encode(), "f")
    assert not config.peers
    assert [len(peer.public_keys) for peer in config.tenants] == [1]
    assert config.leases is not None
    assert (sum(map(len, config.leases.ranges)), config.leases.time_s) == (128, 86400.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{HEAD}lease\n", "2: address: a lease comes from one router"),
        (CLIENT.replace("router:", "routers: [10.0.0.1, 10.0.0.2]\n#"), "comes from one router"),
        (f"encapsulation: classic\n{HEAD}lease\n", "only the encapsulation secure has leases"),
        (CLIENT + "leases: {pool: 10.0.0.128/25}\n", "leases: who gives leases has an address"),
        (CLIENT + "announce: [192.168.70.0/24]\n", "announce: who announces networks has"),
        (f"{HEAD}10.0.0.1\n{TENANT}", "peers[0].host: this host gives no leases"),
        (GIVER.replace("10.0.0.128/25", "10.0.1.0/25"), "leases.pool: 10.0.1.0/25 is not inside"),
        (GIVER.replace("10.0.0.128/25", "10.0.0.9-10.0.0.8"), "ends before it begins"),
        (GIVER.replace("10.0.0.128/25", "[10.0.0.128/25, 10.0.0.130]"), "leases.pool[1]: "),
        (GIVER.replace("/25}", "/25, time_s: 59}"), "leases.time_s: write a number of seconds"),
        (GIVER.replace("=}", "=, addresses: [192.168.0.2]}"), "calls the router by itself"),
    ],
)
def test_what_makes_no_sense_is_told(text, says):
    assert says in faults(text)


def test_the_steward_takes_addresses_of_the_network_alone():
    client = settings_of(read.parse(CLIENT.encode(), "f"))
    assert not client.has_address
    assert client.network == "10.0.0.0/24"
    assert client.with_address("10.0.0.7").device_address == "10.0.0.7/24"
    assert not client.with_address("10.0.0.7").with_address("").has_address
    for address in ("10.0.1.7", "10.0.0.0", "10.0.0.255", "2001:db8::1"):
        with pytest.raises(ValueError, match=r"no host's address of 10\.0\.0\.0/24"):
            client.with_address(address)
    with pytest.raises(ValueError, match="one of its own"):
        settings_of(read.parse(GIVER.encode(), "f")).with_address("10.0.0.7")
