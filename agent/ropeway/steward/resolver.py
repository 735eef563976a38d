"""A name's addresses: from the C library, else from its name servers over each link.

The C library asks by the routes of the host. Where the only route to a name server leads over a
link that is dead, it gets no answer, although another link could carry the question; nothing but a
socket that is bound to that link does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from ropeway.steward import dns

RESOLV_CONF = "/etc/resolv.conf"
RESOLV_CONF_BYTES_MAX = 1 << 16
#: As many as the C library takes (MAXNS in resolv.conf(5)).
SERVERS_MAX = 3
DNS_PORT = 53
ANSWER_BYTES_MAX = 4096

# Tuning
#: Questions go out again after this time, in seconds ...
ASK_AGAIN_S = 1.0
#: ... and so often in all.
ASK_TIMES = 3
#: Links that are asked over.
LINKS_MAX = 16


def resolve(name: str, links: Sequence[str]) -> List[str]:
    """Return the addresses of a name; `OSError` says why there are none.

    `links` are the interfaces to try if the name servers do not answer.
    """
    try:
        # As bytes, so that no codec for other alphabets is loaded.
        found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        if error.errno not in (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM):
            raise
        # A name without a dot means something in the host's own domains only.
        addresses = over_links(name, name_servers(), links) if "." in name else []
        if not addresses:
            raise
        return addresses
    return [str(address[0]) for *_, address in found]


def name_servers(path: str = RESOLV_CONF) -> List[str]:
    """Return the name servers of this host that are other hosts.

    A local one knows by itself over which links it asks, as systemd-resolved does.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read(RESOLV_CONF_BYTES_MAX).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    servers = []
    for words in map(str.split, lines):
        if len(words) < 2 or words[0] != "nameserver":
            continue
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(words[1])
            if not (address.is_loopback or address.is_link_local or address.is_unspecified):
                servers.append(str(address))
    return servers[:SERVERS_MAX]


@dataclass
class _Asked:
    """A socket that is bound to a link and leads to a name server."""

    socket: socket.socket
    #: The kinds of records that were asked for and not answered yet, by the number of the question.
    open: Dict[int, int]
    addresses: List[str] = field(default_factory=list)


def over_links(name: str, servers: Iterable[str], links: Sequence[str]) -> List[str]:
    """Return what the first name server that answers says, over whatever link; empty for none."""
    with contextlib.ExitStack() as stack:
        asked: Dict[int, _Asked] = {}
        for server in servers:
            for link in links[:LINKS_MAX]:
                one = _connected(server, link)
                if one is not None:
                    stack.callback(one.close)
                    numbers = _numbers()
                    asked[one.fileno()] = _Asked(one, dict(zip(numbers, dns.KINDS)))
        for _ in range(ASK_TIMES if asked else 0):
            for known in asked.values():
                for number, kind in known.open.items():
                    with contextlib.suppress(OSError):
                        known.socket.send(dns.question(number, name, kind))
            found = _first_answer(name, asked)
            if found is not None:
                return found
        # Half an answer is better than none.
        return next((known.addresses for known in asked.values() if known.addresses), [])


def _connected(server: str, link: str) -> Optional[socket.socket]:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        one.connect((server, DNS_PORT))
    except OSError:
        one.close()
        return None
    return one


def _numbers() -> Tuple[int, int]:
    """Return two different numbers that nobody can foresee.

    They are the kernel's. The module `secrets` would load OpenSSL for no more, which takes 4 MiB.
    """
    first, second = random.SystemRandom().sample(range(1 << 16), 2)
    return first, second


def _first_answer(name: str, asked: Dict[int, _Asked]) -> Optional[List[str]]:
    """Return the first whole answer that comes before it is time to ask again."""
    waiting = select.poll()
    for descriptor in asked:
        waiting.register(descriptor, select.POLLIN)
    end = time.monotonic() + ASK_AGAIN_S
    while True:
        left_s = end - time.monotonic()
        if left_s <= 0:
            return None
        for descriptor, _ in waiting.poll(left_s * 1000):
            known = asked[descriptor]
            try:
                answer = known.socket.recv(ANSWER_BYTES_MAX)
            except OSError:
                # Nobody serves there, or the way is cut: others may answer.
                waiting.unregister(descriptor)
                continue
            number = int.from_bytes(answer[:2], "big")
            kind = known.open.get(number)
            addresses = None if kind is None else dns.addresses(answer, number, name, kind)
            if addresses is None:
                continue
            del known.open[number]
            known.addresses += addresses
            if not known.open and known.addresses:
                return known.addresses
