"""Real kernels: a watch that lasts as long as its cell, an interrupted training, a pause that another process ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

import nbops as nb
from nbops.store.workspace import Workspace

SETUP = """
%load_ext nbops
import nbops as nb, torch, warnings
from torch import nn
from torch.nn import functional as F
original = torch.autograd.backward
net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), 0.1)
def fit(steps, nan_at=-1):
    for step in range(steps):
        opt.zero_grad()
        x = torch.randn(16, 8) * (float("nan") if step == nan_at else 1)
        F.cross_entropy(net(x), torch.zeros(16, dtype=torch.long)).backward()
        opt.step()
def hooks():
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
"""

PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def kernel(workspace: Workspace) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    manager.context.destroy(linger=0)


def send(client: BlockingKernelClient, code: str, *, somebody: bool = False) -> str:
    """Send a cell as JupyterLab does, with somebody before the screen or without."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": somebody, "stop_on_error": True}
    message = client.session.msg("execute_request", content, metadata={"cellId": "cell-1"})
    client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def reply(client: BlockingKernelClient, sent: str) -> dict[str, Any]:
    while True:
        found = client.get_shell_msg(timeout=120)
        if found["parent_header"].get("msg_id") == sent:
            content: dict[str, Any] = found["content"]
            return content


def ran(client: BlockingKernelClient, code: str) -> None:
    found = reply(client, send(client, code))
    if found["status"] == "aborted":  # it came while the kernel threw away what waited behind an error
        found = reply(client, send(client, code))
    assert found["status"] == "ok", found


def shown(client: BlockingKernelClient, sent: str) -> str:
    """Return the text that a cell put out."""
    text = ""
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != sent:
            continue
        content = message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return text
        text += content.get("text", "") if message["msg_type"] == "stream" else ""
        text += content.get("data", {}).get("text/plain", "") if "data" in content else ""


