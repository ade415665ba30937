"""`nb.serve`, `endpoints`, `attach`, `stop` with real processes and a real HTTP client."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

import nbops as nb
from nbops.core.errors import EndpointError, InvalidInput, NotFound
from nbops.core.records import Endpoint, replace
from nbops.serving import descriptor as runtime_file
from nbops.serving.descriptor import Paths
from nbops.serving.endpoints import attach, endpoints, serve, stop
from nbops.serving.launching import launch
from nbops.serving.live import LiveEndpoint
from nbops.store.workspace import Workspace

Register = Callable[..., Any]
ROW = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}


def ask(live: LiveEndpoint, **request: Any) -> httpx.Response:
    """POST an infer request as any client would."""
    return httpx.post(
        f"{live.url}/v2/models/{live.model}/infer",
        json={"inputs": [ROW], **request},
        headers={"Authorization": f"Bearer {live.token}"},
    )


def wait_until(is_true: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; its entry stays until the system's first process collects it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_served_model_answers_an_ordinary_http_client(scaler: LiveEndpoint) -> None:
    answer = ask(scaler, id="42")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "model_name": "scaler",
        "model_version": "1",
        "id": "42",
        "outputs": [{"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [2.0, 4.0, 6.0, 8.0]}],
    }


def test_serving_leaves_a_record_a_link_and_events(scaler: LiveEndpoint, workspace: Workspace) -> None:
    record = scaler.record
    assert (record.status, record.url, record.models, record.ref) == ("READY", scaler.url, ["scaler/1"], "scaler@prod")
    assert psutil.pid_exists(record.pid)
    version = workspace.store.find(nb.load("scaler/1").version.__class__)[0]
    assert [(link.source, link.relation) for link in workspace.store.links(record.id)] == [(version.id, "served_by")]
    kinds = [event.kind for event in workspace.store.events(subject=record.id)]
    assert kinds == ["endpoint.created", "endpoint.ready"]
    assert scaler.stop().status == "STOPPED"
    assert "endpoint.stopped" in [event.kind for event in workspace.store.events(subject=record.id)]


def test_the_token_is_nowhere_but_in_files_of_the_owner(scaler: LiveEndpoint, workspace: Workspace) -> None:
    process = psutil.Process(scaler.record.pid)
    assert scaler.token not in " ".join(process.cmdline())
    assert scaler.token not in " ".join(process.environ().values())
    assert scaler.token not in repr(scaler) + scaler.curl() + scaler.logs() + repr(scaler.record)
    assert scaler.token.encode() not in (workspace.path / "nbops.db").read_bytes()
    for path in (workspace.path / "endpoints").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_endpoint_is_nobodys_child_and_in_a_session_of_its_own(scaler: LiveEndpoint) -> None:
    pid = scaler.record.pid
    assert os.getsid(pid) != os.getsid(0)
    assert pid not in [child.pid for child in psutil.Process().children(recursive=True)]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_the_endpoint_loads_no_torch_and_stays_small(scaler: LiveEndpoint) -> None:
    scaler.infer(np.ones((1, 4), np.float32))
    pid = scaler.record.pid
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "libtorch" not in maps
    assert psutil.Process(pid).memory_info().rss < 200 << 20


def test_serving_the_same_again_returns_the_running_endpoint(scaler: LiveEndpoint) -> None:
    again = serve("scaler@prod")
    assert (again.id, again.url, again.token) == (scaler.id, scaler.url, scaler.token)
    assert len(endpoints()) == 1


def test_a_new_version_takes_over_address_and_token_without_a_failed_request(
    scaler: LiveEndpoint, register: Register
) -> None:
    statuses: list[int] = []
    answers: set[str] = set()
    ended = threading.Event()

    def keep_asking() -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {scaler.token}"}) as client:
            while not ended.is_set():
                answer = client.post(f"{scaler.url}/v2/models/scaler/infer", json={"inputs": [ROW]})
                statuses.append(answer.status_code)
                answers.add(answer.json()["model_version"])

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        register(factor=3.0)
        live = serve("scaler@prod")
        wait_until(lambda: "2" in answers)
    finally:
        ended.set()
        asking.join()
    assert (live.url, live.token) == (scaler.url, scaler.token)
    assert live.id != scaler.id
    assert set(statuses) == {200}
    assert answers == {"1", "2"}
    np.testing.assert_array_equal(live.infer(np.ones((1, 4), np.float32)), np.full((1, 4), 3.0))
    assert [(r.id, r.status) for r in endpoints(stopped=True)] == [(live.id, "READY"), (scaler.id, "STOPPED")]
    live.stop()


def test_other_limits_start_anew_and_another_name_runs_beside(scaler: LiveEndpoint) -> None:
    beside = serve("scaler@prod", name="second")
    changed = serve("scaler@prod", max_batch=8)
    assert {r.name for r in endpoints()} == {"scaler@prod", "second"}
    assert changed.id != scaler.id
    assert not scaler.is_alive()
    assert beside.url != changed.url
    beside.stop()
    changed.stop()


def test_two_threads_that_serve_the_same_get_one_endpoint(register: Register) -> None:
    register()
    found: list[LiveEndpoint] = []
    threads = [threading.Thread(target=lambda: found.append(serve("scaler"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({live.id for live in found}) == 1
    assert stop("scaler").status == "STOPPED"


def test_attach_finds_by_name_and_by_id(scaler: LiveEndpoint) -> None:
    for key in ("scaler@prod", scaler.id):
        np.testing.assert_array_equal(attach(key).infer(np.ones((2, 4), np.float32)), np.full((2, 4), 2.0))


def test_unknown_and_stopped_endpoints_are_told(scaler: LiveEndpoint) -> None:
    with pytest.raises(NotFound, match="no endpoint 'scaler@prd'") as caught:
        attach("scaler@prd")
    assert caught.value.hint == "Did you mean 'scaler@prod'?"
    with pytest.raises(NotFound):
        stop("ep_none")
    scaler.stop()
    with pytest.raises(NotFound, match="endpoint 'scaler@prod' is STOPPED"):
        attach("scaler@prod")


def test_stopping_is_idempotent_and_removes_the_token(scaler: LiveEndpoint, workspace: Workspace) -> None:
    pid = scaler.record.pid
    first, second = stop("scaler@prod"), stop(scaler.id)
    assert first.status == second.status == "STOPPED"
    assert first.ended_at == second.ended_at
    wait_until(lambda: is_gone(pid))
    assert [p.suffix for p in (workspace.path / "endpoints").glob("ep_*")] == [".log"]
    assert len(endpoints()) == 0
    assert not scaler.is_alive()


def test_stop_lets_an_accepted_request_finish(scaler: LiveEndpoint) -> None:
    body = json.dumps({"inputs": [ROW]}).encode()
    port = int(scaler.url.rpartition(":")[2])
    head = (
        f"POST /v2/models/scaler/infer HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"Authorization: Bearer {scaler.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head + body)
        first = b""
        while not first.endswith(b"]}]}"):  # head and body may come apart
            first += connection.recv(65536)
        connection.sendall(head + body[:10])
        stopping = threading.Thread(target=scaler.stop)
        stopping.start()
        wait_until(lambda: refuses(port))
        connection.sendall(body[10:])
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        stopping.join()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert b'"data":[2.0,4.0,6.0,8.0]' in answer


def refuses(port: int) -> bool:
    """Tell whether nobody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_terminated_process_records_its_own_end(scaler: LiveEndpoint, workspace: Workspace) -> None:
    os.kill(scaler.record.pid, signal.SIGTERM)
    wait_until(lambda: workspace.store.get(Endpoint, scaler.id).status == "STOPPED")
    assert workspace.store.get(Endpoint, scaler.id).ended_at is not None


