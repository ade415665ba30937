"""The lineage graph, as picture and as arrows."""

from __future__ import annotations

from xml.etree import ElementTree

from nbops.view.graphs import MAX_NODES, Graph, Node, svg


def graph(*edges: tuple[str, str], extra: tuple[str, ...] = (), root: str = "") -> Graph:
    names = dict.fromkeys([*extra, *(n for edge in edges for n in edge)])
    return Graph(tuple(Node(n, "run", n) for n in names), tuple((a, "used_by", b) for a, b in edges), root)


def test_each_node_stands_right_of_what_flows_into_it() -> None:
    found = graph(("data", "run"), ("run", "model"), ("data", "model"), ("model", "endpoint"))
    assert [[n.name for n in layer] for layer in found.layers()] == [["data"], ["run"], ["model"], ["endpoint"]]


def test_arrows_follow_every_path_and_the_longest_comes_first() -> None:
    found = graph(("data", "check"), ("data", "fit"), ("fit", "model"))
    assert found.lines() == ["run data → run fit → run model", "run data → run check"]


def test_a_cycle_ends() -> None:
    found = graph(("a", "b"), ("b", "a"))
    assert found.lines() == ["run a → run b"]
    assert svg(found)


def test_the_picture_is_well_formed_escaped_and_marks_the_root() -> None:
    found = graph(("<b>data</b>", "fit"), root="fit")
    text = svg(found)
    root = ElementTree.fromstring(text)  # noqa: S314
    assert len(root.findall(".//rect")) == 2
    assert "<b>" not in text
    assert text.count("--nb-accent") == 1


def test_a_large_graph_says_what_it_leaves_out() -> None:
    found = graph(*((f"n{i}", f"n{i + 1}") for i in range(100)))
    assert found.lines()[-1] == f"… and {101 - MAX_NODES} more"
    assert len(svg(found)) < 30_000
    assert svg(Graph((), ())) == ""
