"""What each class shows: both forms, from real values, safe against what a user wrote into them."""

from __future__ import annotations

import math
import time
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from markup import EVIL, check_html

from nbops.core.commands import Command
from nbops.core.display import Shown, mimebundle, renderers
from nbops.core.ids import new_id
from nbops.core.mlflow_records import Experiment, RegisteredVersion
from nbops.core.mutes import Mute
from nbops.core.protocols import StepOutcome
from nbops.core.records import (
    Alias,
    AliasMove,
    Cause,
    Cell,
    CheckReport,
    CheckResult,
    ColumnSchema,
    Dataset,
    Diagnosis,
    Endpoint,
    Event,
    Failure,
    Link,
    ModelVersion,
    Run,
    Signature,
    Source,
    TensorSpec,
    Verdict,
    kinds,
    replace,
)
from nbops.core.splits import Look, SplitRecord
from nbops.core.table import Table
from nbops.core.watches import WatchState
from nbops.tracking.reading import Lineage, Series, find, lineage, series
from nbops.tracking.runs import end, run, start
from nbops.view.format import columns
from nbops.view.runs import PLOTLY, show_step
from nbops.view.system import show_event

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

NOW = 1_750_000_000.0
SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[-1, 1, 8, 8])],
    outputs=[TensorSpec(name="logits", dtype="float32", shape=[-1, 10])],
)


def shown(value: Any) -> tuple[str, str]:
    """Return both forms of a value, after checking what holds for every card."""
    found = mimebundle(value)
    check_html(found["text/html"])
    assert max(columns(line) for line in found["text/plain"].splitlines()) <= 120
    assert "\x1b" not in found["text/plain"]
    return found["text/plain"], found["text/html"]


def records(word: str = "digits") -> dict[str, Any]:
    """Return one record of each kind, with `word` wherever a user's text can stand."""
    failure = Failure(type=word, message=word, cell_id=word, line=3)
    result = CheckResult(check=word, verdict=Verdict.FAIL, column=word, value=0.1, limit=0.01, unit=word, message=word,
                         fix=word, evidence={word: word})  # fmt: skip
    base: dict[str, Any] = {"created_at": NOW}
    return {
        "run": Run(id=new_id("run"), name=word, status="FAILED", ended_at=NOW + 134, params={word: word, "lr": 0.1},
                   tags={word: word}, note=word, error=failure, cell_id=word, **base),
        "cell": Cell(id=new_id("cell"), parent="", cell_id=word, execution_count=7, source_digest="", source=word,
                     status="error", error=failure, **base),
        "dataset": Dataset(id=new_id("ds"), name=word, version=4, digest="ab" * 32, rows=1797, tags={word: word},
                           columns=[ColumnSchema(name=word, dtype=word)], source=Source(origin=word), **base),
        "check": CheckReport(id=new_id("chk"), name=word, status=Verdict.FAIL, rows=1797, columns=65, duration_s=0.04,
                             results=[result], **base),
        "diagnosis": Diagnosis(id=new_id("dg"), name=word, status="error", step=412, layer=word, measured=math.nan,
                               limit=0.5, what=word, why=word, fix=word, confidence=0.82, cell_id=word, **base),
        "model": ModelVersion(id=new_id("mv"), name=word, number=3, digest="cd" * 32, signature=SIGNATURE,
                              size_bytes=183_000, parent=word, metrics={word: 0.98}, tags={word: word},
                              parity={word: word}, **base),
        "alias": Alias(id=new_id("al"), name=f"{word}@prod", model=word, alias="prod", number=3,
                       history=[AliasMove(number=3, at=NOW, by=word, reason=word)], **base),
        "experiment": Experiment(id="exp_3", name=word, artifact_location=word, tags={word: word}, **base),
        "mlflow-version": RegisteredVersion(id="rmv_1", name=word, number=1, parent=word, description=word, source=word,
                                            tags={word: word}, **base),
        "command": Command(id=new_id("cmd"), name="set-lr", status="applied", parent=word, value=0.1, actor=word,
                           step=7, note=word, **base),
        "watch": WatchState(id=new_id("wat"), name=word, status="paused", parent=word, model=word, step=7, note=word,
                            actor=word, lr=0.1, changes=({"step": 7, "what": "pause", "by": word},), **base),
        "mute": Mute(id=new_id("mute"), name=word, layer=word, notebook=word, actor=word, **base),
        "split": SplitRecord(id=new_id("spl"), name=word, status="sealed", method=word, fingerprint=word, rows=100,
                             sizes={"train": 80, "test": 20}, digests={"train": "ab" * 32, "test": "cd" * 32},
                             settings={"salt": word, "folds": 5}, cell_id=word,
                             proof={"groups_cut": 1, "duplicates_across": 2, "time": {"overlap": 0}}, **base),
        "look": Look(id=new_id("look"), name=word, split=word, split_name=word, digest=word, number=3, rows=20,
                     parent=word, cell_id=word, **base),
        "endpoint": Endpoint(id=new_id("ep"), name=word, url=word, status="READY", pid=42, models=[f"{word}/3"],
                             ref=word, **base),
    }  # fmt: skip


