"""The transport cipher, ChaCha20-Poly1305 (RFC 8439), from the library here that is quick at it.

``cryptography`` before 43 spends 6 to 12 microseconds on sealing any packet, most of it on setting
up; libsodium, called through ctypes, 2 to 3. From 43 on ``cryptography`` is the quicker one
(``python -m tests.bench.aead`` compares them). The bytes are the same, so the other end need not
know. Where an old ``cryptography`` is alone, it does the work.

The core opens no file and starts no process, and loads one library: here, once, at import, by its
soname (``ctypes.util.find_library`` would start processes). That is what importing ``cryptography``
does as well: C that computes and remembers nothing. Calling into C needs no memory that is writable
and executable; callbacks out of C may, and there are none, so MemoryDenyWriteExecute may be on.
"""

from __future__ import annotations

import ctypes
from typing import Callable, NamedTuple, Optional, Protocol

import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

#: Its name for those who read captured traffic.
CIPHER_NAME = "ChaCha20-Poly1305"
#: The longest text that can be sealed, in bytes: more than any IP packet holds.
MAX_TEXT = 65535
KEY_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16

#: Its numbers of arguments and their order are part of this name; the package is libsodium23.
SONAME = "libsodium.so.23"
#: The first major version of ``cryptography`` that is quicker than libsodium through ctypes.
QUICK_CRYPTOGRAPHY = 43


class Cipher(Protocol):
    """One key. All arguments are ``bytes``: nonce 12, text up to MAX_TEXT, associated data any."""

    def encrypt(self, nonce: bytes, text: bytes, associated: bytes, /) -> bytes:
        """Return the sealed text, TAG_SIZE bytes longer. ValueError if a length is wrong."""

    def decrypt(self, nonce: bytes, text: bytes, associated: bytes, /) -> bytes:
        """Return what was sealed.

        InvalidTag if it is not authentic, however short or long it is; ValueError if the nonce's
        length is wrong.
        """


class Provider(NamedTuple):
    """A library that has the cipher."""

    #: Its name and version, for people.
    text: str
    #: Makes a cipher of a key of 32 bytes; ValueError if it is not that long.
    cipher: Callable[[bytes], Cipher]


class LibraryError(Exception):
    """libsodium is not here or not to be trusted; the text says which."""


def from_cryptography() -> Provider:
    """Return the class of ``cryptography``."""
    return Provider(f"cryptography {cryptography.__version__}", ChaCha20Poly1305)


def from_libsodium(soname: str = SONAME) -> Provider:
    """Load libsodium and check that it seals and opens as ``cryptography`` does.

    Its ciphers share one buffer: they are for one thread. LibraryError if it cannot be used.
    """
    try:
        # PyDLL keeps the interpreter's lock: as quick, and no other thread gets at the buffer.
        library = ctypes.PyDLL(soname)
        encrypt = library.crypto_aead_chacha20poly1305_ietf_encrypt
        decrypt = library.crypto_aead_chacha20poly1305_ietf_decrypt
        version = library.sodium_version_string
        initialise = library.sodium_init
    except (OSError, AttributeError) as error:
        raise LibraryError(f"{soname} cannot be used: {error}; install libsodium23") from None
    # (c, clen_p, m, mlen, ad, adlen, nsec, npub, k): it always returns 0.
    # (m, mlen_p, nsec, c, clen, ad, adlen, npub, k): 0, or -1 where the tag is wrong.
    out, given, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulonglong
    encrypt.argtypes = [out, out, given, size, given, size, out, given, given]
    decrypt.argtypes = [out, out, out, given, size, given, size, given, given]
    version.restype = ctypes.c_char_p
    if initialise() < 0:
        raise LibraryError(f"{soname} cannot be used: sodium_init failed")

    room = ctypes.create_string_buffer(MAX_TEXT + TAG_SIZE)
    address = ctypes.addressof(room)
    view = memoryview(room).cast("B")  # it keeps the room as well

    class SodiumCipher:
        """A key; see Cipher. C reads as far as it is told, so lengths are checked before."""

        __slots__ = ("_key",)

        def __init__(self, key: bytes) -> None:
            if not isinstance(key, bytes) or len(key) != KEY_SIZE:
                raise ValueError(f"A key is {KEY_SIZE} bytes.")
            self._key = key

        def encrypt(self, nonce: bytes, text: bytes, associated: bytes, /) -> bytes:
            length = len(text)
            if len(nonce) != NONCE_SIZE or length > MAX_TEXT:
                raise ValueError(f"A nonce is {NONCE_SIZE} bytes, a text at most {MAX_TEXT}.")
            encrypt(
                address, None, text, length, associated, len(associated), None, nonce, self._key
            )
            return view[: length + TAG_SIZE].tobytes()

        def decrypt(self, nonce: bytes, text: bytes, associated: bytes, /) -> bytes:
            length = len(text) - TAG_SIZE
            if len(nonce) != NONCE_SIZE:
                raise ValueError(f"A nonce is {NONCE_SIZE} bytes.")
            if not 0 <= length <= MAX_TEXT or decrypt(
                address, None, None, text, len(text), associated, len(associated), nonce, self._key
            ):
                raise InvalidTag
            return view[:length].tobytes()

    if not agree(SodiumCipher, ChaCha20Poly1305):
        raise LibraryError(f"{soname} cannot be used: it does not seal as cryptography does")
    return Provider(f"libsodium {version().decode('ascii')}", SodiumCipher)


def agree(one: Callable[[bytes], Cipher], other: Callable[[bytes], Cipher]) -> bool:
    """Return whether two providers seal a known text alike, open it, and refuse it when changed."""
    key, nonce, associated = bytes(range(KEY_SIZE)), bytes(range(NONCE_SIZE)), b"\x04"
    text = bytes(range(256)) * 5
    tried, known = one(key), other(key)
    sealed = known.encrypt(nonce, text, associated)
    if tried.encrypt(nonce, text, associated) != sealed:
        return False
    return (
        _opened(tried, nonce, sealed, associated) == text
        and _opened(tried, nonce, sealed[:-1] + bytes([sealed[-1] ^ 1]), associated) is None
    )


def _opened(cipher: Cipher, nonce: bytes, sealed: bytes, associated: bytes) -> Optional[bytes]:
    try:
        return cipher.decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


def choose(version: str = cryptography.__version__, soname: str = SONAME) -> Provider:
    """Return the quick provider where ``cryptography`` is of this version."""
    if int(version.partition(".")[0]) < QUICK_CRYPTOGRAPHY:
        try:
            return from_libsodium(soname)
        except LibraryError:
            return from_cryptography()
    return from_cryptography()


_chosen = choose()
#: The library in use and its version, for the status.
PROVIDER = _chosen.text
#: What seals data and control frames. Both ends must use the same cipher, not the same library.
TransportCipher = _chosen.cipher
