"""Measure what sealing and opening one packet costs, by cipher and by the library that provides it.

    python -m tests.bench.aead

It needs none of the libraries: what is missing is named, the rest measured. Everything is measured
side by side, round after round, once as the processor is and once without its AES instructions and
wide vectors, as on small boards (a Raspberry Pi 4 has no AES instructions). OpenSSL can be told
so, libsodium can be kept to its portable C, PyNaCl cannot be told. Runs on Python 3.8 and later.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

SIZES = (64, 200, 1300)
ASSOCIATED = b"\x04"
TAG = 16
REPEATS = 25
BATCH = 300

Seal = Callable[[bytes, bytes], bytes]


class Variant(NamedTuple):
    """One cipher of one library: two functions of (nonce, text)."""

    library: str
    cipher: str
    seal: Seal
    open: Seal


class MissingError(Exception):
    """A library is not here, or lacks this; the text says what and how to get it."""


def key_of(bits: int) -> bytes:
    return bytes(range(bits // 8))


def cryptography_aead() -> List[Variant]:
    """The classes of cryptography.hazmat.primitives.ciphers.aead, which hold the key."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    except ImportError as error:
        raise MissingError(f"no cryptography ({error}): apt install python3-cryptography") from None

    def variant(cipher: str, made: ChaCha20Poly1305 | AESGCM) -> Variant:
        return Variant(
            "cryptography, aead",
            cipher,
            lambda nonce, text: made.encrypt(nonce, text, ASSOCIATED),
            lambda nonce, text: made.decrypt(nonce, text, ASSOCIATED),
        )

    return [
        variant("ChaCha20-Poly1305", ChaCha20Poly1305(key_of(256))),
        variant("AES-128-GCM", AESGCM(key_of(128))),
        variant("AES-256-GCM", AESGCM(key_of(256))),
    ]


def cryptography_cipher() -> List[Variant]:
    """The lower interface, Cipher, which has AES-GCM but not ChaCha20-Poly1305."""
    try:
        from cryptography.hazmat.backends import default_backend
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import GCM
    except ImportError as error:
        raise MissingError(f"no cryptography ({error}): apt install python3-cryptography") from None
    backend = default_backend()

    def variant(bits: int) -> Variant:
        algorithm = AES(key_of(bits))

        def seal(nonce: bytes, text: bytes) -> bytes:
            context = Cipher(algorithm, GCM(nonce), backend).encryptor()
            context.authenticate_additional_data(ASSOCIATED)
            return context.update(text) + context.finalize() + context.tag

        def open_(nonce: bytes, text: bytes) -> bytes:
            context = Cipher(algorithm, GCM(nonce, text[-TAG:]), backend).decryptor()
            context.authenticate_additional_data(ASSOCIATED)
            return context.update(text[:-TAG]) + context.finalize()

        return Variant("cryptography, Cipher", f"AES-{bits}-GCM", seal, open_)

    return [variant(128), variant(256)]


def pynacl() -> List[Variant]:
    """PyNaCl's bindings of libsodium."""
    if hidden():
        raise MissingError("PyNaCl cannot be told what the processor lacks")
    try:
        from nacl import bindings
    except ImportError as error:
        raise MissingError(f"no PyNaCl ({error}): apt install python3-nacl") from None
    found = []
    key = key_of(256)
    for cipher, name in (
        ("ChaCha20-Poly1305", "crypto_aead_chacha20poly1305_ietf"),
        ("AES-256-GCM", "crypto_aead_aes256gcm"),
    ):
        encrypt = getattr(bindings, f"{name}_encrypt", None)
        decrypt = getattr(bindings, f"{name}_decrypt", None)
        if encrypt is None or decrypt is None:
            continue

        def seal(nonce: bytes, text: bytes, encrypt: Callable[..., bytes] = encrypt) -> bytes:
            return encrypt(text, ASSOCIATED, nonce, key)

        def open_(nonce: bytes, text: bytes, decrypt: Callable[..., bytes] = decrypt) -> bytes:
            return decrypt(text, ASSOCIATED, nonce, key)

        found.append(Variant("PyNaCl", cipher, seal, open_))
    return found