def test_the_registered_renderers_exist_and_cover_every_kind() -> None:
    text = Path(__file__).resolve().parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["entry-points"]["nbops.renderers"]
    for name, target in declared.items():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function)), name
    assert {cls.__name__ for cls in kinds.values()} <= declared.keys() | {"Artifact"}
    assert set(declared) <= set(renderers), "install the package again: its entry points have changed"


@pytest.mark.parametrize("kind", list(records()))
def test_every_record_is_shown_without_a_workspace_and_makes_none(kind: str, tmp_path: Path) -> None:
    text, markup = shown(records()[kind])
    assert "digits" in text
    assert "digits" in markup
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", list(records()))
@pytest.mark.parametrize("word", [EVIL, "x" * 3000, "手書き" * 300, ""])
def test_any_text_in_a_record_is_safe_and_within_the_budget(kind: str, word: str, workspace: Workspace) -> None:
    record = records(word)[kind]
    for value in (record, Table(kind, [record] * 200)):
        _, markup = shown(value)
        assert "<script" not in markup
        assert "<img" not in markup


def test_a_run_shows_its_state_values_curve_and_params(workspace: Workspace) -> None:
    with run("fit", params={"lr": 0.01}, tags={"team": "vision"}) as live:
        for i in range(50):
            live.log(i, loss=math.exp(-i / 10), val_loss=math.exp(-i / 12), val_acc=1 - math.exp(-i / 9))
    text, markup = shown(live.record)
    assert text.startswith("✓ finished  fit  run_…")
    assert "val_acc 0.9957 (from 0)" in text
    assert "loss      █" in text
    assert "val_loss  █" in text
    assert "params  lr 0.01" in text
    assert markup.count("<polyline") == 2
    assert ">val_loss</text>" in markup
    assert shown(live)[0] == text


def test_a_failed_run_shows_where_and_what_was_found(workspace: Workspace) -> None:
    live = run("fit")
    workspace.store.put(replace(records("dead-units")["diagnosis"], parent=live.id))
    with pytest.raises(ZeroDivisionError), live:
        _ = 1 / 0
    text, _ = shown(live)
    assert text.startswith("✕ failed  fit")
    assert "ZeroDivisionError: division by zero" in text
    assert "✕ dead-units at step 412" in text
    other, _ = shown(records()["run"])
    assert "digits in cell digits, line 3: digits" in other


def test_a_running_run_shows_what_was_logged_so_far_and_an_empty_one_the_line_to_type(workspace: Workspace) -> None:
    live = start("going")
    assert "nb.log(step, loss=0.5)" in shown(live)[0]
    live.log(0, loss=0.7)
    text, _ = shown(live)
    assert text.startswith("● running  going")
    assert "loss 0.7" in text
    assert shown(end())[0].startswith("✓ finished")


