"""The proving ground: its programs are whole, its judge is fair, and a few programs of each kind run as declared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import report, scoring
from zoo.causes import CAUSES
from zoo.doctors import DOCTORS, Doctor, Found
from zoo.program import PROGRAMS, BrokenDeclaration, Cell, Program, WatchCall, load, replace_watch, swap
from zoo.running import Outcome, run

from nbops.core.records import Diagnosis

ROOT = Path(__file__).parents[2]

load()
SICK = [p for p in PROGRAMS.values() if p.is_sick]
HEALTHY = [p for p in PROGRAMS.values() if not p.is_sick]


def outcome(program: Program, variant: str = "sick", *, score: float = 0.0, found: tuple[Found, ...] = ()) -> Outcome:
    digest = program.version(variant).digest
    return Outcome(program.name, variant, 0, "watch", digest, score=score, found=[*found])


# ---- the programs ----------------------------------------------------------------------------------------------------


def test_there_are_enough_programs_of_every_kind() -> None:
    assert len(SICK) >= 90
    assert len(HEALTHY) >= 40
    assert {p.kind for p in SICK} == {"crash", "invariant", "statistic"}
    assert len({p.family for p in SICK}) >= 10


def test_every_cause_has_a_program() -> None:
    assert set(CAUSES) - {cause for p in SICK for cause in p.causes} == set()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda p: p.name)
def test_program_is_whole(program: Program) -> None:
    """It says what is wrong, attaches where a user would, ends with a score; its twin differs from it and compiles."""
    assert program.about.endswith(".")
    for variant in program.variants:
        source = program.version(variant).source
        compile(source, program.name, "exec")
        assert "lab.watch(" in source
        assert "lab.score(" in source
    if program.is_sick:
        assert program.twin.source != program.cell.source
        assert program.causes
        assert program.places
    if program.kind in ("invariant", "statistic"):
        assert program.cell.marked
        assert program.margin > 0 or program.metric in ("loss", "error")


@pytest.mark.parametrize("name", ["no-step", "column-against-row", "labels-from-one", "decay-of-one"])
def test_sick_program_is_sick_and_its_twin_is_not(name: str) -> None:
    program = PROGRAMS[name]
    runs = {(name, variant, 0): run(program, variant, seed=0, doctor=Doctor()) for variant in program.variants}
    assert report.failures(program, runs) == []


# ---- under the debugger ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["optimizer-of-an-older-model", "infinite-target", "born-dead"])
def test_watch_finds_it(name: str) -> None:
    """Detected in time at its place, and the twin is left in peace."""
    program = PROGRAMS[name]
    ill = run(program, "sick", seed=0, doctor=DOCTORS["watch"]())
    verdict = scoring.judge(program, ill, program.cell)
    assert ill.notes == []
    assert verdict.is_in_time, report.told_of(ill)
    assert verdict.is_place_right, report.told_of(ill)
    well = run(program, "twin", seed=0, doctor=DOCTORS["watch"]())
    assert scoring.alarms(well) == []
    assert scoring.works(program, well)


@pytest.mark.parametrize(
    "name",
    ["dense-classifier", "accumulation", "scaler-that-skips", "closures-of-lbfgs", "low-rank-adapters"],
)
def test_watch_leaves_the_healthy_in_peace(name: str) -> None:
    """No alarm, no error of the watch itself, and the same score as without it."""
    program = PROGRAMS[name]
    alone = run(program, "healthy", seed=0, doctor=Doctor())
    watched = run(program, "healthy", seed=0, doctor=DOCTORS["watch"]())
    assert scoring.works(program, alone)
    assert scoring.alarms(watched) == []
    assert watched.notes == []
    assert watched.score == alone.score


# ---- the judge -------------------------------------------------------------------------------------------------------


def test_edit_that_fits_nowhere_or_twice_is_refused() -> None:
    with pytest.raises(BrokenDeclaration, match="0 times"):
        swap("lr=0.1", "lr=0.2").apply("x = 1")
    with pytest.raises(BrokenDeclaration, match="2 times"):
        swap("x", "y").apply("x = x")


def test_watch_line_is_replaced_on_its_line() -> None:
    source = "a = 1\nif a:\n    lab.watch(net, opt, loss=F.mse_loss)\nb = 2"
    calls: list[WatchCall] = []

    def render(call: WatchCall) -> str:
        calls.append(call)
        return "nb.watch(net)"

    assert replace_watch(source, render) == "a = 1\nif a:\n    nb.watch(net)\nb = 2"
    assert calls == [WatchCall("net", "opt", "F.mse_loss", "")]


def test_broken_program_is_named_and_not_counted() -> None:
    program = PROGRAMS["no-step"]
    good = [outcome(program, "sick", score=0.1), outcome(program, "twin", score=0.99)]
    bad = [outcome(program, "sick", score=0.99), outcome(program, "twin", score=0.99)]
    found = [outcome(program, "sick", found=(Found("no-update", "error", layer="optimizer"),))]
    assert "| **all** | 1 | 100% |" in report.judgement([program], good, found)
    told = report.judgement([program], bad, found)
    assert "| **all** | 0 |" in told
    assert "- no-step: seed 0 sick: score 0.99" in told


def test_lost_run_is_named_and_not_counted_as_a_miss() -> None:
    program = PROGRAMS["no-step"]
    good = [outcome(program, "sick", score=0.1), outcome(program, "twin", score=0.99)]
    lost = outcome(program, "sick")
    lost.error = "Lost: TypeError: not serializable"
    told = report.judgement([program], good, [lost])
    assert "| **all** | 0 |" in told
    assert "- no-step sick seed 0: Lost: TypeError: not serializable" in told


def test_errors_of_a_report_are_findings_and_no_failure_of_the_doctor() -> None:
    """Whatever a doctor hands back can be written as JSON, or the run would be lost."""

    class Report:
        def __init__(self, found: list[Diagnosis]) -> None:
            self.findings = self.errors = found

    one = Diagnosis(
        id="dg_1", created_at=0.0, name="shape-mismatch", status="error", step=-1, layer="fc1", measured=None,
        limit=None, what="It does not fit.", why="", fix="", confidence=0.9, phase="preflight",
    )  # fmt: skip
    found, notes = DOCTORS["preflight"]().leave([Report([one])])
    assert notes == []
    assert [f.name for f in found] == ["shape-mismatch"]
    json.dumps(outcome(PROGRAMS["no-step"], found=(*found,)).as_dict())


def test_verdict_needs_the_declared_cause_place_and_time() -> None:
    program = PROGRAMS["optimizer-of-an-older-model"]
    right = Found("no-update", "error", step=3, layer="optimizer", causes=["optimizer-of-other-parameters"])
    verdict = scoring.judge(program, outcome(program, found=(right,)), program.cell)
    assert (verdict.is_in_time, verdict.is_cause_first, verdict.is_cause_shown, verdict.is_place_right) == (True,) * 4
    late = Found("unheard-of", "warning", step=400, layer="nowhere")
    verdict = scoring.judge(program, outcome(program, found=(late,)), program.cell)
    assert verdict.is_detected
    assert not any([verdict.is_in_time, verdict.is_cause_first, verdict.is_cause_shown, verdict.is_place_right])
    hint = Found("no-update", "hint", step=3, layer="optimizer")
    assert not scoring.judge(program, outcome(program, found=(hint,)), program.cell).is_detected


def test_unknown_text_of_a_cause_keeps_its_place() -> None:
    assert scoring.causes_of(Found("unheard-of", "error", causes=["It rained"])) == ["? It rained"]
    assert scoring.causes_of(Found("unheard-of", "error")) == ["? unheard-of"]


def test_place_may_be_the_marked_line() -> None:
    program = PROGRAMS["relu-on-the-output"]
    number = program.cell.marked[0]
    assert scoring.is_place_right(program, Found("x", "error", layer="elsewhere", line=number), program.cell)
    assert not scoring.is_place_right(program, Found("x", "error", layer="elsewhere", line=number + 1), program.cell)


@pytest.mark.parametrize(
    ("patch", "line", "expected"),
    [
        ("-b = 2\n+b = 3", None, "a = 1\nif a:\n    b = 3"),
        (" a = 1\n+c = 0", None, "a = 1\nc = 0\nif a:\n    b = 2"),
        ("b = 5", 3, "a = 1\nif a:\n    b = 5"),
        ("b = (", 3, None),
        ("b = 5", None, None),
        ("-nothing like it\n+b = 3", None, None),
    ],
)
def test_patches_are_applied(patch: str, line: int | None, expected: str | None) -> None:
    done = scoring.patched(Cell("a = 1\nif a:\n    b = 2"), patch, line=line)
    assert (done and done.source) == expected


def test_declared_fix_is_a_patch_that_makes_the_twin() -> None:
    program = PROGRAMS["no-step"]
    done = scoring.patched(program.cell, scoring.as_patch(program.fix, program.cell.source))
    assert done is not None
    assert done.source == program.twin.source


def test_command_prints_the_table(tmp_path: Path) -> None:
    """One program in processes of its own; a second call takes what the first one kept."""
    command = [
        sys.executable, "-m", "tests.debugging.zoo", "--only", "optimizer-of-an-older-model", "--seeds", "1",
        "--doctor", "watch", "--results", str(tmp_path / "kept"), "--markdown", str(tmp_path / "table.md"),
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        assert "| **all** | 1 | 100% | 100% | 100% | 100% | 100% |" in done.stdout
        assert done.stdout.strip() == (tmp_path / "table.md").read_text().strip()
    kept = [file.read_text().splitlines() for file in (tmp_path / "kept").glob("*.jsonl")]
    assert sorted(map(len, kept)) == [2, 2]
