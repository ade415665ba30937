"""What the verbs do, called as the magic calls them; the ones that need torch or a process are tested in a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput, NotFound, QuerySyntaxError
from nbops.core.records import CheckReport, Dataset, Run, RunStatus, Verdict
from nbops.core.table import Table
from nbops.tracking.live import LiveRun
from nbops.tracking.runs import run
from nbops.verbs.doctor import Doctor, Finding, examine
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.status import Status, _store_name
from nbops.verbs.words import UsageError, split

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


def said(line: str, *, cli: bool = False, **variables: Any) -> Any:
    return dispatch(list(split(line)), Call(namespace=None if cli else variables))


def text(value: Any) -> str:
    return str(mimebundle(value)["text/plain"])


def test_status_of_no_workspace_says_what_to_type_and_makes_nothing(tmp_path: Path) -> None:
    found = said("")
    assert isinstance(found, Status)
    assert "no workspace yet" in text(found)
    assert "→ %%mlops run NAME" in text(found)
    assert "nbops run NOTEBOOK.ipynb" in text(said("status", cli=True))
    assert list(tmp_path.iterdir()) == []


def test_status_shows_what_runs_and_what_there_is(workspace: Workspace) -> None:
    with run("fit"):
        found = said("status")
        assert (found.running, found.counts["run"]) == (1, 1)
        assert "● 1 run running" in text(found)
        assert f"Current run: {found.current}" in text(found)
    assert "✓ idle" in text(said(""))
    noted = dispatch([], Call(namespace={}, notes=("Cells are not recorded.",)))
    assert "Cells are not recorded." in text(noted)


def test_the_password_of_a_database_is_not_shown() -> None:
    assert _store_name("postgresql+psycopg://ana:secret@db.example/nbops") == "postgresql://db.example/nbops"
    assert _store_name("") == "SQLite"


def test_init_makes_a_workspace_where_it_is_told(tmp_path: Path) -> None:
    found = said(f"init {tmp_path / 'deep'}")
    assert found.path == str(tmp_path / "deep" / ".nbops")
    assert (tmp_path / "deep" / ".nbops" / "nbops.db").exists()


def test_runs_are_listed_filtered_ordered_and_limited(workspace: Workspace) -> None:
    for i in range(5):
        with run(f"fit-{i}", params={"lr": i / 10}, tags={"team": "x" if i else "y"}) as live:
            live.log(0, acc=i / 10)
    assert isinstance(said("runs"), Table)
    assert [r.name for r in said("runs --last 2")] == ["fit-4", "fit-3"]
    assert [r.name for r in said('runs metrics.acc >= 0.1 and tags.team == "x" --order-by metrics.acc -n 2')] == [
        "fit-1",
        "fit-2",
    ]
    assert len(said("find runs params.lr > 0.2")) == 2
    assert len(said("runs", cli=True)) == 5
    with pytest.raises(QuerySyntaxError):
        said("runs metrics.acc >")
    with pytest.raises(NotFound, match="no kind of record 'rnus'"):
        said("find rnus")


def test_show_takes_an_id_its_short_form_a_name_and_complains_about_others(workspace: Workspace) -> None:
    with run("fit") as live:
        pass
    for form in (live.id, f"run_…{live.id[-6:]}", f"run_{live.id[-8:]}", "fit"):
        assert said(f"show {form}").id == live.id
    with pytest.raises(NotFound):
        said("show run_…ZZZZZZ")
    with pytest.raises(NotFound, match="no record 'fti'\nDid you mean 'fit'"):
        said("show fti")


def test_a_short_id_that_fits_two_records_is_refused(workspace: Workspace) -> None:
    from nbops.core.records import replace

    with run("fit") as live:
        pass
    twin = replace(live.record, id=live.id[:5] + "Z" + live.id[6:])
    workspace.store.put(twin)
    with pytest.raises(UsageError, match="fits 2 records") as caught:
        said(f"show run_…{live.id[-6:]}")
    assert live.id in caught.value.hint


def test_compare_takes_names_short_ids_and_a_quoted_query(workspace: Workspace) -> None:
    for i in range(3):
        with run(f"fit-{i}", params={"lr": i}) as live:
            live.log(acc=i / 10, loss=1.0)
    short = f"run_…{live.id[-6:]}"
    assert [r.name for r in said(f"compare fit-0 {short}").runs] == ["fit-0", "fit-2"]
    assert [r.name for r in said(f"compare fit-0 {short}", cli=True).runs] == ["fit-0", "fit-2"]
    found = said('compare "params.lr >= 1" --metric loss -m acc')
    assert [r.name for r in found.runs] == ["fit-2", "fit-1"]
    assert [row.metric for row in found.metrics] == ["loss", "acc"]
    assert "1 of 1 parameters differ" in text(found)
    with pytest.raises(UsageError, match="'compare' needs RUN"):
        said("compare")
    with pytest.raises(NotFound, match="fit-9"):
        said("compare fit-9")


def test_a_line_opens_a_run_that_lasts_until_end(workspace: Workspace) -> None:
    live = said("run baseline --param lr 1e-2 --param kind cnn --tag team x")
    assert isinstance(live, LiveRun)
    assert live.record.params == {"lr": 0.01, "kind": "cnn"}
    ended = said("end")
    assert (ended.status, ended.tags) == (RunStatus.FINISHED, {"team": "x"})
    said("run other")
    assert said("end --status FAILED").status == RunStatus.FAILED
    with pytest.raises(NotFound, match="no run was started"):
        said("end")


@pytest.mark.parametrize(
    ("line", "cli", "message"),
    [
        ("run fit --output x.ipynb", False, "--output belongs to the run of a notebook"),
        ("run fit --timeout 3", False, "--timeout belongs to the run of a notebook"),
        ("run a.ipynb --tag k v", True, "--tag belongs to a run of cells, not to the notebook 'a.ipynb'"),
        ("run fit", True, "'fit' is no notebook"),
        ("run", True, "'' is no notebook"),
    ],
)
def test_run_says_which_option_belongs_where(line: str, cli: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        said(line, cli=cli)


def test_a_cell_cannot_run_a_notebook_and_needs_recorded_cells() -> None:
    with pytest.raises(UsageError, match="takes the name of a run, not the notebook"):
        dispatch(["run", "a.ipynb"], Call(namespace={}, is_cell=True))
    with pytest.raises(UsageError, match="cells are not recorded\nLoad the extension again|cells are not recorded"):
        dispatch(["run", "fit"], Call(namespace={}, is_cell=True))


def test_data_is_kept_checked_and_listed(workspace: Workspace) -> None:
    table = {"age": [31, 42, 55, 31], "label": ["a", "b", "a", "a"]}
    kept = said("snapshot table --source survey --key age --key n", table={**table, "n": [1, 2, 3, 4]})
    assert isinstance(kept, Dataset)
    assert (kept.name, kept.version, kept.source.origin) == ("table", 1, "survey")
    assert said("snapshot table --name people", table=table).name == "people"
    report = said("check table --label label --name mine", table=table)
    assert isinstance(report, CheckReport)
    assert (report.name, report.rows) == ("mine", 4)
    assert said("check table --baseline people --only duplicate-rows", table=table).of("duplicate-rows")
    assert said("check table --baseline other", table=table, other=table).rows == 4
    assert said("check people", cli=True).rows == 4
    assert said("check people/1").rows == 4
    assert [d.name for d in said("datasets rows > 1")] == ["people", "table"]


def test_files_and_folders_are_kept_and_checked_out(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "1.txt").write_text("a")
    kept = said(f"snapshot {folder} --store --label-set v2 --code abc", cli=True)
    assert (kept.name, kept.rows, kept.source.label_set, kept.source.extraction_code) == ("images", 1, "v2", "abc")
    assert said("checkout images --to out") == tmp_path / "out"
    assert (tmp_path / "out" / "1.txt").read_text() == "a"
    assert said("diff images/1 out/").is_same
    said("snapshot table --store", table={"a": [1, 2]})
    assert said("checkout table --to table.parquet", cli=True) == Path("table.parquet")
    again = said("snapshot table.parquet", cli=True)
    assert (again.name, again.version) == ("table", 1)
    assert said("checkout table/1") == Path("table-1.parquet")
    with pytest.raises(NotFound, match="no run 'nothing'"):
        said("checkout nothing")


def test_data_is_split_and_looked_over_for_leaks(workspace: Workspace) -> None:
    table = {"id": list(range(40)), "day": list(range(40)), "y": [0, 1] * 20}
    made = said("split table --test 0.5 --key id --folds 2 --name mine --seal", table=table)
    assert (made.name, made.is_sealed, len(made.folds)) == ("mine", True, 2)
    later = said("split table --time day --test 30 --gap 5", table=table)
    assert later.sizes == {"train": 25, "val": 0, "test": 10, "left out": 5}
    train, test = later.take(table)
    report = said("leaks one other --label y --time day --only time-overlap", one=train, other=test)
    assert report.passed
    assert said("leaks one other --split mine --only moved-rows", one=train, other=test).results


def test_a_table_that_is_neither_variable_nor_dataset_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no variable 'tabel' in this notebook\nDid you mean 'table'"):
        said("check tabel", table={})
    with pytest.raises(NotFound, match="no dataset 'tabel'"):
        said("check tabel", cli=True)
    with pytest.raises(UsageError, match="no variable 'tabel'"):
        said("snapshot tabel", table={})


def test_lineage_takes_the_newest_run_when_nothing_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="nothing is recorded yet"):
        said("lineage")
    kept = said("snapshot table --name digits", table={"x": [1, 2]})
    with run("fit", data=kept):
        assert said("lineage").root.name == "fit"
    found = said("lineage")
    assert isinstance(found.root, Run)
    assert {node.kind for node in found.nodes} == {"run", "dataset"}
    assert said("lineage digits/1").root.id == kept.id


def test_register_needs_real_rows() -> None:
    with pytest.raises(UsageError, match="'register' needs --example"):
        said("register net digits", net=1)


def test_verbs_of_models_and_endpoints_hand_on_what_the_library_says(workspace: Workspace) -> None:
    assert len(said("models")) == 0
    assert len(said("endpoints --all")) == 0
    with pytest.raises(NotFound):
        said("promote digits 3 prod")
    with pytest.raises(NotFound):
        said("rollback digits prod")
    with pytest.raises(NotFound):
        said("serve digits@prod")
    with pytest.raises(NotFound):
        said("stop digits@prod")
    with pytest.raises(InvalidInput, match="a model cannot be named"):
        said("promote 'a b' 3 prod")


def test_doctor_is_well_here_and_changes_nothing(tmp_path: Path) -> None:
    found = said("doctor")
    assert {"Python", "torch", "workspace", "ONNX Runtime"} <= {f.name for f in found.findings}
    assert all(f.fix for f in found.findings if f.verdict.severity > 1)
    assert list(tmp_path.iterdir()) == []
    assert "Python" in text(found)


def test_doctor_finds_a_workspace_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "config.toml").write_text("stroe_url = 'x'\n")
    (bad,) = (f for f in examine().findings if f.name == "workspace")
    assert bad.verdict is Verdict.FAIL
    assert "unknown setting 'stroe_url'" in bad.found
    assert bad.fix == "Did you mean 'store_url'?"
    assert not examine().is_well


def test_doctor_shows_the_worst_first() -> None:
    report = Doctor((Finding("a", Verdict.PASS, "1.0"), Finding("b", Verdict.FAIL, "is not installed", "Install it.")))
    lines = text(report).splitlines()
    assert lines[0].startswith("✕ 1 thing to look at")
    assert lines[2].startswith("✕ failed  b")
    assert "✓ all well" in text(Doctor((Finding("a", Verdict.PASS, "1.0"),)))
