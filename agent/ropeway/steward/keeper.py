"""The keeper: starts the steward, and starts it again whenever it has ended.

It is forked from the engine before that gives up its privileges. It does nothing else, so nothing
can reach it. It loads the steward's modules once, and each steward is a copy of it that serves at
once: to load them takes 0.1 s of a processor beside the packets, and after an update of the package
they would be of another version than the engine's.

The engine gets its end of each steward's pipe over a socket. The memory by which one steward leaves
the next one what it has read is made here, apart from the engine.
"""

from __future__ import annotations

import array
import contextlib
import gc
import logging
import os
import select
import signal
import socket
import struct
import time
from typing import Callable, NoReturn, Optional, Tuple

from ropeway.kernel import process
from ropeway.steward.handover import Handover

log = logging.getLogger("ropeway")

#: The steward's work over its end of a pipe, until the other end is closed.
Serve = Callable[[socket.socket, Handover], None]
#: Loads what that takes.
Load = Callable[[], Serve]

#: A steward that ends again so soon is started again ever later.
STEADY_S = 10.0
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 10.0
#: After the engine has gone, the steward removes what it made within this time.
CLEAN_UP_S = 5.0

PID = struct.Struct("=i")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(load: Load) -> Tuple[socket.socket, int]:
    """Fork the keeper of stewards; return the engine's socket to it, and its process ID."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # What reaches the child before it has its own handlers must not run those of the parent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = os.fork()
    if child == 0:
        here.close()
        _be_the_keeper(there, load)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    there.close()
    return here, child


def _be_the_keeper(engine: socket.socket, load: Load) -> NoReturn:
    status = 1
    try:
        # A session of its own has its own share of the processors, and no terminal's signals.
        with contextlib.suppress(OSError):
            os.setsid()
        # The engine's niceness is for packets.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        process.set_name("ropeway-keeper")
        serve = load()
        # A collection would write to what is shared with the stewards, and so copy it.
        gc.collect()
        gc.freeze()
        _keep(engine, serve)
        status = 0
    except Exception:
        log.exception("the steward's keeper has failed")
    finally:
        os._exit(status)


def _keep(engine: socket.socket, serve: Serve) -> None:
    handover = Handover()
    pause_s = PAUSE_MIN_S
    while True:
        began = time.monotonic()
        try:
            child, ended = _fork_steward(engine, serve, handover)
        except OSError as error:
            log.warning("the steward cannot be started (%s): trying again", error.strerror or error)
        else:
            if _wait(engine, ended, None):
                _wait_for_end(child, ended)
                return
            os.close(ended)
            os.waitpid(child, 0)
        steady = time.monotonic() - began >= STEADY_S
        pause_s = PAUSE_MIN_S if steady else min(2 * pause_s, PAUSE_MAX_S)
        if _wait(engine, -1, pause_s):
            return


def _fork_steward(engine: socket.socket, serve: Serve, handover: Handover) -> Tuple[int, int]:
    """Start a steward; return its process ID, and a descriptor that hangs up when it ends."""
    of_engine, of_steward = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ended, alive = os.pipe()
        try:
            child = os.fork()
        except OSError:
            os.close(ended)
            os.close(alive)
            raise
    except OSError:
        of_engine.close()
        of_steward.close()
        raise
    if child == 0:
        status = 1
        try:
            engine.close()
            of_engine.close()
            os.close(ended)
            process.set_name("ropeway-steward")
            serve(of_steward, handover)
            status = 0
        except Exception:
            log.exception("the steward has failed")
        finally:
            os._exit(status)
    os.close(alive)
    of_steward.close()
    rights = array.array("i", [of_engine.fileno()])
    with contextlib.suppress(OSError):  # the engine is gone, which shows at once
        engine.sendmsg([PID.pack(child)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    of_engine.close()
    return child, ended


def _wait(engine: socket.socket, ended: int, timeout_s: Optional[float]) -> bool:
    """Wait until the engine or the steward is gone, or for a time; True if the engine is gone."""
    waiting = select.poll()
    # Nothing is ever read: the engine says nothing.
    waiting.register(engine, 0)
    if ended >= 0:
        waiting.register(ended, 0)
    ready = waiting.poll(None if timeout_s is None else timeout_s * 1000)
    return any(descriptor == engine.fileno() for descriptor, _ in ready)


def _wait_for_end(child: int, ended: int) -> None:
    waiting = select.poll()
    waiting.register(ended, 0)
    if not waiting.poll(CLEAN_UP_S * 1000):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
