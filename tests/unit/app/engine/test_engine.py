"""The engine over a kernel that exists only in memory, with the real node inside.

The loop runs in the main thread, as it must; the test's own steps run beside it and watch for
what the loop does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import socket
import threading
import time

import pytest

from ropeway.app import errors, systemd
from ropeway.app.config import model
from ropeway.app.control import client, tree
from ropeway.app.engine import (
    chores,
    engine,
    intake,
    links,
    loop,
    nodes,
    polling,
)
from ropeway.app.engine.freshness import Bound
from ropeway.core import redundancy
from ropeway.core.classic import frame as classic
from ropeway.kernel import tun
from ropeway.kernel.clock import boot_clock
from ropeway.steward import dump_schedule, firewall, upkeep
from ropeway.steward.interface import Change
from ropeway.steward.netlink import device as kernel_device
from ropeway.steward.netlink import steering
from ropeway.steward.netlink.steering import Steering
from ropeway.steward.settings import settings_of
from tests.unit.app.control import status_schema
from tests.unit.app.fake_kernel import FakeKernel, interface
from tests.unit.app.local_steward import make_agent
from tests.unit.core.classic_world import encode

ETH0 = interface(2, "eth0", "192.168.0.1/24")
ETH1 = interface(3, "eth1", "192.168.1.1/24")
#: Much more than anything takes: a dump during which the machine stood still for a second puts the
#: next one off by ten.
PATIENCE_S = 60.0


def frame(state=2, payload=b"", id_=0):
    """Return a frame from interface 9 of host 10.0.0.2 to eth0."""
    return encode(
        classic.Frame(
            identification=1,
            source=socket.inet_aton("192.168.0.2"),
            destination=socket.inet_aton("192.168.0.1"),
            host=socket.inet_aton("10.0.0.2"),
            src_index=9,
            dst_index=2,
            state=state,
            forward=bool(payload),
            id=id_,
            payload=payload,
        )
    )


def packet(source, destination):
    """Return an IPv4 packet without payload."""
    return (
        bytes.fromhex("4500001400000000400000 00".replace(" ", ""))
        + socket.inet_aton(source)
        + socket.inet_aton(destination)
    )


def settings_for(tmp_path, **changes):
    values = {
        "encapsulation": "classic",
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
        "remotes": (model.Remote("10.0.0.2", "192.168.0.2", 0),),
        "control": model.Control(path=str(tmp_path / "control.sock")),
        **changes,
    }
    return model.Config(**values)


@pytest.fixture
def kernel(monkeypatch):
    fake = FakeKernel()
    fake.interfaces = [interface(1, "lo", "127.0.0.1/8", loopback=True), ETH0]
    fake.install(monkeypatch)
    # The tests of other modules are not to run with a frozen collector.
    monkeypatch.setattr(chores.gc, "freeze", lambda: None)
    monkeypatch.setattr(chores.gc, "disable", lambda: None)
    return fake


def eventually(condition):
    """Wait until `condition` gives something true, and return it."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"it did not happen within {PATIENCE_S:.0f} s")


def settled(kernel):
    """Wait for the dumps of a start, the second after the device was set up; give their number."""
    eventually(lambda: kernel.links and kernel.dumps >= 2)
    return kernel.dumps


def signals_are_taken():
    """Say whether an agent runs here, so that a signal stops it and not the tests."""
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(getattr(handler, "__self__", None), loop.Signals)


class EveryTurn:
    """A part that ticks in each turn of an agent's loop from now on."""

    def __init__(self, agent, tick):
        self.tick = tick
        agent.loop.add(self)

    def deadline(self):
        return 0.0


def run(agent, steps):
    """Run `agent` here and `steps` beside it; stop the agent when the steps are through."""
    failures = []

    def beside():
        try:
            eventually(signals_are_taken)
            steps()
        except BaseException as error:
            failures.append(error)
        finally:
            if signals_are_taken():
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        agent.run()
    finally:
        thread.join()
    if failures:
        raise failures[0]


def ask(settings, **message):
    answer = client.request(settings.control.path, message, PATIENCE_S)
    if message["command"] == "status":
        assert status_schema.faults(answer) == []
    return answer


def connections(settings):
    return [c for peer in ask(settings, command="status")["peers"] for c in peer["connections"]]


def test_start_serve_stop(kernel, tmp_path):
    settings = settings_for(tmp_path)
    agent = make_agent(settings)

    def steps():
        eventually(lambda: kernel.links)
        status = ask(settings, command="status")
        assert list(status)[:2] == ["version", "uptime_s"]
        assert status["device"] == {
            "name": "ropeway0", "index": 20, "mtu": 1466, "read_errors": {}, "write_errors": {},
            "dropped": {},
        }  # fmt: skip
        assert [link["name"] for link in status["links"]] == ["eth0"]
        assert status["links"][0]["receive_drops"] == 7
        assert not kernel.dumpable

    run(agent, steps)
    assert kernel.configured == [(20, "10.0.0.1/24", 1466, "ropeway")]
    assert kernel.firewall == ["replace", "delete"]
    assert all(opened.closed for opened in [*kernel.tuns, *kernel.links, kernel.hints])
    assert not os.path.exists(settings.control.path)


