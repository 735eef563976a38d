"""Netlink messages: written, read, and exchanged with the kernel.

Source: netlink(7), `include/uapi/linux/netlink.h`, and `include/uapi/linux/rtnetlink.h`, whose
struct rtattr is laid out as struct nlattr. Attributes that nobody asks for are passed over, so
those of a newer kernel do no harm.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from typing import Callable, Iterator, List, NoReturn, Tuple, TypeVar

# include/uapi/linux/netlink.h
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
SOL_NETLINK = 270  # include/linux/socket.h
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12  # since Linux 4.20
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF
ERRNO_MAX = 4095  # MAX_ERRNO of include/linux/err.h

#   struct nlmsghdr { __u32 nlmsg_len; __u16 nlmsg_type; __u16 nlmsg_flags; __u32 nlmsg_seq;
#                     __u32 nlmsg_pid; };
NLMSGHDR = struct.Struct("=IHHII")
#   struct nlattr { __u16 nla_len; __u16 nla_type; }; the value follows, padded to 4 bytes.
NLATTR = struct.Struct("=HH")
#   struct nlmsgerr { int error; struct nlmsghdr msg; }; the attributes follow. The error alone
#   stands in NLMSG_DONE too.
ERROR = struct.Struct("=i")
NLMSGERR_BYTES = ERROR.size + NLMSGHDR.size

# Tuning: a change while a dump runs makes the kernel mark the dump as torn.
DUMP_ATTEMPTS = 5
# The kernel fills at most 32 KiB (netlink_dump of net/netlink/af_netlink.c).
REPLY_BYTES_MAX = 65536
REPLIES_MAX = 1 << 16
TIMEOUT_S = 3.0

Whole = TypeVar("Whole")


class Torn(Exception):
    """What the kernel dumped changed meanwhile."""


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Return one message; its number is its kind, for there is one question at a time."""
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags, kind, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return NLATTR.pack(NLATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Give kind and body of each message in `data`, up to the first that is cut off."""
    start = 0
    while start + NLMSGHDR.size <= len(data):
        length, kind, _, _, _ = NLMSGHDR.unpack_from(data, start)
        if length < NLMSGHDR.size or start + length > len(data):
            break
        yield kind, data[start + NLMSGHDR.size : start + length]
        start += length + 3 & ~3


def attributes(body: bytes, at: int = 0) -> Iterator[Tuple[int, bytes]]:
    """Give kind and value of each attribute of `body` from `at` on, up to the first cut off."""
    while at + NLATTR.size <= len(body):
        length, kind = NLATTR.unpack_from(body, at)
        if length < NLATTR.size or at + length > len(body):
            break
        yield kind & NLA_TYPE_MASK, body[at + NLATTR.size : at + length]
        at += length + 3 & ~3


def number(value: bytes) -> int:
    """Return the number that stands in the first 4 bytes of an attribute's value."""
    return int.from_bytes(value[:4], sys.byteorder)


def text(value: bytes) -> str:
    """Return the text of an attribute's value, up to its null byte; it can always be printed."""
    return value.partition(b"\0")[0].decode(errors="backslashreplace")


def whole(read: Callable[[], Whole], what: str) -> Whole:
    """Return what `read` made of its dumps as soon as none of them was torn.

    `OSError` calls it `what` where that never comes.
    """
    for _ in range(DUMP_ATTEMPTS):
        try:
            return read()
        except Torn:
            continue
        except OSError as error:
            # The kernel had no memory for a part.
            if error.errno != errno.ENOBUFS:
                raise
    raise OSError(errno.EINTR, f"the kernel's {what} changed through every dump")


def dump(
    question: int, family: int, struct_bytes: int, options: bytes = b"", strict: bool = False
) -> List[bytes]:
    """Return what the kernel answers to the dump request, each item one or more messages.

    The struct of a request begins with its address family and says nothing else; the attributes
    `options` follow. With `strict` the kernel leaves out what does not agree with them, if it can.
    `Torn` where it has to be asked for again; `OSError` where the kernel refuses.
    """
    body = bytes([family]) + bytes(struct_bytes - 1) + options
    replies: List[bytes] = []
    with _open() as channel:
        if strict:
            with contextlib.suppress(OSError):
                channel.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        channel.send(message(question, NLM_F_REQUEST | NLM_F_DUMP, body))
        while len(replies) < REPLIES_MAX:
            reply = channel.recv(REPLY_BYTES_MAX)
            if len(reply) < NLMSGHDR.size:
                break
            _, kind, flags, _, _ = NLMSGHDR.unpack_from(reply)
            if kind == NLMSG_ERROR:
                _refuse(_error(reply, NLMSGHDR.size))
            # NLMSG_DONE comes last; only NETLINK_EXT_ACK would lengthen it.
            last = len(reply) - NLMSGHDR.size - ERROR.size
            ends = False
            if last >= 0:
                length, kind, last_flags, _, _ = NLMSGHDR.unpack_from(reply, last)
                ends = (length, kind) == (NLMSGHDR.size + ERROR.size, NLMSG_DONE)
            # The first message of a reply, or the very last one, tells of a change.
            if (flags | (last_flags if ends else 0)) & NLM_F_DUMP_INTR:
                raise Torn
            replies.append(reply)
            if ends:
                code = _error(reply, last + NLMSGHDR.size)
                if code < 0:
                    _refuse(code)
                return replies
    raise OSError(errno.EPROTO, "the kernel's dump has no end")


def ask(question: int, body: bytes) -> Tuple[int, bytes]:
    """Return kind and body of the one message that answers; `OSError` where the kernel refuses."""
    with _open() as channel:
        channel.send(message(question, NLM_F_REQUEST, body))
        reply = channel.recv(REPLY_BYTES_MAX)
    answers = list(messages(reply))
    if not answers or answers[0][0] == NLMSG_ERROR:
        _refuse(_error(reply, NLMSGHDR.size) if answers else 0)
    return answers[0]


def request(kind: int, flags: int, body: bytes) -> None:
    """Have the kernel do something; `OSError` says what it refused, in its own words if it can."""
    with _open() as channel:
        # What it answers has its reason, and not the request again.
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            channel.setsockopt(SOL_NETLINK, option, 1)
        channel.send(message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body))
        reply = channel.recv(REPLY_BYTES_MAX)
    if len(reply) < NLMSGHDR.size:
        _refuse(0)
    _, kind, flags, _, _ = NLMSGHDR.unpack_from(reply)
    code = _error(reply, NLMSGHDR.size)
    if kind != NLMSG_ERROR or code > 0:
        _refuse(0)
    if code < 0:
        reason = b""
        if flags & NLM_F_ACK_TLVS and flags & NLM_F_CAPPED:
            for name, value in attributes(reply, NLMSGHDR.size + NLMSGERR_BYTES):
                if name == NLMSGERR_ATTR_MSG:
                    reason = value
        _refuse(code, text(reason))


def _open() -> socket.socket:
    # A socket of its own each time: one that stays open would collect what nobody reads.
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    channel.settimeout(TIMEOUT_S)
    return channel


def _error(reply: bytes, at: int) -> int:
    """Return the error that stands at `at`, below 0 as the kernel gives it; 1 for none at all."""
    return ERROR.unpack_from(reply, at)[0] if at + ERROR.size <= len(reply) else 1


def _refuse(error: int, reason: str = "") -> NoReturn:
    code = -error if -ERRNO_MAX <= error < 0 else errno.EPROTO
    words = os.strerror(code)
    raise OSError(code, f"{words}: {reason}" if reason else words)
