"""What a cell put out, taken from what IPython itself keeps and passes on; nothing is replaced to get it.

Text comes from the history's record of outputs (IPython 9 and later), displays from the kernel's
hook for display messages. Both are made into nbformat's JSON later, on the background thread.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_STREAMS = {"out_stream": "stdout", "err_stream": "stderr"}
_MAX_DISPLAYS = 200
Output = dict[str, Any]


@dataclass
class _Display:
    """One display message, and how much of the history's record came before it."""

    message: Mapping[str, Any]
    entries: int
    parts: int


@dataclass
class CellOutputs:
    """The raw outputs of one cell; cheap to take, `as_json` does the work."""

    entries: list[tuple[str, Any]] = field(default_factory=list)  # (type, bundle or list of texts)
    displays: list[_Display] = field(default_factory=list)
    error: Mapping[str, Any] | None = None
    execution_count: int | None = None
    left_out: int = 0  # displays beyond the first many

    def __bool__(self) -> bool:
        return bool(self.displays or self.error or any(bundle for _, bundle in self.entries))

    def as_json(self, *, max_bytes: int) -> bytes:
        """Return a JSON list of nbformat outputs of about `max_bytes` at most; what is cut says so."""
        outputs = _capped(self._in_order(), max_bytes)
        return json.dumps(outputs, ensure_ascii=False, separators=(",", ":"), default=str).encode(errors="replace")

    def _in_order(self) -> list[Output]:
        """Return all outputs as they followed each other: displays may stand between two pieces of one stream."""
        found: list[Output] = []
        displays = list(self.displays)
        for n, (kind, bundle) in enumerate(self.entries):
            while displays and displays[0].entries <= n:
                found.append(_display(displays.pop(0).message))
            if kind in _STREAMS:
                done = 0
                while displays and displays[0].entries == n + 1:
                    display = displays.pop(0)
                    found += [_stream(kind, bundle[done : display.parts])] if display.parts > done else []
                    found.append(_display(display.message))
                    done = max(done, display.parts)
                found += [_stream(kind, bundle[done:])] if bundle[done:] else []
            elif kind == "execute_result":
                found.append({"output_type": kind, "data": _data(bundle), "metadata": {},
                              "execution_count": self.execution_count})  # fmt: skip
            elif not self.displays:  # where there is a hook it saw the display too, with its metadata
                found.append({"output_type": kind, "data": _data(bundle), "metadata": {}})
        found += [_display(display.message) for display in displays]
        found += [_note(self.left_out)] if self.left_out else []
        return [*found, {**self.error, "output_type": "error"}] if self.error else found