def test_what_nbops_measures_itself_does_not_push_the_users_metrics_aside(workspace: Workspace) -> None:
    with run("fit") as live:
        live.log(0, **{f"watch/{name}": 1.0 for name in "abcdef"}, loss=0.5)
    assert "watch/" not in shown(live)[0]
    with run("only") as live:
        live.log(0, **{"watch/a": 1.0})
    assert "watch/a 1" in shown(live)[0]


def test_a_series_has_a_plotly_an_svg_and_a_text_form(workspace: Workspace) -> None:
    with run("fit") as live:
        live.log_series("loss", None, [1.0, 0.5, math.nan, 0.2])
    found = mimebundle(series(live, "loss"))
    shown(series(live, "loss"))
    assert found[PLOTLY]["data"][0]["y"] == [1.0, 0.5, 0.2]
    assert found["image/svg+xml"].startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert len(found["image/svg+xml"]) <= 30_000
    assert "not finite from step 2" in found["text/plain"]
    import numpy as np

    none = Series("run_1", "loss", np.array([], dtype="i8"), np.array([]), np.array([], dtype="i8"))
    assert "No points" in shown(none)[0]
    assert PLOTLY not in mimebundle(none)


def test_a_report_shows_failures_first_and_groups_columns() -> None:
    def result(check: str, verdict: Verdict, column: str, value: float = 0.1) -> CheckResult:
        return CheckResult(check=check, verdict=verdict, column=column, value=value, limit=0.01, unit="share",
                           fix=f"Mend {check}.")  # fmt: skip

    results = [
        result("mixed-types", Verdict.PASS, ""), result("drift", Verdict.SKIPPED, ""),
        *(result("missing-values", Verdict.WARN, f"pixel_{i}", i / 100) for i in range(12)),
        result("duplicate-rows", Verdict.FAIL, ""),
    ]  # fmt: skip
    report = replace(records()["check"], results=results)
    text, markup = shown(report)
    lines = text.splitlines()
    assert lines[0].startswith("✕ 1 of 4 checks fails  digits")
    assert lines[2].startswith("✕ duplicate-rows")
    assert lines[3].startswith("! missing-values  pixel_0, pixel_1, pixel_2, pixel_3 and 8 more")
    assert "11 %" in lines[3]  # the worst of them
    assert "1 passed: mixed-types" in lines
    assert "1 skipped: drift" in lines
    assert markup.count("! missing-values") == 1
    clean = replace(report, results=results[:1], status=Verdict.PASS)
    assert shown(clean)[0].startswith("✓ 1 check passed")
    broken = replace(report, results=[result("drift", Verdict.ERROR, "")])
    assert shown(broken)[0].startswith("✕ 1 of 1 check could not run")


def test_one_result_shows_value_limit_and_what_to_do() -> None:
    text, _ = shown(records()["check"].results[0])
    assert text.splitlines() == [
        "✕ failed  digits  digits   value 0.1 digits · limit 0.01 digits", "digits", "digits", "evidence  digits digits"
    ]  # fmt: skip


def test_a_dataset_shows_its_columns_with_or_without_a_profile() -> None:
    plain = records()["dataset"]
    many = replace(plain, columns=[ColumnSchema(name=f"pixel_{i}", dtype="float64") for i in range(64)])
    assert "64 × float64 pixel_0, pixel_1, pixel_2, pixel_3 and 60 more" in shown(many)[0]
    profile = {"columns": {f"pixel_{i}": {"missing_share": 0.042, "mean": 1.5} for i in range(64)}}
    text, _ = shown(replace(many, profile=profile))
    assert "pixel_10  float64          4.2 %   1.5" in text
    assert "… and 52 more columns" in text


