"""What make calls: Node is judged rightly, the lock file holds no address, the demo says what was recorded."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import bring_node  # noqa: E402
import demo  # noqa: E402
import lock  # noqa: E402
import reference  # noqa: E402


@pytest.mark.parametrize(
    ("version", "fit"),
    [
        *(("v20.19.0", True), ("v20.18.3", False), ("v21.9.0", False), ("v22.11.0", False), ("v22.12.0", True)),
        *(("v24.0.1", True), ("v18.20.0", False), ("", False), ("not found", False)),
    ],
)
def test_which_node_builds_the_front_end(version: str, fit: bool) -> None:
    assert bring_node.is_fit(version) is fit


def test_constraints_are_names_and_versions_only() -> None:
    lines = lock.constraints()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", line) for line in lines)
    assert not any(line.startswith("nbops==") for line in lines)


@pytest.mark.parametrize("name", ["constraints.txt", "bench-constraints.txt", "mlflow-integrations.txt"])
def test_the_committed_constraints_pin_torch_and_name_no_place(name: str) -> None:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", line) for line in pins)
    assert not any(line.startswith(("nvidia-", "triton==")) for line in pins)


def test_make_knows_the_targets_that_are_promised() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "bench", "docs", "lint", "clean"):
        assert re.search(rf"^  make {target} +\S", shown, re.MULTILINE), target


def test_continuous_integration_is_make_test() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if "make" in line and not line.startswith("#")] == ["CI=true exec make test"]


def test_sections_of_both_styles_of_docstring() -> None:
    numpy_style = "Do it.\n\nMore.\n\nParameters\n----------\nx : int\n    How many.\n\nRaises\n------\nValueError\n"
    assert reference.sections(numpy_style) == {
        "": "Do it.\n\nMore.",
        "Parameters": "x : int\n    How many.",
        "Raises": "ValueError",
    }
    leaf = "Find it.\n\nWhat it measures\n    Things.\nFix\n    Mend\n    it."
    assert reference.sections(leaf) == {"": "Find it.", "What it measures": "Things.", "Fix": "Mend\nit."}
    assert "- `x` : int — How many." in reference.as_markdown(numpy_style, level=2)


@pytest.mark.slow
def test_the_demo_tells_what_a_notebook_printed_and_gave_out(
    workspace: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nbops as nb

    def cell(id: str, source: str) -> dict[str, object]:
        return {"cell_type": "code", "id": id, "metadata": {}, "source": source, "outputs": [], "execution_count": None}

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [cell("a", "print('accuracy 0.97')"), cell("b", "import nbops as nb\nnb.output('rows', 12)")]
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    for _ in range(2):
        nb.run_notebook(path, progress=False)
    demo.report(path)
    told = capsys.readouterr().out
    assert "FINISHED" in told
    assert "execution 2 of this notebook" in told
    assert "  accuracy 0.97\n  rows: 12\n" in told
