"""The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, for both ends.

Source: Trevor Perrin, "The Noise Protocol Framework", revision 34 (noiseprotocol.org), sections 5
(processing rules), 7.5 (the pattern IK) and 9 (pre-shared keys)::

    <- s                       the initiator knows the responder's public key beforehand
    -> e, es, s, ss            first message
    <- e, ee, se, psk          second message

X25519 and ChaCha20-Poly1305 come from the library ``cryptography``; hashes from the standard
library. Nothing here makes random numbers: ephemeral keys are passed in, and each may be used for
one handshake only.
"""

from __future__ import annotations

import hmac
from hashlib import blake2s
from typing import Optional, Tuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: Bytes of a key, private, public, pre-shared or of a cipher, and of a hash.
KEY_BYTES = 32
#: What the tag adds to a sealed field.
TAG_BYTES = 16
#: What the first message is longer than its payload: e, sealed s, the payload's tag.
FIRST_OVERHEAD = KEY_BYTES + KEY_BYTES + TAG_BYTES + TAG_BYTES
#: What the second message is longer than its payload: e, the payload's tag.
SECOND_OVERHEAD = KEY_BYTES + TAG_BYTES

_NAME = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"


class NoiseError(Exception):
    """A handshake message is not authentic, not whole, or not for this key."""


class KeyPair:
    """A private X25519 key and its public key; the private one is in no repr."""

    __slots__ = ("_exchange", "private", "public")

    def __init__(self, exchange: X25519PrivateKey, private: bytes) -> None:
        self._exchange = exchange
        #: 32 bytes, secret.
        self.private = private
        #: 32 bytes.
        self.public: bytes = exchange.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @classmethod
    def of(cls, private: bytes) -> KeyPair:
        """Return the pair of a private key, any 32 bytes; ValueError if it is not that long."""
        if len(private) != KEY_BYTES:
            raise ValueError(f"A private key has {KEY_BYTES} bytes; this one has {len(private)}.")
        return cls(X25519PrivateKey.from_private_bytes(bytes(private)), bytes(private))

    def shared(self, public: bytes) -> bytes:
        """Return the Diffie-Hellman secret; NoiseError if the public key is of low order."""
        try:
            return self._exchange.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise NoiseError("The public key is no usable point of the curve.") from None

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