def test_a_diagnosis_says_what_why_and_what_to_do() -> None:
    found = replace(records()["diagnosis"], name="dead-units", what="It is dead.", why="It never fires.", fix="Revive.")
    text, _ = shown(found)
    assert text.splitlines()[0].startswith("✕ error  dead-units  dg_…")
    assert "measured NaN (limit 0.5) · confidence 82 % (estimated)" in text
    assert text.splitlines()[-3:] == ["It is dead.", "It never fires.", "Fix: Revive."]


class Watch(Shown):
    """Stands in for the handle of `nb.watch`, with the attributes that the card reads."""

    def __init__(self, *diagnoses: Diagnosis, is_open: bool, steps: int = 3, name: str = "net") -> None:
        self.diagnoses, self.is_open, self.steps, self.name = list(diagnoses), is_open, steps, name
        self.model = None
        self.notes = ["fc1 is compiled: its units cannot be counted"]


def test_a_watch_shows_whether_it_is_open_and_what_it_found() -> None:
    bad = records()["diagnosis"]
    text, _ = shown(Watch(bad, replace(bad, status="warning"), is_open=True))
    assert text.startswith("✕ 2 findings  net   3 steps")
    assert "fc1 is compiled" in text
    assert shown(Watch(is_open=True, steps=0))[0].splitlines()[:2] == [
        "● watching  net   0 steps",
        "No step was seen yet.",
    ]
    assert shown(Watch(is_open=False))[0].splitlines()[:2] == ["■ closed  net   3 steps", "Nothing is wrong so far."]
    shown(Watch(records(EVIL)["diagnosis"], is_open=True, name=EVIL))


def test_a_diagnosis_shows_its_evidence_place_and_ranked_causes_with_a_patch(workspace: Workspace) -> None:
    causes = [
        Cause(text="the learning rate is too high", test="a rate ten times smaller lets the loss fall",
              fix="Divide it by 10.", confidence=0.7, name="lr-too-high"),
        Cause(text="clip_grad_norm_ is called too late", test="print the norm before the step", fix="Call it earlier.",
              patch=" loss.backward()\n+if True:\n+    clip(net)", confidence=0.35, name="clip-too-late"),
    ]  # fmt: skip
    found = replace(
        records()["diagnosis"], step=-1, causes=causes, expected="(32, 10)", got="(32, 1)", line=4,
        code="loss = f(x, y)", fix="Divide it by 10.",
        evidence={"first_loss": 2.3, "layers": ["a", "b"]},
    )  # fmt: skip
    text, markup = shown(found)
    assert "before the first step · digits" in text
    assert "evidence  expected (32, 10) · got (32, 1) · first loss 2.3 · layers a, b" in text
    assert text.splitlines()[-13:] == [
        "line 4 of cell digits:",
        "    loss = f(x, y)",
        "Likely causes",
        "1. The learning rate is too high (70 %)",
        "   to tell it: a rate ten times smaller lets the loss fall",
        "   fix: Divide it by 10.",
        "2. clip_grad_norm_ is called too late (35 %)",
        "   to tell it: print the norm before the step",
        "   fix: Call it earlier.",
        "Patch for cause 2 of your lines:",
        "     loss.backward()",
        "    +if True:",
        "    +    clip(net)",
    ]
    assert markup.count("<li>") == 2
    assert "+    clip(net)" in markup


def test_a_watch_tells_three_findings_in_full_and_the_others_in_a_line_each(workspace: Workspace) -> None:
    one = replace(records()["diagnosis"], what="It is so.")
    found = [
        replace(one, name="late-error", status="error", confidence=0.9, step=9),
        replace(one, name="hint", status="hint", confidence=0.99, step=0),
        replace(one, name="sure-warning", status="warning", confidence=0.95, step=7),
        replace(one, name="unsure-error", status="error", confidence=0.5, step=1),
        replace(one, name="early-error", status="error", confidence=0.9, step=-1),
    ]
    text, markup = shown(Watch(*found, is_open=True))
    heads = [line.split()[2] for line in text.splitlines() if "· confidence" in line]
    assert heads == ["early-error", "late-error", "unsure-error"]
    assert text.count("It is so.") == 3
    assert [line.split()[2] for line in text.splitlines() if line.startswith(("! ", "i "))] == ["sure-warning", "hint"]
    assert "✕ error  early-error   before the first step · digits · confidence 90 %" in text
    assert "2 more" in text
    assert markup.count("It is so.") == 3


