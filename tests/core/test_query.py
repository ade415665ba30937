"""The query language: what is accepted, what is refused and how, and one property over all trees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core.errors import QuerySyntaxError
from nbops.core.query import Both, Compare, Field, IsSet, Node, Not, Order, matches, parse, parse_order
from nbops.core.records import Run
from nbops.store.sql import SqlStore
from nbops.testing import a_run


def test_the_documented_example() -> None:
    tree = parse('metrics.acc > 0.9 and params.lr < 0.1 or tags.team == "x"')
    acc, lr = Compare(Field("acc", "metrics"), ">", 0.9), Compare(Field("lr", "params"), "<", 0.1)
    assert tree == Both("or", (Both("and", (acc, lr)), Compare(Field("team", "tags"), "==", "x")))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("name", IsSet(Field("name"))),
        ("params.a.b == 1", Compare(Field("a.b", "params"), "==", 1)),
        ("params['a b'] == -1.5", Compare(Field("a b", "params"), "==", -1.5)),
        ("3 < params.x", Compare(Field("x", "params"), ">", 3)),
        ("'x' not in name", Not(Compare(Field("name"), "contains", "x"))),
        ("name in ['a', 'b']", Compare(Field("name"), "in", ("a", "b"))),
        (" name == 'a' ", Compare(Field("name"), "==", "a")),
    ],
)
def test_forms(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("metrics.acc >", "metrics.acc >"),
        ("", "''"),
        ("params.lr = 3", "params.lr = 3"),
        ("foo.bar == 1", "foo.bar"),
        ("__import__('os').system('x')", "__import__"),
        ("params.lr == open", "open"),
        ("params.lr is None", "is not supported"),
        ("name in 'abc' and 1 in 2", "2"),
        ("name in params", "is no list of values"),
        ("params.x < None", "nothing is '< None'"),
        ("params.x == [1]", "is no plain value"),
        ("params.x == b'a'", "is no plain value"),
        ("created_at > 'yesterday'", "'yesterday' is no date"),
        ("ended_at in ('2026-13-01',)", "'2026-13-01' is no date"),
    ],
)
def test_what_cannot_be_parsed_is_quoted_with_a_remedy(text: str, names: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse(text)
    assert names in str(caught.value)
    assert "Write e.g." in caught.value.hint


def test_a_date_with_a_zone_is_that_moment() -> None:
    assert parse('created_at >= "2026-11-01T00:00:00Z"') == Compare(Field("created_at"), ">=", 1793491200.0)
    assert parse('params.created_at >= "2026-11-01"') == Compare(Field("created_at", "params"), ">=", "2026-11-01")
    assert parse("created_at > 1.5") == Compare(Field("created_at"), ">", 1.5)


def test_order() -> None:
    assert parse_order("metrics.acc desc, name") == [
        Order(Field("acc", "metrics"), descending=True),
        Order(Field("name")),
    ]
    assert parse_order(None) == []
    with pytest.raises(QuerySyntaxError, match="cannot order by 'name down'"):
        parse_order("name down")


fields = st.sampled_from([Field("x", "params"), Field("y", "params"), Field("t", "tags"), Field("name"), Field("id")])
values = st.one_of(st.integers(-3, 3), st.sampled_from(["a", "B", "ab", "", "%"]), st.booleans(), st.none())
leaves = st.one_of(
    st.builds(IsSet, fields),
    st.builds(Compare, fields, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), values),
    st.builds(Compare, fields, st.just("contains"), st.sampled_from(["a", "b", "%"])),
    st.builds(Compare, fields, st.just("in"), st.lists(values, max_size=3).map(tuple)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Both, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
params = st.dictionaries(st.sampled_from("xy"), values, max_size=2)


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path_factory.mktemp('q')}/q.db")
    yield store
    store.close()


@given(tree=trees, each=st.lists(st.tuples(params, st.sampled_from(["a", "B", "ab"])), min_size=1, max_size=4))
def test_sql_and_python_agree_on_any_tree(tree: Node, each: list, sql: SqlStore) -> None:
    runs = [a_run(params=params, name=name, tags={"t": name}) for params, name in each]
    with sql.transaction():
        for run in runs:
            sql.put(run)
        found = {run.id for run in sql.find(Run, tree)}
        for run in runs:
            sql.delete(Run, run.id)
    assert found == {run.id for run in runs if matches(tree, run)}
