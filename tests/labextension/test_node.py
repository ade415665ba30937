"""The front end's own tests, each counted as one: pure TypeScript, compiled with tsc, run by `node --test`."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest
from tools import require

FOLDER = Path(__file__).resolve().parents[2] / "labextension"
BUNDLE = FOLDER.parent / "src" / "nbops" / "labextension"
NAMES = [
    (path.name, name)
    for path in sorted((FOLDER / "tests").glob("*.test.ts"))
    for name in re.findall(r"^test\('([^']+)'", path.read_text(encoding="utf-8"), re.MULTILINE)
]


def compiler() -> Path:
    """Return tsc, or skip the calling test."""
    found = FOLDER / "node_modules" / "typescript" / "bin" / "tsc"
    if not found.exists():
        pytest.skip("the front end's packages are not installed; `make labextension` brings them")
    return found


@pytest.fixture(scope="module")
def results() -> dict[str, str]:
    """Run all of them once: what went wrong by name, an empty text for nothing."""
    node = str(require("node"))
    subprocess.run([node, str(compiler()), "-p", "tests"], cwd=FOLDER, check=True)
    files = [str(path) for path in sorted((FOLDER / "tests" / "build" / "tests").glob("*.test.js"))]
    ran = subprocess.run([node, "--test", "--test-reporter=tap", *files], cwd=FOLDER, capture_output=True, text=True)
    parts = re.split(r"^(ok|not ok) \d+ - (.*)$", ran.stdout, flags=re.MULTILINE)
    return {
        name.replace("\\#", "#"): "" if word == "ok" else details
        for word, name, details in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def test_there_are_tests() -> None:
    assert len(NAMES) > 30
    assert len({name for _, name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(("file", "name"), NAMES, ids=[name for _, name in NAMES])
def test_front_end(results: dict[str, str], file: str, name: str) -> None:
    assert results[name] == "", file


def test_the_whole_front_end_is_typed() -> None:
    ran = subprocess.run(
        [str(require("node")), str(compiler()), "--noEmit"], cwd=FOLDER, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout


def test_the_bundle_stays_small() -> None:
    files = sorted((BUNDLE / "static").glob("*.js"))
    if not files:
        pytest.skip("the front end is not built; `make labextension` builds it")
    packed = {path.name: len(gzip.compress(path.read_bytes())) for path in files}
    entry = next(path for path in files if path.name.startswith("remoteEntry"))
    assert entry.stat().st_size <= 16_000
    assert max(packed.values()) <= 30_000
    assert sum(packed.values()) <= 60_000


def test_the_bundle_knows_what_it_is() -> None:
    if not (BUNDLE / "package.json").exists():
        pytest.skip("the front end is not built; `make labextension` builds it")
    built = json.loads((BUNDLE / "package.json").read_text())
    source = json.loads((FOLDER / "package.json").read_text())
    assert built["version"] == source["version"]
    assert built["jupyterlab"]["_build"]["extension"] == "./extension"
    assert (BUNDLE / "schemas" / "nbops" / "panel.json").exists()


def test_both_sides_speak_the_same_interface() -> None:
    from nbops.server.handlers import API_VERSION
    from nbops.server.watching import SCHEMA_ID

    api = (FOLDER / "src" / "api.ts").read_text()
    live = (FOLDER / "src" / "live.ts").read_text()
    assert re.search(rf"export const API_VERSION = {API_VERSION};", api)
    assert f"'{SCHEMA_ID}'" in live
