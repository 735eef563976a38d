"""The transport cipher: every provider by the RFC's vector, against each other, and its guards."""

import ctypes
import random

import cryptography
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.session import aead, session

PROVIDERS = (aead.from_cryptography, aead.from_libsodium)
KEY, NONCE, ASSOCIATED = bytes(range(32)), bytes(range(12)), b"\x04"

# RFC 8439, section 2.8.2.
RFC_KEY = bytes(range(0x80, 0xA0))
RFC_NONCE = bytes.fromhex("070000004041424344454647")
RFC_ASSOCIATED = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
RFC_TEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you "
    b"only one tip for the future, sunscreen would be it."
)
RFC_SEALED = bytes.fromhex(
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
    "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
    "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
    "3ff4def08e4b7a9de576d26586cec64b6116"
    "1ae10b594f09e26a7e902ecbd0600691"
)


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.__name__)
def make(request):
    return request.param().cipher


def test_vector_of_the_rfc(make):
    cipher = make(RFC_KEY)
    assert cipher.encrypt(RFC_NONCE, RFC_TEXT, RFC_ASSOCIATED) == RFC_SEALED
    assert cipher.decrypt(RFC_NONCE, RFC_SEALED, RFC_ASSOCIATED) == RFC_TEXT


texts = st.one_of(
    st.binary(max_size=2000),
    # Hypothesis makes no long ones: around the sizes that the library treats apart, and the ends.
    st.builds(
        lambda size, seed: bytes(random.Random(seed).getrandbits(8) for _ in range(size)),
        st.sampled_from([63, 64, 65, 127, 128, 255, 256, 511, 512, 513, 9000, aead.MAX_TEXT]),
        st.integers(0, 2**32),
    ),
)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12), texts, st.binary())
def test_both_give_the_same_bytes_and_open_each_other(key, nonce, text, associated):
    one, other = (provider().cipher(key) for provider in PROVIDERS)
    sealed = one.encrypt(nonce, text, associated)
    assert other.encrypt(nonce, text, associated) == sealed
    assert len(sealed) == len(text) + aead.TAG_SIZE
    assert one.decrypt(nonce, sealed, associated) == text
    assert other.decrypt(nonce, sealed, associated) == text


def test_what_is_changed_in_any_bit_is_refused(make):
    cipher = make(KEY)
    sealed = cipher.encrypt(NONCE, b"to be kept", ASSOCIATED)
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidTag):
            cipher.decrypt(NONCE, bytes(forged), ASSOCIATED)
    for key, nonce, associated in (
        (KEY[::-1], NONCE, ASSOCIATED),
        (KEY, NONCE[::-1], ASSOCIATED),
        (KEY, NONCE, b"\x05"),
        (KEY, NONCE, b""),
    ):
        with pytest.raises(InvalidTag):
            make(key).decrypt(nonce, sealed, associated)
    assert cipher.decrypt(NONCE, sealed, ASSOCIATED) == b"to be kept"


def test_what_is_cut_short_or_longer_is_refused(make):
    cipher = make(KEY)
    sealed = cipher.encrypt(NONCE, b"to be kept", ASSOCIATED)
    for size in range(len(sealed)):
        with pytest.raises(InvalidTag):
            cipher.decrypt(NONCE, sealed[:size], ASSOCIATED)
    for longer in (sealed + b"\0", sealed + bytes(70000)):
        with pytest.raises(InvalidTag):
            cipher.decrypt(NONCE, longer, ASSOCIATED)
    assert cipher.decrypt(NONCE, cipher.encrypt(NONCE, b"", b""), b"") == b""


@pytest.mark.parametrize("size", [0, 1, 11, 13, 24])
def test_nonce_of_another_length(make, size):
    cipher = make(KEY)
    sealed = cipher.encrypt(NONCE, b"text", ASSOCIATED)
    with pytest.raises(ValueError, match=r"(?i)nonce"):
        cipher.encrypt(bytes(size), b"text", ASSOCIATED)
    with pytest.raises(ValueError, match=r"(?i)nonce"):
        cipher.decrypt(bytes(size), sealed, ASSOCIATED)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_key_of_another_length(make, size):
    with pytest.raises(ValueError, match="32 bytes"):
        make(bytes(size))


