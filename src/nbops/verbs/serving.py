"""Verbs of serving: serve, endpoints, stop."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "serve",
    argument("ref", "the model: name, name@alias or name/3", completes="refs"),
    argument("--port", "port to listen on; 0 for a free one", kind=int, default=0, values="N"),
    argument("--name", "name of the endpoint; the reference by default", completes="endpoints"),
    examples=("%mlops serve digits@prod", "%mlops serve digits/3 --port 8080"),
)
def serve(call: Call, *, ref: str, port: int, name: str | None) -> Any:
    """Serve a registered model over HTTP from a process of its own."""
    from nbops.serving.endpoints import serve as start

    return start(ref, port=port, name=name)


@verb(
    "endpoints",
    argument("--all", "also those that were stopped", form="flag", short="-a"),
    examples=("%mlops endpoints",),
)
def endpoints(call: Call, *, all: bool) -> Any:
    """List endpoints, after looking whether their processes run."""
    from nbops.serving.endpoints import endpoints as list_endpoints

    return list_endpoints(stopped=all)


@verb(
    "stop",
    argument("name", "the endpoint: its name or id", completes="endpoints"),
    examples=("%mlops stop digits@prod",),
)
def stop(call: Call, *, name: str) -> Any:
    """Stop an endpoint after it has answered what it accepted."""
    from nbops.serving.endpoints import stop as stop_endpoint

    return stop_endpoint(name)
