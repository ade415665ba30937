"""`nb.check`: run data checks, keep the report, and stop where the data must not pass.

What a check is stands in `leaf`, the checks that ship in `checks`; rules that are data in `suite`.
"""

from __future__ import annotations

import inspect
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nbops.core.errors import CheckFailed, InvalidInput, did_you_mean
from nbops.core.ids import new_id
from nbops.core.query import Compare, Field
from nbops.core.records import CheckReport, CheckResult, Dataset, Link, Verdict, replace
from nbops.data.columns import Frame
from nbops.data.contents import newest
from nbops.data.datasets import find_dataset, is_reference, known_dataset, read_data
from nbops.data.folders.scanning import is_folder
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.data.images.folders import read_pictures
from nbops.data.leaf import IMAGES, LEAKS, SERIES, Check, Located, Sample, checks, result
from nbops.data.profiles.profile import Profile
from nbops.data.profiling import profile_frame
from nbops.data.rules.base import Rule
from nbops.data.rules.judging import judge_all
from nbops.data.series.lines import lines_of
from nbops.data.suite import Suite
from nbops.store.context import current_cell_id, current_run
from nbops.store.using import note_used
from nbops.store.workspace import Workspace, workspace

__all__ = ["check", "checks"]

Wanted = Suite | Sequence[str | Check | Rule] | Mapping[str, Mapping[str, Any]]
Chosen = list[tuple[str, Check, dict[str, Any]]]


def check(
    data: Any, *, suite: Wanted | None = None, baseline: Any = None, label: Any = None, time: str | None = None,
    series: str | Sequence[str] | None = None, name: str = "", environment: str = "",
    on_fail: Literal["report", "raise"] = "report",
) -> CheckReport:  # fmt: skip
    """Check data, record the report and return it.

    Parameters
    ----------
    data
        What `nb.snapshot` takes; or a dataset (``"digits"``, ``"digits/2"``) whose data is stored. Of a folder, the
        pictures in it are checked, with the first folder of their path as the label.
    suite : Suite, list or mapping, optional
        Rules (`nb.Suite`, or a list of them); or names or functions of checks, or names with thresholds:
        ``{"missing-values": {"max_share": 0.05}}``. If None, all checks but those that look for leaks; see `nb.leaks`.
    baseline : Dataset, str, Profile or data, optional
        What to compare with: a snapshot, its name (``"digits"``, ``"digits/1"``), a profile, data, or a folder.
    label : str or array, optional
        Name of the label column, or the labels: [rows]. ``y`` of ``(X, y)`` if None.
    time, series : str, optional
        The column of when a row happened, and the column (or columns) that tells series apart: the checks of series in
        time run as well.
    name : str, optional
        Name of the report; ``dataset/version`` if the data was snapshotted, else ``data``.
    environment : str, optional
        Where the data is used, as ``"serving"``: rules for other environments are skipped.
    on_fail : {"report", "raise"}
        Whether a FAIL or ERROR raises, after the report is recorded.

    Returns
    -------
    CheckReport
        Every result that is no PASS, and one PASS line a check that says how many columns passed.

    Raises
    ------
    CheckFailed
        With ``on_fail="raise"``: names the worst finding.
    NotFound
        An unknown check, label column or dataset.
    InvalidInput
        Data that cannot be read, an unknown threshold, an empty suite.
    """
    check_on_fail(on_fail)
    chosen = chosen_checks(suite, environment)
    started = clock.perf_counter()
    if _is_pictures(data):
        if suite is None:
            chosen = [(one, checks[one], {}) for one in (*IMAGES, "label-imbalance")]
        sample, dataset = _sample_of_pictures(data, baseline=baseline, label=label)
        name = name or (f"{dataset.name}/{dataset.version}" if dataset else Path(data).resolve().name)
        return run_checks(sample, chosen, name=name, on_fail=on_fail, dataset=dataset, started=started)
    sample = _sample(data, baseline=baseline, label=label)
    chosen = _in_time(chosen, sample, time, series, add=suite is None)
    dataset = known_dataset(workspace(), Hashed(sample.frame))
    if dataset is not None and not is_reference(data):
        note_used(dataset, data)
    name = name or (f"{dataset.name}/{dataset.version}" if dataset else "data")
    return run_checks(sample, chosen, name=name, on_fail=on_fail, dataset=dataset, started=started)


def check_on_fail(on_fail: str) -> None:
    """Refuse what is neither ``report`` nor ``raise``."""
    if on_fail not in ("report", "raise"):
        raise InvalidInput(f"on_fail is {on_fail!r}", hint='Use "report" or "raise".')


