"""The page for a person: files beside this module, read once."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from ropeway.app.monitor.server import Reply

_FILES = Path(__file__).with_name("page")


def replies() -> Dict[str, Reply]:
    """Return what the page consists of, by path."""
    return {
        "/": _reply("page.html", "text/html; charset=utf-8"),
        "/page.css": _reply("page.css", "text/css; charset=utf-8"),
        "/page.js": _reply("page.js", "text/javascript; charset=utf-8"),
        "/page.svg": _reply("page.svg", "image/svg+xml"),
    }


def _reply(name: str, content_type: str) -> Reply:
    return Reply((_FILES / name).read_bytes(), content_type)
