"""The description of a sensor graph and its gaps, as numbers for programs and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.kernel import MOST_NEIGHBOURS
from stunet_deploy.graph.sensor_graph import EdgeCut, SensorGraph, named

#: A graph that joins more of all pairs than this says little about who is near whom.
MANY_EDGES = 0.3
#: A kernel that cuts more of the listed edges than this was not made for such a list.
MANY_CUT = 1 / 3
#: With half of the weights above this, a kernel is much wider than the distances.
ALIKE = 0.9


def describe_graph(graph: SensorGraph) -> dict[str, Any]:
    """Describe a graph, ready for JSON; ``edges`` counts each direction, components ignore directions."""
    weights, nodes = graph.adjacency.weight, len(graph.adjacency)
    component = components(graph.adjacency)
    isolated = np.flatnonzero(graph.adjacency.isolated).tolist()
    return {
        "source": graph.source,
        "sensors": nodes,
        "named": graph.sensor_ids is not None,
        "edges": len(weights),
        "share_joined": len(weights) / max(1, nodes * (nodes - 1)),
        "directed": graph.adjacency.directed,
        "isolated": [str(node) if graph.sensor_ids is None else graph.sensor_ids[node] for node in isolated],
        "components": int(component.max()) + 1,
        "largest_component": int(np.bincount(component).max()),
        "made_from": graph.made_from,
        "distances": None if graph.distances is None else list(graph.distances),
        "unit": graph.unit,
        "notes": list(graph.notes),
        "cut": None if graph.cut is None else asdict(graph.cut),
        "weights": {
            "minimum": float(weights.min()),
            "median": float(np.median(weights)),
            "maximum": float(weights.max()),
        }
        if weights.size
        else None,
        "coordinates": graph.latitude is not None,
    }


def explain_graph(description: Mapping[str, Any]) -> list[str]:
    """Return the lines of `describe_graph` for people."""
    direction = "directed" if description["directed"] else "symmetric"
    lines = [
        f"graph      {description['source']}",
        f"nodes      {description['sensors']:,}"
        + (" with ids" if description["named"] else ", no ids: they must be in the recording's order")
        + (", with coordinates" if description["coordinates"] else ""),
        f"edges      {description['edges']:,}, {direction}, {100 * description['share_joined']:.1f} % of all pairs, "
        f"{description['edges'] / description['sensors']:.1f} a sensor",
    ]
    if description["distances"] is not None:
        shortest, longest = description["distances"]
        unit = description["unit"] or "in the unit of the file"
        lines.append(f"distances  {shortest:g} to {longest:g} {unit}, made into weights")
    if description["weights"] is not None:
        numbers = description["weights"]
        lines.append(
            f"weights    {numbers['minimum']:.3g} to {numbers['maximum']:.3g}, median {numbers['median']:.3g}, "
            f"from {description['made_from']}"
        )
    lines.append(
        f"parts      {description['components']} of which the largest has {description['largest_component']:,} sensors"
        if description["components"] > 1
        else "parts      one: every sensor reaches every other"
    )
    return lines


def remark_on_graph(description: Mapping[str, Any]) -> list[str]:
    """Return likely mistakes in a described graph, each with its remedy."""
    remarks = list(description["notes"])
    if description["cut"] is not None:
        remarks += _remark_on_cut(EdgeCut(**description["cut"]))
    remarks += _remark_on_weights(description)
    if isolated := description["isolated"]:
        remarks.append(f"{len(isolated)} sensor(s) without a neighbour learn from themselves alone ({named(isolated)})")
    if description["share_joined"] > MANY_EDGES and description["sensors"] > 20:
        remarks.append(
            f"{100 * description['share_joined']:.0f} % of all pairs are joined: check the unit of the distances, "
            "or leave out pairs that are not near"
        )
    return remarks


def _remark_on_cut(cut: EdgeCut) -> list[str]:
    """Return a warning where the kernel cuts many of the listed edges, or all of a sensor's."""
    lost = cut.listed - cut.kept
    if not (cut.left_alone or lost > MANY_CUT * cut.listed):
        return []
    return [
        f"{lost} of {cut.listed} edges are too long for the kernel (sigma = {cut.sigma:.3g}, in the file's unit, the "
        f"{cut.sigma_of} of the distances) and were dropped; list neighbours alone, at most {MOST_NEIGHBOURS} a "
        "sensor, or give from,to,weight to keep them"
    ]


def _remark_on_weights(description: Mapping[str, Any]) -> list[str]:
    """Return a warning where distances are made into weights that are nearly all 1."""
    distances, weights = description["distances"], description["weights"]
    if distances is None or not distances[1] or weights is None or weights["median"] <= ALIKE:
        return []
    return [
        f"weights are nearly alike (median {weights['median']:.3g}, up to {weights['maximum']:.3g}), though "
        f"distances are {distances[0]:g} to {distances[1]:g}: check the unit, and the longest distances"
    ]


def components(adjacency: Adjacency) -> NDArray[np.int64]:
    """Number of the part of the graph that each node is in, ``[node]``, from 0, whatever the directions."""
    source, target = adjacency.source, adjacency.target
    known, lowest = np.empty(0, dtype=np.int64), np.arange(len(adjacency))
    while not np.array_equal(known, lowest):  # until every node knows the lowest node of its part
        known, lowest = lowest, lowest.copy()
        np.minimum.at(lowest, source, known[target])
        np.minimum.at(lowest, target, known[source])
        lowest = lowest[lowest]
    return np.unique(lowest, return_inverse=True)[1].astype(np.int64)
