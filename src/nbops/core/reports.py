"""What a long piece of work on the workspace says at its end: an import, a purge, an inspection, a move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbops.core.display import Shown


@dataclass(frozen=True)
class Report(Shown):
    """How much was done, and what was not.

    Attributes
    ----------
    title : str
        What was done: ``import``.
    counts : mapping of str to int
        How many of what, in the order to be shown.
    where : str
        The path or URL that it was about.
    notes : tuple of str
        What is good to know.
    left_out : tuple of str
        What was left out on purpose, one line each.
    problems : tuple of str
        What could not be done, or is wrong; one line each.
    """

    title: str
    counts: Mapping[str, int] = field(default_factory=dict)
    where: str = ""
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether there were no problems."""
        return not self.problems
