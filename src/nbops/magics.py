"""IPython glue: `%mlops`, `%%mlops`, the hooks that record cells, completion; and taking all of it away again.

What the verbs do is in `nbops.verbs`; how a cell is recorded, in `nbops.tracking.capture.cells`.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import ChainMap
from collections.abc import Callable
from typing import Any

from nbops.tracking.capture.cells import CellRecorder
from nbops.verbs.completion import complete_line
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.words import UsageError, split

_SESSION = "_nbops_session"  # where a shell keeps its session, so that a reloaded module finds it
_FIRST_LINE = re.compile(r"%%mlops(?![\w?])(?P<rest>[^\n]*)")
MAX_ERRORS = 3


def load(shell: Any) -> None:
    """Add the magic, the hooks and the completion to an IPython shell; loading twice changes nothing."""
    if getattr(shell, _SESSION, None) is None:
        session = Session(shell)
        session.install()
        setattr(shell, _SESSION, session)


def unload(shell: Any) -> None:
    """Take away everything that `load` added and put back what it replaced."""
    session = getattr(shell, _SESSION, None)
    if session is not None:
        delattr(shell, _SESSION)
        session.remove()


def cell_to_line(lines: list[str]) -> list[str]:
    """Turn a first line ``%%mlops run NAME`` into the line magic ``%mlops --cell run NAME``.

    The rest of the cell stays the cell: its last value is shown, it may await, its traceback
    points at the true line, and its failure stops "Run All". The number of lines stays the same.
    """
    match = _FIRST_LINE.match(lines[0]) if lines else None
    if match is None:
        return lines
    end = "\n" if lines[0].endswith("\n") else ""
    return [f"%mlops --cell{match['rest'].rstrip()}{end}", *lines[1:]]


# It has none, but IPython skips such transforms when it asks whether a cell is complete. So a terminal goes on waiting
# for the lines below %%mlops, as it does for any cell magic.
cell_to_line.has_side_effects = True  # type: ignore[attr-defined]


class Session:
    """What nbops added to one shell.

    Attributes
    ----------
    errors : list of str
        What went wrong inside the cell hooks; after `MAX_ERRORS` they are off.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.errors: list[str] = []
        self._recorder = CellRecorder(shell)
        self._thread = threading.get_ident()
        self._cells: list[Any] = []  # cells that execute now, outermost first: a magic may run cells inside a cell
        self._quiet: set[str] = set()
        self._endings: list[Callable[[], Any]] = []
        self._replaced: dict[str, Any] = {}
        self._matcher = self._make_matcher()

    # adding and taking away

    def install(self) -> None:
        """Add everything to the shell."""
        from IPython.core.magic import needs_local_scope, output_can_be_silenced

        def mlops(line: str, local_ns: dict[str, Any] | None = None) -> Any:
            """`%mlops VERB args --option value`: track, check, debug, register and serve.

            `%mlops` alone shows the status, `%mlops help` lists the verbs, `%mlops VERB -h` explains one.
            `%%mlops run NAME` at the top of a cell tracks the cell as a run.
            """
            return self.line(line, local_ns)

        def mlops_cell(line: str, cell: str) -> None:
            """`%%mlops run NAME --param lr 0.1`: track this cell as a run; see `%mlops help`."""
            raise UsageError("%%mlops was called as a function", hint="Write it as the first line of a cell.")

        tables = self.shell.magics_manager.magics
        self._replaced = {kind: tables[kind].get("mlops") for kind in ("line", "cell")}
        self.shell.register_magic_function(output_can_be_silenced(needs_local_scope(mlops)), "line", "mlops")
        self.shell.register_magic_function(mlops_cell, "cell", "mlops")
        self.shell.input_transformers_cleanup.append(cell_to_line)
        self.shell.events.register("pre_run_cell", self._before)
        self.shell.events.register("post_run_cell", self._after)
        self.shell.Completer.custom_matchers.append(self._matcher)

    def remove(self) -> None:
        """Take everything away; a run of the executing cell ends here."""
        from IPython.core.interactiveshell import ExecutionResult

        self._end_things()
        if self._cells:
            self._end_cell(ExecutionResult(None))  # type: ignore[no-untyped-call]
        self._recorder.close()
        self.shell.events.unregister("pre_run_cell", self._before)
        self.shell.events.unregister("post_run_cell", self._after)
        self.shell.input_transformers_cleanup[:] = [
            t
            for t in self.shell.input_transformers_cleanup
            if getattr(t, "__qualname__", "") != cell_to_line.__qualname__
        ]
        self.shell.Completer.custom_matchers.remove(self._matcher)
        for kind, before in self._replaced.items():
            table = self.shell.magics_manager.magics[kind]
            table.pop("mlops", None)
            if before is not None:
                table["mlops"] = before

    # the magic

    def line(self, line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Run one line of verbs; with ``--cell`` in front it stands at the top of a cell."""
        words = split(line.rstrip().removesuffix(";"))
        is_cell = words[:1] == ["--cell"]
        is_recording = self._cells and not self.is_off
        call = Call(
            namespace=ChainMap(local_ns or {}, self.shell.user_ns),
            is_cell=is_cell,
            open_run=self._open_run if is_recording else None,
            end_with_cell=self._endings.append if self._cells else None,
            notes=(f"Cells are not recorded after {MAX_ERRORS} errors: {self.errors[-1]}",) if self.is_off else (),
        )
        value = dispatch([*words[is_cell:]], call)
        if not is_cell:
            return value
        if value is not None:
            self._display(value)
        return None

    def _open_run(self, name: str | None, *, quiet: bool, **options: Any) -> None:
        live = self._recorder.open_run(name, **options)
        if quiet:
            self._quiet.add(live.id)

    def _display(self, value: Any) -> None:
        from IPython.display import display  # imported here: the command line has no IPython

        display(value)  # type: ignore[no-untyped-call]

    # the hooks

    @property
    def is_off(self) -> bool:
        """Whether the hooks were switched off after too many errors."""
        return len(self.errors) >= MAX_ERRORS

    def _before(self, info: Any) -> None:
        if threading.get_ident() != self._thread:  # a subshell: not the notebook's cells
            return
        if getattr(info, "cell_id", None):  # a request of the front end never begins inside another one
            self._cells.clear()
        self._cells.append(info)
        if len(self._cells) == 1:
            self._guard(self._recorder.before, info)

    def _after(self, result: Any) -> None:
        if threading.get_ident() != self._thread or not self._cells:
            return
        self._cells.pop()
        if not self._cells:
            self._end_things()
            self._guard(self._end_cell, result)

    def _end_things(self) -> None:
        """End what lasts as long as its cell: a watch. Also where recording is off."""
        while self._endings:
            value = self._endings.pop()()
            if value is not None:
                self._display(value)

    def _end_cell(self, result: Any) -> None:
        for live in self._recorder.after(result):
            if live.id not in self._quiet:
                self._display(live)
            self._quiet.discard(live.id)
        error = result.error_in_exec
        if isinstance(error, RuntimeError | MemoryError) and "torch" in sys.modules:
            self._explain_memory(error)

    def _explain_memory(self, error: BaseException) -> None:
        from nbops.debugging.memory import oom

        if oom.is_out_of_memory(error):
            self._display(oom.explain(error))

    def _guard(self, hook: Callable[[Any], Any], argument: Any) -> None:
        """Call a hook so that its error never reaches the cell; after `MAX_ERRORS` the hooks are off."""
        if self.is_off:
            return
        try:
            hook(argument)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}".partition("\n")[0])
            if self.is_off:
                print(f"nbops: cells are not recorded any more: {self.errors[-1]}\n"
                      "Load the extension again when it is mended: %reload_ext nbops", file=sys.stderr)  # fmt: skip

    # completion

    def _make_matcher(self) -> Any:
        from IPython.core.completer import SimpleCompletion, context_matcher

        @context_matcher(identifier="nbops")  # type: ignore[untyped-decorator]
        def match(context: Any) -> dict[str, Any]:
            found = complete_line(context.text_until_cursor, self.shell.user_ns)
            if found is None:
                return {"completions": [], "suppress": False}
            fragment, names = found
            return {
                "completions": [SimpleCompletion(name, type="nbops") for name in names],
                "matched_fragment": fragment,
                "suppress": True,
                "ordered": True,
            }

        return match
