"""What is made of the kernel's answers, over a scripted socket."""

from __future__ import annotations

import contextlib
import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.kernel import nlmsg
from tests.unit.kernel.fake_netlink import DONE, Kernel, attribute, failure, message

KIND = 16
TORN = nlmsg.NLM_F_DUMP_INTR
A, B = message(KIND, b"aaaa"), message(KIND, b"bbbb")


def dump():
    return nlmsg.whole(lambda: nlmsg.dump(18, 0, 16), "things")


def bodies(replies):
    return [body for reply in replies for kind, body in nlmsg.messages(reply) if kind == KIND]


@pytest.mark.parametrize("replies", [[A + B, DONE], [A, B + DONE], [A + B + DONE, A], [A, B, DONE]])
def test_dump_of_several_parts(kernel, replies):
    made = kernel(replies)
    assert bodies(dump()) == [b"aaaa", b"bbbb"]
    assert made.asked == [(18, bytes(16))]
    assert made.opened == 0


def test_request_for_a_dump_begins_with_the_family_and_ends_with_options(kernel):
    made = kernel([DONE])
    nlmsg.dump(22, 10, 8, attribute(29, b"\1"))
    assert made.asked == [(22, b"\x0a" + bytes(7) + b"\x05\0\x1d\0\1\0\0\0")]


@pytest.mark.parametrize(
    "bad",
    [
        [message(KIND, b"cccc", TORN), DONE],
        [A, message(nlmsg.NLMSG_DONE, bytes(4), TORN)],
        [A + message(nlmsg.NLMSG_DONE, bytes(4), TORN)],
        [OSError(errno.ENOBUFS, "")],
        [A, OSError(errno.ENOBUFS, "")],
    ],
)
def test_torn_dump_is_repeated(kernel, bad):
    made = kernel(bad, [B, DONE])
    assert bodies(dump()) == [b"bbbb"]
    assert made.opened == 0
    kernel(*[bad] * nlmsg.DUMP_ATTEMPTS)
    with pytest.raises(OSError, match="kernel's things changed through every dump"):
        dump()


def test_kernel_that_refuses_or_never_ends(kernel, monkeypatch):
    kernel([failure(errno.EPERM)])
    with pytest.raises(PermissionError):
        dump()
    # What goes wrong in the middle stands at the end.
    kernel([A, message(nlmsg.NLMSG_DONE, struct.pack("=i", -errno.EACCES))])
    with pytest.raises(PermissionError):
        dump()
    kernel([A])
    with pytest.raises(TimeoutError):
        dump()
    monkeypatch.setattr(nlmsg, "REPLIES_MAX", 10)
    kernel([A] * 11)
    with pytest.raises(OSError, match="has no end"):
        dump()


def test_request_is_granted_or_refused_in_the_words_of_the_kernel(kernel):
    made = kernel([failure(0)])
    nlmsg.request(20, nlmsg.NLM_F_CREATE, b"body")
    assert made.asked == [(20, b"body")]
    assert made.opened == 0
    words = attribute(nlmsg.NLMSGERR_ATTR_MSG, b"mtu greater than device maximum\0")
    kernel([failure(errno.EINVAL, attribute(2, bytes(4)), words)])
    with pytest.raises(OSError, match="Invalid argument: mtu greater than device max") as caught:
        nlmsg.request(16, 0, b"")
    assert caught.value.errno == errno.EINVAL
    # A kernel that repeats the whole request has no such words where they are looked for.
    kernel([failure(errno.ENODEV, words, flags=nlmsg.NLM_F_ACK_TLVS)])
    with pytest.raises(OSError, match=r"No such device$"):
        nlmsg.request(16, 0, b"")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        bytes(15),
        A,
        DONE,
        failure(0)[:19],
        failure(-1),
        failure(nlmsg.ERRNO_MAX + 1),
        failure(1 << 31),
    ],
)
def test_answer_that_is_none(kernel, reply):
    kernel([reply])
    with pytest.raises(OSError, match="Protocol error"):
        nlmsg.request(16, 0, b"")


def test_messages_and_attributes_end_where_they_are_cut_off():
    assert list(nlmsg.messages(A + B)) == [(KIND, b"aaaa"), (KIND, b"bbbb")]
    assert list(nlmsg.messages(A + B[:-1])) == [(KIND, b"aaaa")]
    assert list(nlmsg.messages(A + nlmsg.NLMSGHDR.pack(15, KIND, 0, 0, 0) + B)) == [(KIND, b"aaaa")]
    two = nlmsg.attribute(1, b"x") + nlmsg.attribute(0x8002, b"yy")
    assert len(two) == 16
    assert list(nlmsg.attributes(b"head" + two, 4)) == [(1, b"x"), (2, b"yy")]
    assert list(nlmsg.attributes(two[:-3])) == [(1, b"x")]
    assert list(nlmsg.attributes(nlmsg.NLATTR.pack(3, 1) + two)) == []
    assert nlmsg.message(20, 5, b"body") == nlmsg.NLMSGHDR.pack(20, 20, 5, 20, 0) + b"body"


def test_text_can_be_printed_whatever_it_is():
    assert nlmsg.text(b"eth0\0\0") == "eth0"
    assert nlmsg.text(b"\xc3\xa4") == "ä"
    assert nlmsg.text(b"\xff\0") == "\\xff"
    assert nlmsg.text(b"") == ""


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(
                message,
                st.sampled_from([KIND, nlmsg.NLMSG_ERROR, nlmsg.NLMSG_DONE]),
                st.binary(max_size=40),
                st.integers(0, 0xFFFF),
            ),
        ),
        max_size=6,
    )
)
def test_arbitrary_answers_raise_nothing_but_oserror(replies):
    with pytest.MonkeyPatch.context() as patch:
        for ask in (dump, lambda: nlmsg.request(16, 0, b"")):
            patch.setattr(nlmsg.socket, "socket", Kernel(*[replies] * nlmsg.DUMP_ATTEMPTS))
            with contextlib.suppress(OSError):
                ask()
