from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core.errors import InvalidInput, NotFound, ParameterError
from nbops.pipelines.parameter_types import literal_of
from nbops.pipelines.parameters import check_parameters, injected_source, parse_parameters, read_parameters

CORPUS = [
    # source, name, type, default, help
    ("epochs = 3", "epochs", "int", 3, ""),
    ("epochs = 3  # passes over the data", "epochs", "int", 3, "passes over the data"),
    ("lr = 1e-3", "lr", "float", 1e-3, ""),
    ("lr: float = 1", "lr", "float", 1, ""),
    ("shuffle = True", "shuffle", "bool", True, ""),
    ("name = 'digits'  # 'quoted' # twice", "name", "str", "digits", "'quoted' # twice"),
    ("url = 'https://host/a?b=1&c=2'  # a=b", "url", "str", "https://host/a?b=1&c=2", "a=b"),
    ("x = y = 3", "x", "int", 3, ""),
    ("x = y = 3", "y", "int", 3, ""),
    ("a, b = 1, 'two'", "b", "str", "two", ""),
    ("limit = None", "limit", "any value", None, ""),
    ("limit: int | None = None", "limit", "int | None", None, ""),
    ("limit: Optional[int] = None", "limit", "int | None", None, ""),
    ("limit: 'Optional[int]' = None", "limit", "int | None", None, ""),
    ("limit: int = None", "limit", "int | None", None, ""),
    ("limit: typing.Union[int, str] = 3", "limit", "int | str", 3, ""),
    ("size: tuple[int, ...] = (28, 28)", "size", "tuple[int, ...]", (28, 28), ""),
    ("size = (28, 28)", "size", "tuple", (28, 28), ""),
    ("layers: list[int] = [64, 10]", "layers", "list[int]", [64, 10], ""),
    ("options: dict[str, float] = {'dropout': 0.1}", "options", "dict[str, float]", {"dropout": 0.1}, ""),
    ("options = {\n    'a': 1,\n}  # nested", "options", "dict", {"a": 1}, "nested"),
    ("mode: Literal['fast', 'exact'] = 'fast'", "mode", "Literal['fast', 'exact']", "fast", ""),
    ("seed = -1", "seed", "int", -1, ""),
    ("seconds = 60 * 60", "seconds", "int", 3600, ""),
    ("share = 1 / 4", "share", "float", 0.25, ""),
    ("text = 'one' ' and two'", "text", "str", "one and two", ""),
    ("epochs = 3  # type: float  # with papermill's comment", "epochs", "float", 3, "with papermill's comment"),
    ("%matplotlib inline\n!true\nepochs = 3", "epochs", "int", 3, ""),
    ("import os\nepochs = 3", "epochs", "int", 3, ""),
    ("epochs = 3\nepochs = 4", "epochs", "int", 4, ""),
    ("when: date = None", "when", "any value", None, ""),
    ("a: Annotated[int, 'positive'] = 1", "a", "int", 1, ""),
]


@pytest.mark.parametrize(("source", "name", "kind", "default", "help"), CORPUS)
def test_parameter_is_read_with_type_default_and_help(
    source: str, name: str, kind: str, default: Any, help: str
) -> None:
    parameter = parse_parameters(source).parameters[name]
    assert (str(parameter.type), parameter.default, parameter.help) == (kind, default, help)
    assert not parameter.required


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("n = 3\nsteps = n * 2", "steps"),
        ("path = Path('data')", "path"),
        ("stamp = f'{1}'", "stamp"),
        ("n = 1\nn += 1", "n"),
        ("if True:\n    n = 1", "n"),
        ("a, b = load()", "b"),
        ("huge = 10 ** 10 ** 10", "huge"),
        ("bad = 1 / 0", "bad"),
        ("half = (-8) ** 0.5", "half"),
        ("s = {1, 2}", "s"),
    ],
)
def test_computed_name_cannot_be_set(source: str, name: str) -> None:
    spec = parse_parameters(source)
    assert name not in spec.parameters
    with pytest.raises(ParameterError, match=f"'{name}' of the notebook is computed there"):
        check_parameters(spec, {name: 1})


