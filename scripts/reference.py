"""Pages of the reference, written from the code itself: docstrings, registries, settings and errors.

Each function here returns Markdown. `docs_hook.py` puts the pages into the site; the tests read the same text.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LEAF_SECTIONS = ("What it measures", "Why it matters", "When it is wrong", "Fix", "References")
_ITEM = re.compile(r"^(?P<name>[\w*.`, ]+?)\s+:\s+(?P<type>.+)$")
_ROLE = re.compile(r"``([^`]+)``")


def doc_of(thing: Any) -> str:
    """Return the cleaned docstring of `thing`, or an empty string."""
    return inspect.getdoc(thing) or ""


def sections(doc: str) -> dict[str, str]:
    """Split a docstring into its parts: ``""`` is the text before the first heading.

    A heading is a line of its own that is underlined with dashes, or one that the indented lines below belong to.
    """
    found: dict[str, list[str]] = {"": []}
    lines = doc.splitlines()
    current, underline = "", False
    for i, line in enumerate(lines):
        below = lines[i + 1] if i + 1 < len(lines) else ""
        if underline:
            underline = False
        elif re.fullmatch(r"-{3,}", below.strip()) and line.strip():
            current, underline = line.strip(), True
            found[current] = []
        elif line in LEAF_SECTIONS and (below.startswith("    ") or not below):
            current = line
            found[current] = []
        else:
            found[current].append(line)
    return {name: inspect.cleandoc("\n" + "\n".join(body)).strip() for name, body in found.items()}


def as_markdown(doc: str, *, level: int) -> str:
    """Return a docstring as Markdown with headings below `level`."""
    parts = []
    for name, body in sections(_ROLE.sub(r"`\1`", doc)).items():
        if not name:
            parts.append(body)
        elif name in {"Parameters", "Attributes", "Returns", "Raises", "Yields"}:
            parts.append(f"**{name}**\n\n" + "\n".join(_items(body)))
        elif name == "Examples":
            parts.append(f"**{name}**\n\n```text\n{body}\n```")
        else:
            parts.append(f"{'#' * (level + 1)} {name}\n\n{body}" if level < 6 else f"**{name}**\n\n{body}")
    return "\n\n".join(filter(None, parts))


def _items(body: str) -> Iterator[str]:
    """Turn ``name : type`` lines and their indented texts into a list."""
    entries: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("    ") and entries:
            entries[-1][1].append(line.strip())
        elif line.strip():
            match = _ITEM.match(line)
            head = f"`{match['name']}` : {match['type']}" if match else f"`{line.strip()}`"
            entries.append((head, []))
    for head, text in entries:
        yield f"- {head}" + (f" — {' '.join(filter(None, text))}" if text else "")


def leaves_page(title: str, intro: str, registry: Mapping[str, Callable[..., Any]]) -> str:
    """Return the page of a registry of leaves: one heading per name, its docstring below."""
    parts = [f"# {title}", intro]
    parts += [f"## `{name}`\n\n{as_markdown(doc_of(leaf), level=2)}" for name, leaf in registry.items()]
    return "\n\n".join(parts) + "\n"


def leaf_pages(
    place: str, title: str, intro: str, registry: Mapping[str, Callable[..., Any]],
    run: Callable[[str], str] = lambda name: "",
) -> dict[str, Callable[[], str]]:  # fmt: skip
    """Return the pages of a registry: a list of all leaves at `place`, and one page a leaf in the folder of that name.

    `run` gives the line of code that runs one leaf alone, if there is one.
    """
    folder, own = place.removesuffix(".md"), place.rpartition("/")[2]

    def listed() -> str:
        rows = [f"| [`{name}`]({own.removesuffix('.md')}/{name}.md) | {doc_of(leaf).splitlines()[0]} |"
                for name, leaf in registry.items()]  # fmt: skip
        return f"# {title}\n\n{intro}\n\n| name | what it is about |\n|---|---|\n" + "\n".join(rows) + "\n"

    def page(name: str) -> str:
        leaf = registry[name]
        parts = [f"# `{name}`", as_markdown(doc_of(leaf), level=1)]
        limits = [one for one in inspect.signature(leaf).parameters.values() if one.kind is one.KEYWORD_ONLY]
        if limits:
            rows = (f"| `{one.name}` | `{one.default!r}` |" for one in limits)
            parts.append("\n".join(["## Thresholds", "", "| name | default |", "|---|---|", *rows]))
        if run(name):
            parts.append(f"## Run it alone\n\n```text\n{run(name)}\n```")
        return "\n\n".join([*parts, f"[{title}: all of them](../{own})"]) + "\n"

    return {place: listed, **{f"{folder}/{name}.md": partial(page, name) for name in registry}}


def _run_of_check(name: str) -> str:
    """Return how one data check is run alone."""
    leaf = import_module("nbops.data.leaf")
    data = {leaf.LEAKS: "leaks(train, test", leaf.SERIES: 'check(data, time="at"', leaf.IMAGES: 'check("pictures/"'}
    call = next((call for names, call in data.items() if name in names), "check(data")
    return f'nb.{call}, suite=["{name}"])'


def error_classes() -> list[type[Exception]]:
    """Return all public errors of nbops, the base first."""
    module = import_module("nbops.core.errors")
    own = (value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__)
    return [value for value in own if issubclass(value, Exception)]


def errors_page() -> str:
    """Return the page of errors: what each means and which builtin it also is."""
    rows = ["| error | is also | means |", "|---|---|---|"]
    for kind in error_classes():
        bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        rows.append(f"| `{kind.__name__}` | {bases} | {doc_of(kind).splitlines()[0]} |")
    intro = "Every error of nbops says what happened with the values in it, and a second line says what to do."
    return f"# Errors\n\n{intro}\n\n" + "\n".join(rows) + "\n"


def settings_page() -> str:
    """Return the page of settings: name, type, default, variable, meaning."""
    module = import_module("nbops.core.settings")
    import msgspec

    meanings = {
        line.split(" : ")[0].strip("- `"): line for line in _items(sections(doc_of(module.Settings))["Attributes"])
    }
    rows = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(module.Settings):
        variable = "—" if field.name in module.TABLES else f"`{module.PREFIX}{field.name.upper()}`"
        meaning = _ROLE.sub(r"`\1`", meanings[field.name].split(" : ", 1)[1])
        default = json.dumps(field.default)
        rows.append(f"| `{field.name}` | {variable} | `{default}` | {meaning} |")
    intro = (
        "A workspace reads `config.toml` in its `.nbops` folder; an environment variable of the same name has the last "
        "word. `NBOPS_WORKSPACE` names the folder itself. A table has no variable; it stands below all plain settings."
    )
    return f"# Settings\n\n{intro}\n\n" + "\n".join(rows) + "\n"


def verbs_page() -> str:
    """Return the page of verbs, as `%mlops`, `%%mlops` and the command line know them."""
    verbs = import_module("nbops.verbs.grammar").verbs
    intro = (
        "`%mlops VERB …` in a notebook and `nbops VERB …` in a terminal are the same. "
        "`%mlops VERB -h` shows what stands here."
    )
    parts = ["# Verbs", intro]
    for name, verb in verbs.items():
        parts.append(f"## `{name}`\n\n{verb.help}")
        if verb.is_notebook_only:
            parts.append("Only in a notebook: it works on variables.")
        parts.append(f"```text\n%mlops {verb.usage}\n```")
        rows = [f"| `{' '.join(a.flags) if a.is_option else a.shown}` | {a.help} |" for a in verb.arguments]
        if rows:
            parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
        parts.append("```text\n" + "\n".join(verb.examples) + "\n```")
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """Return the page of the public names of `nbops`."""
    root = import_module("nbops")
    parts = ["# Python API", "All names below are attributes of `nbops`, which the examples import as `nb`."]
    for name in root.__all__:
        if name.startswith(("__", "load_", "unload_")):
            continue
        value = getattr(root, name)
        if inspect.isfunction(value):
            shown = f"```text\nnb.{name}{_signature(value)}\n```"
            parts.append(f"## `nb.{name}`\n\n{shown}\n\n{as_markdown(doc_of(value), level=2)}")
        elif inspect.isclass(value):
            parts.append(f"## `nb.{name}`\n\n{as_markdown(doc_of(value), level=2)}")
        elif inspect.ismodule(value):
            parts.append(f"## `nb.{name}`\n\n{as_markdown(doc_of(value), level=2)}")
            parts += [
                f"### `{name}.{item}`\n\n{as_markdown(doc_of(getattr(value, item)), level=3)}" for item in value.__all__
            ]
        else:
            parts.append(f"## `nb.{name}`\n\nThe registry of {value.noun}s: [all of them]({name}.md).")
    return "\n\n".join(parts) + "\n"


def _signature(function: Callable[..., Any]) -> str:
    """Return a signature as its author wrote it, with one parameter per line where it is long."""
    signature = inspect.signature(function)
    shown: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown and not any(s.startswith("*") for s in shown):
            shown.append("*")
        stars = "*" * ((parameter.kind is parameter.VAR_POSITIONAL) + 2 * (parameter.kind is parameter.VAR_KEYWORD))
        annotation = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        shown.append(f"{stars}{parameter.name}{annotation}{default}")
    result = "" if signature.return_annotation is signature.empty else f" -> {_annotation(signature.return_annotation)}"
    line = f"({', '.join(shown)}){result}"
    return line if len(line) <= 100 else "(\n    " + ",\n    ".join(shown) + f",\n){result}"


def _annotation(annotation: Any) -> str:
    """Return an annotation as text; under postponed evaluation it is text already."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def notebook_page(path: Path) -> str:
    """Return a notebook as a page: its texts, and its code without outputs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(f"```python\n{source}\n```")
    parts.append(f"*This page is `{path.relative_to(ROOT).as_posix()}`; open it in JupyterLab to run it.*")
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, Callable[[], str]]:
    """Return what is generated: the path inside docs/, and what writes the page."""
    root = import_module("nbops")
    made: dict[str, Callable[[], str]] = {
        "reference/api.md": api_page,
        "reference/verbs.md": verbs_page,
        "reference/preflight.md": lambda: leaves_page(
            "Preflight checks",
            "What `nb.preflight` looks for.",
            import_module("nbops.debugging.preflight.found").checks,
        ),
        "reference/readings.md": lambda: leaves_page(
            "Rules that read the code",
            "What `nb.watch` and `nb.preflight` see in the code that trains.",
            import_module("nbops.debugging.reading.noting").readings,
        ),
        "reference/exporters.md": lambda: leaves_page(
            "Exporters", "What `nb.register` can turn into ONNX.", root.exporters
        ),
        "reference/errors.md": errors_page,
        "reference/settings.md": settings_page,
        "reference/changelog.md": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    made |= leaf_pages("reference/checks.md", "Data checks", "What `nb.check` looks for.", root.checks, _run_of_check)
    made |= leaf_pages("reference/rules.md", "Debugger rules", "What `nb.watch` looks for.", root.rules)
    for path in sorted((ROOT / "example_notebooks").glob("*.ipynb")):
        made[f"tutorials/{path.stem}.md"] = partial(notebook_page, path)
    return made
