"""A small web server that shows and changes nothing.

Whoever asks may be hostile: requests, clients and time are bounded, and a browser that was led here
under a foreign name gets nothing. Each connection serves one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import re
from http import HTTPStatus
from typing import Awaitable, Callable, FrozenSet, Iterable, List, Mapping, Optional, Tuple

REQUEST_BYTES_MAX = 8192
"""Request line and headers together."""
CLIENTS_MAX = 32
REQUEST_S = 5.0
"""How long a client may take to send its request ..."""
REPLY_S = 10.0
"""... and to get its reply, the agent's answer included."""

#: Of every reply. Nothing comes from elsewhere, nothing is framed, nothing is kept.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ALWAYS_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?\Z")


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a client is given."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


class Refused(Exception):
    """A request that is not served; the text is a sentence for whoever asks."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


#: By path.
Routes = Mapping[str, Callable[[], Awaitable[Reply]]]


def names_of(address: str, more: Iterable[str]) -> FrozenSet[str]:
    """Return the names under which a server on ``address`` is asked for, in lower case.

    A page elsewhere may lead a browser here under a name of its own (DNS rebinding); such a name is
    none of these.
    """
    return ALWAYS_NAMES | {address.lower(), *(name.lower().rstrip(".") for name in more)}


class Server:
    """Serves ``routes`` to whoever asks under one of ``names``."""

    def __init__(self, routes: Routes, names: FrozenSet[str]) -> None:
        self._routes = routes
        self._names = names
        self._clients = 0

    async def listen(self, address: str, port: int) -> asyncio.base_events.Server:
        """Start to listen; `OSError` where that is not possible."""
        return await asyncio.start_server(self.serve, address, port, limit=REQUEST_BYTES_MAX)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, and close its connection."""
        self._clients += 1
        try:
            if self._clients <= CLIENTS_MAX:
                await self._exchange(reader, writer)
        except (OSError, EOFError, asyncio.TimeoutError):
            # The client went away or is too slow; nobody is left to tell.
            writer.transport.abort()
        finally:
            self._clients -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head_only = False
        try:
            head = await asyncio.wait_for(_head(reader), REQUEST_S)
            method, path = self._wanted(head)
            head_only = method == "HEAD"
            reply = await asyncio.wait_for(self._routes[path](), REPLY_S)
        except Refused as refused:
            reply = Reply(f"{refused}\n".encode(), status=refused.status)
        writer.write(_bytes(reply, head_only))
        await asyncio.wait_for(writer.drain(), REPLY_S)
        with contextlib.suppress(OSError):
            writer.write_eof()
        # Closing with unread bytes would take the reply from the client with a reset.
        await asyncio.wait_for(reader.read(REQUEST_BYTES_MAX), REQUEST_S)

    def _wanted(self, head: bytes) -> Tuple[str, str]:
        """Return method and path of a request that may be served."""
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise Refused(HTTPStatus.BAD_REQUEST, "this is no HTTP request")
        method, target = parts[0], parts[1]
        if method not in ("GET", "HEAD"):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are served")
        if not self._knows(_hosts(lines[1:])):
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server is not known by that name: use localhost or its address,"
                " or allow the name with --host-name",
            )
        path = target.partition("?")[0]
        if path not in self._routes:
            raise Refused(HTTPStatus.NOT_FOUND, "there is / and /metrics and /status.json")
        return method, path

    def _knows(self, hosts: List[str]) -> bool:
        found = _HOST.match(hosts[0]) if len(hosts) == 1 else None
        return found is not None and found["name"].strip("[]").lower().rstrip(".") in self._names


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return a request up to its empty line."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"a request has at most {REQUEST_BYTES_MAX} bytes",
        ) from None


def _hosts(lines: Iterable[str]) -> List[str]:
    """Return the values of all Host headers; a request has one."""
    fields = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in fields if name.lower() == "host"]


def _bytes(reply: Reply, head_only: bool) -> bytes:
    fields = {
        **HEADERS,
        "Content-Type": reply.content_type,
        "Content-Length": str(len(reply.body)),
        "Connection": "close",
    }
    if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields["Allow"] = "GET, HEAD"
    lines = [f"HTTP/1.1 {reply.status.value} {reply.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head_only else reply.body)


def endpoint(value: str) -> Tuple[str, int]:
    """Return address and port of ``ADDRESS:PORT``, IPv6 in brackets; `ValueError` for others."""
    address, _, port = value.rpartition(":")
    found: Optional[ipaddress._BaseAddress] = None
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(
            address[1:-1] if address.startswith("[") and address.endswith("]") else address
        )
    bracketed = address.startswith("[")
    if found is None or bracketed != (found.version == 6) or not re.fullmatch("[0-9]{1,5}", port):
        raise ValueError(f"{value} is no address with a port, such as 127.0.0.1:9851 or [::1]:9851")
    if int(port) > 65535:
        raise ValueError(f"{port} is no port: it must be 0 to 65535")
    return str(found), int(port)
