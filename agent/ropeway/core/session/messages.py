"""The datagrams of handshakes as bytes, and the MACs that show what their senders know.

Three datagrams, integers little-endian. The handshake inside the first two is
:mod:`ropeway.core.session.noise` with the prologue :data:`PROLOGUE`; mac1, mac2 and cookies follow
the design of WireGuard (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", section
5.4.4):

==========  =====  =============================================================================
datagram    bytes  layout
==========  =====  =============================================================================
initiation  172    ``01 000000``, Noise message 1 with a payload of 40, mac1 16, mac2 16
response    112    ``02 000000``, receiver index 4, Noise message 2 with a payload of 24, mac1 16,
                   mac2 16
cookie      60     ``03 000000``, salt 16, sealed cookie 32, first 8 bytes of the initiation's mac1
==========  =====  =============================================================================

Resets (type 6) are laid out in :mod:`ropeway.core.session.resets`.
"""

from __future__ import annotations

import struct
from hashlib import blake2s
from typing import Optional

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ropeway.core.frame.data import COOKIE, INITIATION, RESET, RESPONSE
from ropeway.core.session.resets import RESET_SIZE

PROLOGUE = b"ropeway secure 1"

INITIATION_SIZE = 172
RESPONSE_SIZE = 112
COOKIE_SIZE = 60

#: Of an initiation: sender index, serial and epoch of the stamp, sender's host, flags, zero, reset
#: token.
FIRST = struct.Struct("<4s Q 4s 4s 4x 16s")
#: Of a response: sender index, flags, reset token.
SECOND = struct.Struct("<4s 4s 16s")
NO_FLAGS = bytes(4)
#: In an initiation: the receiver's own last one was stale here.
YOURS_IS_STALE = b"\x01\0\0\0"
MAC_SIZE = 16
#: What takes the place of mac2 without a cookie.
NO_MAC = bytes(MAC_SIZE)
#: What of an initiation's mac1 a cookie repeats, in bytes.
MAC1_START_SIZE = 8

_LENGTHS = {
    INITIATION: INITIATION_SIZE,
    RESPONSE: RESPONSE_SIZE,
    COOKIE: COOKIE_SIZE,
    RESET: RESET_SIZE,
}


def kind_of(datagram: bytes) -> Optional[int]:
    """Return the type of what has the form of an initiation, response, cookie or reset."""
    kind = datagram[0] if datagram else 0
    if _LENGTHS.get(kind) != len(datagram) or datagram[1:4] != b"\0\0\0":
        return None
    return kind


def body_of(datagram: bytes) -> bytes:
    """Return what precedes both MACs of an initiation or response."""
    return datagram[: -2 * MAC_SIZE]


def mac1_of(datagram: bytes) -> bytes:
    """Return mac1 of an initiation or response."""
    return datagram[-2 * MAC_SIZE : -MAC_SIZE]


def mac(key: bytes, data: bytes) -> bytes:
    """Return the 16 bytes that only an owner of the key can have made of the data."""
    return blake2s(data, key=key, digest_size=MAC_SIZE).digest()


def mac1_key(public_key: bytes) -> bytes:
    """Return the key of mac1 in datagrams to a public key's owner."""
    return blake2s(b"ropeway mac1" + public_key).digest()


def cookie_key(public_key: bytes) -> bytes:
    """Return the key of cookies that a public key's owner seals."""
    return blake2s(b"ropeway cookie" + public_key).digest()


def cookie_cipher(key: bytes, salt: bytes) -> ChaCha20Poly1305:
    """Return the cipher of one cookie; its key is used once, so the nonce is zero."""
    return ChaCha20Poly1305(blake2s(salt, key=key).digest())


def with_cookie(message: bytes, cookie: bytes) -> bytes:
    """Return an initiation with the cookie that its receiver demands."""
    body = message[:-MAC_SIZE]
    return body + mac(cookie, body)