def test_packets_pass_both_ways(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        assert eventually(lambda: link.sent)[0][0] == "192.168.0.2"
        link.put(frame())
        eventually(lambda: [c for c in connections(settings) if c["carries"]])
        outward = packet("10.0.0.1", "10.0.0.2")
        kernel.tun.put(outward)
        address, datagram = eventually(
            lambda: next((sent for sent in link.sent if sent[1].endswith(outward)), None)
        )
        assert address == "192.168.0.2"
        assert datagram[0] == 0x48
        inward = packet("10.0.0.2", "10.0.0.1")
        copy = frame(payload=inward, id_=1)
        link.put(copy)
        link.put(copy)
        eventually(lambda: kernel.tun.written)
        eventually(lambda: ask(settings, command="status")["counters"]["duplicates"] == 1)
        assert kernel.tun.written == [inward]

    run(make_agent(settings), steps)


@pytest.fixture
def stand_still(kernel, monkeypatch):
    """Return a function that lets the agent stand still while something is done."""
    ahead = [0.0]
    monkeypatch.setattr(engine, "boot_clock", lambda: boot_clock() + ahead[0])

    def stand(settings, seconds, do):
        stands, goes_on = threading.Event(), threading.Event()
        monkeypatch.setattr(
            kernel.link("eth0"), "receive_drops", lambda: stands.set() or goes_on.wait() * 7
        )
        asking = threading.Thread(target=ask, args=(settings,), kwargs={"command": "status"})
        asking.start()
        assert stands.wait(PATIENCE_S)
        ahead[0] += seconds
        do()
        goes_on.set()
        asking.join()

    return stand


def expired(settings):
    """Return how many packets were too old: of the device, of the links, in the agent's hands."""
    status = ask(settings, command="status")
    return [
        place["dropped"].get("expired", 0)
        for place in (status["device"], *status["links"], status["counters"])
    ]


def test_what_waited_while_the_agent_stood_still_is_dropped_and_what_is_fresh_is_not(
    kernel, tmp_path, stand_still
):
    # So much that a busy machine makes nothing of it too old.
    settings = settings_for(tmp_path, max_age_s=15.0)
    outward = [packet("10.0.0.1", f"10.0.0.{number}") for number in range(2, 250)]
    inward = [packet("10.0.0.2", "10.0.0.1")[:4] + bytes([0, n]) + bytes(2)
              + packet("10.0.0.2", "10.0.0.1")[8:] for n in range(200)]  # fmt: skip

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        link.put(frame())
        (before,) = eventually(lambda: [c for c in connections(settings) if c["carries"]])

        def come():
            for one in outward:
                kernel.tun.put(one)
            for number, one in enumerate(inward):
                age_s = 30.0 - number / 20 if number < 190 else 0.0
                link.put(frame(payload=one, id_=number), age_s)

        stand_still(settings, 30.0, come)
        eventually(lambda: not kernel.tun.waiting and not link.waiting)
        eventually(lambda: len(kernel.tun.written) >= 10)
        assert kernel.tun.written == inward[190:]
        assert not [one for _, one in link.sent if len(one) > classic.OVERHEAD]
        assert expired(settings) == [len(outward), 190, 0]
        (after,) = connections(settings)
        assert after["received"] >= before["received"] + 200, "each frame was heard"
        assert after["state"] == 2
        kernel.tun.put(packet("10.0.0.1", "10.0.0.2"))
        eventually(lambda: [one for _, one in link.sent if len(one) > classic.OVERHEAD])

    run(make_agent(settings), steps)


def test_what_the_agent_has_in_hand_when_it_is_stopped_is_dropped(kernel, tmp_path, monkeypatch):
    settings, ahead = settings_for(tmp_path, max_age_s=15.0), [0.0]
    monkeypatch.setattr(engine, "boot_clock", lambda: boot_clock() + ahead[0])
    agent = make_agent(settings)

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        link.put(frame())
        eventually(lambda: [c for c in connections(settings) if c["carries"]])
        outbound = agent.made.node.outbound

        def stopped(*arguments):
            outbound(*arguments)
            ahead[0] += 16.0

        monkeypatch.setattr(agent.made.node, "outbound", stopped)
        kernel.tun.put(packet("10.0.0.1", "10.0.0.2"))
        # A client that connected before that would count as idle for all that time.
        eventually(lambda: ahead[0])
        eventually(lambda: expired(settings) == [0, 0, 1])
        monkeypatch.setattr(agent.made.node, "outbound", outbound)
        link.put(frame(payload=packet("10.0.0.2", "10.0.0.1"), id_=1))
        eventually(lambda: kernel.tun.written)
        assert not [one for _, one in link.sent if len(one) > classic.OVERHEAD]

    run(agent, steps)


def test_without_a_bound_everything_is_delivered_however_old(kernel, tmp_path, stand_still):
    settings = settings_for(tmp_path, max_age_s=0.0)

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        link.put(frame())
        eventually(lambda: [c for c in connections(settings) if c["carries"]])

        def come():
            kernel.tun.put(packet("10.0.0.1", "10.0.0.2"))
            link.put(frame(payload=packet("10.0.0.2", "10.0.0.1")), age_s=30.0)

        stand_still(settings, 30.0, come)
        eventually(lambda: kernel.tun.written)
        eventually(lambda: [one for _, one in link.sent if len(one) > classic.OVERHEAD])
        assert expired(settings) == [0, 0, 0]

    run(make_agent(settings), steps)


def test_a_quiet_agent_sleeps_for_a_fifth_of_the_bound_at_most(kernel, tmp_path):
    agent = make_agent(settings_for(tmp_path, max_age_s=0.5))
    asked = []

    class Watched:
        def __init__(self, epoll):
            self.register, self.unregister, self.close = (
                epoll.register,
                epoll.unregister,
                epoll.close,
            )
            self._poll = epoll.poll

        def poll(self, wait_s, events):
            asked.append(wait_s)
            return self._poll(wait_s, events)

    agent.loop._epoll = Watched(agent.loop._epoll)

    def steps():
        settled(kernel)
        eventually(lambda: len([wait_s for wait_s in asked if wait_s > 0]) > 10)

    run(agent, steps)
    assert max(asked) <= 0.1 + 1e-9


def test_interfaces_that_come_and_go_become_links_at_once(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def links():
        return [link["name"] for link in ask(settings, command="status")["links"]]

    def steps():
        eventually(lambda: kernel.links)
        kernel.change(ETH0, ETH1)
        eventually(lambda: links() == ["eth0", "eth1"])
        kernel.change(ETH1)
        eventually(lambda: links() == ["eth1"])
        assert kernel.link("eth0").closed
        # The same name under another index is another interface.
        kernel.change(interface(7, "eth1", "192.168.1.1/24"))
        eventually(lambda: kernel.link("eth1").index == 7)
        assert links() == ["eth1"]

    run(make_agent(settings), steps)


def test_burst_of_hints_costs_few_dumps(kernel, tmp_path):
    def steps():
        eventually(lambda: kernel.links)
        before, began = kernel.dumps, time.monotonic()
        for _ in range(100):
            kernel.hints.put(b"hint")
            time.sleep(0.001)
        eventually(lambda: not kernel.hints.waiting)
        # What was drained at last may have to wait for its dump.
        eventually(lambda: kernel.dumps > before)
        dumps, took_s = kernel.dumps - before, time.monotonic() - began
        assert dumps <= took_s / dump_schedule.DUMP_GAP_S + 2

    run(make_agent(settings_for(tmp_path)), steps)


def test_hint_at_routes_costs_look_ups_and_no_dump(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        ask(settings, command="remote-add", host="10.0.0.7", address="172.20.0.7")
        assert not [
            c for c in connections(settings) if c["address"] == "172.20.0.7" and c["routed"]
        ]
        dumps = settled(kernel)
        kernel.routes.add((2, "172.20.0.7"))
        kernel.hints.put(Change.ROUTES)
        eventually(
            lambda: [
                c for c in connections(settings) if c["address"] == "172.20.0.7" and c["routed"]
            ]
        )
        assert kernel.dumps == dumps

    run(make_agent(settings), steps)


def test_link_whose_sockets_fail_is_tried_again(kernel, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(links, "RETRY_S", 0.01)
    settings = settings_for(tmp_path)
    kernel.unusable["eth0"] = errno.ENODEV

    def steps():
        eventually(lambda: kernel.refused > 3)
        status = ask(settings, command="status")
        assert status["links"] == [
            {
                "index": 2,
                "name": "eth0",
                "addresses": ["192.168.0.1/24"],
                "mtu": 1500,
                "up": False,
                "carries": False,
                "fault": "it cannot be used: No such device",
                "send_errors": {},
                "receive_drops": 0,
                "dropped": {},
                "buffers": {},
                "unusable": "No such device",
                "cost": 0,
                "metered": False,
            }
        ]
        assert tree.summary(status).startswith("0 of 1 links carry")
        kernel.unusable.clear()
        eventually(lambda: kernel.links)
        (link,) = eventually(lambda: ask(settings, command="status")["links"])
        assert (link["up"], link["unusable"]) == (True, None)

    run(make_agent(settings), steps)
    assert [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()] == [
        "eth0(2) cannot be used: No such device"
    ]


def test_interface_that_went_away_and_came_back_under_its_index_gets_new_sockets(kernel, tmp_path):
    def steps():
        old = eventually(lambda: kernel.links and kernel.link("eth0"))
        old.bound = False
        kernel.hints.put(b"it is back already")
        eventually(lambda: kernel.link("eth0") is not old)
        assert old.closed

    run(make_agent(settings_for(tmp_path)), steps)


def test_interface_that_only_went_down_keeps_its_sockets(kernel, tmp_path):
    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        dumps = settled(kernel)
        link.put(OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN)))
        eventually(lambda: kernel.dumps > dumps)
        assert kernel.links == [link]
        assert not link.closed

    run(make_agent(settings_for(tmp_path)), steps)


@pytest.mark.parametrize("code", [errno.ENETDOWN, errno.ENODEV, errno.EIO])
def test_receiving_that_fails_never_ends_the_loop(kernel, tmp_path, code):
    settings = settings_for(tmp_path)

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        dumps = settled(kernel)
        link.put(OSError(code, os.strerror(code)))
        eventually(lambda: kernel.dumps > dumps)
        eventually(lambda: not kernel.link("eth0").closed)
        kernel.link("eth0").put(frame())
        eventually(lambda: [c for c in connections(settings) if c["received"]])

    run(make_agent(settings), steps)


def test_sends_that_are_refused_are_counted(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        link.refuse = {"ENOBUFS": 1}
        eventually(lambda: ask(settings, command="status")["links"][0]["send_errors"])

    run(make_agent(settings), steps)


@pytest.mark.parametrize(
    "spoil",
    [
        {"admin_up": False},
        {"addresses": ()},
        {"mtu": 900},
        {"name": "renamed"},
        None,
    ],
    ids=["down", "no address", "other MTU", "renamed", "deleted"],
)
def test_device_that_somebody_changed_is_repaired(kernel, tmp_path, spoil):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.configured)
        device = kernel.interfaces[-1]
        others = [i for i in kernel.interfaces if i is not device]
        if spoil is None:
            tun = kernel.tun
            kernel.interfaces = others
            with contextlib.suppress(OSError):  # a dump has told already, and it is closed
                tun.put(OSError(errno.EBADFD, os.strerror(errno.EBADFD)))
        else:
            values = {"name": device.name, "addresses": device.addresses, **spoil}
            name, addresses = values.pop("name"), values.pop("addresses")
            values = {"kind": "tun", "mtu": 1466, "ethernet": False, **values}
            kernel.interfaces = [*others, interface(device.index, name, *addresses, **values)]
            kernel.hints.put(b"hint")
        eventually(lambda: len(kernel.configured) == 2)
        index = eventually(lambda: ask(settings, command="status")["device"]["index"])
        assert kernel.configured[1] == (index, "10.0.0.1/24", 1466, "ropeway")
        assert len(kernel.tuns) == (2 if spoil in (None, {"name": "renamed"}) else 1)

    run(make_agent(settings), steps)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EFAULT, errno.ENOMEM])
