"""How values show themselves without knowing about HTML.

`Shown` asks a renderer that the view floor registers under the class name (entry
points of the group ``nbops.renderers``), so records stay free of drawing code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbops.core.registry import Registry

Bundle = dict[str, Any]
renderers: Registry[Callable[[Any], Bundle]] = Registry("renderer", group="nbops.renderers")


class Shown:
    """Mixin: rich display through the renderer of the class, or of its nearest base."""

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        return mimebundle(self)

    def __str__(self) -> str:
        return str(mimebundle(self)["text/plain"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self) if cycle else mimebundle(self)["text/plain"])


def mimebundle(value: Any) -> Bundle:
    """Return the mime bundle of `value`: always ``text/plain``, and what its renderer adds."""
    for kind in type(value).__mro__:
        if kind.__name__ in renderers:
            return renderers[kind.__name__](value)
    return {"text/plain": repr(value)}
