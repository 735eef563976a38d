"""Files of keys that a configuration names."""

from __future__ import annotations

import pwd
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from ropeway.app.config.checks import significant
from ropeway.app.config.lines import Faults, KeyPath
from ropeway.app.config.model import DEFAULT_PRIVATE_KEY_PATH, NO_PSK
from ropeway.app.store import keys


@dataclass
class Secrets:
    """The keys that a configuration names, as far as they could be read."""

    private: bytes = field(default=b"", repr=False)
    psks: Dict[str, bytes] = field(default_factory=dict, repr=False)


def read_secrets(
    data: Dict[str, Any], faults: Faults, reader: Optional[pwd.struct_passwd]
) -> Secrets:
    """Read the keys that the file names, and see whether they go with the others."""
    from ropeway.core.session.noise import KeyPair, NoiseError

    secrets = Secrets()
    own: Optional[KeyPair] = None
    path = data.get("private_key_file", DEFAULT_PRIVATE_KEY_PATH)
    if not faults.spoilt(("private_key_file",)):
        try:
            secrets.private = keys.read_private(path, reader)
            own = KeyPair.of(secrets.private)
        except keys.KeyFileError as error:
            faults.add(("private_key_file",), str(error))
    peers = data.get("peers", [])
    for number, peer in enumerate(peers if isinstance(peers, list) else ()):
        if not isinstance(peer, dict):
            continue
        psk_file = peer.get("psk_file")
        where: KeyPath = ("peers", number, "psk_file")
        if isinstance(psk_file, str) and not faults.spoilt(where):
            try:
                psk = keys.read_psk(psk_file, reader)
            except keys.KeyFileError as error:
                faults.add(where, str(error))
            else:
                if psk == NO_PSK:
                    faults.add(where, f"{psk_file} holds zeros only, which is no secret: make one")
                if psk == secrets.private:
                    faults.add(
                        where,
                        f"{psk_file} holds this host's private key, which no other host may have:"
                        " make a key for the two hosts",
                    )
                secrets.psks[psk_file] = psk
        for key in ("public_key", "next_public_key"):
            where = ("peers", number, key)
            text = peer.get(key)
            if own is None or not isinstance(text, str) or faults.spoilt(where):
                continue
            public = keys.decode(text)
            if significant(public) == own.public:
                faults.add(
                    where,
                    "this is this host's own key, that of {}: write the one of {}, which"
                    " `ropeway pubkey` prints there".format(data.get("address"), peer.get("host")),
                )
                continue
            try:
                own.shared(public)
            except NoiseError:
                faults.add(where, "this is no public key: write it as `ropeway pubkey` prints it")
    return secrets
