"""Pausing, changing and stopping a training through a real Jupyter server, while a thread trains a torch model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from people import People
from tornado.httpclient import HTTPClientError

import nbops as nb
from nbops.core.errors import StopAsked
from nbops.core.records import Run, RunStatus
from nbops.core.watches import WatchState
from nbops.server.backend import Backend
from nbops.store.auditing import walk

Ask = Callable[..., Awaitable[tuple[int, Any]]]
ROLES = '[roles]\nanna = "approver"\nbert = "editor"\n'
DIES = """
import os, sys, nbops as nb, torch
net = torch.nn.Linear(2, 1)
run = nb.start("doomed")
watch = nb.watch(net)
print(run.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    app = {"jpserver_extensions": {"nbops": True, "jupyter_server_terminals": False}}
    return {"ServerApp": {**app, "identity_provider_class": People}}


@pytest.fixture
def config(jp_root_dir: Path) -> Path:
    (jp_root_dir / ".nbops").mkdir(exist_ok=True)
    path = jp_root_dir / ".nbops" / "config.toml"
    path.write_text(ROLES)
    return path


@pytest.fixture
def ask(jp_fetch: Callable[..., Awaitable[Any]], config: Path) -> Ask:
    """Ask about the watch of a run in somebody's name; return the status and the JSON, also for an error."""

    async def call(who: str, method: str, run: str, fields: Any = None, **params: str) -> tuple[int, Any]:
        body = None if method in ("GET", "DELETE") else fields if isinstance(fields, bytes) else json.dumps(fields)
        try:
            answer = await jp_fetch(
                "nbops", "api", "v1", "runs", run, "watch", method=method, body=body, params=params,
                headers={"Authorization": f"Person {who}"},
            )  # fmt: skip
        except HTTPClientError as error:
            return error.code, json.loads(error.response.body) if error.response is not None else None
        return answer.code, json.loads(answer.body)

    return call


class Training:
    """A loop in a thread, which ends when a test ends; `steps` grows while it goes on."""

    def __init__(self) -> None:
        self.net = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01)
        self.steps = 0
        self.error: BaseException | None = None
        self.is_over = threading.Event()
        self.ready = threading.Event()
        self.run: Any = None
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        try:
            with nb.run("training") as self.run, nb.watch(self.net, pause_s=600) as self.watch:
                self.ready.set()
                while not self.is_over.is_set():
                    self.optimizer.zero_grad()
                    self.net(torch.randn(8, 4)).square().mean().backward()
                    self.optimizer.step()
                    self.steps += 1
                    time.sleep(0.002)
        except StopAsked as error:
            self.error = error


