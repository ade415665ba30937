"""The side panel and the run page in a real JupyterLab, in Chromium, under a base_url."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import BASE_URL, LabServer, add_run, run_command, wait_until_restored

from nbops.data.overviews.overview import MEDIA_TYPE, Overview, Side
from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
]

ROWS = ".jp-nbops-Table-body [role=row]"
Open = Callable[..., None]


def first_row(page: Page) -> str:
    return page.locator(f"{ROWS}[aria-rowindex='2'] .jp-nbops-Row-name").inner_text()


def open_run(page: Page, name: str) -> None:
    page.get_by_label("Filter runs").fill(name)
    page.locator(".jp-nbops-Row-name").filter(has_text=re.compile(f"^{re.escape(name)}$")).first.click()
    expect_text(page, ".jp-nbops-Page h1", name)


def expect_text(page: Page, selector: str, text: str) -> None:
    page.wait_for_function(
        "([selector, text]) => [...document.querySelectorAll(selector)].some(e => e.innerText.includes(text))",
        arg=[selector, text],
    )


def test_nothing_is_asked_before_the_panel_is_opened(page: Page, lab: LabServer, open_lab: Open) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_lab(page, lab)
    page.wait_for_timeout(500)
    assert [url for url in asked if "/nbops/api/" in url] == []
    run_command(page, "nbops:open-panel")
    page.wait_for_selector(ROWS)
    ours = [url for url in asked if "/nbops/api/" in url]
    assert ours
    assert all(f"{BASE_URL}nbops/api/v1/" in url for url in ours)


def test_ten_thousand_runs_and_only_the_visible_ones_in_the_page(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open
) -> None:
    open_lab(page, lab)
    open_panel(page)
    expect_text(page, ".jp-nbops-Filter", "10,003 runs")
    assert page.locator("[role=table]").get_attribute("aria-rowcount") == "10004"
    assert page.locator(ROWS).count() < 80
    assert first_row(page) == "digits-cnn-wide"
    assert page.locator(".jp-nbops-Panel-foot").inner_text().endswith(".nbops")
    assert page.locator(".jp-nbops-Role").count() == 0  # where there are no roles
    page.locator(".jp-nbops-Table-body").evaluate("body => { body.scrollTop = body.scrollHeight; }")
    expect_text(page, ROWS, "sweep-00000")
    assert page.locator(ROWS).count() < 80


def test_keyboard_walks_the_list_and_opens_a_run(page: Page, lab: LabServer, open_lab: Open, open_panel: Open) -> None:
    open_lab(page, lab)
    open_panel(page)
    page.locator(f"{ROWS}[tabindex='0']").focus()
    page.keyboard.press("End")
    expect_text(page, f"{ROWS}:focus", "sweep-00000")
    page.keyboard.press("ArrowUp")
    expect_text(page, f"{ROWS}:focus", "sweep-00001")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect_text(page, f"{ROWS}:focus", "digits-lr-0.5")
    page.keyboard.press("Enter")
    expect_text(page, ".jp-nbops-Page h1", "digits-lr-0.5")
    assert page.locator(".jp-nbops-Page h1").count() == 1


def test_words_and_queries_filter(page: Page, lab: LabServer, open_lab: Open, open_panel: Open) -> None:
    open_lab(page, lab)
    open_panel(page)
    box = page.get_by_label("Filter runs")
    box.fill("sweep-0777")
    expect_text(page, ".jp-nbops-Filter", "10 runs")
    box.fill('metrics.acc > 0.9 and tags.team == "vision"')
    expect_text(page, ".jp-nbops-Filter", "1 run")
    assert first_row(page) == "digits-cnn"
    box.fill("no such run")
    expect_text(page, ".jp-nbops-Empty", "No run matches")
    box.fill("")
    expect_text(page, ".jp-nbops-Filter", "10,003 runs")


def test_a_wrong_query_is_told_in_two_lines_and_the_list_stays(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open
) -> None:
    open_lab(page, lab)
    open_panel(page)
    box = page.get_by_label("Filter runs")
    box.fill("metrics.acc >")
    expect_text(page, ".jp-nbops-Filter .jp-nbops-Fault", "cannot parse")
    lines = page.locator(".jp-nbops-Filter .jp-nbops-Fault > div").all_inner_texts()
    assert len(lines) == 2
    assert lines[1].startswith("Write e.g.")
    assert box.get_attribute("aria-invalid") == "true"
    assert page.locator(ROWS).count() > 5
    box.fill("metrics.acc > 0.9")
    page.wait_for_selector(".jp-nbops-Fault", state="detached")


def test_columns_sort(page: Page, lab: LabServer, open_lab: Open, open_panel: Open) -> None:
    open_lab(page, lab)
    open_panel(page)
    page.get_by_role("columnheader", name="Run").get_by_role("button").click()
    page.wait_for_selector("[role=columnheader][aria-sort=ascending]")
    expect_text(page, f"{ROWS}[aria-rowindex='2']", "digits-cnn")
    page.get_by_role("columnheader", name="Run").get_by_role("button").click()
    expect_text(page, f"{ROWS}[aria-rowindex='2']", "sweep-09999")
    assert page.locator("[role=columnheader][aria-sort=descending]").inner_text().startswith("Run")


def test_a_new_run_and_its_metric_appear_by_themselves(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open, written: Workspace
) -> None:
    open_lab(page, lab)
    open_panel(page)
    run = add_run(written, "just-started")
    expect_text(page, f"{ROWS}[aria-rowindex='2']", "just-started")
    written.log(run.id, 0, {"loss": 0.8125})
    written.flush()
    expect_text(page, f"{ROWS}[aria-rowindex='2']", "0.8125")
    page.locator(ROWS, has_text="just-started").click()
    expect_text(page, ".jp-nbops-Page h1", "just-started")
    for step in range(1, 30):
        written.log(run.id, step, {"loss": 0.8125 / (step + 1)})
    written.flush()
    page.wait_for_selector(".jp-nbops-Chart[data-metric=loss] .jp-nbops-Line path")
    run_command(page, "application:close-all")
    written.store.delete(type(run), run.id)
    page.wait_for_function("() => !document.body.innerText.includes('just-started')")


def test_run_page_shows_where_the_numbers_come_from(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open
) -> None:
    open_lab(page, lab)
    open_panel(page)
    open_run(page, "digits-cnn")
    content = page.locator(".jp-nbops-Page")
    page.wait_for_selector(".jp-nbops-Chart[data-metric=loss] .jp-nbops-Line path")
    assert page.locator(".jp-nbops-Chart[data-metric=loss] .jp-nbops-Line").count() == 2  # loss and val_loss
    text = content.inner_text()
    for part in ("finished", "2 min 14 s", "batch_size", "confusion-matrix.png", "182 kB", "import nbops as nb"):
        assert part in text, part
    flow = page.locator(".jp-nbops-Lineage > li").all_inner_texts()
    assert [item.split("\n")[0] for item in flow] == ["data", "run", "model", "endpoint"]
    label = page.locator(".jp-nbops-Chart[data-metric=loss] svg").get_attribute("aria-label")
    assert label
    assert "1,500 points" in label


def test_a_failed_run_shows_its_error_its_cell_and_the_first_nan(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open
) -> None:
    open_lab(page, lab)
    open_panel(page)
    open_run(page, "digits-lr-0.5")
    expect_text(page, ".jp-nbops-Error", "loss is NaN at step 412")
    assert "cell [7], line 18" in page.locator(".jp-nbops-Head .jp-nbops-Error").inner_text()
    page.wait_for_selector(".jp-nbops-Chart[data-metric=loss] .jp-nbops-Marks text")
    titles = page.locator(".jp-nbops-Marks title").all_text_contents()
    assert titles[0] == "loss is NaN from step 200 to 229"
    assert page.locator(".jp-nbops-Line > path").get_attribute("d").count("M") == 2  # type: ignore[union-attr]


def test_log_scale_and_values_under_the_pointer(page: Page, lab: LabServer, open_lab: Open, open_panel: Open) -> None:
    open_lab(page, lab)
    open_panel(page)
    open_run(page, "digits-cnn")
    chart = page.locator(".jp-nbops-Chart[data-metric=grad_norm]")
    page.wait_for_selector(".jp-nbops-Chart[data-metric=grad_norm] .jp-nbops-Line path")
    before = chart.locator(".jp-nbops-Line > path").get_attribute("d")
    chart.get_by_role("button", name="log scale").click()
    assert chart.locator(".jp-nbops-Line > path").get_attribute("d") != before
    plain = chart.locator(".jp-nbops-Readout").inner_text()
    chart.locator("svg").hover(position={"x": 120, "y": 60})
    assert re.match(r"step [\d,]+: ", chart.locator(".jp-nbops-Readout").inner_text())
    assert chart.locator(".jp-nbops-Readout").inner_text() != plain


def test_models_and_endpoints_open_and_stay_open(page: Page, lab: LabServer, open_lab: Open, open_panel: Open) -> None:
    open_lab(page, lab, path="lab/workspaces/sections?reset")
    open_panel(page)
    page.get_by_role("button", name="Models").click()
    expect_text(page, "[data-name=models] li", "digits/3")
    expect_text(page, "[data-name=models] li", "@prod")
    page.get_by_role("button", name="Endpoints").click()
    expect_text(page, "[data-name=endpoints] li", "ready")
    page.wait_for_timeout(1_500)  # the state database and the layout are saved a moment later
    page.goto(lab.page("lab/workspaces/sections"))
    expect_text(page, "[data-name=models] li", "digits/3")
    assert page.locator("[data-name=endpoints] li").first.is_visible()


def test_overviews_that_are_kept_open_as_pages(
    page: Page, lab: LabServer, written: Workspace, open_lab: Open, open_panel: Open
) -> None:
    kept = Overview.of("train", [Side(name="train", rows=3)], [])
    written.save_artifact(kept.to_bytes(), name="overview/train-1.json", media_type=MEDIA_TYPE)
    open_lab(page, lab)
    open_panel(page)
    page.get_by_role("button", name="Overviews").click()
    link = page.locator("[data-name=overviews] li a")
    with page.expect_popup() as opened:
        link.click()
    opened.value.locator(".nbops .name", has_text="train").first.wait_for()
    assert opened.value.locator("script").count() == 0  # a page that needs none


def test_layout_comes_back_after_a_reload(page: Page, lab: LabServer, open_lab: Open, open_panel: Open) -> None:
    open_lab(page, lab, path="lab/workspaces/layout?reset")
    open_panel(page)
    open_run(page, "digits-lr-0.5")
    page.wait_for_timeout(2_000)  # Lab saves its layout a moment after a change
    page.goto(lab.page("lab/workspaces/layout"))
    expect_text(page, ".jp-nbops-Page h1", "digits-lr-0.5")
    page.wait_for_selector(f"{ROWS} .jp-nbops-Chip")
    assert page.locator(".jp-nbops-Panel").is_visible()


def test_a_hidden_panel_asks_nothing(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open, written: Workspace
) -> None:
    open_lab(page, lab)
    open_panel(page)
    run_command(page, "application:toggle-left-area")
    page.wait_for_selector(".jp-nbops-Panel", state="hidden")
    page.wait_for_timeout(300)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    run = add_run(written, "unseen")
    page.wait_for_timeout(1_200)
    assert [url for url in asked if "/nbops/api/" in url] == []
    run_command(page, "application:toggle-left-area")
    expect_text(page, f"{ROWS}[aria-rowindex='2']", "unseen")
    written.store.delete(type(run), run.id)


def test_an_unknown_run_is_told_in_two_lines(page: Page, lab: LabServer, open_lab: Open) -> None:
    open_lab(page, lab)
    run_command(page, "nbops:open-run", id="run_none")
    expect_text(page, ".jp-nbops-Page .jp-nbops-Fault", "no run 'run_none'")
    assert len(page.locator(".jp-nbops-Page .jp-nbops-Fault").inner_text().splitlines()) >= 2


def test_a_server_without_the_extension_is_told_inside_the_panel(
    page: Page, start_lab: Callable[..., LabServer], open_lab: Open
) -> None:
    server = start_lab(extension=False)
    open_lab(page, server)
    run_command(page, "nbops:open-panel")
    expect_text(page, ".jp-nbops-Fault", "server extension is not loaded")
    assert "jupyter server extension enable nbops" in page.locator(".jp-nbops-Fault").first.inner_text()
    assert page.locator(".jp-Dialog").count() == 0


@pytest.mark.parametrize(("theirs", "advice"), [(2, "Reload the page."), (0, "Restart the Jupyter server.")])
def test_another_version_of_the_interface_is_told_inside_the_panel(
    page: Page, lab: LabServer, open_lab: Open, theirs: int, advice: str
) -> None:
    body = {"api_version": theirs, "version": "9", "workspace": "", "exists": True}
    page.route("**/nbops/api/v1/info*", lambda route: route.fulfill(json=body))
    open_lab(page, lab)
    run_command(page, "nbops:open-panel")
    expect_text(page, ".jp-nbops-Panel > .jp-nbops-Fault", f"the server version {theirs}")
    expect_text(page, ".jp-nbops-Panel > .jp-nbops-Fault", advice)


def test_a_server_that_does_not_answer_is_told_and_forgotten_when_it_does(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open
) -> None:
    open_lab(page, lab)
    open_panel(page)
    page.route("**/nbops/api/v1/**", lambda route: route.abort())
    page.get_by_label("Filter runs").fill("sweep")
    expect_text(page, ".jp-nbops-Fault", "does not answer")
    page.unroute("**/nbops/api/v1/**")
    page.get_by_label("Filter runs").fill("digits")
    page.wait_for_selector(".jp-nbops-Fault", state="detached")
    expect_text(page, ".jp-nbops-Filter", "3 runs")


def test_the_foot_names_the_role_and_why_only_reading_is_answered(
    page: Page, start_lab: Callable[..., LabServer], open_lab: Open, screenshots: Path, axe: Callable[..., list[str]]
) -> None:
    server = start_lab()
    Workspace.open(server.root).close()
    config = server.workspace_path / "config.toml"
    config.write_text('[roles]\nanna = "approver"\n')
    open_lab(page, server)
    run_command(page, "nbops:open-panel")
    expect_text(page, ".jp-nbops-Panel-foot .jp-nbops-Role", "viewer")
    role = page.locator(".jp-nbops-Role")
    assert re.fullmatch("You are .+ here: viewer", role.get_attribute("title") or "")
    config.write_text("# no roles any more\n")
    for _ in range(2):  # a panel that is shown again asks again
        run_command(page, "application:toggle-left-area")
    expect_text(page, ".jp-nbops-Role[data-tone=warn]", "viewer")
    assert role.inner_text() == "! viewer"
    assert "[roles] has gone" in (role.get_attribute("title") or "")
    expect_text(page, ".jp-nbops-Empty", "with nb.run(")
    page.locator("#nbops-panel").screenshot(path=screenshots / "panel-role.png")
    assert axe(page, "#nbops-panel") == []


def test_an_empty_workspace_shows_what_to_type(
    page: Page, start_lab: Callable[..., LabServer], open_lab: Open, screenshots: Path
) -> None:
    server = start_lab()
    open_lab(page, server)
    run_command(page, "nbops:open-panel")
    expect_text(page, ".jp-nbops-Empty", "with nb.run(")
    page.screenshot(path=screenshots / "panel-empty.png")
    assert not server.workspace_path.exists()
    opened = Workspace.open(server.root)
    add_run(opened, "very-first")
    opened.close()
    expect_text(page, ROWS, "very-first")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pictures_and_accessibility(
    page: Page, lab: LabServer, open_lab: Open, open_panel: Open, screenshots: Path,
    axe: Callable[..., list[str]], dark: bool,
) -> None:  # fmt: skip
    name = "dark" if dark else "light"
    open_lab(page, lab, dark=dark)
    open_panel(page)
    page.screenshot(path=screenshots / f"panel-{name}.png")
    page.get_by_role("button", name="Models").click()
    page.get_by_role("button", name="Endpoints").click()
    expect_text(page, "[data-name=endpoints] li", "ready")
    for run in ("digits-lr-0.5", "digits-cnn"):
        open_run(page, run)
        page.wait_for_selector(".jp-nbops-Chart .jp-nbops-Line path")
        page.wait_for_timeout(300)
        page.screenshot(path=screenshots / f"run-{run}-{name}.png")
        assert axe(page, ".jp-nbops-RunPage:not(.lm-mod-hidden)") == []
        run_command(page, "application:close-all")
    page.get_by_label("Filter runs").fill("metrics.acc >")
    expect_text(page, ".jp-nbops-Filter .jp-nbops-Fault", "cannot parse")
    assert axe(page, "#nbops-panel") == []
    page.locator("#nbops-panel").screenshot(path=screenshots / f"panel-fault-{name}.png")


def drag_edge(page: Page, width: int, *, until_narrow: bool) -> None:
    """Drag the panel's edge; again when the layout was still settling and the handle slipped away."""
    narrow = "yes => (document.querySelector('.jp-nbops-Table.jp-mod-narrow') !== null) === yes"
    for _ in range(8):
        panel = page.locator("#nbops-panel").bounding_box()
        assert panel
        edge = panel["x"] + panel["width"]
        page.mouse.move(edge + 1, 400)
        page.mouse.down()
        page.mouse.move(panel["x"] + width, 400, steps=8)
        page.mouse.up()
        for _ in range(10):
            if page.evaluate(narrow, until_narrow):
                return
            page.wait_for_timeout(200)
    pytest.fail(f"the panel did not get {'narrow' if until_narrow else 'wide'}")


def test_narrow_and_wide(page: Page, lab: LabServer, open_lab: Open, open_panel: Open, screenshots: Path) -> None:
    open_lab(page, lab)
    open_panel(page)
    table = page.locator(".jp-nbops-Table")
    for width, name in ((620, "wide"), (200, "narrow")):
        drag_edge(page, width, until_narrow=name == "narrow")
        page.locator("#nbops-panel").screenshot(path=screenshots / f"panel-{name}.png")
        assert page.locator(".jp-nbops-Table-body").evaluate("b => b.scrollWidth <= b.clientWidth")
        assert table.is_visible()


def test_notebook_7_shows_panel_and_run(page: Page, lab: LabServer, screenshots: Path) -> None:
    page.goto(lab.page("tree"))
    wait_until_restored(page)
    run_command(page, "nbops:open-panel")
    page.wait_for_selector(f"{ROWS} .jp-nbops-Chip")
    page.locator(ROWS, has_text="digits-lr-0.5").first.click()
    expect_text(page, ".jp-nbops-Page h1", "digits-lr-0.5")
    page.wait_for_selector(".jp-nbops-Chart .jp-nbops-Line path")
    page.screenshot(path=screenshots / "notebook-7.png")