def load(name: str, package: str) -> ctypes.PyDLL:
    """Load a shared library; the calls are short, so the interpreter's lock is kept."""
    path = ctypes.util.find_library(name) or {"sodium": "libsodium.so.23"}.get(name)
    try:
        return ctypes.PyDLL(path or f"lib{name}.so")
    except OSError as error:
        raise MissingError(f"no lib{name} ({error}): apt install {package}") from None


def libsodium() -> List[Variant]:
    """libsodium's combined mode through ctypes: one call a packet into a buffer that is kept.

    Until sodium_init looks at the processor it runs its portable C, which is all that it has for
    ARM: that is what is measured in place of a small board.
    """
    library = load("sodium", "libsodium23")
    if not hidden():
        library.sodium_init()
    key = key_of(256)
    room = ctypes.create_string_buffer(65536)
    view = memoryview(room).cast("B")
    pointer, size = ctypes.c_char_p, ctypes.c_ulonglong
    encrypt = library.crypto_aead_chacha20poly1305_ietf_encrypt
    decrypt = library.crypto_aead_chacha20poly1305_ietf_decrypt
    # (c, clen, m, mlen, ad, adlen, nsec, npub, k) and (m, mlen, nsec, c, clen, ad, adlen, npub, k)
    out = ctypes.c_void_p
    encrypt.argtypes = [out, out, pointer, size, pointer, size, out, pointer, pointer]
    decrypt.argtypes = [out, out, out, pointer, size, pointer, size, pointer, pointer]
    address = ctypes.addressof(room)

    def seal(nonce: bytes, text: bytes) -> bytes:
        encrypt(address, None, text, len(text), ASSOCIATED, 1, None, nonce, key)
        return bytes(view[: len(text) + TAG])

    def open_(nonce: bytes, text: bytes) -> bytes:
        if decrypt(address, None, None, text, len(text), ASSOCIATED, 1, nonce, key):
            raise ValueError("The text is not genuine.")
        return bytes(view[: len(text) - TAG])

    return [Variant("libsodium, ctypes", "ChaCha20-Poly1305", seal, open_)]


def agent() -> List[Variant]:
    """What the agent itself calls libsodium through, with its checks of lengths."""
    if hidden():
        raise MissingError("the agent's libsodium cannot be told what the processor lacks")
    sys.path.insert(0, str(Path(__file__).parents[2] / "agent"))
    try:
        from ropeway.core.session import aead
    except ImportError as error:
        raise MissingError(f"no agent ({error}): run it with PYTHONPATH=agent") from None
    try:
        provider = aead.from_libsodium()
    except aead.LibraryError as error:
        raise MissingError(str(error)) from None
    made = provider.cipher(key_of(256))
    return [
        Variant(
            "ropeway, libsodium",
            "ChaCha20-Poly1305",
            lambda nonce, text: made.encrypt(nonce, text, ASSOCIATED),
            lambda nonce, text: made.decrypt(nonce, text, ASSOCIATED),
        )
    ]


