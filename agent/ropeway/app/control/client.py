"""The control socket, as who asks sees it."""

from __future__ import annotations

import errno
import json
import socket
from typing import Any, Dict, Optional

REPLY_TIMEOUT_S = 5.0


class ControlError(Exception):
    """A request that got no good answer; the text is a sentence for the user."""

    def __init__(self, sentence: str, reason: Optional[str] = None) -> None:
        super().__init__(sentence)
        self.reason = reason


class NoAnswer(ControlError):
    """A request that no agent answered; one may later."""


def request(path: str, message: Dict[str, Any], timeout_s: float = REPLY_TIMEOUT_S) -> Any:
    """Send one request to the agent on `path` and return the result.

    `ControlError` with a sentence where no agent answers or the agent refuses.
    """
    with Connection(path, timeout_s) as connection:
        return connection.request(message)


class Connection:
    """A client's end for several requests to the agent on `path`, opened with the first of them.

    After `NoAnswer` the next request opens it anew.
    """

    def __init__(self, path: str, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._channel: Optional[socket.socket] = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, message: Dict[str, Any]) -> Any:
        """Send `message` and return the result; `ControlError` as the function `request`."""
        path = self._path
        try:
            line = self._exchange(json.dumps(message).encode() + b"\n")
        except PermissionError:
            self.close()
            raise ControlError(
                f"you may not use the control socket {path}:"
                " run this as root or as a member of its group"
            ) from None
        except socket.timeout:
            self.close()
            raise NoAnswer(f"the agent on {path} does not answer: look at its log") from None
        except OSError as error:
            self.close()
            raise NoAnswer(
                f"no agent answers on {path} ({error.strerror or error}):"
                " start it, or name its socket with --control"
            ) from None
        try:
            reply = json.loads(line.decode("utf-8"))
            good = reply["ok"]
            return_value = reply["result"] if good else str(reply["error"])
            reason = None if good else reply.get("reason")
        except (ValueError, KeyError, TypeError):
            self.close()
            raise NoAnswer(f"the agent on {path} closed the connection: try again") from None
        if not good:
            raise ControlError(return_value, reason)
        return return_value

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _exchange(self, line: bytes) -> bytes:
        if self._channel is None:
            self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._channel.settimeout(self._timeout_s)
            self._channel.connect(self._path)
        self._channel.sendall(line)
        # The agent answers a line with a line, so nothing of a later one is read here.
        with self._channel.makefile("rb") as replies:
            return replies.readline()


def agent_answers(path: str) -> bool:
    """Tell whether a process listens on the socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.setblocking(False)
        try:
            channel.connect(path)
        except OSError as error:
            # EAGAIN: its queue is full, so somebody is there. EACCES: somebody may be there.
            return error.errno in (errno.EAGAIN, errno.EACCES)
    return True