def test_a_version_shows_its_aliases_signature_and_parity(workspace: Workspace) -> None:
    outputs = [{"name": "logits", "max_abs": 1.25e-6, "max_rel": 3e-7}, {"name": "other", "max_abs": 1e-9}]
    version = replace(records()["model"], parity={"verdict": "pass", "rows": 512, "outputs": outputs, "worst": None})
    workspace.store.put(version)
    workspace.store.put(records()["alias"])
    text, _ = shown(version)
    assert text.startswith("✓ ready  digits/3  mv_…")
    assert "@prod · 183 kB" in text
    assert "takes  x float32 [batch, 1, 8, 8]" in text
    assert "parity  verdict pass · rows 512 · max abs 1.25e-6 · max rel 3e-7" in text
    assert "→ %mlops serve digits@prod" in text

    class LoadedModel(Shown):
        pass

    loaded = LoadedModel()
    loaded.version = version  # type: ignore[attr-defined]
    assert shown(loaded)[0].startswith("✓ loaded  digits/3")


def test_a_version_shows_its_data_or_says_that_none_is_recorded(workspace: Workspace) -> None:
    none = "No data is recorded with it: name it with nb.run(data=…)."
    data = records()["dataset"]
    workspace.store.put(data)
    with run("fit") as bare, run("fit", data=data) as fed:
        pass
    versions = [replace(records()["model"], parent=parent) for parent in (bare.id, None, fed.id)]
    texts = [shown(version)[0] for version in versions]
    assert [none in text for text in texts] == [True, True, False]
    assert "data  digits/4 1,797 rows" in texts[2]


def test_a_run_shows_how_far_it_is_from_production(workspace: Workspace) -> None:
    with run("old") as old:
        old.log(0, val_acc=0.9, loss=0.5)
    with run("new") as new:
        new.log(0, val_acc=0.92, loss=0.4, other=1.0)
    before = shown(new.record)[0]
    assert "production" not in before
    workspace.store.put(replace(records()["model"], number=3, parent=old.id, metrics={"loss": 0.45}))
    workspace.store.put(records()["alias"])
    text, markup = shown(new.record)
    assert "val_acc 0.92 (+0.02 to production)" in text
    assert "loss 0.4 (-0.05 to production)" in text  # as registered, not as the run logged it
    assert "other 1 (" not in text
    assert "In production: digits@prod = digits/3." in text
    assert "+0.02 to production" in markup
    assert "production" not in shown(old.record)[0]


def test_parity_shows_each_output_and_the_verdict() -> None:
    from nbops.models.parity import Mismatch, OutputParity, ParityReport

    good = OutputParity(name="logits", dtype="float32", max_abs=1.25e-6, max_rel=3e-7, tolerance=1e-4,
                        argmax_changed_share=0.0)  # fmt: skip
    report = ParityReport(verdict=Verdict.PASS, original="torch module", rows=512, batches=[1, 512], outputs=[good])
    text, _ = shown(report)
    assert text.startswith("✓ faithful  parity")
    assert "logits" in text
    worst = Mismatch(output=EVIL, row=3, index=[1], batch=2, expected="1.0", got="2.0")
    text, markup = shown(replace(report, verdict=Verdict.FAIL, worst=worst))
    assert text.startswith("✕ unfaithful  parity")
    assert "<script" not in markup


