"""UDP sockets over the loopback interface, which serves as a link here."""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import struct
import time

import pytest

from ropeway.core.frame.data import CONTROL, DATA, INITIATION, PARTIAL, RESET, RESPONSE, Train
from ropeway.kernel import meter, udp
from ropeway.kernel.buffers import FRAME_BYTES, GROWTH
from tests.unit.kernel.fake_buffer import Unmeasured

ANSWER_LIMIT_S = 5.0
IP_RECVTOS = 13  # include/uapi/linux/in.h
LOOPBACK = socket.if_nametoindex("lo")
OFFLOADS = frozenset(udp.UDP_FEATURES)


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


def link_at(address, port, wanted=frozenset(), index=LOOPBACK):
    descriptor = udp.open_socket(index, "lo", address, port)
    return udp.UdpSocket(index, "lo", address, port, descriptor, frozenset(wanted))


def stray_at(address, port, wanted=frozenset()):
    descriptor = udp.open_stray(address, port)
    return udp.StraySocket(LOOPBACK, "lo", address, port, descriptor, frozenset(wanted))


def opened(address, wanted=frozenset()):
    while True:
        try:
            return link_at(address, free_port(address), wanted)
        except OSError as error:
            # Somebody else, such as the same tests on another interpreter, has taken it meanwhile.
            if error.errno != errno.EADDRINUSE:
                raise


@pytest.fixture(params=[(address, wanted) for address in ADDRESSES for wanted in (set(), OFFLOADS)])
def link(request):
    made = opened(*request.param)
    yield made
    made.close()


@pytest.fixture(params=ADDRESSES)
def fast(request):
    made = opened(request.param, OFFLOADS)
    yield made
    made.close()


def beside(link):
    """Give a plain socket of the same family that waits for its answers."""
    family = socket.AF_INET6 if ":" in link.address else socket.AF_INET
    other = socket.socket(family, socket.SOCK_DGRAM)
    other.bind((link.address, 0))
    other.settimeout(ANSWER_LIMIT_S)
    return other


@pytest.fixture
def far(link):
    with beside(link) as other:
        yield other


def test_a_socket_tells_whether_a_batch_was_the_last(link, far):
    for number in range(2):
        far.sendto(bytes([number]) * (number + 1), (link.address, link.port))
    select.select([link.fileno()], [], [], ANSWER_LIMIT_S)
    told = [(len(link.receive_batch(1)), link.emptied) for _ in range(3)]
    assert told == [(1, False), (1, False), (0, True)]


def test_the_kernel_says_when_a_datagram_came_and_not_when_it_was_read(link, far):
    with pytest.raises(OSError, match="No such file"):
        link.arrived_at()
    until = time.monotonic() + ANSWER_LIMIT_S
    # The kernel begins to take note a moment after it was asked to.
    while time.monotonic() < until:
        before = time.time()
        far.sendto(b"x", (link.address, link.port))
        select.select([link.fileno()], [], [], ANSWER_LIMIT_S)
        came = time.time()
        assert link.receive_batch(1)
        arrived_at = link.arrived_at()
        assert arrived_at >= before - 0.001
        if arrived_at <= came:
            return
    raise AssertionError("each datagram came after it was there")


@pytest.fixture
def far_of_fast(fast):
    with beside(fast) as other:
        yield other


def wait_for_input(link):
    assert select.select([link], [], [], ANSWER_LIMIT_S)[0], "nothing arrived"


def alone(*frames):
    return [Train(len(frame), 1, [frame]) for frame in frames]


def frames_of(received):
    return [
        whole[start : start + size]
        for whole, _, size in received
        for start in range(0, len(whole) or 1, size)
    ]


def receive_frames(link, count):
    frames = []
    while len(frames) < count:
        wait_for_input(link)
        frames += frames_of(link.receive_batch(64))
    assert link.receive_batch(64) == []
    return frames


def test_datagrams_come_with_address_and_port_alone(link, far):
    assert link.receive_batch(64) == []
    for number in range(5):
        far.sendto(bytes([number]), (link.address, link.port))
    wait_for_input(link)
    source = (link.address, far.getsockname()[1])
    assert link.receive_batch(3) == [(bytes([number]), source, 1) for number in range(3)]
    assert link.receive_batch(3) == [(bytes([number]), source, 1) for number in range(3, 5)]


def test_empty_datagram_has_a_size_that_can_be_stepped_by(link, far):
    far.sendto(b"", (link.address, link.port))
    wait_for_input(link)
    assert link.receive_batch(3) == [(b"", (link.address, far.getsockname()[1]), 1)]


