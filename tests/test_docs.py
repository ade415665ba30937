"""What there is, is documented; what the documentation shows, works."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import code_blocks
import pytest

import nbops
from nbops.debugging.preflight.found import checks as preflight
from nbops.debugging.reading.noting import readings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import reference  # noqa: E402

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)")


def undocumented(registry: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Return which fixed section of which leaf's docstring is missing or empty."""
    found = []
    for name, leaf in registry.items():
        parts = reference.sections(reference.doc_of(leaf))
        if not parts[""]:
            found.append(f"{name}: no summary")
        found += [f"{name}: no '{section}'" for section in reference.LEAF_SECTIONS if not parts.get(section)]
    return found


def broken_links(page: Path, text: str, generated: set[str]) -> list[str]:
    """Return the relative links of `text` that lead nowhere; `generated` are pages inside docs/."""
    found = []
    prose = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
    for link in LINK.finditer(prose):
        target = link["target"].split("#")[0]
        if not target or re.match(r"[a-z]+:", target):
            continue
        place = Path(os.path.normpath(page.parent / target))
        inside = place.relative_to(ROOT / "docs").as_posix() if place.is_relative_to(ROOT / "docs") else ""
        if not place.exists() and inside not in generated:
            found.append(f"{page.name}: {target}")
    return found


# ---- what there is, is documented ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "registry", [nbops.checks, nbops.rules, preflight, readings], ids=("checks", "rules", "preflight", "readings")
)
def test_every_leaf_is_documented_in_full(registry: Mapping[str, Callable[..., Any]]) -> None:
    assert len(registry) > 0
    assert undocumented(registry) == []


def test_a_leaf_without_a_section_is_found() -> None:
    def leaf() -> None:
        """Find something.

        What it measures
            A thing.
        Fix
            Mend it.
        """

    assert undocumented({"a": leaf}) == [
        f"a: no '{name}'" for name in ("Why it matters", "When it is wrong", "References")
    ]


def test_every_verb_has_help_and_an_example() -> None:
    from nbops.verbs.grammar import verbs

    page = reference.verbs_page()
    for name, verb in verbs.items():
        assert f"## `{name}`" in page
        assert verb.help.endswith(".")
        assert verb.examples
        assert all(re.match(rf"%%?mlops( {name}\b|$)", line) for line in verb.examples), name
        assert all(argument.help for argument in verb.arguments), name


def test_every_error_is_documented() -> None:
    page = reference.errors_page()
    for kind in reference.error_classes():
        assert kind.__doc__, kind
        assert f"`{kind.__name__}`" in page
        assert issubclass(kind, nbops.NbopsError)


def test_every_setting_is_documented() -> None:
    import msgspec

    from nbops.core.settings import TABLES, Settings

    page = reference.settings_page()
    for field in msgspec.structs.fields(Settings):
        variable = "—" if field.name in TABLES else f"`NBOPS_{field.name.upper()}`"
        assert re.search(rf"\| `{field.name}` \| {variable} \| .+ \| .{{10,}} \|", page), field.name


def test_every_public_name_is_documented_and_no_list_of_parameters_has_gaps() -> None:
    missing = []
    for name in set(nbops.__all__) - {"__version__"}:
        value = getattr(nbops, name)
        if inspect.isfunction(value):
            doc = reference.doc_of(value)
            missing += [f"{name}: no docstring"] if not doc else []
            listed = reference.sections(doc).get("Parameters")
            known = inspect.signature(value).parameters if listed else ()
            missing += [f"{name}: nothing about '{p}'" for p in known if not re.search(rf"\b{p}\b", str(listed))]
        elif inspect.isclass(value):
            missing += [f"{name}: no docstring"] if not value.__doc__ else []
    assert missing == []


def test_architecture_names_every_package_and_no_other() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| \d \| (.+?) \|", page, re.MULTILINE))
    named = {name.strip("` ") for row in named for name in row.split(",")}
    folder = ROOT / "src" / "nbops"
    there = {
        path.stem
        for path in folder.iterdir()
        if (path / "__init__.py").exists() or path.name in {"cli.py", "magics.py"}
    }
    assert named == there


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    names = [re.split(r"[\s\[<>=!;~]", line, maxsplit=1)[0] for line in project["dependencies"]]
    wanted = [*names, *project["optional-dependencies"]]
    assert [name for name in wanted if f"`{name}`" not in page] == []


# ---- what is shown, works --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs(page: str, tmp_path: Path) -> None:
    cells = [(b.line, b.code) for b in code_blocks.blocks((ROOT / page).read_text(encoding="utf-8")) if not b.not_run]
    if not cells:
        return
    done = subprocess.run(
        [sys.executable, code_blocks.__file__],
        input=json.dumps({"page": page, "cells": cells}), capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "NBOPS_WORKSPACE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.slow
def test_a_page_whose_code_fails_is_found(tmp_path: Path) -> None:
    skipped = '```python title="Not run: takes a day"\nraise SystemExit\n```'
    text = f"```python\nx = 1\n```\n\n{skipped}\n\n```python\nprint(y)\n```\n"
    found = list(code_blocks.blocks(text))
    assert [(b.line, b.not_run) for b in found] == [(1, ""), (5, "takes a day"), (9, "")]
    done = subprocess.run(
        [sys.executable, code_blocks.__file__],
        input=json.dumps({"page": "page.md", "cells": [(b.line, b.code) for b in found if not b.not_run]}),
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "page.md:9: NameError" in done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    assert broken_links(path, path.read_text(encoding="utf-8"), set(reference.pages())) == []


def test_a_dead_link_is_found() -> None:
    text = "[a](nowhere.md) [b](https://example.org/x) [c](#here) [d](reference/errors.md#x) [e](index.md)"
    assert broken_links(ROOT / "docs" / "x.md", text, {"reference/errors.md"}) == ["x.md: nowhere.md"]


def test_every_check_and_every_rule_has_a_page_with_its_thresholds() -> None:
    pages = reference.pages()
    for folder, registry in (("checks", nbops.checks), ("rules", nbops.rules)):
        assert {f"reference/{folder}/{name}.md" for name in registry} <= set(pages)
        listed = pages[f"reference/{folder}.md"]()
        assert all(f"]({folder}/{name}.md)" in listed for name in registry)
    page = pages["reference/checks/missing-values.md"]()
    assert page.startswith("# `missing-values`\n")
    assert "| `max_share` | `0.01` |" in page
    assert 'nb.check(data, suite=["missing-values"])' in page
    assert 'nb.leaks(train, test, suite=["moved-rows"])' in pages["reference/checks/moved-rows.md"]()


def test_the_readme_shows_code_early_and_names_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert next(i for i, line in enumerate(lines, 1) if line.startswith("```python")) <= 25
    assert any("make demo" in line for line in lines)
    assert any("make test" in line for line in lines)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    made = (tmp_path / "site" / "reference" / "errors.html").read_text(encoding="utf-8")
    assert "MissingDependency" in made
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?)[^"]*)"', made)
    assert loaded == [], "the site loads from another host"
