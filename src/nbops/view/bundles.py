"""From a card to the mime bundle that a front end picks from."""

from __future__ import annotations

from nbops.core.display import Bundle
from nbops.view import html, text
from nbops.view.cards import Card


def bundle(card: Card, *, limit: int = html.MAX_BYTES) -> Bundle:
    """Return the mime bundle of `card`: ``text/plain``, and ``text/html`` of at most `limit` bytes."""
    return {"text/plain": text.render(card), "text/html": html.render(card, limit=limit)}