def test_libsodium_is_given_nothing_that_its_buffer_cannot_hold():
    cipher = aead.from_libsodium().cipher(KEY)
    sealed = cipher.encrypt(NONCE, bytes(aead.MAX_TEXT), ASSOCIATED)
    assert cipher.decrypt(NONCE, sealed, ASSOCIATED) == bytes(aead.MAX_TEXT)
    too_long = bytes(aead.MAX_TEXT + 1)
    with pytest.raises(ValueError, match="65535"):
        cipher.encrypt(NONCE, too_long, ASSOCIATED)
    genuine = aead.from_cryptography().cipher(KEY).encrypt(NONCE, too_long, ASSOCIATED)
    with pytest.raises(InvalidTag):
        cipher.decrypt(NONCE, genuine, ASSOCIATED)


@pytest.mark.parametrize("other", [bytearray(12), memoryview(bytes(12)), "twelve chars", None, 12])
def test_libsodium_is_given_bytes_only(other):
    cipher = aead.from_libsodium().cipher(KEY)
    sealed = cipher.encrypt(NONCE, b"text", ASSOCIATED)
    for call in (
        lambda: cipher.encrypt(other, b"text", ASSOCIATED),
        lambda: cipher.encrypt(NONCE, other, ASSOCIATED),
        lambda: cipher.encrypt(NONCE, b"text", other),
        lambda: cipher.decrypt(other, sealed, ASSOCIATED),
        lambda: cipher.decrypt(NONCE, sealed, other),
    ):
        with pytest.raises((TypeError, ctypes.ArgumentError)):
            call()
    with pytest.raises(ValueError, match="32 bytes"):
        aead.from_libsodium().cipher(bytearray(32))


def test_each_result_is_its_own():
    one, other = aead.from_libsodium().cipher(KEY), aead.from_libsodium().cipher(KEY[::-1])
    first = one.encrypt(NONCE, b"first" * 100, ASSOCIATED)
    second = other.encrypt(NONCE, b"other" * 100, ASSOCIATED)
    assert one.decrypt(NONCE, first, ASSOCIATED) == b"first" * 100
    assert other.decrypt(NONCE, second, ASSOCIATED) == b"other" * 100


def test_no_repr_holds_a_key(make):
    key = bytes(random.Random(1).getrandbits(8) for _ in range(32))
    cipher = make(key)
    cipher.encrypt(NONCE, b"text", ASSOCIATED)
    for text in (repr(cipher), str(cipher)):
        assert key.hex() not in text
        assert repr(key)[2:-1] not in text


@pytest.mark.parametrize(
    ("version", "library"),
    [
        ("2.8", "libsodium"),
        ("3.3.2", "libsodium"),
        ("42.0.8", "libsodium"),
        ("43.0.0", "cryptography"),
        ("50.0.2", "cryptography"),
        ("100.0.0.dev1", "cryptography"),
    ],
)
def test_the_quick_one_is_chosen(version, library):
    assert aead.choose(version).text.split()[0] == library


@pytest.mark.parametrize("soname", ["libsodium.so.0", "libc.so.6"])
def test_without_a_libsodium_that_works_cryptography_does_it(soname):
    with pytest.raises(aead.LibraryError, match=rf"{soname} cannot be used: .+"):
        aead.from_libsodium(soname)
    assert aead.choose("2.8", soname) == aead.from_cryptography()


def test_a_provider_that_differs_is_found_out():
    made = aead.from_cryptography().cipher

    class Wrong:
        def __init__(self, key):
            self.right = made(key)

        def encrypt(self, nonce, text, associated):
            return self.right.encrypt(nonce, text, associated)

        def decrypt(self, nonce, text, associated):
            return self.right.decrypt(nonce, text, associated)

    class Seals(Wrong):
        def encrypt(self, nonce, text, associated):
            return self.right.encrypt(nonce, text, b"")

    class Refuses(Wrong):
        def decrypt(self, nonce, text, associated):
            raise InvalidTag

    class Trusts(Wrong):
        def decrypt(self, nonce, text, associated):
            return text[:-16] and bytes(range(256)) * 5

    assert aead.agree(Wrong, made)
    assert not any(aead.agree(wrong, made) for wrong in (Seals, Refuses, Trusts))


def test_what_sessions_and_the_status_have():
    chosen = aead.choose(cryptography.__version__)
    assert chosen.text == aead.PROVIDER
    assert session.TransportCipher is aead.TransportCipher
    name, version = aead.PROVIDER.split()
    assert name in ("libsodium", "cryptography")
    assert version[0].isdigit()