def test_what_is_sent_comes_from_the_address_of_the_socket(link, far):
    endpoint = far.getsockname()[:2]
    assert link.send_batch(endpoint, alone(b"a", b"b")) == {}
    assert [far.recvfrom(10)[0] for _ in range(2)] == [b"a", b"b"]
    link.send_batch(endpoint, alone(b"c"))
    assert far.recvfrom(10)[1][:2] == (link.address, link.port)


def test_a_train_arrives_as_the_frames_that_it_is_made_of(link, far):
    trains = [
        Train(4, 2, [b"he", b"ad", b"tail"]),
        Train(4, 3, [b"full", b"h", b"alf", b"en", b"d"]),
        Train(5, 1, [b"who", b"le"]),
    ]
    assert link.send_batch(far.getsockname()[:2], trains) == {}
    expected = [b"head", b"tail", b"full", b"half", b"end", b"whole"]
    assert [far.recvfrom(100)[0] for _ in expected] == expected


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("wanted", [set(), OFFLOADS])
def test_each_frame_of_a_train_has_the_ds_field_that_the_train_names(address, wanted):
    link = opened(address, wanted)
    far = beside(link)
    level, option = socket.IPPROTO_IP, IP_RECVTOS
    if ":" in address:
        level, option = socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS
    far.setsockopt(level, option, 1)
    trains = [
        Train(4, 1, [b"lone"], 0xB8),
        Train(4, 3, [b"full", b"half", b"end"], 0x20),
        Train(5, 1, [b"plain"]),
        Train(4, 2, [b"flat", b"low"]),
    ]
    assert link.send_batch(far.getsockname()[:2], trains) == {}
    seen = []
    for _ in range(7):
        frame, ancillary, _, _ = far.recvmsg(100, 100)
        ((_, _, value),) = ancillary
        seen.append((frame, value[0]))
    link.close()
    far.close()
    marked = [(b"lone", 0xB8), (b"full", 0x20), (b"half", 0x20), (b"end", 0x20)]
    assert seen == [*marked, (b"plain", 0), (b"flat", 0), (b"low", 0)]


def test_features_say_what_the_kernel_gave(fast):
    assert fast.features == {"udp_segment": "on", "udp_gro": "on"}
    plain = opened(fast.address)
    assert plain.features == dict.fromkeys(OFFLOADS, "not asked for")
    plain.close()


def test_a_train_that_came_whole_is_told_as_one_piece(fast):
    frames = [bytes([number]) * 1000 for number in range(63)] + [b"last"]
    assert fast.send_batch((fast.address, fast.port), [Train(1000, 64, frames)]) == {}
    wait_for_input(fast)
    # The loopback interface hands over whole what goes out whole.
    assert fast.receive_batch(64) == [(b"".join(frames), (fast.address, fast.port), 1000)]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_merged_on_the_way_is_cut_as_it_was_sent(fast, far_of_fast, seed):
    chance = random.Random(seed)
    sent = []
    for _ in range(100):
        size, count = chance.choice((16, 100, 1000)), chance.choice((1, 1, 2, 5, 64))
        frames = [bytes([chance.randrange(256)]) * size for _ in range(count)]
        frames[-1] = frames[-1][: chance.randint(1, size)]
        train = Train(max(len(frames[0]), 1), count, frames)
        assert fast.send_batch((fast.address, fast.port), [train]) == {}
        far_of_fast.sendto(frames[0], (fast.address, fast.port))
        sent += [*frames, frames[0]]
    assert receive_frames(fast, len(sent)) == sent


def test_largest_train_passes(fast):
    frames = [bytes([number]) * 1015 for number in range(64)]
    assert fast.send_batch((fast.address, fast.port), [Train(1015, 64, frames)]) == {}
    assert receive_frames(fast, 64) == frames


def test_frames_of_a_train_come_one_by_one_to_a_socket_that_does_not_merge(fast, far_of_fast):
    frames = [bytes([number]) * 500 for number in range(10)]
    assert fast.send_batch(far_of_fast.getsockname()[:2], [Train(500, 10, frames)]) == {}
    assert [far_of_fast.recvfrom(65535)[0] for _ in frames] == frames


def test_buffers_are_told_as_the_kernel_granted_them(link):
    assert set(link.buffers()) == {"send", "receive"}
    before = link.buffers()["receive"]
    link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    assert link.buffers() == {"send": link._buffer.size, "receive": 16384}
    assert before > 16384


