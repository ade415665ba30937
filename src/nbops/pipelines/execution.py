"""Executes the cells of one notebook in a kernel of its own and says truly how each of them ended.

Knows no store: what happens is told to listeners. Only nbclient's reading of kernel
messages is used; deadlines, interrupts and the kernel's death are handled here.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from nbops.core.errors import NotebookFailed
from nbops.core.records import Failure, RunStatus
from nbops.pipelines.kernels import KernelProcess
from nbops.pipelines.notebooks import NotebookWriter, nbf

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINE = re.compile(r"Cell In\[\d+\], line (\d+)")
_TRACEBACK_CHARS = 8000
_INTERRUPT_GRACE_S = 3.0


class Listener(Protocol):
    """What follows an execution; called in the executing thread."""

    def cell_started(self, index: int, cell: Any) -> None:
        """A code cell was sent to the kernel."""

    def cell_ended(self, index: int, cell: Any, *, duration_s: float, error: Failure | None, failed: bool) -> None:
        """It ended; an error that the cell was allowed to raise is not a failure."""

    def output_added(self, cell: Any, output: Any) -> None:
        """The cell printed or displayed something."""


@dataclass(frozen=True)
class Outcome:
    """How a notebook ended; `ended_early` is the id of a cell that stopped it on purpose (``sys.exit(0)``).

    `signal` is what interrupted this process, for the caller to raise again.
    """

    status: RunStatus
    error: Failure | None = None
    ended_early: str | None = None
    signal: BaseException | None = None


class Execution:
    """One execution of one notebook, whose cells, outputs and metadata are updated in place.

    Parameters
    ----------
    notebook : NotebookNode
        With cell ids; its outputs must have been cleared.
    kernel : KernelProcess
        Not yet started.
    writer : NotebookWriter
        Keeps the executed notebook on disk.
    listeners : sequence of Listener
        Told of each cell.
    timeout_s, cell_timeout_s : float, optional
        Longest time for all cells and for one cell, seconds.
    start_timeout_s : float
        Longest time until the kernel answers, seconds.
    """

    def __init__(
        self, notebook: Any, kernel: KernelProcess, *, writer: NotebookWriter, listeners: Sequence[Listener] = (),
        timeout_s: float | None = None, cell_timeout_s: float | None = None, start_timeout_s: float = 60.0,
    ) -> None:  # fmt: skip
        self.notebook = notebook
        self.kernel = kernel
        self._writer = writer
        self._listeners = listeners
        self._timeout_s, self._cell_timeout_s = timeout_s, cell_timeout_s
        self._start_timeout_s = start_timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._stop: Failure | None = None  # why we end it: a deadline or an interrupt
        self._interrupted = False
        self._interrupting: asyncio.Task[None] | None = None  # held, for the loop keeps weak references only
        self._deadline: asyncio.TimerHandle | None = None
        self._outcome: Outcome | None = None
        self._crash: BaseException | None = None
        self._done = threading.Event()

    def run(self) -> Outcome:
        """Execute in a thread with an event loop of its own, so that it works inside a running loop too.

        KeyboardInterrupt (and SystemExit, from a SIGTERM handler) interrupts the cell, ends the kernel
        and comes back in the outcome; a second one kills the kernel.
        """
        signal: BaseException | None = None
        thread = threading.Thread(target=self._run, name="nbops-step", daemon=True)
        try:
            thread.start()
            self._done.wait()
        except (KeyboardInterrupt, SystemExit) as raised:
            signal = raised
            self.interrupt()
            try:
                self._done.wait()
            except (KeyboardInterrupt, SystemExit):
                self.kernel.kill()
                self._done.wait()
        thread.join()
        if self._crash is not None:
            raise self._crash
        outcome = self._outcome or Outcome(RunStatus.INTERRUPTED)
        return Outcome(outcome.status, outcome.error, outcome.ended_early, signal)

    def interrupt(self) -> None:
        """End the execution from another thread, as Ctrl-C does."""
        self._interrupted = True
        self._request_stop(Failure(type="KeyboardInterrupt", message="the run was interrupted"))

    def _request_stop(self, why: Failure) -> None:
        with self._lock:
            self._stop = self._stop or why
            loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._interrupt_kernel)

    def _interrupt_kernel(self) -> None:
        loop = asyncio.get_running_loop()
        self._interrupting = loop.create_task(self.kernel.interrupt())
        loop.call_later(_INTERRUPT_GRACE_S, self._kill_if_busy)

    def _kill_if_busy(self) -> None:
        if self._outcome is None:
            self.kernel.kill()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._crash = error
        finally:
            self._done.set()

    async def _main(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
        _note(self.notebook.metadata, start_time=_now(), end_time=None, duration=None, exception=None)
        started = time.monotonic()
        try:
            self._outcome = await self._execute()
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            await self.kernel.stop(grace_s=3.0 if self._stop else 10.0)
            with self._lock:
                self._loop = None
            failed = self._outcome is None or self._outcome.status is not RunStatus.FINISHED
            _note(
                self.notebook.metadata, end_time=_now(), duration=time.monotonic() - started, exception=failed or None
            )
            self._writer.write(self.notebook)

    async def _execute(self) -> Outcome:
        try:
            if self._stop is None:
                await self.kernel.start(timeout_s=self._start_timeout_s)
        except (NotebookFailed, OSError) as error:
            if self._stop is None:
                message = error.message if isinstance(error, NotebookFailed) else f"it cannot be started: {error}"
                return Outcome(RunStatus.FAILED, Failure(type="KernelDied", message=message))
        if self._stop is not None:
            return self._stopped(self._stop)
        self.notebook.metadata["language_info"] = nbf.from_dict(self.kernel.info.get("language_info", {}))
        client = _Client(self.notebook, self)
        if self._timeout_s is not None:
            self._deadline = self._expire_later(self._timeout_s, "the notebook")
        outcome = None
        for index, cell in enumerate(self.notebook.cells):
            outcome = await self._cell(client, index, cell)
            if outcome is not None:
                break
        client.set_widgets_metadata()
        return outcome or Outcome(RunStatus.FINISHED)

    async def _cell(self, client: _Client, index: int, cell: Any) -> Outcome | None:
        """Execute one cell; return how the notebook ended with it, or None to go on."""
        if self._stop is not None:
            return self._stopped(self._stop)
        if client.skip_cells_with_tag in cell.metadata.get("tags", []):
            return None
        if cell.cell_type != "code" or not cell.source.strip():
            _note(cell.metadata, status="completed")
            return None
        _note(cell.metadata, status="running", start_time=_now(), exception=False)
        for listener in self._listeners:
            listener.cell_started(index, cell)
        self._writer.maybe(self.notebook)
        timer = self._expire_later(self._cell_timeout_s, "it", cell) if self._cell_timeout_s else None
        started = time.monotonic()
        outcome, error = await self._attempt(client, index, cell)
        if timer is not None:
            timer.cancel()
        duration_s = time.monotonic() - started
        failed = error is not None and outcome is not None
        _note(
            cell.metadata, status="failed" if failed else "completed", exception=failed, end_time=_now(),
            duration=duration_s,
        )  # fmt: skip
        for listener in self._listeners:
            listener.cell_ended(index, cell, duration_s=duration_s, error=error, failed=failed)
        return outcome

    async def _attempt(self, client: _Client, index: int, cell: Any) -> tuple[Outcome | None, Failure | None]:
        """Execute one code cell; return how the notebook ended (None: go on) and the error of the cell."""
        self.kernel.client.cell_id = cell["id"]
        client.reply = {}
        try:
            await client.async_execute_cell(cell, index)
        except CellExecutionError:
            pass_on = True
        except DeadKernelError:
            return self._after_death(cell)
        else:
            pass_on = False
        error = _failure(client.reply, cell["id"])
        if self._stop is not None:
            outcome = self._stopped(self._stop, cell["id"])
            return outcome, error if error is None else outcome.error
        if pass_on and error is not None and error.type == "SystemExit" and error.message in ("", "0", "None"):
            return Outcome(RunStatus.FINISHED, ended_early=cell["id"]), None
        if pass_on:
            return Outcome(RunStatus.FAILED, error), error
        if any(part.get("source") == "ask_exit" for part in client.reply.get("payload", [])):  # exit(), quit()
            return Outcome(RunStatus.FINISHED, ended_early=cell["id"]), error
        return None, error

    def _after_death(self, cell: Any) -> tuple[Outcome, Failure]:
        if self._stop is not None:
            outcome = self._stopped(self._stop, cell["id"])
            error = outcome.error or self._stop
        else:
            error = Failure(type="KernelDied", message=f"the kernel died: {self.kernel.death()}", cell_id=cell["id"])
            outcome = Outcome(RunStatus.FAILED, error)
        cell.outputs.append(nbf.v4.new_output("error", ename=error.type, evalue=error.message, traceback=[
            f"{error.type}: {error.message}"
        ]))  # fmt: skip
        return outcome, error

    def _stopped(self, why: Failure, cell_id: str | None = None) -> Outcome:
        error = Failure(type=why.type, message=why.message, cell_id=why.cell_id or cell_id)
        return Outcome(RunStatus.INTERRUPTED if self._interrupted else RunStatus.FAILED, error)

    def _expire_later(self, after_s: float, what: str, cell: Any = None) -> asyncio.TimerHandle:
        why = Failure(
            type="TimeoutError", message=f"{what} was still running after {after_s:g} s", cell_id=cell and cell["id"]
        )
        return asyncio.get_running_loop().call_later(after_s, self._request_stop, why)

    def message_read(self, cell: Any, output: Any) -> None:
        """Tell listeners of an output, and save if it is time; called for each message of a cell."""
        if output is not None:
            for listener in self._listeners:
                listener.output_added(cell, output)
        self._writer.maybe(self.notebook)


class _Client(NotebookClient):
    """nbclient's message loop on a kernel that is already there."""

    def __init__(self, notebook: Any, execution: Execution) -> None:
        # iopub_timeout: after its reply a chatty cell may still have much output on the way
        super().__init__(notebook, km=execution.kernel.manager, timeout=None, iopub_timeout=60, record_timing=False)
        self.kc = execution.kernel.client
        self.execution = execution
        self.reply: dict[str, Any] = {}
        self.on_cell_executed = self._keep_reply

    def _keep_reply(self, *, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        self.reply = execute_reply["content"]

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        output = super().process_message(msg, cell, cell_index)
        self.execution.message_read(cell, output)
        return output

    async def _async_poll_kernel_alive(self) -> None:
        await self.execution.kernel.gone()
        await asyncio.sleep(0.1)  # what it said last is still on its way
        if self.task_poll_for_reply is not None:
            self.task_poll_for_reply.cancel()


def _failure(reply: dict[str, Any], cell_id: str) -> Failure | None:
    if reply.get("status") != "error":
        return None
    traceback = _ANSI.sub("", "\n".join(reply.get("traceback") or []))
    line = _LINE.search(traceback)
    return Failure(
        type=str(reply.get("ename", "Error")),
        message=_ANSI.sub("", str(reply.get("evalue", ""))),
        cell_id=cell_id,
        line=int(line[1]) if line else None,
        traceback=traceback[-_TRACEBACK_CHARS:],
    )


def _note(metadata: Any, **values: Any) -> None:
    """Set papermill's metadata of a cell or a notebook, which its readers know."""
    metadata.setdefault("papermill", nbf.from_dict({})).update(values)


def mark_pending(notebook: Any) -> None:
    """Set every cell's state to pending, as before an execution."""
    for cell in notebook.cells:
        _note(cell.metadata, exception=None, start_time=None, end_time=None, duration=None, status="pending")


def _now() -> str:
    return datetime.now(UTC).isoformat()
