"""How the debugger does on the proving ground; writes the table of the docs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "debugger-table.md"
HEAD = """# How the debugger does

Written by `make bench`: 188 sick programs, each with a fixed twin, and 71 healthy ones, run with `nb.preflight` and
`nb.watch` attached as a user would. Every figure is counted in this run: three seeds of each sick program and of its
twin, five of each healthy one.

*In time* is before the first step for what would crash, within 20 steps for most invariants and within 500 for
statistics; *fix* counts programs that reach 95 % of their twin's score when the first patch is applied by a machine,
which a patch that leaves something to fill in cannot be.

The rules and patches were written with these programs at hand, so expect somewhat less on others.

"""


def test_the_proving_ground(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.debugging.zoo", "judge", "--doctor", "both", "--fixes",
         "--group", "sick", "twin", "healthy",
         "--results", str(tmp_path / "zoo"), "--markdown", str(tmp_path / "table.md")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    tables, _, _ = (tmp_path / "table.md").read_text().partition("\n## Cost")
    PAGE.write_text(HEAD + tables.replace("## Sick programs under `both`", "## Sick programs") + "\n")