@pytest.fixture
def training(config: Path, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """A watched training in the workspace of the server."""
    monkeypatch.setenv("NBOPS_USER", "kernel")
    nb.init(config.parent)
    torch.manual_seed(0)
    made = Training()
    made.thread.start()
    assert made.ready.wait(60)
    yield made
    made.is_over.set()
    if made.thread.is_alive():
        made.watch.resume()
    made.thread.join()
    nb.workspace().close()


async def until(ask: Ask, run: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask until the state is as wanted."""
    end = time.monotonic() + 60
    while True:
        status, found = await ask("vera", "GET", run)
        assert status == 200
        if holds(found):
            return dict(found)
        assert time.monotonic() < end, found


async def test_an_editor_pauses_changes_and_stops_a_training(ask: Ask, training: Training, backend: Backend) -> None:
    run = training.run.id
    state = await until(ask, run, lambda found: found["heard"])
    assert (state["watches"][0]["status"], state["watches"][0]["model"], state["may"]) == ("open", "Linear", False)

    status, sent = await ask("bert", "POST", run, {"command": "pause"})
    assert (status, sent["name"], sent["actor"]) == (200, "pause", "bert")
    state = await until(ask, run, lambda found: found["watches"][0]["status"] == "paused")
    watch = state["watches"][0]
    assert (watch["actor"], watch["note"], watch["lr"]) == ("bert", "asked by bert", 0.01)
    stood = training.steps
    assert watch["step"] == stood

    assert (await ask("bert", "POST", run, {"command": "set-lr", "value": 0.5}))[0] == 200
    state = await until(ask, run, lambda found: found["watches"][0]["lr"] == 0.5)
    assert training.optimizer.param_groups[0]["lr"] == 0.5
    assert state["watches"][0]["status"] == "paused"
    assert training.steps == stood

    assert (await ask("anna", "POST", run, {"command": "resume"}))[0] == 200
    await until(ask, run, lambda found: found["watches"][0]["status"] == "open" and training.steps > stood)

    assert (await ask("anna", "POST", run, {"command": "stop"}))[0] == 200
    training.thread.join()
    assert "by anna" in str(training.error)
    state = await until(ask, run, lambda found: found["watches"][0]["status"] == "closed")
    assert [(c["what"], c["by"]) for c in state["changes"]] == [
        ("pause", "bert"), ("lr", "bert"), ("resume", "anna"), ("stop", "anna"),
    ]  # fmt: skip
    assert [(c["name"], c["status"]) for c in state["commands"]] == [
        ("stop", "applied"), ("resume", "applied"), ("set-lr", "applied"), ("pause", "applied"),
    ]  # fmt: skip
    assert not state["heard"]
    seen = backend.workspace()
    assert seen is not None
    assert seen.store.get(Run, run).status is RunStatus.INTERRUPTED
    assert walk(seen.store).is_whole
    given = [event for event in seen.store.events(limit=100_000) if event.kind == "command.created"]
    assert [event.actor for event in given] == ["bert", "bert", "anna", "anna"]
    changed = [event.payload for event in seen.store.events(subject=run) if event.kind == "watch.changed"]
    assert [(one["what"], one["by"]) for one in changed] == [
        ("pause", "bert"), ("lr", "bert"), ("resume", "anna"), ("stop", "anna"),
    ]  # fmt: skip
    status, told = await ask("anna", "POST", run, {"command": "pause"})
    assert status == 409
    assert "INTERRUPTED" in told["error"]


async def test_a_viewer_looks_and_changes_nothing(ask: Ask, training: Training) -> None:
    run = training.run.id
    for method, params in (("POST", {}), ("DELETE", {"command": "cmd_1"})):
        status, told = await ask("vera", method, run, {"command": "stop"}, **params)
        assert status == 403
        assert "it takes an editor to pause, change or stop" in told["error"]
    status, state = await ask("bert", "GET", run)
    assert (status, state["commands"], state["may"]) == (200, [], True)


async def test_what_is_no_command_is_refused_in_two_lines(ask: Ask, training: Training) -> None:
    run = training.run.id
    for fields, wanted in (
        ({"command": "puse"}, "there is no command 'puse'"), ({"command": "set-lr"}, "'set-lr' needs a number"),
        ({"command": "pause", "value": 1}, "'pause' takes no number"), (b"no json", "the body is no command"),
        ({"command": "pause", "run": "x"}, "the body is no command"), ({"command": "set-lr", "value": "a"}, "the body"),
    ):  # fmt: skip
        status, told = await ask("bert", "POST", run, fields)
        assert status == 400
        assert wanted in told["error"]
        assert told["hint"]
    assert (await ask("bert", "POST", "run_none", {"command": "pause"}))[0] == 404
    assert (await ask("bert", "GET", "run_none"))[0] == 404
    assert (await ask("bert", "DELETE", run, command="cmd_none"))[0] == 404
    await ask("bert", "POST", run, {"command": "set-lr", "value": -1.0})
    state = await until(ask, run, lambda found: found["commands"][0]["status"] != "pending")
    assert (state["commands"][0]["status"], state["commands"][0]["note"]) == ("refused", "a learning rate of -1.0")


async def test_a_command_that_nobody_took_is_taken_back(ask: Ask, config: Path, jp_serverapp: Any) -> None:
    nb.init(config.parent)
    net = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with nb.run("waits") as run, nb.watch(net) as watch:
        sent = (await ask("bert", "POST", run.id, {"command": "stop"}))[1]
        status, told = await ask("bert", "DELETE", "run_other", command=sent["id"])
        assert status == 404
        status, told = await ask("anna", "DELETE", run.id, command=sent["id"])
        assert (status, told["status"], told["note"]) == (200, "withdrawn", "by anna")
        assert (await ask("anna", "DELETE", run.id, command=sent["id"]))[0] == 409
        await asyncio.sleep(0.6)  # the watch had the time to hear of it
        net(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        assert (watch.steps, watch.changes) == (1, [])
    nb.workspace().close()


async def test_a_run_without_a_watch_and_a_dead_kernel_do_not_answer(
    ask: Ask, config: Path, jp_serverapp: Any, backend: Backend
) -> None:
    nb.init(config.parent)
    with nb.run("plain") as run:
        status, told = await ask("bert", "POST", run.id, {"command": "pause"})
        assert status == 409
        assert "nothing listens in run 'plain'" in told["error"]
        assert (await ask("bert", "GET", run.id))[1]["watches"] == []
    nb.workspace().close()
    environment = {**os.environ, "NBOPS_WORKSPACE": str(config.parent)}
    child = subprocess.Popen(
        [sys.executable, "-c", DIES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert child.stdout
    assert child.stdin
    doomed = child.stdout.readline().strip()
    await until(ask, doomed, lambda found: found["heard"])
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    child.stdin.close()
    status, told = await ask("bert", "POST", doomed, {"command": "pause"})
    assert status == 409
    assert "INTERRUPTED" in told["error"]
    state = (await ask("bert", "GET", doomed))[1]
    assert (state["heard"], state["commands"]) == (False, [])
    seen = backend.workspace()
    assert seen is not None
    assert len(seen.store.find(WatchState)) == 1
