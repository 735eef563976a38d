"""The JSON Schema, and its errors as sentences."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, List

from ropeway.app.config.lines import Faults, KeyPath
from ropeway.app.config.names import named_endpoint

SCHEMA_PATH = Path(__file__).with_name("config.schema.json")
SECURE_KEYS = (
    *("network6", "announce", "links", "leases", "classes", "copy_dscp", "direct", "port"),
    *("private_key_file", "rollover_s", "offload"),
)
SECURE_PEER_KEYS = ("public_key", "next_public_key", "psk_file", "direct")


def check_schema(data: Any, faults: Faults) -> None:
    """Report everything in `data` that the JSON Schema rejects."""
    import jsonschema

    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    spoilt = set(faults.paths)
    for error in jsonschema.Draft7Validator(schema).iter_errors(data):
        path: KeyPath = tuple(error.absolute_path)
        if path in spoilt and error.validator not in ("additionalProperties", "required"):
            continue
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in error.instance:
                if key not in known:
                    faults.add((*path, key), _unknown(path, key, known))
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    faults.add((*path, key), "this setting is missing: add it")
        elif _is_classic_name(path, error.instance):
            faults.add(path, "only the encapsulation secure resolves names: write an IPv4 address")
        else:
            sentence = "write {}".format(error.schema["x-expects"])
            if not error.schema.get("x-secret"):
                # Where a key belongs or its file, the wrong key may stand.
                sentence += ", not " + shown(error.instance)
            faults.add(path, sentence)


def _is_classic_name(path: KeyPath, value: Any) -> bool:
    """Return whether a faulty value is a name among the addresses of a classic network's peer."""
    among = path[:1] == ("peers",) and path[2:3] == ("addresses",)
    return among and isinstance(value, str) and named_endpoint(value, 1) is not None


def _unknown(path: KeyPath, key: str, known: List[str]) -> str:
    if not path and key == "remotes":
        return "this setting is called peers now: rename it"
    if path[:1] == ("peers",) and len(path) == 2 and key in SECURE_PEER_KEYS:
        return "only the encapsulation secure has keys: remove it"
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if nearest:
        return f"unknown setting: did you mean {nearest[0]}?"
    return "unknown setting: remove it; the settings here are {}".format(", ".join(known))


def shown(value: Any) -> str:
    """Return a value as an error names it: short, and without what would break the line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 60 else text[:57] + "..."