class OutputWatch:
    """Watches the outputs of one shell.

    Parameters
    ----------
    shell : InteractiveShell
        Its history and, in a kernel, its display publisher are listened to.
    """

    def __init__(self, shell: Any) -> None:
        self._history = getattr(shell, "history_manager", None)
        self._publisher = getattr(shell, "display_pub", None)
        self._has_hook = hasattr(self._publisher, "register_hook") and hasattr(self._publisher, "unregister_hook")
        self._shell = shell
        self._displays: list[_Display] = []
        self._count = self._left_out = 0
        self._base = self._parts = 0  # where this cell begins: a cell that keeps no history leaves the same count
        self._ahead = 1  # by how much the shell's count has gone on when a cell begins; learned from the last cell

    def begin(self, *, keeps_history: bool = True) -> None:
        """Forget the cell before; listen to this one."""
        self._displays, self._left_out = [], 0
        self._count = getattr(self._shell, "execution_count", 0) - (self._ahead if keeps_history else 0)
        self._base, self._parts = self._end_of(self._kept(self._count))
        if self._has_hook and self._publisher is not None:
            self._publisher.unregister_hook(self._on_message)
            self._publisher.register_hook(self._on_message)

    def end(self, execution_count: int | None, *, is_failed: bool) -> CellOutputs:
        """Return what the cell put out."""
        self.stop()
        displays, left_out, self._displays, self._left_out = self._displays, self._left_out, [], 0
        if execution_count is not None and execution_count != self._count:
            self._ahead += self._count - execution_count
            self._count, self._base, self._parts = execution_count, 0, 0
        entries = []
        for n, entry in enumerate(self._kept(self._count)[self._base :]):
            is_stream = entry.output_type in _STREAMS
            skipped = self._parts if n == 0 else 0
            entries.append((entry.output_type, list(entry.bundle["stream"])[skipped:] if is_stream else entry.bundle))
        raised = getattr(self._history, "exceptions", None) if is_failed else None
        error = raised.get(execution_count) if raised else None
        return CellOutputs(entries, displays, error, execution_count, left_out)

    def stop(self) -> None:
        """Listen no more."""
        if self._has_hook and self._publisher is not None:
            self._publisher.unregister_hook(self._on_message)

    def _kept(self, count: int) -> Sequence[Any]:
        kept = getattr(self._history, "outputs", None)  # since IPython 9
        return kept.get(count, ()) if kept else ()

    @staticmethod
    def _end_of(entries: Sequence[Any]) -> tuple[int, int]:
        """Return where the next text goes: the entry, which is the last one if that is text, and the part of it."""
        if entries and entries[-1].output_type in _STREAMS:
            return len(entries) - 1, len(entries[-1].bundle["stream"])
        return len(entries), 0

    def _on_message(self, message: Any) -> Any:
        """Note a display message and pass it on unchanged."""
        kind = message.get("header", {}).get("msg_type", "")
        content = message.get("content", {})
        if kind == "clear_output":
            self._displays.clear()
            self._left_out = 0
        elif kind == "update_display_data":
            self._update(content)
        elif kind == "display_data" and len(self._displays) >= _MAX_DISPLAYS:
            self._left_out += 1
        elif kind == "display_data":
            entries = self._kept(self._count)
            last, parts = self._end_of(entries)
            parts -= self._parts if last == self._base else 0
            self._displays.append(_Display(content, len(entries) - self._base, parts))
        return message

    def _update(self, content: Mapping[str, Any]) -> None:
        id = content.get("transient", {}).get("display_id")
        for display in self._displays:
            if id is not None and display.message.get("transient", {}).get("display_id") == id:
                display.message = content


def _stream(kind: str, parts: Sequence[str]) -> Output:
    return {"output_type": "stream", "name": _STREAMS[kind], "text": "".join(parts)}


def _note(count: int) -> Output:
    return {"output_type": "stream", "name": "stdout", "text": f"[{count:,} more outputs, not kept]\n"}


def _display(message: Mapping[str, Any]) -> Output:
    return {"output_type": "display_data", "data": _data(message["data"]), "metadata": dict(message["metadata"])}


def _data(bundle: Mapping[str, Any]) -> dict[str, Any]:
    return {m: base64.b64encode(v).decode() if isinstance(v, bytes) else v for m, v in bundle.items()}


def _capped(outputs: list[Output], max_bytes: int) -> list[Output]:
    """Return outputs cut to a budget: long text keeps its two ends, other kinds are named with their size."""
    left = max_bytes
    kept = []
    for output in outputs:
        if output["output_type"] == "stream":
            text = _cut(output["text"], left)
            output = {**output, "text": text}
            left -= len(text)
        elif "data" in output:
            data = {}
            for mime in sorted(output["data"], key=lambda mime: mime != "text/plain"):  # the plain text first
                value = output["data"][mime]
                size = len(value) if isinstance(value, str) else len(json.dumps(value, default=str))
                if size <= left:
                    data[mime] = value
                    left -= size
                elif mime == "text/plain" and isinstance(value, str):
                    data[mime] = _cut(value, left)
                    left -= len(data[mime])
                else:
                    data.setdefault("text/plain", f"[{mime}, {size:,} bytes, not kept]")
            output = {**output, "data": data}
        kept.append(output)
        if left <= 0 and output is not outputs[-1] and len(kept) < len(outputs):
            rest = len(outputs) - len(kept)
            return [*kept, _note(rest)]
    return kept


def _cut(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    half = max(0, room // 2)
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters not kept]\n{text[len(text) - half :]}"
