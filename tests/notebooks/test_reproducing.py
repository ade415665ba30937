"""A real kernel records a notebook; another process judges, executes and restores it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

import nbops as nb
from nbops.pipelines.captured import checkout
from nbops.store.workspace import Workspace

pytestmark = pytest.mark.leaks("jupyter_client's blocking client keeps an event loop until the process ends")
CELLS = [
    ("load", "%load_ext nbops\nimport nbops as nb"),
    ("rate", "rate = 0.5\nprint('rate', rate)"),
    ("twice", "rate = rate * 2"),
    ("train", "%%mlops run fit\nnb.log(loss=rate)"),
]


@pytest.fixture
def client(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingKernelClient]:
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "work.ipynb"))
    manager, client = start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    manager.context.destroy(linger=0)


def execute(client: BlockingKernelClient, *ids: str) -> None:
    """Execute cells as JupyterLab does, with their ids."""
    for id in ids:
        content = {"code": dict(CELLS)[id], "silent": False, "store_history": True, "stop_on_error": True}
        message = client.session.msg("execute_request", content, metadata={"cellId": id})
        client.shell_channel.send(message)
        while True:
            reply = client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                assert reply["content"]["status"] == "ok", reply["content"]
                break


def save(path: Path) -> None:
    """Write the notebook's file as JupyterLab does."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": id, "metadata": {}, "outputs": [], "source": source, "execution_count": n}
        for n, (id, source) in enumerate(CELLS, 1)
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def test_a_clean_notebook(client: BlockingKernelClient, tmp_path: Path) -> None:
    save(tmp_path / "work.ipynb")
    execute(client, "load", "rate", "twice", "train")
    assert nb.reproducible("fit").verdict
    assert nb.verify("fit", progress=False).verdict
    notebook = json.loads(checkout("fit").read_text())
    assert [cell["id"] for cell in notebook["cells"]] == ["load", "rate", "twice", "train"]
    assert "".join(notebook["cells"][1]["outputs"][0]["text"]) == "rate 0.5\n"
    assert nb.rerun("fit", rate=0.1, progress=False).metrics == {"loss": 0.2}


def test_hidden_state(client: BlockingKernelClient, tmp_path: Path) -> None:
    save(tmp_path / "work.ipynb")
    execute(client, "load", "rate", "twice", "twice", "train")
    found = nb.reproducible("fit")
    assert found.reasons == ["cell [4] ran 2 times and each time changed 'rate', which it starts from"]
    check = nb.verify("fit", progress=False)
    assert check.reasons == ("'loss' (last) was 2 and is 1", *found.reasons)
