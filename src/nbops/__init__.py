"""nbops: an MLOps suite that lives inside Jupyter.

This file is a table of public names and nothing else: each name is imported from
the module that defines it at first use (PEP 562), so ``import nbops`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> defining module
_NAMES = {
    # workspace
    "init": "nbops.store.workspace",
    "audit": "nbops.store.auditing",
    "workspace": "nbops.store.workspace",
    # runs
    "run": "nbops.tracking.runs",
    "start": "nbops.tracking.runs",
    "end": "nbops.tracking.runs",
    "log": "nbops.tracking.runs",
    "log_series": "nbops.tracking.runs",
    "log_params": "nbops.tracking.runs",
    "log_artifact": "nbops.tracking.runs",
    "log_confusion": "nbops.tracking.confusion",
    "seed": "nbops.tracking.machine.seeding",
    # reading
    "find": "nbops.tracking.reading",
    "series": "nbops.tracking.reading",
    "lineage": "nbops.tracking.reading",
    "reproducible": "nbops.tracking.code.reproducibility",
    "diff": "nbops.tracking.code.differences",
    "compare": "nbops.tracking.comparing.comparison",
    # in and out, and looking after the workspace
    "import_runs": "nbops.tracking.exchange.importing",
    "export_runs": "nbops.tracking.exchange.exporting",
    "trash": "nbops.tracking.trashing",
    "restore": "nbops.tracking.trashing",
    "purge": "nbops.tracking.trashing",
    # data
    "snapshot": "nbops.data.datasets",
    "split": "nbops.data.splits.making",
    "leaks": "nbops.data.leakage.finding",
    "check": "nbops.data.checking",
    "checks": "nbops.data.checking",
    "label": "nbops.data.labels.labelling",
    "labels": "nbops.data.labels.labelset",
    "label_issues": "nbops.data.labels.confident",
    "agreement": "nbops.data.labels.agreement",
    "combine_labels": "nbops.data.labels.combining",
    "profile": "nbops.data.profiles.making",
    "overview": "nbops.data.overviews.making",
    "dive": "nbops.data.diving.dive",
    "drift": "nbops.data.drifting.running",
    "expect": "nbops.data.suite",
    "Suite": "nbops.data.suite",
    "quarantine": "nbops.data.quarantining",
    "learn": "nbops.data.learning",
    # debugging
    "preflight": "nbops.debugging.preflight.running",
    "preflight_space": "nbops.debugging.preflight.spaces",
    "watch": "nbops.debugging.watch",
    "rules": "nbops.debugging.rules",
    "memory": "nbops.debugging.memory.estimating",
    "replay": "nbops.debugging.blackbox.replay",
    "diagnose": "nbops.debugging.trying.diagnosing",
    # models
    "register": "nbops.models.registering",
    "load": "nbops.models.loading",
    "promote": "nbops.models.aliases",
    "rollback": "nbops.models.aliases",
    "parity": "nbops.models.parity",
    "exporters": "nbops.models.exporters",
    # serving
    "serve": "nbops.serving.endpoints",
    "endpoints": "nbops.serving.endpoints",
    "attach": "nbops.serving.endpoints",
    # pipelines
    "run_notebook": "nbops.pipelines.steps",
    "output": "nbops.pipelines.steps",
    "verify": "nbops.pipelines.verifying",
    "rerun": "nbops.pipelines.verifying",
    # errors
    "NbopsError": "nbops.core.errors",
}

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        from nbops.core.errors import did_you_mean

        hint = did_you_mean(name, _NAMES)
        raise AttributeError(f"module 'nbops' has no attribute '{name}'" + (f". {hint}" if hint else ""))
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext nbops``: add ``%mlops`` and record executed cells."""
    from nbops.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext nbops``: restore everything that loading changed."""
    from nbops.magics import unload

    unload(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "nbops"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "nbops"}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    from nbops.server import setup

    setup(server_app)