def test_a_killed_endpoint_is_shown_dead_and_served_again(scaler: LiveEndpoint) -> None:
    os.kill(scaler.record.pid, signal.SIGKILL)
    wait_until(lambda: not scaler.is_alive())
    with pytest.raises(EndpointError, match="no answer"):
        scaler.infer(np.ones((1, 4), np.float32))
    assert [(r.id, r.status) for r in endpoints()] == [(scaler.id, "DEAD")]
    live = serve("scaler@prod")
    assert [(r.id, r.status) for r in endpoints()] == [(live.id, "READY")]
    np.testing.assert_array_equal(live.infer(np.ones((1, 4), np.float32)), np.full((1, 4), 2.0))
    live.stop()


def test_another_process_with_the_number_is_not_taken_for_the_endpoint(
    scaler: LiveEndpoint, workspace: Workspace
) -> None:
    paths = Paths(workspace.path, scaler.id)
    known = runtime_file.read(paths.descriptor)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    os.kill(known.pid, signal.SIGKILL)
    known.pid = sleeper.pid
    runtime_file.write(paths, known)
    try:
        assert [r.status for r in endpoints()] == ["DEAD"]
        scaler.stop()
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_an_endpoint_of_another_host_is_neither_judged_nor_stopped(scaler: LiveEndpoint, workspace: Workspace) -> None:
    other = replace(scaler.record, id="ep_other", name="other", owner="elsewhere.1.x", pid=1)
    workspace.store.put(other)
    assert "READY" in [r.status for r in endpoints() if r.id == "ep_other"]
    with pytest.raises(EndpointError, match="runs on host 'elsewhere'"):
        stop("other")


