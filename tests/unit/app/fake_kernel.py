"""Interfaces, a device and link sockets that exist only in memory, for tests of the runtime.

Each fake has the manners of its twin in `ropeway.kernel`; epoll is served by a socket pair.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import threading
import time
from typing import Dict, List, Set, Tuple

from ropeway.app.engine import engine, opener
from ropeway.kernel import (
    capabilities,
    classic_sockets,
    generation,
    process,
    tun,
    udp,
)
from ropeway.kernel.tun import OpenedDevice
from ropeway.steward import arp, device, firewall, firewall_guard, reverse_path, watch
from ropeway.steward.interface import Change, Interface
from ropeway.steward.netlink import device as kernel_device
from ropeway.steward.netlink import hints, interfaces, routes, steering
from ropeway.steward.netlink.steering import Steering


def interface(index, name, *addresses, **changes):
    """Return an Ethernet interface that is up."""
    values = {
        "mtu": 1500,
        "up": True,
        "admin_up": True,
        "loopback": False,
        "ethernet": True,
        "master": 0,
        "kind": None,
        "alias": None,
        **changes,
    }
    return Interface(index=index, name=name, addresses=tuple(addresses), **values)


class Ready:
    """A descriptor that is readable as long as something waits in `waiting`."""

    def __init__(self):
        self.waiting: List[object] = []
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self.closed = False
        self.emptied = False
        self._came: List[float] = []
        self._last_came = 0.0

    def fileno(self):
        return self._here.fileno()

    def put(self, item, age_s=0.0):
        """Let something wait that came `age_s` ago."""
        self.waiting.append(item)
        self._came.append(time.time() - age_s)
        self._there.send(b"x")

    def take(self, limit):
        taken = []
        self.emptied = False
        while len(taken) < limit:
            if not self.waiting:
                self.emptied = True
                break
            if isinstance(self.waiting[0], OSError) and taken:
                break
            try:
                self._here.recv(1)
            except BlockingIOError:
                break  # the other thread is still in the middle of `put`
            taken.append(self.waiting.pop(0))
            self._last_came = self._came.pop(0)
            if isinstance(taken[0], OSError):
                raise taken[0]
        return taken

    def arrived_at(self):
        return self._last_came

    def close(self):
        if not self.closed:
            self.closed = True
            self._here.close()
            self._there.close()


class FakeTun(Ready):
    """A device: without a vnet header, as an old kernel's, or with what `kernel.offload` names."""

    def __init__(self, kernel, name, index, features):
        super().__init__()
        self.kernel, self.name, self.index = kernel, name, index
        self.features = kernel.granted(("vnet_hdr", "tso", "uso"), features)
        self.asked_for = features
        self.queues = (self,)
        self.capacity = 500
        self.written: List[bytes] = []
        self.written_partial: List[bytes] = []

    def read_batch(self, limit):
        return self.take(limit)

    def measure(self):
        pass

    def write_batch(self, packets):
        self.written += packets
        return {}

    def write_partial(self, packets):
        assert self.features["vnet_hdr"] == "on"
        self.written_partial += packets
        return {}

    def close(self):
        super().close()
        with self.kernel.changing:
            self.kernel.interfaces = [i for i in self.kernel.interfaces if i.index != self.index]


class FakeLinkSockets(Ready):
    def __init__(self, kernel, index, name):
        super().__init__()
        self.kernel, self.index, self.name = kernel, index, name
        self.sent: List[tuple] = []
        self.refuse: Dict[str, int] = {}
        self.bound = True

    @property
    def key(self):
        return self.index

    def is_bound(self):
        return self.bound

    def receive_batch(self, limit):
        return self.take(limit)

    def send_batch(self, address, datagrams):
        self.sent += [(address, datagram) for datagram in datagrams]
        return self.refuse

    def receive_drops(self):
        return 7

    def buffers(self):
        return {"send": 1 << 20, "receive": 2 << 20}


class FakeUdpSocket(FakeLinkSockets):
    """A socket that gives and takes one datagram at a time; tests see no trains."""

    def __init__(self, kernel, index, name, address, port):
        super().__init__(kernel, index, name)
        self.address, self.port = address, port

    def enable(self, features):
        self.features = self.kernel.granted(("udp_segment", "udp_gro"), features)
        self.asked_for = features

    def receive_batch(self, limit):
        return [(datagram, source, len(datagram) or 1) for datagram, source in self.take(limit)]

    def send_batch(self, endpoint, trains):
        return super().send_batch(endpoint, [f for train in trains for f in train.frames()])

    @property
    def key(self):
        return self.index, self.address


