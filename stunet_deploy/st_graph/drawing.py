"""An st-graph in text: its nodes and edges by type, its factors and who shares them, its states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stunet_deploy.contract import StepContract
from stunet_deploy.st_graph.st_graph import STGraph

#: Names listed before the rest is counted.
_SHOWN = 6


def describe_st_graph(graph: STGraph) -> dict[str, Any]:
    """Return an st-graph's types, factors and rows as JSON."""
    return {
        "name": graph.name,
        "channels": graph.channels,
        "nodes": {name: [graph.nodes[node].name for node in graph.members(name)] for name in graph.node_types},
        "widths": {name: graph.width(name) for name in graph.node_types},
        "edges": {kind.name: len(graph.along(kind.name)) for kind in graph.edge_types},
        "edge_types": {
            kind.name: {"between": list(kind.between), "directed": kind.directed, "mean": kind.mean}
            for kind in graph.edge_types
        },
        "factors": [{"factor": name, "shared_by": sharers, "rows": rows} for name, sharers, rows in _factors(graph)],
    }


def draw_st_graph(graph: STGraph, contract: StepContract | None = None) -> str:
    """Return an st-graph as text.

    Args:
        graph: to draw.
        contract: of a model on this graph, for the sizes of its states; without it they are rows alone.
    """
    nodes, edges = _count(len(graph.nodes), "node"), _count(len(graph.edges), "edge")
    lines = [f"{graph.name}: {nodes}, {edges}, {_count(graph.channels, 'channel')}", "nodes"]
    kinds = []
    for name in graph.node_types:
        members = [graph.nodes[node].name for node in graph.members(name)]
        kinds.append((f"{name} × {len(members)}", _count(graph.width(name), "channel"), _listed(members)))
    lines += _columns(kinds)
    lines.append("edges" if graph.edge_types else "no edge types")
    rows = []
    for kind in graph.edge_types:
        arrow = "→" if kind.directed else "–"
        of_kind = [f"{edge.source} {arrow} {edge.target}" for edge in graph.along(kind.name)]
        between = f"{kind.between[0]} {arrow} {kind.between[1]}" + (", mean" if kind.mean else "")
        rows.append((f"{kind.name} × {len(of_kind)}", between, _listed(of_kind, 3)))
    lines += _columns(rows)
    lines.append("factors, one set of weights each")
    lines += _columns([(name, f"shared by {sharers}") for name, sharers, _ in _factors(graph)])
    lines.append("remembered")
    if contract is None:
        cells = [(name.replace(" ", "."), _count(count, "row")) for name, _, count in _factors(graph) if count]
        lines += _columns([*cells, ("previous.features", _count(graph.channels, "channel"))])
    else:
        lines += _columns(
            [(s.name, " × ".join(map(str, s.shape[1:])), f"{s.row_bytes() / 1e3:.1f} kB") for s in contract.states]
        )
    return "\n".join(lines)


def _factors(graph: STGraph) -> Iterator[tuple[str, str, int]]:
    """Yield (name, who shares it, rows of its state) of every factor, in the order of the contract."""
    for kind in graph.edge_types:
        hood = graph.neighbourhood(kind.name)
        edges = len(graph.along(kind.name))
        rows = len(hood.receivers)
        yield f"spatial {kind.name}", f"{_count(edges, 'edge')}, received by {_count(rows, 'node')}", rows
    members = {name: len(graph.members(name)) for name in graph.node_types}
    for name, count in members.items():
        yield f"temporal {name}", f"{_count(count, 'node')}, now and one interval ago", count
    for name, count in members.items():
        received = ", ".join(kind.name for kind in graph.edge_types_at(name)) or "no edges"
        yield f"node {name}", f"{_count(count, 'node')}; receives {received}", count


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)


def _listed(names: list[str], shown: int = _SHOWN) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f", … and {rest} more" if rest > 0 else "")


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return indented lines whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
