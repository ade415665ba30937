"""The live figure: what it keeps of a training, how often it is drawn, and that it stays outside of scripts."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.debugging.handle import Watch
from nbops.debugging.live.screen import Live, notebook
from nbops.debugging.live.timeline import MAX_COLUMNS, MAX_LAYERS, Curve, Timeline
from nbops.debugging.views import LayerView

Data = tuple[Tensor, Tensor]


class FakeScreen:
    """Keeps what would be shown; `now` is its clock, and each reading of it takes `tick` seconds."""

    def __init__(self, *, is_watched: bool = True, tick: float = 0.0) -> None:
        self.shown: list[tuple[float, str, bool, dict[str, Any]]] = []
        self.ended: list[Callable[..., None]] = []
        self.now, self.tick = 100.0, tick
        self._is_watched = is_watched

    def show(self, bundle: dict[str, Any], id: str, *, is_new: bool) -> None:
        self.shown.append((self.now, id, is_new, bundle))

    def listen(self, ended: Callable[..., None]) -> None:
        self.ended.append(ended)

    def unlisten(self, ended: Callable[..., None]) -> None:
        self.ended.remove(ended)

    def is_watched(self) -> bool:
        return self._is_watched

    def clock(self) -> float:
        self.now += self.tick
        return self.now

    def end_cell(self) -> None:
        for ended in list(self.ended):
            ended(None)


def live(screen: FakeScreen, figure: Callable[..., Any] = lambda *, is_running: f"running {is_running}") -> Live:
    return Live(figure, screen, guard=contextlib.nullcontext(), clock=screen.clock)


# -- how often ---------------------------------------------------------------------------------------------------------


def test_it_is_drawn_at_most_four_times_a_second() -> None:
    screen = FakeScreen()
    output = live(screen)
    for step in range(1000):
        screen.now = 100 + step * 0.01
        output.stepped()
    times = [at for at, _, _, _ in screen.shown]
    assert len(times) == 40
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.25 - 1e-9
    assert [is_new for _, _, is_new, _ in screen.shown] == [True] + [False] * 39
    assert len({id for _, id, _, _ in screen.shown}) == 1


def test_slow_drawing_takes_one_per_cent_of_the_time() -> None:
    screen = FakeScreen(tick=0.02)  # one reading before drawing and one after it: 20 ms apart
    output = live(screen)
    for step in range(1000):
        screen.now = max(screen.now, 100 + step * 0.05)
        output.stepped()
    times = [at for at, _, _, _ in screen.shown]
    assert output.wait_s == pytest.approx(2.0)
    assert min(b - a for a, b in itertools.pairwise(times)) >= 2.0 - 0.05


def test_a_notebook_that_nobody_looks_at_gets_one_figure_when_the_cell_ends() -> None:
    screen = FakeScreen(is_watched=False)
    output = live(screen)
    for step in range(100):
        screen.now = 100 + step
        output.stepped()
    assert screen.shown == []
    screen.end_cell()
    screen.end_cell()
    assert [(is_new, bundle["text/plain"]) for _, _, is_new, bundle in screen.shown] == [(True, "'running False'")]


def test_each_cell_that_trains_has_an_output_of_its_own() -> None:
    screen = FakeScreen()
    output = live(screen)
    output.stepped()
    output.stepped()
    screen.end_cell()
    screen.end_cell()  # a cell that does not train
    output.stepped()
    output.close()
    output.close()
    ids = [id for _, id, _, _ in screen.shown]
    assert [is_new for _, _, is_new, _ in screen.shown] == [True, False, True, False]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert screen.ended == []


def test_a_thread_that_goes_on_training_keeps_its_output() -> None:
    screen = FakeScreen()
    output = live(screen)
    for _ in range(2):
        thread = threading.Thread(target=output.stepped)
        thread.start()
        thread.join()
        screen.end_cell()
        screen.now += 1
    assert len({id for _, id, _, _ in screen.shown}) == 1


def test_an_error_of_the_figure_is_noted_and_never_reaches_the_cell() -> None:
    def broken(*, is_running: bool) -> Any:
        raise RuntimeError("no figure")

    screen = FakeScreen(is_watched=False)
    output = Live(broken, screen, guard=contextlib.suppress(RuntimeError), clock=screen.clock)
    output.stepped()
    screen.end_cell()
    output.close()
    assert (screen.shown, screen.ended) == ([], [])


# -- what it keeps -----------------------------------------------------------------------------------------------------


def test_a_long_training_is_kept_whole_and_in_bounds() -> None:
    line = Timeline()
    curve = line.curve("Adam")
    for step in range(20_000):
        curve.add(step, 50.0 if step == 7_777 else math.nan if step == 12_345 else 1 / (step + 1))
        line.add(step, {"fc": LayerView("fc", grad_rms=1.0, dead_share=0.5)})
    steps = [step for step, _ in curve.points]
    assert len(steps) <= 1100
    assert steps == sorted(set(steps))
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 200
    assert (curve.points[0], steps[-1]) == ((0, 1.0), 19_999)
    assert max(value for _, value in curve.points if value == value) == 50.0
    assert [step for step, value in curve.points if value != value] == [12_345]
    steps = [column.step for column in line.columns]
    assert MAX_COLUMNS / 2 <= len(steps) <= MAX_COLUMNS
    apart = {b - a for a, b in itertools.pairwise(steps)}
    assert len(apart) == 1
    assert line.columns[0].layers == {"fc": (1.0, None, 0.5, None)}


def test_forty_layers_are_kept_in_order_with_those_that_have_findings() -> None:
    line = Timeline()
    names = [f"layer{i}" for i in range(300)]
    layers = {name: LayerView(name, grad_rms=1.0) for name in names} | {"empty": LayerView("empty")}
    line.add(0, layers)
    assert (line.layers[0], line.of_layers) == ("layer0", 300)
    line.add(1, layers, found=["layer299", "optimizer", "layer298", "layer299"])
    assert line.layers[-2:] == ["layer298", "layer299"]
    for step in range(2, 5):
        line.add(step, layers, found=names)
    assert len(line.layers) == MAX_LAYERS
    assert line.layers == sorted(line.layers, key=names.index)
    assert set(line.columns[-1].layers) == set(line.layers)


def test_two_optimizers_have_two_curves_and_share_columns() -> None:
    line = Timeline()
    names = [line.curve("Adam").name for _ in range(2)] + [line.curve("SGD").name]
    assert names == ["loss, Adam", "loss, Adam 2", "loss, SGD"]
    assert [line.curve("SGD").name for _ in range(50)][-1] == line.curves[-1].name
    assert len(line.curves) == 6
    line.add(0, {"a": LayerView("a", grad_rms=1.0)})
    line.add(0, {"b": LayerView("b", grad_rms=2.0)})
    assert [set(column.layers) for column in line.columns] == [{"a", "b"}]


def test_a_curve_of_nothing_but_nan_stays_in_bounds() -> None:
    curve = Curve("loss")
    for step in range(5000):
        curve.add(step, math.nan)
    assert len(curve.points) <= 1100


# -- with a training ---------------------------------------------------------------------------------------------------


def trained(data: Data, screen: FakeScreen | None = None, *, nan_at: int = -1, steps: int = 12) -> Watch:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 16), nn.Sigmoid(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer, criterion = torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss()
    with nb.watch(net, optimizer=optimizer, loss=criterion) as watch:
        if screen is not None:
            watch._session.show_on(screen)
        for step in range(steps):
            rows = slice(step * 32, step * 32 + 32)
            optimizer.zero_grad()
            criterion(net(data[0][rows] * (math.nan if step == nan_at else 1)), data[1][rows]).backward()
            optimizer.step()
        if screen is not None:
            screen.end_cell()
    return watch


def test_the_figure_of_a_training_has_loss_layers_and_findings(digits: Data) -> None:
    with pytest.warns(UserWarning, match="non-finite"):
        watch = trained(digits, nan_at=8)
    figure = watch.figure()
    [(name, points)] = figure.curves
    assert (name, [step for step, _ in points]) == ("loss, SGD", list(range(12)))
    assert [step for step, value in points if value != value] == [8]
    assert figure.matrix("grad_rms")[0] == ("0", "2", "4")
    layers, rows = figure.matrix("saturated_share")
    assert layers == ("1",)
    assert all(value is not None and 0 <= value <= 1 for value in rows[0])
    assert len(rows[0]) == len(figure.columns) == 11
    text = str(figure)
    assert "12 steps · 11 measured" in text
    assert "gradient rms: " in text
    assert "update ratio: " in text
    assert "not finite from step 8" in text
    assert "✕ error  non-finite-" in text
    markup = figure._repr_mimebundle_()["text/html"]
    assert len(markup.encode()) <= 60_000
    assert markup.count("data:image/png") in (2, 3, 4)
    assert not watch.was_shown


def test_a_training_is_shown_while_it_runs_and_at_its_end(digits: Data) -> None:
    screen = FakeScreen()
    watch = trained(digits, screen)
    assert watch.was_shown
    assert screen.shown[0][2]
    assert "● training" in screen.shown[0][3]["text/plain"]
    last = screen.shown[-1][3]["text/plain"]
    assert "■ closed" in last or "● watching" in last
    assert "12 steps" in last
    assert len({id for _, id, _, _ in screen.shown}) == 1
    assert screen.ended == []


def test_a_freed_model_lets_go_of_the_cell(digits: Data) -> None:
    screen = FakeScreen(is_watched=False)
    net = nn.Linear(64, 10)
    watch = nb.watch(net)
    watch._session.show_on(screen)
    nn.functional.cross_entropy(net(digits[0][:32]), digits[1][:32]).backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    del net
    assert (watch.is_open, len(screen.ended)) == (False, 1)
    screen.end_cell()
    assert (len(screen.shown), screen.ended) == (1, [])


def test_nothing_is_shown_outside_of_a_notebook(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebook() is None
    net = nn.Linear(64, 10)
    with nb.watch(net, live=True) as watch:
        nn.functional.cross_entropy(net(digits[0][:32]), digits[1][:32]).backward()
        torch.optim.SGD(net.parameters(), 0.1).step()
    assert not watch.was_shown
    assert capsys.readouterr().out == ""