def test_name_computed_from_a_given_parameter_is_told() -> None:
    spec = parse_parameters("epochs = 3\nsteps = epochs * 10")
    (note,) = spec.notes({"epochs": 5})
    assert "steps = epochs * 10" in note
    assert "'epochs'" in note
    assert spec.notes({}) == []


@pytest.mark.parametrize(
    ("source", "text", "value"),
    [
        ("n = 1", "3", 3),
        ("n = 1.0", "1e-3", 1e-3),
        ("n = 1.0", "3", 3.0),
        ("n = 1.0", "inf", math.inf),
        ("n = True", "false", False),
        ("n = True", "1", True),
        ("n = 'a'", "3", "3"),
        ("n: list[int] = []", "[1, 2]", [1, 2]),
        ("n: tuple[int, int] = (1, 2)", "[3, 4]", (3, 4)),
        ("n = (1, 2)", "(3, 4)", (3, 4)),
        ("n = {}", '{"a": [1]}', {"a": [1]}),
        ("n: Literal[1, 2] = 1", "2", 2),
        ("n: int | None = None", "none", None),
        ("n: int | None = None", "7", 7),
        ("n: str | None = None", "seven", "seven"),
        ("n = None", "7", 7),
        ("n = None", "true", True),
        ("n = None", "some words", "some words"),
        ("n: int | str = 1", "7", 7),
    ],
)
def test_text_of_a_command_line_becomes_the_type(source: str, text: str, value: Any) -> None:
    checked = check_parameters(parse_parameters(source), {"n": text}, text=True)
    assert checked == {"n": value}
    assert type(checked["n"]) is type(value)


@pytest.mark.parametrize(
    ("source", "given", "value"),
    [
        ("n = None", "7", "7"),  # text from Python stays text where any value may stand
        ("n: int | str = 1", "7", "7"),
        ("n: str | None = None", "none", "none"),
        ("n = 1", "7", 7),
        ("n = 1.0", 3, 3.0),
        ("n: float | int = 1", 3, 3),
        ("n = (1,)", [2], (2,)),
    ],
)
def test_value_from_python_becomes_the_type(source: str, given: Any, value: Any) -> None:
    checked = check_parameters(parse_parameters(source), {"n": given})
    assert checked == {"n": value}
    assert type(checked["n"]) is type(value)


def test_numpy_scalar_is_a_number() -> None:
    import numpy as np

    assert check_parameters(parse_parameters("n = 1\nx = 0.5"), {"n": np.int64(4), "x": np.float32(0.5)}) == {
        "n": 4,
        "x": 0.5,
    }


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("n = 1", "three"),
        ("n = 1", 1.5),
        ("n = 1", True),
        ("n = 1.0", True),
        ("n = 1.0", "fast"),
        ("n = True", 1),
        ("n = True", "maybe"),
        ("n = 'a'", 3),
        ("n = [1]", 3),
        ("n = [1]", "[1"),
        ("n: list[int] = []", ["a"]),
        ("n: tuple[int, int] = (1, 2)", (1, 2, 3)),
        ("n = {}", [1]),
        ("n: dict[str, int] = {}", {"a": "b"}),
        ("n: Literal['a', 'b'] = 'a'", "c"),
        ("n: int | None = None", "x"),
        ("n = None", object()),
        ("n = None", {"deep": [Path("x")]}),
        ("n: None = None", 3),
    ],
)
def test_ill_typed_value_is_refused_with_value_type_and_default(source: str, given: Any) -> None:
    spec = parse_parameters(source, notebook="train.ipynb")
    with pytest.raises(ParameterError) as caught:
        check_parameters(spec, {"n": given}, text=isinstance(given, str))
    message = caught.value.message
    assert "parameter 'n' of train.ipynb takes" in message
    assert repr(given) in message
    assert f"default {spec.parameters['n'].default!r}" in message
    assert caught.value.hint


