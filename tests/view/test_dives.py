"""What a dive shows: pictures and rows within their budgets, images as thumbnails, and controls that work."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from markup import EVIL, Checker

import nbops as nb
from nbops.core.display import mimebundle
from nbops.store.workspace import Workspace
from nbops.view.dives import MAX_BYTES
from nbops.view.format import columns

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def shown(value: Any) -> tuple[str, str]:
    found = mimebundle(value)
    text, markup = found["text/plain"], found["text/html"]
    checker = Checker()
    checker.feed(markup)
    assert checker.open == []
    assert not checker.tags & {"script", "iframe", "link", "object", "form"}
    assert not [name for name in checker.attributes if name.startswith("on")]
    assert not checker.attributes & {"href"}
    assert all(source.startswith("data:image/") for source in checker.sources)
    assert len(markup.encode()) <= MAX_BYTES
    assert max(columns(line) for line in text.splitlines()) <= 120
    return text, markup


def table(rows: int = 3_000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "price": rng.lognormal(3, 1, rows), "weight": rng.normal(size=rows), "items": rng.poisson(2, rows),
        "city": rng.choice(["Bonn", "Rome", "Oslo"], rows), "note": ["a long note " * 12] * rows,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"x": "price", "color": "city", "facet": "items"}, "counts are exact, of all 3,000 rows"),
        ({"x": "price", "y": "weight", "color": "city", "facet": "city"}, "of 3,000 points"),
        ({"x": "price", "y": "city"}, "counts are exact"),
        ({"x": "city"}, "counts are exact"),
        ({"y": "city"}, "counts are exact"),
    ],
)
def test_a_picture_says_how_exact_it_is(chosen: dict[str, str], says: str) -> None:
    text, markup = shown(nb.dive(table(), **chosen))  # type: ignore[arg-type]
    assert says in text
    assert says in markup
    assert "<svg" in markup
    assert "dive  data" in text


def test_rows_are_listed_within_the_budget() -> None:
    found = nb.dive(table(), x="price").rows()
    text, markup = shown(found)
    assert 30 < markup.count("<tr>") <= 201
    assert "more rows" in text
    assert "(other)" not in text
    assert "no rows" in shown(nb.dive({"a": [1, 3]}, x="a").rows(x=0, limit=0))[0]


def test_images_are_seen() -> None:
    data = {"X": np.arange(6 * 16 * 16 * 3, dtype=np.uint8).reshape(6, 16, 16, 3), "y": np.arange(6)}
    text, markup = shown(nb.dive(data).rows())
    assert markup.count("data:image/png;base64,") == 6
    assert "image tensor<uint8>[16,16,3]" in text
    raw = base64.b64decode(markup.split("data:image/png;base64,")[1].partition('"')[0])
    wide, high, depth, colour = struct.unpack(">IIBB", raw[16:26])
    assert (wide, high, depth, colour) == (16, 16, 8, 2)
    size = struct.unpack(">I", raw[33:37])[0]
    pixels = zlib.decompress(raw[41 : 41 + size])
    assert pixels[1 : 1 + 48] == data["X"][0, 0].tobytes()


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 64, 64), (200, 300, 3), (28, 28, 1)])
def test_images_of_all_layouts_are_seen(shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    assert shown(nb.dive((data, np.arange(3))).rows())[1].count("data:image/png") == 3


@pytest.mark.parametrize("shape", [(7,), (4, 5, 6, 7), (2, 9, 9)])
def test_other_tensors_are_not(shape: tuple[int, ...]) -> None:
    data = {"X": np.zeros((3, *shape, 1, 1) if len(shape) == 1 else (3, *shape)), "y": np.arange(3)}
    assert "data:image" not in shown(nb.dive(data).rows())[1]


def test_image_files_and_bytes_are_seen_and_nothing_else_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "big.png").write_bytes(PNG + b"\0" * 30_000)
    (tmp_path / "no.png").write_bytes(b"secret text")
    data = {"file": ["a.png", "big.png", "no.png", "gone.png"], "raw": [PNG, b"text", b"", None]}
    _, markup = shown(nb.dive(data).rows())
    assert markup.count("data:image/png") == 2
    assert base64.b64encode(b"secret text").decode() not in markup


def test_text_that_looks_like_markup_stays_text() -> None:
    found = nb.dive({EVIL: [EVIL, "b"]}, name=EVIL)
    assert EVIL not in shown(found)[1]
    assert EVIL not in shown(found.rows())[1]


def test_the_card_says_when_the_data_has_moved_on(workspace: Workspace) -> None:
    nb.snapshot(table(), "sales")
    found = nb.dive("sales", x="price")
    assert "newest" not in str(found)
    nb.snapshot(table(10), "sales")
    assert "! made from sales v1; v2 is newest" in str(found)


def test_where_nobody_can_click_the_picture_stands_still(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["df"] = table()
    shell.run_cell("import nbops as nb\nnb.dive(df, x='price')").raise_error()
    assert "i dive  data" in capsys.readouterr().out
    found = shell.run_line_magic("mlops", "dive df --x price --facet city")
    assert found.chosen["facet"] == "city"


def test_an_executed_and_exported_notebook_shows_the_picture(tmp_path: Path) -> None:
    source = "import numpy as np\nimport nbops as nb\nnb.dive({'price': np.arange(500.0)}, x='price')"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "dive.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", "dive.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=180)
    page = (tmp_path / "dive.html").read_text(encoding="utf-8")
    assert 'aria-label="x price"' in page
    assert "counts are exact, of all 500 rows" in page


class TestControls:
    """With ipywidgets: dropdowns choose, a click lists."""

    @pytest.fixture
    def controls(self) -> Any:
        pytest.importorskip("ipywidgets", reason="the extra viz is not installed")
        from nbops.view.dive_controls import Controls

        made = Controls(nb.dive(table(), x="price", facet="city"))
        yield made
        made.close()

    def test_a_click_lists_the_rows_of_the_cell(self, controls: Any) -> None:
        counts = controls.dive.counts.sum(axis=(1, 3))
        assert [button.description for button in controls.cells] == [f"{n:,}" for n in counts.ravel()]
        controls.cells[1].click()
        shown_rows = controls._rows.value
        assert f"of {counts[0, 1]:,} rows" in shown_rows
        assert len(shown_rows.encode()) <= MAX_BYTES

    def test_a_dropdown_chooses_and_the_picture_and_the_cells_follow(self, controls: Any) -> None:
        controls.dropdowns["x"].value = "items"
        controls.dropdowns["facet"].value = "(none)"
        assert controls.dive.chosen == {"x": "items", "y": None, "color": None, "facet": None}
        assert "<svg" in controls._picture.value
        assert len(controls._picture.value.encode()) <= MAX_BYTES
        assert len(controls.cells) == len(controls.dive.axis("x").labels)
        controls.dropdowns["color"].value = "city"
        assert len(controls.cells) == 3 * len(controls.dive.axis("x").labels)
        controls.cells[0].click()
        bonn, first = controls.dive.axis("color").labels[0], controls.dive.axis("x").labels[0]
        assert f"items {first} · city {bonn}" in controls._rows.value

    def test_what_a_cell_showed_is_closed_when_it_runs_again(self, shell: Any) -> None:
        pytest.importorskip("ipywidgets", reason="the extra viz is not installed")
        from nbops.data.diving.dive import DiveControls

        kept = []
        shell.user_ns |= {"controls": DiveControls(nb.dive(table(), x="price")), "show": mimebundle}
        for _ in range(3):
            shell.run_cell("bundle = show(controls)", cell_id="dive").raise_error()
            assert "application/vnd.jupyter.widget-view+json" in shell.user_ns["bundle"]
            kept.append(len(_instances()))
        assert kept[0] == kept[1] == kept[2] > 10


def _instances() -> Any:
    from ipywidgets.widgets import widget

    return widget._instances
