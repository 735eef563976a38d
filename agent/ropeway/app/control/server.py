"""The control socket: how the command line talks to a running agent.

A stream socket in the unix domain. The client sends one JSON object a line,
`{"command": "status"}`, and receives one a line: `{"ok": true, "result": ...}` or
`{"ok": false, "error": "sentence"}`, where a key `reason` may tell kinds of refusal apart.
Nothing a client does can block the agent: lines, clients and idle time are bounded, and every
descriptor is non-blocking.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import json
import os
import pwd
import select
import socket
import stat
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from ropeway.app.control.answer import Later, error_reply, refusal, success
from ropeway.app.control.client import ControlError, agent_answers

if TYPE_CHECKING:
    from ropeway.app.engine.loop import Loop

# Protocol
REQUEST_BYTES_MAX = 4096
# Tuning
CLIENTS_MAX = 16
"""Connections of root; those of all others together are no more ..."""
CLIENTS_PER_USER = 8
"""... and so many of each, so that none keeps the others out, and nobody keeps root out."""
IDLE_S = 10.0
RETRY_S = 1.0
"""Pause before a client is accepted again, where there was no descriptor for one."""
_RECEIVE_BYTES = 4096
#   struct ucred { __u32 pid; __u32 uid; __u32 gid; };  include/linux/socket.h
UCRED = struct.Struct("=iII")


class ControlMistake(ControlError):
    """A control socket that cannot be as the configuration wants it: only editing that helps."""


def _user_of(channel: socket.socket) -> int:
    """Return the user at the other end of a Unix socket."""
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    uid: int = UCRED.unpack(raw)[1]
    return uid


class Client:
    """One connection: what it sent so far, what it still has to receive, when it last moved.

    `uid` is the user at the other end. `knows_keys` is for whoever answers: that this client has
    been given the keys of sessions already.
    """

    def __init__(self, channel: socket.socket, now: float) -> None:
        self.channel = channel
        self.uid = _user_of(channel)
        self.knows_keys = False
        self.waits = False
        self.received = bytearray()
        self.reply = b""
        self.moved_at = now
        self.finished = False


Answer = Callable[[Dict[str, Any], Client], Any]


class ControlServer:
    """Listens on `path` and answers requests with `answer`, inside `loop`.

    `answer` takes the request and the client, and returns what JSON can hold, or a `Later`; a
    `ValueError` becomes an error reply with its text. The constructor raises `ControlError` where
    an agent answers on `path` already or the socket cannot stand there, and `ControlMistake` where
    it never can as wished.
    """

    def __init__(
        self,
        path: str,
        owner: Optional[str],
        group: Optional[str],
        mode: int,
        loop: Loop,
        answer: Answer,
    ) -> None:
        self.path = path
        self._loop = loop
        self._answer = answer
        self._clients: Dict[int, Client] = {}
        self._listen_at = float("inf")
        ids = _user_id(owner), _group_id(group)
        remove_stale(path)
        self._made_directory = _make_directory(os.path.dirname(path))
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            before = os.umask(0o177)
            try:
                self._listener.bind(path)
            finally:
                os.umask(before)
            self._inode = os.stat(path).st_ino
            os.chown(path, *ids)
            os.chmod(path, mode)
            self._listener.listen(CLIENTS_MAX)
        except OSError as error:
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise ControlError(
                f"the control socket {path} cannot be set up ({error.strerror}):"
                " check control.path, owner and group"
            ) from error
        loop.register(self._listener.fileno(), self._accept)

    def deadline(self) -> float:
        """Return when `tick` has something to do, in seconds of the loop's clock."""
        due = self._listen_at
        for client in self._clients.values():
            if not client.waits:
                due = min(due, client.moved_at + IDLE_S)
        return due

    def tick(self, now: float) -> None:
        """Close the connections that have been idle too long, and accept clients again."""
        idle = [c for c in self._clients.values() if not c.waits and now >= c.moved_at + IDLE_S]
        for client in idle:
            self._drop(client)
        if now >= self._listen_at:
            self._listen_at = float("inf")
            self._loop.register(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Close every connection and remove the socket from the file system."""
        for client in list(self._clients.values()):
            self._drop(client)
        if self._listen_at == float("inf"):
            self._loop.unregister(self._listener.fileno())
        self._listener.close()
        try:
            # Somebody may have put another socket there; that one is not ours to remove.
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
            if self._made_directory:
                os.rmdir(self._made_directory)
        except OSError:
            return

    def _accept(self, _events: int, now: float) -> None:
        try:
            channel, _ = self._listener.accept()
        except OSError as error:
            # Whoever waits goes on waiting, and the loop would turn for nothing.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._stop_listening(now)
            return
        channel.setblocking(False)
        client = Client(channel, now)
        if not self._has_place(client.uid):
            with contextlib.suppress(OSError):
                channel.send(error_reply("too many clients are connected: try again"))
            channel.close()
            return
        self._clients[channel.fileno()] = client
        self._loop.register(channel.fileno(), partial(self._serve_ready, client))
        self._loop.sooner(now + IDLE_S)

    def _serve_ready(self, client: Client, events: int, now: float) -> None:
        """Do what epoll says that a client is ready for."""
        try:
            if events & select.EPOLLOUT:
                self._flush(client, now)
            elif events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._receive(client, now)
        except OSError:
            # The client went away in the middle; nobody is left to tell.
            client.finished, client.reply = True, b""
        if client.finished and not client.reply:
            self._drop(client)

    def _has_place(self, uid: int) -> bool:
        """Say whether one more client of a user is served."""
        users = [client.uid for client in self._clients.values()]
        if uid == 0:
            return users.count(0) < CLIENTS_MAX
        others = len(users) - users.count(0)
        return others < CLIENTS_MAX and users.count(uid) < CLIENTS_PER_USER

    def _stop_listening(self, now: float) -> None:
        self._loop.unregister(self._listener.fileno())
        self._listen_at = now + RETRY_S
        self._loop.sooner(self._listen_at)

    def _receive(self, client: Client, now: float) -> None:
        try:
            more = client.channel.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not more:
            client.finished = True
            return
        client.received += more
        self._serve(client, now)

    def _serve(self, client: Client, now: float) -> None:
        """Answer one line if one is complete; the next waits for the next turn of the loop."""
        end = client.received.find(b"\n")
        if end > REQUEST_BYTES_MAX or (end < 0 and len(client.received) > REQUEST_BYTES_MAX):
            client.reply = error_reply(f"a request has at most {REQUEST_BYTES_MAX} bytes")
            client.finished = True
        elif end >= 0:
            line = bytes(client.received[:end])
            del client.received[: end + 1]
            client.reply = self._reply(client, line)
        if client.waits:
            client.moved_at = now
        if client.reply:
            client.moved_at = now
            self._send(client)
        self._watch(client)

    def _flush(self, client: Client, now: float) -> None:
        if not client.reply:
            self._serve(client, now)
            return
        client.moved_at = now
        self._send(client)
        self._watch(client)

    def _send(self, client: Client) -> None:
        try:
            sent = client.channel.send(client.reply)
        except BlockingIOError:
            sent = 0
        client.reply = client.reply[sent:]

    def _watch(self, client: Client) -> None:
        # A client that does not take its reply is not listened to either, and one that has sent
        # more lines is not until they are answered: for both, the loop waits to write.
        behind = client.reply or b"\n" in client.received
        wanted = select.EPOLLOUT if behind else select.EPOLLIN
        # While an answer is being made, only that the client goes away is of interest.
        self._loop.modify(client.channel.fileno(), 0 if client.waits else wanted)

    def _reply(self, client: Client, line: bytes) -> bytes:
        try:
            request = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return error_reply("a request is one JSON object on one line")
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return error_reply('a request is a JSON object with the key "command"')
        try:
            result = self._answer(request, client)
        except ValueError as error:
            return refusal(error)
        if isinstance(result, Later):
            client.waits = True
            result.to(lambda reply: self._deliver(client, reply))
            return b""
        return success(result)

    def _deliver(self, client: Client, reply: bytes) -> None:
        """Send the reply that `client` has been waiting for, if it is still there."""
        if self._clients.get(client.channel.fileno()) is not client:
            return
        client.waits = False
        client.reply = reply
        try:
            self._send(client)
        except OSError:
            self._drop(client)
            return
        self._watch(client)

    def _drop(self, client: Client) -> None:
        descriptor = client.channel.fileno()
        del self._clients[descriptor]
        self._loop.unregister(descriptor)
        client.channel.close()


def remove_stale(path: str) -> bool:
    """Remove the socket that a killed agent left at `path`; True if there was one.

    `ControlError` where an agent answers there, `ControlMistake` where something other than a
    socket stands.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ControlError(
            f"the control socket {path} cannot be looked at ({error.strerror})"
        ) from error
    if not stat.S_ISSOCK(mode):
        raise ControlMistake(f"{path} is not a socket: remove it or choose another control.path")
    if agent_answers(path):
        raise ControlError(f"an agent is running already and answers on {path}: stop it first")
    try:
        os.unlink(path)
    except OSError as error:
        raise ControlError(
            f"the old control socket {path} cannot be removed ({error.strerror})"
        ) from error
    return True


def _make_directory(directory: str) -> Optional[str]:
    """Make `directory` where it is missing; return its path if this made it."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return None
    except OSError as error:
        raise ControlError(
            f"the directory {directory} of the control socket cannot be made ({error.strerror}):"
            " make it, or choose another control.path"
        ) from error
    return directory


def _user_id(name: Optional[str]) -> int:
    try:
        return -1 if name is None else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ControlMistake(f"control.owner: there is no user {name}: create it first") from None


def _group_id(name: Optional[str]) -> int:
    try:
        return -1 if name is None else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ControlMistake(f"control.group: there is no group {name}: create it first") from None