def test_packet_that_cannot_be_read_leaves_the_device_as_it_is(kernel, tmp_path, code):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.configured)
        dumps = settled(kernel)
        for _ in range(2):
            kernel.tun.put(OSError(code, os.strerror(code)))
        wanted = {errno.errorcode[code]: 2}
        eventually(lambda: ask(settings, command="status")["device"]["read_errors"] == wanted)
        eventually(lambda: kernel.dumps > dumps)
        assert (len(kernel.tuns), len(kernel.configured)) == (1, 1)
        assert not kernel.tun.closed

    run(make_agent(settings), steps)


def lose_device(kernel, error):
    """Have the device go; reading fails, unless the agent has seen that before and closed it."""
    gone = kernel.tun
    kernel.interfaces = [i for i in kernel.interfaces if i.kind != "tun"]
    with contextlib.suppress(OSError):
        gone.put(OSError(error, os.strerror(error)))


def test_device_that_is_gone_is_found_whatever_reading_says(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.configured)
        lose_device(kernel, errno.EIO)
        eventually(lambda: len(kernel.configured) == 2)
        assert len(kernel.tuns) == 2

    run(make_agent(settings), steps)


def test_device_that_is_gone_in_the_middle_of_a_flood_is_made_again(kernel, tmp_path):
    settings = settings_for(tmp_path)
    agent = make_agent(settings)

    def steps():
        eventually(lambda: kernel.configured)
        agent.pump.device.outgoing.overruns = lambda _: True
        lose_device(kernel, errno.EBADFD)
        eventually(lambda: len(kernel.configured) == 2)
        assert len(kernel.tuns) == 2

    run(agent, steps)


