"""One table for all benchmarks: each row is measured beside its peers in this run, and written to the docs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

OWN_PAGE = "test_zoo.py"  # writes another page, and no row of this one
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench`: every row is measured beside its peers, in one run on one machine. Compare the ratios;
absolute figures belong to the machine they were taken on.

"""


@dataclass
class Bench:
    """Collects rows; `row` prints one as soon as it is measured."""

    rows: dict[str, list[str]] = field(default_factory=dict)

    def row(
        self,
        group: str,
        what: str,
        *,
        ours: float,
        unit: str,
        peers: Mapping[str, float],
        goal: str = "",
        lower_is_better: bool = True,
    ) -> None:
        """Add one measurement: ours, each peer's in the same unit, and how many times better ours is."""
        beside = "; ".join(f"{name} {_number(value)}" for name, value in peers.items()) or "—"
        ratios = [value / ours if lower_is_better else ours / value for value in peers.values() if value and ours]
        better = ", ".join(f"{ratio:,.2g} ×" for ratio in ratios) or "—"
        line = f"| {what} | {_number(ours)} {unit} | {beside} | {better} | {goal or '—'} |"
        self.rows.setdefault(group, []).append(line)
        print(f"\n{line}", flush=True)

    def text(self) -> str:
        """Return the page."""
        machine = (
            f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        )
        parts = [HEAD, f"Machine: {machine}.\n"]
        for group, lines in self.rows.items():
            table = ["| what | nbops | beside | better by | goal |", "|---|---|---|---|---|", *lines]
            parts.append(f"\n## {group}\n\n" + "\n".join(table) + "\n")
        return "".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_bench = Bench()


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """The table of this run."""
    return _bench


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page when all benchmarks ran; a part of them would only leave holes."""
    everything = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {OWN_PAGE}
    ran = {item.path.name for item in session.items} - {OWN_PAGE}
    print(_bench.text(), file=sys.stderr)
    if ran == everything and not session.testsfailed and not session.config.option.keyword:
        PAGE.write_text(_bench.text())
