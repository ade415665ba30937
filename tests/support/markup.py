"""What holds for the HTML of every card: well-formed, no script, nothing from outside, at most 20 KB."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from nbops.view import html

EVIL = "<script>alert('x')</script>\"'&\x1b[31m<img src=x onerror=y>"
VOID = {"br", "hr", "img", "input", "meta", "line", "rect", "path", "circle", "polyline"}


class Checker(HTMLParser):
    """Fails on tags that are not closed in order; collects tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.sources: list[str] = []
        self.pictures: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs if (tag, name) != ("image", "href")}
        self.pictures += [value or "" for name, value in attrs if (tag, name) == ("image", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def check_html(markup: str) -> Checker:
    """Assert that a card is well-formed, has no script and asks for nothing outside itself."""
    found = Checker()
    found.feed(markup)
    found.close()
    assert found.open == []
    assert not found.tags & {"script", "iframe", "link", "object", "form"}
    assert not [name for name in found.attributes if name.startswith("on")]
    assert not found.attributes & {"href", "srcset", "action", "data", "background"}
    assert all(source.startswith("data:image/svg+xml,") for source in found.sources)
    assert all(picture.startswith("data:image/png;base64,") for picture in found.pictures)
    assert not re.search(r"url\(|@import", markup.partition("</style>")[0])
    assert len(markup.encode()) <= html.MAX_BYTES
    return found
