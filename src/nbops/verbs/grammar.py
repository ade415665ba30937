"""The grammar of verbs: what a verb is called, takes and says about itself; parsers are built from that.

Nothing here knows which verbs exist. argparse does the parsing but never prints and never exits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from nbops.core.errors import did_you_mean
from nbops.core.registry import Registry
from nbops.verbs.words import UsageError, expression


@dataclass(frozen=True)
class Argument:
    """One positional argument or option.

    Attributes
    ----------
    name : str
        ``"where"`` for a positional, ``"--order-by"`` for an option.
    help : str
        What it means, in a few words.
    completes : str
        What its values name, for completion: ``runs``, ``models``, ``aliases``, ``refs``, ``datasets``,
        ``endpoints``, ``kinds``, ``verbs``, ``variables``, ``tables``, ``ids``, ``paths`` …; empty for anything else.
    form : str
        ``one`` value, ``optional`` value, ``many`` values, an ``expression`` of the remaining words, a ``flag``,
        a ``list`` of repeated values, or repeated ``pairs`` of a name and a value.
    kind : type
        int, float or str.
    """

    name: str
    help: str
    completes: str = ""
    form: str = "one"
    kind: type = str
    default: Any = None
    short: str = ""
    choices: tuple[str, ...] = ()
    values: str = ""  # what stands for the value in help: N, NAME VALUE

    @property
    def is_option(self) -> bool:
        """Whether it is written with dashes."""
        return self.name.startswith("-")

    @property
    def flags(self) -> tuple[str, ...]:
        """How an option can be written."""
        return tuple(f for f in (self.short, self.name) if f)

    @property
    def shown(self) -> str:
        """How it stands in a usage line: ``[WHERE]``, ``[--last N]``."""
        place = self.values or ("NAME VALUE" if self.form == "pairs" else self.name.lstrip("-").upper())
        if self.form == "many":
            return f"{place}…"
        if not self.is_option:
            return f"[{place}]" if self.form in ("optional", "expression") else place
        return f"[{self.name}]" if self.form == "flag" else f"[{self.name} {place}]"


def argument(name: str, help: str, **settings: Any) -> Argument:
    """Return an `Argument`; a shorter way to write it in a verb's declaration."""
    return Argument(name, help, **settings)


@dataclass(frozen=True)
class Call:
    """How a verb was called.

    Attributes
    ----------
    namespace : mapping or None
        Variables of the notebook; None on the command line.
    is_cell : bool
        Whether the verb stands at the top of a cell, ``%%mlops``.
    open_run : callable or None
        Opens a run that ends with the cell; None where there are no cells.
    end_with_cell : callable or None
        Calls what it is given when the cell has ended, however it ended, and shows what that returns.
    notes : tuple of str
        What the status should say about this session.
    """

    namespace: Mapping[str, Any] | None = None
    is_cell: bool = False
    open_run: Callable[..., Any] | None = None
    end_with_cell: Callable[[Callable[[], Any]], None] | None = None
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """How the user writes a verb here."""
        return "nbops" if self.namespace is None else "%mlops"

    def open_cell_run(self, name: str | None, *, quiet: bool, **options: Any) -> None:
        """Open a run that ends with this cell.

        Raises
        ------
        UsageError
            Cells are not recorded here.
        """
        if self.open_run is None:
            raise UsageError("cells are not recorded, so the run would not end with this one",
                             hint="Load the extension again: %reload_ext nbops")  # fmt: skip
        self.open_run(name, quiet=quiet, **options)

    def at_cell_end(self, ending: Callable[[], Any]) -> None:
        """Call `ending` when this cell has ended, however it ended, and show what it returns.

        Raises
        ------
        UsageError
            There are no cells here.
        """
        if self.end_with_cell is None:
            raise UsageError("there is no cell that could end", hint="Write it as %mlops, without the second %.")
        self.end_with_cell(ending)

    def variable(self, name: str) -> Any:
        """Return the notebook's variable `name` (``a`` or ``a.b``).

        Raises
        ------
        UsageError
            There is no notebook, or no such variable or attribute.
        """
        if self.namespace is None:
            raise UsageError(
                f"'{name}' would be a variable of a notebook, and there is none on the command line",
                hint="Use the verb in a notebook as %mlops, or call the Python function in a script.",
            )
        first, *rest = name.split(".")
        if first not in self.namespace:
            known = [n for n in self.namespace if not n.startswith("_")]
            raise UsageError(f"no variable '{first}' in this notebook",
                             hint=did_you_mean(first, known) or "Run the cell that makes it first.")  # fmt: skip
        value = self.namespace[first]
        for attribute in rest:
            if not hasattr(value, attribute):
                known = [n for n in dir(value) if not n.startswith("_")]
                raise UsageError(f"'{first}' of type {type(value).__name__} has no attribute '{attribute}'",
                                 hint=did_you_mean(attribute, known) or "Name one that it has.")  # fmt: skip
            value = getattr(value, attribute)
        return value


