"""Whatever a request holds, the answer is an answer or a refusal; nothing falls over."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbops.core.errors import NbopsError, StoreError
from nbops.core.ids import new_id
from nbops.server.mlflow.desk import Desk, desk_of
from nbops.server.mlflow.errors import as_mlflow
from nbops.server.mlflow.routes import answer
from nbops.server.mlflow.table import fixed, patterns
from nbops.server.mlflow.wire import Args
from nbops.store.workspace import Workspace, init

ROUTES = [*fixed, *((method, pattern.pattern) for method, pattern, _ in patterns)]
FILES = "/api/2.0/mlflow-artifacts/artifacts"
PLACES = [("POST", "nothing"), ("PUT", "runs/create"), ("DELETE", "runs/get"), ("HEAD", "runs/get"), ("OPTIONS", "x")]
NAMES = [
    "run_id", "experiment_id", "experiment_ids", "name", "new_name", "key", "value", "timestamp", "step", "metrics",
    "params", "tags", "datasets", "models", "filter", "order_by", "max_results", "page_token", "dataset", "digest",
]  # fmt: skip
DEEP = ["[" * 50_000, "[" * 900 + "]" * 900, '{"a":' * 50_000, '{"run_id": ' + "[" * 5000 + "]" * 5000 + "}"]
LONG, DIGITS = "x" * 30_000, "9" * 5000
TEXTS = [
    "", "x", "0", "3", "-1", "²", "٣", "NaN", "Infinity", "1e999", "\x00", "..", "'", "[1]", "{}", "m-x", "runs:/x/y",
    "models:/m-x", "a/../b", "FINISHED", "name", "e30=", "eyJvZmZzZXQiOiA5OTk5OTk5OTk5OTk5OTk5OTl9", LONG, DIGITS,
]  # fmt: skip
NUMBERS = [0, -1, 3, 1.5, -0.0, 1e308, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63) - 1, 10**400]
FILTERS = [
    "metrics.a > ", "a = 'b' AND", "name LIKE '%'", "params.a IN ('x'", "((((", "metrics.a > 1 AND params.b = 'c'",
    "tags.`a b` LIKE '%x%'", "run_id IN ('a', 'b')", "tags.a IS NOT NULL", "metrics.a = nan", "metrics.a DESC",
    "creation_time > -99999999999999999999", "start_time > 1e999", "metrics.a != 1e999", f"metrics.a > {DIGITS}",
    f"start_time <= {DIGITS[:400]}", "version_number = 99999999999999999999", "experiment_id = '1'", "name = '\\'",
    "name ILIKE '%\\0%'", "params.`" + "a" * 600 + "` = 'x'", "tags.a = '" + "x" * 3000 + "'", "a" * 5000 + " = 'b'",
    "params.a LIKE '" + "%" * 2000 + "'", " AND ".join(["metrics.a > 1"] * 300), "user_id != 'x'",
]  # fmt: skip
LISTS: list[Any] = [
    [], {}, [1], [None], ["x"], [[]], [{}], ["x", "x"], {"a": 1}, [{"key": 1}], [{"key": "a", "value": {}}],
    [{"dataset": 3}], [{"dataset": {"name": "a", "digest": [], "source_type": {}, "source": 1}}], [{"field_name": []}],
    [{"key": "a", "value": 1, "timestamp": "x"}], [{"key": "a", "value": 10**400, "timestamp": 1}],
    [{"key": "a", "value": DIGITS, "timestamp": DIGITS}], [{"key": "a", "value": 1, "timestamp": 1, "model_id": []}],
    [{"field_name": "size"}], [{"model_id": {}}], [{"key": "a", "value": "1"}] * 2, [{"key": "../a", "value": "1"}],
]  # fmt: skip
COMMON: list[Any] = [None, True, *TEXTS, *NUMBERS, *LISTS[:8]]
SPECIAL: dict[str, list[Any]] = {
    "filter": FILTERS,
    "order_by": [*LISTS, *([text] for text in FILTERS)],
    **{name: LISTS for name in ("metrics", "params", "tags", "datasets", "models")},
}


class Recorder(dict[str, Any]):
    """Fields of a request that remember which of them were looked at."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.seen: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.seen.add(name)
        return super().get(name, default)


