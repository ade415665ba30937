"""Cards of model versions, loaded models, aliases and parity reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import Alias, ModelVersion, Signature, TensorSpec
from nbops.tracking.comparing.ranking import ranked
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Facts, Grid, Key, Mono, Note, Part, chip
from nbops.view.format import number, plural, quantity, size, when
from nbops.view.reading import data_of, related


def show_version(value: ModelVersion) -> Bundle:
    """Draw a `ModelVersion`: reference, aliases, metrics, signature, parity, source run."""
    return bundle(_version_card(value))


def show_loaded(value: Any) -> Bundle:
    """Draw a `LoadedModel`: the version that it holds and how to call it."""
    card = _version_card(value.version)
    return bundle(Card(card.title, Chip("✓", "loaded", "ok"), card.id, card.facts, card.keys, card.parts,
                       ("model.predict(x)",)))  # fmt: skip


def _version_card(value: ModelVersion) -> Card:
    aliases = [a.alias for a in related(Alias, "model", value.name) if a.number == value.number]
    parts: list[Part] = [*signature_parts(value.signature)]
    if value.parity:
        parts.append(Facts("parity", _parity_pairs(value.parity)))
    if value.tags:
        parts.append(Facts("tags", tuple(value.tags.items())))
    if value.parent:
        parts.append(Facts("from", (("run", short_id(value.parent)),)))
    parts += _data(value)
    keys = tuple(Key(number(value.metrics[name]), name) for name in ranked(value.metrics)[:4])
    facts = (*(f"@{alias}" for alias in aliases), size(value.size_bytes), when(value.created_at))
    reference = f"{value.name}@{aliases[0]}" if aliases else value.ref
    return Card(
        value.ref, chip(value.status), short_id(value.id), facts, keys, tuple(parts), (f"%mlops serve {reference}",)
    )


def _data(value: ModelVersion) -> list[Part]:
    """Return the datasets that its run used, or that none is recorded."""
    found = data_of(value.parent)
    if found is None:
        return []
    if not found:
        return [Note("No data is recorded with it: name it with nb.run(data=…).", "warn")]
    return [Facts("data", tuple((f"{d.name}/{d.version}", plural(d.rows, "row")) for d in found))]


def signature_parts(signature: Signature | None) -> list[Part]:
    """Return what a model takes and gives, as two lines."""
    if signature is None:
        return []
    return [Facts(title, tuple((s.name, _tensor(s)) for s in specs))
            for title, specs in (("takes", signature.inputs), ("gives", signature.outputs)) if specs]  # fmt: skip


def _tensor(spec: TensorSpec) -> str:
    shape = ", ".join("batch" if size == -1 and i == 0 else "?" if size == -1 else str(size)
                      for i, size in enumerate(spec.shape))  # fmt: skip
    return f"{spec.dtype} [{shape}]"


def pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the plain entries of a mapping for the eye; nested ones are left to the record itself."""
    return tuple((name.replace("_", " "), _plain(value)) for name, value in values.items() if _is_plain(value))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and value != ""


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else number(value)


def show_alias(value: Alias) -> Bundle:
    """Draw an `Alias`: what it points at now and every setting before."""
    moves = tuple((when(move.at), Mono(f"{value.model}/{move.number}"), move.by, move.reason)
                  for move in reversed(value.history))  # fmt: skip
    parts: list[Part] = [Grid(("when", "version", "by", "reason"), moves)] if moves else []
    return bundle(Card(value.name, Chip("→", f"{value.model}/{value.number}", "ok"), short_id(value.id),
                       parts=tuple(parts), actions=(f"%mlops rollback {value.model} {value.alias}",)))  # fmt: skip


def show_parity(value: Any) -> Bundle:
    """Draw a `ParityReport`: whether the exported model computes the same, and by how much it differs."""
    head = ("output", "type", "max difference", "of scale", "tolerance", "changed argmax")
    rows = tuple(
        (Mono(o.name), o.dtype, number(o.max_abs), number(o.max_rel), number(o.tolerance),
         quantity(o.argmax_changed_share, "share"))
        for o in value.outputs
    )  # fmt: skip
    words = {
        "pass": "faithful",
        "warn": "faithful, but answers changed",
        "fail": "unfaithful",
        "skipped": "no original",
    }
    parts = (Note(value.message, "" if value.passed else "bad"), Grid(head, rows, frozenset({2, 3, 4, 5})))
    return bundle(Card("parity", chip(value.verdict, words.get(str(value.verdict), "")), parts=parts))


def _parity_pairs(parity: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the figures of a stored parity report: plain ones, and the worst of its outputs."""
    outputs = [o for o in parity.get("outputs") or () if isinstance(o, Mapping)]
    worst = {key: max((o[key] for o in outputs if isinstance(o.get(key), int | float)), default=None)
             for key in ("max_abs", "max_rel")}  # fmt: skip
    return pairs({**parity, **{key: value for key, value in worst.items() if value is not None}})