def test_a_process_that_cannot_start_tells_why(register: Register, workspace: Workspace) -> None:
    version = register()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EndpointError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(version, port=port)
    assert [r.status for r in endpoints()] == ["DEAD"]
    assert list((workspace.path / "endpoints").glob("*.json")) == []


@pytest.fixture
def starting_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make endpoints execute some code where they would import uvicorn."""

    def plant(code: str) -> None:
        folder = tmp_path / "planted"
        (folder / "uvicorn").mkdir(parents=True)
        (folder / "uvicorn" / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    return plant


def test_a_process_that_is_killed_while_it_starts_is_told(
    register: Register, starting_with: Callable[[str], None]
) -> None:
    register()
    starting_with("import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(EndpointError, match="the endpoint did not start: its process ended\nlast words"):
        serve("scaler")


def test_a_process_that_never_gets_ready_is_ended(
    register: Register, workspace: Workspace, starting_with: Callable[[str], None]
) -> None:
    register()
    starting_with("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    paths = Paths(workspace.path, "ep_slow")
    known = runtime_file.Descriptor(id="ep_slow", name="slow", token="", workspace=str(workspace.path), bundles={})
    runtime_file.write(paths, known)
    with pytest.raises(EndpointError, match=r"not ready within 1\.5 s"):
        launch(paths, start_timeout_s=1.5)
    wait_until(lambda: is_gone(int(paths.log.read_text())))


def test_an_interrupt_while_it_starts_leaves_nothing(
    register: Register, workspace: Workspace, starting_with: Callable[[str], None]
) -> None:
    register()
    starting_with("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")

    def interrupt() -> None:
        wait_until(lambda: any(log.read_text() for log in (workspace.path / "endpoints").glob("*.log")))
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        serve("scaler")
    interrupting.join()
    [log] = (workspace.path / "endpoints").glob("*.log")
    wait_until(lambda: is_gone(int(log.read_text())))
    assert [r.status for r in endpoints()] == ["DEAD"]
    assert list((workspace.path / "endpoints").glob("*.json")) == []


def test_a_file_beside_the_notebook_does_not_shadow_a_module(register: Register, tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise RuntimeError('shadowed')\n")
    register()
    serve("scaler").stop()


def test_a_fixed_port_is_used_and_an_empty_token_opens(register: Register) -> None:
    register()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    live = serve("scaler", port=port, token="")
    assert live.url == f"http://127.0.0.1:{port}"
    assert httpx.get(f"{live.url}/v2/models/scaler").status_code == 200
    assert "-H" not in live.curl()
    live.stop()


def test_two_endpoints_never_share_a_port(scaler: LiveEndpoint) -> None:
    port = int(scaler.url.rpartition(":")[2])
    with pytest.raises(EndpointError, match="cannot listen"):
        serve("scaler@prod", name="intruder", port=port)


def test_a_deleted_workspace_ends_its_endpoints(register: Register, workspace: Workspace) -> None:
    register()
    live = serve("scaler")
    pid = live.record.pid
    workspace.close()
    shutil.rmtree(workspace.path)
    wait_until(lambda: is_gone(pid))
    assert not workspace.path.exists()


def test_limits_and_references_are_checked(register: Register) -> None:
    register()
    with pytest.raises(InvalidInput, match="max_batch=0 cannot be served with"):
        serve("scaler", max_batch=0)
    with pytest.raises(NotFound, match="no model 'scalar'"):
        serve("scalar")


def test_the_curl_line_works(scaler: LiveEndpoint) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    answer = subprocess.run(scaler.curl(), shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert '"data":[0.0,0.0,0.0,0.0]' in answer.stdout


def test_the_handle_works_after_the_workspace_has_changed(scaler: LiveEndpoint, tmp_path: Path) -> None:
    nb.init(tmp_path / "other")
    assert scaler.record.status == "READY"
    assert scaler.stop().status == "STOPPED"


def test_the_handle_shows_itself(scaler: LiveEndpoint) -> None:
    assert repr(scaler) == f"LiveEndpoint(scaler@prod, running, {scaler.url}, serves scaler/1)"
    assert "scaler@prod" in scaler._repr_mimebundle_()["text/plain"]


def test_public_names() -> None:
    assert nb.serve is serve
    assert nb.endpoints is endpoints
