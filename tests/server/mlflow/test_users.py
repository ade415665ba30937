"""The file of users: what may stand in it, how an entry is made, and what is said of one that cannot be used."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nbops import cli
from nbops.core.errors import InvalidInput
from nbops.core.roles import Role
from nbops.server.mlflow.users import Users, new_entry, read_users

DIGEST = hashlib.sha256(b"secret").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def entry(name: str = "anna", role: str = '"editor"', digest: str = f'"{DIGEST}"') -> str:
    return f"[users.{name}]\nrole = {role}\ntoken_sha256 = {digest}\n"


@pytest.mark.parametrize("name", ["anna", "bert@example.org", "Zoë von 'Ö'", 'q"x', "a\\b", "[x]", "users"])
def test_an_entry_lets_its_owner_in_and_holds_no_token(tmp_path: Path, name: str) -> None:
    token, lines = new_entry(name, Role.EDITOR)
    again, _ = new_entry(name, Role.EDITOR)
    assert token != again
    assert len(token) >= 32
    assert token not in lines
    (tmp_path / "users.toml").write_text(lines + "\n" + entry("else", '"viewer"', f'"{OTHER}"'), "utf-8")
    users = Users(tmp_path / "users.toml")
    for given in (None, name):
        person = users.person(given, token)
        assert person is not None
        assert (person.name, person.role, person.in_force) == (name, Role.EDITOR, True)
    assert users.person("else", token) is None
    assert users.person(None, token + "x") is None
    assert users.person(None, lines.split('"')[-2]) is None, "the digest is no token"


def test_an_empty_token_lets_nobody_in(tmp_path: Path) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    (tmp_path / "users.toml").write_text(entry(digest=f'"{empty}"'))
    assert Users(tmp_path / "users.toml").person(None, "") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nobody"),
        ("[users]", "names nobody"),
        ("[users", "cannot be read"),
        ("[user.anna]", "unknown name 'user'"),
        ("users = 3", "not a table"),
        ("[users]\nanna = 3", "[users.anna] is 3, not a table"),
        ("[users.anna]\nrole = 'editor'", "[users.anna] has no token_sha256"),
        (f"[users.anna]\ntoken_sha256 = '{DIGEST}'", "[users.anna] has no role"),
        (entry(role='"edditor"'), '[users.anna] role = "edditor" is no role'),
        (entry(role="3"), "is no role"),
        (entry(digest='"secret"'), "token_sha256 that is no SHA-256"),
        (entry(digest="3"), "token_sha256 that is no SHA-256"),
        (entry() + "tokens = 1", "unknown name 'tokens'"),
        (entry() + entry("bert"), "two users have the same token"),
        (entry('"a:b"'), "'a:b' cannot be a user's name"),
        (entry('""'), "'' cannot be a user's name"),
        (entry('"a\\nb"'), "cannot be a user's name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as told:
        read_users(text)
    assert said in told.value.message
    assert told.value.hint


def test_an_entry_is_made_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mlflow-server", "--new-user", "bert@example.org", "--role", "approver"]) == 0
    said = capsys.readouterr()
    token = said.err.split()[-1]
    made = tomllib.loads(said.out)["users"]["bert@example.org"]
    assert made == {"role": "approver", "token_sha256": hashlib.sha256(token.encode()).hexdigest()}
    assert token not in said.out
    assert cli.main(["mlflow-server", "--new-user", "vera"]) == 0
    assert 'role = "viewer"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--users", "absent.toml"], 1, "nbops: there is no absent.toml\nBring "),
        (["--users", "broken.toml"], 1, "nbops: the file of users names nobody\nMake an entry"),
        (["--new-user", "a:b"], 1, "nbops: 'a:b' cannot be a user's name\nUse a name"),
        (["--users", "broken.toml", "--token", "x"], 2, "--token is for a server without --users"),
        (["--new-user", "anna", "--role", "boss"], 2, "invalid choice: 'boss'"),
    ],
)
def test_what_cannot_be_served_is_told_before_a_port_is_opened(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    (tmp_path / "broken.toml").write_text("# nobody")
    done = subprocess.run(
        [sys.executable, "-m", "nbops", "mlflow-server", *words], cwd=tmp_path, capture_output=True, text=True,
        check=False, env=os.environ,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_users_the_one_token_may_everything_whatever_the_workspace_says(fresh: Any) -> None:
    server = fresh
    (server.folder / ".nbops").mkdir()
    (server.folder / ".nbops" / "config.toml").write_text('[roles]\nanna = "viewer"\n')
    server.start()
    server.good("POST", "registered-models/create", {"name": "m"})
    server.good("POST", "model-versions/create", {"name": "m", "source": "s"})
    server.good("POST", "registered-models/alias", {"name": "m", "alias": "prod", "version": "1"})
    server.good("DELETE", "registered-models/delete", {"name": "m"})