def libcrypto() -> List[Variant]:
    """OpenSSL's EVP interface through ctypes: a context a key, five calls a packet."""
    library = load("crypto", "libssl3")
    out, pointer, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for way in ("Encrypt", "Decrypt"):
        getattr(library, f"EVP_{way}Init_ex").argtypes = [out, out, out, pointer, pointer]
        getattr(library, f"EVP_{way}Update").argtypes = [out, out, out, pointer, number]
        getattr(library, f"EVP_{way}Final_ex").argtypes = [out, out, out]
    library.EVP_CIPHER_CTX_ctrl.argtypes = [out, number, number, out]
    library.EVP_CIPHER_CTX_new.restype = out
    get_tag, set_tag = 0x10, 0x11  # EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG of openssl/evp.h
    room = ctypes.create_string_buffer(65536)
    view = memoryview(room).cast("B")
    address = ctypes.addressof(room)
    length = ctypes.c_int()
    written = ctypes.byref(length)
    control = library.EVP_CIPHER_CTX_ctrl

    def variant(cipher: str, name: str, bits: int) -> Variant:
        fetch = getattr(library, name)
        fetch.restype = out
        sealing, opening = library.EVP_CIPHER_CTX_new(), library.EVP_CIPHER_CTX_new()
        begin, add, end = (
            getattr(library, f"EVP_Encrypt{step}") for step in ("Init_ex", "Update", "Final_ex")
        )
        begin_open, add_open, end_open = (
            getattr(library, f"EVP_Decrypt{step}") for step in ("Init_ex", "Update", "Final_ex")
        )
        begin(sealing, fetch(), None, key_of(bits), None)
        begin_open(opening, fetch(), None, key_of(bits), None)

        def seal(nonce: bytes, text: bytes) -> bytes:
            begin(sealing, None, None, None, nonce)
            add(sealing, None, written, ASSOCIATED, 1)
            add(sealing, address, written, text, len(text))
            end(sealing, address, written)
            control(sealing, get_tag, TAG, address + len(text))
            return bytes(view[: len(text) + TAG])

        def open_(nonce: bytes, text: bytes) -> bytes:
            begin_open(opening, None, None, None, nonce)
            control(opening, set_tag, TAG, text[-TAG:])
            add_open(opening, None, written, ASSOCIATED, 1)
            add_open(opening, address, written, text, len(text) - TAG)
            if end_open(opening, address, written) != 1:
                raise ValueError("The text is not genuine.")
            return bytes(view[: len(text) - TAG])

        return Variant("libcrypto, ctypes", cipher, seal, open_)

    return [
        variant("ChaCha20-Poly1305", "EVP_chacha20_poly1305", 256),
        variant("AES-128-GCM", "EVP_aes_128_gcm", 128),
        variant("AES-256-GCM", "EVP_aes_256_gcm", 256),
    ]


PROVIDERS: Tuple[Callable[[], List[Variant]], ...] = (
    cryptography_aead,
    cryptography_cipher,
    pynacl,
    libsodium,
    agent,
    libcrypto,
)

#: What each library brings into a process.
IMPORTS: Dict[str, str] = {
    "cryptography": "from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305 as C;"
    "C(bytes(32)).encrypt(bytes(12), b'', None)",
    "PyNaCl": "import nacl.bindings as b; b.sodium_init()",
    "ctypes": "import ctypes",
}


def nonce_of(counter: int) -> bytes:
    return struct.pack("<4xQ", counter)


def check(variants: List[Variant]) -> None:
    """Refuse to compare what does not do the same."""
    known: Dict[str, bytes] = {}
    for variant in variants:
        sealed = variant.seal(nonce_of(7), b"strand" * 30)
        assert known.setdefault(variant.cipher, sealed) == sealed, variant
        assert variant.open(nonce_of(7), sealed) == b"strand" * 30, variant
        try:
            opened = variant.open(nonce_of(8), sealed)
        except Exception:  # every library has a class of its own for it
            opened = b""
        assert not opened, f"{variant} opened what is not genuine"


def clock_us(function: Seal, nonces: List[bytes], texts: List[bytes]) -> float:
    """Microseconds a call over one batch."""
    began = time.perf_counter()
    for nonce, text in zip(nonces, texts):
        function(nonce, text)
    return (time.perf_counter() - began) / len(nonces) * 1e6


def measure(variants: List[Variant]) -> Dict[Tuple[int, str, int], float]:
    """Medians in microseconds by (number of the variant, "seal" or "open", bytes)."""
    samples: Dict[Tuple[int, str, int], List[float]] = {}
    nonces = [nonce_of(counter) for counter in range(BATCH)]
    for size in SIZES:
        plain = [os.urandom(size) for _ in range(BATCH)]
        sealed = [[v.seal(n, text) for n, text in zip(nonces, plain)] for v in variants]
        for _ in range(REPEATS):
            for number, variant in enumerate(variants):
                for what, function, texts in (
                    ("seal", variant.seal, plain),
                    ("open", variant.open, sealed[number]),
                ):
                    taken = clock_us(function, nonces, texts)
                    samples.setdefault((number, what, size), []).append(taken)
    return {key: statistics.median(values) for key, values in samples.items()}


