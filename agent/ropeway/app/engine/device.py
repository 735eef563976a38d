"""The device, as packets use it: its queues are read, and what arrives is written to it.

Whoever makes and configures the device hands it over; nothing here changes it.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from functools import partial
from typing import Any, Callable, Dict, Hashable, List, Optional, Tuple

from ropeway.app.engine.freshness import DeviceSource
from ropeway.app.engine.intake import Intake
from ropeway.app.engine.loop import Loop
from ropeway.core.facade import Node
from ropeway.core.packet import segments, version
from ropeway.kernel.features import count_refused
from ropeway.kernel.tun import Tun

log = logging.getLogger("ropeway")

# Tuning
#: Pieces that are read in a turn of a queue that brings too much: answered flows have left it.
OVERRUN_PIECES = 4

#: RFC 791, section 3.2: every network carries 68 bytes; Linux gives no IPv4 to a smaller device.
DEVICE_MTU_MIN = 68
#: The intake's key of what was read from a queue of the device, before the queue's number.
DEVICE = "device"

#: Takes a queue's number, its source, epoll's events and the time.
Read = Callable[[int, DeviceSource, int, float], None]


class Device:
    """The open device `name`, or its absence.

    `outgoing` takes what is read; `failed` is called when reading failed, so that somebody looks at
    the device.
    """

    def __init__(
        self,
        name: str,
        loop: Loop,
        outgoing: Intake,
        failed: Callable[[float], None],
    ) -> None:
        self.name = name
        self._loop = loop
        #: What is read from the device is handed on, or waits its turn.
        self.outgoing = outgoing
        self._on_ready: Read
        self._failed = failed
        #: The open device; None while there is none.
        self.tun: Optional[Tun] = None
        #: The kernel's interface index; 0 while there is no device.
        self.index = 0
        #: The device's MTU in bytes, as it was set last.
        self.mtu = 0
        #: The number of the queue that answered flows are led to.
        self.answered = 0
        self._sources: List[DeviceSource] = []
        #: How often reading and writing failed, by error name.
        self.read_errors: Dict[str, int] = {}
        self.write_errors: Dict[str, int] = {}

    def connect(self, read: Read) -> None:
        """Have `read` called when a queue is ready; needed before the first `attach`."""
        self._on_ready = read

    def attach(self, tun: Tun, index: int) -> None:
        """Take over an open device in place of the one before.

        `OSError` if the loop cannot wait for it; then it is closed.
        """
        self.detach()
        self.tun, self.index, self.answered = tun, index, 0
        try:
            for number, queue in enumerate(tun.queues):
                key = (DEVICE, number)
                source = DeviceSource(key, queue, tun, self._loop.bound, self.outgoing.expire)
                read = partial(self._on_ready, number, source)
                self._loop.register(queue.fileno(), read, first=True)
                self._sources.append(source)
        except OSError:
            self.detach()
            raise

    def detach(self) -> None:
        """Close the device, if there is one."""
        if self.tun is not None:
            for queue in self.tun.queues[: len(self._sources)]:
                self._loop.unregister(queue.fileno())
            self._sources.clear()
            self.tun.close()
            self.tun = None
            self.index = 0

    def measure(self) -> None:
        """Look up how much the device's queues hold."""
        if self.tun is not None:
            self.tun.measure()

    def read(self, number: int, source: DeviceSource, turn: int, now: float) -> None:
        """Read a queue, and hand what comes to the node."""
        try:
            source.look()
            self.outgoing.read(source, turn, now)
        except OSError as error:
            if error.errno == errno.EBADFD:
                log.warning("device %s is gone", self.name)
                self.detach()
            else:
                # One packet that cannot be read must not cost the device's addresses and routes.
                count_refused(self.read_errors, error)
            self._failed(now)
        if number == self.answered and self.outgoing.overruns((DEVICE, number)):
            self._spare_the_answered()

    def read_answered(self, turn: int, now: float) -> None:
        """Read the queue of answered flows: the kernel answers some packets at once."""
        if self.tun is not None:
            self.read(self.answered, self._sources[self.answered], turn, now)

    def note_refused(self, refused: Dict[str, int]) -> None:
        """Count packets that the device did not take, by error name."""
        for reason, count in refused.items():
            self.write_errors[reason] = self.write_errors.get(reason, 0) + count

    def status(self) -> Dict[str, Any]:
        """Return the device's part of the status."""
        return {
            "name": self.name,
            "index": self.index,
            "mtu": self.mtu,
            "read_errors": dict(self.read_errors),
            "write_errors": dict(self.write_errors),
            "dropped": dict(sum(self.outgoing.dropped.values(), Counter())),
        }

    def _spare_the_answered(self) -> None:
        """Have answered flows move away from a flood that fills their queue."""
        # Reading may just have found that the device is gone, and its queues with it.
        for number in range(len(self._sources)):
            if self.tun is not None and not self.outgoing.overruns((DEVICE, number)):
                self.answered = number
                self.tun.write_through(number)
                return


def outgoing_intake(node: Node, headers: bool) -> Intake:
    """Return the intake of what is read from the device.

    `headers` says whether packets come with virtio-net headers and perhaps as super-packets.
    """

    def hand_on(packets: List[bytes], _: Hashable, now: float) -> None:
        node.outbound(packets, now)

    def split(reads: List[bytes], _: Hashable, now: float) -> None:
        for packets, partial_checksums in segments.split(reads):
            node.outbound(packets, now, partial_checksums)

    if headers:
        return Intake(split, segments.flow, segments.count, _no_super_packet, OVERRUN_PIECES)
    return Intake(hand_on, version.flow, _one, _no_packet, OVERRUN_PIECES)


def _one(_: bytes) -> int:
    return 1


def _no_packet(reads: List[bytes]) -> Tuple[List[bytes], int]:
    return [], len(reads)


def _no_super_packet(reads: List[bytes]) -> Tuple[List[bytes], int]:
    return [], sum(map(segments.count, reads))
