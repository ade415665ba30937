"""The verbs that go back to a run's notebook, as a user types them in a real IPython shell with nbops loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, InvalidInput, NotFound, ParameterError
from nbops.core.ids import short_id
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.words import split

Execute = Callable[..., None]


@pytest.fixture
def execute(workspace: Any) -> Iterator[Execute]:
    """Return a function that executes (id, source) pairs in a shell with nbops loaded."""
    shell = InteractiveShell(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    shell.run_cell("%load_ext nbops\nimport nbops as nb", store_history=True, cell_id="first")

    def run(*cells: tuple[str, str]) -> None:
        for id, source in cells:
            shell.run_cell(source, store_history=True, cell_id=id)

    yield run
    shell.run_line_magic("unload_ext", "nbops")
    shell.history_manager.end_session()


def said(line: str) -> Any:
    return dispatch(list(split(line)), Call(namespace={}))


def text(value: Any) -> str:
    return str(mimebundle(value)["text/plain"])


def html(value: Any) -> str:
    return str(mimebundle(value)["text/html"])


CLEAN = (("a", "lr = 0.1"), ("c", "with nb.run('fit'): nb.log(loss=lr)"))


def test_reproducible_says_yes_on_a_clean_run_and_on_its_card(execute: Execute) -> None:
    execute(*CLEAN)
    found = said("reproducible fit")
    assert "✓ reproducible" in text(found)
    assert f"→ %mlops verify {short_id(found.run.id)}" in text(found)
    assert "reproducible: yes" in text(nb.find("runs")[0])


def test_reproducible_says_no_with_its_reasons(execute: Execute) -> None:
    execute(("a", "lr = 0.1"), ("b", "lr = lr * 2"), ("b", "lr = lr * 2"), CLEAN[1])
    found = said(f"reproducible {short_id(nb.find('runs')[0].id)}")
    reason = "cell [4] ran 2 times and each time changed 'lr', which it starts from"
    assert "✕ not reproducible" in text(found)
    assert reason in text(found)
    assert "repeated-effect" in html(found)
    assert f"reproducible: no, because {reason}" in text(nb.find("runs")[0])


def test_a_run_of_a_script_has_no_such_line(workspace: Any) -> None:
    with nb.run("script"):
        assert "reproducible" not in text(nb.find("runs")[0])
    assert "reproducible" not in text(nb.find("runs")[0])
    assert "– not known" in text(said("reproducible script"))


def test_verify_rerun_checkout_and_diff(execute: Execute, tmp_path: Path) -> None:
    execute(*CLEAN)
    found = said("verify fit")
    assert found.verdict
    assert "✓ came out again" in text(found)
    assert "loss" in html(found)

    again = said("rerun fit --param lr 0.5")
    assert again.metrics == {"loss": 0.5}
    first = short_id(found.run.id)
    difference = said(f"diff {first} {again.id}")
    assert "-lr = 0.1" in text(difference)
    assert "+lr = 0.5" in text(difference)
    with pytest.raises(ParameterError, match="takes float"):
        said(f"rerun {first} --param lr fast")

    path = said(f"checkout {first} --to was.ipynb")
    assert path == Path("was.ipynb")
    assert "lr = 0.1" in path.read_text()
    with pytest.raises(Conflict, match="exists already"):
        said(f"checkout {first} --to was.ipynb")


def test_verify_shows_what_came_out_otherwise(execute: Execute) -> None:
    execute(("c", "import os\nwith nb.run('fit'): nb.log(loss=float(os.getpid()))"))
    found = said("verify fit --tolerance 0")
    assert "✕ came out otherwise" in text(found)
    assert "'loss' (last) was" in text(found)
    assert "✕ differs" in text(found)


def test_what_is_no_run_is_refused(workspace: Any) -> None:
    with pytest.raises(NotFound):
        said("verify nothing")
    with nb.run("r"):
        artifact = nb.log_artifact(b"x", name="x.bin")
    with pytest.raises(InvalidInput, match="is no run but of kind 'artifact'"):
        said(f"verify {short_id(artifact.id)}")