def resident_kib(statement: str) -> Optional[int]:
    """What the statement adds to a fresh interpreter's resident memory; None if it fails."""
    code = (
        "def rss():\n"
        "    with open('/proc/self/status') as f:\n"
        "        return int(next(s for s in f if s.startswith('VmRSS')).split()[1])\n"
        f"before = rss()\n{statement}\nprint(rss() - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return int(run.stdout) if run.returncode == 0 else None


def versions() -> str:
    """Name the interpreter, the libraries and the processor."""
    found = [f"Python {platform.python_version()}"]
    try:
        import cryptography
        from cryptography.hazmat.backends.openssl.backend import backend

        found.append(f"cryptography {cryptography.__version__}, {backend.openssl_version_text()}")
    except ImportError:
        found.append("no cryptography")
    try:
        import nacl

        found.append(f"PyNaCl {nacl.__version__}")
    except ImportError:
        found.append("no PyNaCl")
    for name, package, function in (
        ("sodium", "libsodium23", "sodium_version_string"),
        ("crypto", "libssl3", "OpenSSL_version"),
    ):
        try:
            version = getattr(load(name, package), function)
        except MissingError:
            found.append(f"no lib{name}")
            continue
        version.restype = ctypes.c_char_p
        found.append(f"lib{name} " + (version(0) if name == "crypto" else version()).decode())
    found.append(f"{platform.machine()} {processor()}".strip())
    return "; ".join(found)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def without_aes() -> Dict[str, str]:
    """The environment that hides AES instructions (and AVX) from OpenSSL; empty if unknown.

    OPENSSL_ia32cap(3): bits 33 PCLMULQDQ, 57 AES-NI, 60 AVX, and leaf 7 (AVX2, AVX-512, VAES).
    crypto/arm_arch.h: bit 0 is NEON; AES and PMULL are others.
    """
    return {
        "x86_64": {"OPENSSL_ia32cap": f"~{1 << 33 | 1 << 57 | 1 << 60:#x}:0"},
        "aarch64": {"OPENSSL_armcap": "1"},
    }.get(platform.machine(), {})


def hidden() -> bool:
    """Whether this process is to do without the processor's AES instructions."""
    wanted = without_aes()
    return bool(wanted) and wanted.items() <= os.environ.items()


def show() -> None:
    """Measure in this process and print one table."""
    variants: List[Variant] = []
    for provider in PROVIDERS:
        try:
            variants += provider()
        except MissingError as missing:
            print(f"Not measured: {missing}")
    check(variants)
    medians = measure(variants)
    head = "".join(f"{what} {size:>5}".rjust(12) for what in ("seal", "open") for size in SIZES)
    print(f"{'microseconds':22}{'':20}{head}")
    for number, variant in enumerate(variants):
        cells = "".join(
            f"{medians[number, what, size]:12.2f}" for what in ("seal", "open") for size in SIZES
        )
        print(f"{variant.library:22}{variant.cipher:20}{cells}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--once", action="store_true", help="only as the processor is here")
    if parser.parse_args().once:
        show()
        return 0
    print(versions())
    environments = [("as the processor is", {})]
    if without_aes():
        environments.append(
            ("without AES instructions and AVX; libsodium, ctypes: its portable C", without_aes())
        )
    for title, extra in environments:
        print(f"\n{title}", flush=True)
        command = [sys.executable, "-m", "tests.bench.aead", "--once"]
        subprocess.run(command, env={**os.environ, **extra}, check=True)
    print("\nresident memory that it adds")
    for name, statement in IMPORTS.items():
        kib = resident_kib(statement)
        print(f"{name:22}" + (f"{kib / 1024:.1f} MiB" if kib is not None else "not here"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
