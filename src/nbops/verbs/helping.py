"""The verb `help`, made from the declarations of the verbs."""

from __future__ import annotations

from dataclasses import dataclass

from nbops.core.display import Shown
from nbops.core.errors import did_you_mean
from nbops.verbs.grammar import Argument, Call, Verb, argument, verb, verbs
from nbops.verbs.words import UsageError


@dataclass(frozen=True)
class Help(Shown):
    """What a verb does and takes, with an example; or all verbs."""

    title: str
    text: str = ""
    usage: str = ""
    head: tuple[str, str] = ("", "")
    rows: tuple[tuple[str, str], ...] = ()
    examples: tuple[str, ...] = ()


@verb(
    "help",
    argument("verb", "the verb to explain", form="optional", completes="verbs"),
    examples=("%mlops help", "%mlops help runs"),
)
def help_verb(call: Call, *, verb: str | None) -> Help:
    """List the verbs, or explain one."""
    if not verb:
        return _all(call)
    if verb not in verbs:
        raise UsageError(f"no verb '{verb}'", hint=did_you_mean(verb, verbs) or f"List them with: {call.command} help")
    return _one(verbs[verb], call)


def _written(line: str, call: Call) -> str:
    return line if call.namespace is not None else line.replace("%mlops", "nbops", 1)


def _all(call: Call) -> Help:
    rows = tuple(
        (name, found.help + (" (in a notebook)" if found.is_notebook_only and call.namespace is None else ""))
        for name, found in verbs.items()
    )
    return Help(
        "nbops verbs",
        f"{call.command} VERB … runs one; {call.command} VERB -h explains it.",
        head=("verb", "what it does"),
        rows=rows,
    )


def _explained(a: Argument) -> str:
    return f"{a.help} (default {a.default})" if a.default else a.help


def _one(found: Verb, call: Call) -> Help:
    rows = tuple(
        (
            ", ".join(a.flags) if a.is_option else a.name.upper(),
            a.help + (f" (default {a.default})" if a.default else ""),
        )
        for a in found.arguments
    )
    shown = [line for line in found.examples if call.namespace is not None or not line.startswith("%%")]
    examples = () if found.is_notebook_only and call.namespace is None else tuple(_written(e, call) for e in shown)
    return Help(
        f"{call.command} {found.name}", found.help, f"{call.command} {found.usage}", ("argument", "what it means"),
        rows, examples,
    )  # fmt: skip
