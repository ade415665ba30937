"""Cards of endpoints."""

from __future__ import annotations

from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import Endpoint
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Code, Facts, Note, Part, chip
from nbops.view.format import duration, when
from nbops.view.reading import attribute


def show_endpoint(value: Endpoint) -> Bundle:
    """Draw an `Endpoint`: whether it answers, where, which versions. The token is never shown."""
    return bundle(_card(value, live=False))


def show_live(value: Any) -> Bundle:
    """Draw a `LiveEndpoint`: its record, and the request to make."""
    return bundle(_card(attribute(value, "record", default=value), live=True))


def _card(value: Endpoint, *, live: bool) -> Card:
    parts: list[Part] = [Facts("serves", tuple(("", ref) for ref in value.models))] if value.models else []
    facts = [value.url, f"pid {value.pid}"] if value.url else [f"pid {value.pid}"]
    facts.append(
        f"{duration(value.ended_at - value.created_at)}" if value.ended_at else f"since {when(value.created_at)}"
    )
    if value.status == "READY" and value.models:
        name = value.models[0].rpartition("/")[0]
        parts.append(Code(f"POST {value.url}/v2/models/{name}/infer\nAuthorization: Bearer <endpoint.token>"))
    if value.status == "DEAD":
        parts.append(Note("The process is gone. Serve the model again.", "bad"))
    actions = ["endpoint.infer(x)"] if live and value.status == "READY" else []
    if value.status in ("READY", "STARTING"):
        actions.append(f"%mlops stop {value.name}")
    elif value.ref:
        actions.append(f"%mlops serve {value.ref}")
    return Card(value.name, chip(value.status), short_id(value.id), tuple(facts), parts=tuple(parts),
                actions=tuple(actions))  # fmt: skip
