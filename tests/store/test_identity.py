"""Who acts: a server's person within `acting_as`, the process everywhere else."""

from __future__ import annotations

import asyncio
import threading

import pytest

import nbops as nb
from nbops.core.records import Alias, ModelVersion, Signature
from nbops.models.aliases import promote
from nbops.store.identity import acting_as, process_user, user
from nbops.store.workspace import Workspace
from nbops.testing import a_run


def test_a_person_acts_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBOPS_USER", "server")
    assert user() == "server"
    with acting_as("anna"):
        assert (user(), process_user()) == ("anna", "server")
        with acting_as(""):
            assert user() == "server"
        assert user() == "anna"
        with pytest.raises(ZeroDivisionError), acting_as("bert"):
            raise ZeroDivisionError
        assert user() == "anna"
    assert user() == "server"


def test_requests_side_by_side_do_not_mix_and_threads_that_are_lent_follow() -> None:
    async def request(name: str) -> list[str]:
        with acting_as(name):
            seen = []
            for _ in range(50):
                await asyncio.sleep(0)
                seen.append(user())
                seen.append(await asyncio.to_thread(user))
            return seen

    async def all_at_once() -> list[list[str]]:
        return await asyncio.gather(*map(request, names))

    names = [f"person-{n}" for n in range(8)]
    for name, seen in zip(names, asyncio.run(all_at_once()), strict=True):
        assert set(seen) == {name}


def test_a_thread_that_is_started_acts_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBOPS_USER", "server")
    seen: list[str] = []
    with acting_as("anna"):
        thread = threading.Thread(target=lambda: seen.append(user()))
        thread.start()
        thread.join()
    assert seen == ["server"]


def test_events_and_histories_name_who_acts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBOPS_USER", "server")
    store = workspace.store
    store.put(ModelVersion(id="mv_1", created_at=1.0, name="digits", number=1, digest="d",
                           signature=Signature(inputs=[], outputs=[])))  # fmt: skip
    with acting_as("anna"):
        store.put(a_run(name="hers"))
        promote("digits", 1, "prod")
    store.put(a_run(name="the server's"))
    told = [(event.kind, event.actor) for event in nb.audit(last=10).newest]
    assert told == [
        ("model.created", "server"), ("run.created", "anna"), ("alias.moved", "anna"), ("run.created", "server"),
    ]  # fmt: skip
    (alias,) = store.find(Alias)
    assert [move.by for move in alias.history] == ["anna"]
    assert nb.audit().is_whole
