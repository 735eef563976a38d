"""The engine on a secure network: sockets at addresses, a real node at both ends, reloading."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import random
import signal
import socket
import struct
import threading
import time
from collections import Counter

import pytest

from ropeway.app import systemd
from ropeway.app.config import model, read, reading
from ropeway.app.control import answer, client, server
from ropeway.app.engine import bindings, chores, copies, engine, links, reload
from ropeway.app.engine.continuity import Continuity
from ropeway.app.store import keys
from ropeway.core import tuning
from ropeway.core.frame.data import COOKIE
from ropeway.core.link import Link
from ropeway.core.node import SecureNode
from ropeway.core.packet import ipv4, segments
from ropeway.core.settings import PeerSettings, SecureSettings
from ropeway.kernel import cpu_latency
from ropeway.kernel.clock import boot_clock
from ropeway.steward import configuration, watch
from tests.unit.app.engine.test_engine import ask, eventually, packet, run, settled
from tests.unit.app.fake_kernel import FakeKernel, interface
from tests.unit.app.local_steward import make_agent
from tests.unit.core.secure_world import frames, received

ADDRESS6 = {"addresses6": ("2001:db8::1/64",)}
ETH0 = interface(2, "eth0", "192.168.0.1/24")
ETH1 = interface(3, "eth1", "192.168.1.1/24", **ADDRESS6)
ETH6 = interface(4, "eth2", **ADDRESS6)
OWN, FAR, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
PORT = 51840


def settings_for(tmp_path, **changes):
    values = {
        "encapsulation": "secure",
        "network": "10.0.0.0/24",
        "address": "10.0.0.1",
        "routers": (),
        "forward": False,
        "device_name": "ropeway0",
        "device_mtu": None,
        "include": ("*",),
        "exclude": (),
        # A machine that stands still for a second is no matter of these tests.
        "max_age_s": 60.0,
        "peers": (model.Peer("10.0.0.2", (keys.public_of(FAR),), (("192.168.0.2", PORT),)),),
        "private_key": OWN,
        "control": model.Control(path=str(tmp_path / "control.sock")),
        **changes,
    }
    return model.Config(**values)


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    fake = FakeKernel()
    fake.interfaces = [ETH0]
    fake.install(monkeypatch)
    monkeypatch.setattr(chores.gc, "freeze", lambda: None)
    monkeypatch.setattr(chores.gc, "disable", lambda: None)
    monkeypatch.setattr(watch, "FINDINGS_EVERY_S", 0.02)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return fake


class FarHost:
    """Host 10.0.0.2 at 192.168.0.2, moved by hand over the agent's socket at eth0."""

    def __init__(self, kernel, private=FAR, known=OWN, mute=(), by=None):
        self.kernel = kernel
        self.mute = mute  # types of datagrams that get lost
        #: What gives the socket that its frames arrive at.
        self.by = by or (lambda: kernel.socket("eth0", "192.168.0.1"))
        self.delivered = []
        peers = (PeerSettings("10.0.0.1", (keys.public_of(known),)),)
        self.node = SecureNode(
            SecureSettings("10.0.0.2", "10.0.0.0/24", private_key=private, port=PORT, peers=peers,
                           epoch=1),
            time.monotonic(), random.Random(1), os.urandom,
        )  # fmt: skip
        near = {"192.168.0.1": "192.168.0.2"}
        link = Link(9, "far0", ("192.168.0.2/24",), 1500, True, (), near, frozenset(near))
        self.node.set_links([link], time.monotonic())
        self.taken = 0

    def call(self, address):
        """Call the agent there from now on."""
        settings = self.node.settings
        peers = tuple(
            dataclasses.replace(peer, endpoints=((address, PORT),)) for peer in settings.peers
        )
        self.node.reload(dataclasses.replace(settings, peers=peers), time.monotonic())

    def turn(self):
        """Move what waits, once."""
        socket = self.kernel.socket("eth0", "192.168.0.1")
        now = time.monotonic()
        while self.taken < len(socket.sent):
            to, datagram = socket.sent[self.taken]
            self.taken += 1
            if to == ("192.168.0.2", PORT):
                arrived = received(datagram, ("192.168.0.1", PORT))
                self.node.inbound([arrived], (9, "192.168.0.2"), now)
        if now >= self.node.deadline():
            self.node.tick(now)
        for (_, to), trains in self.node.take_trains().items():
            if to == ("192.168.0.1", PORT):
                for datagram in (d for d in frames(trains) if d[0] not in self.mute):
                    self.by().put((datagram, ("192.168.0.2", PORT)))
        self.delivered += self.node.take_packets()

    def until(self, condition):
        def turned():
            self.turn()
            return condition()

        return eventually(turned)

    def established(self):
        peers = self.node.status(time.monotonic())["peers"]
        return [c for peer in peers for c in peer["connections"] if c["carries"]]


def opened(kernel):
    """Return the keys of the sockets that are open."""
    return {link.key for link in kernel.links if not link.closed}


def test_what_sockets_there_should_be():
    link = Link(3, "eth1", ("192.168.1.1/24", "10.9.9.9/8"), 1500, True, ("2001:db8::1/64",))
    without = Link(5, "eth5", (), 1500, True)
    assert bindings.bindings([link, without], True) == {
        (3, "192.168.1.1"): (link, "192.168.1.1"),
        (3, "10.9.9.9"): (link, "10.9.9.9"),
        (3, "2001:db8::1"): (link, "2001:db8::1"),
    }
    assert bindings.bindings([link, without], False) == {3: (link, ""), 5: (without, "")}


def link_with(index, count4, count6):
    return Link(
        index,
        f"eth{index}",
        tuple(f"10.{index}.0.{n}/32" for n in range(count4)),
        1500,
        True,
        tuple(f"2001:db8:{index}::{n:x}/128" for n in range(count6)),
    )


@pytest.mark.parametrize(
    ("there", "used"),
    [((1100, 0), (8, 0)), ((1100, 1), (7, 1)), ((1100, 99), (4, 4)), ((2, 99), (2, 6))],
)
def test_sockets_of_a_link_are_bounded(there, used):
    wanted = bindings.bindings([link_with(3, *there)], True)
    addresses = [address for _, address in wanted]
    assert addresses == [f"10.3.0.{n}" for n in range(used[0])] + [
        f"2001:db8:3::{n:x}" for n in range(used[1])
    ]


@pytest.mark.parametrize("secure", [True, False])
def test_sockets_are_bounded_in_all(secure):
    many = [link_with(index, 8, 0) for index in range(1, 200)]
    assert len(bindings.bindings(many, secure, 21)) == 21


def test_addresses_beyond_the_bound_are_told_once(kernel, tmp_path, caplog):
    many = interface(2, "eth0", *(f"192.168.0.{n}/24" for n in range(101, 200)))
    kernel.interfaces = [many]
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: len(opened(kernel)) == 8)
        dumps = settled(kernel)
        kernel.change(many)
        eventually(lambda: kernel.dumps > dumps)
        (link,) = ask(settings, command="status")["links"]
        assert len(link["addresses"]) == 8
        assert link["unusable"] is None, "eight addresses are enough"

    run(make_agent(settings), steps)
    assert [r.getMessage() for r in caplog.records if "eth0(2)" in r.getMessage()][:1] == [
        "eth0(2): 91 of its 99 addresses stay unused, because they are too many"
    ]
    assert len([r for r in caplog.records if "too many" in r.getMessage()]) == 1