def test_an_endpoint_shows_how_to_call_it_and_never_its_token() -> None:
    ready = replace(records()["endpoint"], url="http://127.0.0.1:41235", name="digits@prod", models=["digits/3"])
    text, _ = shown(ready)
    assert text.startswith("✓ ready  digits@prod  ep_…")
    assert "POST http://127.0.0.1:41235/v2/models/digits/infer" in text
    assert "%mlops stop digits@prod" in text
    stopped = replace(ready, status="STOPPED", ended_at=NOW + 61, ref="digits@prod")
    assert "1 min 1 s" in shown(stopped)[0]
    assert "%mlops serve digits@prod" in shown(stopped)[0]
    assert "Serve the model again." in shown(replace(ready, status="DEAD"))[0]

    class LiveEndpoint(Shown):
        record, token = ready, "secret-token"

    text, markup = shown(LiveEndpoint())
    assert "endpoint.infer(x)" in text
    assert "secret-token" not in text + markup


def test_lineage_is_a_picture_and_arrows(workspace: Workspace) -> None:
    made = records()
    for kind in ("dataset", "model", "endpoint"):
        workspace.store.put(made[kind])
    with run("fit", data=made["dataset"]) as live:
        pass
    workspace.store.link(live.id, "produced", made["model"].id)
    workspace.store.link(made["model"].id, "served_by", made["endpoint"].id)
    text, markup = shown(lineage(made["model"]))
    assert text.splitlines()[-1] == "data digits/4 → run fit → model digits/3 → endpoint digits"
    assert markup.count("<rect") == 4
    assert "✓ finished" in markup
    assert "Nothing is linked" in shown(Lineage(made["run"], [made["run"]], []))[0]
    evil = records(EVIL)
    links = [Link(source=evil["dataset"].id, relation=EVIL, target=evil["run"].id)]
    _, markup = shown(Lineage(evil["run"], [evil["dataset"], evil["run"]], links))
    assert "<script" not in markup


def test_tables_have_the_columns_of_their_kind_and_an_empty_one_says_what_to_type(workspace: Workspace) -> None:
    with run("fit", params={"lr": 0.01}) as live:
        live.log(0, acc=0.5)
    text, _ = shown(find("runs"))
    assert text.splitlines()[1].split() == ["state", "name", "id", "started", "duration", "acc", "lr"]
    assert text.splitlines()[2].startswith("✓ finished  fit")
    assert shown(find("models"))[0].splitlines() == [
        "no models",
        "Register one with %mlops register net NAME --example x.",
    ]
    assert shown(find("diagnoses"))[0].startswith("no diagnoses")
    assert shown(Table("event", workspace.store.events()))[0].splitlines()[1].split() == [
        "seq",
        "when",
        "event",
        "about",
    ]
    assert "name" in shown(Table("odd", [SimpleNamespace(name="a", id="odd_1")]))[0]


def test_a_long_table_says_how_many_more_there_are() -> None:
    one = records()["run"]
    text, markup = shown(Table("run", [one] * 100, total=5000))
    assert text.startswith("5,000 runs   100 shown")
    assert "… and 40 more" in text
    assert "more" in markup


def test_a_step_shows_its_run_or_how_it_ended() -> None:
    outcome = StepOutcome("FAILED", Path("out.ipynb"), records(EVIL)["run"].error)
    found = show_step(outcome)
    check_html(found["text/html"])
    assert found["text/plain"].startswith("✕ failed  out.ipynb")
    steps = [SimpleNamespace(name="train", status="FINISHED", duration_s=3.0), SimpleNamespace(name="serve")]
    text = show_step(SimpleNamespace(name="nightly", status="RUNNING", steps=steps, error="x"))["text/plain"]
    assert "✓ finished  train" in text
    assert "– pending" in text
    with_run = show_step(SimpleNamespace(run=records()["run"]))["text/plain"]
    assert with_run.startswith("✕ failed  digits")


def test_an_event_says_when_and_about_what() -> None:
    event = Event(
        seq=12, at=time.time(), kind="run.created", subject="run_01ABCDEFGHJKMNPQRSTVWXYZ01", payload={"n": 2}
    )
    found = show_event(event)
    check_html(found["text/html"])
    assert found["text/plain"].startswith("run.created  run_…XYZ01"[:12])
    assert "with  n 2" in found["text/plain"]
