"""Finding runs and models among many and charts of many points, beside MLflow's searches on its SQLite store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.ids import new_id
from nbops.core.records import Alias, AliasMove, ModelVersion, Record, Run, RunStatus, Signature, TensorSpec
from nbops.server.reading import model_page, run_page
from nbops.store.rows import attr_rows, record_row
from nbops.store.summaries import seal
from nbops.store.tables import attr, record
from nbops.store.workspace import init

GROUP = "Finding and comparing"
pytestmark = pytest.mark.leaks("MLflow keeps its database open until the process ends")
PEER_RUNS = 300  # its client writes some ten runs of this width a second
_SHARE = "abs(random() / 9223372036854775808.0)"
_SEED = (
    # What `put` and `add_points` would have written, made inside the database: by the API it would take minutes.
    "insert into attr (record, space, key, kind, num, text) select record.id, 'params', p.key, 'run', "
    "case p.type when 'text' then null else p.value end, case p.type when 'text' then p.value end "
    "from record, json_each(record.body, '$.params') p",
    "with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {width}) "
    "insert into series (run, metric, count, nan_count, last_step, first, last, min, max, chunks) "
    f"select id, 'm' || i, 10, 0, 9, 0.1, {_SHARE}, 0.0, 1.0, 1 from record, n",
    "insert into attr (record, space, key, kind, num, text) "
    "select run, 'metrics', metric, 'run', last, null from series",
)


def params_of(width: int, number: int, rng: np.random.Generator) -> dict[str, Any]:
    values = rng.random(width - 1).tolist()
    return {"opt": ("sgd", "adam")[number % 2], **{f"p{i}": value for i, value in enumerate(values)}}


def seed(path: Path, *, runs: int, width: int) -> Any:
    """Return a workspace with so many runs of so many params and metrics each."""
    ws = init(path)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(runs):
        params = params_of(width, i, rng)
        run = Run(id=new_id("run"), created_at=1.75e9 + i, ended_at=1.75e9 + i + 60, name=f"trial-{i}", params=params,
                  status=RunStatus.FINISHED)  # fmt: skip
        rows.append(record_row(run))
    with ws.store.engine.begin() as connection:
        connection.execute(record.insert(), rows)
        for statement in _SEED:
            connection.exec_driver_sql(statement.format(width=width))
        seal(connection, [row["id"] for row in rows])
    return ws


def seed_models(ws: Any, *, models: int, versions: int) -> None:
    """Add so many models of so many versions each, the last with the alias ``prod``."""
    runs = ws.store.find(Run, limit=models * versions)
    made: list[Record] = []
    for i in range(models * versions):
        name, number = f"model-{i % models}", i // models + 1
        made.append(ModelVersion(
            id=new_id("mv"), created_at=1.76e9 + i, name=name, number=number, digest=f"{i:064x}", size_bytes=i,
            signature=Signature(inputs=[TensorSpec(name="x", dtype="float32", shape=[-1, 3, 224, 224])],
                                outputs=[TensorSpec(name="y", dtype="float32", shape=[-1, 1000])]),
            parent=runs[i].id, metrics={f"m{k}": runs[i].metrics[f"m{k}"] for k in range(4)},
            tags={"team": f"t{i % 7}"},
        ))  # fmt: skip
        if number == versions:
            made.append(Alias(id=new_id("al"), created_at=1.77e9, name=f"{name}@prod", model=name, alias="prod",
                              number=number, history=[AliasMove(number=number, at=1.77e9)]))  # fmt: skip
    with ws.store.engine.begin() as connection:
        connection.execute(record.insert(), [record_row(one) for one in made])
        connection.execute(attr.insert(), [row for one in made for row in attr_rows(one)])


def p95_ms(call: Callable[[], object], count: int) -> float:
    call()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return float(np.percentile(times, 95))


def median_ms(call: Callable[[], object], count: int) -> float:
    call()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


@pytest.fixture
def mlflow(tmp_path: Path) -> Any:
    module = pytest.importorskip("mlflow")
    module.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return module


def fill(mlflow: Any, *, width: int) -> str:
    from mlflow.entities import Metric, Param

    client = mlflow.MlflowClient()
    experiment: str = client.create_experiment(f"bench-{width}")
    rng = np.random.default_rng(0)
    for i in range(PEER_RUNS):
        id = client.create_run(experiment).info.run_id
        params = [Param(key, str(value)) for key, value in params_of(width, i, rng).items()]
        metrics = [Metric(f"m{k}", float(v), 0, 9) for k, v in enumerate(rng.random(width))]
        client.log_batch(id, metrics=metrics, params=params)
        client.set_terminated(id)
    return experiment


def test_a_page_of_many_runs(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    ws = seed(tmp_path / "ours", runs=10_000, width=100)
    where = "metrics.m3 > 0.5 and params.opt == 'adam'"
    assert len(nb.find("runs", where, order_by="metrics.m7 desc", limit=100)) == 100
    ours = median_ms(lambda: nb.find("runs", where, order_by="metrics.m7 desc", limit=100), 9)
    ws.close()
    experiment = fill(mlflow, width=100)
    client = mlflow.MlflowClient()

    def page() -> None:
        client.search_runs(
            [experiment], "metrics.m3 > 0.5 and params.opt = 'adam'", max_results=100, order_by=["metrics.m7 DESC"]
        )

    peer = median_ms(page, 5)
    bench.row(
        GROUP, f"filtered and sorted page of 100 of 10,000 runs × 100 params × 100 metrics (MLflow: of {PEER_RUNS})",
        ours=ours, unit="ms", peers={f"MLflow {mlflow.__version__}": peer}, goal="≤ 50 ms",
    )  # fmt: skip


def fill_registry(mlflow: Any, run: str) -> str:
    """Register `PEER_RUNS` versions of one model, by MLflow's client."""
    client = mlflow.MlflowClient()
    name = "bench-model"
    client.create_registered_model(name)
    for i in range(PEER_RUNS):
        client.create_model_version(name, f"file:///bench/{i}", run, tags={"team": f"t{i % 7}"})
    return name