class CrowdedEpoll:
    """An epoll that takes no more descriptors for a while."""

    def __init__(self, epoll):
        self._epoll = epoll
        self.full = False
        self.refused = 0

    def __getattr__(self, name):
        return getattr(self._epoll, name)

    def register(self, descriptor, events):
        if self.full:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._epoll.register(descriptor, events)


@pytest.fixture
def crowded(kernel, tmp_path, monkeypatch):
    """Settings, an agent with them that soon tries again, and its epoll."""
    monkeypatch.setattr(links, "RETRY_S", 0.01)
    settings = settings_for(tmp_path)
    agent = make_agent(settings)
    epoll = agent.loop._epoll = CrowdedEpoll(agent.loop._epoll)
    return settings, agent, epoll


def test_link_that_cannot_be_watched_is_unusable_and_tried_again(kernel, crowded):
    settings, agent, epoll = crowded

    def steps():
        eventually(lambda: kernel.configured and agent.steward.came)
        epoll.full = True
        kernel.change(ETH0, ETH1)
        eventually(lambda: epoll.refused > 3)
        epoll.full = False
        # First, because sockets that are about to be refused are open for a moment, too.
        eventually(lambda: [li["unusable"] for li in ask(settings, command="status")["links"]]
                   == [None, None])  # fmt: skip
        tried = [s for s in kernel.links if s.name == "eth1"]
        # What the steward listens to may have been refused too.
        assert 2 < len(tried) <= epoll.refused + 1
        assert [s.closed for s in tried] == [True] * (len(tried) - 1) + [False]

    run(agent, steps)
    assert kernel.link("eth1").closed


def test_device_that_cannot_be_watched_is_tried_again(kernel, crowded):
    _, agent, epoll = crowded

    def steps():
        eventually(lambda: kernel.configured and agent.steward.came)
        epoll.full = True
        kernel.tun.put(OSError(errno.EBADFD, os.strerror(errno.EBADFD)))
        eventually(lambda: epoll.refused > 1)
        epoll.full = False
        closed = [True] * (epoll.refused + 1) + [False]
        eventually(lambda: [made.closed for made in kernel.tuns] == closed)

    run(agent, steps)


def test_house_is_kept_as_if_idle_only_in_turns_without_packets(kernel, tmp_path, monkeypatch):
    settings = settings_for(tmp_path)
    agent = make_agent(settings)
    seen = set()

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        EveryTurn(agent, lambda now: seen.add((bool(agent.pump.occasion), agent.pump.is_idle(now))))
        eventually(lambda: (False, True) in seen)
        before = len(link.sent)
        link.put(frame())
        eventually(lambda: len(link.sent) > before)
        assert seen == {(False, True)}, "what is no packet is answered, and that is all"
        link.put(frame(payload=packet("10.0.0.2", "10.0.0.1"), id_=1))
        eventually(lambda: (True, False) in seen)

    run(agent, steps)
    assert (True, True) not in seen


