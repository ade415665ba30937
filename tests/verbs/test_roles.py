"""`nbops roles`: who may what, from the file that the servers read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbops import cli
from nbops.core.errors import InvalidInput
from nbops.core.roles import Role
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.roles import Trust, read_trust
from nbops.view.system import show_trust

ROLES = '[roles]\nanna = "approver"\n"bert@example.org" = "editor"\n'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NBOPS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("NBOPS_USER", "anna")
    return tmp_path / ".nbops" / "config.toml"


def test_without_roles_everybody_may_everything_and_no_workspace_is_made(config: Path) -> None:
    trust = dispatch(["roles"], Call())
    assert isinstance(trust, Trust)
    assert (trust.in_force, trust.default) == (False, Role.APPROVER)
    assert "everybody may do everything" in repr(trust)
    assert not config.parent.exists()
    assert "Write [roles] into the file" in show_trust(trust)["text/plain"]


def test_who_is_named_and_what_a_role_means(config: Path) -> None:
    config.parent.mkdir()
    config.write_text(ROLES)
    trust = read_trust()
    assert repr(trust) == "Trust(anna approver, bert@example.org editor, everybody else viewer)"
    assert trust.you == ("anna", Role.APPROVER)
    drawn = show_trust(trust)
    for text in ("bert@example.org", "everybody else", "you are anna, approver", "set or delete an alias"):
        assert text in drawn["text/plain"]
        assert text in drawn["text/html"]


def test_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.parent.mkdir()
    config.write_text(ROLES)
    assert cli.main(["roles", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["people"] == [["anna", "approver"], ["bert@example.org", "editor"]]
    assert said["means"][0] == ["viewer", ["read"]]


@pytest.mark.parametrize("data", [b'[roles]\nanna = "boss"', b'[roles]\nanna = "\xff"'])
def test_a_file_that_cannot_be_used_is_told(config: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    config.parent.mkdir()
    config.write_bytes(data)
    with pytest.raises(InvalidInput):
        read_trust()
    assert cli.main(["roles"]) == 1
    assert capsys.readouterr().err.startswith("nbops: ")
