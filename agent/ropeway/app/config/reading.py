"""The configuration, read in a child process."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from typing import Union

from ropeway.app.config import read
from ropeway.app.config.model import Config
from ropeway.app.errors import ConfigError

READING_MAX_S = 30
"""A child that reads the file ends after that, whatever becomes of its parent."""
_PIPE_BYTES = 65536
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)


class Reading:
    """Reads and checks a file as `read` does, in a child that takes the parsers' memory with it.

    The descriptor becomes readable, in epoll's sense, when there is something to `take`. The child
    holds no other descriptor of its parent, ends on the signals that end a program, and by itself
    after `READING_MAX_S`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pickled = b""
        receiver, sender = os.pipe()
        # What reaches the child before it has its own handlers must not run those of the parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING_SIGNALS)
        try:
            self._child = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(receiver)
            os.close(sender)
            raise
        if self._child == 0:
            status = 1
            try:
                _stand_alone(sender)
                answer: Union[Config, ConfigError]
                try:
                    answer = read.read(path)
                except ConfigError as error:
                    answer = error
                with os.fdopen(sender, "wb") as pipe:
                    pickle.dump(answer, pipe)
                status = 0
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(sender)
        self._pipe = receiver

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._pipe

    def take(self) -> bool:
        """Take what the child has written by now; True if that was the last of it."""
        more = os.read(self._pipe, _PIPE_BYTES)
        self._pickled += more
        return not more

    def result(self) -> Config:
        """Return what `read` would have, after `take` gave True; `ConfigError` as it would."""
        os.close(self._pipe)
        _, status = os.waitpid(self._child, 0)
        if status != 0:
            raise ConfigError([f"{self.path}: reading the file failed: try `ropeway check-config`"])
        answer = pickle.loads(self._pickled)  # noqa: S301 - written by our own child just now
        if isinstance(answer, ConfigError):
            raise answer
        assert isinstance(answer, Config)
        return answer

    def give_up(self) -> None:
        """End the child, whatever it does."""
        os.close(self._pipe)
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


def _stand_alone(kept: int) -> None:
    """Leave this process, a child just forked, nothing of its parent but `kept` and 0 to 2."""
    signal.set_wakeup_fd(-1)
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING_SIGNALS)
    # Its parent may die without giving it up.
    signal.alarm(READING_MAX_S)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the one that listed them is closed already
                os.close(int(name))


def read_apart(path: str) -> Config:
    """Do as `read` does, but in a child process that takes the parsers' memory with it."""
    reading = Reading(path)
    while not reading.take():
        pass
    return reading.result()
