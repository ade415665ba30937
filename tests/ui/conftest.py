"""Browser tests: servers for the session, one Chromium per module, a fresh page per test.

`lab` is JupyterLab in a folder whose workspace holds 10,000 runs; `start_lab` starts others. `page` fails its test
when the page asks for anything that is not on this machine. Screenshots go to the folder that
``NBOPS_SCREENSHOTS`` names, else to ``test-results/ui`` of the checkout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from lab import (
    LabServer,
    axe_script,
    has_bundle,
    run_command,
    seed_many,
    seed_story,
    set_theme,
    start_server,
    wait_until_restored,
)

from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
MANY = 10_000
HAS_FOCUS = "window.jupyterapp.shell.currentWidget?.node.contains(document.activeElement)"


@pytest.fixture(scope="session")
def bundle() -> None:
    """The built front end; the test is skipped where it is not built."""
    if not has_bundle():
        pytest.skip("the front end is not built; `make labextension` builds it")


@pytest.fixture(scope="session")
def start_lab(bundle: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LabServer]]:
    """Start a server in a new (or the given) folder; it is stopped when the session ends."""
    started: list[LabServer] = []

    def start(root: Path | None = None, **options: Any) -> LabServer:
        root = root or tmp_path_factory.mktemp("lab")
        started.append(start_server(root, tmp_path_factory.mktemp("home"), **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def many_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose workspace holds the story of `seed_story` and 10,000 small runs."""
    root = tmp_path_factory.mktemp("many")
    opened = Workspace.open(root)
    seed_many(opened, MANY)
    seed_story(opened)
    opened.close()
    return root


@pytest.fixture(scope="session")
def lab(start_lab: Callable[..., LabServer], many_runs: Path) -> LabServer:
    """JupyterLab over `many_runs`."""
    return start_lab(many_runs)


@pytest.fixture
def written(lab: LabServer) -> Iterator[Workspace]:
    """The workspace of `lab`, open to write into it as a kernel would."""
    opened = Workspace.open(lab.workspace_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def browser(chromium_path: Path, chromium_flags: list[str]) -> Iterator[Browser]:
    """Chromium; closed with the module, because Playwright holds this thread's event loop while it is open."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(chromium_path), headless=True, args=chromium_flags)
        yield opened
        opened.close()


@contextmanager
def guarded_page(browser: Browser) -> Iterator[Page]:
    """Open a page that may ask this machine only."""
    context = browser.new_context(viewport={"width": 1360, "height": 860}, reduced_motion="reduce")
    opened = context.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    context.close()
    hosts = {urlsplit(url).hostname for url in asked if url.startswith(("http", "ws"))}
    assert hosts <= {"127.0.0.1", "localhost"}, f"the page asked beyond this machine: {hosts}"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page."""
    with guarded_page(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_page(browser: Browser) -> Iterator[Page]:
    """One page for the tests of a module that leave it as they found it."""
    with guarded_page(browser) as opened:
        yield opened


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder for pictures."""
    folder = Path(os.environ.get("NBOPS_SCREENSHOTS", ROOT / "test-results" / "ui"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def open_lab() -> Callable[..., None]:
    """Open a page of a server and wait until JupyterLab has restored its layout."""

    def open_page(page: Page, server: LabServer, path: str = "lab/workspaces/fresh?reset", dark: bool = False) -> None:
        page.goto(f"{server.url}{path}{'&' if '?' in path else '?'}token={server.token}")
        wait_until_restored(page)
        page.wait_for_function(HAS_FOCUS, timeout=60_000)  # the launcher comes late and takes it
        set_theme(page, dark=dark)

    return open_page


@pytest.fixture
def open_panel() -> Callable[..., None]:
    """Open our panel by its command and wait for the first row."""

    def open_it(page: Page) -> None:
        run_command(page, "nbops:open-panel")
        page.wait_for_selector(".jp-nbops-Table-body [role=row] .jp-nbops-Chip", timeout=20_000)

    return open_it


@pytest.fixture
def axe() -> Callable[..., list[str]]:
    """Return what axe-core finds wrong within an element, one line each; skipped where it is not installed."""
    script = axe_script()
    if script is None:
        pytest.skip("axe-core is not installed; `make labextension` brings it")

    def look(page: Page, selector: str) -> list[str]:
        page.evaluate(script.read_text())
        found = page.evaluate("selector => window.axe.run(selector, { resultTypes: ['violations'] })", selector)
        return [
            f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:240]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    return look
