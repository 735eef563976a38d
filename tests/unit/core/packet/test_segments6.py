"""Super-packets of IPv6: cut as Linux cuts them, and put together so that they come apart again."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.packet import segments, virtio
from tests.unit.core import packets6
from tests.unit.core.classic_world import udp as udp4
from tests.unit.core.packets6 import ACK, FIN, PSH, TCP, UDP, C

OPTIONS = bytes((1, 1, 8, 10)) + bytes(8)  # time stamps
CWR = 0x80


def read_of(packet, size, flags=virtio.NEEDS_CSUM, more=0):
    """What the kernel gives of a super-packet."""
    tcp = packet[6] == TCP
    kind = (virtio.GSO_TCPV6 if tcp else virtio.GSO_UDP_L4) | more
    hint = 40 + (packet[52] >> 4) * 4 if tcp else 48
    return virtio.VNET.pack(flags, kind, hint, size, 40, 16 if tcp else 6) + packet


def expected(payload, size, protocol, sequence=1, flags=ACK, **network):
    """The segments of a payload, made one by one."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    if protocol == UDP:
        return [packets6.udp(part, partial=True, **network) for part in parts]
    made = []
    for number, part in enumerate(parts):
        own = flags & ~(CWR if number else 0)
        own &= ~((FIN | PSH) if number < len(parts) - 1 else 0)
        at = (sequence + number * size) & 0xFFFFFFFF
        made.append(packets6.tcp(part, at, own, options=OPTIONS, **network))
    return made


def whole(payload, protocol, sequence=1, flags=ACK, **network):
    if protocol == UDP:
        return packets6.udp(payload, partial=True, **network)
    return packets6.tcp(payload, sequence, flags, options=OPTIONS, **network)


def come_apart(writes):
    """The packets of writes, as the kernel cuts them."""
    found = []
    for write in writes:
        data = b"".join(write)
        if data[1]:
            ((cut, partial),) = segments.split([data])
            assert partial
            found += cut
        else:
            found.append(data[virtio.VNET.size :])
    return found


supers = st.tuples(
    st.integers(1, 60).flatmap(lambda n: st.binary(min_size=n, max_size=60 * n)),
    st.integers(1, 1400),
    st.sampled_from((TCP, UDP)),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from((ACK, ACK | PSH, ACK | FIN, ACK | PSH | CWR)),
)


@given(supers, st.booleans())
def test_a_super_packet_is_cut_into_what_would_have_been_sent_one_by_one(given_, ecn):
    payload, size, protocol, sequence, flags = given_
    packet = whole(payload, protocol, sequence, flags)
    read = read_of(packet, size, more=virtio.GSO_ECN if ecn and protocol == TCP else 0)
    ((cut, partial),) = segments.split([read])
    assert partial
    assert cut == expected(payload, size, protocol, sequence, flags)


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_segments_become_one_write_and_come_apart_as_they_were(protocol):
    cut = expected(bytes(range(200)) * 50, 1200, protocol, flags=ACK | PSH)
    writes = segments.merge(cut, True)
    assert len(writes) == 1
    assert come_apart(writes) == cut
    flags, kind, size, payload, start, _ = virtio.VNET.unpack_from(writes[0][0])
    assert flags == virtio.NEEDS_CSUM
    assert kind == (virtio.GSO_TCPV6 if protocol == TCP else virtio.GSO_UDP_L4)
    assert (size, payload, start) == (72 if protocol == TCP else 48, 1200, 40)


@pytest.mark.parametrize(
    "change",
    [
        {"dst": C}, {"ports": (4000, 81)}, {"hops": 63}, {"traffic_class": 3}, {"label": 7},
        {"flags": ACK | 2}, {"sequence": 5000}, {"payload": bytes(101)}, {"payload": b""},
    ],
)  # fmt: skip
def test_what_does_not_follow_is_written_by_itself(change):
    first = packets6.tcp(bytes(100), 1)
    second = packets6.tcp(**{"payload": bytes(100), "sequence": 101, **change})
    assert come_apart(segments.merge([first, second], True)) == [first, second]
    assert len(segments.merge([first, second], True)) == 2


def test_nothing_follows_a_shorter_one_or_a_push():
    for middle in (packets6.tcp(bytes(50), 101), packets6.tcp(bytes(100), 101, ACK | PSH)):
        packets = [packets6.tcp(bytes(100), 1), middle, packets6.tcp(bytes(100), 201)]
        assert [len(write) for write in segments.merge(packets, True)] == [3, 2]


def test_what_the_device_does_not_take_is_left_apart():
    for protocol in (TCP, UDP):
        cut = expected(bytes(3000), 1000, protocol)
        assert len(segments.merge(cut, uso=protocol == TCP, tso=protocol == UDP)) == 3


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3)), max_size=12))
def test_flows_of_both_versions_keep_their_order(steps):
    flows = {name: [] for name in "abcd"}
    packets, at = [], dict.fromkeys("abcd", 1)
    for name, count in steps:
        for _ in range(count):
            number = at[name]
            at[name] += 100
            if name == "d":
                packet = udp4("10.0.0.1", "10.0.0.2", number.to_bytes(2, "big") * 40)
            elif name == "c":
                packet = packets6.udp(number.to_bytes(2, "big") * 50, partial=True)
            else:
                packet = packets6.tcp(bytes(100), number, ports=(ord(name), 80))
            packets.append(packet)
            flows[name].append(packet)
    came = come_apart(segments.merge(packets, True))
    assert sorted(came) == sorted(packets)
    for packets_of in flows.values():
        assert [packet for packet in came if packet in packets_of] == packets_of


def test_a_partial_packet_alone_stays_partial_and_one_behind_options_is_completed():
    packet = packets6.udp(partial=True)
    alone = virtio.VNET.pack(virtio.NEEDS_CSUM, 0, 0, 0, 40, 6)
    assert segments.split([alone + packet]) == [([packet], True)]
    option = bytes((UDP, 0, 1, 4, 0, 0, 0, 0))
    behind = packets6.ip(0, option + packet[40:])
    alone = virtio.VNET.pack(virtio.NEEDS_CSUM, 0, 0, 0, 48, 6)
    (([completed], partial),) = segments.split([alone + behind])
    assert not partial
    assert completed[:54] + completed[56:] == behind[:54] + behind[56:]
    assert completed[54:56] == packets6.udp(partial=False)[46:48]


@given(st.binary(max_size=100), st.integers(0, 255), st.integers(0, 2000))
def test_garbage_never_raises(data, kind, size):
    head = virtio.VNET.pack(1, kind, 0, size, 40, 16)
    for packet in (b"\x60" + data, packets6.ip(TCP, data), packets6.ip(UDP, data)):
        segments.split([head + packet])
        assert come_apart(segments.merge([packet], True)) == [packet]


def test_no_write_is_larger_than_a_packet_or_of_more_segments_than_the_kernel_takes():
    cut = expected(bytes(1400 * 60), 1400, TCP) + expected(bytes(100 * 10), 10, UDP)
    writes = segments.merge(cut, True)
    assert all(len(b"".join(write)) - 10 <= 40 + 65535 for write in writes)
    assert all(len(write) - 1 <= virtio.SEGMENTS_MAX for write in writes)
    assert sorted(come_apart(writes)) == sorted(cut)


def test_sequence_numbers_that_wrap():
    cut = expected(bytes(5000), 1000, TCP, sequence=0xFFFFFFFF - 2500)
    assert come_apart(segments.merge(cut, True)) == cut
    assert struct.unpack_from(">I", cut[3], 44)[0] < 1000
