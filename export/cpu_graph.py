"""The step as a processor computes it with the least work: products with Chebyshev bases in blocks of few columns.

A graph of some hundred sensors is small enough for dense bases, and a GPU is fastest with them. A processor is not: it
multiplies every zero. The scaled Laplacian L of a road network has few entries in a row; its square, and so T2, has
more. So T1 X and T2 X are computed as L X and 2 L (L X) − X, and L in rows of blocks that lie close together in the
graph, each with the columns that it needs::

    Gather [row, column] of X  ──▶  MatMul with blocks [row, size, column]  ──▶  L X in the order of the blocks
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from scipy.sparse import csr_array

from export.precision.graphs import PRODUCT, add_constant, close_graph, constant, open_graph
from stunet_deploy.graph.blocks import Slots, cluster_order
from stunet_deploy.precisions import FLOAT32

#: Rows of a block to choose from.
SIZES = tuple(range(16, 68, 4))
#: Products with fewer columns than this are left as they are: moving numbers costs more than it saves.
FEWEST_CHANNELS = 16
#: Blocks must promise at least this share of the work of dense bases to be spared.
LEAST_GAIN = 0.25
# Nanoseconds for a channel, fitted to ONNX Runtime on one x86 core with 207 sensors and 32 and 96 channels: a
# multiplication, what a gathered column costs beside its multiplications, and what the operators cost at 64 channels.
_MULTIPLICATION_NS, _COLUMN_NS, _OPERATORS_NS = 0.031, 0.38, 80.0
#: How far a stored polynomial may be from the one that follows from L, both rounded to float32.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Blocks:
    """A square matrix over nodes in block rows, for nodes in an order of its own.

    Attributes:
        slots: where the nodes are.
        columns: the nodes that a block row reads, [row, column]; a short row repeats its first.
        blocks: the matrix there, [row, size, column]; zero where a column is repeated.
    """

    slots: Slots
    columns: NDArray[np.int64]
    blocks: NDArray[np.float32]

    @classmethod
    def cut(cls, matrix: NDArray[np.float32], size: int) -> Blocks:
        """Cut a matrix [node, node] whose pattern is symmetric into block rows of ``size`` nodes."""
        slots = Slots.from_blocks(cluster_order(csr_array(matrix), size), size)
        rows = matrix[slots.nodes].reshape(-1, size, len(matrix))
        read = [np.flatnonzero(row.any(axis=0)) for row in rows]
        width = max(1, *(len(found) for found in read))
        columns = np.zeros((len(rows), width), np.int64)
        blocks = np.zeros((len(rows), size, width), np.float32)
        for row, found in enumerate(read):
            columns[row] = np.resize(found, width) if len(found) else slots.nodes[row * size]
            blocks[row, :, : len(found)] = rows[row][:, found]
        return cls(slots, columns, blocks)

    @property
    def cost(self) -> float:
        """Nanoseconds for a channel of a product, estimated."""
        rows, size, width = self.blocks.shape
        return float(rows * width * (size * _MULTIPLICATION_NS + _COLUMN_NS) + _OPERATORS_NS)


def cpu_graph(step: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a step graph with the same inputs, outputs and meaning that costs a processor less, or None.

    Results differ by rounding alone.
    """
    model = open_graph(step)
    cut: dict[str, Blocks | None] = {}
    replaced = 0
    for x, products in list(_propagations(model.graph)):
        basis = products[0].inputs[0]
        if basis is None or basis.name is None:
            continue
        if basis.name not in cut:
            cut[basis.name] = _worthwhile(np.asarray(constant(basis), np.float32))
        blocks = cut[basis.name]
        if blocks is not None:
            _replace(model, x, products, blocks, f"{basis.name}.blocks", replaced)
            replaced += 1
    return close_graph(model, FLOAT32) if replaced else None


def _propagations(graph: ir.Graph) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Yield every value that polynomials of a matrix multiply from the left, with those products by their degree."""
    products: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node.op_type == PRODUCT and node.inputs[1] is not None:
            basis, x = constant(node.inputs[0]), node.inputs[1]
            square = basis is not None and basis.ndim == 2 and basis.shape[0] == basis.shape[1]
            channels = x.shape[-1] if x.shape is not None and len(x.shape) == 3 else None
            if square and isinstance(channels, int) and channels >= FEWEST_CHANNELS:
                products.setdefault(x, []).append(node)
    known: dict[tuple[ir.Value | None, ...], list[int] | None] = {}
    for x, nodes in products.items():
        key = tuple(node.inputs[0] for node in nodes)
        if key not in known:
            known[key] = _by_degree([np.asarray(constant(basis), np.float64) for basis in key])
        order = known[key]
        if order is not None:
            yield x, [nodes[index] for index in order]


def _by_degree(bases: Sequence[NDArray[np.float64]]) -> list[int] | None:
    """Order matrices by the degree of their polynomial; None if they are not T1, T2 … of one of them."""
    first = min(range(len(bases)), key=lambda index: int(np.count_nonzero(bases[index])))
    ordered, before, last = [first], np.eye(len(bases[first])), bases[first]
    while len(ordered) < len(bases):
        before, last = last, 2 * bases[first] @ last - before
        found = [index for index, basis in enumerate(bases) if np.abs(basis - last).max() < _ROUNDING]
        if len(found) != 1:
            return None
        ordered += found
    return ordered


def _worthwhile(laplacian: NDArray[np.float32]) -> Blocks | None:
    """Return the blocks of T1 that cost least, or None where a dense product costs about as much."""
    if not np.array_equal(laplacian != 0, laplacian.T != 0):
        return None
    found = min((Blocks.cut(laplacian, size) for size in SIZES), key=lambda blocks: blocks.cost)
    return found if found.cost < (1 - LEAST_GAIN) * _MULTIPLICATION_NS * laplacian.size else None


def _replace(
    model: ir.Model, x: ir.Value, products: Sequence[ir.Node], blocks: Blocks, shared: str, number: int
) -> None:
    """Put products with blocks in place of those with T1, T2 …

    Args:
        model: to change.
        x: what is multiplied.
        products: by degree.
        blocks: of T1.
        shared: prefix of the names of constants that all products with these blocks share.
        number: of the replacement, for the names of its values.
    """
    constants = {
        "slots": blocks.slots.slots,
        "columns": blocks.columns,
        "shape": np.array([0, len(blocks.slots.nodes), -1]),
        "once": blocks.blocks,
    }
    if len(products) > 1:
        constants["twice"] = 2 * blocks.blocks
    values = {
        part: model.graph.initializers.get(f"{shared}.{part}") or add_constant(model, f"{shared}.{part}", array)
        for part, array in constants.items()
    }
    nodes: list[ir.Node] = []

    def insert(op_type: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Value:
        name = f"blocks_{number}_{len(nodes)}_{op_type}"
        nodes.append(ir.node(op_type, list(inputs), attributes, name=name))
        nodes[-1].outputs[0].name = name
        return nodes[-1].outputs[0]

    terms = [x]
    for degree in range(1, len(products) + 1):
        read = insert("Gather", [terms[-1], values["columns"]], axis=1)
        made = insert(PRODUCT, [values["once" if degree == 1 else "twice"], read])
        term = insert("Gather", [insert("Reshape", [made, values["shape"]]), values["slots"]], axis=1)
        terms.append(term if degree == 1 else insert("Sub", [term, terms[degree - 2]]))
    order = list(model.graph)
    model.graph.insert_before(min(products, key=order.index), nodes)
    for product, term in zip(products, terms[1:], strict=True):
        old = product.outputs[0]
        term.type, term.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, term)
