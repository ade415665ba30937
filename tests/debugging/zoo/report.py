"""What the command line prints: lists, the verification of the programs, and the judgement of a doctor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from zoo import scoring
from zoo.doctors import Found
from zoo.program import Program
from zoo.running import Outcome
from zoo.scoring import Verdict

_LONG_ENOUGH_S = 1.0  # of processor time, for an overhead that means something


def listing(programs: Sequence[Program]) -> str:
    """Return one line per program."""
    return "\n".join(f"{p.family:14} {p.kind or 'healthy':10} {p.name:40} {p.about}" for p in programs)


def source(program: Program) -> str:
    """Return a program's cell, and what its twin changes."""
    patch = scoring.as_patch(program.fix, program.cell.source)
    return f"# {program.name}: {program.about}\n{program.cell.source}" + (f"\n\n# twin\n{patch}" if patch else "")


def by_run(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, int], Outcome]:
    """Return outcomes by program, variant and seed."""
    return {(o.program, o.variant, o.seed): o for o in outcomes}


def failures(program: Program, runs: dict[tuple[str, str, int], Outcome]) -> list[str]:
    """Return what a program does otherwise than it declares, one line each."""
    found = []
    for (name, variant, seed), outcome in runs.items():
        if name != program.name:
            continue
        told = f"seed {seed} {variant}: score {outcome.score:.4g} {outcome.error[:120]}"
        if variant != "sick" and not scoring.works(program, outcome):
            found.append(told)
        if variant == "sick" and not scoring.misbehaves(program, outcome, runs[name, "twin", seed]):
            found.append(told)
    return found


def is_verified(programs: Sequence[Program], outcomes: Iterable[Outcome]) -> bool:
    """Return whether every program does what it declares, on every seed."""
    runs = by_run(outcomes)
    return not any(failures(p, runs) for p in programs)


def verification(programs: Sequence[Program], outcomes: Sequence[Outcome]) -> str:
    """Return the table of scores of all programs and twins over their seeds."""
    runs = by_run(outcomes)
    rows = []
    for p in programs:
        mine = [o for o in outcomes if o.program == p.name]
        sick = [o for o in mine if o.variant == "sick"]
        good = [o for o in mine if o.variant != "sick"]
        bad = failures(p, runs)
        rows.append([
            p.family, p.name, p.kind or "healthy", p.metric, _scores(sick), _scores(good), f"{p.margin or p.works:g}",
            f"{max(o.steps for o in good)}", f"{max(o.seconds for o in mine):.1f}", "; ".join(bad) or "ok",
        ])  # fmt: skip
    head = ["family", "program", "kind", "score", "sick", "twin or healthy", "margin", "steps", "s", "verified"]
    good = sum(row[-1] == "ok" for row in rows)
    total = sum(o.seconds for o in outcomes)
    return f"{table(head, rows)}\n\n{good} of {len(rows)} verified; {len(outcomes)} runs, {total:.0f} s in all\n"


