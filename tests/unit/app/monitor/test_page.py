from __future__ import annotations

import re
from html.parser import HTMLParser
from http import HTTPStatus

import pytest

from ropeway.app.monitor import page

PAGE = page.replies()
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class Elements(HTMLParser):
    """Every element's name and attributes, and what is written inside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.inline = ""

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found[-1:] and self.found[-1][0] in ("script", "style"):
            self.inline += data.strip()


@pytest.fixture
def elements():
    parser = Elements()
    parser.feed(PAGE["/"].body.decode())
    return parser


@pytest.mark.parametrize("path", PAGE)
def test_nothing_is_loaded_from_elsewhere(path):
    text = PAGE[path].body.decode().replace(SVG_NAMESPACE, "")
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.|@import|url\(", text)


def test_what_the_page_names_is_served(elements):
    named = {
        value
        for _, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "href")
    }
    assert named - {"/metrics", "/status.json"} == PAGE.keys() - {"/"}


def test_the_page_holds_up_under_its_own_content_security_policy(elements):
    assert elements.inline == ""
    for _, attributes in elements.found:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_the_script_makes_no_markup_of_texts():
    script = PAGE["/page.js"].body.decode()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                "Function(", "srcdoc", "DOMParser"):  # fmt: skip
        assert way not in script, way


def test_every_section_has_a_heading_that_names_it(elements):
    ids = {attributes.get("id") for _, attributes in elements.found}
    labels = [a["aria-labelledby"] for tag, a in elements.found if tag == "section"]
    assert len(labels) >= 4
    assert set(labels) <= ids


def test_every_part_has_its_type():
    types = {path: reply.content_type.partition(";")[0] for path, reply in PAGE.items()}
    assert types == {
        "/": "text/html",
        "/page.css": "text/css",
        "/page.js": "text/javascript",
        "/page.svg": "image/svg+xml",
    }
    assert {reply.status for reply in PAGE.values()} == {HTTPStatus.OK}
