"""The connection between engine and steward: messages with descriptors, over a stream socket.

A message is its length, the number of descriptors that come with it, and its bytes. Descriptors
arrive with the first byte of their message (unix(7), SCM_RIGHTS), in the order of the messages.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from typing import Iterable, Iterator, List, Sequence, Tuple

_HEADER = struct.Struct("=IB")
_READ_BYTES = 1 << 16
#: No message brings more descriptors; the kernel takes 253 (SCM_MAX_FD).
DESCRIPTORS_MAX = 16

Received = Tuple[bytes, List[int]]


class Closed(Exception):
    """The other end is gone, or does not keep to the format."""


def frame(message: bytes, descriptors: int = 0) -> bytes:
    """Return a message as it travels, with the number of its descriptors."""
    return _HEADER.pack(len(message), descriptors) + message


def send_whole(connection: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a message over a blocking socket, and wait until it is sent; `OSError` if it cannot."""
    whole = memoryview(frame(message, len(descriptors)))
    if descriptors:
        rights = array.array("i", descriptors)
        sent = connection.sendmsg(
            [whole[:_READ_BYTES]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        )
        whole = whole[sent:]
    connection.sendall(whole)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Messages:
    """Puts together the messages that arrive at `connection`, of `bytes_max` at most.

    Descriptors are taken only where `descriptors` is true; else the kernel closes them.
    """

    def __init__(self, connection: socket.socket, bytes_max: int, descriptors: bool) -> None:
        self._connection = connection
        self._bytes_max = bytes_max
        self._ancillary = (
            socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize) if descriptors else 0
        )
        self._bytes = bytearray()
        self._descriptors: List[int] = []

    def read(self) -> List[Received]:
        """Read once; return the messages that are whole by now.

        `Closed` when the other end is gone, `BlockingIOError` where nothing waits.
        """
        try:
            data, ancillary, _, _ = self._connection.recvmsg(_READ_BYTES, self._ancillary)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Closed(error.strerror) from error
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
                self._descriptors += numbers
        if not data:
            raise Closed("the other end is gone")
        self._bytes += data
        return list(self._whole())

    def close(self) -> None:
        """Close descriptors that came with no whole message."""
        close_all(self._descriptors)
        self._descriptors.clear()

    def _whole(self) -> Iterator[Received]:
        while len(self._bytes) >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._bytes)
            if length > self._bytes_max or count > len(self._descriptors):
                raise Closed("a message breaks the format")
            end = _HEADER.size + length
            if len(self._bytes) < end:
                return
            message = bytes(self._bytes[_HEADER.size : end])
            del self._bytes[:end]
            descriptors = self._descriptors[:count]
            del self._descriptors[:count]
            yield message, descriptors
