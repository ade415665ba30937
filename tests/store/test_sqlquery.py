"""Queries as SQL: whichever of the three ways answers, the answer is that of the plain store in memory."""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from nbops.core.query import Both, Compare, Field, IsSet, Node, Not, Order, parse, parse_order
from nbops.core.records import Run, RunStatus
from nbops.store import sqlquery
from nbops.store.maintenance import trash
from nbops.store.memory import MemoryStore
from nbops.store.sql import SqlStore
from nbops.store.sqlquery import counted, first
from nbops.testing import a_run, some_points

LEAVES: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("params", "lr", (0.1, 0.5, "auto", True, None)),
    ("params", "opt", ("sgd", "adam", "", None)),
    ("metrics", "acc", (0.2, 0.5, 0.8)),
    ("metrics", "none", (1.0,)),
    ("tags", "team", ("x", "y")),
    ("", "name", ("a", "b", "zz")),
    ("", "status", ("FINISHED", "FAILED", "ODD")),
    ("", "created_at", (10.0, 30.0)),
    ("", "type", ("script", "notebook")),
    ("", "ended_at", (20.0, None)),
)


def fill(*stores: Any) -> None:
    """Put the same runs into all stores: values absent, equal, of several types, not finite."""
    rng = random.Random(0)
    for _ in range(60):
        params = {
            "lr": rng.choice((0.1, 0.5, "auto", True, None, math.inf)),
            "opt": rng.choice(("sgd", "adam", "Ädam")),
        }
        params = {key: value for key, value in params.items() if rng.random() < 0.8}
        run = a_run(
            name=rng.choice("abc") + rng.choice(("", "a%_")), created_at=float(rng.randrange(50)), params=params,
            tags={"team": rng.choice("xY")} if rng.random() < 0.5 else {}, ended_at=rng.choice((None, 20.0, 60.0)),
            status=rng.choice((RunStatus.FINISHED, RunStatus.FINISHED, RunStatus.FAILED)),
            type=rng.choice(("script", "notebook")),
        )  # fmt: skip
        points = [rng.choice((0.2, 0.5, 0.8, math.nan, math.inf))] if rng.random() < 0.8 else []
        for store in stores:
            store.put(run)
            store.add_points([some_points(run.id, "acc", points)] if points else [])


def tree(rng: random.Random, depth: int) -> Node:
    """Return a random query."""
    roll = rng.random()
    if depth and roll < 0.6:
        items = tuple(tree(rng, depth - 1) for _ in range(rng.choice((1, 2, 3))))
        return Both(rng.choice(("and", "or")), items)
    if depth and roll < 0.75:
        return Not(tree(rng, depth - 1))
    space, key, values = rng.choice(LEAVES)
    field, op = Field(key, space), rng.choice(("==", "!=", "<", ">=", "in", "contains", "set", "=="))
    if op == "set":
        return IsSet(field)
    if op == "in":
        return Compare(field, op, tuple(v for v in values if v is not None and rng.random() < 0.7))
    value = rng.choice(values)
    if value is None or isinstance(value, bool):
        op = rng.choice(("==", "!="))
    if op == "contains":
        return Compare(field, op, rng.choice(("a", "A%", "S", "_")))
    return Compare(field, op, value)