class Known:
    """What there is on a server, as the fields of a sensible request."""

    def __init__(self, ask: Callable[[str, dict[str, Any]], Any]) -> None:
        self.ask = ask
        self.renew()

    def renew(self) -> None:
        """Make everything anew: requests delete and rename."""
        name = f"odd {new_id('x')}"
        experiment = self.ask("experiments/create", {"name": name})["experiment_id"]
        self.run = self.ask("runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
        made = self.ask("logged-models", {"experiment_id": experiment, "name": "m"})
        self.model = made["model"]["info"]["model_id"]
        self.ask("registered-models/create", {"name": name})
        self.ask("model-versions/create", {"name": name, "source": "s"})
        self.ask("registered-models/alias", {"name": name, "alias": "a", "version": "1"})
        self.ask("runs/log-metric", {"run_id": self.run, "key": "k", "value": 1, "timestamp": 1})
        self.sane: dict[str, Any] = {
            "run_id": self.run, "run_ids": [self.run], "experiment_id": experiment, "experiment_ids": [experiment],
            "name": name, "new_name": f"{name} anew", "experiment_name": name, "key": "k", "value": "1", "step": 2,
            "timestamp": 1, "metric_key": "k", "version": "1", "stage": "Staging", "alias": "a", "source": "s",
            "model_id": self.model, "tag_key": "k", "params": [{"key": "p", "value": "1"}],
            "tags": [{"key": "k", "value": "1"}],
            "model_json": '{"artifact_path": "m", "flavors": {}, "utc_time_created": "t", "run_id": "r"}',
        }  # fmt: skip

    def path_of(self, route: tuple[str, str]) -> str:
        """Return the path of a route with names of what there is."""
        return route[1].replace("(?P<model_id>[^/]+)", self.model).replace("(?P<tag_key>[^/]+)", "k")


def asking(desk: Desk) -> Callable[[str, dict[str, Any]], Any]:
    return lambda path, fields: answer(desk, "POST", path, Args(fields))


def read_by(desk: Desk, known: Known, route: tuple[str, str]) -> list[str]:
    """Return the names of the fields that a route looks at."""
    found = next((f for m, p, f in patterns if (m, p.pattern) == route), None) or fixed[route]
    fields = Recorder(known.sane)
    with suppress(NbopsError):
        found(desk, Args(fields))
    return sorted(fields.seen)


def fault_of(desk: Desk, method: str, path: str, fields: dict[str, Any]) -> str | None:
    """Return what a request was refused with, None if it was answered; anything but a refusal is raised."""
    try:
        answer(desk, method, path, Args(fields))
    except NbopsError as error:
        if as_mlflow(error).status >= 500:
            raise
        return str(error)
    return None


def test_no_odd_value_of_any_field_makes_a_route_fall_over(workspace: Workspace) -> None:
    desk = desk_of(workspace)
    known, refused = Known(asking(desk)), 0
    for route in ROUTES:
        known.renew()
        for name in read_by(desk, known, route):
            for value in [*COMMON, *SPECIAL.get(name, [])]:
                try:
                    refused += fault_of(desk, route[0], known.path_of(route), {**known.sane, name: value}) is not None
                except Exception as error:
                    raise AssertionError(f"{route} {name}={str(value)[:200]}") from error
            if route[0] == "DELETE" or route[1].endswith(("delete", "rename")):
                known.renew()
    assert refused > 1000


@pytest.mark.postgres
def test_no_text_that_postgresql_refuses_makes_a_route_fall_over(tmp_path: Path, postgres_url: str) -> None:
    opened = init(tmp_path / "team", store_url=postgres_url)
    desk = desk_of(opened)
    known = Known(asking(desk))
    for route in ROUTES:
        for name in read_by(desk, known, route):
            for value in ("\x00", "a\x00b", [{"key": "a\x00", "value": "\x00"}], ["\x00"]):
                fault_of(desk, route[0], known.path_of(route), {**known.sane, name: value})
        if route[0] == "DELETE" or route[1].endswith(("delete", "rename")):
            known.renew()
    opened.close()


def test_a_fault_of_the_server_is_not_taken_for_a_refusal(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*anything: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(workspace.store, "get", full)
    with pytest.raises(StoreError):
        fault_of(desk_of(workspace), "GET", "runs/get", {"run_id": "0" * 32})


# ---- over the wire ---------------------------------------------------------------------------------------------------

PATHS = [
    "", "/", "..", "../x", "%2e%2e/x", "a//b", "%00", "%ff", "%", "%zz", "a%0Ab", "x" * 4000, "a/" * 300, "ü",
    "0/{run}/artifacts/a", "0/{run}/artifacts", "0/models/{model}/artifacts/a", "?path=%00", "?path=..",
    "?path=" + "a/" * 300, "?path=%ff",
]  # fmt: skip
VALUES = st.sampled_from([*COMMON, *(value for values in SPECIAL.values() for value in values)]) | st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def odd_requests(draw: st.DrawFn) -> Callable[[Known], tuple[str, str, bytes]]:
    """Draw a request: a route with sensible fields, of which some are replaced; or nothing about it is sensible."""
    route = draw(st.sampled_from([*ROUTES, *PLACES]))
    replaced = draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
    way = draw(st.sampled_from(["body", "query", "both", "file", "raw"]))
    raw = draw(st.binary(max_size=40) | st.sampled_from(DEEP).map(str.encode)) if way in ("file", "raw") else b""
    tail, verb = draw(st.sampled_from(PATHS)), draw(st.sampled_from(["GET", "PUT", "DELETE", "POST", "HEAD"]))
    prefix = draw(st.sampled_from(["/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/"]))

    def made(known: Known) -> tuple[str, str, bytes]:
        place = quote(tail.format(run=known.run, model=known.model), safe="%/?=.")
        if way == "file":
            return verb, FILES + ("" if place.startswith("?") else "/") + place, raw
        fields = {**known.sane, **replaced}
        method, where = route[0], prefix + known.path_of(route)
        texts = {k: v if isinstance(v, str | list) else json.dumps(v) for k, v in fields.items()}
        query = urlencode(texts, doseq=True, errors="replace")[:30_000]
        if way == "raw":
            return method, f"{where}/{place}" if len(raw) % 2 else where, raw
        if method == "GET" or way == "query":
            return method, f"{where}?{query}", b""
        return method, where + (f"?{query}" if way == "both" else ""), json.dumps(fields).encode()

    return made


def statuses(server: Any, asked: list[tuple[str, str, bytes]]) -> list[int]:
    """Return the status of each request."""
    place = urlsplit(server.uri)
    found = []
    for method, path, body in asked:
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers={"Authorization": "Bearer a-token-for-tests"})
            found.append(connection.getresponse().status)
        finally:
            connection.close()
    return found


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(odd_requests(), min_size=8, max_size=16))
def test_no_request_over_the_wire_is_a_5xx(server: Any, drawn: list[Any]) -> None:
    known = Known(lambda path, fields: server.good("POST", path, fields))
    asked = [one(known) for one in drawn]
    for (method, path, body), status in zip(asked, statuses(server, asked), strict=True):
        assert status < 500, f"{status}: {method} {path[:300]} {body[:1000]!r}"


@pytest.mark.parametrize("text", DEEP)
def test_json_that_is_nested_without_end_is_refused(server: Any, text: str) -> None:
    status, told = server.send("POST", "/api/2.0/mlflow/runs/search", text.encode())
    assert (status, json.loads(told)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
