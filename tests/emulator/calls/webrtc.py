"""One end of a WebRTC call: ``caller`` sends numbered pictures, ``called`` notes each as it comes.

It needs aiortc. The ends find each other over a unix socket, which is the same in all network
namespaces. SIGTERM ends one, which then writes what it saw. The number of a picture is in its
upper part, black and white; the lower part is noise, so that the encoder uses the rate it has.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import aioice.ice
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from av import VideoFrame

WIDTH, HEIGHT, PER_S = 320, 240, 30
CLOCK_HZ = 90000  # of the RTP payload type
BITS = 16
#: Each bit is there twice, the second time inverted, so that a broken picture is known.
BIT_WIDTH = WIDTH // (2 * BITS)
NUMBER_HEIGHT = HEIGHT // 2
MASK = (1 << BITS) - 1
BLACK, WHITE = 32, 224
#: Rows of noise that are there; each picture begins with another one.
NOISE_ROWS = 1024
NOISE_SEED = 1


class Camera(MediaStreamTrack):
    """Gives a numbered picture PER_S times a second; none for the time that it was not asked."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        noise = random.Random(NOISE_SEED)
        #: Blocks of 4 pixels: finer noise would be thrown away before it costs anything.
        rows = (
            b"".join(bytes([noise.randrange(96, 160)]) * 4 for _ in range(WIDTH // 4))
            for _ in range(NOISE_ROWS // 4)
        )
        self._noise = b"".join(row * 4 for row in rows)
        self._began_at = time.monotonic()
        self._number = 0
        self.captured: Dict[int, float] = {}

    async def recv(self) -> VideoFrame:
        """Wait until the next picture is due, and return it."""
        now = time.monotonic()
        self._number = max(self._number + 1, int((now - self._began_at) * PER_S))
        await asyncio.sleep(max(self._began_at + self._number / PER_S - now, 0))
        frame = self._picture(self._number)
        self.captured[self._number] = time.monotonic()
        return frame

    def _picture(self, number: int) -> VideoFrame:
        twice = number | (~number & MASK) << BITS
        levels = (WHITE if twice >> bit & 1 else BLACK for bit in range(2 * BITS))
        row = b"".join(bytes([level]) * BIT_WIDTH for level in levels)
        start = WIDTH * (7 * number % (NOISE_ROWS - HEIGHT))
        noise = self._noise[start : start + WIDTH * (HEIGHT - NUMBER_HEIGHT)]
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        grey = bytes([128]) * (WIDTH * HEIGHT // 4)
        for plane, pixels in zip(frame.planes, (row * NUMBER_HEIGHT + noise, grey, grey)):
            plane.update(_padded(pixels, plane.width, plane.line_size))
        frame.pts = number * CLOCK_HZ // PER_S
        frame.time_base = Fraction(1, CLOCK_HZ)
        return frame


def _padded(pixels: bytes, width: int, line_size: int) -> bytes:
    if width == line_size:
        return pixels
    lines = (pixels[at : at + width] for at in range(0, len(pixels), width))
    return b"".join(line.ljust(line_size, b"\0") for line in lines)


def number_of(frame: VideoFrame) -> Optional[int]:
    """Return the number that a decoded picture has in its upper part; None if it is broken."""
    plane = frame.planes[0]
    start = plane.line_size * (NUMBER_HEIGHT // 2)
    row = bytes(plane)[start : start + WIDTH]
    levels = (row[bit * BIT_WIDTH + BIT_WIDTH // 2] for bit in range(2 * BITS))
    twice = sum((level > (BLACK + WHITE) // 2) << bit for bit, level in enumerate(levels))
    number = twice & MASK
    return number if twice >> BITS == ~number & MASK else None


async def caller(connection: RTCPeerConnection, place: str, camera: Camera) -> None:
    """Call whoever listens at the unix socket."""
    connection.addTrack(camera)
    await connection.setLocalDescription(await connection.createOffer())
    reader, writer = await asyncio.open_unix_connection(place)
    _say(writer, connection)
    await _hear(reader, connection)


async def called(
    connection: RTCPeerConnection, place: str, played: List[Tuple[int, float]]
) -> None:
    """Take a call at the unix socket, and note every picture."""

    async def note(track: MediaStreamTrack) -> None:
        while True:
            number = number_of(await track.recv())
            if number is None:
                continue
            if not played:
                print("playing", flush=True)
            played.append((number, time.monotonic()))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _hear(reader, connection)
        await connection.setLocalDescription(await connection.createAnswer())
        _say(writer, connection)

    notes = []
    connection.on("track", lambda track: notes.append(asyncio.ensure_future(note(track))))
    await asyncio.start_unix_server(answer, place)
    print("ready", flush=True)


def _say(writer: asyncio.StreamWriter, connection: RTCPeerConnection) -> None:
    own = connection.localDescription
    writer.write(json.dumps({"sdp": own.sdp, "type": own.type}).encode() + b"\n")


async def _hear(reader: asyncio.StreamReader, connection: RTCPeerConnection) -> None:
    description = json.loads(await reader.readline())
    await connection.setRemoteDescription(RTCSessionDescription(**description))


async def main(role: str, address: str, place: str, seen: str) -> None:
    """Be one end, at this address alone, until SIGTERM; then write JSON to the file ``seen``."""
    # The links' own addresses would be ways around what is measured.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    connection = RTCPeerConnection()
    camera = Camera()
    played: List[Tuple[int, float]] = []
    if role == "caller":
        await caller(connection, place, camera)
    else:
        await called(connection, place, played)
    await over.wait()
    found = list(camera.captured.items()) if role == "caller" else played
    Path(seen).write_text(json.dumps(found), encoding="ascii")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