class _SymmetricState:
    """What both ends mix everything into (section 5.2), with the cipher key (section 5.1)."""

    __slots__ = ("_chaining", "_cipher", "_nonce", "hash")

    def __init__(self, prologue: bytes) -> None:
        self.hash = blake2s(_NAME).digest()
        self._chaining = self.hash
        self._cipher: Optional[ChaCha20Poly1305] = None
        self._nonce = 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2s(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining, key = _derive2(self._chaining, secret)
        self._cipher, self._nonce = ChaCha20Poly1305(key), 0

    def mix_key_and_hash(self, secret: bytes) -> None:
        self._chaining, to_hash, key = _derive3(self._chaining, secret)
        self.mix_hash(to_hash)
        self._cipher, self._nonce = ChaCha20Poly1305(key), 0

    def seal(self, plain: bytes) -> bytes:
        assert self._cipher is not None
        sealed = self._cipher.encrypt(self._next_nonce(), plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        assert self._cipher is not None
        try:
            plain = self._cipher.decrypt(self._next_nonce(), sealed, self.hash)
        except (InvalidTag, ValueError):
            raise NoiseError("A sealed field of the handshake is not authentic.") from None
        self.mix_hash(sealed)
        return plain

    def split(self) -> Tuple[bytes, bytes]:
        return _derive2(self._chaining, b"")

    def _next_nonce(self) -> bytes:
        nonce = b"\0\0\0\0" + self._nonce.to_bytes(8, "little")
        self._nonce += 1
        return nonce


class Initiator:
    """The end that sends the first message.

    ``first`` and ``second`` are called once each, in this order, then ``keys``; a second message
    that is refused changes nothing, so that another may be tried.
    """

    __slots__ = ("_ephemeral", "_keys", "_psk", "_responder_public", "_state", "_static")

    def __init__(
        self,
        static: KeyPair,
        ephemeral: KeyPair,
        responder_public: bytes,
        psk: bytes,
        prologue: bytes,
    ) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._responder_public = responder_public
        self._psk = psk
        self._state = _SymmetricState(prologue)
        self._state.mix_hash(responder_public)
        self._keys: Optional[Tuple[bytes, bytes]] = None

    def first(self, payload: bytes) -> bytes:
        """Return the first message: e, es, s, ss, then the sealed payload."""
        state = self._state
        state.mix_hash(self._ephemeral.public)
        # With a pre-shared key somewhere in the pattern, e is a key as well (section 9.2).
        state.mix_key(self._ephemeral.public)
        state.mix_key(self._ephemeral.shared(self._responder_public))
        sealed_static = state.seal(self._static.public)
        state.mix_key(self._static.shared(self._responder_public))
        return self._ephemeral.public + sealed_static + state.seal(payload)

    def second(self, message: bytes) -> bytes:
        """Read the second message; give its payload, or raise NoiseError."""
        if len(message) < SECOND_OVERHEAD:
            raise NoiseError("The second handshake message is too short.")
        state = _copy(self._state)
        remote, sealed = message[:KEY_BYTES], message[KEY_BYTES:]
        state.mix_hash(remote)
        state.mix_key(remote)
        state.mix_key(self._ephemeral.shared(remote))
        state.mix_key(self._static.shared(remote))
        state.mix_key_and_hash(self._psk)
        payload = state.open(sealed)
        self._keys = state.split()
        self._state = state
        return payload

    def keys(self) -> Tuple[bytes, bytes]:
        """Return the keys for sending and for receiving, once the second message is read."""
        if self._keys is None:
            raise NoiseError("The handshake is not finished.")
        return self._keys


class Responder:
    """The end that reads the first message and answers; ``first``, ``second``, ``keys``."""

    __slots__ = ("_initiator_ephemeral", "_keys", "_state", "_static", "initiator_public")

    def __init__(self, static: KeyPair, prologue: bytes) -> None:
        self._static = static
        self._state = _SymmetricState(prologue)
        self._state.mix_hash(static.public)
        self._initiator_ephemeral = b""
        self._keys: Optional[Tuple[bytes, bytes]] = None
        #: The public key that the initiator has proven to own, once the first message is read.
        self.initiator_public = b""

    def first(self, message: bytes) -> bytes:
        """Read the first message; give its payload, or raise NoiseError."""
        if len(message) < FIRST_OVERHEAD:
            raise NoiseError("The first handshake message is too short.")
        state = self._state
        remote = message[:KEY_BYTES]
        end = 2 * KEY_BYTES + TAG_BYTES
        state.mix_hash(remote)
        state.mix_key(remote)
        state.mix_key(self._static.shared(remote))
        public = state.open(message[KEY_BYTES:end])
        state.mix_key(self._static.shared(public))
        payload = state.open(message[end:])
        self._initiator_ephemeral = remote
        self.initiator_public = public
        return payload

    def second(self, payload: bytes, ephemeral: KeyPair, psk: bytes) -> bytes:
        """Return the second message: e, ee, se, psk, then the sealed payload."""
        if not self._initiator_ephemeral:
            raise NoiseError("The first handshake message has not been read.")
        state = self._state
        state.mix_hash(ephemeral.public)
        state.mix_key(ephemeral.public)
        state.mix_key(ephemeral.shared(self._initiator_ephemeral))
        state.mix_key(ephemeral.shared(self.initiator_public))
        state.mix_key_and_hash(psk)
        message = ephemeral.public + state.seal(payload)
        theirs, ours = state.split()
        self._keys = (ours, theirs)
        return message

    def keys(self) -> Tuple[bytes, bytes]:
        """Return the keys for sending and for receiving, once the second message is made."""
        if self._keys is None:
            raise NoiseError("The handshake is not finished.")
        return self._keys


def _copy(state: _SymmetricState) -> _SymmetricState:
    copy = _SymmetricState.__new__(_SymmetricState)
    for slot in _SymmetricState.__slots__:
        setattr(copy, slot, getattr(state, slot))
    return copy


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, blake2s).digest()


def _derive2(chaining: bytes, secret: bytes) -> Tuple[bytes, bytes]:
    """HKDF (section 4.3), two outputs."""
    extracted = _hmac(chaining, secret)
    first = _hmac(extracted, b"\1")
    return first, _hmac(extracted, first + b"\2")


def _derive3(chaining: bytes, secret: bytes) -> Tuple[bytes, bytes, bytes]:
    """HKDF (section 4.3), three outputs."""
    extracted = _hmac(chaining, secret)
    first = _hmac(extracted, b"\1")
    second = _hmac(extracted, first + b"\2")
    return first, second, _hmac(extracted, second + b"\3")
