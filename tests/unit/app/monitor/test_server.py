"""The exporter's web server, over streams without sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from ropeway.app.monitor import cli, server
from ropeway.app.monitor.server import Server, endpoint, names_of
from ropeway.app.monitor.source import Source
from tests.unit.app.monitor import recorded


class Writer:
    """What a client receives, and what became of its connection."""

    def __init__(self):
        self.received = b""
        self.closed = self.aborted = False
        self.transport = self

    def write(self, more):
        self.received += more

    async def drain(self):
        pass

    def write_eof(self):
        pass

    def close(self):
        self.closed = True

    def abort(self):
        self.aborted = True


def exchange(*requests, names=("router.example.net",), end=True):
    """Serve requests side by side; give what each client received."""

    async def serve():
        served = Server(cli.routes_to(Source(recorded.status)), names_of("192.0.2.7", names))
        writers = [Writer() for _ in requests]
        waiting = []
        for request, writer in zip(requests, writers):
            reader = asyncio.StreamReader(limit=server.REQUEST_BYTES_MAX)
            reader.feed_data(request)
            if end:
                reader.feed_eof()
            waiting.append(served.serve(reader, writer))
        await asyncio.gather(*waiting)
        return writers

    return asyncio.run(serve())


def get(path="/metrics", host="localhost:9851", method="GET", more=""):
    request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")
    (writer,) = exchange(request)
    assert writer.closed
    head, _, body = writer.received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split(" ")[1]), dict(one.split(": ", 1) for one in lines[1:]), body


def test_metrics_are_served_in_the_format_of_prometheus():
    code, headers, body = get("/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert int(headers["Content-Length"]) == len(body)
    assert b"# TYPE ropeway_up gauge\nropeway_up 1.0\n" in body


def test_the_status_is_served_as_json():
    code, headers, body = get("/status.json?at=1")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"fault": None, "status": recorded.status()}


def test_the_page_is_served_under_the_root():
    code, headers, body = get("/")
    assert (code, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'<script src="/page.js" defer></script>' in body


def test_head_gives_headers_alone():
    code, headers, body = get(method="HEAD")
    assert (code, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", ""])
def test_nothing_but_get_and_head_is_served(method):
    code, headers, _ = get(method=method)
    assert (code, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/etc/passwd", "//metrics", "/../metrics", "*", "metrics", ""])
def test_nothing_but_the_known_paths_is_served(path):
    assert get(path)[0] == 404


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9851", "localhost.:1", "127.0.0.1:9851", "[::1]:9851", "192.0.2.7",
     "router.example.net", "Router.Example.net:80"],
)  # fmt: skip
def test_the_host_is_known_by_its_own_names(host):
    assert get(host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example.net", "localhost.evil.example.net", "127.0.0.1.evil.example.net", "",
     "localhost:9851\r\nHost: evil.example.net", "evil.example.net\r\nHost: localhost",
     "localhost@evil.example.net", "localhost, evil", "[::1", "::1", "192.0.2.8", "localhost:x"],
)  # fmt: skip
def test_a_page_that_leads_a_browser_here_under_another_name_gets_nothing(host):
    code, _, body = get(host=host)
    assert code == 421
    assert b"--host-name" in body
    assert b"ropeway_up" not in body


def test_a_request_without_a_host_gets_nothing():
    (writer,) = exchange(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert b" 421 " in writer.received


@pytest.mark.parametrize(
    "request_line", [b"", b"GET", b"GET /", b"GET / HTTP/1.1 x", b"\xff\x00 \x80 \x81", b"A B C"]
)
def test_what_is_no_request_is_answered_with_a_sentence(request_line):
    (writer,) = exchange(request_line + b"\r\nHost: localhost\r\n\r\n")
    assert writer.received.startswith(b"HTTP/1.1 400 ")


def test_a_long_request_is_refused():
    (writer,) = exchange(b"GET / HTTP/1.1\r\nX: " + b"x" * 3 * server.REQUEST_BYTES_MAX)
    assert writer.received.startswith(b"HTTP/1.1 431 ")
    assert writer.closed


def test_every_reply_keeps_other_sites_out():
    for path in ("/metrics", "/status.json", "/nowhere"):
        _, headers, _ = get(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe-inline" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_client_that_says_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_S", 0.01)
    (writer,) = exchange(b"GET / HT", end=False)
    assert (writer.received, writer.closed, writer.aborted) == (b"", True, True)


def test_a_client_that_ends_early_is_closed():
    (writer,) = exchange(b"GET / HT")
    assert (writer.received, writer.closed) == (b"", True)


def test_clients_are_bounded_and_those_before_are_served():
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writers = exchange(*[request] * (server.CLIENTS_MAX + 5))
    served = [b"ropeway_up 1.0" in writer.received for writer in writers]
    assert served == [True] * server.CLIENTS_MAX + [False] * 5
    assert all(writer.closed for writer in writers)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("127.0.0.1:9851", ("127.0.0.1", 9851)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_an_address_with_a_port_is_understood(value, found):
    assert endpoint(value) == found


@pytest.mark.parametrize(
    "value", ["", "9851", ":9851", "localhost:9851", "::1:9851", "[127.0.0.1]:1", "127.0.0.1:",
              "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1x", "[::1]", "[::1:80"],
)  # fmt: skip
def test_what_is_no_address_with_a_port_is_refused(value):
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9851|port"):
        endpoint(value)


def test_a_host_without_the_library_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main([]) == cli.EXIT_FAILED
    assert "install the package python3-prometheus-client" in capsys.readouterr().err


def test_an_address_that_is_not_of_this_host_is_a_sentence(monkeypatch, capsys):
    async def refused(*_):
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(cli.Server, "listen", refused)
    assert cli.main(["--listen", "192.0.2.7:9851"]) == cli.EXIT_FAILED
    said = capsys.readouterr().err
    assert "cannot listen on 192.0.2.7:9851 (Cannot assign requested address)" in said
    assert "--listen" in said


def test_an_address_without_a_port_is_a_sentence(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--listen", "everywhere"])
    assert "such as 127.0.0.1:9851" in capsys.readouterr().err
