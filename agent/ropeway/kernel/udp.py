"""Sending and receiving UDP datagrams at one address of one local interface.

The socket is bound to the interface as well as to the address, so that each link has its own way
out whatever the routes prefer, and its datagrams are never fragmented: how large they may be is
for the path MTU probes to find out.
Where the kernel takes it, a train of frames goes out in one call, to be cut by the kernel or the
card, and datagrams that came in a row come in one call.
Source of the formats: ip(7), ipv6(7), socket(7), udp(7), `include/uapi/linux/in.h`,
`include/uapi/linux/in6.h`, `include/uapi/linux/sock_diag.h`, `include/uapi/linux/udp.h`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

from ropeway.core.endpoint import Endpoint
from ropeway.core.frame.data import PACKET_TYPES, Received, Train
from ropeway.core.frame.outer import outer_size
from ropeway.kernel.arrivals import arrived_at, note_arrivals
from ropeway.kernel.buffers import (
    FRAME_BYTES,
    SendBuffer,
    set_receive_buffer,
    set_send_buffer,
)
from ropeway.kernel.classic_sockets import DATAGRAM_BYTES_MAX
from ropeway.kernel.features import NOT_ASKED_FOR, ON, count_no_room, count_refused
from ropeway.kernel.meter import Meter

IP_MTU_DISCOVER = 10  # include/uapi/linux/in.h
IP_PMTUDISC_PROBE = 3  # DF is set, and what the kernel believes of the path MTU is ignored
IPV6_MTU_DISCOVER = 23  # include/uapi/linux/in6.h
IPV6_PMTUDISC_PROBE = 3
SO_MEMINFO = 55  # include/uapi/asm-generic/socket.h, since Linux 4.12
#   enum { SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF, SK_MEMINFO_WMEM_ALLOC, SK_MEMINFO_SNDBUF,
#          SK_MEMINFO_FWD_ALLOC, SK_MEMINFO_WMEM_QUEUED, SK_MEMINFO_OPTMEM, SK_MEMINFO_BACKLOG,
#          SK_MEMINFO_DROPS, SK_MEMINFO_VARS };  each is one __u32
SK_MEMINFO = struct.Struct("=9I")
SK_MEMINFO_DROPS = 8
UDP_SEGMENT = 103  # include/uapi/linux/udp.h, since Linux 4.18
UDP_GRO = 104  # include/uapi/linux/udp.h, since Linux 5.0
#   The value of UDP_SEGMENT as ancillary data is a __u16, that of UDP_GRO an int.
SEGMENT_SIZE = struct.Struct("=H")
GRO_SIZE = struct.Struct("=i")
GRO_SPACE = socket.CMSG_SPACE(GRO_SIZE.size)

#   The value of IP_TOS and of IPV6_TCLASS as ancillary data is an int: the whole DS field.
DS_FIELD = struct.Struct("=i")

UDP_FEATURES = ("udp_segment", "udp_gro")

Ancillary = Tuple[Tuple[int, int, bytes], ...]


def _marks(level: int, option: int) -> Tuple[Ancillary, ...]:
    """Return what sets the DS field of a datagram, by its value; 0 is what it has anyway."""
    return ((), *(((level, option, DS_FIELD.pack(field)),) for field in range(1, 256)))


_MARKS = _marks(socket.IPPROTO_IP, socket.IP_TOS)
_MARKS_IPV6 = _marks(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)

# Tuning
# Where the kernel refused a train, so many go frame by frame before another is tried: what was in
# the way (IPsec, a card's settings) may be gone by then. A try in vain costs what a few frames do.
APART_TRAINS = 256
# Endpoints that this is known of; beyond it all are tried anew.
APART_ENDPOINTS_MAX = 256

LOOPBACK_IFINDEX = 1  # include/net/flow.h, in every network namespace
_DISCARD_PORT = 9  # RFC 863; the route does not depend on it

# What a stranger's ICMP error may leave on a socket, to be told once by the next call.
_TOLD_ONCE = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EMSGSIZE,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    )
)


def preferred_source(name: str, far: str) -> Optional[str]:
    """Return the address that the kernel sends from to reach `far` by the interface `name`.

    Nothing is sent. None where the kernel knows no way, or no such interface. Whether a route leads
    there is another question: with an interface given any IPv4 address passes for a neighbour.
    """
    family = socket.AF_INET6 if ":" in far else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_UDP) as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
            asking.connect((far, _DISCARD_PORT))
            return str(asking.getsockname()[0])
    except OSError:
        return None


def open_socket(index: int, name: str, address: str, port: int) -> int:
    """Return the descriptor of a socket at one address of one local interface, for `UdpSocket`.

    `index` and `name` must mean the same interface. `OSError` with `ENODEV` says that it is gone
    or has another index by now, `EADDRNOTAVAIL` that the address is gone, `EADDRINUSE` that another
    process has the port, `EPERM` that CAP_NET_RAW is missing.
    """
    with _unbound(address) as made:
        if ":" in address:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        _bind(made, name, address, port)
        if socket.if_nametoindex(name) != index:
            raise OSError(errno.ENODEV, f"interface {name} no longer has index {index}")
        return made.detach()


def open_stray(address: str, port: int) -> int:
    """Return the descriptor of a socket at an address, by whatever interface, for `StraySocket`.

    `OSError` as for `open_socket`.
    """
    with _unbound(address) as made:
        # Two sockets that are bound to different interfaces do not collide, and whether they do is
        # looked at only here (udp_lib_lport_inuse2() of net/ipv4/udp.c): so a second agent still
        # finds the port taken.
        _bind(made, socket.if_indextoname(LOOPBACK_IFINDEX), address, port)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"\0")
        return made.detach()


def _unbound(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)


def _bind(made: socket.socket, name: str, address: str, port: int) -> None:
    """Bind to address, port and the interface `name`, after what must precede that."""
    set_send_buffer(made)
    set_receive_buffer(made)
    note_arrivals(made)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((address, port))


class Receiver:
    """What receives on an open UDP socket, whatever that is bound to: non-blocking.

    What is received counts for the address of the link `index`, `name`. `features` are those
    wanted of `UDP_FEATURES`; the attribute of that name says of each of them whether it is "on",
    or why not. Needs no privilege, and owns `descriptor` from then on.
    """

    def __init__(
        self,
        index: int,
        name: str,
        address: str,
        port: int,
        descriptor: int,
        features: FrozenSet[str] = frozenset(),
    ) -> None:
        self.index = index
        self.name = name
        self.address = address
        self.port = port
        #: What the node knows it by: link index and local address.
        self.key = (index, address)
        #: Whether the last batch took all there was.
        self.emptied = False
        #: What counts the bytes of the link, headers included; None where nobody wants to know.
        self.meter: Optional[Meter] = None
        self._headers = outer_size(address)
        self._ipv6 = ":" in address
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self.features = self._enable(features)

    def _enable(self, features: FrozenSet[str]) -> Dict[str, str]:
        """Ask the kernel for the features wanted; return for each "on" or why it is not."""
        given = dict.fromkeys(UDP_FEATURES, NOT_ASKED_FOR)
        # A size of 0 changes nothing: each train names its own.
        for name, option, value in (("udp_segment", UDP_SEGMENT, 0), ("udp_gro", UDP_GRO, 1)):
            if name in features:
                try:
                    self._socket.setsockopt(socket.IPPROTO_UDP, option, value)
                    given[name] = ON
                except OSError as error:
                    given[name] = os.strerror(error.errno or 0)
        return given

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def receive_batch(self, limit: int) -> List[Received]:
        """Return what waits now, in at most `limit` pieces.

        A piece is a datagram, or several of one sender that came in a row, all but the last of the
        size given with them; the size is at least 1. What an ICMP error left on the socket is
        passed over, once for each of `limit` readings at most. `OSError` says that the socket
        cannot be read at all.
        """
        received: List[Received] = []
        append, receive = received.append, self._socket.recvmsg
        self.emptied = False
        for _ in range(limit):
            try:
                # A buffer of our own for all would have to be copied from; this one shrinks.
                whole, ancillary, _, source = receive(DATAGRAM_BYTES_MAX, GRO_SPACE)
            except BlockingIOError:
                self.emptied = True
                break
            except OSError as error:
                if error.errno in _TOLD_ONCE:
                    continue
                if not received:
                    raise
                break
            append((whole, source, _size(ancillary, whole) if ancillary else len(whole) or 1))
        if received and self.meter is not None:
            self._count_received(self.meter, received)
        if self._ipv6:
            # struct sockaddr_in6 has a flow label and a scope besides.
            return [(whole, source[:2], size) for whole, source, size in received]
        return received

    def _count_received(self, meter: Meter, received: Sequence[Received]) -> None:
        size = 0
        headers = self._headers
        for whole, _, each in received:
            length = len(whole)
            size += length + (headers if length <= each else -(-length // each) * headers)
        meter.count(size)

    def arrived_at(self) -> float:
        """Return when what was received last came, in seconds by the wall clock.

        For datagrams that came in one piece it is the time of the first.
        """
        return arrived_at(self._socket)

    def receive_drops(self) -> int:
        """Return how many datagrams the kernel dropped because the receive buffer was full.

        Those with a wrong checksum count too.
        """
        raw = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, SK_MEMINFO.size)
        return int(SK_MEMINFO.unpack(raw)[SK_MEMINFO_DROPS])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class UdpSocket(Receiver):
    """The UDP socket of one address of one local interface, by `open_socket`."""

    def __init__(
        self,
        index: int,
        name: str,
        address: str,
        port: int,
        descriptor: int,
        features: FrozenSet[str] = frozenset(),
    ) -> None:
        super().__init__(index, name, address, port, descriptor, features)
        self._buffer = SendBuffer(self._socket)
        self._marks = _MARKS_IPV6 if self._ipv6 else _MARKS
        self._segments = self.features["udp_segment"] == ON
        # How many trains are yet to go apart where one was refused, by endpoint.
        self._apart: Dict[Endpoint, int] = {}

    def is_bound(self) -> bool:
        """Tell whether the interface that the socket is bound to is still there."""
        try:
            # sock_getbindtodevice() of net/core/sock.c looks the name up by the index.
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        except OSError:
            return False
        return True

    def send_batch(self, endpoint: Endpoint, trains: Sequence[Train]) -> Dict[str, int]:
        """Send to `endpoint`, an address of this socket's family and a port.

        Returns how many frames were not sent, by errno name: empty where all went out.
        `EMSGSIZE` is a frame larger than the interface's MTU. `EAGAIN` is as much waiting as may
        wait: the rest of that train is dropped. What carries no packet goes out nonetheless, or a
        link with too much to carry would be taken for a dead one.
        """
        refused: Dict[str, int] = {}
        buffer, sendmsg, marks = self._buffer, self._socket.sendmsg, self._marks
        if buffer.measures:
            buffer.before_batch()
        whole = self._segments and buffer.holds_trains
        # Of each train the first frame's is taken off at once, as sums for each cost time.
        first_frames = FRAME_BYTES * len(trains)
        room = buffer.room - first_frames
        sent = datagrams = 0
        for train in trains:
            size, count, parts, ds_field = train
            taken = size if count == 1 else (size + FRAME_BYTES) * count
            room -= taken
            if room < 0:
                has_room = buffer.look(taken + first_frames)
                room = buffer.room
                if not has_room and _carries_packets(train):
                    count_no_room(refused, count)
                    continue
            try:
                if count == 1:
                    sent += sendmsg(parts, marks[ds_field], 0, endpoint)
                    datagrams += 1
                elif whole and not (self._apart and self._goes_apart(endpoint)):
                    cut = (socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_SIZE.pack(size))
                    sent += sendmsg(parts, (cut, *marks[ds_field]), 0, endpoint)
                    datagrams += count
                    if self._apart:
                        self._note_whole(endpoint)
                else:
                    self._send_apart(endpoint, train, refused)
                    room = buffer.room
            except OSError as error:
                self._send_refused(endpoint, train, error, refused)
                room = min(room, buffer.room)
        buffer.room = room
        if datagrams and self.meter is not None:
            self.meter.count(sent + datagrams * self._headers)
        if refused or buffer.measures:
            buffer.after_batch(refused)
        return refused

    def _send_refused(
        self, endpoint: Endpoint, train: Train, error: OSError, refused: Dict[str, int]
    ) -> None:
        """Send what of a train can go, after the kernel would not take it whole."""
        if train.count == 1:
            count_refused(refused, error)
            return
        if error.errno == errno.EIO:
            # udp_send_skb() of net/ipv4/udp.c: nobody on the way out would fill in the checksums.
            why = "the interface does not fill in checksums, or IPsec is on the way"
            self._stop_segmenting(endpoint, error, why)
        elif error.errno not in (errno.EINVAL, errno.EMSGSIZE):
            count_refused(refused, error, train.count)
            return
        before = sum(refused.values())
        self._send_apart(endpoint, train, refused)
        if error.errno == errno.EINVAL and sum(refused.values()) == before:
            # It was not for the size, which is refused with EINVAL too, so no train ever goes.
            self._stop_segmenting(endpoint, error, "though each frame goes by itself")

    def _send_apart(self, endpoint: Endpoint, train: Train, refused: Dict[str, int]) -> None:
        sendmsg, takes = self._socket.sendmsg, self._buffer.takes
        mark = self._marks[train.ds_field]
        sent = datagrams = 0
        for number, frame in enumerate(train.frames()):
            if not takes(len(frame)):
                count_no_room(refused, train.count - number)
                break
            try:
                sent += sendmsg((frame,), mark, 0, endpoint)
                datagrams += 1
            except BlockingIOError as error:
                count_refused(refused, error, train.count - number)
                break
            except OSError as error:
                count_refused(refused, error)
        if datagrams and self.meter is not None:
            self.meter.count(sent + datagrams * self._headers)

    def _stop_segmenting(self, endpoint: Endpoint, error: OSError, why: str) -> None:
        if len(self._apart) >= APART_ENDPOINTS_MAX:
            self._apart.clear()
        self._apart[endpoint] = APART_TRAINS
        self.features["udp_segment"] = f"{error.strerror}: {why}"

    def _goes_apart(self, endpoint: Endpoint) -> bool:
        """Say whether the next train goes apart because the kernel refused one lately."""
        left = self._apart.get(endpoint, 0)
        if left:
            self._apart[endpoint] = left - 1
        return left > 0

    def _note_whole(self, endpoint: Endpoint) -> None:
        """Take note that the kernel took a train."""
        if self._apart.pop(endpoint, None) is not None and not self._apart:
            self.features["udp_segment"] = ON

    def buffers(self) -> Dict[str, int]:
        """Return in bytes, as the kernel counts them, how much may wait on either side.

        What "receive" lacks of `buffers.RECEIVE_BYTES` was refused. "send" follows what the link
        carries.
        """
        receive = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return {"send": self._buffer.size, "receive": receive}


class StraySocket(Receiver):
    """Receives what comes for the address of a link by any interface but that, by `open_stray`.

    The kernel gives it what no socket takes that is bound to the interface by which it came
    (compute_score() of net/ipv4/udp.c). No other socket can be bound to the same address and port
    while there is this one, so it is opened after those.
    """


def _carries_packets(train: Train) -> bool:
    return train.count > 1 or train.parts[0][0] in PACKET_TYPES


def _size(ancillary: List[Tuple[int, int, bytes]], whole: bytes) -> int:
    """Return the size of each datagram but the last in what the kernel gave in one piece."""
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO) and len(value) == GRO_SIZE.size:
            (size,) = GRO_SIZE.unpack(value)
            if size > 0:
                return int(size)
    return len(whole) or 1