def test_a_socket_may_have_been_opened_elsewhere():
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        port = free_port("127.0.0.1")
        descriptor = udp.open_socket(LOOPBACK, "lo", "127.0.0.1", port)
        there.sendmsg(
            [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", descriptor))]
        )
        os.close(descriptor)
        _, ancillary, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
    (received,) = struct.unpack("=i", ancillary[0][2])
    link = udp.UdpSocket(LOOPBACK, "lo", "127.0.0.1", port, received, OFFLOADS)
    assert link.features == {"udp_segment": "on", "udp_gro": "on"}
    assert link.receive_batch(64) == [], "it does not wait"
    link.send_batch(("127.0.0.1", port), alone(b"a"))
    wait_for_input(link)
    assert link.receive_batch(64) == [(b"a", ("127.0.0.1", port), 1)]
    link.close()


def test_key_is_index_and_address(link):
    assert link.key == (LOOPBACK, link.address)
    assert link.is_bound()


def test_datagrams_are_not_fragmented(link):
    with open("/sys/class/net/lo/mtu") as file:
        mtu = int(file.read())
    refused = link.send_batch((link.address, free_port(link.address)), alone(bytes(mtu), b"small"))
    # No IP packet at all can be larger than 65535 bytes, and lo has an MTU of 65536.
    assert refused == {"EMSGSIZE": 1}
    expected = {
        4: (socket.IPPROTO_IP, udp.IP_MTU_DISCOVER, udp.IP_PMTUDISC_PROBE),
        6: (socket.IPPROTO_IPV6, udp.IPV6_MTU_DISCOVER, udp.IPV6_PMTUDISC_PROBE),
    }[6 if ":" in link.address else 4]
    assert link._socket.getsockopt(*expected[:2]) == expected[2]


def test_port_that_nobody_listens_on_disturbs_nothing(link, far):
    link.send_batch((link.address, free_port(link.address)), alone(*[b"refused"] * 3))
    far.sendto(b"heard", (link.address, link.port))
    wait_for_input(link)
    assert frames_of(link.receive_batch(64)) == [b"heard"]
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
        link_at(link.address, link.port)
    assert caught.value.errno == errno.EADDRINUSE


def test_what_receives_by_all_interfaces_takes_no_port_that_is_in_use(link):
    with pytest.raises(OSError, match="in use") as caught:
        stray_at(link.address, link.port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("address", ADDRESSES)
def test_port_that_is_received_by_all_interfaces_is_in_use(address):
    port = free_port(address)
    stray = stray_at(address, port, OFFLOADS)
    try:
        for make in (link_at, stray_at):
            with pytest.raises(OSError, match="in use"):
                make(address, port)
        with beside(stray) as far:
            far.sendto(b"a", (address, port))
            wait_for_input(stray)
            assert stray.receive_batch(3) == [(b"a", far.getsockname()[:2], 1)]
        assert stray.receive_drops() == 0
    finally:
        stray.close()


def test_address_that_is_not_there():
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="assign") as caught:
        link_at("192.0.2.77", 51840)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert os.listdir("/proc/self/fd") == before


def test_interface_with_another_index_by_now():
    with pytest.raises(OSError, match="no longer has index") as caught:
        link_at("127.0.0.1", free_port("127.0.0.1"), index=LOOPBACK + 1)
    assert caught.value.errno == errno.ENODEV


class Failing:
    """Gives the items in turn and raises those that are errors."""

    def __init__(self, *items):
        self.items = list(items)
        self.calls = []

    def _next(self):
        item = self.items.pop(0)
        if isinstance(item, int):
            raise OSError(item, os.strerror(item))
        return item

    def recvmsg(self, size, ancillary_size):
        item = self._next()
        return item if len(item) == 4 else (item[0], [], 0, item[1])

    def sendmsg(self, parts, ancillary, flags, endpoint):
        self.calls.append((b"".join(parts), ancillary))
        self._next()
        return sum(map(len, parts))

    def getsockopt(self, *which):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def socket_over(channel, ipv6=False):
    made = udp.UdpSocket.__new__(udp.UdpSocket)
    made._socket, made._ipv6, made._buffer = channel, ipv6, Unmeasured()
    made.features, made._segments = {"udp_segment": "on", "udp_gro": "on"}, True
    made._apart = {}
    made._marks = udp._MARKS_IPV6 if ipv6 else udp._MARKS
    made.meter, made._headers = meter.Meter(lambda: None), 48 if ipv6 else 28
    return made


def test_errors_that_strangers_cause_neither_break_a_batch_nor_end_it():
    source = ("192.0.2.1", 5)
    link = socket_over(
        Failing(errno.ECONNREFUSED, (b"a", source), errno.EMSGSIZE, (b"b", source), errno.EAGAIN)
    )
    assert link.receive_batch(64) == [(b"a", source, 1), (b"b", source, 1)]
    flooded = socket_over(Failing(*[errno.EHOSTUNREACH] * 100))
    assert flooded.receive_batch(64) == []
    assert len(flooded._socket.items) == 36


def test_error_after_datagrams_comes_with_the_next_batch():
    link = socket_over(Failing((b"a", ("192.0.2.1", 5)), errno.EBADF, errno.EBADF))
    assert link.receive_batch(64) == [(b"a", ("192.0.2.1", 5), 1)]
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        link.receive_batch(64)


def test_flow_label_and_scope_are_left_out():
    link = socket_over(Failing((b"a", ("2001:db8::1", 5, 7, 0)), errno.EAGAIN), ipv6=True)
    assert link.receive_batch(64) == [(b"a", ("2001:db8::1", 5), 1)]


@pytest.mark.parametrize(
    ("ancillary", "size"),
    [
        ([(socket.IPPROTO_UDP, udp.UDP_GRO, udp.GRO_SIZE.pack(3))], 3),
        ([(socket.SOL_SOCKET, 29, bytes(16)), (17, udp.UDP_GRO, udp.GRO_SIZE.pack(3))], 3),
        # Nothing to be made of it: the sealing of the frame will tell whether it is one.
        ([(socket.IPPROTO_UDP, udp.UDP_GRO, b"\3")], 8),
        ([(socket.IPPROTO_UDP, udp.UDP_GRO, udp.GRO_SIZE.pack(0))], 8),
        ([(socket.IPPROTO_UDP, udp.UDP_GRO, udp.GRO_SIZE.pack(-1))], 8),
        ([(socket.SOL_SOCKET, 29, bytes(16))], 8),
    ],
)
def test_ancillary_data_tells_the_size_and_nothing_else_does(ancillary, size):
    source = ("192.0.2.1", 5)
    link = socket_over(Failing((b"abcdefgh", ancillary, socket.MSG_CTRUNC, source), errno.EAGAIN))
    assert link.receive_batch(64) == [(b"abcdefgh", source, size)]


TRAIN = Train(4, 3, [b"head", b"neck", b"end"])
WHOLE = b"headneckend"
SENT = None


def calls_of(link):
    return [payload for payload, _ in link._socket.calls]


def filling(fills, *answers):
    """Give a socket over a channel that answers so, with room for some frames or trains."""
    link = socket_over(Failing(*answers))
    link._buffer = Unmeasured(fills)
    return link


def test_a_full_buffer_of_the_kernel_drops_the_rest_of_that_train_only():
    link = socket_over(Failing(errno.EAGAIN, SENT))
    assert link.send_batch(("192.0.2.1", 5), [TRAIN, *alone(b"next")]) == {"EAGAIN": 3}
    assert calls_of(link) == [WHOLE, b"next"]
    apart = socket_over(Failing(SENT, errno.EAGAIN, SENT))
    apart._segments = False
    assert apart.send_batch(("192.0.2.1", 5), [TRAIN, *alone(b"next")]) == {"EAGAIN": 2}
    assert calls_of(apart) == [b"head", b"neck", b"next"]


def test_a_train_without_room_is_dropped():
    link = filling(1, SENT)
    assert link.send_batch(("192.0.2.1", 5), [TRAIN, TRAIN]) == {"EAGAIN": 3}
    assert calls_of(link) == [WHOLE]


def test_a_slow_link_takes_what_it_can_of_a_train_and_no_more():
    link = filling(2, SENT)  # one look for the train, one for each of its frames
    link._buffer.holds_trains = False
    assert link.send_batch(("192.0.2.1", 5), [TRAIN]) == {"EAGAIN": 2}
    assert calls_of(link) == [b"head"]


@pytest.mark.parametrize("kind", [CONTROL, INITIATION, RESPONSE, RESET])
def test_what_carries_no_packet_waits_for_no_room(kind):
    frame = bytes([kind]) + b"frame"
    link = filling(0, SENT)
    assert link.send_batch(("192.0.2.1", 5), alone(frame)) == {}
    assert calls_of(link) == [frame]
    full = filling(0, errno.EAGAIN)
    assert full.send_batch(("192.0.2.1", 5), alone(frame)) == {"EAGAIN": 1}


@pytest.mark.parametrize("kind", [DATA, PARTIAL])
def test_packets_are_dropped_where_there_is_no_room(kind):
    link = filling(0)
    assert link.send_batch(("192.0.2.1", 5), alone(bytes([kind]) + b"frame")) == {"EAGAIN": 1}
    assert calls_of(link) == []


@pytest.mark.parametrize("count", [1, 64])
def test_what_is_sent_is_looked_at_in_time(count, monkeypatch):
    """No more than the size is sent without a look, as the kernel counts it at worst."""
    link = opened("127.0.0.1", OFFLOADS)
    looks = []
    monkeypatch.setattr(link._buffer, "look", lambda taken: looks.append(taken) or True)
    link._buffer.room = link._buffer.size // GROWTH
    train = Train(500, count, [bytes([DATA]) + bytes(499)] * count)
    sent = 0
    for _ in range(1000):
        link.send_batch((link.address, free_port(link.address)), [train] * 3)
        if looks:
            break
        sent += 3 * GROWTH * (500 + FRAME_BYTES) * count
    assert looks
    assert 0 < sent <= link._buffer.size
    link.close()


def test_trains_are_given_up_where_nobody_fills_in_checksums():
    link = socket_over(Failing(errno.EIO, *[SENT] * 6))
    assert link.send_batch(("192.0.2.1", 5), [TRAIN, TRAIN]) == {}
    assert calls_of(link) == [WHOLE, *[b"head", b"neck", b"end"] * 2]
    assert link.features["udp_segment"].startswith("Input/output error: ")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EMSGSIZE])