def _scores(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return ""
    if all(o.error for o in outcomes):
        return outcomes[0].error.split(":")[0]
    return " ".join("error" if o.error else f"{o.score:.3g}" for o in outcomes)


def judgement(
    programs: Sequence[Program], none: Sequence[Outcome], found: Sequence[Outcome], healed: Sequence[Outcome] = ()
) -> str:
    """Return the tables of what a doctor found on sick programs, and of its alarms on the others, as Markdown.

    Programs that do not do what they declare are named, and count nowhere. `healed` are the runs of patched programs.
    """
    runs = by_run(none)
    broken = {p.name: bad for p in programs if (bad := failures(p, runs))}
    programs = [p for p in programs if p.name not in broken]
    lost = [o for o in [*found, *healed] if o.is_lost]
    found = [o for o in found if not o.is_lost]
    verdicts = [
        (p, o, scoring.judge(p, o, p.version(o.variant), _healed(p, o, runs, by_run(healed))))
        for p in programs for o in found if o.program == p.name
    ]  # fmt: skip
    sick = [v for v in verdicts if v[1].variant == "sick"]
    rest = [v for v in verdicts if v[1].variant != "sick"]
    parts = [f"## Sick programs under `{found[0].doctor}`\n" if found else "", _by_family(sick)]
    parts += ["\n## By kind\n", _table_of(sick, lambda p: p.kind)]
    parts += ["\n## Alarms on healthy runs\n", _alarms(rest)]
    parts += ["\n## Cost\n", _cost(none, found)]
    parts += ["\n## Misses\n", _misses(sick), "\n## False alarms\n", _false(rest)]
    parts += ["\n## Names that table.py does not know\n", _unknown(sick)]
    lines = [f"- {name}: {'; '.join(bad)}" for name, bad in broken.items()]
    parts += ["\n## Not counted: programs that do not do what they declare\n", "\n".join(lines) or "None."]
    parts += ["\n## Not counted: runs that were lost\n"]
    parts += ["\n".join(f"- {o.program} {o.variant} seed {o.seed}: {o.error}" for o in lost) or "None."]
    return "\n".join(parts) + "\n"


Judged = tuple[Program, Outcome, Verdict]
Runs = dict[tuple[str, str, int], Outcome]


def _healed(program: Program, outcome: Outcome, none: Runs, healed: Runs) -> bool:
    after = healed.get((program.name, "patched", outcome.seed))
    key = (program.name, "twin", outcome.seed), (program.name, "sick", outcome.seed)
    return after is not None and scoring.heals(program, after, none[key[0]], none[key[1]])


def _misses(judged: Sequence[Judged]) -> str:
    """Return what was found instead, for each sick run that lacks detection, time, cause or place."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for program, outcome, verdict in judged:
        lacks = [
            word for word, holds in (
                ("detection", verdict.is_detected), ("time", verdict.is_in_time), ("cause", verdict.is_cause_shown),
                ("first", verdict.is_cause_first), ("place", verdict.is_place_right),
            ) if not holds
        ]  # fmt: skip
        if lacks:
            instead = told_of(outcome)
            hints = [one.name for one in outcome.found if one.status == "hint"]
            instead += f" (hints: {', '.join(dict.fromkeys(hints))})" if hints else ""
            lacking = "detection" if "detection" in lacks else ", ".join(lacks)
            about = f"{program.name} ({program.kind}, by {program.by})"
            key = (about, ", ".join(program.causes), ", ".join(program.places), lacking, instead)
            rows.setdefault(key, []).append(str(outcome.seed))
    if not rows:
        return "None."
    head = ["program", "cause", "place", "seeds", "lacks", "found instead"]
    return table(head, [[*key[:3], " ".join(seeds), *key[3:]] for key, seeds in rows.items()])


def told_of(outcome: Outcome) -> str:
    """Return the findings that a person sees, in one line."""
    return "; ".join(map(_told, scoring.alarms(outcome)[: scoring.SHOWN])) or "nothing"


def _told(found: Found) -> str:
    causes = ", ".join(scoring.causes_of(found)[: scoring.SHOWN])
    place = found.layer + (f" line {found.line} `{found.code.strip()}`" if found.line else "")
    return f"{found.status} {found.name} [{place}] step {found.step}: {causes}"


def _false(judged: Sequence[Judged]) -> str:
    """Return the alarms on programs that are in order, one line for each program and rule."""
    rows: dict[tuple[str, str, str, str], tuple[list[str], str]] = {}
    for program, outcome, _ in judged:
        for one in scoring.alarms(outcome):
            key = (program.name, outcome.variant, one.status, one.name)
            seeds, _what = rows.setdefault(key, ([], f"[{one.layer}] step {one.step}: {one.what}"))
            seeds.append(str(outcome.seed))
    if not rows:
        return "None."
    head = ["program", "version", "status", "rule", "seeds", "first"]
    return table(head, [[*key, " ".join(dict.fromkeys(seeds)), what] for key, (seeds, what) in rows.items()])


def _unknown(judged: Sequence[Judged]) -> str:
    """Return rules and texts of causes that no id stands for: lines that `zoo.table` may want."""
    seen: dict[str, int] = {}
    for _, outcome, _verdict in judged:
        for one in scoring.alarms(outcome):
            for cause in scoring.causes_of(one):
                if cause.startswith("?"):
                    name = f"`{one.name}`: {cause[2:]}"
                    seen[name] = seen.get(name, 0) + 1
    return "\n".join(f"- {name} ({n})" for name, n in sorted(seen.items(), key=lambda i: (-i[1], i[0]))) or "None."


def _by_family(judged: Sequence[Judged]) -> str:
    return _table_of(judged, lambda p: p.family)


def _table_of(judged: Sequence[Judged], key: Callable[[Program], str]) -> str:
    groups: dict[str, list[Verdict]] = {}
    for program, _, verdict in judged:
        groups.setdefault(key(program), []).append(verdict)
    rows = [[name, *_shares(verdicts)] for name, verdicts in groups.items()]
    rows.append(["**all**", *_shares([v for _, _, v in judged])])
    return table(["family", "runs", "detected", "in time", "cause first", "cause in three", "place", "fix"], rows)


def _shares(verdicts: Sequence[Verdict]) -> list[str]:
    names = ("is_detected", "is_in_time", "is_cause_first", "is_cause_shown", "is_place_right", "is_healed")
    return [str(len(verdicts)), *(_share(getattr(v, name) for v in verdicts) for name in names)]


def _share(values: Iterable[bool]) -> str:
    given = list(values)
    return f"{sum(given) / len(given):.0%}" if given else "—"


def _alarms(judged: Sequence[Judged]) -> str:
    rows = []
    for variant in ("twin", "healthy"):
        mine = [v for _, o, v in judged if o.variant == variant]
        rows.append([
            variant, str(len(mine)), _share(v.errors > 0 for v in mine), _share(v.errors + v.warnings > 0 for v in mine)
        ])  # fmt: skip
    return table(["runs of", "number", "with an error", "with any alarm"], rows)


def _cost(none: Sequence[Outcome], found: Sequence[Outcome]) -> str:
    """Return the processor time of training under the doctor over that without, of programs that take a second."""
    alone = by_run(none)
    ratios, changed = [], []
    for o in found:
        before = alone.get((o.program, o.variant, o.seed))
        if before is None or before.error or o.error:
            continue
        if before.cpu_s >= _LONG_ENOUGH_S:
            ratios.append(o.cpu_s / before.cpu_s)
        if not (o.score == before.score or math.isnan(before.score)):
            changed.append(f"{o.program} {o.variant} {o.seed}")
    lines = [
        f"Runs whose score the doctor changed: {len(changed)}" + (f" ({', '.join(changed[:8])})" if changed else "")
    ]
    if ratios:
        lines.append(f"Processor time of {len(ratios)} runs of a second or more: median {median(ratios) - 1:+.1%}.")
    failed = [f"{o.program} {o.variant} {o.seed}: {note}" for o in found for note in o.notes]
    lines += [f"Errors of the doctor itself: {len(failed)}", *failed[:8]]
    return "\n\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in line) + " |" for line in lines
    )