def test_turn_in_which_all_that_waited_was_served_is_one_with_packets(
    kernel, tmp_path, monkeypatch
):
    agent = make_agent(settings_for(tmp_path))
    served = []

    class Watched(intake.Intake):
        def serve(self, now, expired_at):
            super().serve(now, expired_at)
            served.append((agent.pump.turn, now))

    monkeypatch.setattr(nodes, "Intake", Watched)

    def steps():
        eventually(lambda: kernel.links)
        drain = kernel.hints.drain

        def leave_something():
            drain()
            # By the loop's own thread, so that it is there for the whole rest of the turn.
            agent.pump.ports.incoming.waits = True
            return Change.NOTHING

        monkeypatch.setattr(kernel.hints, "drain", leave_something)
        kernel.hints.put(b"wake")
        eventually(lambda: served)
        (turn, now) = served[0]
        eventually(lambda: agent.pump.turn > turn)
        assert not agent.pump.ports.incoming.waits
        assert agent.pump.packet_at == now

    run(agent, steps)


class TickingClock:
    """Time that passes only when somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += polling.SPAN_S / 10
        return self.now


@pytest.mark.parametrize(
    ("wait_s", "trusted"),
    [(polling.SPAN_S / 2, True), (0.001, False)],
    ids=["cut short by a timer", "nothing came"],
)
def test_a_wait_that_a_timer_cuts_short_says_nothing_of_answers(wait_s, trusted):
    clock = TickingClock()
    busy = polling.BusyPoll(2, 0.0)
    busy.learn("sent", 0.0, 0.0, answered=True)
    with contextlib.closing(loop.Loop(Bound(60.0, clock), busy)) as waiting:
        clock.now += 10.0
        assert waiting._wait("sent", wait_s) == []
    # What was looked is spent all the same.
    assert busy._saved_s < polling.SAVED_S
    assert (busy.span_s("sent", 20.0) > 0) == trusted


def test_others_may_run_after_each_turn_with_packets_and_no_other(kernel, tmp_path, monkeypatch):
    agent = make_agent(settings_for(tmp_path))
    yielded = []
    turns = []

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        monkeypatch.setattr(os, "sched_yield", lambda: yielded.append(agent.pump.turn))
        EveryTurn(agent, lambda now: turns.append(agent.pump.turn))
        eventually(lambda: turns)
        assert yielded == []
        link.put(frame(payload=packet("10.0.0.2", "10.0.0.1"), id_=1))
        eventually(lambda: yielded)

    run(agent, steps)
    assert len(yielded) == len(set(yielded)) < len(turns)


def test_device_follows_the_smallest_link(kernel, tmp_path, caplog):
    def steps():
        eventually(lambda: kernel.configured)
        kernel.change(ETH0, interface(3, "eth1", "192.168.1.1/24", mtu=1400))
        eventually(lambda: kernel.configured[-1][2] == 1366)
        # Heard over the larger link alone, without any event of netlink.
        kernel.link("eth0").put(frame())
        eventually(lambda: kernel.configured[-1][2] == 1466)

    remotes = tuple(model.Remote("10.0.0.2", f"192.168.{n}.2", 0) for n in range(2))
    run(make_agent(settings_for(tmp_path, remotes=remotes)), steps)
    assert not [r for r in caplog.records if "repairing" in r.getMessage()]


def test_firewall_is_put_back(kernel, tmp_path):
    def steps():
        eventually(lambda: kernel.links)
        kernel.watch.put(b"gone")
        eventually(lambda: kernel.firewall == ["replace", "replace"])

    run(make_agent(settings_for(tmp_path)), steps)


def test_remotes_at_run_time(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def hosts():
        return [peer["host"] for peer in ask(settings, command="status")["peers"]]

    def steps():
        eventually(lambda: kernel.links)
        ask(settings, command="remote-add", host="10.0.0.7", address="192.168.0.7", index=0)
        assert "10.0.0.7" in hosts()
        eventually(lambda: "192.168.0.7" in [to for to, _ in kernel.link("eth0").sent])
        ask(settings, command="remote-remove", host="10.0.0.7", address=None)
        assert "10.0.0.7" not in hosts()

    run(make_agent(settings), steps)


@pytest.mark.parametrize(
    "message",
    [
        {"command": "dance"},
        {"command": "explain", "destination": "10.0.0.2"},
        {"command": "budget-set"},
        {"command": "budget-set", "link": "eth0", "used_bytes": -1},
        {"command": "budget-set", "link": "eth0", "used_bytes": 1 << 60},
        {"command": "budget-set", "link": "eth0", "used_bytes": "5"},
        {"command": "budget-set", "link": "eth0", "used_bytes": 5},
        {"command": "remote-add"},
        {"command": "remote-add", "host": 7, "address": "1.2.3.4"},
        {"command": "remote-add", "host": "10.0.0.7", "address": None},
        {"command": "remote-add", "host": "10.0.0.7", "address": "x" * 4000},
        {"command": "remote-add", "host": "10.0.0.7", "address": "1.2.3.4", "index": True},
        {"command": "remote-add", "host": "10.0.0.7", "address": "1.2.3.4", "index": -1},
        {"command": "remote-add", "host": "10.0.0.7", "address": "1.2.3.4", "index": 1 << 40},
        {"command": "remote-add", "host": "10.9.0.7", "address": "1.2.3.4"},
        {"command": "remote-remove", "host": "10.0.0.7"},
        {"command": "remote-remove", "host": "10.0.0.2", "address": ["x"]},
    ],
)
def test_request_that_cannot_be_met_gets_a_sentence(kernel, tmp_path, message):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        with pytest.raises(client.ControlError):
            ask(settings, **message)
        assert ask(settings, command="status")["version"]

    run(make_agent(settings), steps)


def said(caplog, part):
    return [r.getMessage() for r in caplog.records if part in r.getMessage()]


def test_route_of_the_device_is_put_back_and_told_once(kernel, tmp_path, caplog):
    agent = make_agent(settings_for(tmp_path))

    def steps():
        eventually(lambda: kernel.configured and agent.steward.upkeep.is_steered)
        kernel.steering = Steering(main=False, first=False)
        kernel.hints.put(Change.ROUTES)
        eventually(lambda: kernel.steering.main)

    run(agent, steps)
    assert kernel.steered == [Steering(main=True, first=False)]
    assert said(caplog, "repairing") == ["repairing device ropeway0: it lacks its route"]


def test_device_that_somebody_spoils_again_and_again_is_repaired_ever_more_seldom(kernel, tmp_path):
    looks = []
    keeper = upkeep.Upkeep(
        settings_of(settings_for(tmp_path)), None, None, lambda at: looks.append(at)
    )
    repaired = [now for now in range(1000, 1600) if keeper._may_repair("it is down", now)]
    pauses = [after - before for before, after in zip(repaired, repaired[1:])]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60]
    assert looks[-1] == keeper._repair_at
    # Once it was left alone for long enough, it is repaired at once again.
    assert keeper._may_repair("it is down", 2000)
    assert keeper._may_repair("it is down", 2001)


@pytest.mark.parametrize(
    "spoil",
    [
        ("it is down", {"admin_up": False}),
        ("it lacks its address", {"addresses": ()}),
        ("it is gone", None),
        ("it lacks its route", {}),
    ],
    ids=lambda spoil: spoil[0],
)
def test_status_and_log_tell_what_the_device_lacks_until_it_is_repaired(
    kernel, tmp_path, caplog, spoil
):
    settings = settings_for(tmp_path)
    agent = make_agent(settings)
    fault, values = spoil
    sentence = (
        f"device ropeway0 is repaired within 32 s, because it was changed again and again: {fault}"
    )

    def steps():
        settled(kernel)
        keeper = agent.steward.upkeep
        # What it has not yet led to the device, it makes without a word.
        eventually(lambda: keeper.is_steered)
        keeper._repair_pause_s, keeper._repair_at = 32.0, boot_clock() + 32.0
        *others, device = kernel.interfaces
        if values:
            kernel.interfaces = [*others, dataclasses.replace(device, **values)]
        elif values is None:
            kernel.interfaces = others
        else:
            kernel.steering = Steering(main=False, first=False)
        kernel.hints.put(b"hint")
        eventually(lambda: ask(settings, command="status")["warnings"] == [sentence])
        dumps = kernel.dumps
        kernel.hints.put(b"hint")
        eventually(lambda: kernel.dumps > dumps)
        keeper._repair_at = 0.0
        kernel.hints.put(b"hint")
        eventually(lambda: ask(settings, command="status")["warnings"] == [])
        assert kernel.steering.main
        assert next(i for i in kernel.interfaces if i.kind == "tun").admin_up

    run(agent, steps)
    assert said(caplog, "again and again") == [sentence]


def test_status_tells_that_no_interface_takes_part_while_that_is_so(kernel, tmp_path):
    settings = settings_for(tmp_path)
    sentence = (
        "no interface takes part, so no packet gets through: look at interfaces.include and"
        " interfaces.exclude"
    )

    def steps():
        eventually(lambda: kernel.links)
        links = [i for i in kernel.interfaces if i.kind != "tun"]
        assert ask(settings, command="status")["warnings"] == []
        kernel.change()
        eventually(lambda: ask(settings, command="status")["warnings"] == [sentence])
        kernel.change(*links)
        eventually(lambda: ask(settings, command="status")["warnings"] == [])

    run(make_agent(settings), steps)


def test_status_tells_why_the_device_cannot_be_repaired(kernel, tmp_path, monkeypatch):
    settings = settings_for(tmp_path)
    sentence = "device ropeway0 cannot be repaired (Operation not permitted): trying again"

    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def steps():
        eventually(lambda: kernel.configured)
        settled(kernel)
        with monkeypatch.context() as patched:
            patched.setattr(kernel_device, "configure", refuse)
            *others, device = kernel.interfaces
            kernel.interfaces = [*others, dataclasses.replace(device, admin_up=False)]
            kernel.hints.put(b"hint")
            eventually(lambda: ask(settings, command="status")["warnings"] == [sentence])
        eventually(lambda: not ask(settings, command="status")["warnings"])

    run(make_agent(settings), steps)


def test_traffic_that_other_rules_lead_elsewhere_is_no_fault_of_the_route(kernel, tmp_path, caplog):
    kernel.leads_to = 2

    def steps():
        eventually(lambda: kernel.configured)
        dumps = settled(kernel)
        kernel.hints.put(b"hint")
        eventually(lambda: kernel.dumps > dumps)

    run(make_agent(settings_for(tmp_path)), steps)
    assert kernel.steered == []


def test_interface_that_becomes_stacked_on_the_device_is_told_once(kernel, tmp_path, caplog):
    settings = settings_for(tmp_path)
    bridge = interface(5, "br0", "192.168.5.1/24", kind="bridge")
    tunnel = interface(6, "vx0", kind="vxlan", tunnel_ends=("10.0.0.2",), master=5)

    def links():
        return [link["name"] for link in ask(settings, command="status")["links"]]

    def steps():
        eventually(lambda: kernel.links)
        kernel.change(ETH0, bridge)
        eventually(lambda: links() == ["eth0", "br0"])
        kernel.change(ETH0, bridge, tunnel)
        eventually(lambda: links() == ["eth0"])
        assert {"index": 5, "name": "br0", "stacked": True,
                "reason": "sends its packets through ropeway0, a virtual network"} in ask(
            settings, command="status")["not_taking_part"]  # fmt: skip
        dumps = settled(kernel)
        kernel.hints.put(b"hint")
        eventually(lambda: kernel.dumps > dumps)

    run(make_agent(settings), steps)
    assert said(caplog, "takes no part") == [
        f"{name} takes no part, because it sends its packets through ropeway0, a virtual network"
        for name in ("br0(5)", "vx0(6)")
    ]


INSIDE = interface(2, "eth0", "10.0.0.77/24")
AHEAD = steering.wanted("10.0.0.1/24", ["10.0.0.77"])
TOLD = (
    "eth0(2) has 10.0.0.77/24, which lies within the virtual network 10.0.0.0/24: what is sent"
    " there goes to ropeway0, so that other hosts of that LAN, such as a name server, cannot be"
    " reached from here; choose another network for one of them"
)


def test_link_within_the_virtual_network_is_told_once(kernel, tmp_path, caplog):
    settings = settings_for(tmp_path)
    kernel.interfaces = [INSIDE, ETH1]

    def steps():
        eventually(lambda: kernel.links)
        kernel.change(INSIDE, interface(3, "eth1", "10.1.1.1/8"))
        eventually(lambda: len(said(caplog, "the virtual")) == 2)
        dumps = settled(kernel)
        kernel.hints.put(b"hint")
        eventually(lambda: kernel.dumps > dumps)
        assert ask(settings, command="status")["warnings"] == said(caplog, "the virtual")

    run(make_agent(settings), steps)
    assert said(caplog, "the virtual") == [
        TOLD,
        "eth1(3) has 10.1.1.1/8, a network that holds the virtual one, 10.0.0.0/24: hosts of that"
        " LAN with such an address cannot be reached from here",
    ]


def test_virtual_network_goes_before_a_link_of_the_same_addresses_while_it_has_them(
    kernel, tmp_path, caplog
):
    kernel.interfaces = [INSIDE]

    def steps():
        eventually(lambda: kernel.steering == AHEAD)
        kernel.change(ETH0)
        eventually(lambda: kernel.steering == steering.wanted("10.0.0.1/24", []))
        # A bridge of containers counts too, though it takes no part.
        kernel.change(ETH0, dataclasses.replace(INSIDE, index=5, name="docker0"))
        eventually(lambda: kernel.steering == AHEAD)

    run(make_agent(settings_for(tmp_path, exclude=("docker*",))), steps)
    assert kernel.steering.rules == frozenset()
    assert said(caplog, "repairing") == []


def test_rule_that_somebody_takes_away_is_put_back_and_told(kernel, tmp_path, caplog):
    kernel.interfaces = [INSIDE]

    def steps():
        eventually(lambda: kernel.steering == AHEAD)
        kernel.steering = dataclasses.replace(AHEAD, rules=frozenset())
        kernel.hints.put(Change.ROUTES)
        eventually(lambda: kernel.steering == AHEAD)

    run(make_agent(settings_for(tmp_path)), steps)
    assert said(caplog, "repairing") == [
        "repairing device ropeway0: a rule that leads to it is gone"
    ]


def test_network_takes_no_precedence_where_the_configuration_forbids_it(kernel, tmp_path, caplog):
    kernel.interfaces = [INSIDE]

    def steps():
        eventually(lambda: said(caplog, "device.precedence is false"))
        dumps = settled(kernel)
        kernel.hints.put(b"hint")
        eventually(lambda: kernel.dumps > dumps)

    run(make_agent(settings_for(tmp_path, precedence=False)), steps)
    assert kernel.steered == []


def test_kernel_that_refuses_rules_is_told_once(kernel, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(upkeep, "REPAIR_MAX_S", 0.01)
    kernel.interfaces = [INSIDE]
    tried = []

    def refuse(*arguments):
        tried.append(arguments)
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(steering, "change", refuse)
    settings = settings_for(tmp_path)
    sentence = "packets for 10.0.0.0/24 cannot be led to ropeway0 (Operation not supported)"

    def steps():
        eventually(lambda: len(tried) > 2)
        assert sentence in ask(settings, command="status")["warnings"]

    run(make_agent(settings), steps)
    assert said(caplog, "cannot be led") == [sentence + ": trying again"]


def test_link_that_has_the_virtual_address_is_a_mistake_of_the_configuration(kernel, tmp_path):
    kernel.interfaces = [interface(2, "eth0", "10.0.0.1/24")]
    with pytest.raises(errors.ConfigError, match=r"address: eth0\(2\) has 10\.0\.0\.1 already"):
        make_agent(settings_for(tmp_path)).run()
    assert kernel.tun.closed
    assert kernel.firewall == ["replace", "delete"]


def test_second_agent_refuses_to_start_and_touches_nothing(kernel, tmp_path):
    settings = settings_for(tmp_path)

    def steps():
        eventually(lambda: kernel.links)
        second = make_agent(settings)
        with contextlib.ExitStack() as stack, pytest.raises(
            errors.StartError, match="an agent is running already"
        ):
            second._start(stack, {})
        assert kernel.firewall == ["replace"]
        assert len(kernel.tuns) == 1

    run(make_agent(settings), steps)


def test_start_without_device_leaves_nothing(kernel, tmp_path, monkeypatch):
    def refuse(name, features):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(tun, "open_device", refuse)
    with pytest.raises(errors.StartError, match="another process holds it"):
        make_agent(settings_for(tmp_path)).run()
    # The table of that name may be of the agent that holds the device.
    assert kernel.firewall == []
    assert os.listdir(str(tmp_path)) == []


def test_start_without_firewall_leaves_nothing(kernel, tmp_path, monkeypatch):
    def refuse(table):
        raise OSError("nft refused the table")

    monkeypatch.setattr(firewall, "replace", refuse)
    with pytest.raises(errors.StartError, match="nft refused"):
        make_agent(settings_for(tmp_path)).run()
    assert kernel.tun.closed
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.EINVAL, errors.ConfigError), (errno.EPERM, errors.StartError)],
)
def test_device_of_another_kind_is_a_mistake_of_the_configuration(
    kernel, tmp_path, monkeypatch, code, error
):
    def refuse(name, features):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tun, "open_device", refuse)
    with pytest.raises(error, match="the device ropeway0 cannot be made"):
        make_agent(settings_for(tmp_path)).run()


def test_control_socket_that_can_never_be_is_a_mistake_of_the_configuration(kernel, tmp_path):
    wish = model.Control(path=str(tmp_path / "control.sock"), group="nobody-at-all")
    with pytest.raises(errors.ConfigError, match=r"control\.group: there is no group"):
        make_agent(settings_for(tmp_path, control=wish)).run()


def test_remote_that_the_node_refuses_is_a_mistake_of_the_configuration(kernel, tmp_path):
    settings = settings_for(tmp_path, remotes=(model.Remote("10.9.0.2", "192.168.0.2", 0),))
    with pytest.raises(errors.ConfigError, match=r"peers: host 10\.9\.0\.2 is not"):
        make_agent(settings).run()
    assert kernel.firewall == []


def test_ready_watchdog_and_stopping_are_told(kernel, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(systemd, "notify", lambda *words: told.extend(words))
    monkeypatch.setattr(systemd, "watchdog_s", lambda: 0.03)
    run(
        make_agent(settings_for(tmp_path)),
        lambda: eventually(lambda: told.count("WATCHDOG=1") > 2),
    )
    assert told[0] == "READY=1"
    assert told[-1] == "STOPPING=1"
    assert set(told[1:-1]) == {"WATCHDOG=1", "STATUS=0 of 1 links carry, 0 of 1 hosts reached"}


def test_named_interface_that_is_not_there_counts_as_a_link_that_carries_nothing(
    kernel, tmp_path, monkeypatch, caplog
):
    told = []
    monkeypatch.setattr(systemd, "notify", lambda *words: told.extend(words))
    monkeypatch.setattr(chores, "STATUS_EVERY_S", 0.01)
    monkeypatch.setattr(redundancy, "LACK_LOOK_S", 0.01)
    monkeypatch.setattr(redundancy, "LACK_REPORT_S", 0.0)
    settings = settings_for(tmp_path, include=("eth?", "wwan0"))

    def steps():
        link = eventually(lambda: kernel.links and kernel.link("eth0"))
        line = "1 of 2 links carries, 1 of 1 hosts reached"
        # Again and again: the connection would soon count as silent.
        eventually(lambda: link.put(frame()) or f"STATUS={line}" in told)
        link.put(frame())
        eventually(lambda: tree.summary(ask(settings, command="status")) == line)
        missing = {"index": 0, "name": "wwan0", "fault": "it is not there"}
        assert ask(settings, command="status")["missing_links"] == [missing]
        kernel.change(ETH0, dataclasses.replace(ETH1, name="wwan0"))
        eventually(lambda: not ask(settings, command="status")["missing_links"])

    run(make_agent(settings), steps)
    assert [
        (r.levelname, r.getMessage().split(";")[0])
        for r in caplog.records
        if "link wwan0 carries" in r.getMessage()
    ] == [("WARNING", "link wwan0 carries nothing: it is not there")]


def test_pattern_that_matches_nothing_is_told(kernel, tmp_path, caplog):
    settings = settings_for(tmp_path, include=("wlan*",))
    run(make_agent(settings), lambda: eventually(lambda: kernel.configured))
    assert [r for r in caplog.records if "no interface takes part yet" in r.getMessage()]


def test_the_node_is_told_from_which_address_the_kernel_would_send(kernel, tmp_path):
    kernel.interfaces = [interface(2, "eth0", "10.1.1.5/24", "192.168.7.2/24")]
    kernel.routes = {(2, "198.51.100.3")}
    kernel.sources["eth0", "198.51.100.3"] = "192.168.7.2"
    settings = settings_for(tmp_path, remotes=(model.Remote("10.0.0.2", "198.51.100.3", 0),))

    def steps():
        eventually(lambda: kernel.links and kernel.link("eth0").sent)
        to, greeting = kernel.link("eth0").sent[0]
        assert to == "198.51.100.3"
        assert socket.inet_ntoa(greeting[12:16]) == "192.168.7.2"

    run(make_agent(settings), steps)