def test_what_fits_of_a_train_that_does_not_goes_by_itself(number):
    link = socket_over(Failing(number, errno.EMSGSIZE, errno.EMSGSIZE, SENT, SENT))
    assert link.send_batch(("192.0.2.1", 5), [TRAIN, TRAIN]) == {"EMSGSIZE": 2}
    assert calls_of(link) == [WHOLE, b"head", b"neck", b"end", WHOLE]
    assert link.features["udp_segment"] == "on"


def test_trains_are_given_up_where_none_goes_though_its_frames_do():
    link = socket_over(Failing(errno.EINVAL, *[SENT] * 6))
    assert link.send_batch(("192.0.2.1", 5), [TRAIN, TRAIN]) == {}
    assert calls_of(link) == [WHOLE, *[b"head", b"neck", b"end"] * 2]
    assert link.features["udp_segment"].startswith("Invalid argument: ")


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_trains_are_tried_again_after_a_while(monkeypatch, number):
    monkeypatch.setattr(udp, "APART_TRAINS", 2)
    apart = [b"head", b"neck", b"end"]
    link = socket_over(Failing(*([number, *[SENT] * 9] * 2), SENT, SENT))
    endpoint = ("192.0.2.1", 5)
    assert link.send_batch(endpoint, [TRAIN] * 6) == {}
    assert calls_of(link) == [WHOLE, *apart * 3] * 2
    assert link.features["udp_segment"] != "on"
    assert link.send_batch(endpoint, [TRAIN] * 2) == {}
    assert calls_of(link)[-2:] == [WHOLE, WHOLE]
    assert link.features["udp_segment"] == "on"


