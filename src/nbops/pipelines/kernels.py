"""One kernel for one notebook: started without waste, watched, and stopped for certain.

Differs from jupyter_client's defaults where those cost time or reliability: sockets of the
Unix family in a private folder instead of TCP ports (no port is taken twice, nothing is
sent over a network), no fixed waits at start and stop, and its end is seen at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from nbops.core.errors import NotebookFailed, NotFound, did_you_mean

# ipykernel 7.4 can hang for good in an answer to shutdown_request: its control thread writes to an output thread that
# the main thread has ended already. Stopping the main loop from a cell takes the way of a kernel that exits by itself.
_LEAVE = "(lambda loop: loop.add_callback(loop.stop))(__import__('IPython').get_ipython().kernel.io_loop)"
_SOCKET_PATH_BYTES = 100  # sun_path holds 108, of which the port's number takes a few


class KernelProcess:
    """A kernel of our own.

    Parameters
    ----------
    name : str
        Name of the kernelspec.
    cwd : Path
        Its working folder; this process's own folder does not change.
    env : mapping
        Environment on top of this process's own.
    """

    def __init__(self, name: str, *, cwd: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.cwd = cwd
        self.env = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **env}
        self.info: dict[str, Any] = {}
        self.manager: Any = None
        self.client: Any = None
        self._folder: Path | None = None
        self._leaves_by_itself = False

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the kernel and return when it answers and its output can be heard."""
        self._folder = Path(tempfile.mkdtemp(prefix="nbops-", dir=_runtime_dir()))
        self.manager = manager = AsyncKernelManager(kernel_name=self.name)
        manager.client_factory = _CellClient
        manager.connection_file = str(self._folder / "kernel.json")
        spec = KernelSpecManager().get_kernel_spec(self.name)
        self._leaves_by_itself = is_ipykernel = any("ipykernel" in word for word in spec.argv)
        socket = str(self._folder / "k")
        if is_ipykernel and sys.platform != "win32" and len(os.fsencode(socket)) < _SOCKET_PATH_BYTES:
            manager.transport, manager.ip = "ipc", socket
        manager.context.reconnect_ivl = 10  # milliseconds: we connect before the kernel listens
        manager.context.rcvhwm = 0  # a chatty cell loses no output on our side
        arguments = ["--HistoryManager.hist_file=:memory:"] if is_ipykernel else []
        await manager.start_kernel(extra_arguments=arguments, cwd=str(self.cwd), env=self.env)
        self.client = manager.client()
        self.client.start_channels(stdin=False, hb=False)
        self.info = await self._ready(time.monotonic() + timeout_s, timeout_s)

    async def _ready(self, deadline: float, timeout_s: float) -> dict[str, Any]:
        """Wait for kernel_info's answer, and for any message on iopub: only then is the subscription there.

        jupyter_client then waits 0.2 s more to drain iopub; messages of other requests are
        filtered by their parent anyway.
        """
        while True:
            self.client.kernel_info()
            with contextlib.suppress(Empty):
                reply = await self.client.get_shell_msg(timeout=1)
                if reply["msg_type"] == "kernel_info_reply":
                    await self.client.get_iopub_msg(timeout=0.2)
                    return dict(reply["content"])
            if not await self.manager.is_alive():
                raise NotebookFailed(
                    f"kernel '{self.name}' ended while starting ({self.death()})",
                    hint=f"Start it by hand to see why: jupyter console --kernel {self.name}",
                )
            if time.monotonic() > deadline:
                raise NotebookFailed(
                    f"kernel '{self.name}' did not answer within {timeout_s:g} s",
                    hint="Free the machine, or give it longer to start.",
                )

    async def gone(self) -> None:
        """Return when the kernel's process has ended: at once where the system tells it (Linux), else within 50 ms."""
        pid = getattr(self.manager.provisioner, "pid", None)
        if pid is not None and hasattr(os, "pidfd_open") and await self.manager.is_alive():
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            fd = os.pidfd_open(pid)
            loop.add_reader(fd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(fd)
                os.close(fd)
        while await self.manager.is_alive():
            await asyncio.sleep(0.05)

    def death(self) -> str:
        """Return how the process ended, in words."""
        process = getattr(self.manager.provisioner, "process", None)
        code = process.poll() if process is not None else None
        if code is None:
            return "it is gone"
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
        return f"killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running cell."""
        if self.manager is not None and self.manager.has_kernel:
            await self.manager.interrupt_kernel()

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """End the process and remove its files: asked first, then SIGTERM, then SIGKILL to it and its children."""
        try:
            if self.manager is not None and self.manager.has_kernel:
                await self._end(grace_s)
        finally:
            if self.client is not None:
                self.client.stop_channels()
            if self.manager is not None:
                await self.manager.cleanup_resources()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    async def _end(self, grace_s: float) -> None:
        provisioner = self.manager.provisioner
        steps = [(grace_s, provisioner.terminate), (2.0, self._kill), (5.0, None)]
        if await self.manager.is_alive():
            if self._leaves_by_itself and grace_s > 0:
                self.client.execute(_LEAVE, silent=True, store_history=False)
                steps.insert(0, (2.0, self.manager.request_shutdown))
            else:
                await self.manager.request_shutdown()
        for wait_s, next_step in steps:
            try:
                await asyncio.wait_for(self.gone(), wait_s)
                break
            except TimeoutError:
                if next_step is not None:
                    await next_step()
        await self._sweep()
        if not await self.manager.is_alive():
            await provisioner.wait()  # reaps it; returns at once

    async def _sweep(self) -> None:
        """End what the kernel started and left behind; an endpoint that it served has a session of its own."""
        pid = getattr(self.manager.provisioner, "pid", None)
        if pid is None or not hasattr(os, "killpg"):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGTERM)
            for _ in range(20):
                await asyncio.sleep(0.05)
                os.killpg(pid, 0)
            os.killpg(pid, signal.SIGKILL)

    async def _kill(self) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process and its children now; may be called from any thread."""
        pid = getattr(getattr(self.manager, "provisioner", None), "pid", None)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(pid, signal.SIGKILL)  # it leads a session of its own
            else:
                os.kill(pid, signal.SIGTERM)


class _CellClient(AsyncKernelClient):
    """A client that tells the kernel which cell it executes, as JupyterLab does."""

    cell_id: str = ""

    def execute(
        self, code: str, silent: bool = False, store_history: bool = True,
        user_expressions: dict[str, Any] | None = None, allow_stdin: bool | None = None, stop_on_error: bool = True,
    ) -> str:  # fmt: skip
        content = {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": user_expressions or {},
            "allow_stdin": bool(allow_stdin),
            "stop_on_error": stop_on_error,
        }
        message = self.session.msg("execute_request", content, metadata={"cellId": self.cell_id})
        self.shell_channel.send(message)
        return str(message["header"]["msg_id"])


def find_kernel(name: str) -> str:
    """Return `name` if such a kernel is installed, or raise `NotFound` with what is."""
    name = "python3" if name == "python" else name.lower()  # as jupyter_client understands it
    known = KernelSpecManager().find_kernel_specs()
    if name not in known:
        hint = (
            did_you_mean(name, known) or f"Give kernel_name as one of: {', '.join(sorted(known)) or 'none installed'}"
        )
        raise NotFound(f"no kernel '{name}' is installed", hint=hint)
    return name


def kernel_of(notebook: Mapping[str, Any], kernel_name: str | None = None) -> str:
    """Return the kernel to use: the one asked for, else the notebook's, else ``python3``."""
    return find_kernel(kernel_name or notebook.get("metadata", {}).get("kernelspec", {}).get("name") or "python3")


def _runtime_dir() -> str | None:
    """Return a folder whose path is short enough for sockets; None for the system's temporary one."""
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    return folder if len(folder) < 60 and os.access(folder, os.W_OK) else None
