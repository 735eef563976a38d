"""The control socket, both ends, with a hand-made clock and sockets in a temporary folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import stat
import threading

import pytest

from ropeway.app.control import answer, client, server


class Loop:
    """As much of the loop as the server needs."""

    def __init__(self, path, **wishes):
        self.now = 100.0
        self.requests = []
        self.answer = lambda request: {"echo": request}
        self.epoll = select.epoll()
        self.handlers = {}
        options = {"owner": None, "group": None, "mode": 0o660, **wishes}
        self.server = server.ControlServer(str(path), loop=self, answer=self._answer, **options)

    def register(self, descriptor, handler, events=select.EPOLLIN):
        self.epoll.register(descriptor, events)
        self.handlers[descriptor] = handler

    def modify(self, descriptor, events):
        self.epoll.modify(descriptor, events)

    def unregister(self, descriptor):
        del self.handlers[descriptor]
        self.epoll.unregister(descriptor)

    def sooner(self, at):
        pass

    def _answer(self, request, client):
        self.client = client
        self.requests.append(request)
        return self.answer(request)

    def turn(self, wait_s=0.0):
        """Serve what is ready; return how much was."""
        ready = self.epoll.poll(wait_s)
        for descriptor, events in ready:
            self.handlers[descriptor](events, self.now)
        return len(ready)

    def settle(self):
        while self.turn():
            pass


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


@pytest.fixture
def loop(path):
    made = Loop(path)
    yield made
    if os.path.exists(path):
        made.server.close()
    made.epoll.close()


def connect(path):
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.connect(str(path))
    channel.settimeout(5)
    return channel


def read_all(channel):
    data = b""
    while True:
        more = channel.recv(65536)
        if not more:
            return data
        data += more


def test_one_request_one_reply(loop, path):
    with connect(path) as client:
        client.sendall(b'{"command": "status"}\n')
        loop.settle()
        assert json.loads(client.recv(4096)) == {
            "ok": True,
            "result": {"echo": {"command": "status"}},
        }


def test_lines_in_pieces_and_lines_in_one_piece(loop, path):
    with connect(path) as client:
        for piece in (b'{"comm', b'and": "a"}\n{"command": "b"}\n{"comman', b'd": "c"}\n'):
            client.sendall(piece)
            loop.settle()
        replies = client.recv(4096).splitlines()
    assert [json.loads(reply)["result"]["echo"]["command"] for reply in replies] == ["a", "b", "c"]


def test_lines_that_come_together_are_answered_one_a_turn(loop, path):
    with connect(path) as client:
        client.sendall(b'{"command": "a"}\n' * 5)
        while not loop.requests:
            loop.turn()
        for answered in range(1, 5):
            assert len(loop.requests) == answered
            loop.turn()
        loop.settle()
        assert len(client.recv(4096).splitlines()) == 5
        # and the connection serves on, without a turn for nothing
        client.sendall(b'{"command": "b"}\n')
        loop.settle()
        assert json.loads(client.recv(4096))["result"]["echo"]["command"] == "b"


def test_lines_that_came_before_the_end_are_answered(loop, path):
    with connect(path) as client:
        client.sendall(b'{"command": "a"}\n' * 3)
        client.shutdown(socket.SHUT_WR)
        loop.settle()
        assert len(read_all(client).splitlines()) == 3


def test_directory_that_cannot_be_made_is_told_once(tmp_path):
    with pytest.raises(client.ControlError) as caught:
        Loop(tmp_path / "none" / "deeper" / "control.sock")
    assert str(caught.value).count("another control.path") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"what",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'{"command": 1}',
        b"[" * 4000,
        b"null",
    ],
)
def test_malformed_request_gets_a_sentence(loop, path, line):
    with connect(path) as client:
        client.sendall(line + b"\n")
        loop.settle()
        reply = json.loads(client.recv(4096))
        assert reply["ok"] is False
        assert reply["error"].startswith("a request is ")
        # and the connection serves on
        client.sendall(b'{"command": "x"}\n')
        loop.settle()
        assert json.loads(client.recv(4096))["ok"] is True
    assert loop.requests == [{"command": "x"}]


def test_answer_is_told_who_asks(loop, path):
    with connect(path) as client:
        client.sendall(b'{"command": "x"}\n')
        loop.settle()
        assert json.loads(client.recv(4096))["ok"] is True
    assert loop.client.uid == os.getuid()


def test_answer_that_takes_its_time_makes_nobody_else_wait(loop, path):
    later = answer.Later()
    loop.answer = lambda request: later if request["command"] == "slow" else "quick"
    with connect(path) as patient, connect(path) as other:
        patient.sendall(b'{"command": "slow"}\n{"command": "next"}\n')
        loop.settle()
        other.sendall(b'{"command": "x"}\n')
        loop.settle()
        assert json.loads(other.recv(4096))["result"] == "quick"
        assert len(loop.requests) == 2, "the second line waits for the first reply"
        later.give([1])
        loop.settle()
        replies = patient.recv(4096).splitlines()
    assert [json.loads(reply)["result"] for reply in replies] == [[1], "quick"]


@pytest.mark.parametrize("goes_away", [False, True])
def test_refusal_that_takes_its_time(loop, path, goes_away):
    later = answer.Later()
    loop.answer = lambda request: later
    with connect(path) as client:
        client.sendall(b'{"command": "slow"}\n')
        loop.settle()
        if goes_away:
            client.close()
            loop.settle()
        later.refuse(answer.Refusal("only a restart does that", answer.REASON_RESTART))
        loop.settle()
        if not goes_away:
            assert json.loads(client.recv(4096)) == {
                "ok": False,
                "error": "only a restart does that",
                "reason": "restart",
            }
    loop.settle()
    assert loop.server.deadline() == float("inf"), "the connection is closed"


def test_refusal_reaches_the_client(loop, path):
    def refuse(request):
        raise ValueError("no such host")

    loop.answer = refuse
    with connect(path) as client:
        client.sendall(b'{"command": "x"}\n')
        loop.settle()
        assert json.loads(client.recv(4096)) == {"ok": False, "error": "no such host"}


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_line_without_bound_ends_the_connection(loop, path, ending):
    with connect(path) as client:
        client.sendall(b"x" * (server.REQUEST_BYTES_MAX + 1) + ending)
        loop.settle()
        assert json.loads(read_all(client)) == {
            "ok": False,
            "error": "a request has at most 4096 bytes",
        }
    assert loop.requests == []


def test_reply_larger_than_the_socket_buffer_arrives_whole(loop, path):
    loop.answer = lambda request: "x" * 5_000_000
    with connect(path) as client:
        client.sendall(b'{"command": "x"}\n{"command": "y"}\n')
        client.shutdown(socket.SHUT_WR)
        received = []
        reader = threading.Thread(target=lambda: received.append(read_all(client)))
        loop.settle()
        assert len(loop.requests) == 1, "a second request waits for the first reply"
        reader.start()
        while reader.is_alive():
            loop.turn(0.01)
        reader.join()
    assert [len(json.loads(line)["result"]) for line in received[0].splitlines()] == [5_000_000] * 2


def test_client_that_takes_no_reply_is_dropped_in_time(loop, path):
    loop.answer = lambda request: "x" * 5_000_000
    with connect(path) as client:
        client.sendall(b'{"command": "x"}\n')
        loop.settle()
        loop.now += server.IDLE_S
        loop.server.tick(loop.now)
        assert loop.server.deadline() == float("inf")


def test_idle_client_is_dropped_and_a_busy_one_is_not(loop, path):
    with connect(path) as idle, connect(path) as busy:
        loop.settle()
        assert loop.server.deadline() == loop.now + server.IDLE_S
        loop.now += server.IDLE_S - 1
        idle.sendall(b"drip")
        busy.sendall(b'{"command": "x"}\n')
        loop.settle()
        busy.recv(4096)
        loop.now += 1
        loop.server.tick(loop.now)
        assert idle.recv(10) == b""
        busy.sendall(b'{"command": "x"}\n')
        loop.settle()
        assert busy.recv(4096)


def refused(loop, path):
    """Say whether one more client is refused; one that is not goes away again."""
    with connect(path) as one_more:
        loop.settle()
        with contextlib.suppress(BrokenPipeError):
            one_more.sendall(b'{"command": "x"}\n')
        loop.settle()
        answer = json.loads(one_more.recv(4096))
    loop.settle()
    return str(answer.get("error", "")).startswith("too many clients")


def test_idle_clients_of_one_user_keep_neither_others_nor_root_out(loop, path, monkeypatch):
    user = [1000]
    monkeypatch.setattr(server, "_user_of", lambda _: user[0])
    clients = []
    for uid in (1000, 1001, 0):
        user[0] = uid
        assert not refused(loop, path), uid
        room = server.CLIENTS_PER_USER if uid else server.CLIENTS_MAX
        clients += [connect(path) for _ in range(room)]
        loop.settle()
        assert refused(loop, path), uid
    user[0] = 1002
    assert refused(loop, path), "there is no place for more than so many of all together"
    for one in clients:
        one.close()


def test_clients_are_bounded(loop, path, monkeypatch):
    monkeypatch.setattr(server, "_user_of", lambda _: 0)
    clients = [connect(path) for _ in range(server.CLIENTS_MAX)]
    loop.settle()
    with connect(path) as one_more:
        loop.settle()
        assert json.loads(read_all(one_more))["error"].startswith("too many clients")
    clients[0].sendall(b'{"command": "x"}\n')
    loop.settle()
    assert clients[0].recv(4096)
    clients.pop().close()
    loop.settle()
    clients.append(connect(path))
    loop.settle()
    clients[-1].sendall(b'{"command": "x"}\n')
    loop.settle()
    assert json.loads(clients[-1].recv(4096))["ok"] is True
    for one in clients:
        one.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_client_waits_while_there_is_no_descriptor_for_it(loop, path, monkeypatch, code):
    listener = loop.server._listener

    class Exhausted:
        fileno = listener.fileno

        def accept(self):
            raise OSError(code, os.strerror(code))

    loop.server._listener = Exhausted()
    with connect(path) as client:
        client.sendall(b'{"command": "x"}\n')
        assert loop.turn() == 1
        assert loop.turn() == 0, "the loop turns for nothing"
        assert loop.server.deadline() == loop.now + server.RETRY_S
        loop.server._listener = listener
        loop.now += server.RETRY_S
        loop.server.tick(loop.now)
        loop.settle()
        assert json.loads(client.recv(4096))["ok"] is True


def test_server_that_hears_nobody_for_the_moment_can_be_closed(loop, path):
    listener = loop.server._listener
    loop.server._stop_listening(loop.now)
    loop.server.close()
    assert listener.fileno() == -1
    assert not path.exists()


def test_client_that_waits_for_its_answer_is_not_idle(loop, path):
    later = answer.Later()
    loop.answer = lambda request: later
    with connect(path) as client:
        client.sendall(b'{"command": "slow"}\n')
        loop.settle()
        loop.now += 2 * server.IDLE_S
        loop.server.tick(loop.now)
        assert loop.server.deadline() == float("inf")
        later.give(1)
        assert json.loads(client.recv(4096))["result"] == 1
        assert loop.server.deadline() <= loop.now


def test_client_that_goes_away_before_its_reply(loop, path):
    loop.answer = lambda request: "x" * 5_000_000
    client = connect(path)
    client.sendall(b'{"command": "x"}\n')
    loop.turn()
    loop.turn()
    client.close()
    loop.settle()
    assert loop.server.deadline() == float("inf")


def test_mode_and_removal(path):
    loop = Loop(path, mode=0o640)
    state = os.stat(path)
    assert stat.S_ISSOCK(state.st_mode)
    assert stat.S_IMODE(state.st_mode) == 0o640
    loop.server.close()
    assert not path.exists()


def test_missing_directory_is_made_and_removed_again(tmp_path):
    path = tmp_path / "run" / "control.sock"
    loop = Loop(path)
    assert path.exists()
    loop.server.close()
    assert not path.parent.exists()


def test_directory_that_cannot_be_made(tmp_path):
    with pytest.raises(client.ControlError, match=r"make it, or choose another control\.path"):
        Loop(tmp_path / "a" / "b" / "control.sock")


def test_owner_and_group_that_do_not_exist(path):
    with pytest.raises(server.ControlMistake, match=r"control\.owner: there is no user nobody-"):
        Loop(path, owner="nobody-at-all")
    with pytest.raises(server.ControlMistake, match=r"control\.group: there is no group nobody"):
        Loop(path, group="nobody-at-all")
    assert not path.exists()


def test_second_agent_is_refused(loop, path):
    with pytest.raises(client.ControlError, match="an agent is running already"):
        Loop(path)
    assert path.exists()


def test_socket_of_a_killed_agent_is_replaced(path):
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.close()
    assert not client.agent_answers(str(path))
    loop = Loop(path)
    assert client.agent_answers(str(path))
    loop.server.close()
    assert server.remove_stale(str(path)) is False


def test_file_that_is_no_socket_is_left_alone(path):
    path.write_text("precious")
    with pytest.raises(server.ControlMistake, match="is not a socket"):
        Loop(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("target", ["gone.sock", "file"])
def test_link_is_left_alone(path, tmp_path, target):
    (tmp_path / "file").write_text("precious")
    path.symlink_to(tmp_path / target)
    with pytest.raises(server.ControlMistake, match="is not a socket"):
        server.remove_stale(str(path))
    assert path.is_symlink()


def test_link_to_the_socket_of_an_agent_is_left_alone(loop, path, tmp_path):
    link = tmp_path / "link.sock"
    link.symlink_to(path)
    with pytest.raises(server.ControlMistake, match="is not a socket"):
        server.remove_stale(str(link))
    assert link.is_symlink()


def test_close_leaves_the_socket_of_somebody_else(path):
    loop = Loop(path)
    os.unlink(path)
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Keep the inode number from being used again.
    (path.parent / "filler").write_text("")
    other.bind(str(path))
    loop.server.close()
    assert path.exists()
    other.close()


class TestRequest:
    """The client's side."""

    def test_round_trip(self, loop, path):
        results = []
        asking = threading.Thread(
            target=lambda: results.append(client.request(str(path), {"command": "status"}))
        )
        asking.start()
        while asking.is_alive():
            loop.turn(0.01)
        assert results == [{"echo": {"command": "status"}}]

    def test_many_requests_over_one_connection(self, loop, path):
        results = []

        def ask():
            with contextlib.closing(client.Connection(str(path))) as connection:
                results.extend(connection.request({"command": name}) for name in "abc")

        asking = threading.Thread(target=ask)
        asking.start()
        clients = set()
        while asking.is_alive():
            loop.turn(0.01)
            clients.update(loop.server._clients)
        assert [result["echo"]["command"] for result in results] == ["a", "b", "c"]
        assert len(clients) == 1

    def test_no_agent(self, path):
        with pytest.raises(client.ControlError, match="no agent answers on"):
            client.request(str(path), {"command": "status"})

    def test_reason_of_a_refusal(self, loop, path):
        def refuse(request):
            raise answer.Refusal("no", "restart")

        loop.answer = refuse
        caught = []

        def ask():
            try:
                client.request(str(path), {"command": "x"})
            except client.ControlError as error:
                caught.append((str(error), error.reason))

        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive():
            loop.turn(0.01)
        assert caught == [("no", "restart")]

    def test_agent_that_says_nothing(self, loop, path):
        with pytest.raises(client.ControlError, match="does not answer"):
            client.request(str(path), {"command": "status"}, timeout_s=0.05)

    def test_agent_that_hangs_up(self, path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(1)
            hanging_up = threading.Thread(target=lambda: listener.accept()[0].close())
            hanging_up.start()
            with pytest.raises(
                client.ControlError, match=r"closed the connection|no agent answers"
            ):
                client.request(str(path), {"command": "status"})
            hanging_up.join()
