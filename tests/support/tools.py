"""What a test needs from outside Python: found, or the test is skipped with a line that says what is missing.

With ``CI=true`` a skip is a failure, because there `make` has brought everything. Only tests marked ``gpu`` may be
skipped there: no `make` brings an accelerator.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Nothing but this machine can be named, so a page that asks for more fails visibly.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]


def in_ci() -> bool:
    """Tell whether this is a run in which every tool must be there."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_chromium() -> Path | None:
    """Return Chromium: ``NBOPS_CHROMIUM``, the system's, or the one that Playwright has installed."""
    named = os.environ.get("NBOPS_CHROMIUM")
    for name in filter(None, (named, "chromium", "chromium-browser", "google-chrome")):
        found = shutil.which(name)
        if found:
            return Path(found)
    home = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    found_own = sorted(home.glob("chromium*/chrome-linux*/*chrom*"))
    return next((path for path in found_own if os.access(path, os.X_OK) and path.is_file()), None)


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's server programs, the newest version first."""
    on_path = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def find_accelerator() -> Path | None:
    """Return the device node of an NVIDIA accelerator."""
    node = Path("/dev/nvidiactl")
    return node if node.exists() else None


TOOLS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "chromium": (find_chromium, "Chromium is not installed; `make tools` brings it"),
    "postgres": (find_postgres, "the PostgreSQL server programs are not installed; `make tools` brings them"),
    "node": (lambda: Path(shutil.which("node") or "") if shutil.which("node") else None, "Node is not on PATH"),
    "gpu": (find_accelerator, "there is no accelerator"),
}


def require(tool: str) -> Path:
    """Return where `tool` is, or skip the calling test with a line that says so."""
    find, missing = TOOLS[tool]
    place = find()
    if place is None:
        pytest.skip(missing)
    return place


def refuse_skip(reason: str, *, may_skip: bool) -> str | None:
    """Return the message with which a skip for `reason` fails here, or None where a skip is a skip."""
    return None if may_skip or not in_ci() else f"skipped, and with CI=true a skip is a failure: {reason}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where every tool must be there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        message = refuse_skip(_reason(report), may_skip=item.get_closest_marker("gpu") is not None)
        if message:
            report.outcome, report.longrepr = "failed", message
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself while it is collected."""
    report = yield
    if report.skipped:
        message = refuse_skip(_reason(report), may_skip=False)
        if message:
            report.outcome, report.longrepr = "failed", message
    return report


@pytest.fixture(autouse=True)
def _needs_accelerator(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu"):
        require("gpu")


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """Chromium's program; the test is skipped where there is none."""
    return require("chromium")


@pytest.fixture(scope="session")
def chromium_flags() -> list[str]:
    """How Chromium is started in the tests: headless in a container, and deaf to all but this machine."""
    return list(CHROMIUM_FLAGS)
