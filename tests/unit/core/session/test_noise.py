"""The Noise handshake: published vectors, faults, and what a repr shows."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.session.noise import (
    FIRST_OVERHEAD,
    SECOND_OVERHEAD,
    Initiator,
    KeyPair,
    NoiseError,
    Responder,
)

# The vector Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s of cacophony (github.com/haskell-cryptography/
# cacophony, vectors/cacophony.txt), as snow carries it too (github.com/mcginty/snow,
# tests/vectors/cacophony.txt). Its handshake_hash is left out: copies of the file disagree on it.
VECTOR = {
    "prologue": "4a6f686e2047616c74",
    "psk": "54686973206973206d7920417573747269616e20706572737065637469766521",
    "init_static": "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
    "init_ephemeral": "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    "init_remote_static": "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
    "resp_static": "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
    "resp_ephemeral": "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
}
# (payload, ciphertext) in turn from the initiator and the responder; the first two are handshake.
MESSAGES = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
        "001e21de9f98ddd8e2ad57527207feb56253c9c94a9e496782ecfcb2a75fbcaf"
        "1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985"
        "464cf17e51ee93109008399a21f7e13f",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
        "cb765f2caef0751b8f007572dab0322217755c0632f365717edbf34d33e87a",
    ),
    (
        "462e20412e20486179656b",
        "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7",
    ),
    (
        "4361726c204d656e676572",
        "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef",
    ),
    (
        "4a65616e2d426170746973746520536179",
        "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d",
    ),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "dfc346c0d2296ae6cf1acf6f12b8456a1dba228cf8d8b774aacf1c47fc53aa80ebc7a4c292",
    ),
]
HEX = bytes.fromhex
PSK = HEX(VECTOR["psk"])
VECTOR_PROLOGUE = HEX(VECTOR["prologue"])
# Public keys of low order: with them the secret is zero whatever the private key (RFC 7748, 6.1).
LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    HEX("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    HEX("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    HEX("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def pair(name):
    return KeyPair.of(HEX(VECTOR[name]))


def initiator(psk=PSK, prologue=VECTOR_PROLOGUE, remote=None):
    return Initiator(
        pair("init_static"),
        pair("init_ephemeral"),
        remote or HEX(VECTOR["init_remote_static"]),
        psk,
        prologue,
    )


def responder(prologue=VECTOR_PROLOGUE):
    return Responder(pair("resp_static"), prologue)


def test_published_vector():
    ours, theirs = initiator(), responder()
    (payload1, wire1), (payload2, wire2) = MESSAGES[:2]

    assert ours.first(HEX(payload1)).hex() == wire1
    assert theirs.first(HEX(wire1)).hex() == payload1
    assert theirs.initiator_public == pair("init_static").public
    assert theirs.second(HEX(payload2), pair("resp_ephemeral"), PSK).hex() == wire2
    assert ours.second(HEX(wire2)).hex() == payload2

    assert ours.keys() == theirs.keys()[::-1]
    for number, (payload, wire) in enumerate(MESSAGES[2:]):
        end = (ours, theirs)[number % 2]
        nonce = bytes(4) + (number // 2).to_bytes(8, "little")
        sealed = ChaCha20Poly1305(end.keys()[0]).encrypt(nonce, HEX(payload), b"")
        assert sealed.hex() == wire


def test_a_public_key_follows_from_the_private_one():
    assert pair("resp_static").public.hex() == VECTOR["init_remote_static"]


@given(st.integers(0, 8 * (FIRST_OVERHEAD + 16) - 1))
def test_a_first_message_with_any_bit_changed_is_refused(bit):
    message = bytearray(HEX(MESSAGES[0][1]))
    message[bit // 8] ^= 1 << bit % 8
    # X25519 ignores the highest bit of a public key, the hash over the message does not.
    with pytest.raises(NoiseError):
        responder().first(bytes(message))


@given(st.integers(0, 8 * (SECOND_OVERHEAD + 15) - 1))
def test_a_second_message_with_any_bit_changed_is_refused_and_the_right_one_still_taken(bit):
    ours = initiator()
    ours.first(HEX(MESSAGES[0][0]))
    genuine = HEX(MESSAGES[1][1])
    message = bytearray(genuine)
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoiseError):
        ours.second(bytes(message))
    with pytest.raises(NoiseError):
        ours.keys()
    assert ours.second(genuine).hex() == MESSAGES[1][0]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(message):
    with pytest.raises(NoiseError):
        responder().first(message)
    ours = initiator()
    ours.first(b"")
    with pytest.raises(NoiseError):
        ours.second(message)


@pytest.mark.parametrize("length", range(FIRST_OVERHEAD + 16))
def test_a_truncated_first_message_is_refused(length):
    with pytest.raises(NoiseError):
        responder().first(HEX(MESSAGES[0][1])[:length])


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point):
    with pytest.raises(NoiseError):
        responder().first(point + HEX(MESSAGES[0][1])[32:])
    with pytest.raises(NoiseError):
        initiator(remote=point).first(b"")


def test_another_psk_prologue_or_responder_key_is_refused():
    with pytest.raises(NoiseError):
        responder(prologue=b"other").first(HEX(MESSAGES[0][1]))
    with pytest.raises(NoiseError):
        responder().first(initiator(remote=pair("init_static").public).first(b""))
    ours, theirs = initiator(psk=bytes(32)), responder()
    theirs.first(ours.first(b""))
    with pytest.raises(NoiseError):
        ours.second(theirs.second(b"", pair("resp_ephemeral"), PSK))


def test_steps_out_of_turn_are_refused():
    with pytest.raises(NoiseError):
        initiator().keys()
    with pytest.raises(NoiseError):
        responder().keys()
    with pytest.raises(NoiseError):
        responder().second(b"", pair("resp_ephemeral"), bytes(32))


def test_a_repr_shows_no_private_key():
    keys = pair("init_static")
    assert VECTOR["init_static"] not in repr(keys)
    assert str(keys.private) not in repr(keys)
    assert keys.public.hex() in repr(keys)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_private_key_has_32_bytes(length):
    with pytest.raises(ValueError, match="32 bytes"):
        KeyPair.of(bytes(length))
