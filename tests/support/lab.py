"""A real JupyterLab server for browser tests, and a workspace with something to see."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbops.core.ids import new_id
from nbops.core.records import (
    Alias,
    Cell,
    Dataset,
    Diagnosis,
    Endpoint,
    Failure,
    ModelVersion,
    Run,
    RunStatus,
    Signature,
    TensorSpec,
)
from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

BUNDLE = Path(__file__).resolve().parents[2] / "src" / "nbops" / "labextension"
BASE_URL = "/user/alice/"
START_S = 90


@dataclass
class LabServer:
    """A running server: where it is, and the folder it serves."""

    process: subprocess.Popen[bytes]
    url: str  # ends with the base_url
    token: str
    root: Path
    log: Path

    @property
    def workspace_path(self) -> Path:
        """The workspace that its panel reads."""
        return self.root / ".nbops"

    def page(self, path: str = "lab") -> str:
        """Return the address of a page, with the token."""
        return f"{self.url}{path}?token={self.token}"

    def stop(self) -> None:
        """End the server and its kernels."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(root: Path, home: Path, *, extension: bool = True) -> LabServer:
    """Start JupyterLab, with the pages of Notebook 7, in `root` under a base_url, with settings of its own in `home`.

    Parameters
    ----------
    root : Path
        The folder to serve.
    home : Path
        Where Jupyter keeps configuration, data and its log for this server.
    extension : bool
        False starts it without nbops' server extension, but with the panel.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = "browser-test-token"
    log = home / "server.log"
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", f"--ServerApp.base_url={BASE_URL}",
        f"--IdentityProvider.token={token}",
        "--expose-app-in-browser", "--JupyterNotebookApp.expose_app_in_browser=True",
        f"--ServerApp.jpserver_extensions=nbops={extension}",
    ]  # fmt: skip
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=root, env=_environment(home), stdout=stream, stderr=stream)
    server = LabServer(process, f"http://127.0.0.1:{port}{BASE_URL}", token, root, log)
    _wait_until_up(server)
    return server


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of the user's Jupyter is seen or changed."""
    settings = home / "settings"
    notification = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    notification.parent.mkdir(parents=True, exist_ok=True)
    notification.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
    share = home / "share"
    (share / "labextensions").mkdir(parents=True, exist_ok=True)
    link = share / "labextensions" / "nbops"
    if not link.exists():
        link.symlink_to(BUNDLE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NBOPS_", "JPY_"))}
    return environment | {
        "JUPYTER_PATH": str(share),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }


def _wait_until_up(server: LabServer) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(server.page("api/status"), timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            if server.process.poll() is not None:
                break
            time.sleep(0.1)
    server.stop()
    raise RuntimeError(f"the server did not start:\n{server.log.read_text()[-4000:]}")


def has_bundle() -> bool:
    """Tell whether the front end is built."""
    return (BUNDLE / "package.json").exists()


def axe_script() -> Path | None:
    """Return axe-core's program, which comes with the front end's development packages."""
    path = Path(__file__).resolve().parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
    return path if path.exists() else None


def node_program() -> str | None:
    """Return Node."""
    return shutil.which("node")


# ---- pages ----------------------------------------------------------------------------------------------------------


def wait_until_restored(page: Page) -> None:
    """Wait until a front end has restored its layout."""
    page.wait_for_function("window.jupyterapp && window.jupyterapp.restored", timeout=60_000)
    page.evaluate("window.jupyterapp.restored.then(() => null)")


def run_command(page: Page, name: str, **arguments: Any) -> None:
    """Run a command of a front end and wait for its end; what it returns, often a widget, stays in the page."""
    run = "([name, arguments]) => window.jupyterapp.commands.execute(name, arguments).then(() => null)"
    page.evaluate(run, [name, arguments])


def set_theme(page: Page, *, dark: bool) -> None:
    """Change the theme of JupyterLab."""
    theme = "JupyterLab Dark" if dark else "JupyterLab Light"
    run_command(page, "apputils:change-theme", theme=theme)
    page.wait_for_selector(f"body[data-jp-theme-light='{'false' if dark else 'true'}']", state="attached")


# ---- something to see -----------------------------------------------------------------------------------------------


def add_run(workspace: Workspace, name: str, **fields: Any) -> Run:
    """Store a run and return it."""
    fields.setdefault("created_at", time.time())
    run = Run(id=new_id(Run.prefix), name=name, **fields)
    workspace.store.put(run)
    return run


def seed_many(workspace: Workspace, count: int) -> None:
    """Store `count` small runs that ended yesterday or before."""
    chance = random.Random(0)
    now = time.time() - 86_400
    states = [RunStatus.FINISHED, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.SUPERSEDED]
    for start in range(0, count, 1000):
        with workspace.store.transaction():
            for i in range(start, min(start + 1000, count)):
                began = now - 60.0 * (count - i)
                add_run(workspace, f"sweep-{i:05d}", status=chance.choice(states), created_at=began,
                        ended_at=began + chance.uniform(1, 50), params={"lr": chance.choice([0.1, 0.01])})  # fmt: skip


def seed_story(workspace: Workspace) -> dict[str, Run]:
    """Store a small story: data, a good run that became a served model, a run that broke, one that runs."""
    now = time.time()
    good = add_run(
        workspace, "digits-cnn", status=RunStatus.FINISHED, created_at=now - 7_300, ended_at=now - 7_166,
        cell_id="3f1c9a2e-7d41", params={"lr": 0.001, "epochs": 12, "batch_size": 64, "optimizer": "adam",
        "layers": [32, 64, 128], "augment": True}, tags={"team": "vision", "stage": "candidate"},
        note="Baseline with a wider second block.",
    )  # fmt: skip
    chance = random.Random(1)
    for step in range(1500):
        fall = 2.3 * math.exp(-step / 220)
        workspace.log(good.id, step, {
            "loss": fall + 0.05 + 0.06 * chance.random() + (1.4 if step == 620 else 0.0),
            "acc": 0.985 - 0.88 * math.exp(-step / 180) + 0.01 * chance.random(),
            "grad_norm": 10 ** (1.2 - step / 420 + 0.25 * chance.random()),
        })  # fmt: skip
        if step % 25 == 0:
            workspace.log(good.id, step, {
                "val_loss": fall + 0.10 + 0.00003 * step, "val_acc": 0.9713 - 0.87 * math.exp(-step / 190),
            })  # fmt: skip
    _add_cells(workspace, good)
    workspace.save_artifact(b"0" * 182_044, name="confusion-matrix.png", parent=good.id)
    workspace.save_artifact(b"1" * 4_120, name="report.html", parent=good.id)
    _add_lineage(workspace, good, now)
    broken = _add_broken(workspace, now)
    running = add_run(workspace, "digits-cnn-wide", created_at=now - 95, params={"lr": 0.0005})
    for step in range(60):
        workspace.log(running.id, step, {"loss": 2.0 / (1 + step / 9), "acc": 0.9 - 0.8 / (1 + step / 9)})
    workspace.flush()
    return {"good": good, "broken": broken, "running": running}


def _add_cells(workspace: Workspace, run: Run) -> None:
    sources = [
        "import nbops as nb\nfrom sklearn.datasets import load_digits",
        'data = nb.snapshot(frame, "digits")',
        "# train\nfor epoch in range(epochs):\n    train_one(net, loader)",
        'nb.register(net, "digits", example=x[:2])',
    ]
    for i, source in enumerate(sources):
        workspace.store.put(
            Cell(id=new_id("cell"), created_at=run.created_at + i, parent=run.id, cell_id=f"c0ffee-{i}",
                 execution_count=i + 4, source_digest=str(i), source=source,
                 duration_s=[0.61, 0.042, 131.8, 1.9][i])
        )  # fmt: skip


def _add_lineage(workspace: Workspace, run: Run, now: float) -> None:
    shape = [TensorSpec(name="x", dtype="float32", shape=[-1, 1, 8, 8])]
    records = [
        Dataset(id=new_id("ds"), created_at=now - 8_000, name="digits", version=4, digest="d", rows=1797),
        ModelVersion(id=new_id("mv"), created_at=now - 7_100, name="digits", number=3, digest="m", size_bytes=98_304,
                     signature=Signature(inputs=shape, outputs=shape), parent=run.id, metrics={"acc": 0.9713}),
        Endpoint(id=new_id("ep"), created_at=now - 7_000, name="digits", url="http://127.0.0.1:1", status="READY",
                 pid=1, models=["digits/3"], ref="digits@prod"),
        Alias(id=new_id("al"), created_at=now - 7_050, name="digits@prod", model="digits", alias="prod", number=3),
    ]  # fmt: skip
    for record in records:
        workspace.store.put(record)
    data, model, endpoint, _ = records
    for source, relation, target in (
        (data.id, "used_by", run.id), (run.id, "produced", model.id), (model.id, "served_by", endpoint.id),
    ):  # fmt: skip
        workspace.store.link(source, relation, target)


def _add_broken(workspace: Workspace, now: float) -> Run:
    error = Failure(
        type="FloatingPointError", message="loss is NaN at step 412: block3.conv produced 3.1e38",
        cell_id="3f1c9a2e-7d41", line=18,
        traceback="Traceback (most recent call last):\n  Cell In[7], line 18\n    step(x, y)\nFloatingPointError: …",
    )  # fmt: skip
    run = add_run(workspace, "digits-lr-0.5", status=RunStatus.FAILED, created_at=now - 3_600, ended_at=now - 3_581,
                  cell_id="3f1c9a2e-7d41", error=error, params={"lr": 0.5, "epochs": 12})  # fmt: skip
    for step in range(440):
        workspace.log(run.id, step, {"loss": math.nan if step >= 412 or 200 <= step < 230 else 2.3 + step / 300})
    workspace.store.put(
        Cell(id=new_id("cell"), created_at=now - 3_600, parent=run.id, cell_id="3f1c9a2e-7d41", execution_count=7,
             source_digest="0", source="for x, y in loader:\n    loss = step(x, y)", duration_s=19.2, status="error",
             error=error)
    )  # fmt: skip
    found = Diagnosis(id=new_id("dg"), created_at=now - 3_582, name="non-finite", status="error", step=412,
                      layer="block3.conv", measured=3.1e38, limit=None, what="the loss became NaN", why="", fix="",
                      confidence=0.9, parent=run.id)  # fmt: skip
    workspace.store.put(found)
    workspace.store.link(run.id, "found", found.id)
    return run