class FakeStraySocket(Ready):
    def __init__(self, address):
        super().__init__()
        self.address = address
        self.key = None

    def enable(self, index, name):
        self.index, self.name = index, name
        self.key = index, self.address

    def receive_batch(self, limit):
        return [(datagram, source, len(datagram) or 1) for datagram, source in self.take(limit)]

    def receive_drops(self):
        return 0


class FakeHints(Ready):
    def drain(self):
        taken = self.take(64)
        if not taken:
            return Change.NOTHING
        return max(item if isinstance(item, Change) else Change.INTERFACES for item in taken)


class FakeGenerationHints(Ready):
    def drain(self):
        return True in self.take(64)


class FakeWatch(Ready):
    def lost(self):
        return bool(self.take(64))


class FakeOpenedDevice(OpenedDevice):
    def close(self):
        self.descriptors[0].close()


class FakeKernel:
    """What the runtime finds instead of Linux; `install` puts it in place."""

    def __init__(self):
        # The test's thread changes what there is while the agent's sets up its device.
        self.changing = threading.Lock()
        self.interfaces: List[Interface] = []
        self.tuns: List[FakeTun] = []
        #: The sockets that the engine has. Those of UDP are the steward's first.
        self.links: List[FakeLinkSockets] = []
        self.udp_sockets: List[FakeUdpSocket] = []
        self.strays: List[FakeStraySocket] = []
        self.firewall: List[str] = []
        self.configured: List[tuple] = []
        self.unusable: Dict[str, int] = {}
        #: How often sockets were refused because of `unusable`.
        self.refused = 0
        self.dumps = 0
        self.dumpable = True
        self.generation_fault = 0
        self.route_look_ups = 0
        #: Interface index and far address, where there is a route.
        self.routes: Set[Tuple[int, str]] = set()
        self.next_index = 20
        self.offload: Set[str] = set()
        self.steering = Steering(main=False, first=False)
        self.steered: List[Steering] = []
        #: Where what is sent to another host of the virtual network goes; 0 as the routes say.
        self.leads_to = 0
        #: The interfaces with a strict rp_filter, and the one by which all answers go.
        self.strict: Set[str] = set()
        #: The interfaces that answer ARP for their own addresses only.
        self.reticent: Set[str] = set()
        self.way_back = 2
        self.sources: Dict[Tuple[str, str], str] = {}  # by interface and far address

    def install(self, monkeypatch):
        # A fake stands for its own descriptor.
        monkeypatch.setattr(tun, "open_device", self.open_tun)
        monkeypatch.setattr(engine, "Tun", lambda name, opened: opened.descriptors[0])
        monkeypatch.setattr(classic_sockets, "open_pair", self.open_link)
        monkeypatch.setattr(opener, "LinkSockets", lambda index, name, send, receive: send)
        monkeypatch.setattr(udp, "open_socket", self.open_udp)
        monkeypatch.setattr(opener, "UdpSocket", self.wrap_udp)
        monkeypatch.setattr(udp, "open_stray", self.open_stray)
        monkeypatch.setattr(opener, "StraySocket", self.wrap_stray)
        monkeypatch.setattr(opener, "close_all", lambda fakes: [fake.close() for fake in fakes])
        monkeypatch.setattr(capabilities, "drop_all", lambda: None)
        monkeypatch.setattr(arp, "answers_for_others", lambda name: name not in self.reticent)
        monkeypatch.setattr(
            watch, "preferred_source", lambda name, far: self.sources.get((name, far))
        )
        monkeypatch.setattr(process, "forbid_dumps", lambda: setattr(self, "dumpable", False))
        granted = {"nice": 0, "autogroup": 0, "slice_us": 100, "memory_lock": "on"}
        monkeypatch.setattr(process, "serve_promptly", lambda: granted)
        monkeypatch.setattr(interfaces, "interfaces", self.dump)
        monkeypatch.setattr(kernel_device, "configure", self.configure)
        monkeypatch.setattr(kernel_device, "leave_unqueued", lambda _: None)
        monkeypatch.setattr(hints, "Hints", self.open_hints)
        monkeypatch.setattr(routes, "source_by", self.source_by)
        monkeypatch.setattr(generation, "GenerationHints", self.open_generation_hints)
        monkeypatch.setattr(reverse_path, "is_strict", lambda name: name in self.strict)
        monkeypatch.setattr(reverse_path, "way_back", lambda source, far: self.way_back)
        monkeypatch.setattr(routes, "leads_to", self.look_up)
        monkeypatch.setattr(steering, "look", lambda index, network: self.steering)
        monkeypatch.setattr(steering, "change", self.steer)
        monkeypatch.setattr(steering, "remove_rules", self.remove_rules)
        monkeypatch.setattr(steering, "remove_left", lambda: 0)
        monkeypatch.setattr(firewall, "replace", self.replace_firewall)
        monkeypatch.setattr(
            firewall, "delete", lambda table, timeout_s=10.0: self.firewall.append("delete")
        )
        monkeypatch.setattr(firewall_guard, "NftWatch", self.open_watch)
        monkeypatch.setattr(device.socket, "if_nametoindex", self.index_of)

    @property
    def tun(self):
        return self.tuns[-1]

    def link(self, name):
        """Return the sockets of the link `name` that were opened last."""
        return [link for link in self.links if link.name == name][-1]

    def socket(self, name, address):
        """Return the UDP socket that was opened last at `address` of the link `name`."""
        return [s for s in self.links if s.name == name and s.address == address][-1]

    def granted(self, names, asked_for):
        """Return the features `names` as a device or socket tells them."""
        return {
            name: "not asked for"
            if name not in asked_for
            else "on"
            if name in self.offload
            else "not here"
            for name in names
        }

    def change(self, *interfaces):
        """Make these all there is besides the device, and hint at it."""
        with self.changing:
            devices = [i for i in self.interfaces if i.kind == "tun"]
            self.interfaces = [*interfaces, *devices]
        self.hints.put(b"something changed")

    def open_tun(self, name, features=frozenset()):
        opened = FakeTun(self, name, self.next_index, features)
        self.tuns.append(opened)
        device = interface(self.next_index, name, kind="tun", ethernet=False, admin_up=False)
        with self.changing:
            self.interfaces.append(device)
        self.next_index += 1
        return FakeOpenedDevice((opened,), opened.features)

    def open_link(self, index, name):
        self._refuse_unusable(name)
        self.links.append(FakeLinkSockets(self, index, name))
        return self.links[-1], self.links[-1]

    def _refuse_unusable(self, key):
        code = self.unusable.get(key)  # once: it may become usable any moment
        if code is not None:
            self.refused += 1
            raise OSError(code, os.strerror(code))

    def open_stray(self, address, port):
        self._refuse_unusable(("stray", address))
        taken = [one for one in self.udp_sockets if one.address == address and not one.closed]
        assert len(taken) == 1, "another link has the address"
        self.strays.append(FakeStraySocket(address))
        return self.strays[-1]

    def stray(self, address):
        """Return what receives by all other interfaces at `address`, if that is open."""
        found = [stray for stray in self.strays if stray.address == address and not stray.closed]
        return found[-1] if found else None

    def open_udp(self, index, name, address, port):
        self._refuse_unusable(address)
        assert not self.stray(address), "what receives by all interfaces has the address"
        self.udp_sockets.append(FakeUdpSocket(self, index, name, address, port))
        return self.udp_sockets[-1]

    def wrap_stray(self, index, name, address, port, fake, features):
        fake.enable(index, name)
        return fake

    def wrap_udp(self, index, name, address, port, fake, features):
        fake.enable(features)
        self.links.append(fake)
        return fake

    def open_hints(self, ipv6=False):
        self.hints = FakeHints()
        return self.hints

    def open_generation_hints(self):
        if self.generation_fault:
            raise OSError(self.generation_fault, os.strerror(self.generation_fault))
        self.generation_hints = FakeGenerationHints()
        return self.generation_hints

    def open_watch(self, table):
        self.watch = FakeWatch()
        return self.watch

    def replace_firewall(self, table, timeout_s=10.0):
        assert len(self.firewall) == 0 or timeout_s <= 3, "the watchdog waits no longer"
        self.firewall.append("replace")

    def index_of(self, name):
        return next(i.index for i in self.interfaces if i.name == name)

    def dump(self, ipv6=False):
        self.dumps += 1
        return list(self.interfaces)

    def source_by(self, index, far, source):
        self.route_look_ups += 1
        return source if (index, far) in self.routes else None

    def look_up(self, address):
        index = next((i.index for i in self.interfaces if i.kind == "tun"), 0)
        return self.leads_to or index * (self.steering.main or self.steering.first)

    def steer(self, index, address, before, after):
        assert before == self.steering
        self.steering = after
        self.steered.append(after)

    def remove_rules(self, network):
        self.steering = dataclasses.replace(self.steering, rules=frozenset())

    def configure(self, index, address, mtu, alias):
        with self.changing:
            place = next((n for n, i in enumerate(self.interfaces) if i.index == index), None)
            if place is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            self.interfaces[place] = interface(
                index,
                self.interfaces[place].name,
                address,
                mtu=mtu,
                kind="tun",
                alias=alias,
                ethernet=False,
            )
            self.steering = dataclasses.replace(self.steering, main=True)
            # Last, because whoever waits for it goes on to change the device.
            self.configured.append((index, address, mtu, alias))
