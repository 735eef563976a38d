"""The engine's end: real processes for keeper and steward, and stewards that end or hang."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

import pytest

from ropeway.steward import answers, client, orders
from ropeway.steward.pipe import Closed, Messages, send_whole

PATIENCE_S = 20.0


def serve(connection, handover):
    """Be a steward that answers each reading with its own process ID, and `Stop` with its end."""
    messages = Messages(connection, orders.BYTES_MAX, descriptors=False)
    connection.setblocking(True)
    while True:
        try:
            received = messages.read()
        except Closed:
            return
        for message, _ in received:
            order = orders.decode(message)
            if isinstance(order, orders.Stop):
                return
            if isinstance(order, orders.Ping):
                send_whole(connection, answers.encode(answers.Pong()))
            if isinstance(order, orders.Change):
                refused = answers.Refused("the steward did not: restart the agent")
                send_whole(connection, answers.encode(refused))
            if isinstance(order, orders.ReadConfiguration):
                answer = answers.ConfigurationRead(order.number, None, (str(os.getpid()),))
                send_whole(connection, answers.encode(answer))


class Loop:
    """Serves registered descriptors until a condition holds."""

    def __init__(self):
        self.clock = time.monotonic
        self._handlers = {}

    def register(self, descriptor, handler):
        self._handlers[descriptor] = (handler, select.POLLIN)

    def modify(self, descriptor, events):
        self._handlers[descriptor] = (self._handlers[descriptor][0], events)

    def unregister(self, descriptor):
        del self._handlers[descriptor]

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            poll = select.poll()
            for descriptor, (_, events) in self._handlers.items():
                poll.register(descriptor, events)
            for descriptor, events in poll.poll(100):
                if descriptor in self._handlers:
                    self._handlers[descriptor][0](events, self.clock())


@pytest.fixture
def steward():
    made = client.start(lambda: serve)
    keeper = made._keeper_pid
    yield made
    made.stop()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(keeper, 0)


def ask(steward, number=1):
    answer, _ = steward.call(orders.ReadConfiguration(number), answers.ConfigurationRead)
    assert answer.number == number
    return int(answer.errors[0])


def test_orders_are_answered_by_another_process(steward):
    assert ask(steward) == steward.pid
    assert steward.pid not in (0, os.getpid())
    assert steward.status() == {"pid": steward.pid, "restarts": 0, "fault": ""}


def test_order_to_a_steward_that_is_killed_before_the_loop_runs_is_a_sentence(steward, monkeypatch):
    ask(steward)
    monkeypatch.setattr(client, "CALL_LIMIT_S", 0.3)
    os.kill(steward.pid, signal.SIGSTOP)
    with pytest.raises(client.StewardGone, match="has not answered"):
        steward.call(orders.ReadConfiguration(2), answers.ConfigurationRead)
    os.kill(steward.pid, signal.SIGKILL)


def test_call_ends_soon_when_the_agent_has_to_stop(steward):
    ask(steward)
    os.kill(steward.pid, signal.SIGSTOP)
    asked = []
    steward.has_to_stop = lambda: asked.append(steward.pid) or len(asked) > 1
    with pytest.raises(client.Interrupted):
        steward.call(orders.ReadConfiguration(2), answers.ConfigurationRead)
    os.kill(steward.pid, signal.SIGCONT)
    # Its end is waited for all the same.
    pid = steward.pid
    steward.stop()
    assert steward.pid == 0 != pid


def test_start_ends_at_once_when_the_steward_does(steward):
    ask(steward)
    os.kill(steward.pid, signal.SIGKILL)
    with pytest.raises(client.StewardGone, match="has ended"):
        steward.wait_for(answers.ConfigurationRead)


def test_steward_that_took_over_before_the_loop_ran_is_told_everything(steward):
    ask(steward)
    os.kill(steward.pid, signal.SIGKILL)
    with contextlib.suppress(client.StewardGone):
        steward.wait_until(lambda: steward.restarts == 1, PATIENCE_S)
    loop, told = Loop(), []
    steward.attach(loop, lambda now: told.append("came"), lambda now: told.append("went"))
    loop.until(lambda: told == ["came"])


def test_another_steward_takes_over_from_one_that_was_killed(steward):
    first, loop, told = ask(steward), Loop(), []
    steward.attach(loop, lambda now: told.append("came"), lambda now: told.append("went"))
    os.kill(first, signal.SIGKILL)
    loop.until(lambda: steward.restarts == 1)
    assert told == ["went", "came"]
    heard = []
    steward.on(answers.ConfigurationRead, lambda answer, _with, now: heard.append(answer))
    steward.send(orders.ReadConfiguration(7))
    loop.until(lambda: heard)
    assert int(heard[0].errors[0]) == steward.pid != first


def test_what_a_steward_takes_is_loaded_once_and_by_the_keeper():
    reader, writer = os.pipe()

    def load():
        os.write(writer, f"{os.getpid()} ".encode())
        return serve

    made, loop = client.start(load), Loop()
    keeper = made._keeper_pid
    first = ask(made)
    made.attach(loop, lambda now: None, lambda now: None)
    for restarts in (1, 2):
        os.kill(made.pid, signal.SIGKILL)
        loop.until(lambda restarts=restarts: made.restarts == restarts)
    assert made.pid != first
    assert os.read(reader, 100).split() == [str(keeper).encode()]
    made.stop()
    os.waitpid(keeper, 0)
    os.close(reader)
    os.close(writer)


def test_status_says_that_the_steward_is_away_and_that_nobody_starts_it_again(steward):
    first, loop = ask(steward), Loop()
    steward.attach(loop, lambda now: None, lambda now: None)
    os.kill(steward._keeper_pid, signal.SIGKILL)
    loop.until(lambda: steward._keeper is None)
    assert steward.fault == "", "the steward itself goes on"
    os.kill(first, signal.SIGKILL)
    loop.until(lambda: not steward.pid)
    assert "nobody starts the steward again" in steward.fault
    assert steward.status()["pid"] == 0


def test_status_says_that_a_steward_hangs_until_it_answers_again(steward):
    pid, loop = ask(steward), Loop()
    steward.attach(loop, lambda now: None, lambda now: None)
    os.kill(pid, signal.SIGSTOP)
    steward.tick(0.0)
    assert steward.fault == ""
    steward.tick(client.HANGS_AFTER_S)
    assert steward.fault.startswith("the steward does not answer, so")
    assert steward.fault.endswith(f": kill process {pid}")
    os.kill(pid, signal.SIGCONT)
    loop.until(lambda: steward.fault == "")
    steward.tick(2 * client.HANGS_AFTER_S)
    loop.until(lambda: steward._pinged_at is None)
    assert steward.fault == ""


def test_what_a_steward_refuses_is_a_warning_until_another_one_takes_over(steward):
    first, loop = ask(steward), Loop()
    steward.attach(loop, lambda now: None, lambda now: None)
    assert steward.warning == ""
    steward.send(orders.Change(7))
    loop.until(lambda: steward.warning)
    assert steward.warning == "the steward did not: restart the agent"
    assert steward.fault == "", "it serves all the same"
    os.kill(first, signal.SIGKILL)
    loop.until(lambda: steward.restarts == 1)
    assert steward.warning == ""


def test_orders_to_a_steward_that_hangs_cost_no_memory(steward):
    pid, loop = ask(steward), Loop()
    steward.attach(loop, lambda now: None, lambda now: None)
    os.kill(pid, signal.SIGSTOP)
    far = tuple(f"10.{number >> 8}.{number & 255}.1" for number in range(20_000))
    for number in range(50):
        steward.send(orders.Wish(number, 0, 1400, far=far), replaces=orders.Wish)
    assert len(steward._waiting) <= 1
    os.kill(pid, signal.SIGCONT)
    loop.until(lambda: not steward._waiting and not steward._rest)


def test_keeper_and_steward_end_with_the_engine():
    reader, writer = os.pipe()
    engine = os.fork()
    if engine == 0:
        made = client.start(lambda: serve)
        os.write(writer, f"{made._keeper_pid} {ask(made)}".encode())
        signal.pause()
    os.close(writer)
    pids = [int(word) for word in os.read(reader, 100).split()]
    os.kill(engine, signal.SIGKILL)
    os.waitpid(engine, 0)
    # They hold the other end of this pipe.
    assert select.select([reader], [], [], PATIENCE_S)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert len(pids) == 2