def test_fraction_for_an_int_says_how_to_allow_it() -> None:
    with pytest.raises(ParameterError, match="lr: float"):
        check_parameters(parse_parameters("lr = 1"), {"lr": 0.5})


def test_unknown_name_is_refused_with_the_nearest() -> None:
    spec = parse_parameters("learning_rate = 0.1\nepochs = 1", notebook="train.ipynb")
    with pytest.raises(
        ParameterError, match="train.ipynb has no parameter 'learning_rat'\nDid you mean 'learning_rate'"
    ):
        check_parameters(spec, {"learning_rat": 1})
    with pytest.raises(ParameterError, match="Use one of: learning_rate, epochs"):
        check_parameters(spec, {"zzz": 1})
    with pytest.raises(ParameterError, match="Assign it"):
        check_parameters(parse_parameters("pass"), {"zzz": 1})


def test_annotation_without_value_is_required() -> None:
    spec = parse_parameters("data: str\nepochs = 1")
    assert spec.parameters["data"].required
    assert spec.defaults == {"epochs": 1}
    with pytest.raises(ParameterError, match="parameter 'data' of the notebook needs a value of type str"):
        check_parameters(spec, {})
    assert check_parameters(spec, {"data": "x"}) == {"data": "x"}
    with pytest.raises(ParameterError) as caught:
        check_parameters(spec, {"data": 3})
    assert "default" not in caught.value.message


def test_rows_are_a_table() -> None:
    assert parse_parameters("lr = 0.1  # rate\ndata: str").rows() == [
        {"name": "lr", "type": "float", "default": "0.1", "help": "rate"},
        {"name": "data", "type": "str", "default": "", "help": ""},
    ]


def test_syntax_error_in_the_parameters_cell_is_told() -> None:
    with pytest.raises(ParameterError, match="not valid Python: .* \\(line 2\\)"):
        parse_parameters("a = 1\nb = = 2")


def test_notebook_without_parameters_cell_takes_none(write_notebook: Any) -> None:
    spec = read_parameters(write_notebook("x = 1"))
    assert check_parameters(spec, {}) == {}
    with pytest.raises(ParameterError, match="cannot set 'x': step.ipynb has no code cell tagged 'parameters'"):
        check_parameters(spec, {"x": 1})


def test_notebook_of_another_language_takes_none() -> None:
    r = {"nbformat": 4, "cells": [], "metadata": {"kernelspec": {"name": "ir", "language": "R"}}}
    with pytest.raises(ParameterError, match="written in r"):
        check_parameters(read_parameters(r), {"x": 1})


def test_parameters_are_read_from_a_file(write_notebook: Any) -> None:
    path = write_notebook(parameters="epochs: int = 3  # passes\nlr = 0.1")
    assert list(read_parameters(path).parameters) == ["epochs", "lr"]


def test_missing_and_broken_files_are_told(tmp_path: Path, write_notebook: Any) -> None:
    write_notebook("1", name="train.ipynb")
    with pytest.raises(NotFound, match="Did you mean 'train.ipynb'"):
        read_parameters(tmp_path / "trian.ipynb")
    (tmp_path / "not.ipynb").write_text("{")
    with pytest.raises(InvalidInput, match="is not a notebook"):
        read_parameters(tmp_path / "not.ipynb")
    (tmp_path / "list.ipynb").write_text("[]")
    with pytest.raises(InvalidInput, match="it has no 'nbformat'"):
        read_parameters(tmp_path / "list.ipynb")
    with pytest.raises(InvalidInput, match="is not a notebook"):
        read_parameters(tmp_path)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain)
def test_injected_source_makes_the_very_value(value: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(injected_source({"x": value}), namespace)  # noqa: S102 - what the kernel does with it
    assert literal_of(namespace["x"]) == literal_of(value)
    assert repr(namespace["x"]) == repr(value)


@given(plain)
def test_injected_source_is_read_back_as_parameters(value: Any) -> None:
    spec = parse_parameters(injected_source({"x": value}))
    assert "x" in spec.parameters
    assert repr(spec.parameters["x"].default) == repr(value)
