"""The grammar: parsing without leaving, errors of two lines, help from the declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nbops.core.display import mimebundle
from nbops.core.errors import Conflict, NbopsError, NotFound
from nbops.verbs.grammar import Call, Verb, argument, dispatch, verb, verbs
from nbops.verbs.helping import Help
from nbops.verbs.words import UsageError, split

NOTEBOOK = Call(namespace={})
TERMINAL = Call()


@pytest.fixture
def echo() -> Iterator[None]:
    """A verb that returns what it got."""
    length = len(verbs)

    @verb(
        "echo",
        argument("what", "a thing", form="optional", completes="variables"),
        argument("where", "a query", form="expression"),
        argument("--count", "how often", kind=int, default=1, short="-n"),
        argument("--param", "a parameter", form="pairs", short="-p"),
        argument("--alias", "an alias", form="list"),
        argument("--loud", "shout", form="flag"),
        argument("--mode", "how", default="a", choices=("a", "b")),
        examples=("%mlops echo x",),
    )
    def echo_verb(call: Call, **values: Any) -> dict[str, Any]:
        """Return what it got."""
        return values

    yield
    verbs.remove("echo")
    assert len(verbs) == length


def said(line: str, call: Call = NOTEBOOK) -> Any:
    return dispatch(list(split(line)), call)


@pytest.mark.usefixtures("echo")
def test_arguments_arrive_typed_and_named() -> None:
    line = 'echo x metrics.a > -0.5 and tags.t == "y" --count 3 -p lr 0.1 -p n 2 --alias a --alias b --loud --mode b'
    assert said(line) == {
        "what": "x", "where": 'metrics.a > -0.5 and tags.t == "y"', "count": 3, "param": {"lr": "0.1", "n": "2"},
        "alias": ["a", "b"], "loud": True, "mode": "b",
    }  # fmt: skip


@pytest.mark.usefixtures("echo")
def test_defaults_and_options_before_or_between_positionals() -> None:
    empty = {"what": None, "where": "", "count": 1, "param": {}, "alias": [], "loud": False, "mode": "a"}
    assert said("echo") == empty
    assert said("echo --count 2 x a == 1") == {**empty, "count": 2, "what": "x", "where": "a == 1"}
    assert said("echo x a --count 2 == 1") == {**empty, "count": 2, "what": "x", "where": "a == 1"}


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("ecko", "no verb 'ecko'", "Did you mean 'echo'?"),
        ("zzzzzzz", "no verb 'zzzzzzz'", "List the verbs with: %mlops help"),
        ("--cuont 3", "no option '--cuont'", "List the verbs with: %mlops help"),
        ("echo --cuont 3", "'echo' has no option '--cuont'", "Did you mean '--count'?"),
        ("echo --xyz", "'echo' has no option '--xyz'", "Write echo [WHAT]"),
        ("echo --count three", "argument -n/--count: invalid int value: 'three'", "Write echo [WHAT]"),
        ("echo --mode c", "argument --mode: invalid choice: 'c'", "Write echo [WHAT]"),
        ("echo --param lr", "expected 2 arguments", "Write echo [WHAT]"),
        ("echo 'open", "a quote is not closed", "Close it"),
        ("stop", "'stop' needs NAME", "Write stop NAME"),
        ("stop a b", "'stop' does not take 'b'", "Write stop NAME"),
        ("help rnus", "no verb 'rnus'", "Did you mean 'runs'?"),
        ("help zzzzzz", "no verb 'zzzzzz'", "List them with: %mlops help"),
    ],
)
def test_a_line_that_cannot_be_understood_gives_two_lines(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        said(line)
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("line", ["help", "-h", "--help", "help runs", "runs -h", "runs --last 3 --help", "stop -h"])
def test_help_is_a_value_and_never_leaves(line: str) -> None:
    found = said(line)
    assert isinstance(found, Help)
    text = mimebundle(found)["text/plain"]
    assert max(map(len, text.splitlines())) <= 120
    if "runs" in line:
        assert "%mlops runs [WHERE]" in text
        assert "default 20" in text


def test_every_verb_explains_itself_in_both_places() -> None:
    for name, found in verbs.items():
        assert found.help.endswith(".")
        assert found.examples
        for call in (NOTEBOOK, TERMINAL):
            text = mimebundle(said(f"help {name}", call))["text/plain"]
            assert found.help in text
            assert ("%mlops" in text) == (call is NOTEBOOK) or found.is_notebook_only


def test_examples_parse() -> None:
    for name, found in verbs.items():
        for example in found.examples:
            words = split(example.lstrip("%").removeprefix("mlops"))
            assert words[:1] in ([name], [])
            assert found.parse(list(words[1:])) is not None


def test_variables_are_found_by_name_and_by_attribute() -> None:
    holder = type("Holder", (), {"frame": 7})()
    call = Call(namespace={"df": 1, "box": holder})
    assert call.variable("df") == 1
    assert call.variable("box.frame") == 7
    with pytest.raises(UsageError, match="no variable 'fd' in this notebook\nDid you mean 'df'"):
        call.variable("fd")
    with pytest.raises(UsageError, match="no variable 'zzz' in this notebook\nRun the cell"):
        call.variable("zzz")
    with pytest.raises(UsageError, match="'box' of type Holder has no attribute 'farme'\nDid you mean 'frame'"):
        call.variable("box.farme")
    with pytest.raises(UsageError, match="there is none on the command line"):
        TERMINAL.variable("df")


def test_verbs_that_work_on_variables_say_so_on_the_command_line() -> None:
    for name in (name for name, found in verbs.items() if found.is_notebook_only):
        line = f"{name} {' '.join('1' if a.kind is int else 'x' for a in verbs[name].arguments if not a.is_option)}"
        with pytest.raises(UsageError, match=f"'{name}' needs a notebook"):
            said(line, TERMINAL)
    assert "(in a notebook)" in mimebundle(said("help", TERMINAL))["text/plain"]


def test_two_packages_cannot_claim_one_verb() -> None:
    def other(call: Call) -> None:
        """Do another thing."""

    other.__module__ = "elsewhere"
    assert "runs" in verbs
    with pytest.raises(Conflict, match="verb 'runs' is registered twice"):
        verb("runs", examples=("%mlops runs",))(other)


@pytest.mark.usefixtures("echo")
def test_a_declared_function_is_a_verb_as_an_entry_point_must_be() -> None:
    assert isinstance(verbs["echo"], Verb)
    assert verbs["echo"](NOTEBOOK, what=1) == {"what": 1}
    assert verbs["echo"].help == "Return what it got."


def test_usage_errors_are_errors_of_nbops() -> None:
    assert issubclass(UsageError, NbopsError)
    assert issubclass(UsageError, ValueError)
    assert not issubclass(UsageError, NotFound)