@pytest.mark.leaks("the first kernel of a process leaves a pair of sockets until the process ends")
def test_a_watch_lasts_as_long_as_its_cell(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    ran(client, SETUP)
    sent = send(client, "%%mlops watch net\nassert hooks() > 0\nfit(5)\n6 * 7")
    assert reply(client, sent)["status"] == "ok"
    text = shown(client, sent)
    assert "5 steps" in text
    assert "42" in text
    ran(client, "assert hooks() == 0 and torch.autograd.backward is original")
    for _ in range(3):
        ran(client, "%%mlops watch net\nfit(2)\ncount = hooks()")
    ran(client, "%mlops watch net\ncount = hooks()")
    ran(client, "for _ in range(50): get_ipython().run_line_magic('mlops', 'watch net')\nassert hooks() == count")
    ran(client, "%unload_ext nbops\n")


def test_an_interrupted_cell_lets_go(kernel: tuple[KernelManager, BlockingKernelClient], workspace: Workspace) -> None:
    manager, client = kernel
    ran(client, SETUP)
    sent = send(client, "%%mlops watch net\nopen('began', 'w').close()\nfit(10_000_000)")
    began = workspace.path.parent / "began"
    while not began.exists():
        time.sleep(0.02)
    time.sleep(0.3)
    manager.interrupt_kernel()
    found = reply(client, sent)
    assert (found["status"], found["ename"]) == ("error", "KeyboardInterrupt")
    ran(client, "assert hooks() == 0 and torch.autograd.backward is original")


def test_a_failing_cell_lets_go_and_shows_what_was_found(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    ran(client, SETUP)
    sent = send(client, "%%mlops watch net --on-error stop\nfit(5, nan_at=2)")
    assert reply(client, sent)["ename"] == "TrainingStopped"
    assert "non-finite-loss" in shown(client, sent)
    ran(client, "assert hooks() == 0\nfound = nb.replay()\nassert found.op == 'aten.addmm' and found.step == 2, found")


def displays(client: BlockingKernelClient, sent: str) -> list[tuple[str, str, str]]:
    """Return what a cell displayed: kind of message, id, text."""
    found = []
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != sent:
            continue
        content = message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return found
        if message["msg_type"] in ("display_data", "update_display_data"):
            id = content["transient"]["display_id"]
            found.append((message["msg_type"], id, content["data"]["text/plain"]))


def test_a_figure_is_drawn_again_under_the_cell_that_trains(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    ran(client, SETUP)
    ran(client, "w = nb.watch(net, sample_every=1)")
    ids = set()
    for cell in range(2):
        sent = send(client, "fit(300)", somebody=True)
        assert reply(client, sent)["status"] == "ok"
        shown_there = displays(client, sent)
        kinds = [kind for kind, _, _ in shown_there]
        assert kinds == ["display_data", *["update_display_data"] * (len(kinds) - 1)]
        assert len(kinds) >= 2  # the first step that was measured, and the last one
        assert len({id for _, id, _ in shown_there}) == 1
        ids.add(shown_there[0][1])
        assert f"{300 * (cell + 1)} steps" in shown_there[-1][2]
        assert "gradient rms" in shown_there[-1][2]
    assert len(ids) == 2
    sent = send(client, "6 * 7", somebody=True)
    assert displays(client, sent) == []
    sent = send(client, "w.close()\nquiet = nb.watch(net, live=False)\nfit(5)\nquiet.close()", somebody=True)
    assert displays(client, sent) == []
    ran(client, "assert hooks() == 0 and 'Live' not in str(get_ipython().events.callbacks['post_run_cell'])")


def test_a_finding_is_muted_from_a_cell(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    ran(client, SETUP)
    sent = send(client, "%mlops watch-mute non-finite-gradient --layer '*'\n%mlops watch-mute non-finite-loss")
    assert "– muted  non-finite-loss, everywhere" in shown(client, sent)
    sent = send(client, "%%mlops watch net --on-error stop\nfit(5, nan_at=2)")
    assert reply(client, sent)["status"] == "ok"
    assert "muted" in shown(client, sent)
    ran(client, "assert all(p.isfinite().all() for p in net.parameters())")
    ran(client, "%mlops watch-mute non-finite-loss --undo")
    sent = send(client, "%%mlops watch net --on-error stop\nfit(5, nan_at=2)")
    assert reply(client, sent)["ename"] == "TrainingStopped"


def test_a_remedy_is_tried_before_it_is_advised(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    """The cell of the loop runs again in a child: from the first weights, and without a word in this notebook."""
    _, client = kernel
    ran(client, SETUP)
    ran(client, "torch.manual_seed(0)\nx, y = torch.randn(64, 8), torch.randint(0, 2, (64,))\ncount = 0")
    ran(client, "warnings.simplefilter('ignore')\nfor p in net.parameters():\n    torch.nn.init.normal_(p, 0, 0.3)")
    body = "loss = F.cross_entropy(net(x), y)\n    print(step)\n    loss.backward()\n    opt.step()\n    count += 1"
    ran(client, f"%%mlops watch net\nopt = torch.optim.SGD(net.parameters(), 5.0)\nfor step in range(40):\n    {body}")
    ran(client, "before = [p.detach().clone() for p in net.parameters()]")
    sent = send(client, "%mlops diagnose --steps 20")
    assert reply(client, sent)["status"] == "ok"
    text = shown(client, sent)
    assert "fix of grads-not-cleared" in text
    assert "as it is" in text
    assert "opt.zero_grad()" in text
    ran(client, "assert count == 40 and all(torch.equal(a, b) for a, b in zip(before, net.parameters()))")


def test_a_remedy_becomes_the_next_cell(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, client = kernel
    ran(client, SETUP)
    ran(client, "warnings.simplefilter('ignore')\nw = nb.watch(net)\nfit(5, nan_at=2)\nw.close()")
    found = reply(client, send(client, "code = w.insert('non-finite-loss')"))
    [payload] = found["payload"]
    assert (payload["source"], payload["replace"]) == ("set_next_input", False)
    assert payload["text"].startswith("# non-finite-loss at step 2 in ")


@pytest.mark.parametrize("ending", ["", "\nw.close()"])
def test_papermill_keeps_one_figure(workspace: Workspace, tmp_path: Path, ending: str) -> None:
    cells = [nbformat.v4.new_code_cell(SETUP), nbformat.v4.new_code_cell(
        f"w = nb.watch(net, sample_every=1)\nfit(60){ending}")]  # fmt: skip
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=PYTHON), tmp_path / "fit.ipynb")
    done = papermill("fit.ipynb", "out.ipynb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [output] = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[1].outputs
    assert output.output_type == "display_data"
    assert "60 steps · 60 measured" in output.data["text/plain"]
    assert "● training" not in output.data["text/plain"]
    assert "data:image/png;base64," in output.data["text/html"]
    assert "<script" not in output.data["text/html"]


def papermill(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", *words, "--no-progress-bar"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def control(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nbops", "watch-control", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_paused_cell_is_continued_by_another_process(
    kernel: tuple[KernelManager, BlockingKernelClient], workspace: Workspace
) -> None:
    _, client = kernel
    ran(client, SETUP)
    code = (
        "run = nb.start('paused')\nwatch = nb.watch(net)\nwatch.break_if('step == 3')\nfit(6)\n"
        "rate = opt.param_groups[0]['lr']\nwatch.close()\nnb.end();"
    )
    sent = send(client, code, somebody=True)
    until = time.monotonic() + 60
    while not any(e.kind == "watch.changed" for e in workspace.store.events(limit=10_000)):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "applied" in control("paused", "set-lr", "0.01")
    assert "applied" in control("paused", "resume")
    assert reply(client, sent)["status"] == "ok"
    ran(
        client,
        "assert rate == 0.01 and watch.steps == 6 and [c.what for c in watch.changes] == ['pause', 'lr', 'resume']",
    )
    [run] = nb.find("runs")
    changes = [e for e in workspace.store.events(subject=run.id, limit=10_000) if e.kind == "watch.changed"]
    assert [(e.payload["what"], e.payload["step"]) for e in changes] == [("pause", 3), ("lr", 3), ("resume", 3)]
    assert "is FINISHED" in control("paused", "pause")
    assert "needs a number" in control("paused", "set-lr")


def test_a_pause_where_nobody_answers_stops(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    """As in papermill, which takes no input."""
    _, client = kernel
    ran(client, SETUP)
    sent = send(client, "%%mlops watch net --on-error pause\nwarnings.simplefilter('ignore')\nfit(5, nan_at=2)")
    found = reply(client, sent)
    assert found["ename"] == "TrainingStopped"
    assert "Nobody can answer here" in found["evalue"]


def test_two_cells_that_trained_are_compared_layer_by_layer(
    kernel: tuple[KernelManager, BlockingKernelClient], workspace: Workspace
) -> None:
    _, client = kernel
    ran(client, SETUP)
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        ran(client, f"torch.manual_seed({seed})\nfor m in net[::2]: m.reset_parameters()\ntorch.manual_seed(5)")
        ran(client, f"nb.start('{name}')\nwatch = nb.watch(net)\nfit(12)\nwatch.close()\nnb.end()")
    same = shown(client, send(client, "%mlops diff first second"))
    assert "agree bit for bit" in same
    other = shown(client, send(client, "%mlops diff first third --tolerance 0.01"))
    assert "First to part is layer 0 at step 0 (activation " in " ".join(other.split())
