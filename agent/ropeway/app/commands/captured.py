"""The commands `ropeway keylog` and `ropeway decrypt`."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
import time
from typing import Set, TextIO

from ropeway.app.commands.outcome import EXIT_OK, fail
from ropeway.app.commands.output import show
from ropeway.app.control import client

KEYLOG_EVERY_S = 1.0


def keylog(options: argparse.Namespace) -> int:
    """Print the keys of the sessions; return the exit code."""
    if options.output is None:
        return _log_keys(options, sys.stdout)
    try:
        with open(_open_private(options.output), "a", encoding="ascii") as file:
            return _log_keys(options, file)
    except OSError as error:
        return fail(f"{options.output} cannot be written ({error.strerror})")
    except ValueError as error:
        return fail(str(error))


def _open_private(path: str) -> int:
    """Open a file to append to that only the caller can read, made where it is missing.

    `ValueError` with a sentence where something else stands at `path`: what is there already stays
    as it is.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    # Merely to open a device may do something, so look before.
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(f"{path} is not a file: name a new one")
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and mode == 0o600:
        return descriptor
    os.close(descriptor)
    raise ValueError(
        f"{path} is there already and not your own file of mode 0600, so others may read it: name"
        " a new one"
    )


def _log_keys(options: argparse.Namespace, output: TextIO) -> int:
    from ropeway.app import capture

    known: Set[str] = set()
    answered = told = False
    with client.Connection(options.control) as connection:
        try:
            while True:
                try:
                    sessions = connection.request({"command": "keylog"})
                except client.NoAnswer as error:
                    if not options.follow or not answered:
                        raise
                    if not told:
                        fail(f"{error}; trying again")
                    told, sessions = True, []
                else:
                    answered, told = True, False
                for line in capture.key_lines(sessions):
                    if line not in known:
                        known.add(line)
                        print(line, file=output)
                output.flush()
                if not options.follow:
                    return EXIT_OK
                time.sleep(KEYLOG_EVERY_S)
        except KeyboardInterrupt:
            return EXIT_OK


def decrypt(options: argparse.Namespace) -> int:
    """Write the packets of a capture; return the exit code."""
    from ropeway.app import capture

    # What is worked on, for an error that does not say it.
    at = options.keys
    try:
        with open(options.keys, encoding="ascii", errors="replace") as file:
            inputs = [os.fstat(file.fileno())]
            keys = capture.read_keys(file, options.keys)
        at = options.capture
        with open(options.capture, "rb") as source:
            inputs.append(os.fstat(source.fileno()))
            # Refuse what is no capture before anything is overwritten.
            reader = capture.Pcap(source)
            at = options.output
            with open(options.output, "wb", opener=_open_untouched) as output:
                found = os.fstat(output.fileno())
                if stat.S_ISREG(found.st_mode):
                    if any(os.path.samestat(found, other) for other in inputs):
                        return fail(f"{options.output} is what is to be read: name another output")
                    output.truncate()
                counts = capture.decrypt(reader, keys, output, options.all_copies)
    except capture.CaptureError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or at}: {error.strerror}")
    if options.json:
        show({what.replace(" ", "_"): count for what, count in counts.items()})
    else:
        print(", ".join(f"{count} {what}" for what, count in counts.items()), file=sys.stderr)
    return EXIT_OK


def _open_untouched(path: str, flags: int) -> int:
    """Open `path` without emptying it; a new file is for its owner alone."""
    return os.open(path, flags & ~os.O_TRUNC, 0o600)
