"""The C library is asked first, then name servers over each link."""

import socket

import pytest

from ropeway.steward import resolver

NAME = "router.example.net"


@pytest.fixture
def library(monkeypatch):
    """Has the C library say what the test wants, and notes what is asked over links."""

    class Library:
        answer = ()
        over_links = ()
        asked = None

        def getaddrinfo(self, host, _port, **kind):
            assert host == b"router.example.net" or b"." not in host
            if isinstance(self.answer, Exception):
                raise self.answer
            return [
                (socket.AF_INET6 if ":" in a else socket.AF_INET, kind["type"], 17, "", (a, 0))
                for a in self.answer
            ]

        def ask(self, name, servers, links):
            self.asked = (name, list(servers), list(links))
            return list(self.over_links)

    library = Library()
    monkeypatch.setattr(resolver.socket, "getaddrinfo", library.getaddrinfo)
    monkeypatch.setattr(resolver, "over_links", library.ask)
    monkeypatch.setattr(resolver, "name_servers", lambda: ["192.0.2.53"])
    return library


def test_what_the_library_finds_is_enough(library):
    library.answer = ["192.0.2.1", "2001:db8::1"]
    assert resolver.resolve(NAME, ["eth0"]) == ["192.0.2.1", "2001:db8::1"]
    assert library.asked is None


def test_name_servers_that_do_not_answer_are_asked_over_each_link(library):
    library.answer = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    library.over_links = ["192.0.2.1"]
    assert resolver.resolve(NAME, ["eth0", "eth1"]) == ["192.0.2.1"]
    assert library.asked == (NAME, ["192.0.2.53"], ["eth0", "eth1"])


def test_without_any_answer_the_librarys_reason_counts(library):
    library.answer = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with pytest.raises(OSError, match="Temporary failure"):
        resolver.resolve(NAME, ["eth0"])


@pytest.mark.parametrize("name", [NAME, "router"])
def test_a_name_that_does_not_exist_or_has_no_dot_is_asked_for_once(library, name):
    missing = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    late = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    library.answer = missing if "." in name else late
    library.over_links = ["192.0.2.1"]
    with pytest.raises(OSError, match=r"known|failure"):
        resolver.resolve(name, ["eth0"])
    assert library.asked is None


def test_name_servers_are_those_on_other_hosts(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 192.0.2.1\nsearch example\nnameserver 127.0.0.53\nnameserver\n"
        "nameserver 192.0.2.53\nnameserver x\nnameserver fe80::1%eth0\n"
        "nameserver 2001:db8::53\nnameserver 192.0.2.54\nnameserver 192.0.2.55\n"
    )
    assert resolver.name_servers(str(file)) == ["192.0.2.53", "2001:db8::53", "192.0.2.54"]
    assert resolver.name_servers(str(tmp_path / "none")) == []
