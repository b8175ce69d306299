"""The layers of a step graph by the names of their weights."""

from __future__ import annotations

import onnx_ir as ir

from export.precision.islands import MOVES

#: In the names of a large graph's block matrices: constants of the graph, no weights.
_BLOCKS = (".basis.laplacian.", ".unpooling.")


def layers_of_nodes(graph: ir.Graph) -> dict[str, str]:
    """Return for the name of every node the layer it belongs to.

    That is the checkpoint's name of its weight, as ``encoder.contracting.0.cell.gate_weight``. Propagation over the
    graph and products with part of a weight have none; they belong to the module that their result is added to or
    leads to first, as ``encoder.contracting.0.cell``.
    """
    position = {node: number for number, node in enumerate(graph)}
    modules: dict[ir.Node, str] = {}
    layers: dict[str, str] = {}
    for node in reversed(list(graph)):
        own = _weights(node)
        readers = sorted({use.node for value in node.outputs for use in value.uses()}, key=position.__getitem__)
        ahead = [weight.rpartition(".")[0] for reader in readers for weight in _added(reader)]
        ahead += [modules[reader] for reader in readers if reader in modules]
        if own or ahead:
            modules[node] = own[0].rpartition(".")[0] if own else ahead[0]
            layers[str(node.name)] = own[0] if own else ahead[0]
    return layers


def _weights(node: ir.Node) -> list[str]:
    """Return the initialisers of a node that have a checkpoint's name, a path with dots."""
    named = [str(v.name) for v in node.inputs if v is not None and v.is_initializer()]
    return [name for name in named if "." in name and not any(part in name for part in _BLOCKS)]


def _added(node: ir.Node) -> list[str]:
    """Return the weights of a node; of a sum those of its terms too, wherever they were moved from."""
    found = _weights(node)
    if node.op_type == "Add":
        terms = [value.producer() for value in node.inputs if value is not None]
        while terms:
            term = terms.pop(0)
            if term is not None and (term.op_type == "Add" or term.op_type in MOVES):
                found += _weights(term)
                terms += [value.producer() for value in term.inputs if value is not None]
    return found