@dataclass(frozen=True)
class Verb:
    """One verb: its function takes a `Call` and the arguments by keyword."""

    name: str
    function: Callable[..., Any]
    help: str
    examples: tuple[str, ...]
    arguments: tuple[Argument, ...]
    is_notebook_only: bool

    def __call__(self, call: Call, **values: Any) -> Any:
        """Run the verb with arguments as `parse` gives them."""
        return self.function(call, **values)

    @property
    def usage(self) -> str:
        """``runs [WHERE] [--last N]``."""
        return " ".join([self.name, *(a.shown for a in self.arguments)])

    def parse(self, words: list[str]) -> dict[str, Any] | None:
        """Return the arguments by name, or None if help was asked for.

        Raises
        ------
        UsageError
            An unknown option, a missing or superfluous argument, or an ill-typed value.
        """
        if any(word in ("-h", "--help") for word in words):
            return None
        found, extra = _parser(self).parse_known_intermixed_args(words)
        if extra:
            raise self._superfluous(extra[0])
        values = vars(found)
        for a in self.arguments:
            key = a.name.lstrip("-").replace("-", "_")
            if a.form == "expression":
                values[key] = expression(values[key] or [])
            elif a.form == "pairs":
                values[key] = {name: value for name, value in values[key] or ()}
            elif a.form in ("list", "many"):
                values[key] = list(values[key] or ())
        return values

    def _superfluous(self, word: str) -> UsageError:
        if word.startswith("-"):
            known = [flag for a in self.arguments if a.is_option for flag in a.flags]
            hint = did_you_mean(word.partition("=")[0], known)
            return UsageError(f"'{self.name}' has no option '{word}'", hint=hint or f"Write {self.usage}")
        return UsageError(f"'{self.name}' does not take '{word}'", hint=f"Write {self.usage}")


verbs: Registry[Verb] = Registry(
    "verb",
    group="nbops.verbs",
    modules=(
        "nbops.verbs.workspace",
        "nbops.verbs.tracking",
        "nbops.verbs.comparing",
        "nbops.verbs.reproducing",
        "nbops.verbs.data",
        "nbops.verbs.profiling",
        "nbops.verbs.exploring",
        "nbops.verbs.drift",
        "nbops.verbs.splitting",
        "nbops.verbs.labelling",
        "nbops.verbs.learning",
        "nbops.verbs.debugging",
        "nbops.verbs.models",
        "nbops.verbs.serving",
        "nbops.verbs.moving",
        "nbops.verbs.helping",
    ),
)


def verb(
    name: str, *arguments: Argument, examples: tuple[str, ...], is_notebook_only: bool = False
) -> Callable[[Callable[..., Any]], Verb]:
    """Return a decorator that makes a function a `Verb`; the first line of its docstring is its help.

    Parameters
    ----------
    name : str
        The word that the user types.
    *arguments : Argument
        Positionals in order, and options; the function takes them by keyword.
    examples : tuple of str
        Whole lines, as typed in a notebook.
    is_notebook_only : bool
        Whether it needs the variables of a notebook.
    """

    def declare(function: Callable[..., Any]) -> Verb:
        help = (function.__doc__ or "").strip().partition("\n")[0]
        made = Verb(name, function, help, examples, arguments, is_notebook_only)
        object.__setattr__(made, "__module__", function.__module__)  # the registry tells two packages apart by it
        return verbs.add(name, made)

    return declare


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing and leaving."""

    usage_line: str = ""

    def error(self, message: str) -> NoReturn:
        missing = message.removeprefix("the following arguments are required: ")
        said = f"'{self.prog}' needs {missing}" if missing != message else f"'{self.prog}': {message}"
        raise UsageError(said, hint=f"Write {self.usage_line}")


def _parser(of: Verb) -> _Parser:
    parser = _Parser(prog=of.name, add_help=False, allow_abbrev=False)
    parser.usage_line = of.usage
    for a in of.arguments:
        settings: dict[str, Any] = {"help": a.help, "default": a.default}
        place = a.name.lstrip("-").upper()
        if a.form == "flag":
            settings.update(action="store_true", default=False)
        elif a.form == "pairs":
            settings.update(action="append", nargs=2)
        elif a.form == "list":
            settings.update(action="append")
        elif a.form in ("expression", "many"):
            settings.update(nargs="*" if a.form == "expression" else "+", metavar=place)
        else:
            settings.update(type=a.kind, metavar=place, choices=a.choices or None)
            if a.form == "optional":
                settings.update(nargs="?")
        parser.add_argument(*(a.flags if a.is_option else (a.name,)), **settings)
    return parser


def dispatch(words: list[str], call: Call) -> Any:
    """Run the verb that `words` begin with and return its value; without words, the status.

    Raises
    ------
    UsageError
        No such verb, or arguments that it does not take.
    """
    name, rest = (words[0], words[1:]) if words else ("status", [])
    if name in ("-h", "--help"):
        name, rest = "help", []
    if name not in verbs:
        hint = (not name.startswith("-") and did_you_mean(name, verbs)) or f"List the verbs with: {call.command} help"
        raise UsageError(f"no {'option' if name.startswith('-') else 'verb'} '{name}'", hint=hint)
    found = verbs[name]
    values = found.parse(rest)
    if values is None:
        return verbs["help"](call, verb=name)
    if found.is_notebook_only and call.namespace is None:
        raise UsageError(f"'{name}' needs a notebook: it works on variables",
                         hint=f"Use it as {found.examples[0]} in a notebook.")  # fmt: skip
    return found(call, **values)
