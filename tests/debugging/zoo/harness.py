"""The command line of the zoo."""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo import report, scoring
from zoo.doctors import DOCTORS
from zoo.pool import VARIANTS, Job, Results, jobs_of, run_all
from zoo.program import Program, load
from zoo.running import Outcome

FOLDER = Path("test-results/zoo")


def chosen(patterns: Sequence[str]) -> list[Program]:
    """Return the programs whose name, family or kind matches one of the patterns; all if there is none."""
    return [
        p for p in load().values()
        if not patterns
        or any(fnmatch.fnmatch(word, one) for word in (p.name, p.family, p.kind or "healthy") for one in patterns)
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a verification failed or a run was lost."""
    parser = argparse.ArgumentParser(prog="zoo", description=__doc__)
    parser.add_argument("what", nargs="?", default="judge", choices=("judge", "verify", "list", "show"))
    parser.add_argument("--only", nargs="+", default=[], metavar="GLOB", help="programs, families or kinds")
    parser.add_argument("--group", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="what the doctor looks at")
    parser.add_argument("--doctor", choices=sorted(DOCTORS), default="both")
    parser.add_argument("--seeds", type=int, help="how many; 3 for sick programs and 5 for healthy ones if not given")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--fixes", action="store_true", help="apply the first patch of each finding, and run again")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results that are kept")
    parser.add_argument("--fresh", action="store_true", help="forget the results that are kept")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    given = parser.parse_args(arguments)
    programs = [p for p in chosen(given.only) if given.what != "judge" or set(p.variants) & set(given.group)]
    if given.what == "list":
        print(report.listing(programs))
        return 0
    if given.what == "show":
        print("\n\n".join(report.source(p) for p in programs))
        return 0
    if given.fresh:
        for doctor in ("none", given.doctor):
            (given.results / f"{doctor}-{_version(doctor)}.jsonl").unlink(missing_ok=True)
    none = _run(jobs_of(programs, doctor="none", seeds=given.seeds), "none", given)
    if given.what == "verify":
        print(report.verification(programs, none))
        return 0 if report.is_verified(programs, none) else 1
    found = _run(jobs_of(programs, doctor=given.doctor, seeds=given.seeds, variants=given.group), given.doctor, given)
    healed = _run(_patched(programs, found), "none", given) if given.fixes else []
    text = report.judgement(programs, none, found, healed)
    print(text)
    if given.markdown:
        given.markdown.write_text(text)
    return 1 if any(outcome.is_lost for outcome in [*found, *healed]) else 0


def _patched(programs: Sequence[Program], found: Sequence[Outcome]) -> list[Job]:
    by_name = {p.name: p for p in programs}
    jobs = []
    for outcome in found:
        program = by_name[outcome.program]
        cell = scoring.first_patch(program.cell, outcome) if outcome.variant == "sick" else None
        if cell is not None:
            jobs.append(Job(program, "patched", outcome.seed, "none", cell))
    return jobs


def _version(doctor: str) -> str:
    """Return a digest of the code that results depend on besides the program: helpers, and nbops for its doctors."""
    here = Path(__file__).parent
    files = [here / name for name in ("data.py", "worlds.py", "running.py")]
    if doctor != "none":
        import nbops.debugging

        files += [here / "doctors.py", *sorted(Path(nbops.debugging.__path__[0]).rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]


def _run(jobs: Iterable[Job], doctor: str, given: argparse.Namespace) -> list[Outcome]:
    path = given.results / f"{doctor}-{_version(doctor)}.jsonl"
    if doctor != "none":
        import nbops.debugging.watch  # noqa: F401 - loaded before the processes fork
    done = [0]

    def tell(outcome: Outcome) -> None:
        done[0] += 1
        if sys.stderr.isatty():
            print(f"\r{doctor}: {done[0]} {outcome.program} {outcome.variant}\033[K", end="", file=sys.stderr)

    return run_all(jobs, results=Results(path), workers=given.jobs, tell=tell)
