"""How a host tells its peers that it has lost their session: indices, reset tokens, resets.

A host that started anew has nothing left of its sessions but the reset keys of its former starts.
Each start draws one of its own. Under it an index names, to nobody else, the peer that it was given
to, so that a frame with an index that is not known tells whose session it was of. The token, which
that peer got in the handshake, depends on all three: reset key, peer and index. So what one host
collects is worth nothing against another, nor what was heard after one start in the next.

======  ====  ======================================================================
offset  size  field of an index
======  ====  ======================================================================
0       2     random
2       2     the peer's tag, combined (XOR) with a mask that follows from the random bytes
======  ====  ======================================================================

Tag, mask and token are keyed BLAKE2s-128 under the reset key: of the peer's public key, the random
bytes, and index and public key together; tag and mask are the first two bytes.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import Callable, Dict, Iterable, List, Sequence, Set

from ropeway.core.frame.data import RESET
from ropeway.core.token_bucket import TokenBucket

KEY_BYTES = 32
TOKEN_BYTES = 16
#: ``06 000000``, the index that is not known, its token.
RESET_SIZE = 24

#: Resets that are sent: a second, and at once; for one index with this pause at least, in seconds.
RESET_RATE = 200.0
RESET_BURST = 400.0
RESET_PAUSE_S = 0.2
#: Indices for which that is kept.
MAX_RESETS = 1024
#: Indices of one peer that are not given out again in this start, because their token is known.
MAX_GIVEN = 1024

_HALF = 2


class Resets:
    """The indices that this host gives out, and what it says when it no longer knows one.

    ``keys`` are reset keys, 32 secret bytes each: that of this start, which nobody has seen before,
    then those of former starts. A token under a former key may be given to anyone, since no session
    has it any more. One of this start is given only for the last session that was forgotten of a
    peer, whose index is then not given out again.
    """

    def __init__(self, keys: Sequence[bytes], now: float) -> None:
        self._keys = [_ResetKey(key) for key in keys]
        self._budget = TokenBucket(RESET_RATE, RESET_BURST, now)
        self._sent_at: Dict[bytes, float] = {}
        #: Of this start, by public key: the session forgotten last, and the indices of sessions
        #: whose tokens were given out.
        self._forgotten: Dict[bytes, bytes] = {}
        self._given: Dict[bytes, Set[bytes]] = {}

    def set_peers(self, public_keys: Iterable[bytes]) -> None:
        """Take the keys of all peers that there are from now on."""
        known = list(public_keys)
        for key in self._keys:
            key.set_peers(known)

    def new_index(self, public_key: bytes, drawn: bytes, taken: Callable[[bytes], bool]) -> bytes:
        """Return an index for a session with a peer that is not ``taken``; ``drawn`` is random."""
        number = int.from_bytes(drawn, "little")
        given = self._given.get(public_key, ())
        while True:
            # A peer has 65 536 indices, and far fewer are taken or given.
            index = self._keys[0].index(number.to_bytes(_HALF, "little"), public_key)
            if index not in given and not taken(index):
                return index
            number = (number + 1) % 65_536

    def token(self, index: bytes, public_key: bytes) -> bytes:
        """Return the token of an index of this start, for the handshake with its peer alone."""
        return self._keys[0].token(index, public_key)

    def forget(self, index: bytes, public_key: bytes) -> None:
        """Note that the session of an index is known no more."""
        self._forgotten[public_key] = index

    def answer(self, index: bytes, most: int, now: float) -> List[bytes]:
        """Return what answers a frame with an index that is not known: resets, ``most`` at most.

        None if the index was never this host's, its token may not be given out, or resets go out
        too often. More than one only where the tags of two peers are the same by chance.
        """
        tokens = [
            key.token(index, public_key)
            for key in self._keys
            for public_key in key.peers_of(index)
            if key is not self._keys[0] or self._may_tell(index, public_key)
        ]
        if not tokens:
            return []
        last = self._sent_at.get(index)
        if (last is not None and now - last < RESET_PAUSE_S) or not self._budget.take(now):
            return []
        while len(self._sent_at) >= MAX_RESETS:
            del self._sent_at[next(iter(self._sent_at))]
        self._sent_at[index] = now
        return [bytes((RESET, 0, 0, 0)) + index + token for token in tokens[:most]]

    def _may_tell(self, index: bytes, public_key: bytes) -> bool:
        """Return whether the token of an index of this start may be given out, and note it."""
        if self._forgotten.get(public_key) != index:
            return False
        given = self._given.setdefault(public_key, set())
        if index not in given and len(given) >= MAX_GIVEN:
            return False
        given.add(index)
        return True


class _ResetKey:
    """The indices and tokens under one reset key."""

    __slots__ = ("_key", "_peers_by_tag")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"A reset key has {KEY_BYTES} bytes; this one has {len(key)}.")
        self._key = key
        self._peers_by_tag: Dict[bytes, List[bytes]] = {}

    def set_peers(self, public_keys: Iterable[bytes]) -> None:
        self._peers_by_tag = {}
        for public_key in public_keys:
            self._peers_by_tag.setdefault(self._mac(public_key)[:_HALF], []).append(public_key)

    def index(self, drawn: bytes, public_key: bytes) -> bytes:
        return drawn + self._masked(drawn, self._mac(public_key))

    def peers_of(self, index: bytes) -> Sequence[bytes]:
        tag = self._masked(index[:_HALF], index[_HALF:])
        return self._peers_by_tag.get(tag, ())

    def token(self, index: bytes, public_key: bytes) -> bytes:
        return self._mac(index + public_key)

    def _masked(self, drawn: bytes, tag: bytes) -> bytes:
        mask = self._mac(drawn)
        return bytes(one ^ other for one, other in zip(mask[:_HALF], tag))

    def _mac(self, data: bytes) -> bytes:
        return blake2s(data, key=self._key, digest_size=TOKEN_BYTES).digest()
