"""Roles from a file that changes while a server runs: seen at once, and never wider for being broken."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nbops.core.errors import InvalidInput, NbopsError, NotPermitted
from nbops.core.roles import Action, Person, Role
from nbops.server.access import Access, Watched, allows, answering, demand, doing
from nbops.store.identity import user

ROLES = '[roles]\nanna = "approver"\nbert = "editor"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BREAKS: dict[str, Callable[[Path], object]] = {
    "no TOML": lambda path: path.write_text('[roles]\nanna = "appr'),
    "no role": lambda path: path.write_text('[roles]\nanna = "boss"'),
    "another setting": lambda path: path.write_text(f"stor_url = 1\n{ROLES}"),
    "not UTF-8": lambda path: path.write_bytes(b'[roles]\nanna = "\xff"'),
    "a folder": as_folder,
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to(path)),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "without the table": lambda path: path.write_text("dataset_max_bytes = 10"),
}


def test_without_a_file_or_a_table_everybody_may_everything(config: Path) -> None:
    access = Access(config.parent)
    assert access.person("anybody") == Person(name="anybody", role=Role.APPROVER, in_force=False)
    config.write_text("dataset_max_bytes = 10")
    assert not access.person("anybody").in_force


def test_roles_are_those_of_the_file_now(config: Path) -> None:
    access = Access(config.parent)
    config.write_text(ROLES)
    assert [access.person(name).role for name in ("anna", "bert", "vera")] == [Role.APPROVER, Role.EDITOR, Role.VIEWER]
    config.write_text(ROLES.replace("editor", "viewer"))
    assert access.person("bert").role is Role.VIEWER
    state = config.stat()
    config.write_text(ROLES.replace("editor", "viewer").replace("bert", "carl"))
    os.utime(config, ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # the same size, a moment later
    assert access.person("bert").role is Role.VIEWER
    assert access.person("carl").role is Role.VIEWER
    config.write_text('[roles]\ndefault = "editor"')
    assert access.person("bert").role is Role.EDITOR


@pytest.mark.parametrize("spoil", BREAKS.values(), ids=BREAKS)
def test_a_file_that_is_broken_leaves_reading_only_until_it_is_mended(
    config: Path, spoil: Callable[[Path], object]
) -> None:
    access = Access(config.parent)
    config.write_text(ROLES)
    access.person("anna").check(Action.PROMOTE)
    spoil(config)
    anna = access.person("anna")
    anna.check(Action.READ)
    for action in set(Action) - {Action.READ}:
        with pytest.raises(NotPermitted, match="only reading is allowed now"):
            anna.check(action)
    assert anna.in_force
    assert anna.remedy
    shutil.rmtree(config) if config.is_dir() else config.unlink(missing_ok=True)
    config.write_text(ROLES)
    access.person("anna").check(Action.PROMOTE)


def test_a_broken_file_closes_a_server_that_has_seen_no_roles_too(config: Path) -> None:
    access = Access(config.parent)
    access.person("anna").check(Action.PROMOTE)
    config.write_text("[roles")
    with pytest.raises(NotPermitted, match="cannot be read"):
        access.person("anna").check(Action.RECORD)


def test_a_file_that_does_not_change_is_not_read_again(config: Path) -> None:
    reads: list[str] = []
    watched: Watched[int] = Watched(config, lambda text: reads.append(text) or len(reads))
    config.write_text("a")
    assert [watched.current() for _ in range(5)] == [1] * 5
    part = config.with_suffix(".part")
    part.write_text("b")
    part.replace(config)
    assert (watched.current(), reads) == (2, ["a", "b"])
    config.unlink()
    with pytest.raises(InvalidInput, match=r"there is no config.toml"):
        watched.current()


class Handler:
    """What `doing` needs of a handler."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self.refused: list[str] = []
        self.seen: list[str] = []

    def person(self) -> Person:
        return self._person

    def refuse(self, error: NbopsError) -> None:
        self.refused.append(error.message)

    @doing(Action.RECORD)
    async def put(self) -> None:
        self.seen.append(user())
        self.seen.append(await asyncio.to_thread(user))

    @doing(Action.READ)
    async def get(self) -> None:
        self.seen.append(user())


def test_a_method_is_run_for_who_may_and_in_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBOPS_USER", "server")
    vera, bert = Handler(Person(name="vera", role=Role.VIEWER)), Handler(Person(name="bert", role=Role.EDITOR))
    asyncio.run(vera.put())
    assert (vera.seen, len(vera.refused)) == ([], 1)
    asyncio.run(bert.put())
    assert (bert.seen, bert.refused) == (["bert", "bert"], [])
    asyncio.run(bert.get())
    assert bert.seen[-1] == "server"  # who only reads has done nothing that is written meanwhile


def test_a_request_can_demand_more_than_it_does_anyway() -> None:
    demand(Action.DELETE_MODEL)  # no request: a notebook, a script
    bert = Person(name="bert", role=Role.EDITOR)
    with answering(bert, Action.RECORD):
        assert allows(Action.TRASH)
        demand(Action.TRASH)
        assert not allows(Action.DELETE_MODEL)
        with pytest.raises(NotPermitted, match="'bert' is an editor"):
            demand(Action.DELETE_MODEL)
    assert allows(Action.DELETE_MODEL)
    with answering(Person(name="anna", role=Role.APPROVER, doubt="torn"), Action.READ):
        assert not allows(Action.DELETE_MODEL)
