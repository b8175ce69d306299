"""The layers of a step graph by the names of their weights."""

from __future__ import annotations

import onnx_ir as ir


def layers_of_nodes(graph: ir.Graph) -> dict[str, str]:
    """Return for the name of every node the layer it belongs to, as ``encoder.contracting.0.cell.gate_weight``.

    A node without a weight of its own, as the propagation of a graph convolution, belongs to the layer it leads to.
    """
    found: dict[ir.Node, str] = {}
    for node in reversed(list(graph)):
        weights = [str(value.name) for value in node.inputs if value is not None and _is_weight(value)]
        after = [found[use.node] for value in node.outputs for use in value.uses() if use.node in found]
        if weights or after:
            found[node] = (weights or after)[0]
    return {str(node.name): layer for node, layer in found.items()}


def _is_weight(value: ir.Value) -> bool:
    """Return whether an initialiser has the checkpoint's name of a weight, a path with dots."""
    return value.is_initializer() and "." in str(value.name)
