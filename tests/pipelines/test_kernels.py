from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbops.core.errors import NotebookFailed, NotFound
from nbops.pipelines.kernels import KernelProcess, find_kernel, kernel_of


def kernel(tmp_path: Path, **env: str) -> KernelProcess:
    return KernelProcess("python3", cwd=tmp_path, env=env)


async def execute(running: KernelProcess, code: str) -> dict[str, Any]:
    sent = running.client.execute(code)
    while True:
        reply: dict[str, Any] = await running.client.get_shell_msg(timeout=30)
        if reply["parent_header"].get("msg_id") == sent:
            return reply


def test_kernel_leaves_by_itself_each_time(tmp_path: Path) -> None:
    # Asked over its control channel, ipykernel 7.4 hangs once in some dozens of times and must be terminated.
    async def once() -> int:
        running = kernel(tmp_path)
        await running.start()
        process = running.manager.provisioner.process
        await running.stop()
        return int(process.returncode)

    assert [asyncio.run(once()) for _ in range(4)] == [0, 0, 0, 0]


def test_exit_handlers_run_before_stop_returns(tmp_path: Path) -> None:
    code = "import atexit, time\n@atexit.register\ndef _():\n    time.sleep(0.3)\n    open('left', 'w').close()"

    async def scenario() -> None:
        running = kernel(tmp_path)
        await running.start()
        await execute(running, code)
        await running.stop()

    asyncio.run(scenario())
    assert (tmp_path / "left").exists()


def test_stop_leaves_no_process_socket_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path)) if len(str(tmp_path)) < 60 else None
    children: list[int] = []
    folders: list[Path] = []

    async def scenario() -> None:
        running = kernel(tmp_path)
        await running.start()
        folders.append(Path(running.manager.connection_file).parent)
        code = "import subprocess\nopen('pid', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))"
        await execute(running, code)
        children.append(int((tmp_path / "pid").read_text()))
        assert psutil.pid_exists(children[0])
        await running.stop()

    asyncio.run(scenario())
    assert not psutil.pid_exists(children[0]) or psutil.Process(children[0]).status() == psutil.STATUS_ZOMBIE
    assert not folders[0].exists()


def test_process_with_a_session_of_its_own_survives(tmp_path: Path) -> None:
    async def scenario() -> int:
        running = kernel(tmp_path)
        await running.start()
        code = (
            "import subprocess\n"
            "open('pid', 'w').write(str(subprocess.Popen(['sleep', '600'], start_new_session=True).pid))"
        )
        await execute(running, code)
        await running.stop()
        return int((tmp_path / "pid").read_text())

    pid = asyncio.run(scenario())
    survivor = psutil.Process(pid)
    assert survivor.status() != psutil.STATUS_ZOMBIE
    survivor.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="sockets of the Unix family")
def test_channels_are_sockets_in_a_private_folder(tmp_path: Path) -> None:
    async def scenario() -> tuple[str, int, int]:
        running = kernel(tmp_path)
        await running.start()
        folder = Path(running.manager.connection_file).parent
        sockets = [path for path in folder.iterdir() if path.is_socket()]
        found = running.manager.get_connection_info()["transport"], len(sockets), folder.stat().st_mode & 0o777
        await running.stop()
        return found

    assert asyncio.run(scenario()) == ("ipc", 5, 0o700)


def test_long_runtime_folder_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    async def scenario() -> str:
        running = kernel(tmp_path)
        await running.start()
        transport = str(running.manager.transport)
        await running.stop()
        return transport

    assert asyncio.run(scenario()) == "tcp"


def test_end_is_seen_and_named(tmp_path: Path) -> None:
    async def scenario() -> str:
        running = kernel(tmp_path)
        await running.start()
        running.client.execute("import os; os._exit(5)")
        await asyncio.wait_for(running.gone(), 30)
        said = running.death()
        await running.stop()
        return said

    assert asyncio.run(scenario()) == "exit code 5"


def test_slow_start_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels" / "silent"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-c", "import time; time.sleep(600)", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "silent", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    async def scenario() -> None:
        running = KernelProcess("silent", cwd=tmp_path, env={})
        try:
            await running.start(timeout_s=0.1)
        finally:
            await running.stop(grace_s=0.0)

    with pytest.raises(NotebookFailed, match="kernel 'silent' did not answer within 0.1 s"):
        asyncio.run(scenario())


def test_environment_reaches_the_kernel_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        running = kernel(tmp_path, NBOPS_TEST_ONLY="here")
        await running.start()
        await execute(running, "import os\nopen('env', 'w').write(os.environ['NBOPS_TEST_ONLY'])")
        await running.stop()

    asyncio.run(scenario())
    assert (tmp_path / "env").read_text() == "here"
    assert "NBOPS_TEST_ONLY" not in os.environ


def test_kernel_is_chosen() -> None:
    assert kernel_of({}) == "python3"
    assert kernel_of({"metadata": {"kernelspec": {"name": "python"}}}) == "python3"
    assert kernel_of({"metadata": {"kernelspec": {"name": "absent"}}}, "python3") == "python3"
    with pytest.raises(NotFound, match="no kernel 'absent' is installed"):
        find_kernel("absent")
