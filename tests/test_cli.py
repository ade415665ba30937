"""`nbops VERB …` in a process of its own: text, JSON, exit codes, two-line errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import nbops
from nbops import cli
from nbops.tracking.runs import run

if TYPE_CHECKING:
    from pathlib import Path

    from nbops.store.workspace import Workspace

Said = subprocess.CompletedProcess[str]


@pytest.fixture
def nb(tmp_path: Path) -> Callable[..., Said]:
    """Run the command line in `tmp_path`."""

    def call(*words: str, **env: str) -> Said:
        return subprocess.run(
            [sys.executable, "-m", "nbops", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, **env},
        )  # fmt: skip

    return call


def test_version_and_help(nb: Callable[..., Said]) -> None:
    assert nb("--version").stdout == f"nbops {nbops.__version__}\n"
    done = nb("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("nbops verbs\nnbops VERB … runs one")
    assert "nbops runs [WHERE]" in nb("runs", "-h").stdout


def test_without_a_verb_it_is_the_status_and_makes_nothing(nb: Callable[..., Said], tmp_path: Path) -> None:
    done = nb()
    assert done.returncode == 0
    assert "no workspace yet" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_records_are_text_or_json(nb: Callable[..., Said], workspace: Workspace) -> None:
    with run("fit", params={"lr": 0.1}) as live:
        live.log(0, acc=0.5, loss=float("nan"))
    workspace.flush()
    done = nb("runs", "metrics.acc", ">", "0.4")
    assert done.stdout.splitlines()[0] == "1 run"
    assert "✓ finished  fit" in done.stdout
    for words in (["--json", "runs"], ["runs", "--json"]):
        (found,) = json.loads(nb(*words).stdout)
        assert (found["id"], found["params"], found["status"]) == (live.id, {"lr": 0.1}, "FINISHED")
        assert found["summary"]["loss"]["last"] is None
    shown = json.loads(nb("show", "fit", "--json").stdout)
    assert shown["id"] == live.id
    assert json.loads(nb("--json").stdout)["counts"]["run"] == 1
    assert json.loads(nb("lineage", "fit", "--json").stdout)["root"]["id"] == live.id


@pytest.mark.parametrize(
    ("words", "code", "lines"),
    [
        (["rnus"], 2, ["nbops: no verb 'rnus'", "Did you mean 'runs'?"]),
        (["runs", "--lats", "3"], 2, ["nbops: 'runs' has no option '--lats'", "Did you mean '--last'?"]),
        (["learn", "df"], 2, ["nbops: 'learn' needs a notebook: it works on variables",
                              "Use it as %mlops learn df in a notebook."]),
        (["snapshot", "df"], 2, ["nbops: 'df' would be a variable of a notebook, and there is none on the command line",
                                 "Use the verb in a notebook as %mlops, or call the Python function in a script."]),
        (["show", "nothing"], 1, ["nbops: no record 'nothing'", "Pass an id or a name; list them with nb.find."]),
        (["run", "missing.ipynb"], 1, None),
    ],
)  # fmt: skip
def test_errors_are_two_lines_on_stderr_with_an_exit_code(
    nb: Callable[..., Said], words: list[str], code: int, lines: list[str] | None
) -> None:
    done = nb(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
    if lines is not None:
        assert done.stderr.splitlines() == lines


def notebook(path: Path, *sources: tuple[str, str]) -> Path:
    empty: dict[str, Any] = {"cell_type": "code", "outputs": [], "execution_count": None}
    cells = [
        {**empty, "id": f"c{i}", "metadata": {"tags": [tag] if tag else []}, "source": source}
        for i, (source, tag) in enumerate(sources)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_notebook_runs_with_parameters_and_fails_with_its_cell(nb: Callable[..., Said], tmp_path: Path) -> None:
    path = notebook(tmp_path / "train.ipynb", ("epochs: int = 1", "parameters"), ("print('epochs', epochs)", ""))
    done = nb("run", str(path), "-p", "epochs", "3", "--output", str(tmp_path / "out.ipynb"))
    assert done.returncode == 0, done.stderr
    assert "✓ finished  train" in done.stdout
    assert "epochs 3" in done.stdout
    assert "epochs 3" in (tmp_path / "out.ipynb").read_text()
    refused = nb("run", str(path), "-p", "epochs", "many")
    assert refused.returncode == 1
    assert "epochs" in refused.stderr
    bad = notebook(tmp_path / "bad.ipynb", ("1 / 0", ""))
    failed = nb("run", str(bad))
    assert failed.returncode == 1
    assert "ZeroDivisionError" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert [r["status"] for r in json.loads(nb("runs", "--json").stdout)] == ["FAILED", "FINISHED"]


def test_doctor_says_by_its_exit_code_whether_all_is_well(nb: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "config.toml").write_text("nonsense = 1\n")
    assert nb("doctor").returncode == 1


def test_a_terminal_without_the_signs_still_shows_the_words(nb: Callable[..., Said], workspace: Workspace) -> None:
    with run("fit"):
        pass
    done = nb("runs", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(workspace: Workspace) -> None:
    line = f"{sys.executable} -m nbops help | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout == "nbops verbs\n"
    assert done.stderr == ""


def test_interrupting_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(words: Any, call: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", interrupted)
    assert cli.main(["runs"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "nbops: interrupted\n"


def test_a_closed_pipe_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    assert cli.main(["help"]) == cli.DONE


def test_a_verb_without_a_value_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "dispatch", lambda words, call: None)
    assert cli.main(["runs"]) == cli.DONE
    assert capsys.readouterr().out == ""


def test_help_loads_no_store() -> None:
    heavy = "{'sqlalchemy', 'IPython', 'numpy'} & set(sys.modules)"
    code = f"import sys; from nbops.cli import main; main(['help']); sys.exit(bool({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
