"""Networks behind hosts, as the configuration names them."""

import pytest

from ropeway.app.config import model, read
from ropeway.app.errors import ConfigError

BASE = "network: 10.0.0.0/24\naddress: 10.0.0.1\n"
KEY = "FlzwjBl1JdEHOKRUlg38QiRwnrhStTiUIwPAWYbTmV0="


def parse(text):
    return read.parse((BASE + text).encode(), "f")


def faults(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def test_networks_are_announced_and_allowed():
    config = parse(
        "announce: [192.168.80.0/24, 10.1.2.3/32]\n"
        f"peers: [{{host: 10.0.0.2, public_key: {KEY}, allowed: [172.16.0.0/13]}}]\n"
    )
    assert config.announce == ("192.168.80.0/24", "10.1.2.3/32")
    assert config.peers[0].allowed == ("172.16.0.0/13",)
    assert "announce" in model.what_differs(config, parse(""))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("192.168.80.1/24", "192.168.80.0/24"),
        ("8.8.8.0/24", "no private network"),
        ("172.0.0.0/8", "no private network"),
        ("10.0.0.0/23", "overlaps the virtual network 10.0.0.0/24"),
        ("10.0.0.0/8", "overlaps the virtual network"),
        ("0.0.0.0/0", "prefix length from 8 to 32"),
        ("fd00::/8", "prefix length from 8 to 32"),
        ("192.168.80.0", "prefix length from 8 to 32"),
    ],
)
def test_what_cannot_be_behind_a_host_is_refused(network, says):
    said = faults(f'announce: ["{network}"]\n')
    assert "announce[0]" in said
    assert says in said
    said = faults(f'peers: [{{host: 10.0.0.2, public_key: {KEY}, allowed: ["{network}"]}}]\n')
    assert "allowed[0]" in said
    assert says in said


def test_a_host_without_an_address_of_its_own_announces_nothing():
    text = "network: 10.0.0.0/24\naddress: lease\nrouter: 10.0.0.2\nannounce: [192.168.80.0/24]\n"
    with pytest.raises(ConfigError) as caught:
        read.parse(text.encode(), "f")
    assert "announce: only a host with an address of its own" in str(caught.value)


def test_a_classic_network_has_none():
    assert "secure" in faults("encapsulation: classic\nannounce: [192.168.80.0/24]\n")