def test_link_that_gets_no_socket_at_all_is_told(kernel, tmp_path, monkeypatch):
    kernel.interfaces = [ETH0, ETH1]
    settings = settings_for(tmp_path)
    agent = make_agent(settings)
    monkeypatch.setattr(links, "sockets_max", lambda: 1)

    def steps():
        eventually(lambda: opened(kernel) == {(2, "192.168.0.1")})
        found = [link["unusable"] for link in ask(settings, command="status")["links"]]
        sentence = "2 of its 2 addresses stay unused, because they are too many"
        assert found == [None, sentence]

    run(agent, steps)


def test_start_serve_stop(kernel, tmp_path, caplog):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        status = ask(settings, command="status")
        assert status["encapsulation"] == "secure"
        assert status["device"]["mtu"] == 1440
        assert status["links"][0]["receive_drops"] == 7
        assert opened(kernel) == {(2, "192.168.0.1")}
        assert kernel.links[0].port == PORT

    run(make_agent(settings), steps)
    assert opened(kernel) == set()
    # Only what an earlier classic agent may have left is looked for.
    assert kernel.firewall == ["delete"]
    assert not [r for r in caplog.records if "neither authenticated" in r.getMessage()]
    assert sorted(os.listdir(tmp_path / "state")) == ["ropeway0.epoch", "ropeway0.resets"]


