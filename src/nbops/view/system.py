"""Cards of the workspace: status, doctor, help, lineage and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import Event, Record
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Facts, Grid, Key, Mono, Note, Part, chip
from nbops.view.format import number, plural, text, when
from nbops.view.graphs import Graph, Node
from nbops.view.reading import attribute
from nbops.view.tables import grid_of

_NOUNS = {"run": "run", "dataset": "data", "model": "model", "endpoint": "endpoint", "check": "check",
          "artifact": "file", "alias": "alias", "diagnosis": "finding"}  # fmt: skip


def show_status(value: Any) -> Bundle:
    """Draw a `Status`: what the workspace holds, what runs, what serves, what to type next."""
    counts: Mapping[str, int] = value.counts
    keys = tuple(Key(f"{counts[kind]:,}", name) for kind, name in (
        ("run", "runs"), ("dataset", "datasets"), ("model", "model versions"), ("endpoint", "endpoints serving"),
    ) if kind in counts)  # fmt: skip
    parts: list[Part] = []
    for table in value.tables:
        if len(table):
            parts.append(grid_of(table, limit=5))
    for line in value.notes:
        parts.append(Note(line, "dim"))
    state = chip("RUNNING", plural(value.running, "run") + " running") if value.running else chip("ok", "idle")
    state = state if value.path else Chip("–", "no workspace yet", "dim")
    return bundle(Card("nbops", state, facts=(value.path or value.would_be, value.store), keys=keys,
                       parts=tuple(parts), actions=tuple(value.next)))  # fmt: skip


def show_doctor(value: Any) -> Bundle:
    """Draw a `Doctor` report: each finding with what to do, worst first."""
    rows = tuple((chip(f.verdict), f.name, f.found, f.fix) for f in sorted(
        value.findings, key=lambda f: -f.verdict.severity))  # fmt: skip
    worst = max((f.verdict for f in value.findings), key=lambda v: v.severity)
    bad = sum(f.verdict.severity > 1 for f in value.findings)
    state = chip("pass", "all well") if not bad else chip(worst, plural(bad, "thing") + " to look at")
    return bundle(Card("doctor", state, parts=(Grid(("state", "what", "found", "what to do"), rows),)))


def show_report(value: Any) -> Bundle:
    """Draw a `Report` of long work: how much was done, what is good to know, and every problem."""
    count = len(value.problems)
    state = chip("pass", "done") if not count else chip("warn", plural(count, "problem"))
    keys = tuple(Key(f"{found:,}", name) for name, found in value.counts.items())
    parts: list[Part] = [Note(line, "dim") for line in value.notes]
    for head, lines in (("problem", value.problems), ("left out", value.left_out)):
        if lines:
            parts.append(Grid((head,), tuple((line,) for line in lines)))
    return bundle(Card(value.title, state, facts=(value.where,), keys=keys, parts=tuple(parts)))


def show_help(value: Any) -> Bundle:
    """Draw `Help`: what a verb does, its arguments, an example; or all verbs."""
    parts: list[Part] = [Note(value.text)] if value.text else []
    if value.usage:
        parts.append(Code(value.usage))
    if value.rows:
        parts.append(Grid(value.head, tuple((Mono(name), said) for name, said in value.rows)))
    if value.examples:
        parts.append(Code("\n".join(value.examples)))
    return bundle(Card(value.title, parts=tuple(parts)))


def show_event(value: Event) -> Bundle:
    """Draw an `Event`: when, what, about which record."""
    pairs = tuple((name, number(found)) for name, found in value.payload.items())
    parts: tuple[Part, ...] = (Facts("with", pairs),) if pairs else ()
    return bundle(
        Card(value.kind, id=short_id(value.subject), facts=(f"seq {value.seq:,}", when(value.at)), parts=parts)
    )


def show_lineage(value: Any) -> Bundle:
    """Draw a `Lineage`: what flows into the root and out of it, from left to right."""
    nodes = value.nodes.values() if isinstance(value.nodes, Mapping) else value.nodes
    root = attribute(value.root, "id", default=value.root) or ""
    drawn = tuple(node_of(node) for node in nodes)
    names = {node.id: node.name for node in drawn}
    edges = tuple((link.source, link.relation, link.target) for link in value.links)
    if not edges:
        parts: tuple[Part, ...] = (
            Note("Nothing is linked to it yet. Use a dataset in a run, or register a model.", "dim"),
        )
    else:
        parts = (Graph(drawn, edges, root),)
    title = f"lineage of {names[root]}" if root in names else "lineage"
    return bundle(Card(title, facts=(plural(len(drawn), "record"), plural(len(edges), "link")), parts=parts))


def node_of(record: Any) -> Node:
    """Return the box of a record: its noun, its name as one refers to it, its state."""
    if not isinstance(record, Record):
        id = text(attribute(record, "id", default=record))
        return Node(
            id, text(attribute(record, "kind", default="")), text(attribute(record, "name", default=short_id(id)))
        )
    number_of = attribute(record, "version", "number")
    is_versioned = record.kind in ("dataset", "model") and number_of is not None
    name = text(attribute(record, "name", default=short_id(record.id)))
    state = text(attribute(record, "status", default=""))
    found = chip(state) if state else None
    return Node(record.id, _NOUNS.get(record.kind, record.kind), f"{name}/{number_of}" if is_versioned else name,
                str(found) if found else "", found.tone if found else "dim")  # fmt: skip


def show_audit(value: Any) -> Bundle:
    """Draw an `AuditReport`: whether the log is whole, its head, and the newest entries."""
    state = chip("pass", "whole") if value.is_whole else chip("fail", f"broken at event {value.broken_at}")
    rows = tuple((str(e.seq), when(e.at), e.kind, Mono(short_id(e.subject)), e.actor) for e in reversed(value.newest))
    parts: list[Part] = [Grid(("event", "when", "what", "of", "by"), rows, right=frozenset({0}))] if rows else []
    if not value.is_whole:
        said = "This entry does not follow from those before it: the log was changed from outside."
        parts.insert(0, Note(f"{said} Compare it with a backup.", "bad"))
    facts = (plural(value.events, "event"), f"head {value.head[:16] or '–'}")
    return bundle(Card("audit log", state, facts=facts, parts=tuple(parts)))


def show_trust(value: Any) -> Bundle:
    """Draw a `Trust`: who has which role, and what each role may do."""
    who, role = value.you
    state = chip("pass", "in force") if value.in_force else Chip("–", "no roles", "dim")
    facts = (value.path, f"you are {who or 'nobody'}, {role}") if value.in_force else (value.path,)
    parts: list[Part] = []
    if value.in_force:
        rows = (*((Mono(name), str(of)) for name, of in value.people), ("everybody else", str(value.default)))
        parts.append(Grid(("who", "role"), rows))
    else:
        parts.append(Note("Whoever reaches a server may do everything. Write [roles] into the file to change that."))
    meanings = tuple((str(of), text) for of, texts in value.means for text in texts)
    parts.append(Grid(("role", "may"), meanings))
    return bundle(Card("roles", state, facts=facts, parts=tuple(parts)))


def show_plain(value: Record) -> Bundle:
    """Draw a record that has no card of its own: its name, its state, its plain fields and tags."""
    shown = {"id", "name", "status", "created_at", "parent"}
    fields = [(name, getattr(value, name)) for name in value.__struct_fields__ if name not in shown]
    pairs = tuple((name, number(item) if isinstance(item, int | float) else text(item))
                  for name, item in fields if isinstance(item, str | int | float) and item)  # fmt: skip
    tags = tuple((key, text(item)) for key, item in attribute(value, "tags", default={}).items())
    parts: list[Part] = [Facts(title, found) for title, found in (("", pairs), ("tags", tags)) if found]
    status = attribute(value, "status", default="")
    return bundle(Card(text(attribute(value, "name", default="")) or value.id, chip(status) if status else None,
                       short_id(value.id), (value.kind, when(value.created_at)), parts=tuple(parts)))  # fmt: skip
