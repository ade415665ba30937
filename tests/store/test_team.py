"""Several people at once: one PostgreSQL for records, one place for files; a workspace folder of one's own each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nbops.core.query import parse
from nbops.core.records import Artifact, Run
from nbops.store.inspection import check_workspace
from nbops.store.workspace import init
from nbops.testing import values_of

PEOPLE, RUNS, POINTS = 3, 3, 50

WORK = f"""
import sys
from nbops.store.workspace import init
from nbops.core.records import Run, RunStatus, replace
from nbops.testing import a_run
folder, store_url, artifacts_url, who = sys.argv[1:]
ws = init(folder, store_url=store_url, artifacts_url=artifacts_url)
for n in range({RUNS}):
    run = a_run(name=f"{{who}}-{{n}}", owner=ws.owner, tags={{"who": who}})
    ws.store.put(run)
    for i in range({POINTS}):
        ws.log(run.id, None, {{"loss": float(i)}})
    ws.save_artifact(b"the same for all", name="shared", parent=run.id)
    ws.save_artifact(f"{{who}} {{n}}".encode(), name="own", parent=run.id)
    ws.store.next_number("model/team")
    ws.flush()
    ws.store.update(Run, run.id, lambda r: replace(r, status=RunStatus.FINISHED))
ws.close()
"""


def work_together(folder: Path, store_url: str, artifacts_url: str) -> None:
    script = folder / "work.py"
    script.write_text(WORK)
    people = []
    for n in range(PEOPLE):
        line = [sys.executable, script, folder / f"p{n}", store_url, artifacts_url, f"p{n}"]
        people.append(subprocess.Popen(line, stderr=subprocess.PIPE))
    for person in people:
        _, said = person.communicate(timeout=120)
        assert person.returncode == 0, said.decode()[-3000:]
    ws = init(folder / "reader", store_url=store_url, artifacts_url=artifacts_url)
    runs = ws.store.find(Run, parse("status == 'FINISHED'"))
    assert sorted(run.name for run in runs) == sorted(f"p{p}-{n}" for p in range(PEOPLE) for n in range(RUNS))
    for run in runs:
        assert values_of(ws.store.points(run.id, "loss")) == [float(i) for i in range(POINTS)]
    files = ws.store.find(Artifact, parse("name == 'own'"))
    assert {ws.artifacts.open(f.digest).read().decode() for f in files} == {
        f"p{p} {n}" for p in range(PEOPLE) for n in range(RUNS)
    }
    assert len(list(ws.artifacts.blobs())) == PEOPLE * RUNS + 1  # what all share lies there once
    assert ws.store.next_number("model/team") == PEOPLE * RUNS + 1
    assert check_workspace(ws).is_well
    ws.close()


@pytest.mark.postgres
def test_a_team_shares_a_folder(tmp_path: Path, postgres_url: str) -> None:
    work_together(tmp_path, postgres_url, str(tmp_path / "team-files"))


@pytest.mark.postgres
@pytest.mark.leaks("s3fs keeps its thread of requests for the whole process")
def test_a_team_shares_a_bucket(tmp_path: Path, postgres_url: str, s3_bucket: str) -> None:
    work_together(tmp_path, postgres_url, f"{s3_bucket}/nbops")