def test_a_train_that_only_found_no_room_says_nothing_of_the_kernel(monkeypatch):
    monkeypatch.setattr(udp, "APART_TRAINS", 1)
    link = socket_over(Failing(errno.EIO, *[SENT] * 6, errno.EAGAIN, errno.EIO, *[SENT] * 3))
    assert link.send_batch(("192.0.2.1", 5), [TRAIN] * 4) == {"EAGAIN": 3}
    assert calls_of(link)[-5:] == [WHOLE, WHOLE, b"head", b"neck", b"end"]
    assert link.features["udp_segment"] != "on"


def test_trains_to_other_hosts_go_on_where_one_refuses_them():
    # As with IPsec to one of them.
    link = socket_over(Failing(errno.EIO, *[SENT] * 9))
    refusing, other = ("192.0.2.1", 5), ("192.0.2.2", 5)
    assert link.send_batch(refusing, [TRAIN]) == {}
    assert link.send_batch(other, [TRAIN]) == {}
    assert link.send_batch(refusing, [TRAIN]) == {}
    apart = [b"head", b"neck", b"end"]
    assert calls_of(link) == [WHOLE, *apart, WHOLE, *apart]
    assert link.features["udp_segment"].startswith("Input/output error: ")


def test_what_is_known_of_endpoints_that_refuse_trains_is_bounded():
    count = 3 * udp.APART_ENDPOINTS_MAX
    link = socket_over(Failing(*[errno.EIO, SENT, SENT, SENT] * count))
    for number in range(count):
        assert link.send_batch(("192.0.2.1", 1 + number), [TRAIN]) == {}
    assert len(link._apart) <= udp.APART_ENDPOINTS_MAX


