"""Messages with descriptors between engine and steward."""

from __future__ import annotations

import os
import socket

import pytest

from ropeway.steward.pipe import Closed, Messages, frame, send_whole

BYTES_MAX = 1 << 20


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    there.setblocking(False)
    yield here, there
    here.close()
    there.close()


def read_all(messages):
    found = []
    try:
        while True:
            found += messages.read()
    except BlockingIOError:
        return found


def test_messages_come_whole_and_in_order(ends):
    here, there = ends
    messages = Messages(there, BYTES_MAX, descriptors=False)
    stream = frame(b"first") + frame(b"") + frame(b"third")
    for at in range(len(stream)):
        here.send(stream[at : at + 1])
    assert read_all(messages) == [(b"first", []), (b"", []), (b"third", [])]


def test_descriptors_come_with_their_message(ends):
    here, there = ends
    messages = Messages(there, BYTES_MAX, descriptors=True)
    pipes = [os.pipe() for _ in range(3)]
    send_whole(here, b"two", [pipes[0][0], pipes[1][0]])
    send_whole(here, b"none")
    send_whole(here, b"one", [pipes[2][0]])
    found = read_all(messages)
    assert [(message, len(descriptors)) for message, descriptors in found] == [
        (b"two", 2), (b"none", 0), (b"one", 1),
    ]  # fmt: skip
    received = [descriptor for _, descriptors in found for descriptor in descriptors]
    for (_, writer), reader in zip(pipes, received):
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
    for descriptor in (*received, *(end for pipe in pipes for end in pipe)):
        os.close(descriptor)


def test_descriptors_for_who_takes_none_are_closed(ends):
    here, there = ends
    messages = Messages(there, BYTES_MAX, descriptors=False)
    reader, writer = os.pipe()
    send_whole(here, b"take this", [writer])
    os.close(writer)
    with pytest.raises(Closed, match="breaks the format"):
        messages.read()
    assert os.read(reader, 1) == b"", "nobody holds the other end"
    os.close(reader)


def test_end_of_the_other_side_is_told(ends):
    here, there = ends
    here.close()
    with pytest.raises(Closed):
        Messages(there, BYTES_MAX, descriptors=False).read()


def test_message_that_is_too_long_ends_the_connection(ends):
    here, there = ends
    here.send(frame(bytes(10)))
    with pytest.raises(Closed, match="breaks the format"):
        Messages(there, 9, descriptors=False).read()
