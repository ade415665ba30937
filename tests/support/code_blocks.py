"""The Python blocks of a page, and a program that runs them like the cells of one notebook.

Blocks of one page share their names, top to bottom. A block is left out only where its readers see why:
```` ```python title="Not run: needs a bucket" ````.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r'title="Not run: (?P<reason>[^"]{5,})"')
RUN_LANGUAGES = {"python", "py", "ipython", "python3"}


@dataclass(frozen=True)
class Block:
    """One block: the line where it begins, its code, and why it is left out, if it is."""

    line: int
    code: str
    not_run: str = ""


def blocks(text: str) -> Iterator[Block]:
    """Yield the Python blocks of a Markdown text."""
    for found in _FENCE.finditer(text):
        language, _, rest = found["info"].strip().partition(" ")
        if language in RUN_LANGUAGES:
            reason = _REASON.search(rest)
            line = text.count("\n", 0, found.start()) + 1
            yield Block(line, textwrap.dedent(found["code"]), reason["reason"] if reason else "")


def run(page: str, cells: list[tuple[int, str]]) -> int:
    """Run `cells` in one IPython shell; print where it failed and return the exit code."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    failed = 0
    for line, code in cells:
        result = shell.run_cell(code, store_history=True, cell_id=f"{Path(page).stem}-{line}")
        if not result.success:
            print(f"{page}:{line}: {result.error_before_exec or result.error_in_exec!r}", file=sys.stderr)
            failed = 1
            break
    _stop_endpoints()
    return failed


def _stop_endpoints() -> None:
    """What a page served does not outlive it."""
    from nbops.store.workspace import is_open

    if is_open():
        import nbops as nb

        for endpoint in nb.endpoints():
            if endpoint.status in {"STARTING", "READY"}:
                from nbops.serving.endpoints import stop

                stop(endpoint.id)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    raise SystemExit(run(given["page"], [tuple(cell) for cell in given["cells"]]))