class TestSqlite:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        opened = SqlStore(f"sqlite:///{tmp_path}/a.db")
        yield opened
        opened.close()

    @pytest.fixture
    def both(self, store: SqlStore) -> tuple[SqlStore, MemoryStore]:
        memory = MemoryStore()
        fill(store, memory)
        return store, memory

    @pytest.mark.parametrize("reach", [0, 6, 20, 2000])  # of a walk that finds nothing, little, most, all
    def test_random_queries_mean_the_same_in_every_way(
        self, both: tuple[SqlStore, MemoryStore], reach: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, memory = both
        monkeypatch.setattr(sqlquery, "REACH", reach)
        rng = random.Random(reach)
        for _ in range(40):
            where = None if rng.random() < 0.05 else tree(rng, 3)
            count = memory.count(Run, where)
            assert store.count(Run, where) == count, where
            order = rng.choice(([], [], [Order(Field("acc", "metrics"), rng.random() < 0.5)]))
            limit, offset = rng.choice((1, 2, 3, 5, 60)), rng.choice((0, 0, 1, 4))
            expected = [run.id for run in memory.find(Run, where, order_by=order)]
            assert [run.id for run in store.find(Run, where, order_by=order)] == expected, where
            page = [run.id for run in store.find(Run, where, order_by=order, limit=limit, offset=offset)]
            assert page == expected[offset : offset + limit], (where, order)

    def test_one_of_very_many_values(self, both: tuple[SqlStore, MemoryStore]) -> None:
        store, memory = both
        many = [f"v{i}" for i in range(1500)]
        for field, some in (("params.opt", ["sgd", None]), ("name", ["a", "b"]), ("params.lr", [0.5, "auto", True])):
            where = Compare(parse_order(field)[0].field, "in", (*many, *some))
            expected = [run.id for run in memory.find(Run, where)]
            assert expected
            assert store.count(Run, where) == len(expected)
            assert [run.id for run in store.find(Run, where)] == expected
            assert [run.id for run in store.find(Run, where, limit=3)] == expected[:3]

    @pytest.mark.parametrize("order", ["params.lr", "params.lr desc", "params.opt desc", "ended_at", "name desc",
                                       "status, metrics.acc desc", "duration_s desc"])  # fmt: skip
    def test_a_page_is_the_beginning_of_the_whole_in_any_order(
        self, both: tuple[SqlStore, MemoryStore], order: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, _ = both
        monkeypatch.setattr(sqlquery, "REACH", 20)
        for where in (None, parse("tags.team"), parse("metrics.acc > 0.3 and name != 'a'")):
            whole = [run.id for run in store.find(Run, where, order_by=parse_order(order))]
            for limit in (1, 3, 7, 60):
                page = store.find(Run, where, order_by=parse_order(order), limit=limit, offset=1)
                assert [run.id for run in page] == whole[1 : limit + 1], (order, limit)


@pytest.mark.postgres
class TestPostgresql(TestSqlite):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SqlStore]:
        opened = SqlStore(postgres_url)
        yield opened
        opened.close()


def test_what_is_in_the_trash_is_neither_counted_nor_walked(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/a.db")
    for i in range(6):
        store.put(a_run(id=f"run_{i}", created_at=float(i), params={"n": i}, status=RunStatus.FINISHED))
    trash(store, store.get(Run, "run_5"))
    assert store.count(Run, parse("params.n >= 3")) == 2
    found = store.find(Run, parse("params.n >= 2"), order_by=parse_order("params.n desc"), limit=2)
    assert [run.id for run in found] == ["run_4", "run_3"]
    store.close()


def plan(path: Path, query: sa.Select[Any]) -> list[str]:
    text = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))  # type: ignore[no-untyped-call]
    connection = sqlite3.connect(path)
    lines = [row[3] for row in connection.execute(f"explain query plan {text}")]
    connection.close()
    return lines


def test_counting_and_walking_read_no_record(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/a.db").close()
    where = parse("metrics.acc > 0.5 and params.opt == 'adam'")
    lines = plan(tmp_path / "a.db", counted(where, "run"))
    assert [line for line in lines if "record" in line.split()[1]] == []
    assert [line for line in lines if line.startswith("SEARCH attr")], lines
    for order in ("metrics.acc desc", "metrics.acc"):
        (walk,) = first(None, "run", parse_order(order), count=50)
        lines = plan(tmp_path / "a.db", walk)
        assert "ix_attr_kind_space_key_num_record" in lines[1], lines  # the index is walked, and not all of it sorted


def walks(where: str, order: str, *, count: int) -> int:
    return len(list(first(parse(where), "run", parse_order(order), count=count)))


def test_where_a_walk_makes_sense() -> None:
    assert walks("metrics.acc > 0.5", "", count=50) == 2  # a short one, and a longer one if that finds too few
    assert walks("metrics.acc > 0.5", "metrics.acc desc", count=500) == 1
    assert walks("id == 'run_1'", "", count=1) == 0  # one look-up is quicker than any walk
    assert walks("parent in ('run_1', 'run_2') and params.x", "", count=1) == 0
    assert walks("metrics.acc > 0.5", "metrics.acc, name", count=50) == 0
    assert walks("metrics.acc > 0.5", "name", count=50) == 0
    assert walks("metrics.acc > 0.5", "", count=5000) == 0
