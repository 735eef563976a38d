"""The one exception that the lab reports to its user as a sentence."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab needs is missing or failed; the text says what and what to do."""
