"""Netlink messages made by hand, as the kernel lays them out, and a kernel that has a script."""

from __future__ import annotations

import struct

from ropeway.kernel import nlmsg


def message(kind, body, flags=0):
    return nlmsg.NLMSGHDR.pack(16 + len(body), kind, flags, 0, 0) + body


def attribute(kind, value):
    return nlmsg.NLATTR.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind, value):
    return attribute(kind, struct.pack("=I", value))


def failure(code, *attributes, flags=nlmsg.NLM_F_CAPPED | nlmsg.NLM_F_ACK_TLVS):
    """Return an answer of the kernel that has refused with this `errno`; 0 is its consent."""
    body = struct.pack("=i", -code) + bytes(16) + b"".join(attributes)
    return message(nlmsg.NLMSG_ERROR, body, flags)


DONE = message(nlmsg.NLMSG_DONE, bytes(4))


class Kernel:
    """Instead of `socket.socket`: gives a list of replies for each request, in turn."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.replies = []
        self.opened = 0

    def __call__(self, *arguments):
        self.opened += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.opened -= 1

    def settimeout(self, timeout_s):
        assert timeout_s > 0

    def setsockopt(self, *arguments):
        pass

    def send(self, request):
        length, kind, flags, _, _ = nlmsg.NLMSGHDR.unpack_from(request)
        assert length == len(request)
        assert flags & nlmsg.NLM_F_REQUEST
        self.asked.append((kind, request[nlmsg.NLMSGHDR.size :]))
        self.replies = list(self.answers.pop(0))

    def recv(self, size):
        reply = self.replies.pop(0) if self.replies else TimeoutError("timed out")
        if isinstance(reply, OSError):
            raise reply
        return reply
