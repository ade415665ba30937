"""A small left-to-right graph (lineage): layers by longest path, drawn as SVG and as text arrows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from html import escape

from nbops.view.format import columns, cut, text

_BOX_W, _BOX_H, _GAP_X, _GAP_Y = 150, 40, 34, 14
MAX_NODES = 40


@dataclass(frozen=True)
class Node:
    """A box: what sort of thing, what it is called, and a state."""

    id: str
    kind: str
    name: str
    state: str = ""
    tone: str = "dim"


@dataclass(frozen=True)
class Graph:
    """Nodes and edges ``(source, relation, target)`` by node id; edges to unknown nodes are not drawn."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, str], ...]
    root: str = ""

    def layers(self) -> list[list[Node]]:
        """Return the nodes from left to right; each stands right of everything that flows into it."""
        depth = _depths(self)
        found: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes[:MAX_NODES]:
            found[depth[node.id]].append(node)
        return [found[level] for level in sorted(found)]

    def lines(self) -> list[str]:
        """Return every path from a source to an end as ``digits/1 → run fit → digits/1``, longest first."""
        names = {node.id: node for node in self.nodes[:MAX_NODES]}
        rows = [" → ".join(text(f"{names[i].kind} {names[i].name}") for i in path) for path in _paths(self, set(names))]
        left_out = len(self.nodes) - len(names)
        return [*rows, *([f"… and {left_out:,} more"] if left_out > 0 else [])]


def _edges(graph: Graph, known: set[str]) -> dict[str, list[str]]:
    after: dict[str, list[str]] = {id: [] for id in known}
    for source, _, target in graph.edges:
        if source in known and target in known and source != target and target not in after[source]:
            after[source].append(target)
    return after


def _depths(graph: Graph) -> dict[str, int]:
    after = _edges(graph, {node.id for node in graph.nodes})
    depth = {node.id: 0 for node in graph.nodes}
    for _ in graph.nodes:  # longest paths by relaxation; a cycle stops after as many rounds as there are nodes
        moved = False
        for source, targets in after.items():
            for target in targets:
                if depth[target] <= depth[source] < len(depth):
                    depth[target], moved = depth[source] + 1, True
        if not moved:
            break
    return depth


def _paths(graph: Graph, known: set[str], limit: int = 12) -> list[list[str]]:
    after = _edges(graph, known)
    targets = {target for found in after.values() for target in found}
    starts = [node.id for node in graph.nodes if node.id in known and node.id not in targets] or [graph.nodes[0].id]
    done: list[list[str]] = []
    stack = [[start] for start in reversed(starts)]
    while stack and len(done) < limit:
        path = stack.pop()
        following = [target for target in after[path[-1]] if target not in path]
        if following:
            stack.extend([*path, target] for target in reversed(following))
        else:
            done.append(path)
    return sorted(done, key=len, reverse=True)


def svg(graph: Graph) -> str:
    """Return the graph as an ``<svg>`` element, or an empty string without nodes."""
    layers = graph.layers()
    if not layers:
        return ""
    tallest = max(len(layer) for layer in layers)
    width = len(layers) * (_BOX_W + _GAP_X) - _GAP_X + 2
    height = tallest * (_BOX_H + _GAP_Y) - _GAP_Y + 2
    place: dict[str, tuple[float, float]] = {}
    for i, layer in enumerate(layers):
        top = 1 + (height - 2 - (len(layer) * (_BOX_H + _GAP_Y) - _GAP_Y)) / 2
        for j, node in enumerate(layer):
            place[node.id] = (1 + i * (_BOX_W + _GAP_X), top + j * (_BOX_H + _GAP_Y))
    label = escape("lineage: " + cut("; ".join(graph.lines()), 300))
    edges = "".join(_arrow(place[a], place[b], relation) for a, relation, b in graph.edges if a in place and b in place)
    boxes = "".join(_box(node, place[node.id], node.id == graph.root) for layer in layers for node in layer)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{min(width, 1100)}" role="img" aria-label="{label}">'
        f'<g fill="none" stroke="var(--nb-dim,#6b7280)">{edges}</g>{boxes}</svg>'
    )


def _arrow(source: tuple[float, float], target: tuple[float, float], relation: str) -> str:
    x1, y1 = source[0] + _BOX_W, source[1] + _BOX_H / 2
    x2, y2 = target[0], target[1] + _BOX_H / 2
    middle = (x1 + x2) / 2
    return (
        f"<g><title>{escape(cut(text(relation), 60).replace('_', ' '))}</title>"
        f'<path d="M{x1:.0f} {y1:.0f}C{middle:.0f} {y1:.0f} {middle:.0f} {y2:.0f} {x2 - 2:.0f} {y2:.0f}"/>'
        f'<path d="M{x2 - 7:.0f} {y2 - 4:.0f}L{x2 - 1:.0f} {y2:.0f}L{x2 - 7:.0f} {y2 + 4:.0f}"/></g>'
    )


def _box(node: Node, at: tuple[float, float], is_root: bool) -> str:
    x, y = at
    line = "var(--nb-accent,#0b62d6)" if is_root else "var(--nb-line,#e5e7eb)"
    name, sub = cut(text(node.name), 19), cut(text(f"{node.kind} · {node.state}" if node.state else node.kind), 23)
    title = f"<title>{escape(cut(text(node.name), 120))}</title>" if columns(name) < columns(text(node.name)) else ""
    return (
        f'<g>{title}<rect x="{x:.0f}" y="{y:.0f}" width="{_BOX_W}" height="{_BOX_H}" rx="6" '
        f'fill="var(--nb-soft,#f7f7f8)" stroke="{line}"/>'
        f'<text x="{x + 10:.0f}" y="{y + 17:.0f}" font-size="12" font-weight="600" '
        f'fill="var(--nb-fg,#1c1c1e)">{escape(name)}</text>'
        f'<text x="{x + 10:.0f}" y="{y + 32:.0f}" font-size="11" fill="var(--nb-dim,#6b7280)">{escape(sub)}</text></g>'
    )
