"""The commands `ropeway genkey` and `ropeway pubkey`."""

from __future__ import annotations

import argparse
import os

from ropeway.app.commands.outcome import EXIT_OK, fail
from ropeway.app.config.model import DEFAULT_PATH
from ropeway.app.errors import ConfigError


def genkey(options: argparse.Namespace) -> int:
    """Make this host's private key, and print the public one; return the exit code."""
    from ropeway.app.store import keys

    try:
        print(keys.encode(keys.public_of(keys.make_private(_key_path(options)))))
    except (keys.KeyFileError, ConfigError) as error:
        return fail(str(error))
    return EXIT_OK


def pubkey(options: argparse.Namespace) -> int:
    """Print this host's public key; return the exit code."""
    from ropeway.app.store import keys

    try:
        print(keys.encode(keys.public_of(keys.read_private(_key_path(options)))))
    except (keys.KeyFileError, ConfigError) as error:
        return fail(str(error))
    return EXIT_OK


def _key_path(options: argparse.Namespace) -> str:
    """Return where the private key stands; `ConfigError` where the configuration hides it."""
    from ropeway.app.config import model, read

    if options.file is not None:
        return str(options.file)
    if options.config is not None:
        return read.private_key_path(options.config)
    # A host may get its key before its configuration.
    return (
        read.private_key_path(DEFAULT_PATH)
        if os.path.exists(DEFAULT_PATH)
        else (model.DEFAULT_PRIVATE_KEY_PATH)
    )
