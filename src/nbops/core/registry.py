"""One table of named leaves (checks, rules, exporters, renderers …), filled by decorators and entry points."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from nbops.core.errors import Conflict, NotFound, did_you_mean

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names to leaves of one sort.

    Parameters
    ----------
    noun : str
        What one entry is, for error messages: ``"check"``.
    group : str
        Entry-point group from which other packages contribute; read at the first
        miss or the first listing, never at import.
    modules : tuple of str
        Our own modules whose import registers leaves; imported at first use.
    """

    def __init__(self, noun: str, *, group: str = "", modules: tuple[str, ...] = ()) -> None:
        self.noun = noun
        self._group = group
        self._modules = modules
        self._entries: dict[str, T] = {}
        self._own_loaded = False
        self._others_loaded = False

    def add(self, name: str, value: T) -> T:
        """Register `value` under `name`; the same name twice from two modules is a `Conflict`."""
        known = self._entries.get(name)
        if known is not None and getattr(known, "__module__", None) != getattr(value, "__module__", None):
            raise Conflict(f"{self.noun} '{name}' is registered twice", hint="Give the new one another name.")
        self._entries[name] = value
        return value

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates under `name`."""
        return lambda value: self.add(name, value)

    def remove(self, name: str) -> None:
        """Forget `name`; nothing happens if it is unknown."""
        self._entries.pop(name, None)

    def _load_own(self) -> None:
        if not self._own_loaded:
            self._own_loaded = True
            for module in self._modules:
                import_module(module)

    def _load_others(self) -> None:
        if not self._others_loaded and self._group:
            self._others_loaded = True
            from importlib.metadata import entry_points  # 20 ms that most sessions never need

            for point in entry_points(group=self._group):
                if point.name in self._entries:
                    continue
                try:
                    self._entries[point.name] = point.load()
                except Exception as error:  # one package that is broken takes nothing else away
                    whose = point.dist.name if point.dist is not None else point.value
                    warnings.warn(
                        f"nbops: {self.noun} '{point.name}' of {whose} is left out: {type(error).__name__}: {error}. "
                        f"Bring the package up to date: pip install -U {whose}", stacklevel=2,
                    )  # fmt: skip

    def __getitem__(self, name: str) -> T:
        self._load_own()
        if name not in self._entries:
            self._load_others()
        try:
            return self._entries[name]
        except KeyError:
            raise self.missing(name) from None

    def missing(self, name: str) -> NotFound:
        """Return the error for a name that is not registered."""
        known = sorted(self._entries)
        return NotFound(f"no {self.noun} '{name}'", hint=did_you_mean(name, known) or f"Use one of: {', '.join(known)}")

    def __contains__(self, name: object) -> bool:
        self._load_own()
        if name not in self._entries:
            self._load_others()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_own()
        self._load_others()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{len(self)} {self.noun}s: {', '.join(self)}"