def run_checks(
    sample: Sample, chosen: Chosen, *, name: str, on_fail: str, started: float, dataset: Dataset | None = None
) -> CheckReport:
    """Run checks on a sample, record the report and return it; see `check`."""
    found = [one for title, leaf, options in chosen for one in _run(title, leaf, sample, options)]
    results = [one.plain() if isinstance(one, Located) else one for one in found]
    report = CheckReport(
        id=new_id(CheckReport.prefix),
        created_at=clock.time(),
        name=name,
        status=_worst(results),
        rows=sample.rows,
        columns=len(sample.columns),
        duration_s=clock.perf_counter() - started,
        results=results,
        dataset=dataset.id if dataset else None,
        parent=current_run(), cell_id=current_cell_id(),
    )  # fmt: skip
    _keep(workspace(), report)
    if on_fail == "raise" and not report.passed:
        raise _failure(report)
    return report


def examine(
    data: Any, *, suite: Wanted | None = None, baseline: Any = None, label: Any = None, environment: str = ""
) -> tuple[Sample, list[CheckResult]]:
    """Return the data as it was read, and the results; those about rows are `Located`. Nothing is recorded."""
    chosen = chosen_checks(suite, environment)
    sample = _sample(data, baseline=baseline, label=label)
    return sample, [found for title, leaf, options in chosen for found in _run(title, leaf, sample, options)]


def _sample(data: Any, *, baseline: Any, label: Any) -> Sample:
    frame = read(read_data(data) if is_reference(data) else data, label=label)
    return Sample(frame, *_baseline(baseline))


def _in_time(
    chosen: Chosen, sample: Sample, time: str | None, series: str | Sequence[str] | None, *, add: bool
) -> Chosen:
    """Tell the checks of series what the columns are, and add them where none was chosen; refuse unknown columns."""
    if time is None:
        if series is not None:
            raise InvalidInput(f"series is {series!r}, but no time is given", hint='Pass time="date" as well.')
        return chosen
    lines_of(sample.frame, time, series)
    given = {"time": time, **({"series": series} if series else {})}
    added: Chosen = [(name, checks[name], {}) for name in SERIES] if add else []
    return [(name, leaf, {**given, **own} if name in SERIES else own) for name, leaf, own in [*chosen, *added]]


def _is_pictures(data: Any) -> bool:
    """Return whether a folder is meant; a bare name that a dataset has is the dataset."""
    if not is_folder(data):
        return False
    is_name = isinstance(data, str) and not Path(data).is_absolute() and len(Path(data).parts) == 1
    if not is_name or data.endswith(("/", "\\")):
        return True
    return newest(workspace(), Compare(Field("name"), "==", data)) is None


def _sample_of_pictures(data: Any, *, baseline: Any, label: Any) -> tuple[Sample, Dataset | None]:
    """Return the pictures of a folder as a sample, and the newest dataset that is this folder."""
    if label is not None:
        raise InvalidInput("a folder of pictures has its labels in its folders", hint="Leave label out.")
    if baseline is not None and not is_folder(baseline):
        raise InvalidInput(f"the baseline of a folder is a folder, not a {type(baseline).__name__}",
                           hint='Pass its path: baseline="train/".')  # fmt: skip
    ws = workspace()
    cache = ws.path / "cache" / "folders"
    frame, found = read_pictures(data, cache=cache)
    other = None if baseline is None else read_pictures(baseline, cache=cache)[0]
    return Sample(frame, reference=other), newest(ws, Compare(Field("digest"), "==", found.digest))


def _keep(ws: Workspace, report: CheckReport) -> None:
    """Write the report, its event and its links."""
    links = []
    if report.dataset:
        links.append(Link(source=report.dataset, relation="checked_by", target=report.id))
    if report.parent:
        links.append(Link(source=report.parent, relation="produced", target=report.id))
    ws.outbox.put(report, links=links, payload={"status": report.status.value, "name": report.name})


def chosen_checks(suite: Wanted | None, environment: str = "") -> Chosen:
    """Return name, function and thresholds of each check to run; refuse what is unknown before anything runs."""
    if suite is None:
        return [(name, checks[name], {}) for name in checks if name not in (*LEAKS, *SERIES, *IMAGES)]
    if isinstance(suite, str | Rule):
        suite = [suite]
    if isinstance(suite, Suite):
        named = chosen_checks(suite.checks, environment) if suite.checks else []
        return [*named, *_rules(suite.rules, environment)]
    if not isinstance(suite, Mapping | Iterable):
        raise InvalidInput(f"a {type(suite).__name__} is no suite", hint="Give a list of names, functions or rules.")
    if not suite:
        raise InvalidInput("the suite is empty", hint=f"Name some of: {', '.join(checks)}.")
    if isinstance(suite, Mapping):
        return [(name, checks[name], _options(name, checks[name], options)) for name, options in suite.items()]
    for item in suite:
        if isinstance(item, type) or not isinstance(item, str | Rule | Callable):
            name = getattr(item, "__name__", type(item).__name__)
            raise InvalidInput(f"{name} in the suite is no check and no rule",
                               hint="Give names or functions of checks, or rules as expect.Unique('id').")  # fmt: skip
    rules = [item for item in suite if isinstance(item, Rule)]
    leaves = [item for item in suite if not isinstance(item, Rule)]
    found: Chosen
    found = [(item, checks[item], {}) if isinstance(item, str) else (_name_of(item), item, {}) for item in leaves]
    return [*found, *_rules(rules, environment)]