def test_other_refusals_count_every_frame_of_a_train():
    link = socket_over(Failing(errno.ENETUNREACH, errno.EPERM))
    refused = link.send_batch(("192.0.2.1", 5), [TRAIN, *alone(b"a")])
    assert refused == {"ENETUNREACH": 3, "EPERM": 1}


def test_size_of_the_frames_goes_with_a_train():
    link = socket_over(Failing(SENT))
    link.send_batch(("192.0.2.1", 5), [TRAIN])
    ((_, ancillary),) = link._socket.calls
    assert list(ancillary) == [(socket.IPPROTO_UDP, udp.UDP_SEGMENT, udp.SEGMENT_SIZE.pack(4))]


class Refusing:
    """A socket of a kernel that knows none of the features."""

    def setsockopt(self, *which):
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))


def test_features_that_the_kernel_does_not_know_are_told_with_its_reason():
    link = socket_over(Refusing())
    assert link._enable(OFFLOADS) == dict.fromkeys(OFFLOADS, "Protocol not available")


def test_socket_of_an_interface_that_went_away_is_bound_no_more():
    assert not socket_over(Failing()).is_bound()


def train_of(*frames):
    return Train(len(frames[0]), len(frames), list(frames))


def test_the_meter_counts_what_was_sent_and_received_with_its_headers(link):
    link.meter = sent = meter.Meter(lambda: None)
    headers = 48 if ":" in link.address else 28
    far = opened(link.address, OFFLOADS)
    try:
        far.meter = heard = meter.Meter(lambda: None)
        trains = [
            train_of(bytes((DATA,)) + b"x" * 999),
            train_of(*[bytes((DATA,)) + b"x" * 499] * 9, bytes((DATA,)) + b"y" * 99),
            train_of(bytes((CONTROL,))),
        ]
        assert link.send_batch((far.address, far.port), trains) == {}
        assert sent.bytes == 1000 + 9 * 500 + 100 + 1 + 12 * headers
        end = time.monotonic() + ANSWER_LIMIT_S
        while heard.bytes < sent.bytes and time.monotonic() < end:
            select.select([far], [], [], ANSWER_LIMIT_S)
            far.receive_batch(64)
        assert heard.bytes == sent.bytes
    finally:
        far.close()


def test_the_meter_counts_empty_datagrams_of_strangers_too(link):
    link.meter = meter.Meter(lambda: None)
    headers = 48 if ":" in link.address else 28
    with beside(link) as stranger:
        stranger.sendto(b"", (link.address, link.port))
        assert select.select([link], [], [], ANSWER_LIMIT_S)[0]
        link.receive_batch(1)
    assert link.meter.bytes == headers


@pytest.mark.parametrize(
    ("answers", "count", "sent"),
    [
        ([errno.ENETUNREACH], 1, 0),
        ([errno.EIO, "", "", ""], 3, 3 * (10 + 28)),
        ([errno.EIO, "", errno.EMSGSIZE, ""], 3, 2 * (10 + 28)),
        ([errno.EIO, "", errno.EAGAIN], 3, 10 + 28),
        ([""], 3, 3 * (10 + 28)),
    ],
)
def test_the_meter_leaves_out_what_was_refused(answers, count, sent):
    link = socket_over(Failing(*answers))
    link.send_batch(("192.0.2.1", 5), [train_of(*[bytes((DATA,)) + b"x" * 9] * count)])
    assert link.meter.bytes == sent


def test_the_meter_calls_once_when_the_mark_is_passed():
    calls = []
    counting = meter.Meter(lambda: calls.append(counting.bytes))
    counting.mark = 100
    for size in (50, 49, 1, 500):
        counting.count(size)
    assert calls == [100]
    counting.mark = 700
    counting.count(100)
    assert calls == [100, 700]
