"""Labelling in real kernels: killed while somebody answers, two annotators at once, the browser's words, no browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from nbconvert import HTMLExporter

import nbops as nb
from nbops.data.labels.items import content_id
from nbops.store.workspace import Workspace
from nbops.view.desk import MIME, TARGET

Kernel = tuple[KernelManager, BlockingKernelClient]
COUNT = 400
OPEN = f"""
import nbops as nb
texts = [f"text {{i}}" for i in range({COUNT})]
session = nb.label(texts, classes=["pos", "neg"], name="reviews", annotator=WHO, OPTIONS)
"""
ANSWER = """
with open(f"told-{session.annotator}.txt", "a", buffering=1) as told:
    while session.item_id is not None:
        label = session.answer("neg" if int(session.item.split()[1]) % 3 else "pos")
        print(label.name, label.value[0], file=told)
"""


@pytest.fixture
def start(workspace: Workspace) -> Iterator[Callable[[], Kernel]]:
    """Start kernels; they end with the test."""
    started: list[Kernel] = []

    def begin() -> Kernel:
        started.append(start_new_kernel(kernel_name="python3"))
        return started[-1]

    yield begin
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)


def code_for(who: str, options: str = "overlap=1.0") -> str:
    return OPEN.replace("WHO", repr(who)).replace("OPTIONS", options)


def execute(client: BlockingKernelClient, code: str) -> dict[str, Any]:
    """Execute a cell and wait; return what it shows at its end, by mime type."""
    shown: dict[str, Any] = {}

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "execute_result":
            shown.update(message["content"]["data"])

    reply = client.execute_interactive(code, output_hook=hear, timeout=120)["content"]
    assert reply["status"] == "ok", reply
    return shown


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come about in two minutes")


@pytest.mark.leaks("zmq keeps the sockets to a killed kernel until its context ends with the process")
def test_a_killed_kernel_loses_no_answer_and_the_cell_goes_on(start: Callable[[], Kernel], tmp_path: Path) -> None:
    told = tmp_path / "told-ada.txt"

    def lines() -> list[str]:
        return told.read_text().splitlines() if told.exists() else []

    for least in (40, 90, 150):
        manager, client = start()
        execute(client, code_for("ada"))
        before = lines()
        kept = [label.name for label in nb.labels("reviews").given]
        assert kept[: len(before)] == [line.split()[0] for line in before]
        assert execute(client, "session.item_id")["text/plain"] == repr(content_id(f"text {len(kept)}"))
        execute(client, "told = None")
        client.execute(ANSWER)
        wait_for(lambda least=least: len(lines()) >= least)  # type: ignore[misc]
        manager.signal_kernel(9)
        wait_for(lambda manager=manager: not manager.is_alive())  # type: ignore[misc]
        answers = {label.name: label.value[0] for label in nb.labels("reviews").given}
        returned = dict(line.split() for line in lines())
        assert returned.items() <= answers.items(), "an answer that returned is not in the store"
        assert len(answers) - len(returned) <= least // 40, "at most one answer was stored and not yet returned"
        told.write_text("".join(f"{name} {value}\n" for name, value in answers.items()))
    _, client = start()
    execute(client, code_for("ada") + ANSWER)
    expected = {content_id(f"text {i}"): "neg" if i % 3 else "pos" for i in range(COUNT)}
    labels = nb.labels("reviews")
    assert labels.consensus() == expected
    assert [label.name for label in labels.given] == list(expected), "in the order of the rows, none twice"


def test_two_kernels_on_one_label_set_lose_nothing(start: Callable[[], Kernel]) -> None:
    clients = [start()[1], start()[1]]
    for client, who in zip(clients, ("ada", "bob"), strict=True):
        execute(client, code_for(who, "overlap=0.25"))
    for client in clients:
        client.execute(ANSWER)
    for client, who in zip(clients, ("ada", "bob"), strict=True):
        assert execute(client, "(session.progress.left, session.progress.elsewhere, session.annotator)")[
            "text/plain"] in (f"(0, 0, '{who}')", f"(1, 1, '{who}')")  # fmt: skip
    for client in clients:  # the last one may have been on the other's screen
        execute(client, "session.skip() if session.item_id else session._advance()")
        execute(client, ANSWER)
    labels = nb.labels("reviews")
    votes = labels.votes()
    shared = [one for one in zip(votes["ada"], votes["bob"], strict=True) if None not in one]
    assert len(labels.items) == COUNT
    assert COUNT * 0.15 < len(shared) < COUNT * 0.4
    assert len(labels) == COUNT + len(shared), "each of the rest was labelled once"
    assert min(sum(label is not None for label in votes[who]) for who in votes) > COUNT / 4
    assert labels.agreement().pairs[("ada", "bob")] == 1.0


class Browser:
    """What a browser says on a comm, and what it hears."""

    def __init__(self, client: BlockingKernelClient, session: str) -> None:
        self.client = client
        self.state = self._send("comm_open", target_name=TARGET, data={"session": session})

    def say(self, **data: Any) -> dict[str, Any]:
        self.state = self._send("comm_msg", data=data)
        return self.state

    def _send(self, kind: str, **content: Any) -> dict[str, Any]:
        message = self.client.session.msg(kind, {"comm_id": "browser", **content})
        self.client.shell_channel.send(message)
        while True:
            heard = self.client.get_iopub_msg(timeout=60)
            if heard["msg_type"] == "comm_msg" and heard["parent_header"]["msg_id"] == message["header"]["msg_id"]:
                found: dict[str, Any] = heard["content"]["data"]
                return found


def test_what_the_browser_says_is_done_once_and_stored_before_the_answer_comes(start: Callable[[], Kernel]) -> None:
    _, client = start()
    shown = execute(client, code_for("ada") + "session")
    browser = Browser(client, shown[MIME]["session"])
    assert "text 0" in browser.state["item"]["mime"]["text/html"]
    assert [one["key"] for one in browser.state["classes"]] == ["1", "2"]
    assert (browser.state["done"], browser.state["total"], browser.state["canUndo"]) == (0, COUNT, False)
    first = browser.state["item"]["id"]
    for _ in range(2):  # the second comes too late
        state = browser.say(do="answer", item=first, classes=[1], seconds=1.25, note="hm")
        (label,) = nb.labels("reviews").given
        assert (label.value, label.duration_s, label.note) == (["neg"], 1.25, "hm")
        assert (state["done"], state["wrong"]) == (1, "")
        assert "text 1" in state["item"]["mime"]["text/html"]
    state = browser.say(do="skip", item=state["item"]["id"], seconds=0.5)
    assert (state["skipped"], "text 2" in state["item"]["mime"]["text/html"]) == (1, True)
    browser.say(do="undo")
    assert browser.say(do="undo")["item"]["id"] == first
    assert browser.say(do="undo")["wrong"] == ""
    assert "'answer is" not in browser.say(do="answer", item=first, classes=[0, 1])["wrong"]
    assert "the answer is 2 classes" in browser.state["wrong"]
    assert "IndexError" in browser.say(do="answer", item=first, classes=[7])["wrong"]
    assert len(nb.labels("reviews")) == 0
    assert Browser(client, "lset_none/ada").state == {"gone": True}


def test_the_browser_is_told_that_all_are_labelled_and_can_still_undo(start: Callable[[], Kernel]) -> None:
    _, client = start()
    execute(client, code_for("ada") + ANSWER)
    browser = Browser(client, execute(client, "session")[MIME]["session"])
    assert (browser.state["item"], browser.state["done"]) == (None, COUNT)
    assert browser.say(do="undo")["item"]["id"] == content_id(f"text {COUNT - 1}")


def test_without_a_browser_there_is_a_card(workspace: Workspace, tmp_path: Path) -> None:
    sources = [code_for("ada") + "for side in ('pos', 'neg', 'pos'):\n    session.answer(side)\nsession",
               "nb.labels('reviews')"]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    done = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    data = done.cells[0].outputs[0]["data"]
    assert data["text/plain"].splitlines()[1].startswith(f"labelled 3 of {COUNT}")
    assert len(data["text/html"].encode()) < 20_000
    page, _ = HTMLExporter().from_notebook_node(done)
    assert f"3 of {COUNT}" in page
    assert "1 annotator" in page
    for cell in done.cells:
        assert "<script" not in cell.outputs[0]["data"]["text/html"]
