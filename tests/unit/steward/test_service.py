"""The steward goes by what it has read itself, whatever the engine asks of it."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from ropeway.app.config import model
from ropeway.app.engine import reload
from ropeway.steward import answers, names, orders, state
from ropeway.steward.handover import Handover
from ropeway.steward.service import Service
from ropeway.steward.settings import settings_of
from tests.unit.app.fake_kernel import FakeKernel, interface

ETH0 = interface(2, "eth0", "192.168.0.1/24")
SECRET = interface(3, "secret0", "172.16.0.1/24")
CONFIG = model.Config(
    encapsulation=model.SECURE,
    network="10.0.0.0/24",
    address="10.0.0.1",
    routers=(),
    forward=False,
    device_name="rwtest0",
    device_mtu=None,
    include=("*",),
    exclude=("secret*",),
    control=model.Control(),
    peers=(model.Peer("10.0.0.2", (b"k" * 32,), names=(("vm2.example.net", 51840),)),),
    private_key=b"s" * 32,
    port=51840,
)
WISH = orders.Wish(20, 1, 1400)


class FakeLoop:
    def __init__(self):
        self.clock = lambda: 1000.0

    def register(self, descriptor, handler):
        pass

    def unregister(self, descriptor):
        pass

    def sooner(self, at):
        pass


class Stewards:
    """Stewards one after another, as one keeper starts them, over a kernel in memory."""

    def __init__(self):
        self.handover = Handover()
        self.told = []
        self.service = None
        self.restart()

    def restart(self):
        """Let another steward take over from one that cannot tell what it knew."""
        self.told.clear()
        if self.service is not None:
            self.service.close()
        self.service = Service(
            FakeLoop(),
            lambda part: None,
            lambda answer, descriptors: self.told.append(answer),
            "/nowhere",
            self.handover,
        )

    def read(self, number, config):
        self.service.take_reading(answers.ConfigurationRead(number, config))

    def order(self, *given):
        """Give orders as the engine does, and return what the steward tells then."""
        before = len(self.told)
        for one in given:
            self.service.take(orders.decode(orders.encode(one)))
        return self.told[before:]

    def begin(self):
        self.read(0, CONFIG)
        return self.order(orders.Begin(0), WISH)

    @property
    def settings(self):
        return self.service._watch.settings

    @property
    def refusals(self):
        return [answer.sentence for answer in self.told if isinstance(answer, answers.Refused)]


@pytest.fixture
def kernel(monkeypatch):
    fake = FakeKernel()
    fake.interfaces = [ETH0, SECRET]
    fake.install(monkeypatch)
    return fake


@pytest.fixture
def stewards(kernel):
    made = Stewards()
    yield made
    made.service.close()


def test_device_and_links_are_those_of_the_reading(stewards, kernel):
    (opened, snapshot, *_) = stewards.begin()
    assert isinstance(opened, answers.DeviceOpened)
    assert [one.name for one in kernel.interfaces if one.kind == "tun"] == ["rwtest0"]
    assert [link.name for link in snapshot.links] == ["eth0"]


def test_another_steward_goes_on_by_the_reading_that_held(stewards):
    stewards.begin()
    stewards.restart()
    stewards.order(orders.Resume(0))
    assert stewards.settings == settings_of(CONFIG)
    assert stewards.refusals == []


def test_what_is_left_to_another_steward_contains_no_key(stewards):
    stewards.begin()
    left = stewards.handover.find()
    assert b"rwtest0" in left
    assert CONFIG.private_key not in left


def test_a_change_that_a_killed_steward_did_not_take_is_taken_by_the_next(stewards):
    stewards.begin()
    changed = dataclasses.replace(CONFIG, exclude=())
    stewards.read(1, changed)
    stewards.restart()
    stewards.order(orders.Resume(1))
    assert stewards.settings == settings_of(changed)
    stewards.restart()
    stewards.order(orders.Resume(1))
    assert stewards.settings == settings_of(changed)
    assert stewards.refusals == []


def test_a_reading_that_the_engine_could_not_go_over_to_changes_nothing(stewards):
    stewards.begin()
    stewards.read(1, dataclasses.replace(CONFIG, device_name="other0", exclude=()))
    stewards.restart()
    stewards.order(orders.Resume(0))
    assert stewards.settings == settings_of(CONFIG)
    assert stewards.refusals == []


LASTING = {
    "device_name": "other0",
    "address": "10.0.0.7",
    "network": "10.0.0.0/16",
    "port": 53,
    "encapsulation": model.CLASSIC,
    "offload_disable": frozenset({"vnet_hdr"}),
}
LIVE = {
    "include": ("eth*",),
    "exclude": ("wlan*",),
    "named_addresses": ("198.51.100.9",),
    "precedence": False,
    "peers": (),
}


@pytest.mark.parametrize("key", LASTING)
def test_what_only_a_restart_changes_is_refused(stewards, key):
    stewards.begin()
    stewards.read(1, dataclasses.replace(CONFIG, **{key: LASTING[key]}))
    stewards.order(orders.Change(1))
    assert stewards.settings == settings_of(CONFIG)
    assert ["restart the agent" in sentence for sentence in stewards.refusals] == [True]
    stewards.restart()
    stewards.order(orders.Resume(1))
    assert stewards.settings == settings_of(CONFIG)
    assert ["restart the agent" in sentence for sentence in stewards.refusals] == [True]


@pytest.mark.parametrize("key", [*LASTING, *LIVE])
def test_the_steward_refuses_what_the_engine_does(key):
    changed = dataclasses.replace(CONFIG, **{key: {**LASTING, **LIVE}[key]})
    assert settings_of(changed) != settings_of(CONFIG)
    by_engine = set(model.what_differs(CONFIG, changed)).difference(reload.APPLIED_LIVE)
    assert settings_of(CONFIG).differs_lastingly(settings_of(changed)) == bool(by_engine)
    assert bool(by_engine) == (key in LASTING)


@pytest.mark.parametrize("order", [orders.Resume, orders.Change])
def test_a_reading_that_never_was_is_refused_and_the_one_before_holds(stewards, order):
    stewards.begin()
    if order is orders.Resume:
        stewards.restart()
    stewards.order(order(7))
    assert stewards.settings == settings_of(CONFIG)
    assert ["reading 7" in sentence for sentence in stewards.refusals] == [True]


@pytest.mark.parametrize(
    "order", [orders.Begin(0), orders.Resume(0), orders.BeginState(), orders.Remember(epoch=5)]
)
def test_nothing_begins_without_a_reading(stewards, order):
    with pytest.raises(orders.Malformed):
        stewards.order(order)


def test_nothing_begins_twice_even_before_another_steward(stewards, kernel):
    stewards.begin()
    with pytest.raises(orders.Malformed):
        stewards.order(orders.Begin(0))
    stewards.restart()
    stewards.read(1, dataclasses.replace(CONFIG, device_name="other0"))
    for number in (0, 1):
        with pytest.raises(orders.Malformed):
            stewards.order(orders.Begin(number))
    assert len(kernel.tuns) == 1
    stewards.order(orders.Resume(0))
    with pytest.raises(orders.Malformed):
        stewards.order(orders.Resume(0))


def test_configuration_that_cannot_be_left_to_another_steward_is_a_mistake_in_it(stewards):
    stewards.begin()
    stewards.read(1, dataclasses.replace(CONFIG, include=("x" * (5 << 20),)))
    read = stewards.told[-1]
    assert (read.number, read.config) == (1, None)
    assert "too large" in read.errors[0]


def test_sockets_have_the_port_of_the_reading(stewards, kernel):
    stewards.begin()
    (opened,) = stewards.order(orders.OpenSocket(1, 2, "eth0", "192.168.0.1"))
    assert opened == answers.SocketOpened(1)
    (made,) = kernel.udp_sockets
    assert (made.name, made.address, made.port) == ("eth0", "192.168.0.1", CONFIG.port)


@pytest.mark.parametrize("stray", [False, True])
@pytest.mark.parametrize(
    ("index", "name", "address", "code"),
    [
        (3, "secret0", "172.16.0.1", errno.ENODEV),
        (3, "eth0", "192.168.0.1", errno.ENODEV),
        (2, "secret0", "192.168.0.1", errno.ENODEV),
        (2, "eth0", "172.16.0.1", errno.EADDRNOTAVAIL),
        (2, "eth0", "0.0.0.0", errno.EADDRNOTAVAIL),
        (20, "rwtest0", "10.0.0.1", errno.ENODEV),
    ],
)
def test_no_socket_is_opened_that_no_link_has(stewards, kernel, index, name, address, code, stray):
    stewards.begin()
    (refused,) = stewards.order(orders.OpenSocket(1, index, name, address, stray=stray))
    assert (refused.number, refused.errno) == (1, code)
    assert (kernel.links, kernel.strays) == ([], [])


def test_only_names_of_the_reading_are_resolved(stewards, monkeypatch):
    wished = []
    monkeypatch.setattr(names.Names, "wish", lambda self, order, now: wished.append(order))
    stewards.begin()
    asked = ("vm2.example.net", "secrets.attacker.example")
    stewards.order(orders.Resolve(asked, asked))
    assert wished == [orders.Resolve(asked[:1], asked[:1])]


def test_state_is_that_of_the_device_of_the_reading(stewards, monkeypatch):
    kept = []
    monkeypatch.setattr(state.state, "next_epoch", lambda name, _now: kept.append(name) or 5)
    monkeypatch.setattr(state.state, "next_reset_keys", lambda name, _fresh: (b"r" * 32,))
    monkeypatch.setattr(state.state, "read_callers", lambda name: {})
    monkeypatch.setattr(state.state, "write_epoch", lambda name, epoch: kept.append((name, epoch)))
    stewards.read(0, CONFIG)
    (begun,) = stewards.order(orders.BeginState())
    assert begun.epoch == 5
    stewards.order(orders.Begin(0), orders.Remember(epoch=6))
    stewards.restart()
    stewards.read(1, dataclasses.replace(CONFIG, device_name="other0"))
    stewards.order(orders.Resume(0), orders.Remember(epoch=7))
    assert kept == ["rwtest0", ("rwtest0", 6), ("rwtest0", 7)]
