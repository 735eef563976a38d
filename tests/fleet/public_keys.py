"""Public keys, and texts that are not keys."""

from __future__ import annotations

import base64


def key(letter: str) -> str:
    """Return a text in the form of a public key."""
    return base64.b64encode(letter.encode() * 32).decode()


OLD, NEW, OTHER = key("o"), key("+"), key("x")

# Texts that a host may print instead of its public key.
NO_KEYS = {
    "template": "{{ lookup('pipe', 'touch pwned') }}",
    "member": f'{OLD}"\n  - host: 10.0.0.66\n    public_key: "{OTHER}',
    "more lines": f"{OLD}\n{NEW}",
    "line end": f"{OLD}\n",
    "space": f" {OLD}",
    "spare bits": key("o").replace("8=", "9="),
    "short": OLD[4:],
    "digits of another script": "\u0661" * 43 + "=",
    "escapes": "\x1b]0;pwned\x07",
    "nothing": "",
}
