"""Importing from each format: everything is there, bit for bit; twice adds nothing; what is damaged is told."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nbops.cli import main
from nbops.core.display import mimebundle
from nbops.core.errors import CorruptData, InvalidInput, NotFound, StoreError
from nbops.core.records import Run, RunStatus
from nbops.store.maintenance import trashed
from nbops.store.workspace import Workspace
from nbops.tracking.exchange.importers.leaf import importer_for, importers
from nbops.tracking.exchange.importing import import_runs
from nbops.tracking.reading import find, lineage, series
from nbops.tracking.trashing import trash

WHERE = {
    "mlflow-database": "mlflow.db",
    "mlflow-files": "mlruns",
    "tensorboard": "tensorboard",
    "trackio": "trackio.db",
    "wandb": "wandb",
}
# from what was logged when the samples were made: metric -> (steps, values)
LOSS = {"mlflow": "loss", "tensorboard": "loss/train", "trackio": "loss", "wandb": "loss"}
ODD = {
    "mlflow": {"bad": ([1, 2, 0], [math.nan, math.inf, -math.inf])},
    "tensorboard": {"odd": ([5, 7, 2], [math.nan, math.inf, -math.inf])},
    "trackio": {"bad": ([9], [math.nan]), "worse": ([9], [math.inf]), "low": ([9], [-math.inf])},
    "wandb": {"bad": ([9], [math.nan]), "worse": ([9], [math.inf]), "low": ([9], [-math.inf])},
}


def points(run: Run, metric: str) -> tuple[list[int], list[float]]:
    found = series(run, metric)
    return found.steps.tolist(), found.values.tolist()


def main_run(tool: str) -> Run:
    return next(run for run in find("runs", f'tags.imported_from == "{tool}"') if LOSS[tool] in run.summary)


def content(ws: Workspace) -> list[Any]:
    runs = ws.store.find(Run)
    # as text: a NaN equals no other
    return [(repr(run), [series(run, metric).values.tobytes() for metric in run.summary]) for run in runs]


def test_every_format_has_a_sample() -> None:
    assert set(importers) == set(WHERE)
    for leaf in importers.values():
        assert "What it reads" in str(leaf.__doc__)


@pytest.mark.parametrize("format", WHERE)
def test_all_points_come_bit_for_bit_with_steps_and_times(workspace: Workspace, samples: Path, format: str) -> None:
    report = import_runs(samples / WHERE[format])
    tool = importers[format].tool
    assert report.is_well
    assert report.title == f"import from {tool}"
    run = main_run(tool)
    steps, values = points(run, LOSS[tool])
    count = 5 if tool == "wandb" else 4
    exact = [1 / (i + 1) for i in range(count)]
    assert steps == list(range(count))
    assert values == ([1.0, 0.5, 0.3333333432674408, 0.25] if tool == "tensorboard" else exact)
    for metric, (odd_steps, odd_values) in ODD[tool].items():
        found = points(run, metric)
        assert found[0] == odd_steps
        assert str(found[1]) == str(odd_values)
    times = series(run, LOSS[tool]).times_ms.tolist()
    assert times == sorted(times)
    assert times[0] > 1_600_000_000_000
    assert report.counts["points"] == sum(s.count for r in workspace.store.find(Run) for s in r.summary.values())


@pytest.mark.parametrize("format", WHERE)
def test_a_second_import_adds_nothing(workspace: Workspace, samples: Path, format: str) -> None:
    first = import_runs(samples / WHERE[format])
    before, event = content(workspace), workspace.store.last_event()
    again = import_runs(samples / WHERE[format])
    assert again.counts == {"runs": 0, "already there": first.counts["runs"]}
    assert again.left_out == first.left_out
    assert content(workspace) == before
    assert workspace.store.last_event() == event


@pytest.mark.parametrize("format", ["mlflow-database", "mlflow-files"])
def test_mlflow_keeps_its_names_parents_notes_and_files(workspace: Workspace, samples: Path, format: str) -> None:
    report = import_runs(samples / WHERE[format])
    assert report.counts["runs"] == 2
    assert any("deleted" in line for line in report.left_out)
    run, (child,) = main_run("mlflow"), find("runs", 'name == "child"')
    assert run.name == "parent run: a long name " + "with many words " * 8
    assert run.params == {"lr": "0.1", "multi": "a: b\n# c"}
    assert run.tags["team"] == "x"
    assert run.tags["experiment"] == "digits"
    assert len(run.tags["original_id"]) == 32
    assert (run.created_at, run.ended_at, run.status) == (1700000000.123, 1700000009.0, RunStatus.FINISHED)
    assert (child.status, child.tags["original_status"], child.note) == (RunStatus.INTERRUPTED, "KILLED", "a note")
    assert child.parent == run.id
    assert points(run, "sub/acc") == ([0], [0.5])
    (file,) = find("artifacts", f'parent == "{run.id}"')
    assert (file.name, workspace.artifacts.read(file.digest)) == ("deep/f.txt", b"hello artifact\n")
    assert {node.id for node in lineage(run).nodes} >= {child.id, file.id}


def test_wandb_keeps_config_notes_tags_summary_and_files(workspace: Workspace, samples: Path) -> None:
    (samples / "wandb" / "files" / "requirements.txt").unlink()
    report = import_runs(samples / "wandb" / "run-abc123.wandb")
    run = main_run("wandb")
    assert (run.name, run.note, run.status) == ("ünder run", "a note", RunStatus.FINISHED)
    assert run.params == {"lr": 0.1, "deep.a": [1, 2], "opt": "adam", "late": True}
    assert run.tags["original_id"] == "digits/abc123"
    assert (run.tags["wandb.group"], run.tags["first"], run.tags["summary.best"]) == ("g1", "true", "0.25")
    assert points(run, "nested.inner")[1] == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert [a.name for a in find("artifacts")] == ["note.txt"]
    assert sum("which is no number" in line for line in report.left_out) == 2
    assert report.problems == ("run-abc123.wandb: the file 'requirements.txt' is not beside it",)


def test_tensorboard_keeps_folders_texts_hparams_and_doubles(workspace: Workspace, samples: Path) -> None:
    report = import_runs(samples / "tensorboard")
    assert {run.name for run in find("runs")} == {"fit", "fit/hp"}
    assert report.left_out == ("fit: 'h' is a histogram and was left out",)
    run, (hp,) = main_run("tensorboard"), find("runs", 'name == "fit/hp"')
    assert hp.params == {"lr": 0.1, "opt": "adam", "nest": 1.0}
    assert points(run, "dbl") == ([3], [0.1])
    assert points(run, "new_style") == ([3], [0.10000000149011612])
    (text,) = find("artifacts", f'parent == "{run.id}"')
    assert b"hello *there*" in workspace.artifacts.read(text.digest)
    assert import_runs(samples / "tensorboard" / "fit").counts["runs"] == 0  # another root, the same runs


def test_trackio_keeps_config_and_project(workspace: Workspace, samples: Path) -> None:
    report = import_runs(samples / "trackio.db")
    run = main_run("trackio")
    assert (run.name, run.params, run.tags["experiment"]) == ("run-a", {"lr": 0.1, "deep.a": 1}, "trackio")
    assert any("'word' is no number" in line for line in report.left_out)


def test_what_was_logged_since_is_added(workspace: Workspace, samples: Path) -> None:
    import_runs(samples / "mlruns")
    run = main_run("mlflow")
    file = next((samples / "mlruns").rglob("metrics/loss"))
    with file.open("a") as stream:
        stream.write("1700000002004 0.125 4\n")
    report = import_runs(samples / "mlruns")
    assert (report.counts["runs"], report.counts["points"]) == (1, 1)
    assert points(run, "loss")[1][-2:] == [0.25, 0.125]


def test_a_damaged_file_gives_what_is_before_the_damage_and_is_told(workspace: Workspace, samples: Path) -> None:
    path = samples / "wandb" / "run-abc123.wandb"
    path.write_bytes(path.read_bytes()[:-600])
    report = import_runs(path)
    assert not report.is_well
    assert "is cut" in report.problems[0]
    assert points(main_run("wandb"), "loss")[1][:2] == [1.0, 0.5]
    assert main_run("wandb").status is RunStatus.INTERRUPTED
    line = next((samples / "mlruns").rglob("metrics/loss"))
    line.write_text("1700000002000 1.0 0\nbroken\n1700000002002 0.5 2\n")
    meta = next((samples / "mlruns").glob("0/meta.yaml"))
    meta.write_text("a: [")
    told = import_runs(samples / "mlruns")
    assert [p for p in told.problems if "line 2 of the metric 'loss'" in p]
    assert [p for p in told.problems if "meta.yaml cannot be read" in p]
    assert points(main_run("mlflow"), "loss") == ([0, 2], [1.0, 0.5])


def test_empty_sources_are_told(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "events.out.tfevents.1").write_bytes(b"")
    assert import_runs(tmp_path / "in").problems == ("in holds no event",)
    (tmp_path / "run.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    assert import_runs(tmp_path / "run.wandb").problems == ("run.wandb holds no run",)


def test_files_elsewhere_and_missing_parents_are_told(workspace: Workspace, samples: Path) -> None:
    with sqlite3.connect(samples / "mlflow.db") as connection:
        connection.execute("UPDATE runs SET artifact_uri = 's3://bucket/x' WHERE name = 'child'")
        connection.execute("DELETE FROM runs WHERE name LIKE 'parent%'")
    connection.close()
    problems = import_runs(samples / "mlflow.db").problems
    assert any("s3://bucket were not fetched" in line for line in problems)
    assert any("is not among the runs" in line for line in problems)


def test_secrets_are_redacted_and_names_bounded(workspace: Workspace, samples: Path) -> None:
    folder = next((samples / "mlruns").rglob("params/lr")).parent
    (folder / "api_key").write_text("hunter2")
    import_runs(samples / "mlruns")
    assert main_run("mlflow").params["api_key"] == "[redacted]"


def test_what_is_in_the_trash_stays_there(workspace: Workspace, samples: Path) -> None:
    import_runs(samples / "trackio.db")
    trash("run-a")
    assert import_runs(samples / "trackio.db").counts == {"runs": 0, "in the trash": 1}
    assert find("runs").total == 0
    assert len(trashed(workspace.store)) == 1


def test_a_source_that_fits_nothing_or_two_things_is_refused(workspace: Workspace, samples: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        import_runs(samples / "nowhere")
    (samples / "plain.txt").write_text("x")
    with pytest.raises(InvalidInput, match="no format"):
        import_runs(samples / "plain.txt")
    with pytest.raises(InvalidInput, match="more than one") as caught:
        import_runs(samples)
    assert "wandb" in caught.value.hint
    assert import_runs(samples, format="tensorboard").counts["runs"] == 2
    with pytest.raises(NotFound, match="no importer 'wandbb'"):
        importer_for("x", "wandbb")


def test_a_wrong_format_or_database_is_said(workspace: Workspace, samples: Path) -> None:
    with pytest.raises(CorruptData, match="no file store"):
        import_runs(samples / "tensorboard", format="mlflow-files")
    with pytest.raises(CorruptData, match="no database of MLflow"):
        import_runs(samples / "trackio.db", format="mlflow-database")
    with pytest.raises(StoreError, match="cannot read the database"):
        import_runs("postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.postgres
def test_mlflow_on_postgresql(workspace: Workspace, samples: Path, postgres_url: str) -> None:
    import psycopg

    source = sqlite3.connect(samples / "mlflow.db")
    address = postgres_url.replace("+psycopg", "")
    with psycopg.connect(address) as target:
        for table in ("experiments", "runs", "params", "metrics", "tags"):
            (sql,) = source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            sql = sql.replace("BOOLEAN DEFAULT '0'", "BOOLEAN DEFAULT false").replace(
                ", \n\tCHECK (is_nan IN (0, 1))", ""
            )
            target.execute(sql)
            for row in source.execute(f"SELECT * FROM {table}"):
                values = [bool(v) if table == "metrics" and n == 5 else v for n, v in enumerate(row)]
                target.execute(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", values)
    source.close()
    import_runs(samples / "mlflow.db")
    before = content(workspace)
    report = import_runs(address)  # the same runs, from the other database
    assert report.counts == {"runs": 0, "already there": 2}
    assert content(workspace) == before


def test_a_report_shows_counts_and_problems(workspace: Workspace, samples: Path) -> None:
    shown = mimebundle(import_runs(samples / "tensorboard"))
    assert "import from tensorboard" in shown["text/plain"]
    assert "runs 2" in shown["text/plain"]
    assert "is a histogram" in shown["text/html"]


def test_the_verbs_and_the_command_line(
    workspace: Workspace, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(samples / "tensorboard")]) == 0  # what is left out on purpose is no failure
    assert "runs 2" in capsys.readouterr().out
    assert main(["import", str(samples / "tensorboard"), "--format", "tensorboard", "--json"]) == 0
    assert '"already there": 2' in capsys.readouterr().out
    assert main(["import", str(samples / "nowhere")]) == 1
    assert main(["export", str(tmp_path / "out"), "name == 'fit'", "--format", "mlflow"]) == 0
    assert "runs 1" in capsys.readouterr().out
