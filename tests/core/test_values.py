"""Ids, errors, registries, codec, table and settings."""

from __future__ import annotations

import math
import pickle
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core import errors
from nbops.core.codec import decode, digest_of, encode
from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, InvalidInput, MissingDependency, NbopsError, NotFound, did_you_mean
from nbops.core.ids import new_id, short_id
from nbops.core.records import Run, Verdict, kinds
from nbops.core.registry import Registry
from nbops.core.settings import read_settings
from nbops.core.table import Table
from nbops.testing import a_run


def test_ids_sort_by_time_and_never_repeat() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(new_id("run") for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000
    one = [new_id("run") for _ in range(100)]
    assert one == sorted(one)
    assert all(len(id) == 30 for id in one)


def test_a_short_id_is_short() -> None:
    assert short_id("run_01M7X3MHGV3HH385VQ2GB4EVM8") == "run_…B4EVM8"


every_error = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, NbopsError)]


@pytest.mark.parametrize("kind", every_error)
def test_errors_say_two_lines_and_cross_processes(kind: type[NbopsError]) -> None:
    error = kind("it broke at 3", hint="Mend it.")
    assert str(error) == "it broke at 3\nMend it."
    assert error._render_traceback_() == [f"{kind.__name__}: it broke at 3", "Mend it."]
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.hint) == (kind, "it broke at 3", "Mend it.")


@pytest.mark.parametrize("kind", every_error[1:])
def test_errors_are_what_a_user_would_catch(kind: type[NbopsError]) -> None:
    assert any(issubclass(kind, builtin) for builtin in (LookupError, ValueError, RuntimeError, OSError, ImportError))


def test_hints() -> None:
    assert did_you_mean("lerning_rate", ["learning_rate", "epochs"]) == "Did you mean 'learning_rate'?"
    assert did_you_mean("zzz", ["a"]) == ""
    assert MissingDependency.of("duckdb", "data").hint == "Install it with: pip install 'nbops[data]'"


def test_a_registry_finds_suggests_and_refuses_twins() -> None:
    registry: Registry[object] = Registry("check")

    @registry.register("missing-values")
    def leaf() -> None: ...

    assert registry["missing-values"] is leaf
    with pytest.raises(NotFound, match="no check 'mising-values'\nDid you mean 'missing-values'?"):
        registry["mising-values"]
    with pytest.raises(Conflict, match="registered twice"):
        registry.add("missing-values", int)
    registry.remove("missing-values")
    assert list(registry) == []


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(params=st.dictionaries(st.text(), values, max_size=4))
def test_records_survive_the_codec(params: dict) -> None:
    run = a_run(params=params)
    again = decode(encode(run), Run)
    assert repr(again) == repr(run)


def test_objects_become_text_and_scalars_numbers() -> None:
    import numpy as np

    again = decode(encode(a_run(params={"a": np.float32(0.5), "b": object, 3: "key"})), Run)
    assert again.params["a"] == 0.5
    assert again.params["b"].startswith("<class")
    assert again.params["3"] == "key"


def test_digests_ignore_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": math.nan}) == digest_of({"b": math.nan, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_an_unknown_field_of_a_newer_version_is_ignored() -> None:
    assert decode(encode(a_run()).replace(b'"note"', b'"future"'), Run).note == ""


def test_every_kind_has_a_prefix_of_its_own() -> None:
    prefixes = [cls.prefix for cls in kinds.values()]
    assert len(set(prefixes)) == len(prefixes)


def test_verdicts_are_ordered_by_severity() -> None:
    assert max(Verdict, key=lambda v: v.severity) is Verdict.ERROR
    assert Verdict.WARN.severity < Verdict.FAIL.severity


def test_a_table_is_a_sequence_with_flat_rows() -> None:
    table = Table("run", [a_run(name="a", params={"lr": 0.1}), a_run(name="b")], total=9)
    assert (len(table), table.total, table[0].name, [r.name for r in table[:1]]) == (2, 9, "a", ["a"])
    assert table.rows()[0]["params.lr"] == 0.1
    assert list(table.to_pandas()["name"]) == ["a", "b"]
    assert repr(table) == "Table(run, 2 of 9)"


def test_a_value_without_a_renderer_shows_its_repr() -> None:
    assert mimebundle(3) == {"text/plain": "3"}


def test_a_record_prints_as_its_card_and_keeps_its_repr() -> None:
    run = a_run(name="printed")
    assert "printed" in str(run)
    assert not str(run).startswith("Run(")
    assert repr(run).startswith("Run(id=")
    assert f"{Table('run', [run])}".splitlines()[0] == "1 run"


def test_settings_refuse_unknown_names() -> None:
    with pytest.raises(InvalidInput, match="unknown setting 'store'"):
        read_settings("store = 1", {})


def test_a_package_that_is_broken_is_named_and_takes_nothing_else_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nbops.leaves]\nbad = no_such_module:leaf\ngood = math:pi\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[object] = Registry("leaf", group="nbops.leaves")
    with pytest.warns(UserWarning, match="leaf 'bad' of plugin is left out: .*pip install -U plugin"):
        assert registry["good"] == math.pi
    assert list(registry) == ["good"]
