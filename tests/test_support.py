"""The tests' own tools: the network block, the leak check, the rule for missing tools, the database server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import leak_check
import pytest


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A pytest inside the test that can import our plugins."""
    monkeypatch.setenv("PYTHONPATH", str(Path(leak_check.__file__).parent))
    pytester.makeini("[pytest]\nmarkers =\n    gpu: needs an accelerator\n    leaks: allowed")
    return pytester


def test_other_machines_cannot_be_reached() -> None:
    with pytest.raises(ConnectionRefusedError, match="tests reach no other machine"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(ConnectionRefusedError, match=r"example\.org"):
        socket.getaddrinfo("example.org", 443)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        client.sendall(b"hello")
        assert peer.recv(5) == b"hello"
        peer.close()


def test_child_interpreters_are_blocked_too() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "tests reach no other machine" in done.stderr


@pytest.mark.leaks("the leaks are made on purpose and ended here")
def test_leak_check_names_thread_child_and_file(tmp_path: Path) -> None:
    before = leak_check.held()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file = (tmp_path / "left.txt").open("w")
    found = "\n".join(leak_check.leaked(before, grace_s=0.1))
    stop.set()
    thread.join()
    child.communicate(b"\n")
    file.close()
    assert "thread forgotten" in found
    assert f"child process {child.pid}" in found
    assert "left.txt" in found
    assert leak_check.leaked(before) == []


def test_leak_check_names_an_endpoint_that_serves_on(tmp_path: Path) -> None:
    folder = tmp_path / ".nbops" / "endpoints"
    folder.mkdir(parents=True)
    (folder / "ep_1.json").write_text('{"pid": 1}')
    (folder / "ep_2.json").write_text('{"pid": 0}')
    assert leak_check.endpoints_left(tmp_path) == ["endpoint process 1 of ep_1.json"]
    (folder / "ep_1.json").unlink()
    assert leak_check.endpoints_left(tmp_path) == []


def test_leak_check_fails_a_test_that_leaks(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import threading, time
        def test_leaky():
            threading.Thread(target=time.sleep, args=(4,), name="sleeper", daemon=True).start()
        def test_clean():
            pass
        """
    )
    result = inner.runpytest_subprocess("-p", "leak_check", "-q")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*thread sleeper*"])


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", {"skipped": 2, "passed": 1}), ("true", {"failed": 1, "skipped": 1, "passed": 1})]
)
def test_a_missing_tool_is_a_skip_here_and_a_failure_in_ci(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: dict[str, int]
) -> None:
    monkeypatch.setenv("CI", ci)
    inner.makepyfile(
        """
        import pytest, tools
        tools.TOOLS["anvil"] = (lambda: None, "no anvil here")
        def test_needs_anvil():
            tools.require("anvil")
        @pytest.mark.gpu
        def test_needs_gpu():
            tools.TOOLS["gpu"] = (lambda: None, "no accelerator")
            tools.require("gpu")
        def test_plain():
            pass
        """
    )
    result = inner.runpytest_subprocess("-p", "tools", "-rs")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*no anvil here*"])


@pytest.mark.postgres
def test_each_test_gets_a_fresh_database(postgres_url: str) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (x int)"))
        version = connection.execute(sqlalchemy.text("show server_version_num")).scalar_one()
    engine.dispose()
    assert int(version) >= 140000


def test_a_fresh_workspace_is_current(workspace: object, tmp_path: Path) -> None:
    from nbops.store.workspace import workspace as current

    assert current() is workspace
    assert current().path.is_relative_to(tmp_path)
