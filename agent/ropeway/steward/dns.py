"""Questions to a name server, and its answers, as bytes (RFC 1035, section 4)."""

from __future__ import annotations

import ipaddress
import struct
from typing import List, Optional

#: Kinds of records: IPv4 (RFC 1035, section 3.2.2) and IPv6 addresses (RFC 3596, section 2.1).
A, AAAA = 1, 28
KINDS = (A, AAAA)
_INTERNET = 1
#: number, flags, then how many questions, answers, authorities and additional records follow.
_HEADER = struct.Struct(">6H")
#: After the name of a question: kind, class.
_ASKED = struct.Struct(">2H")
#: After the name of a record: kind, class, time to live, size of what follows.
_RECORD = struct.Struct(">2HIH")
_RECURSION_DESIRED = 0x0100
_IS_ANSWER = 0x8000
_OPCODE = 0x7800
_FAILURE = 0x000F
_SIZES = {A: 4, AAAA: 16}
#: The two uppermost bits of a length say that a name goes on elsewhere.
_POINTER = 0xC0


def question(number: int, name: str, kind: int) -> bytes:
    """Return the question for the records of one kind that a name has."""
    header = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + _asked(name, kind)


def addresses(answer: bytes, number: int, name: str, kind: int) -> Optional[List[str]]:
    """Return the addresses in an answer; None if it answers something else, or nothing.

    An alias comes with the records that it leads to, which count for the name.
    """
    try:
        head, flags, asked, answered, _, _ = _HEADER.unpack_from(answer)
        end = _HEADER.size + len(_asked(name, kind))
        if (
            head != number
            or asked != 1
            or not flags & _IS_ANSWER
            or flags & (_OPCODE | _FAILURE)
            or answer[_HEADER.size : end].lower() != _asked(name, kind)
        ):
            return None
        found = []
        for _ in range(answered):
            end = _after_name(answer, end)
            record, network, _, size = _RECORD.unpack_from(answer, end)
            end += _RECORD.size + size
            if end > len(answer):
                return None
            if (record, network, size) == (kind, _INTERNET, _SIZES[kind]):
                found.append(str(ipaddress.ip_address(answer[end - size : end])))
    except (struct.error, IndexError):
        return None
    return found


def _asked(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.lower().encode().split(b"."))
    return labels + b"\0" + _ASKED.pack(kind, _INTERNET)


def _after_name(answer: bytes, at: int) -> int:
    """Return where a name ends; IndexError where it does not."""
    while True:
        size = answer[at]
        if size >= _POINTER:
            return at + 2
        at += 1 + size
        if not size:
            return at
