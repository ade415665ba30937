"""What `make demo` does: run the quickstart as `nbops run` would, then say what the workspace remembers of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbops as nb
from nbops.core.display import mimebundle


def newest_step(notebook: Path) -> Any:
    """Return the run of the notebook's latest execution."""
    return nb.find("runs", f'name == "{notebook.stem}" and type == "step"', limit=1)[0]


def models_of(step: Any) -> list[Any]:
    """Return the model versions that the step, or a run inside it, produced."""
    inside = [step, *nb.find("runs", f'parent == "{step.id}"')]
    return [model for run in inside for model in nb.find("models", f'parent == "{run.id}"')]


def spelled(value: Any) -> str:
    """Return a value as one reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def printed(step: Any) -> list[str]:
    """Return the lines that the executed notebook, which the workspace keeps with the step, has printed."""
    ws = nb.workspace()
    (executed,) = nb.find("artifacts", f'parent == "{step.id}" and "executed/" in name', limit=1)
    with ws.artifacts.open(executed.digest) as stream:
        cells = json.load(stream)["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if output.get("name") == "stdout"]
    return [line for output in outputs for line in "".join(output["text"]).splitlines() if line.strip()]


def report(notebook: Path) -> None:
    """Print what was recorded: the step, what it printed and gave out, parity of the models, their lineage."""
    step = newest_step(notebook)
    total = nb.find("runs", f'name == "{notebook.stem}" and type == "step"').total
    print(f"\nrecorded as {step.id}: {step.status}, {step.duration_s:.1f} s, execution {total} of this notebook")
    for line in printed(step):
        print(f"  {line}")
    for name, value in step.context.get("outputs", {}).items():
        print(f"  {name}: {spelled(value)}")
    for model in models_of(step):
        parity, sizes = model.parity, ", ".join(map(str, model.parity["batches"]))
        difference = max((output["max_rel"] for output in parity["outputs"]), default=0.0)
        print(f"\n{model.ref}: parity with {parity['original']}: {parity['verdict']}")
        print(f"  {parity['rows']} rows at batch sizes {sizes}, largest difference {difference:.1e} of scale")
        print("\n".join(f"  {name}: {spelled(value)}" for name, value in model.metrics.items()))
        print(f"\n{mimebundle(nb.lineage(model))['text/plain']}")


def main(notebook: Path) -> int:
    """Execute and report; the exit code is that of the execution."""
    command = [str(Path(sys.executable).with_name("nbops")), "run", str(notebook)]
    print("$ nbops run", notebook, flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        return done.returncode
    report(notebook)
    shown = Path(sys.executable).with_name("jupyter").relative_to(Path.cwd())
    print(f"\nOpen it in JupyterLab, with the side panel:\n  {shown} lab {notebook}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