def test_packets_pass_both_ways(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        far = FarHost(kernel)
        far.until(far.established)
        outward, inward = packet("10.0.0.1", "10.0.0.2"), packet("10.0.0.2", "10.0.0.1")
        kernel.tun.put(outward)
        assert far.until(lambda: far.delivered) == [outward]
        far.node.outbound([inward], time.monotonic())
        far.until(lambda: kernel.tun.written)
        assert kernel.tun.written == [inward]
        sent = b"".join(datagram for _, datagram in kernel.links[0].sent)
        assert outward not in sent

    run(make_agent(settings), steps)


@pytest.fixture
def latency_file(monkeypatch, tmp_path):
    """Give what stands for the kernel's file of the limit, on a machine where it has an effect."""
    path = tmp_path / "cpu_dma_latency"
    path.write_bytes(b"")
    monkeypatch.setattr(cpu_latency, "PATH", str(path))
    monkeypatch.setattr(cpu_latency, "is_heeded", lambda: True)
    return path


class TestCpuLatency:
    """Processors are kept awake while packets of the virtual network pass."""

    @pytest.fixture
    def asked(self, latency_file):
        """Return a function that gives all that the kernel was asked for, -1 for nothing more."""
        return lambda: [v for (v,) in struct.iter_unpack("=i", latency_file.read_bytes())]

    def told(self, settings):
        process = ask(settings, command="status")["process"]
        return process["cpu_latency_us"], process["cpu_latency_held"]

    @pytest.mark.parametrize("way", ["out", "in"])
    def test_held_from_the_second_packet_until_no_more_come(self, kernel, tmp_path, asked, way):
        settings = settings_for(tmp_path, cpu_latency_us=7)

        def carry(far):
            if way == "out":
                kernel.tun.put(packet("10.0.0.1", "10.0.0.2"))
            else:
                far.node.outbound([packet("10.0.0.2", "10.0.0.1")], time.monotonic())
            return True

        def steps():
            eventually(lambda: kernel.links)
            far = FarHost(kernel)
            far.until(far.established)
            beaten = agent.pump.turn + 4
            far.until(lambda: agent.pump.turn > beaten)
            assert asked() == []
            assert self.told(settings) == (7, False)
            # Where this thread does not run for a while, it is taken back and asked for anew.
            far.until(lambda: carry(far) and self.told(settings) == (7, True))
            far.until(lambda: self.told(settings) == (7, False))
            assert asked() == [7, -1] * (len(asked()) // 2)
            assert asked()

        agent = make_agent(settings)
        run(agent, steps)

    def test_no_request_outlives_the_agent(self, kernel, tmp_path, latency_file):
        def steps():
            eventually(lambda: kernel.links)
            far = FarHost(kernel)
            far.until(far.established)
            far.until(
                lambda: (
                    kernel.tun.put(packet("10.0.0.1", "10.0.0.2")) or agent.pump.wakefulness.held
                )
            )

        agent = make_agent(settings_for(tmp_path, cpu_latency_us=0))
        run(agent, steps)
        assert not agent.pump.wakefulness.held
        assert not open_files(latency_file)

    def test_host_without_the_file_works_and_says_so(self, kernel, tmp_path, latency_file, caplog):
        latency_file.unlink()
        settings = settings_for(tmp_path, cpu_latency_us=0)

        def steps():
            eventually(lambda: kernel.links)
            reason = f"{latency_file}: No such file or directory"
            assert self.told(settings) == (reason, False)

        run(make_agent(settings), steps)
        assert "cpu_latency_us has no effect" in caplog.text

    def test_left_alone_by_default(self, kernel, tmp_path):
        settings = settings_for(tmp_path)

        def steps():
            eventually(lambda: kernel.links)
            assert self.told(settings) == ("not asked for", False)

        run(make_agent(settings), steps)


def open_files(path):
    """Return which descriptors of this process are of the file at `path`."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                found.append(name)
    return found


SUPPORT = {"vnet_hdr", "tso", "uso", "udp_segment", "udp_gro"}


def partial(source, destination):
    """Return a UDP packet whose checksum covers the pseudo-header alone, and the complete one."""
    addresses = b"".join(map(socket.inet_aton, (source, destination)))
    packet = bytearray(b"E\0\0\x20\0\1@\0@\x11\0\0" + addresses + b"\0\7\0\7\0\x0c\0\0call")
    packet[10:12] = ipv4.checksum(bytes(packet[:20])).to_bytes(2, "big")
    # The complement of a checksum is the sum.
    total = ipv4.checksum(addresses + b"\0\x11\0\x0c") ^ 0xFFFF
    packet[26:28] = total.to_bytes(2, "big")
    return bytes(packet), ipv4.complete(bytes(packet))


class TestOffload:
    """What is asked of the kernel, and what is said of it."""

    def test_what_the_kernel_has_is_used_and_told(self, kernel, tmp_path):
        settings = settings_for(tmp_path)
        kernel.offload = SUPPORT

        def steps():
            eventually(lambda: kernel.links)
            assert kernel.tun.asked_for == {"vnet_hdr", "tso", "uso"}
            assert kernel.links[0].asked_for == {"udp_segment", "udp_gro"}
            assert ask(settings, command="status")["offload"] == dict.fromkeys(SUPPORT, "on")

        run(make_agent(settings), steps)

    def test_what_it_has_not_is_told_with_the_reason(self, kernel, tmp_path):
        settings = settings_for(tmp_path)
        kernel.offload = {"vnet_hdr", "tso"}

        def steps():
            eventually(lambda: kernel.links)
            assert ask(settings, command="status")["offload"] == {
                "vnet_hdr": "on",
                "tso": "on",
                "uso": "not here",
                "udp_segment": "eth0: not here",
                "udp_gro": "eth0: not here",
            }

        run(make_agent(settings), steps)

    def test_what_the_configuration_forbids_is_not_asked_for(self, kernel, tmp_path):
        settings = settings_for(tmp_path, offload_disable=frozenset({"tso", "udp_gro"}))
        kernel.offload = SUPPORT

        def steps():
            eventually(lambda: kernel.links)
            assert kernel.tun.asked_for == {"vnet_hdr", "uso"}
            assert kernel.links[0].asked_for == {"udp_segment"}
            off = dict.fromkeys(("tso", "udp_gro"), "off by configuration")
            told = ask(settings, command="status")["offload"]
            assert told == {**dict.fromkeys(SUPPORT, "on"), **off}

        run(make_agent(settings), steps)

    def test_one_link_that_is_behind_is_named(self, kernel, tmp_path):
        kernel.interfaces = [ETH0, dataclasses.replace(ETH1, addresses6=())]
        settings = settings_for(tmp_path)
        kernel.offload = SUPPORT

        def steps():
            eventually(lambda: len(kernel.links) == 2)
            kernel.link("eth1").features["udp_segment"] = "EIO"
            told = ask(settings, command="status")["offload"]
            assert told == {**dict.fromkeys(SUPPORT, "on"), "udp_segment": "eth1: EIO"}

        run(make_agent(settings), steps)

    @pytest.mark.parametrize("offload", [SUPPORT, set()])
    def test_checksums_stay_partial_where_both_devices_take_them(self, kernel, tmp_path, offload):
        settings = settings_for(tmp_path)
        kernel.offload = offload
        outward, inward = partial("10.0.0.1", "10.0.0.2"), partial("10.0.0.2", "10.0.0.1")
        # struct virtio_net_hdr: the checksum is to be completed, from byte 20 on, at 6.
        header = segments.VNET.pack(1, 0, 0, 0, 20, 6)

        def steps():
            eventually(lambda: kernel.links)
            far = FarHost(kernel)
            far.node.take_partial()
            far.until(far.established)
            # The way there is known from the second packet on.
            first = packet("10.0.0.1", "10.0.0.2")
            kernel.tun.put(bytes(10) + first if offload else first)
            assert far.until(lambda: far.delivered) == [first]
            far.node.outbound([packet("10.0.0.2", "10.0.0.1")], time.monotonic())
            far.until(lambda: kernel.tun.written)
            far.node.outbound([inward[0]], time.monotonic(), True)
            if offload:
                taken = []

                def came():
                    # Until the far host has said that it takes them, packets are complete.
                    kernel.tun.put(header + outward[0])
                    taken.extend(far.node.take_partial_packets())
                    return taken

                assert far.until(came)[0] == outward[0]
                assert far.until(lambda: kernel.tun.written_partial) == [inward[0]]
            else:
                far.until(lambda: len(kernel.tun.written) == 2)
                assert kernel.tun.written[1] == inward[1]

        run(make_agent(settings), steps)

    def test_classic_networks_ask_for_nothing(self, kernel, tmp_path):
        settings = settings_for(tmp_path, encapsulation="classic", peers=(), private_key=b"")
        kernel.offload = SUPPORT

        def steps():
            eventually(lambda: kernel.links)
            assert kernel.tun.asked_for == frozenset()
            assert "offload" not in ask(settings, command="status")

        run(make_agent(settings), steps)


def test_what_is_dropped_for_want_of_time_is_told_by_link_and_for_the_device(kernel, tmp_path):
    settings = settings_for(tmp_path)
    agent = make_agent(settings)

    def steps():
        eventually(lambda: kernel.links)
        status = ask(settings, command="status")
        assert status["device"]["dropped"] == status["links"][0]["dropped"] == {}
        assert status["links"][0]["buffers"] == {"send": 1 << 20, "receive": 2 << 20}
        agent.pump.device.outgoing.dropped["device", 0] = Counter(full=2)
        agent.pump.device.outgoing.dropped["device", 3] = Counter(full=1)
        agent.pump.ports.incoming.dropped[2, "192.168.0.1"] = Counter(overload=2, full=1)
        status = ask(settings, command="status")
        assert status["device"]["dropped"] == {"full": 3}
        assert status["links"][0]["dropped"] == {"overload": 2, "full": 1}

    run(agent, steps)


def test_collector_does_not_run_beside_packets(kernel, tmp_path, monkeypatch):
    calls = []
    for name in ("collect", "freeze", "disable"):
        monkeypatch.setattr(chores.gc, name, lambda name=name: calls.append(name))
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        ask(settings, command="status")
        assert calls == ["collect", "freeze", "disable"]

    run(make_agent(settings), steps)


def test_garbage_is_collected_while_idle_or_at_the_latest_after_a_while(monkeypatch):
    calls, idle = [], [True]
    garbage = chores.Garbage(1000.0, lambda now: idle[0])

    def collected(after_s, is_idle):
        calls.clear()
        idle[0] = is_idle
        garbage.tick(1000.0 + after_s)
        return len(calls)

    monkeypatch.setattr(chores.gc, "collect", lambda: calls.append(1))
    late_s = chores.COLLECT_LATE_S
    assert collected(chores.COLLECT_S - 1, True) == 0
    assert collected(chores.COLLECT_S + 1, False) == 0
    assert collected(late_s - 1, False) == 0
    assert collected(late_s + 1, False) == 1
    assert collected(late_s + 2, True) == 0
    assert collected(late_s + chores.COLLECT_S + 2, True) == 1


def test_garbage_of_many_hosts_is_collected_less_often(monkeypatch):
    used_s, calls = [0.0], []

    def collect():
        calls.append(1)
        used_s[0] += 0.05

    monkeypatch.setattr(chores.gc, "collect", collect)
    monkeypatch.setattr(chores.time, "process_time", lambda: used_s[0])
    garbage = chores.Garbage(0.0, lambda now: True)
    seconds = 3000
    for now in range(seconds):
        garbage.tick(float(now))
    assert len(calls) > 10
    assert used_s[0] <= 1.2 * chores.COLLECT_SHARE * seconds


def test_where_hosts_called_from_is_kept_for_the_next_run(kernel, tmp_path):
    caller = model.Peer("10.0.0.2", (keys.public_of(FAR),), ())
    settings = settings_for(tmp_path, peers=(caller,))

    def call():
        eventually(lambda: kernel.links)
        far = FarHost(kernel)
        far.call("192.168.0.1")
        far.until(far.established)
        far.until(lambda: ask(settings, command="status")["peers"][0]["best_state"] == 2)

    def be_called():
        # A host that knows no endpoint never calls by itself.
        eventually(lambda: [link for link in kernel.links if not link.closed])
        far = FarHost(kernel)
        far.until(far.established)

    run(make_agent(settings), call)
    assert "ropeway0.callers" in os.listdir(tmp_path / "state")
    run(make_agent(settings), be_called)


def test_the_epoch_follows_the_clock_that_is_set_while_nobody_answers(
    kernel, tmp_path, monkeypatch
):
    ahead_s = [-1e9]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s[0])
    monkeypatch.setattr(tuning, "UNANSWERED_S", 0.2)
    settings = settings_for(tmp_path)
    path = tmp_path / "state" / "ropeway0.epoch"

    def steps():
        eventually(lambda: kernel.links)
        began = int(path.read_text())
        # A host that remembers this one from before its state was lost, and calls nobody back.
        far = FarHost(kernel, mute=(COOKIE,))
        far.node._peers.handshakes._stamps[keys.public_of(OWN)] = int(real() - 1e6) << 32
        far.until(lambda: far.node.status(0.0)["counters"]["dropped"]["stale"])
        assert int(path.read_text()) == began
        ahead_s[0] = 0.0
        far.until(far.established)
        assert int(path.read_text()) > real() - 60.0

    run(make_agent(settings), steps)


def test_own_address_that_stands_for_another_host_is_told_and_not_called(kernel, tmp_path, caplog):
    far = model.Peer(
        "10.0.0.2", (keys.public_of(FAR),), (("192.168.0.1", PORT), ("192.168.0.2", PORT))
    )
    settings = settings_for(tmp_path, peers=(far,))
    sentence = (
        "192.168.0.1 of host 10.0.0.2 is an address of this host, at eth0(2), and is left out:"
        " write one of that host's own"
    )

    def steps():
        eventually(lambda: kernel.links)
        other = FarHost(kernel)
        other.until(other.established)
        status = ask(settings, command="status")
        assert status["warnings"] == [sentence]
        found = [c["address"] for peer in status["peers"] for c in peer["connections"]]
        assert found == ["192.168.0.2"]
        kernel.change(interface(2, "eth0", "192.168.0.9/24"))
        eventually(lambda: ask(settings, command="status")["warnings"] == [])

    run(make_agent(settings), steps)
    assert [r.getMessage() for r in caplog.records].count(sentence) == 1


def test_sockets_follow_the_addresses(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def links():
        return [link["addresses"] for link in ask(settings, command="status")["links"]]

    def steps():
        eventually(lambda: kernel.links)
        first = kernel.links[0]
        kernel.change(ETH0, ETH1)
        both = {(2, "192.168.0.1"), (3, "192.168.1.1"), (3, "2001:db8::1")}
        eventually(lambda: opened(kernel) == both)
        # DHCP gave eth1 another address, and eth0 keeps its socket.
        kernel.change(ETH0, interface(3, "eth1", "192.168.1.99/24", **ADDRESS6))
        eventually(lambda: (3, "192.168.1.99") in opened(kernel))
        assert (3, "192.168.1.1") not in opened(kernel)
        assert not first.closed
        eventually(lambda: links() == [["192.168.0.1/24"], ["192.168.1.99/24", "2001:db8::1/64"]])
        kernel.change(interface(2, "eth0"), ETH6)
        eventually(lambda: opened(kernel) == {(4, "2001:db8::1")})
        assert links() == [[], ["2001:db8::1/64"]]

    run(make_agent(settings), steps)


def test_port_that_another_program_has_is_told_once_and_tried_again(
    kernel, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(links, "RETRY_S", 0.01)
    settings = settings_for(tmp_path)
    kernel.interfaces = [ETH0, ETH1]
    kernel.unusable["192.168.1.1"] = errno.EADDRINUSE

    def steps():
        eventually(lambda: kernel.refused > 3)
        found = ask(settings, command="status")["links"]
        # What cannot be sent from is no address to the node.
        assert [link["addresses"] for link in found] == [["192.168.0.1/24"], ["2001:db8::1/64"]]
        assert [link["unusable"] for link in found] == [
            None,
            "192.168.1.1: another program, perhaps a second agent, has UDP port 51840 there: stop"
            " it, or choose another port",
        ]
        assert ask(settings, command="status")["warnings"] == []
        kernel.unusable.clear()
        eventually(lambda: (3, "192.168.1.1") in opened(kernel))

    run(make_agent(settings), steps)
    assert [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()] == [
        "eth1(3) at 192.168.1.1 cannot be used: another program, perhaps a second agent, has UDP"
        " port 51840 there: stop it, or choose another port"
    ]


def test_agent_whose_port_is_taken_on_every_link_says_that_nothing_gets_through(
    kernel, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(links, "RETRY_S", 0.01)
    monkeypatch.setattr(chores, "STATUS_EVERY_S", 0.01)
    caplog.set_level("INFO", "ropeway")
    lines = []
    monkeypatch.setattr(systemd, "notify", lines.append)
    settings = settings_for(tmp_path)
    kernel.interfaces = [ETH0, interface(3, "eth1", "192.168.1.1/24")]
    kernel.unusable.update({f"192.168.{number}.1": errno.EADDRINUSE for number in range(2)})
    sentence = (
        "no link can be used, so no packet gets through: another program, perhaps a second agent,"
        " has UDP port 51840 there: stop it, or choose another port"
    )

    def steps():
        eventually(lambda: kernel.refused > 3)
        assert ask(settings, command="status")["warnings"] == [sentence]
        eventually(lambda: "STATUS=" + sentence in lines)
        kernel.unusable.clear()
        eventually(lambda: len(opened(kernel)) == 2)
        eventually(lambda: "links" in lines[-1])
        assert ask(settings, command="status")["warnings"] == []

    run(make_agent(settings), steps)
    told = [(r.levelname, r.getMessage()) for r in caplog.records if "link can" in r.getMessage()]
    assert told == [
        ("ERROR", sentence + "; trying again every 0 s"),
        ("INFO", "a link can be used again"),
    ]


class TestNamedAddress:
    """An address that the configuration names belongs to every link."""

    NAMED = "203.0.113.7"
    LO = interface(1, "lo", "127.0.0.1/8", "203.0.113.7/32", loopback=True, ethernet=False)

    def test_absent_one_is_told_once_and_taken_when_it_appears(self, kernel, tmp_path, caplog):
        kernel.interfaces = [ETH0, interface(3, "eth1", "192.168.1.1/24")]
        settings = settings_for(tmp_path, named_addresses=(self.NAMED,))
        sentence = (
            "interfaces.addresses: no interface has 203.0.113.7, so nothing comes to it: add it,"
            " or remove it from the configuration"
        )
        own = {(2, "192.168.0.1"), (3, "192.168.1.1")}

        def steps():
            eventually(lambda: opened(kernel) == own)
            assert ask(settings, command="status")["warnings"] == [sentence]
            kernel.change(self.LO, *kernel.interfaces[:2])
            eventually(lambda: opened(kernel) == own | {(2, self.NAMED), (3, self.NAMED)})
            status = ask(settings, command="status")
            assert status["warnings"] == []
            assert [link["addresses"] for link in status["links"]] == [
                ["192.168.0.1/24", "203.0.113.7/32"],
                ["192.168.1.1/24", "203.0.113.7/32"],
            ]
            assert not kernel.stray(self.NAMED)

        run(make_agent(settings), steps)
        assert [r.getMessage() for r in caplog.records].count(sentence) == 1

    def test_it_has_sockets_whatever_else_a_link_has(self, kernel, tmp_path):
        kernel.interfaces = [
            interface(2, "eth0", *(f"192.168.0.{n}/24" for n in range(1, 20))), self.LO,
        ]  # fmt: skip

        def steps():
            eventually(lambda: len(opened(kernel)) == bindings.ADDRESSES_PER_LINK_MAX)
            assert (2, self.NAMED) in opened(kernel)

        run(make_agent(settings_for(tmp_path, named_addresses=(self.NAMED,))), steps)


class TestTwoCardsInOneLan:
    """What comes for a link's address by another interface counts."""

    ETH1 = interface(3, "eth1", "192.168.0.7/24")

    def test_frames_that_come_by_another_card_count_for_the_link(self, kernel, tmp_path):
        def steps():
            eventually(lambda: kernel.stray("192.168.0.1"))
            far = FarHost(kernel, by=lambda: kernel.stray("192.168.0.1"))
            far.until(far.established)
            inward = packet("10.0.0.2", "10.0.0.1")
            far.node.outbound([inward], time.monotonic())
            far.until(lambda: kernel.tun.written)
            assert kernel.tun.written == [inward]

        run(make_agent(settings_for(tmp_path)), steps)
        assert kernel.strays[0].closed

    def test_address_of_two_links_is_received_by_these_alone(self, kernel, tmp_path):
        twin = interface(3, "eth1", "192.168.0.1/24")

        def steps():
            eventually(lambda: kernel.stray("192.168.0.1"))
            kernel.change(ETH0, twin)
            eventually(lambda: opened(kernel) == {(2, "192.168.0.1"), (3, "192.168.0.1")})
            assert not kernel.stray("192.168.0.1")
            kernel.change(twin)
            eventually(lambda: kernel.stray("192.168.0.1") and kernel.stray("192.168.0.1").key)
            assert kernel.stray("192.168.0.1").key == (3, "192.168.0.1")

        run(make_agent(settings_for(tmp_path)), steps)

    def test_sockets_of_a_link_are_opened_anew_together(self, kernel, tmp_path):
        def steps():
            first = eventually(lambda: kernel.stray("192.168.0.1"))
            kernel.socket("eth0", "192.168.0.1").bound = False
            kernel.change(ETH0)
            eventually(lambda: kernel.stray("192.168.0.1") not in (None, first))
            assert first.closed

        run(make_agent(settings_for(tmp_path)), steps)

    def test_unforeseen_error_there_opens_both_anew(self, kernel, tmp_path):
        def steps():
            first = eventually(lambda: kernel.stray("192.168.0.1"))
            first.put(OSError(errno.EBADF, os.strerror(errno.EBADF)))
            eventually(lambda: kernel.stray("192.168.0.1") not in (None, first))
            assert len(kernel.links) == 2

        run(make_agent(settings_for(tmp_path)), steps)

    def test_where_they_are_lost_is_told_once(self, kernel, tmp_path, caplog):
        kernel.interfaces = [ETH0, self.ETH1]
        kernel.unusable[("stray", "192.168.0.1")] = errno.EMFILE
        settings = settings_for(tmp_path)
        sentence = (
            "eth0(2) and eth1(3) are both in 192.168.0.0/24, and eth1 answers ARP for 192.168.0.1"
            " too: frames for eth0 that come by eth1 are lost, because {}: set"
            " net.ipv4.conf.all.arp_ignore to 1"
        )
        refused = sentence.format("no socket can take them there (Too many open files)")
        strict = sentence.format(
            "rp_filter is strict at eth1 and answers leave by another interface"
        )

        def warnings():
            return ask(settings, command="status")["warnings"]

        def steps():
            eventually(lambda: opened(kernel) >= {(3, "192.168.0.7")})
            eventually(lambda: warnings() == [refused])
            kernel.reticent = {"eth1"}
            eventually(lambda: warnings() == [])
            kernel.reticent = set()
            dumps = settled(kernel)
            kernel.change(ETH0, self.ETH1)
            eventually(lambda: kernel.dumps > dumps and warnings() == [refused])
            del kernel.unusable["stray", "192.168.0.1"]
            kernel.change(ETH0, self.ETH1)
            eventually(lambda: warnings() == [])
            assert kernel.stray("192.168.0.1")
            kernel.strict = {"eth1"}
            eventually(lambda: strict in warnings())

        run(make_agent(settings), steps)
        told = [r.getMessage() for r in caplog.records if "arp_ignore" in r.getMessage()]
        assert told.count(refused) == 1


def test_strict_filter_is_told_where_it_keeps_a_link_from_hearing(kernel, tmp_path):
    settings = settings_for(
        tmp_path,
        peers=(
            model.Peer(
                "10.0.0.2",
                (keys.public_of(FAR),),
                tuple((f"192.168.{number}.2", PORT) for number in range(2)),
            ),
        ),
    )
    kernel.interfaces = [ETH0, interface(3, "eth1", "192.168.1.1/24")]

    def warnings():
        return ask(settings, command="status")["warnings"]

    def steps():
        eventually(lambda: len(opened(kernel)) == 2)
        assert warnings() == []
        kernel.strict = {"eth0", "eth1"}
        sentence = (
            "eth1(3): the kernel drops what comes from 192.168.1.2, because its route there leaves"
            " by eth0 and rp_filter is strict: set net.ipv4.conf.eth1.rp_filter to 2"
        )
        eventually(lambda: warnings() == [sentence])
        kernel.way_back = 0
        eventually(
            lambda: (
                [line.split(" and ")[0].split("because ")[1] for line in warnings()]
                == ["its route there is missing"] * 2
            )
        )
        # What is heard is not dropped, whatever the routes look like.
        far = FarHost(kernel)
        far.until(far.established)
        eventually(lambda: [line.split(":")[0] for line in warnings()] == ["eth1(3)"])

    run(make_agent(settings), steps)


def test_sends_that_are_refused_are_counted(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        kernel.links[0].refuse = {"ENOBUFS": 1}
        eventually(lambda: ask(settings, command="status")["links"][0]["send_errors"])

    run(make_agent(settings), steps)


@pytest.mark.parametrize("command", ["remote-add", "remote-remove"])
def test_remotes_are_for_the_configuration_alone(kernel, tmp_path, command):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        sentence = "only the encapsulation classic has this command.*`ropeway reload`"
        with pytest.raises(client.ControlError, match=sentence):
            ask(settings, command=command, host="10.0.0.2", address="192.168.0.3")

    run(make_agent(settings), steps)


@pytest.mark.parametrize("message", [{"command": "reload"}])
def test_request_that_cannot_be_met_gets_a_sentence(kernel, tmp_path, message):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        with pytest.raises(client.ControlError):
            ask(settings, **message)
        assert ask(settings, command="status")["version"]

    run(make_agent(settings), steps)


@pytest.mark.parametrize("uid", [0, 1000])
def test_keys_of_sessions_are_for_root_alone(kernel, tmp_path, monkeypatch, caplog, uid):
    settings = settings_for(tmp_path)
    agent = make_agent(settings)
    monkeypatch.setattr(
        server.ControlServer,
        "_accept",
        lambda server, events, now, accept=server.ControlServer._accept: (
            accept(server, events, now),
            [setattr(client, "uid", uid) for client in server._clients.values()],
        ),
    )

    def steps():
        eventually(lambda: kernel.links)
        if uid:
            with pytest.raises(client.ControlError, match="for root alone"):
                ask(settings, command="keylog")
            return
        assert ask(settings, command="keylog") == []
        far = FarHost(kernel)
        far.until(far.established)
        (session,) = ask(settings, command="keylog")
        with contextlib.closing(client.Connection(settings.control.path)) as connection:
            for _ in range(3):
                assert connection.request({"command": "keylog"}) == [session]
        given_out = [r for r in caplog.records if "keys of the sessions" in r.getMessage()]
        assert len(given_out) == 3, "one warning for each connection"
        (there,) = far.node.session_keys()
        assert (session["receive_key"], session["send_key"]) == (
            there["send_key"], there["receive_key"]
        )  # fmt: skip

    run(agent, steps)


def test_classic_network_has_no_session_keys(kernel, tmp_path):
    settings = settings_for(tmp_path, encapsulation="classic", peers=())

    def steps():
        eventually(lambda: kernel.links)
        with pytest.raises(client.ControlError, match="only the encapsulation secure"):
            ask(settings, command="keylog")

    run(make_agent(settings), steps)


def test_way_of_a_packet_is_explained_over_the_control_socket(kernel, tmp_path):
    settings = settings_for(tmp_path)
    question = {"destination": "10.0.0.2", "dscp": 0, "protocol": 17, "port": 0, "size": 100}

    def steps():
        eventually(lambda: kernel.links)
        far = FarHost(kernel)
        far.until(far.established)
        answer = ask(settings, command="explain", **question)
        assert (answer["next_hop"], answer["class"], answer["fault"]) == ("10.0.0.2", None, None)
        for wrong in (
            {"destination": "nowhere"},
            {"destination": None},
            {"dscp": 64},
            {"protocol": "udp"},
            {"port": -1},
            {"size": 27},
            {"size": 65536},
            {"size": True},
        ):
            with pytest.raises(client.ControlError, match=next(iter(wrong))):
                ask(settings, command="explain", **{**question, **wrong})

    run(make_agent(settings), steps)


class TestReload:
    """The file is read again while packets pass."""

    @pytest.fixture
    def file(self, tmp_path):
        (tmp_path / "key").write_text(keys.encode(OWN) + "\n")
        (tmp_path / "key").chmod(0o600)
        self.path = tmp_path / "ropeway.yaml"
        self.own = f"private_key_file: {tmp_path}/key\ncontrol: {{path: {tmp_path}/control.sock}}\n"
        self.write()
        return self

    def write(self, peers=((2, FAR),), more="", start="network: 10.0.0.0/24\naddress: 10.0.0.1\n"):
        lines = [
            f"- {{host: 10.0.0.{n}, public_key: {keys.encode(keys.public_of(private))},"
            f" addresses: [192.168.0.{n}]}}\n"
            for n, private in peers
        ]
        self.replace(start + self.own + "peers:\n" + "".join(lines) + more)

    def replace(self, text):
        # At once, so that a reading that is on finds the old file or the new one, never half.
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def agent(self):
        self.settings = read.read(str(self.path))
        return make_agent(self.settings, str(self.path))

    def hosts(self):
        return [peer["host"] for peer in ask(self.settings, command="status")["peers"]]

    def test_peers_come_and_go_and_sessions_stay(self, kernel, file):
        def steps():
            eventually(lambda: kernel.links)
            far = FarHost(kernel)
            far.until(far.established)
            session = ask(file.settings, command="keylog")
            file.write(peers=((2, FAR), (3, OTHER)))
            assert ask(file.settings, command="reload") is None
            assert file.hosts() == ["10.0.0.2", "10.0.0.3"]
            assert ask(file.settings, command="keylog") == session
            file.write(peers=((3, OTHER),))
            ask(file.settings, command="reload")
            assert file.hosts() == ["10.0.0.3"]
            assert ask(file.settings, command="keylog") == []

        run(file.agent(), steps)

    def test_routers_come_and_go(self, kernel, file):
        def steps():
            eventually(lambda: kernel.links)
            both = ((2, FAR), (3, OTHER))
            for listed in (["10.0.0.2", "10.0.0.3"], ["10.0.0.3"]):
                file.write(peers=both, more=f"routers: [{', '.join(listed)}]\n")
                assert ask(file.settings, command="reload") is None
                status = ask(file.settings, command="status")
                assert [router["host"] for router in status["routers"]] == listed
                assert status["router"] == listed[0]

        run(file.agent(), steps)

    def test_hangup_reloads_too(self, kernel, file):
        def steps():
            eventually(lambda: kernel.links)
            file.write(peers=((3, OTHER),))
            os.kill(os.getpid(), signal.SIGHUP)
            eventually(lambda: file.hosts() == ["10.0.0.3"])

        run(file.agent(), steps)

    def test_own_key_changes(self, kernel, file):
        def steps():
            eventually(lambda: kernel.links)
            before = ask(file.settings, command="status")["public_key"]
            (file.path.parent / "key").write_text(keys.encode(OTHER))
            ask(file.settings, command="reload")
            after = ask(file.settings, command="status")["public_key"]
            assert (before, after) == (
                keys.encode(keys.public_of(OWN)), keys.encode(keys.public_of(OTHER))
            )  # fmt: skip

        run(file.agent(), steps)

    def test_patterns_of_interfaces_change(self, kernel, file):
        def steps():
            eventually(lambda: kernel.links)
            file.write(more="interfaces: {exclude: [eth0]}\n")
            ask(file.settings, command="reload")
            eventually(lambda: opened(kernel) == set())

        run(file.agent(), steps)

    def test_bound_of_a_packets_age_changes(self, kernel, file):
        agent = file.agent()

        def steps():
            eventually(lambda: kernel.links)
            for more, max_age_s in (("max_age_s: 5\n", 5.0), ("max_age_s: 0\n", float("inf"))):
                file.write(more=more)
                ask(file.settings, command="reload")
                assert agent.loop.bound.max_age_s == max_age_s
                assert agent.made.secure._peers.settling.max_age_s == max_age_s
            file.write()
            ask(file.settings, command="reload")
            assert agent.loop.bound.max_age_s == model.DEFAULT_MAX_AGE_S

        run(agent, steps)

    def test_limit_for_processors_changes(self, kernel, file, latency_file):
        def granted():
            return ask(file.settings, command="status")["process"]["cpu_latency_us"]

        def steps():
            eventually(lambda: kernel.links)
            for more, limit, descriptors in (
                ("cpu_latency_us: 0\n", 0, 1),
                ("cpu_latency_us: 20\n", 20, 1),
                ("", "not asked for", 0),
            ):
                file.write(more=more)
                ask(file.settings, command="reload")
                assert granted() == limit
                assert len(open_files(latency_file)) == descriptors
            # What was refused is tried again by a reload, though the file says the same.
            latency_file.unlink()
            for reason in (f"{latency_file}: No such file or directory", 0):
                file.write(more="cpu_latency_us: 0\n")
                ask(file.settings, command="reload")
                assert granted() == reason
                latency_file.write_bytes(b"")

        run(file.agent(), steps)

    @pytest.mark.parametrize(
        ("more", "named"),
        [
            ("port: 51841\n", "port: only a restart"),
            ("forward: true\ndevice: {name: rope7}\n", "device.name, forward: only a restart"),
            ("rollover_s: 60\n", "rollover_s: only a restart"),
            ("encapsulation: classic\n", None),
        ],
    )
    def test_what_only_a_restart_changes_is_named_and_nothing_changes(
        self, kernel, file, more, named
    ):
        def steps():
            eventually(lambda: kernel.links)
            if named is None:
                start = "encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.0.1\n"
                file.replace(start + file.own.splitlines()[1] + "\n")
            else:
                file.write(peers=((3, OTHER),), more=more)
            with pytest.raises(client.ControlError) as caught:
                ask(file.settings, command="reload")
            assert caught.value.reason == answer.REASON_RESTART
            assert str(caught.value).startswith(named or "encapsulation: only a restart")
            assert file.hosts() == ["10.0.0.2"]

        run(file.agent(), steps)

    def test_mistake_in_the_file_changes_nothing(self, kernel, file):
        def steps():
            eventually(lambda: kernel.links)
            file.write(peers=((3, OTHER),), more="prot: 1\n")
            with pytest.raises(client.ControlError, match="did you mean port") as caught:
                ask(file.settings, command="reload")
            assert caught.value.reason is None
            assert file.hosts() == ["10.0.0.2"]

        run(file.agent(), steps)

    def test_request_that_names_the_agents_own_file(self, kernel, file, tmp_path):
        (tmp_path / "other").symlink_to(tmp_path)

        def steps():
            eventually(lambda: kernel.links)
            file.write(peers=((3, OTHER),))
            ask(file.settings, command="reload", config=str(tmp_path / "other" / "ropeway.yaml"))
            assert file.hosts() == ["10.0.0.3"]

        run(file.agent(), steps)

    @pytest.mark.parametrize("named", ["/etc/other.yaml", "ropeway.yaml", 5, ""])
    def test_request_that_names_another_file_is_refused(self, kernel, file, named):
        def steps():
            eventually(lambda: kernel.links)
            file.write(peers=((3, OTHER),))
            with pytest.raises(client.ControlError, match=f"this agent reads {file.path}"):
                ask(file.settings, command="reload", config=named)
            assert file.hosts() == ["10.0.0.2"]

        run(file.agent(), steps)

    def test_reading_that_never_ends_is_given_up(self, kernel, file, monkeypatch):
        agent = file.agent()
        begun, genuine = [], reading.Reading

        def begin(path):
            begun.append(genuine(path))
            return begun[-1]

        monkeypatch.setattr(reading, "Reading", begin)
        monkeypatch.setattr(configuration, "READING_LIMIT_S", 0.05)
        monkeypatch.setattr(read, "read", lambda path: signal.pause())

        def steps():
            eventually(lambda: kernel.links)
            with pytest.raises(client.ControlError, match="takes too long"):
                ask(file.settings, command="reload")
            assert file.hosts() == ["10.0.0.2"]

        run(agent, steps)
        # It has ended, and nobody has to wait for it. Other tests may have left children of theirs.
        with pytest.raises(ChildProcessError):
            os.waitpid(begun[-1]._child, os.WNOHANG)

    @pytest.fixture
    def gate(self, monkeypatch, tmp_path):
        """Let each reading go on, once it has the file, when it is given a byte."""
        # The child that reads has none of the descriptors here, so it finds the pipe by its name.
        gate = str(tmp_path / "gate")
        os.mkfifo(gate)
        opener = os.open(gate, os.O_RDWR)
        genuine = read.read
        # However long the test takes to let it go on.
        monkeypatch.setattr(reload, "READING_LIMIT_S", 600.0)
        monkeypatch.setattr(configuration, "READING_LIMIT_S", 600.0)

        def slowly(path):
            found = genuine(path)
            with open(gate, "rb", buffering=0) as pipe:
                pipe.read(1)
            return found

        yield lambda: monkeypatch.setattr(read, "read", slowly), lambda: os.write(opener, b"x")
        os.close(opener)

    def test_packets_pass_while_the_file_is_read(self, kernel, file, gate):
        agent = file.agent()
        shut, let_one = gate
        shut()

        def steps():
            eventually(lambda: kernel.links)
            file.write(peers=((2, FAR), (3, OTHER)))
            os.kill(os.getpid(), signal.SIGHUP)
            eventually(lambda: agent.reload._number)
            far = FarHost(kernel)
            far.until(far.established)
            let_one()
            eventually(lambda: len(file.hosts()) == 2)

        run(agent, steps)

    def test_change_during_a_reading_is_read_once_more(self, kernel, file, gate):
        agent = file.agent()
        shut, let_one = gate
        shut()
        done = []

        def wait_for(name):
            thread = threading.Thread(
                target=lambda: done.append((name, ask(file.settings, command="reload")))
            )
            thread.start()
            return thread

        def steps():
            eventually(lambda: kernel.links)
            first = wait_for("first")
            eventually(lambda: agent.reload._number)
            waiting = agent.reload._number
            later = [wait_for("second"), wait_for("third")]
            eventually(lambda: len(agent.reload._answers_next) == 2)
            let_one()
            first.join()
            eventually(lambda: agent.reload._number not in (0, waiting))
            assert done == [("first", None)]
            # A signal does not wait for an answer, but for the change to hold.
            file.write(peers=((3, OTHER),))
            os.kill(os.getpid(), signal.SIGHUP)
            eventually(lambda: agent.reload._again)
            let_one()
            for thread in later:
                thread.join()
            let_one()
            eventually(lambda: file.hosts() == ["10.0.0.3"])

        run(agent, steps)
        assert sorted(name for name, _ in done) == ["first", "second", "third"]


def test_reload_of_a_classic_network_changes_its_remotes(kernel, tmp_path):
    path = tmp_path / "ropeway.yaml"

    def write(*peers):
        text = "encapsulation: classic\nnetwork: 10.0.0.0/24\naddress: 10.0.0.1\n"
        text += f"control: {{path: {tmp_path}/control.sock}}\npeers:\n"
        path.write_text(text + "".join(f"- {peer}\n" for peer in peers))

    def remotes():
        peers = ask(settings, command="status")["peers"]
        return {p["host"]: [r["address"] for r in p["remotes"]] for p in peers}

    write("{host: 10.0.0.2, addresses: [192.168.0.2, 192.168.1.2]}",
          "{host: 10.0.0.3, addresses: [192.168.0.3]}")  # fmt: skip
    settings = read.read(str(path))

    def steps():
        eventually(lambda: kernel.links)
        assert set(remotes()) == {"10.0.0.2", "10.0.0.3"}
        write("{host: 10.0.0.2, addresses: [192.168.1.2]}",
              "{host: 10.0.0.4, addresses: [192.168.0.4]}")  # fmt: skip
        ask(settings, command="reload")
        assert remotes() == {"10.0.0.2": ["192.168.1.2"], "10.0.0.4": ["192.168.0.4"]}

    run(make_agent(settings, str(path)), steps)


def test_the_node_is_told_from_which_address_the_kernel_would_send(kernel, tmp_path, monkeypatch):
    kernel.interfaces = [interface(2, "eth0", "10.1.1.5/24", "192.168.7.2/24")]
    kernel.routes = {(2, "198.51.100.3"), (2, "198.51.100.4")}
    kernel.sources["eth0", "198.51.100.3"] = "192.168.7.2"
    kernel.sources["eth0", "198.51.100.4"] = "192.168.7.2"
    names = (("far.example", PORT),)
    known = model.Peer("10.0.0.2", (keys.public_of(FAR),), (("198.51.100.3", PORT),), names)
    settings = settings_for(tmp_path, peers=(known,))
    records = []
    monkeypatch.setattr(socket, "getaddrinfo", resolver_of(records))
    told = []
    set_links = SecureNode.set_links
    monkeypatch.setattr(
        SecureNode,
        "set_links",
        lambda node, links, now: told.append(links) or set_links(node, links, now),
    )

    def steps():
        assert eventually(lambda: told)
        eventually(lambda: told[-1][0].source_for("198.51.100.3") == "192.168.7.2")
        assert told[-1][0].looked_up == {"198.51.100.3"}
        records.append("198.51.100.4")
        assert eventually(lambda: told[-1][0].source_for("198.51.100.4") == "192.168.7.2")

    run(make_agent(settings), steps)


def resolver_of(records):
    """Return what resolves every name to `records`, as getaddrinfo(3) does."""

    def getaddrinfo(*_host_and_port, **_hints):
        if not records:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (one, 0)) for one in records]

    return getaddrinfo


def test_a_name_that_does_not_resolve_is_a_warning_until_it_does(kernel, tmp_path, monkeypatch):
    known = model.Peer("10.0.0.2", (keys.public_of(FAR),), (), (("far.example", PORT),))
    settings = settings_for(tmp_path, peers=(known,))
    records = []
    monkeypatch.setattr(socket, "getaddrinfo", resolver_of(records))

    def warnings():
        found = ask(settings, command="status")["warnings"]
        return [sentence for sentence in found if "far.example" in sentence]

    def peer():
        return ask(settings, command="status")["peers"][0]

    def steps():
        # There is a link before the name is tried again, or the far host could not be called.
        eventually(lambda: kernel.links)
        assert eventually(warnings)[0].startswith("far.example does not resolve (no such name)")
        assert peer()["names"] == [{"name": "far.example", "port": PORT, "addresses": []}]
        assert peer()["handshake"] == "its names have no address that can be used: waiting for one"
        records.append("192.168.0.2")
        eventually(lambda: not warnings())
        assert peer()["names"][0]["addresses"] == ["192.168.0.2"]
        assert peer()["endpoints"] == [f"192.168.0.2:{PORT}"]
        far = FarHost(kernel)
        far.until(far.established)

    run(make_agent(settings), steps)


# Copies of this machine.


def met(kernel, settings):
    """Give the far host once both ends have a session, and the key of that."""
    eventually(lambda: kernel.links)
    far = FarHost(kernel)
    far.until(far.established)
    far.until(lambda: ask(settings, command="status")["peers"][0]["best_state"] == 2)
    return far, keys_of(far)


def keys_of(far):
    return far.node.session_keys()[-1]["send_key"]


@pytest.mark.parametrize("announced", [True, False], ids=["a copy", "another device"])
def test_a_copy_of_this_machine_ends_its_sessions_and_makes_new_ones(
    kernel, tmp_path, caplog, announced
):
    settings = settings_for(tmp_path)

    def steps():
        far, key = met(kernel, settings)
        epoch = (tmp_path / "state/ropeway0.epoch").read_text()
        kernel.generation_hints.put(announced)
        eventually(lambda: not kernel.generation_hints.waiting)
        if announced:
            far.until(lambda: keys_of(far) != key)
            assert int((tmp_path / "state/ropeway0.epoch").read_text()) > int(epoch)
            assert len((tmp_path / "state/ropeway0.resets").read_text().split()) == 2
        else:
            far.until(far.established)
            assert keys_of(far) == key

    run(make_agent(settings), steps)
    told = [r for r in caplog.records if "cloned or set back to a snapshot" in r.getMessage()]
    assert bool([r for r in told if r.levelname == "WARNING"]) == announced


def test_a_wall_clock_that_is_set_has_sessions_replaced(kernel, tmp_path, monkeypatch, caplog):
    settings = settings_for(tmp_path)
    ahead_s = [0.0]
    monkeypatch.setattr(copies, "CONTINUITY_EVERY_S", 0.05)
    monkeypatch.setattr(
        copies, "Continuity", lambda: Continuity(wall_clock=lambda: time.time() + ahead_s[0])
    )

    def steps():
        far, key = met(kernel, settings)
        ahead_s[0] = 60.0
        far.until(lambda: keys_of(far) != key)
        # The session before went on until there was another one.
        assert not [r for r in caplog.records if "lost" in r.getMessage()]
        status = ask(settings, command="status")
        assert status["peers"][0]["session"]["rollovers"] == 1

    run(make_agent(settings), steps)
    (told,) = [r for r in caplog.records if "the wall clock was set" in r.getMessage()]
    assert told.getMessage().endswith(": replacing all sessions")


def test_another_boot_ends_sessions(kernel, tmp_path, monkeypatch):
    settings = settings_for(tmp_path)
    boot = ["a"]
    monkeypatch.setattr(copies, "CONTINUITY_EVERY_S", 0.05)
    monkeypatch.setattr(copies, "Continuity", lambda: Continuity(boot_id=lambda: boot[0]))

    def steps():
        far, key = met(kernel, settings)
        boot[0] = "b"
        far.until(lambda: keys_of(far) != key)

    run(make_agent(settings), steps)


def test_a_session_grows_old_while_the_machine_sleeps(kernel, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    settings = settings_for(tmp_path)
    slept_s = [0.0]
    monkeypatch.setattr(engine, "boot_clock", lambda: boot_clock() + slept_s[0])

    def steps():
        far, key = met(kernel, settings)
        slept_s[0] = 3600.0
        far.until(lambda: keys_of(far) != key)

    run(make_agent(settings), steps)
    assert [r for r in caplog.records if "it was not renewed" in r.getMessage()]


def test_a_kernel_that_cannot_tell_of_copies_is_no_fault(kernel, tmp_path, caplog):
    kernel.generation_fault = errno.EPROTONOSUPPORT
    settings = settings_for(tmp_path)
    run(make_agent(settings), lambda: met(kernel, settings))
    assert not [r for r in caplog.records if "cloned" in r.getMessage() and r.levelno > 20]