def _rules(rules: Sequence[Rule], environment: str) -> Chosen:
    """Return one check a code, which judges all rules of it: what passes is counted on one line."""
    codes: dict[str, list[Rule]] = {}
    for rule in rules:
        codes.setdefault(rule.code, []).append(rule)

    def leaf(sample: Sample, *, of: list[Rule]) -> Iterable[CheckResult]:
        return judge_all(of, sample.facts, environment=environment)

    return [(code, partial(leaf, of=of), {}) for code, of in codes.items()]


def _name_of(leaf: Check) -> str:
    for name, known in checks.items():
        if known is leaf:
            return name
    return getattr(leaf, "__name__", type(leaf).__name__).replace("_", "-")


def _options(name: str, leaf: Check, options: Mapping[str, Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(leaf).parameters)[1:]
    for option in options:
        if option not in parameters:
            hint = did_you_mean(option, parameters) or f"Use some of: {', '.join(parameters) or 'none'}."
            raise InvalidInput(f"check '{name}' has no threshold '{option}'", hint=hint)
    return dict(options)


def _baseline(baseline: Any) -> tuple[Mapping[str, Any] | None, Frame | None]:
    """Return the profile to compare with, and the data itself where it was given."""
    if baseline is None:
        return None, None
    if is_reference(baseline):
        return find_dataset(baseline).profile, None
    if isinstance(baseline, Profile):
        return baseline.to_dict(), None
    frame = read(baseline)
    return profile_frame(frame), frame


def _run(name: str, leaf: Callable[..., Any], sample: Sample, options: Mapping[str, Any]) -> list[CheckResult]:
    """Return the results of one check; its crash is a result too, beside what it had found before."""
    results: list[CheckResult] = []
    try:
        results.extend(_results(leaf(sample, **options), leaf))
    except Exception as error:  # a check is anybody's code: its failure must not cost the other results
        message = f"{type(error).__name__}: {error}"
        results.append(result(Verdict.ERROR, message=message, fix="Mend the check, or leave it out of the suite."))
    return [replace(found, check=name) for found in _collapsed(results)]


def _results(outcome: Any, leaf: Callable[..., Any]) -> Iterable[CheckResult]:
    if isinstance(outcome, CheckResult):
        yield outcome
    elif isinstance(outcome, bool | np.bool_):
        says = (inspect.getdoc(leaf) or "").partition("\n")[0]
        yield result(Verdict.PASS if outcome else Verdict.FAIL, message=says)
    elif isinstance(outcome, Iterable) and not isinstance(outcome, str | bytes | Mapping):
        for item in outcome:
            if not isinstance(item, CheckResult):
                raise TypeError(f"the check gave a {type(item).__name__}, not a result")
            yield item
    else:
        raise TypeError(f"the check returned a {type(outcome).__name__}, not True, False or results")


def _collapsed(results: list[CheckResult]) -> list[CheckResult]:
    """Return what did not pass, worst first, and one line for all columns that passed."""
    passed = [found for found in results if found.verdict is Verdict.PASS and "severity" not in found.evidence]
    others = sorted((f for f in results if f not in passed), key=lambda found: -found.verdict.severity)
    if len(passed) < 2:
        return [*others, *passed] or [result(Verdict.PASS, message="nothing found")]
    values = [found.value for found in passed if found.value is not None]
    line = result(
        Verdict.PASS,
        value=max(values) if values else None,
        limit=passed[0].limit,
        unit=passed[0].unit,
        message=f"{len(passed):,} of {len(results):,} columns pass",
        evidence={"passed": len(passed), "columns": len(results)},
    )
    return [*others, line]


def _worst(results: Sequence[CheckResult]) -> Verdict:
    """Return the worst verdict; a check that does not apply says nothing, unless none does."""
    told = [found.verdict for found in results if found.verdict is not Verdict.SKIPPED]
    return max(told, key=lambda verdict: verdict.severity, default=Verdict.SKIPPED)


def _failure(report: CheckReport) -> CheckFailed:
    bad = [found for found in report.results if found.verdict in (Verdict.FAIL, Verdict.ERROR)]
    worst = max(bad, key=_weight)
    where = f" on column '{worst.column}'" if worst.column else ""
    more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
    verb = "failed" if worst.verdict is Verdict.FAIL else "crashed"
    hint = worst.fix or "Look at the report: nb.find('checks')[0]."
    return CheckFailed(f"check '{worst.check}' {verb}{where}: {worst.message}{more}", hint=hint)


def _weight(found: CheckResult) -> tuple[int, float]:
    """Return the order of badness: a finding in the data before a crash, then how far beyond the limit."""
    if found.value is None or found.limit is None:
        return found.verdict is Verdict.FAIL, 0.0
    return found.verdict is Verdict.FAIL, abs(found.value - found.limit)
