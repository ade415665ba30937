"""The card of a bundle: what the model is, what it was made from, how closely it matches, how it is called."""

from __future__ import annotations

import time
from typing import Any

from nbops.core.query import Compare, Field
from nbops.core.records import Dataset, Run, Signature
from nbops.data.splits.sealing import looks_at, looks_of, say_optimism
from nbops.models.parity import ParityReport
from nbops.models.signature import describe
from nbops.store.workspace import Workspace


def write_card(
    ws: Workspace, *, name: str, model: Any, run: Run | None, signature: Signature, metrics: dict[str, float],
    parity: ParityReport, environment: dict[str, Any], created_at: float,
) -> str:  # fmt: skip
    """Return the card as Markdown."""
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(created_at))
    made = f"run `{run.name}` (`{run.id}`)" if run else "no recorded run"
    lines = [f"# {name}", "", f"{_what(model)}, registered on {day} from {made}.", "", "## Data", ""]
    lines += [f"- `{d.name}` version {d.version}: {d.rows:,} rows, sha256 `{d.digest[:12]}…`" for d in _data(ws, run)]
    lines += [] if lines[-1] else ["No data is recorded with it: name it with `nb.run(data=…)`."]
    lines += ["", "## Metrics", ""]
    lines += [f"- {key}: {value:.6g}" for key, value in sorted(metrics.items())] or ["None were given."]
    lines += _looks(ws, run)
    lines += ["", "## Parity", "", f"{parity.verdict.value}: {parity.message}.", ""]
    for figures in parity.outputs:
        changed = figures.argmax_changed_share
        flips = "" if changed is None else f", argmax changed in {changed:.2%} of rows"
        lines.append(
            f"- `{figures.name}` ({figures.dtype}): largest difference {figures.max_abs:.3g}, "
            f"{figures.max_rel:.2e} of scale (allowed {figures.tolerance:g}){flips}"
        )
    lines += ["", "## Inputs and outputs", ""]
    lines += [f"- input `{spec.name}`: {describe(spec.dtype, spec.shape)}" for spec in signature.inputs]
    lines += [f"- output `{spec.name}`: {describe(spec.dtype, spec.shape)}" for spec in signature.outputs]
    one = "rows" if len(signature.inputs) == 1 else f"{{{', '.join(f'{s.name!r}: …' for s in signature.inputs)}}}"
    lines += ["", "## How to call it", "", "```python", "import nbops as nb", "",
              f'with nb.load("{name}") as model:', f"    answer = model.predict({one})", "```"]  # fmt: skip
    versions = ", ".join(f"{key} {value}" for key, value in environment["libraries"].items())
    lines += ["", "## Made with", "", f"Python {environment['python']} on {environment['platform']}; {versions}.", ""]
    return "\n".join(lines)


def _what(model: Any) -> str:
    if not hasattr(model, "parameters"):
        return "An ONNX model exported elsewhere"
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"A `{type(model).__name__}` with {count:,} parameters"


def _looks(ws: Workspace, run: Run | None) -> list[str]:
    """Return how often the sealed test sets were looked at that the run looked at."""
    looks = {look.digest: look for look in looks_of(ws, run.id)} if run else {}
    counts = [(look, looks_at(ws, digest)) for digest, look in looks.items()]
    return [
        line
        for look, count in counts
        for line in (
            "",
            f"The sealed test set of split `{look.split_name}` was looked at {count} times before. "
            f"{say_optimism(count, look.rows)}",
        )
    ]


def _data(ws: Workspace, run: Run | None) -> list[Dataset]:
    if run is None:
        return []
    ids = tuple(link.source for link in ws.store.links(run.id) if link.relation == "used_by" and link.target == run.id)
    return ws.store.find(Dataset, Compare(Field("id"), "in", ids)) if ids else []
