"""UDP sockets over the loopback interface, which serves as a link here."""

from __future__ import annotations

import errno
import os
import select
import socket

import pytest

from ropeway.kernel import udp

ANSWER_LIMIT_S = 5.0
LOOPBACK = socket.if_nametoindex("lo")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ADDRESSES = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]


def free_port(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


@pytest.fixture(params=ADDRESSES)
def link(request):
    made = udp.UdpSocket(LOOPBACK, "lo", request.param, free_port(request.param))
    yield made
    made.close()


@pytest.fixture
def far(link):
    family = socket.AF_INET6 if ":" in link.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as other:
        other.bind((link.address, 0))
        other.settimeout(ANSWER_LIMIT_S)
        yield other


def wait_for_input(link):
    assert select.select([link], [], [], ANSWER_LIMIT_S)[0], "nothing arrived"


def test_datagrams_come_with_address_and_port_alone(link, far):
    assert link.receive_batch(64) == []
    for number in range(5):
        far.sendto(bytes([number]), (link.address, link.port))
    wait_for_input(link)
    source = (link.address, far.getsockname()[1])
    assert link.receive_batch(3) == [(b"\0", source), (b"\1", source), (b"\2", source)]
    assert link.receive_batch(3) == [(b"\3", source), (b"\4", source)]


def test_what_is_sent_comes_from_the_address_of_the_socket(link, far):
    endpoint = far.getsockname()[:2]
    assert link.send_batch(endpoint, [b"a", b"b"]) == {}
    assert [far.recvfrom(10)[0] for _ in range(2)] == [b"a", b"b"]
    link.send_batch(endpoint, [b"c"])
    assert far.recvfrom(10)[1][:2] == (link.address, link.port)


def test_key_is_index_and_address(link):
    assert link.key == (LOOPBACK, link.address)
    assert link.is_bound()


def test_datagrams_are_not_fragmented(link):
    with open("/sys/class/net/lo/mtu") as file:
        mtu = int(file.read())
    refused = link.send_batch((link.address, free_port(link.address)), [bytes(mtu), b"small"])
    # No IP packet at all can be larger than 65535 bytes, and lo has an MTU of 65536.
    assert refused == {"EMSGSIZE": 1}
    expected = {
        4: (socket.IPPROTO_IP, udp.IP_MTU_DISCOVER, udp.IP_PMTUDISC_PROBE),
        6: (socket.IPPROTO_IPV6, udp.IPV6_MTU_DISCOVER, udp.IPV6_PMTUDISC_PROBE),
    }[6 if ":" in link.address else 4]
    assert link._socket.getsockopt(*expected[:2]) == expected[2]


def test_port_that_nobody_listens_on_disturbs_nothing(link, far):
    link.send_batch((link.address, free_port(link.address)), [b"refused"] * 3)
    far.sendto(b"heard", (link.address, link.port))
    wait_for_input(link)
    assert [datagram for datagram, _ in link.receive_batch(64)] == [b"heard"]
    assert link.receive_batch(64) == []


def test_datagrams_that_find_the_buffer_full_are_counted(link, far):
    assert link.receive_drops() == 0
    link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(100):
        far.sendto(bytes(1000), (link.address, link.port))
    wait_for_input(link)
    taken = len(link.receive_batch(200))
    assert 0 < taken < 100
    assert link.receive_drops() == 100 - taken


def test_port_in_use(link):
    with pytest.raises(OSError, match="in use") as caught:
        udp.UdpSocket(LOOPBACK, "lo", link.address, link.port)
    assert caught.value.errno == errno.EADDRINUSE


def test_address_that_is_not_there():
    with pytest.raises(OSError, match="assign") as caught:
        udp.UdpSocket(LOOPBACK, "lo", "192.0.2.77", 51840)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_interface_with_another_index_by_now():
    with pytest.raises(OSError, match="no longer has index") as caught:
        udp.UdpSocket(LOOPBACK + 1, "lo", "127.0.0.1", free_port("127.0.0.1"))
    assert caught.value.errno == errno.ENODEV


class Failing:
    """Gives the items in turn and raises those that are errors."""

    def __init__(self, *items):
        self.items = list(items)

    def recvfrom(self, size):
        item = self.items.pop(0)
        if isinstance(item, int):
            raise OSError(item, os.strerror(item))
        return item

    def getsockopt(self, *which):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def socket_over(channel, ipv6=False):
    made = udp.UdpSocket.__new__(udp.UdpSocket)
    made._socket, made._ipv6 = channel, ipv6
    return made


def test_errors_that_strangers_cause_neither_break_a_batch_nor_end_it():
    source = ("192.0.2.1", 5)
    link = socket_over(
        Failing(errno.ECONNREFUSED, (b"a", source), errno.EMSGSIZE, (b"b", source), errno.EAGAIN)
    )
    assert link.receive_batch(64) == [(b"a", source), (b"b", source)]
    flooded = socket_over(Failing(*[errno.EHOSTUNREACH] * 100))
    assert flooded.receive_batch(64) == []
    assert len(flooded._socket.items) == 36


def test_error_after_datagrams_comes_with_the_next_batch():
    link = socket_over(Failing((b"a", ("192.0.2.1", 5)), errno.EBADF, errno.EBADF))
    assert link.receive_batch(64) == [(b"a", ("192.0.2.1", 5))]
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        link.receive_batch(64)


def test_flow_label_and_scope_are_left_out():
    link = socket_over(Failing((b"a", ("2001:db8::1", 5, 7, 0)), errno.EAGAIN), ipv6=True)
    assert link.receive_batch(64) == [(b"a", ("2001:db8::1", 5))]


def test_socket_of_an_interface_that_went_away_is_bound_no_more():
    assert not socket_over(Failing()).is_bound()
