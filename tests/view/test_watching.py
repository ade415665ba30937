"""The figure of a watched training: small and safe whatever the layers are called, right to the pixel."""

from __future__ import annotations

import base64
import itertools
import math
import re
import struct
import zlib
from typing import Any

import pytest
from markup import EVIL, check_html

from nbops.core.ids import new_id
from nbops.core.records import Diagnosis
from nbops.debugging.live.figure import WatchFigure
from nbops.debugging.live.timeline import Column
from nbops.view import html
from nbops.view.rasters import raster
from nbops.view.watching import MAX_BYTES, show_watch_figure


@pytest.fixture(autouse=True)
def _as_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MAX_BYTES", MAX_BYTES)


def figure(word: str = "fc", *, layers: int = 3, columns: int = 5, findings: int = 0, **fields: Any) -> WatchFigure:
    names = tuple(f"{word}{i}" for i in range(layers))
    numbers = [
        Column(c, {name: (10.0 ** -((i * 7 + c * 3) % 5), 0.01 * c, (i % 3) / 2, None) for i, name in enumerate(names)})
        for c in range(columns)
    ]
    found = tuple(
        Diagnosis(id=new_id("dg"), created_at=0, name=f"{word}-{i}", status=("hint", "error")[i % 2], step=i - 1,
                  layer=word, measured=1.0, limit=0.5, what=f"it is {word}", why=word, fix=f"Mend {word}.",
                  confidence=0.5)
        for i in range(findings)
    )  # fmt: skip
    given = {"is_running": False, "run_id": None, "of_layers": layers, "cost": 0.0123, **fields}
    points = tuple((step, 2.0 / (step + 1)) for step in range(columns))
    return WatchFigure(
        word, True, columns, columns, curves=((f"loss, {word}", points),), columns=tuple(numbers), layers=names,
        diagnoses=found, notes=(word,), **given,
    )  # fmt: skip


@pytest.mark.parametrize("word", ["fc", EVIL, "x" * 3000, "手書き" * 300, ""])
def test_any_name_is_safe_and_within_the_budget(word: str) -> None:
    found = show_watch_figure(figure(word, layers=40, columns=200, findings=9))
    check_html(found["text/html"])
    assert "<script" not in found["text/html"]
    assert max(map(len, found["text/plain"].splitlines())) <= 120
    assert "\x1b" not in found["text/plain"]


def test_it_tells_loss_quantities_and_three_findings() -> None:
    text = show_watch_figure(figure(findings=5, is_running=True, run_id="run_7"))["text/plain"]
    assert text.startswith("✕ 5 findings  fc   5 steps · 5 measured · watching takes 1.2 %")
    assert "loss 0.4 (at first 2)" in text
    assert "dead share: 0 in fc0 to 1 in fc2" in text
    assert "saturated share" not in text  # no layer has it
    assert [line.split()[2] for line in text.splitlines() if line.startswith(("✕ error", "i hint"))] == [
        "fc-1", "fc-3", "fc-0",
    ]  # fmt: skip
    assert "before the first step" in text
    assert "It is fc. Mend fc." in text
    assert "2 findings more" in text
    assert "→ nbops watch-control run_7 pause" in text


def test_a_training_without_findings_runs_or_is_watched() -> None:
    assert show_watch_figure(figure(is_running=True))["text/plain"].startswith("● training  fc")
    assert show_watch_figure(figure())["text/plain"].startswith("● watching  fc")
    assert "2 of 90 layers are drawn." in show_watch_figure(figure(layers=2, of_layers=90))["text/plain"]


def test_nothing_measured_yet_is_a_card_all_the_same() -> None:
    found = show_watch_figure(WatchFigure("net", True, 0, 0))
    check_html(found["text/html"])
    assert found["text/plain"] == "● watching  net   0 steps · 0 measured"


def pixels(group: str) -> list[list[int]]:
    """Return the palette entries of the PNG in a group."""
    data = base64.b64decode(re.findall(r'base64,([^"]+)"', group)[0])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, part = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + part)
        size = struct.unpack(">II", part[:8]) if kind == b"IHDR" else size
        body += part if kind == b"IDAT" else b""
        at += 12 + length
    raw = zlib.decompress(body)
    return [list(raw[1 + y * (size[0] + 1) : (y + 1) * (size[0] + 1)]) for y in range(size[1])]


def test_pixels_say_the_values() -> None:
    rows = [[1e-6, 1e-3, 1.0], [0.0, None, math.nan]]
    group, height = raster("gradient rms", ["a", "b"], rows, ("step 0", "9"), is_log=True)
    assert pixels(group) == [[1, 33, 64], [1, 0, 65]]
    assert "gradient rms  1e-6 – 1" in group
    assert (">a</text>" in group, ">b</text>" in group, ">step 0</text>" in group) == (True, True, True)
    assert height > 0
    assert pixels(raster("share", ["a"], [[0.0, 0.5, 1.0, 7.0]], ("", ""), is_log=False)[0]) == [[1, 33, 64, 64]]
    assert pixels(raster("none", ["a"], [[0.0, 0.0]], ("", ""), is_log=True)[0]) == [[1, 1]]


def test_names_of_many_rows_do_not_overlap() -> None:
    group, height = raster("x", [f"n{i}" for i in range(40)], [[0.5]] * 40, ("", ""), is_log=False)
    marks = [float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="end">n', group)]
    assert len(marks) >= 10
    assert min(b - a for a, b in itertools.pairwise(marks)) >= 11
    assert height <= 220
