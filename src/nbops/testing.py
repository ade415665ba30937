"""Public contracts: subclass one, give it your backend, and pytest shows whether it keeps the seam's promises.

`StoreContract`, `ArtifactContract`, `RuntimeContract` and `EngineContract` are collected by pytest
through their subclasses, which provide the fixtures named in each class.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import struct
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nbops.core.errors import Conflict, CorruptData, InvalidInput, NotFound, SignatureMismatch
from nbops.core.ids import new_id
from nbops.core.protocols import ArtifactStore, Engine, Points, StepContext, Store
from nbops.core.query import parse, parse_order
from nbops.core.records import Artifact, Dataset, Run, RunStatus, replace


def a_run(**fields: Any) -> Run:
    """Return a run record with an id of its own."""
    return Run(**{"id": new_id(Run.prefix), "created_at": time.time(), "name": "r", **fields})


def some_points(run: str, metric: str, values: list[float], *, first: int = 0) -> Points:
    """Return points with steps that count up from `first`."""
    n = len(values)
    steps = struct.pack(f"<{n}q", *range(first, first + n))
    return Points(run, metric, steps, struct.pack(f"<{n}q", *[1] * n), struct.pack(f"<{n}d", *values))


def values_of(points: Points) -> list[float]:
    """Return the values of points."""
    return list(struct.unpack(f"<{len(points.values) // 8}d", points.values))


class StoreContract:
    """What every Store keeps. Provide a fixture `store` that yields an empty one."""

    def test_a_record_comes_back_as_it_was_put(self, store: Store) -> None:
        run = a_run(
            params={"lr": 0.1, "deep": {"a": [1, None]}, "bad": math.inf}, tags={"team": "x"}, note="ü\n", parent="p"
        )
        store.put(run)
        assert store.get(Run, run.id) == run

    def test_a_missing_record_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no run 'run_x'"):
            store.get(Run, "run_x")

    def test_a_record_of_another_kind_is_not_found(self, store: Store) -> None:
        run = a_run()
        store.put(run)
        with pytest.raises(NotFound):
            store.get(Artifact, run.id)

    def test_putting_twice_replaces_and_tells_both(self, store: Store) -> None:
        run = a_run(params={"old": 1})
        store.put(run)
        store.put(replace(run, name="new", params={"fresh": 2}))
        assert store.get(Run, run.id).name == "new"
        assert store.count(Run, parse("params.old == 1")) == 0
        assert [e.kind for e in store.events(subject=run.id)] == ["run.created", "run.updated"]

    def test_find_returns_newest_first_in_pages(self, store: Store) -> None:
        runs = [a_run(created_at=float(i)) for i in range(5)]
        for run in runs:
            store.put(run)
        assert [r.created_at for r in store.find(Run, limit=2, offset=1)] == [3.0, 2.0]
        assert store.count(Run) == 5

    @pytest.mark.parametrize(
        ("where", "names"),
        [
            ("params.lr < 0.1", "a"),
            ("params.lr >= 0.1", "b"),
            ("params.lr != 0.01", "b"),
            ("params.opt == 'sgd' and params.lr > 0", "a"),
            ("params.lr > 0.05 or tags.team == 'x'", "ab"),
            ("not params.lr", "c"),
            ("not (params.lr > 0.05)", "ac"),
            ("params.missing == None", "abc"),
            ("params.lr != None", "ab"),
            ("'TEA' in tags.kind", "c"),
            ("name in ('a', 'c')", "ac"),
            ("name not in ('a', 'c')", "b"),
            ("0.005 < params.lr < 0.5", "ab"),
            ("status == 'FAILED'", "b"),
            ("params['odd key'] == True", "c"),
            ("params.opt == 1", ""),
            ("params.opt != 1", "a"),
            ("metrics.acc > 0.8", "b"),
            ("metrics.acc <= 0.8 or metrics.bad", "ac"),
            ("metrics.bad == 1.0", ""),
            ("metrics.bad != 1.0", "c"),
            ("created_at > 1.5", "bc"),
            ("name > 1", ""),
        ],
    )
    def test_queries_mean_the_same_everywhere(self, store: Store, where: str, names: str) -> None:
        a = a_run(name="a", created_at=1.0, params={"lr": 0.01, "opt": "sgd"}, tags={"team": "x"})
        b = a_run(name="b", created_at=2.0, params={"lr": 0.1}, status=RunStatus.FAILED)
        c = a_run(name="c", created_at=3.0, params={"odd key": True, "lr": None}, tags={"kind": "green tea"})
        for run in (a, b, c):
            store.put(run)
        store.add_points([some_points(a.id, "acc", [0.9, 0.7]), some_points(b.id, "acc", [0.1, 0.95])])
        store.add_points([some_points(c.id, "bad", [1.0, math.nan])])
        assert "".join(sorted(r.name for r in store.find(Run, parse(where)))) == names
        assert store.count(Run, parse(where)) == len(names)

    @pytest.mark.parametrize(
        ("where", "names"),
        [
            ('created_at > "2026-11-01"', "bc"),
            ('"2026-11-01T12:00" <= created_at', "bc"),
            ('created_at == "2026-11-01"', "b"),
            ('created_at != "2026-11-01"', "ac"),
            ('created_at not in ("2026-10-31", "2026-11-02")', "b"),
            ('ended_at < "2026-11-03"', "a"),
            ("duration_s > 3600", "a"),
        ],
    )
    def test_times_are_compared_to_dates(self, store: Store, where: str, names: str) -> None:
        def at(text: str) -> float:
            return datetime.fromisoformat(text).timestamp()

        store.put(a_run(name="a", created_at=at("2026-10-31T23:59"), ended_at=at("2026-11-02T08:00")))
        store.put(a_run(name="b", created_at=at("2026-11-01T12:00")))
        store.put(a_run(name="c", created_at=at("2026-11-02T00:00")))
        assert "".join(sorted(r.name for r in store.find(Run, parse(where)))) == names

    def test_order_puts_absent_and_nan_last(self, store: Store) -> None:
        runs = {name: a_run(name=name) for name in "abcd"}
        for run in runs.values():
            store.put(run)
        for name, value in (("a", 0.5), ("b", 0.9), ("c", math.nan)):
            store.add_points([some_points(runs[name].id, "acc", [value])])
        down = [r.name for r in store.find(Run, order_by=parse_order("metrics.acc desc"))]
        up = [r.name for r in store.find(Run, order_by=parse_order("metrics.acc"))]
        assert (down[:2], up[:2], set(down[2:])) == (["b", "a"], ["a", "b"], {"c", "d"})

    def test_update_is_not_lost_between_writers(self, store: Store) -> None:
        run = a_run(params={"n": 0})
        store.put(run)

        def add_one(r: Run) -> Run:
            return replace(r, params={"n": r.params["n"] + 1})

        threads = [threading.Thread(target=store.update, args=(Run, run.id, add_one)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.get(Run, run.id).params == {"n": 12}

    def test_delete_takes_points_and_links_along(self, store: Store) -> None:
        run = a_run()
        store.put(run)
        store.add_points([some_points(run.id, "loss", [1.0])])
        store.link("ds_1", "used_by", run.id)
        store.delete(Run, run.id)
        assert values_of(store.points(run.id, "loss")) == []
        assert store.links(run.id) == []
        assert store.count(Run) == 0
        with pytest.raises(NotFound):
            store.delete(Run, run.id)

    def test_points_come_back_bit_for_bit_in_order(self, store: Store) -> None:
        run = a_run()
        store.put(run)
        values = [0.1, math.nan, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
        store.add_points([some_points(run.id, "m", values[:4])])
        store.add_points([some_points(run.id, "m", values[4:], first=4)])
        back = store.points(run.id, "m")
        assert back.values == struct.pack("<6d", *values)
        assert struct.unpack("<6q", back.steps) == tuple(range(6))

    def test_summaries_cover_all_points_over_chunks(self, store: Store) -> None:
        run = a_run()
        store.put(run)
        for start in range(0, 10_000, 2_500):
            values = [float((i * 7919) % 10_007) for i in range(start, start + 2_500)]
            store.add_points([some_points(run.id, "m", values, first=start)])
        store.add_points([some_points(run.id, "m", [math.nan], first=10_000)])
        summary = store.get(Run, run.id).summary["m"]
        everything = values_of(store.points(run.id, "m"))
        assert len(everything) == summary.count == 10_001
        assert (summary.min, summary.max) == (min(everything[:-1]), max(everything[:-1]))
        assert (summary.first, summary.last_step, summary.nan_count) == (0.0, 10_000, 1)
        assert math.isnan(summary.last)

    def test_a_journal_stretch_is_folded_once(self, store: Store) -> None:
        run = a_run()
        store.put(run)
        batch = [some_points(run.id, "m", [1.0, 2.0])]
        assert store.add_points(batch, journal="j", start=0, end=100)
        assert not store.add_points(batch, journal="j", start=0, end=100)
        assert store.add_points([], journal="j", start=100, end=120)
        assert (values_of(store.points(run.id, "m")), store.folded("j")) == ([1.0, 2.0], 120)

    def test_a_failed_transaction_leaves_nothing(self, store: Store) -> None:
        before, run = store.last_event(), a_run()

        def half() -> None:
            with store.transaction():
                store.put(run)
                store.link("a", "used_by", run.id)
                store.next_number("n")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            half()
        assert (store.count(Run), store.links(), store.last_event()) == (0, [], before)
        assert store.next_number("n") == 1

    def test_counters_never_repeat_under_threads(self, store: Store) -> None:
        numbers: list[int] = []
        threads = [threading.Thread(target=lambda: numbers.append(store.next_number("m"))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers) == list(range(1, 17))

    def test_events_are_in_order_and_after_a_mark(self, store: Store) -> None:
        for i in range(4):
            store.emit("tick", "s", {"i": i, "x": math.nan})
        events = store.events()
        assert [e.payload["i"] for e in events] == [0, 1, 2, 3]
        assert [e.payload["i"] for e in store.events(after=events[1].seq, limit=1)] == [2]
        assert store.last_event() == events[-1].seq

    def test_links_are_a_set(self, store: Store) -> None:
        store.link("a", "used_by", "b")
        store.link("a", "used_by", "b")
        store.link("b", "produced", "c")
        assert [(e.source, e.target) for e in store.links("b")] == [("a", "b"), ("b", "c")]
        assert len(store.links("a")) == 1

    def test_kinds_do_not_mix(self, store: Store) -> None:
        store.put(a_run(name="x"))
        store.put(Dataset(id=new_id("ds"), created_at=1.0, name="x", version=1, digest="d", rows=3))
        assert (store.count(Run, parse("name == 'x'")), store.count(Dataset, parse("rows == 3"))) == (1, 1)


class ArtifactContract:
    """What every ArtifactStore keeps.

    Provide fixtures `artifacts` (an empty one) and `corrupt` (changes the stored bytes of a digest behind its back).
    """

    def test_bytes_come_back(self, artifacts: ArtifactStore) -> None:
        digest, size = artifacts.put(b"abc")
        assert (len(digest), size) == (64, 3)
        with artifacts.open(digest) as stream:
            assert stream.read() == b"abc"

    def test_the_same_bytes_have_the_same_digest(self, artifacts: ArtifactStore) -> None:
        assert artifacts.put(b"x" * 3_000_000) == artifacts.put(io.BytesIO(b"x" * 3_000_000))

    def test_absent_bytes_are_not_found(self, artifacts: ArtifactStore) -> None:
        with pytest.raises(NotFound):
            artifacts.open("0" * 64)
        assert not artifacts.exists("0" * 64)

    def test_what_is_no_digest_is_refused(self, artifacts: ArtifactStore) -> None:
        with pytest.raises(InvalidInput):
            artifacts.open("../../etc/passwd")

    def test_delete_is_idempotent(self, artifacts: ArtifactStore) -> None:
        digest, _ = artifacts.put(b"gone")
        artifacts.delete(digest)
        artifacts.delete(digest)
        assert not artifacts.exists(digest)

    def test_corrupt_bytes_are_refused(self, artifacts: ArtifactStore, corrupt: Callable[[str], None]) -> None:
        digest, _ = artifacts.put(b"true")
        corrupt(digest)
        with pytest.raises(CorruptData, match=digest[:12]):
            artifacts.open(digest)


class RuntimeContract:
    """What every Runtime keeps. Provide fixtures `runtime` and `batch` (inputs by name, at least 3 rows)."""

    def test_outputs_follow_the_signature(self, runtime: Any, batch: Any) -> None:
        rows = len(next(iter(batch.values())))
        outputs = runtime.predict(batch)
        assert set(outputs) == {spec.name for spec in runtime.signature.outputs}
        assert all(len(value) == rows for value in outputs.values())

    def test_rows_do_not_depend_on_their_neighbours(self, runtime: Any, batch: Any) -> None:
        import numpy as np

        whole = runtime.predict(batch)
        for i in range(3):
            one = runtime.predict({name: value[i : i + 1] for name, value in batch.items()})
            for name, value in one.items():
                np.testing.assert_allclose(value[0], whole[name][i], rtol=1e-4, atol=1e-5)

    def test_a_wrong_shape_is_refused_by_name(self, runtime: Any, batch: Any) -> None:
        name = next(iter(batch))
        with pytest.raises(SignatureMismatch, match=name):
            runtime.predict({**batch, name: batch[name].reshape(len(batch[name]), -1)[:, :1].repeat(7, axis=1)})

    def test_a_missing_and_an_unknown_input_are_refused(self, runtime: Any, batch: Any) -> None:
        name, *_ = batch
        without = {key: value for key, value in batch.items() if key != name}
        for inputs in (without, {**without, name + "x": batch[name]}):
            with pytest.raises(SignatureMismatch, match=name):
                runtime.predict(inputs)
        assert runtime.predict(batch)

    def test_threads_get_their_own_answers(self, runtime: Any, batch: Any) -> None:
        import numpy as np

        whole = runtime.predict(batch)
        answers: dict[int, Any] = {}

        def ask(row: int) -> None:
            answers[row] = runtime.predict({name: value[row : row + 1] for name, value in batch.items()})

        threads = [threading.Thread(target=ask, args=(row % 3,)) for row in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for row, answer in answers.items():
            for name, value in answer.items():
                np.testing.assert_allclose(value[0], whole[name][row], rtol=1e-4, atol=1e-5)

    def test_memory_is_told_until_it_is_closed(self, runtime: Any, batch: Any) -> None:
        assert runtime.memory_bytes() > 0
        runtime.close()
        runtime.close()
        assert runtime.memory_bytes() == 0
        with pytest.raises(Conflict):
            runtime.predict(batch)


class EngineContract:
    """What every Engine keeps. Provide fixtures `engine` and `run_id` (the id of an open run).

    Further, a `step_folder` (a Path) that the engine can reach.
    """

    def step(self, folder: Path, run_id: str, *sources: str, **parameters: Any) -> StepContext:
        """Return the context of a notebook with one cell per source, the first tagged ``parameters``."""
        cells: list[dict[str, Any]] = [
            {
                "cell_type": "code",
                "id": f"c{n}",
                "metadata": {"tags": ["parameters"]} if n == 0 else {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for n, source in enumerate(sources)
        ]
        kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
        path = folder / "step.ipynb"
        path.write_text(
            json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
        )
        return StepContext(path, parameters, run_id, folder, folder / "executed.ipynb")

    def test_a_step_gets_its_parameters_and_leaves_the_notebook_alone(
        self, engine: Engine, run_id: str, step_folder: Path
    ) -> None:
        context = self.step(step_folder, run_id, "n: int = 1", "open('told', 'w').write(str(n * 2))", n=21)
        before = context.notebook.read_bytes()
        outcome = engine.execute(context)
        assert (outcome.status, outcome.error) == (RunStatus.FINISHED, None)
        assert (step_folder / "told").read_text() == "42"
        assert context.notebook.read_bytes() == before
        assert json.loads(outcome.output.read_text())["cells"]

    def test_a_failing_cell_is_an_outcome_and_stops_the_step(
        self, engine: Engine, run_id: str, step_folder: Path
    ) -> None:
        context = self.step(step_folder, run_id, "x = 0", "1 / x", "open('after', 'w')")
        outcome = engine.execute(context)
        assert outcome.status == RunStatus.FAILED
        assert (outcome.error.type, outcome.error.cell_id) == ("ZeroDivisionError", "c1")
        assert not (step_folder / "after").exists()

    def test_the_environment_reaches_the_step(self, engine: Engine, run_id: str, step_folder: Path) -> None:
        context = self.step(step_folder, run_id, "import os", "open('told', 'w').write(os.environ['GIVEN'])")
        outcome = engine.execute(dataclasses.replace(context, env={"GIVEN": "here"}))
        assert (outcome.status, (step_folder / "told").read_text()) == (RunStatus.FINISHED, "here")
