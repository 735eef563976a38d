"""The path of packets through the agent, in both directions.

Packets from the device and datagrams from the links go to the node in batches, and what comes of
them is sent and delivered at once. Where more come than can be carried, they wait in a fair queue
for each direction, which is served a batch a turn. A packet that has waited for too long is
dropped. Nothing here decides about the protocol; the node does.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Union

from ropeway.app.engine.device import Device
from ropeway.app.engine.freshness import DeviceSource, LinkSource
from ropeway.app.engine.loop import Loop
from ropeway.app.engine.ports import Ports, Receivers
from ropeway.app.engine.wakefulness import Wakefulness
from ropeway.core import events
from ropeway.core.facade import Node
from ropeway.core.frame.data import Train

log = logging.getLogger("ropeway")

# Tuning
#: The loop turns more often than this; otherwise the agent, and perhaps the machine, did not run.
STOOD_STILL_S = 3.0
#: The agent is idle when no packet has come for this long.
QUIET_S = 0.1

#: Occasions after which an answer may follow soon.
SENT, DELIVERED = "sent", "delivered"


@dataclass(frozen=True)
class Reports:
    """Functions that the pump calls when something happens that others must deal with."""

    #: Reading a link's socket failed: the receiver, the error, and the time.
    receive_failed: Callable[[Receivers, OSError, float], None]
    #: The agent did not run for `STOOD_STILL_S`; called before anything is sent.
    stood_still: Callable[[float], None]
    #: The node had events.
    happened: Callable[[float], None]
    #: The node has met far addresses whose routes were not looked up yet.
    lookup_wanted: Callable[[float], None]


class Pump:
    """Reads, hands to the node, sends and delivers.

    `take_frames` returns what the node wants sent, by socket key and destination.
    """

    def __init__(
        self,
        node: Node,
        take_frames: Callable[[], Dict[Any, Any]],
        ports: Ports,
        device: Device,
        loop: Loop,
        wakefulness: Wakefulness,
        reports: Reports,
    ) -> None:
        self._node = node
        self._take_frames = take_frames
        #: The sockets of the links.
        self.ports = ports
        self._incoming = ports.incoming
        self._bound = loop.bound
        self._polling = loop.polling
        #: Keeps the processors from deep sleep while packets pass.
        self.wakefulness = wakefulness
        self._reports = reports
        #: The virtual device.
        self.device = device
        device.connect(self.read_device)
        #: Counts turns of the loop.
        self.turn = 0
        #: `SENT` or `DELIVERED` if this turn did that, otherwise empty.
        self.occasion = ""
        #: When the last packet came, or waited.
        self.packet_at = float("-inf")
        self._began_at = loop.clock()
        # Packets of the virtual network that were carried up to the last turn.
        self._carried = 0
        # What links hold from a standstill is read first, in the order in which it came.
        self._links_wait = False

    # --- the loop's side

    def wait_s(self, due: float) -> float:
        """Return how long the loop may wait, when the next deadline is `due`."""
        if self.device.outgoing.waits or self._incoming.waits or self.ports.merge.goes_on:
            return 0.0
        bound = self._bound
        return max(0.0, min(min(self._node.deadline(), due) - bound.clock(), bound.wake_s))

    def stood_still(self) -> None:
        """Take note that the loop did not run for longer than a packet may wait."""
        self.ports.merge.begin(self.ports.sources.values())

    def begin(self, now: float) -> None:
        """Begin a turn: after a standstill, deal with what may have changed meanwhile."""
        self.turn += 1
        self.occasion = ""
        before, self._began_at = self._began_at, now
        if now - before >= STOOD_STILL_S:
            self._reports.stood_still(now)
        self._links_wait = self.ports.merge.goes_on
        if self._links_wait:
            self._read_merged(now)

    def end(self, now: float) -> None:
        """Serve what waits, tick the node, and send and deliver what it has decided."""
        node, bound, incoming = self._node, self._bound, self._incoming
        outgoing = self.device.outgoing
        waited = incoming.waits or outgoing.waits
        if incoming.waits:
            incoming.serve(now, now - bound.max_age_s)
        if outgoing.waits:
            outgoing.serve(now, now - bound.max_age_s)
        if now >= node.deadline():
            node.tick(now)
        self.flush(now)
        carried = node.router.carried
        if carried == self._carried:
            # What hosts say to each other never ends, and nobody waits for an answer to it.
            self.occasion = ""
        self._carried = carried
        if self.occasion or waited:
            self.packet_at = now
            self.wakefulness.note(carried, now)
            self._polling.note(carried, now)
            # The kernel itself looks only at its ticks, 4 ms apart, whether others wait for this
            # processor. Whoever gave it away often is soon given it back.
            os.sched_yield()

    def flush(self, now: float) -> None:
        """Carry out what the node has decided."""
        self._send()
        self._deliver()
        self._incoming.oldest = self.device.outgoing.oldest = float("inf")
        happened = self._node.take_events()
        if happened:
            for event in happened:
                log.log(logging.WARNING if events.is_warning(event) else logging.INFO, "%s", event)
            self._reports.happened(now)
        if self._node.wants_lookup:
            self._reports.lookup_wanted(now)

    def is_idle(self, now: float) -> bool:
        """Say whether no packet has come for a moment."""
        return now - self.packet_at >= QUIET_S

    # --- in

    def receive(self, source: LinkSource, _events: int, now: float) -> None:
        """Read a link that is ready, deliver what comes, and read what the kernel answers."""
        source.look()
        if self._links_wait:
            return
        try:
            self._incoming.read(source, self.turn, now)
        except OSError as error:
            self._reports.receive_failed(source.sockets, error, now)
        if self._deliver():
            self.occasion = DELIVERED
            # The kernel answers some at once: echoes, acknowledgements.
            self.device.read_answered(self.turn, now)
            if self._send():
                self.occasion = SENT
        elif self._send():
            self.occasion = SENT

    def _read_merged(self, now: float) -> None:
        """Handle some of what came to the links while the agent stood still."""
        for source, dated in self.ports.merge.take():
            self._incoming.hand_on(source.key, dated.reads, dated.since, now)
        if self._deliver():
            self.occasion = DELIVERED

    def _deliver(self) -> bool:
        """Write to the device what the node has for it; say whether that was anything."""
        router = self._node.router
        if not (router.packets or router.partial_packets):
            return False
        device = self.device
        tun = device.tun
        self._expire()
        if router.packets:
            write = tun.write_batch if tun else _no_device
            device.note_refused(write(router.take_packets()))
        if router.partial_packets:
            write = tun.write_partial if tun else _no_device
            device.note_refused(write(router.take_partial_packets()))
        return True

    # --- out

    def read_device(self, number: int, source: DeviceSource, _events: int, now: float) -> None:
        """Read a queue of the device that is ready, and send what comes."""
        self.device.read(number, source, self.turn, now)
        if self._send():
            self.occasion = SENT

    def _send(self) -> bool:
        """Send what the node has for others; say whether that was anything."""
        node, senders = self._node, self.ports.senders
        if node.tables.touched:
            self._expire()
        outgoing = self._take_frames()
        for (key, destination), frames in outgoing.items():
            sockets = senders.get(key)
            if sockets is None:
                node.send_failed(key, "ENODEV", sum(map(_frames_in, frames)))
                continue
            refused = sockets.send_batch(destination, frames)
            if refused:
                for reason, count in refused.items():
                    node.send_failed(key, reason, count)
        return bool(outgoing)

    def _expire(self) -> None:
        """Have the node drop what became too old in its hands: the agent stood still just now."""
        expired_at = self._bound.expired_at()
        if self._incoming.oldest < expired_at or self.device.outgoing.oldest < expired_at:
            self._node.expire_packets()


def _frames_in(sent: Union[Train, bytes]) -> int:
    return sent.count if isinstance(sent, Train) else 1


def _no_device(packets: List[bytes]) -> Dict[str, int]:
    return {"ENODEV": len(packets)}
