"""Registering a model: export, proof, numbers, source run, and nothing left behind when it is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbops.core.errors import InvalidInput, NotFound, UnfaithfulExport
from nbops.core.ids import new_id
from nbops.core.query import parse
from nbops.core.records import Alias, Artifact, Dataset, Link, ModelVersion, Run
from nbops.models.bundle import materialise
from nbops.models.loading import load
from nbops.models.registering import register
from nbops.models.torch_exporter import export_torch
from nbops.store.context import inside_run, note_run_of
from nbops.store.workspace import Workspace

Array = np.ndarray[Any, Any]


def _run(ws: Workspace, name: str = "train") -> Run:
    run = Run(id=new_id(Run.prefix), created_at=time.time(), name=name)
    ws.store.put(run)
    return run


def test_real_digits_are_registered_and_predict_as_the_module_does(
    workspace: Workspace, trained_cnn: Any, digits: tuple[Array, Array]
) -> None:
    import torch

    x, y = digits
    version = register(trained_cnn, "digits", example=x[:100], aliases=["prod"], metrics={"accuracy": 0.97})
    assert (version.ref, version.metrics, version.status) == ("digits/1", {"accuracy": 0.97}, "ready")
    assert version.parity["verdict"] == "pass"
    assert version.parity["batches"] == [100, 1, 2]
    [spec] = version.signature.inputs
    assert (spec.name, spec.dtype, spec.shape) == ("input", "float32", [-1, 1, 8, 8])
    with load("digits@prod") as model:
        answers = model.predict(x[1400:])
    assert isinstance(answers, np.ndarray)
    assert (answers.argmax(1) == y[1400:]).mean() > 0.9
    with torch.no_grad():
        original = trained_cnn.eval()(torch.from_numpy(x[1400:])).numpy()
    trained_cnn.train()
    np.testing.assert_allclose(answers, original, rtol=1e-3, atol=1e-3)


def test_a_wrong_weight_planted_in_the_export_is_refused_and_leaves_nothing(
    workspace: Workspace, trained_cnn: Any, digits: tuple[Array, Array], plant_wrong_weight: Callable[..., None]
) -> None:
    def planted(model: Any, rows: Mapping[str, Array], path: Path) -> None:
        export_torch(model, rows, path)
        plant_wrong_weight(path)

    with pytest.raises(UnfaithfulExport, match=r"output 'output' row \d+ .*expected -?[\d.]+, got -?[\d.]+") as caught:
        register(trained_cnn, "digits", example=digits[0][:50], exporter=planted, aliases="prod")
    assert "digits" in caught.value.message
    assert caught.value.hint.startswith("Compare")
    assert workspace.store.count(ModelVersion) == workspace.store.count(Alias) == workspace.store.count(Artifact) == 0
    assert workspace.store.links() == []
    assert register(trained_cnn, "digits", example=digits[0][:50]).number == 1  # the refusal took no number


def test_the_example_of_one_row_still_exports_a_dynamic_batch(workspace: Workspace, trained_cnn: Any) -> None:
    rows = np.random.default_rng(0).random((7, 1, 8, 8), dtype=np.float32)
    register(trained_cnn, "one-row", example=rows[:1])
    with load("one-row") as model:
        assert {n: np.shape(model.predict(rows[:n])) for n in (1, 2, 7)} == {1: (1, 10), 2: (2, 10), 7: (7, 10)}


def test_a_frozen_batch_is_refused(workspace: Workspace, linear: Callable[..., bytes], three_rows: Array) -> None:
    with pytest.raises(UnfaithfulExport, match="input 'x' has a fixed batch of 3"):
        register(linear(np.ones((3, 2)), np.ones(2), batch=3), "frozen", example=three_rows)
    assert workspace.store.count(ModelVersion) == 0


def test_a_model_that_takes_one_number_of_rows_is_refused(workspace: Workspace) -> None:
    import torch

    class Frozen(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(4, 3) * 2

    rows = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    with pytest.raises(UnfaithfulExport, match="input 'x' has a fixed batch of 4"):
        register(Frozen(), "frozen", example=rows)
    assert workspace.store.count(ModelVersion) == 0


def test_the_model_is_left_as_it_was(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    model[1].eval()  # a frozen batch norm inside a module that trains
    calls: list[str] = []
    theirs = model[0].register_forward_hook(lambda *a: calls.append("theirs"))

    def ours(*_: Any) -> None:
        calls.append("ours")

    ours.__module__ = "nbops.debugging.watch"
    model[0].register_forward_hook(ours)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    register(model, "kept", example=np.ones((2, 3), dtype=np.float32))
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert "ours" not in calls  # a debugger that watches the model sees no step that is none
    assert "theirs" in calls
    calls.clear()
    model(torch.ones(2, 3))
    assert calls == ["theirs", "ours"]
    theirs.remove()
    assert torch.is_grad_enabled()
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_a_watched_model_shows_the_debugger_no_step(workspace: Workspace) -> None:
    import torch

    from nbops.debugging.watch import watch

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run = _run(workspace)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.rand(4, 3)).sum().backward()
        optimizer.step()

    with inside_run(run.id):
        session = watch(model, optimizer=optimizer)
        step()
    before = session.steps
    assert register(model, "watched", example=np.ones((2, 3))).parent == run.id
    assert session.steps == before
    step()
    assert session.steps == before + 1  # it still watches
    session.close()


def test_several_inputs_and_outputs_keep_their_names(workspace: Workspace) -> None:
    import torch

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, image: Any, offset: Any = None, *, scale: Any) -> dict[str, Any]:
            y = self.linear(image) * scale
            return {"logits": y, "parts": (y.sum(1), y.argmax(1)), "nothing": None, "scale": scale + 1}

    rng = np.random.default_rng(0)
    rows = {"image": rng.random((5, 3)), "scale": rng.random((5, 1))}  # float64, as data often is
    version = register(Two(), "two", example=rows)
    assert [s.name for s in version.signature.inputs] == ["image", "scale"]
    assert [s.name for s in version.signature.outputs] == ["logits", "parts_0", "parts_1", "scale_out"]
    assert [s.dtype for s in version.signature.outputs] == ["float32", "float32", "int64", "float32"]
    with load(version) as model:
        answers = model.predict(rows)
    assert isinstance(answers, dict)
    assert answers["parts_1"].tolist() == answers["logits"].argmax(1).tolist()


def test_a_variable_number_of_inputs_is_exported(workspace: Workspace) -> None:
    import torch

    class Sum(torch.nn.Module):
        def forward(self, *parts: torch.Tensor) -> torch.Tensor:
            return parts[0] - parts[1]

    a, b = np.ones((2, 3), dtype=np.float32), np.full((2, 3), 2, dtype=np.float32)
    version = register(Sum(), "sum", example=(a, b))
    assert [s.name for s in version.signature.inputs] == ["parts_0", "parts_1"]
    with load("sum") as model:
        assert np.array_equal(np.asarray(model.predict((a, b))), a - b)


def test_an_onnx_file_of_your_own_is_registered(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    import onnx

    Path("mine.onnx").write_bytes(small)
    for model in (Path("mine.onnx"), "mine.onnx", small, onnx.load("mine.onnx")):
        version = register(model, "mine", example=three_rows)
        assert version.parity["verdict"] == "skipped"
    assert version.number == 4
    with load("mine/1") as loaded:
        expected = three_rows @ np.array([[1, 2], [3, 4], [5, 6]]) + [0.5, -0.5]
        assert np.allclose(np.asarray(loaded.predict(three_rows)), expected)


def test_the_source_run_is_linked(workspace: Workspace, small: bytes, three_rows: Array, trained_cnn: Any) -> None:
    given, opened, watched = _run(workspace, "given"), _run(workspace, "opened"), _run(workspace, "watched")
    note_run_of(trained_cnn, watched.id)
    with inside_run(opened.id):
        by_id = register(small, "m", example=three_rows, run=given.id)
        by_handle = register(small, "m", example=three_rows, run=given)
        by_context = register(small, "m", example=three_rows)
    by_model = register(trained_cnn, "m", example=np.ones((2, 1, 8, 8)))
    by_none = register(small, "m", example=three_rows)
    found = [v.parent for v in (by_id, by_handle, by_context, by_model, by_none)]
    assert found == [given.id, given.id, opened.id, watched.id, None]
    assert Link(source=opened.id, relation="produced", target=by_context.id) in workspace.store.links()
    events = [e for e in workspace.store.events(subject=by_context.id) if e.kind == "model.created"]
    assert [e.payload["number"] for e in events] == [3]


def test_a_run_of_another_workspace_is_not_pointed_to(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    with inside_run("run_ELSEWHERE"):
        assert register(small, "m", example=three_rows).parent is None
        with pytest.raises(NotFound, match="run_ELSEWHERE"):
            register(small, "m", example=three_rows, run="run_ELSEWHERE")
        with pytest.raises(InvalidInput, match="run=7 is no run"):
            register(small, "m", example=three_rows, run=7)


def test_metrics_come_from_the_run_unless_given(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    run = _run(workspace)
    for step, accuracy in enumerate((0.5, 0.75)):
        workspace.log(run.id, step, {"accuracy": accuracy, "system/cpu": 10.0})
    assert register(small, "m", example=three_rows, run=run).metrics == {"accuracy": 0.75}
    assert register(small, "m", example=three_rows, run=run, metrics={"f1": np.float32(0.5)}).metrics == {"f1": 0.5}
    assert len(workspace.store.find(ModelVersion, parse("metrics.accuracy > 0.7"))) == 1
    with pytest.raises(InvalidInput, match="metric 'f1' is 'high'"):
        register(small, "m", example=three_rows, metrics={"f1": "high"})  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match="metric 'f1' is nan"):
        register(small, "m", example=three_rows, metrics={"f1": float("nan")})


def test_the_card_says_what_a_stranger_asks(workspace: Workspace, trained_cnn: Any) -> None:
    run = _run(workspace, "first training")
    data = Dataset(
        id=new_id(Dataset.prefix), created_at=time.time(), name="digits", version=2, digest="ab" * 32, rows=1797
    )
    workspace.store.put(data)
    workspace.store.link(data.id, "used_by", run.id)
    version = register(trained_cnn, "digits", example=np.ones((2, 1, 8, 8)), run=run, metrics={"accuracy": 0.987})
    card = (materialise(workspace, version.digest) / "card.md").read_text()
    for part in ("first training", "`digits` version 2: 1,797 rows", "accuracy: 0.987", "with 1,386 parameters",
                 "pass: equal to the torch", "float32 [batch, 1, 8, 8]", 'nb.load("digits")', "torch "):  # fmt: skip
        assert part in card


def test_bad_names_and_examples_are_refused_before_anything_runs(
    workspace: Workspace, small: bytes, three_rows: Array
) -> None:
    for name in ("a/b", "a@b", "a:b", "", " a", "../a", "-a", "é", "x" * 129, "a b"):
        with pytest.raises(InvalidInput, match="a model cannot be named") as caught:
            register(small, name, example=three_rows)
        assert caught.value.hint.startswith("Use a name such as")
    for alias in ("latest", "v3", "a b", "1", "", "a@b"):
        with pytest.raises(InvalidInput, match="an alias cannot be named"):
            register(small, "m", example=three_rows, aliases=[alias])
    with pytest.raises(InvalidInput, match="'x' has no rows"):
        register(small, "m", example=three_rows[:0])
    with pytest.raises(InvalidInput, match="no exporter takes a builtins.dict"):
        register({}, "m", example=three_rows)
    with pytest.raises(NotFound, match="no exporter 'torhc'") as missing:
        register(small, "m", example=three_rows, exporter="torhc")
    assert "torch" in missing.value.hint
    assert workspace.store.count(ModelVersion) == 0


def test_examples_that_do_not_fit_the_module_are_refused(workspace: Workspace) -> None:
    import torch

    model = torch.nn.Linear(3, 2)
    rows = np.ones((2, 3), dtype=np.float32)
    for example, message in (
        (np.float32(1), "'input' is a single value"),
        ({"imput": rows}, "no input 'imput'"),
        ((rows, rows), "2 arrays, the model takes 1"),
        ({}, "differ in rows: none"),
    ):
        with pytest.raises(InvalidInput, match=message):
            register(model, "m", example=example)
    with pytest.raises(InvalidInput, match=r"Linear itself fails on input float32 \[2, 4\]: mat1 and mat2"):
        register(model, "m", example=np.ones((2, 4)))
    with pytest.raises(InvalidInput, match="bfloat16"):
        register(torch.nn.Linear(3, 2).bfloat16(), "m", example=rows)


def test_what_torch_cannot_export_is_told_in_one_line(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else x + 1

    class Text(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return "yes"

    rows = np.ones((2, 3), dtype=np.float32)
    with pytest.raises(InvalidInput, match=r"torch cannot export this Branch: .+") as caught:
        register(Branch(), "m", example=rows)
    assert "\n" not in caught.value.message
    with pytest.raises(InvalidInput, match="gives a str"):
        register(Text(), "m", example=rows)
    assert capfd.readouterr().err == ""


def test_a_model_that_guesses_is_told_to_be_no_function_of_its_rows(workspace: Workspace) -> None:
    import torch

    class Noisy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(UnfaithfulExport, match="other answers for the same rows each time"):
        register(Noisy(), "m", example=np.ones((4, 3), dtype=np.float32))


def test_aliases_move_in_the_same_transaction(workspace: Workspace, small: bytes, three_rows: Array) -> None:
    register(small, "m", example=three_rows, aliases="prod")
    register(small, "m", example=three_rows, aliases=("prod", "staging"))
    assert {a.name: a.number for a in workspace.store.find(Alias)} == {"m@prod": 2, "m@staging": 2}


def test_no_source_path_of_the_exporter_is_in_the_file(workspace: Workspace, trained_cnn: Any) -> None:
    version = register(trained_cnn, "m", example=np.ones((2, 1, 8, 8)))
    data = (materialise(workspace, version.digest) / "model.onnx").read_bytes()
    assert b".py" not in data


def test_what_serving_imports_loads_no_framework() -> None:
    modules = (
        "bundle",
        "references",
        "runtimes",
        "signature",
        "loading",
        "aliases",
        "registering",
        "exporters",
        "parity",
    )
    lines = [f"import nbops.models.{name}" for name in modules]
    lines.append("import sys; print([m for m in ('torch', 'onnx', 'onnxruntime', 'sklearn') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