PANEL = 200  # rows of a page of the panel
QUESTIONS = (
    # what, query, words, order; MLflow's query and order
    ("first page", "", "", "", "", "start_time DESC"),
    ("filtered page", "metrics.m3 > 0.5 and params.opt == 'adam'", "", "",
     "metrics.m3 > 0.5 and params.opt = 'adam'", "start_time DESC"),
    ("filtered and sorted page", "metrics.m3 > 0.5 and params.opt == 'adam'", "", "metrics.m7 desc",
     "metrics.m3 > 0.5 and params.opt = 'adam'", "metrics.m7 DESC"),
    ("page of names with a word in them", "", "-77", "", "attributes.run_name LIKE '%-77%'", "start_time DESC"),
)  # fmt: skip


def test_the_panels_first_pages_of_very_many(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    ws = seed(tmp_path / "ours", runs=100_000, width=10)
    seed_models(ws, models=50, versions=100)
    asked = {"where": "", "words": "", "order": "", "offset": 0, "limit": PANEL, "metrics": ()}
    ours = {}
    for what, where, words, order, *_ in QUESTIONS:
        question = asked | {"where": where, "words": words, "order": order}
        assert len(run_page(ws, **question)["rows"]) == PANEL
        ours[what] = p95_ms(lambda q=question: run_page(ws, **q), 40)  # type: ignore[misc]
    assert model_page(ws, offset=0, limit=PANEL)["total"] == 5_000
    page = p95_ms(lambda: model_page(ws, offset=0, limit=PANEL), 40)
    one = p95_ms(lambda: nb.find("models", "name == 'model-7'", order_by="number desc", limit=100), 40)
    ws.close()

    experiment = fill(mlflow, width=10)
    client = mlflow.MlflowClient()
    for what, *_, query, by in QUESTIONS:

        def search(query: str = query, by: str = by) -> Any:
            return client.search_runs([experiment], query, max_results=PANEL, order_by=[by])

        said = f"{what} of {PANEL} with the total, of 100,000 runs × 10 params × 10 metrics, p95"
        bench.row(
            GROUP, f"{said} (MLflow: of {PEER_RUNS}, without a total)", ours=ours[what], unit="ms",
            peers={f"MLflow {mlflow.__version__}": p95_ms(search, 20)}, goal="≤ 300 ms",
        )  # fmt: skip
    name = fill_registry(mlflow, client.search_runs([experiment], max_results=1)[0].info.run_id)
    peers = {
        f"page of {PANEL} of": (page, lambda: client.search_model_versions(max_results=PANEL)),
        "100 versions of one model, of": (
            one,
            lambda: client.search_model_versions(f"name = '{name}'", max_results=100),
        ),
    }
    for what, (value, call) in peers.items():
        bench.row(
            GROUP, f"{what} 5,000 model versions, p95 (MLflow: of {PEER_RUNS})", ours=value, unit="ms",
            peers={f"MLflow {mlflow.__version__}": p95_ms(call, 20)}, goal="≤ 300 ms",
        )  # fmt: skip


def test_a_data_frame_of_all_runs(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    ws = seed(tmp_path / "ours", runs=30_000, width=100)
    begin = time.perf_counter()
    assert nb.find("runs", limit=None).to_pandas().shape[0] == 30_000
    ours = 30_000 / (time.perf_counter() - begin)
    ws.close()
    experiment = fill(mlflow, width=100)
    begin = time.perf_counter()
    assert len(mlflow.search_runs([experiment], max_results=PEER_RUNS)) == PEER_RUNS
    peer = PEER_RUNS / (time.perf_counter() - begin)
    bench.row(
        GROUP, f"30,000 runs × 100 params × 100 metrics to a DataFrame (MLflow: {PEER_RUNS} runs)", ours=ours,
        unit="runs/s", peers={f"MLflow {mlflow.__version__}": peer}, goal="≥ 6,000", lower_is_better=False,
    )  # fmt: skip


def test_a_chart_of_a_million_points(bench: Any, tmp_path: Path) -> None:
    ws = init(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        with nb.run(name) as run:
            run.log_series("loss", None, rng.normal(size=1_000_000))
    ws.flush()

    def chart() -> dict[str, Any]:
        return mimebundle(nb.series("a", "loss"))

    def overlay() -> dict[str, Any]:
        return mimebundle(nb.compare("a", "b").curves("loss"))

    for what, call in (("`nb.series`", chart), ("overlay of two by `nb.compare`", overlay)):
        assert "<svg" in call()["text/html"]
        size = max(len(str(form).encode()) for form in call().values()) / 1000
        ours = median_ms(call, 5)
        said = f"{what}, 1,000,000 points each: read, thinned with all extremes, drawn ({size:.0f} kB)"
        bench.row(GROUP, said, ours=ours, unit="ms", peers={}, goal="≤ 300 ms")
    ws.close()
