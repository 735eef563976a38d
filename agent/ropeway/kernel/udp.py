"""Sending and receiving UDP datagrams at one address of one local interface.

The socket is bound to the interface as well as to the address, so that each link has its own way
out whatever the routes prefer, and its datagrams are never fragmented: how large they may be is
for the path MTU probes to find out.
Source of the formats: ip(7), ipv6(7), socket(7), `include/uapi/linux/in.h`,
`include/uapi/linux/in6.h`, `include/uapi/linux/sock_diag.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Dict, Iterable, List, Tuple

from ropeway.kernel.sockets import (
    DATAGRAM_BYTES_MAX,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    send_all,
    set_buffer,
)

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

Endpoint = Tuple[str, int]


class UdpSocket:
    """The UDP socket of one address of one local interface, non-blocking.

    `index` and `name` must mean the same interface. `OSError` with `ENODEV` says that it is gone
    or has another index by now, `EADDRNOTAVAIL` that the address is gone, `EADDRINUSE` that another
    process has the port, `EPERM` that CAP_NET_RAW is missing.
    """

    def __init__(self, index: int, name: str, address: str, port: int) -> None:
        self.index = index
        self.name = name
        self.address = address
        self.port = port
        self._ipv6 = ":" in address
        self._socket = socket.socket(
            socket.AF_INET6 if self._ipv6 else socket.AF_INET,
            socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
            socket.IPPROTO_UDP,
        )
        option = self._socket.setsockopt
        try:
            set_buffer(self._socket, SO_SNDBUFFORCE, socket.SO_SNDBUF)
            set_buffer(self._socket, SO_RCVBUFFORCE, socket.SO_RCVBUF)
            option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
            if self._ipv6:
                option(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                option(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
            else:
                option(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            self._socket.bind((address, port))
            if socket.if_nametoindex(name) != index:
                raise OSError(errno.ENODEV, f"interface {name} no longer has index {index}")
        except OSError:
            self.close()
            raise

    @property
    def key(self) -> Tuple[int, str]:
        """What the node knows this socket by: link index and local address."""
        return self.index, self.address

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def is_bound(self) -> bool:
        """Tell whether the interface that the socket is bound to is still there."""
        try:
            # sock_getbindtodevice() of net/core/sock.c looks the name up by the index.
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        except OSError:
            return False
        return True

    def receive_batch(self, limit: int) -> List[Tuple[bytes, Endpoint]]:
        """Return the datagrams that wait now, each with where it came from, at most `limit`.

        What an ICMP error left on the socket is passed over, once for each of `limit` readings at
        most. `OSError` says that the socket cannot be read at all.
        """
        datagrams: List[Tuple[bytes, Endpoint]] = []
        append, receive = datagrams.append, self._socket.recvfrom
        for _ in range(limit):
            try:
                append(receive(DATAGRAM_BYTES_MAX))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _TOLD_ONCE:
                    continue
                if not datagrams:
                    raise
                break
        if self._ipv6:
            # struct sockaddr_in6 has a flow label and a scope besides.
            return [(datagram, source[:2]) for datagram, source in datagrams]
        return datagrams

    def send_batch(self, endpoint: Endpoint, datagrams: Iterable[bytes]) -> Dict[str, int]:
        """Send to `endpoint`, an address of this socket's family and a port.

        Returns how many the kernel refused, by errno name: empty where all went out. `EMSGSIZE` is
        a datagram larger than the interface's MTU.
        """
        return send_all(self._socket, endpoint, datagrams)

    def receive_drops(self) -> int:
        """Return how many datagrams the kernel dropped because the receive buffer was full.

        Those with a wrong checksum count too.
        """
        raw = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, SK_MEMINFO.size)
        return int(SK_MEMINFO.unpack(raw)[SK_MEMINFO_DROPS])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
