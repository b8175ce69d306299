"""The step's graph as the paper writes it: nothing that two products have in common is computed once for both."""

from __future__ import annotations

import copy
from typing import TypeVar

import onnx
import torch
from torch import Tensor

from export.precision.graphs import PRODUCT
from export.step_graph import export_step
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.models.stunet.graph_gru import GCGRUCell

Model = TypeVar("Model", bound=torch.nn.Module)


class LiteralCell(GCGRUCell):
    """The cell of Eq. 7 with every convolution as Eq. 2 writes it: y = Σk Tk X Θk, nothing shared."""

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return Σk (Tk X) Θk; ``weight`` holds the Θk below one another."""
        if not isinstance(self.basis, Tensor):
            raise TypeError("the literal graph is of dense bases")
        near, *far = weight.unflatten(0, (len(self.basis) + 1, -1))
        result: Tensor = x @ near
        for polynomial, theta in zip(self.basis, far, strict=True):
            result = result + (polynomial @ x) @ theta
        return result

    def project(self, x: Tensor) -> Tensor:
        """Return the convolutions of the input, one for each gate and the candidate."""
        gates = [slice(gate * self.hidden, (gate + 1) * self.hidden) for gate in range(3)]
        return torch.cat([self.convolve(x, self.input_weight[:, gate]) + self.bias[gate] for gate in gates], dim=-1)

    def project_unpooled(self, coarse: Tensor, skip: Tensor | None, cluster: Tensor, *_: object) -> Tensor:
        """Return the same of a copy that is made first."""
        unpooled = coarse.index_select(-2, cluster)
        return self.project(unpooled if skip is None else torch.cat([unpooled, skip], dim=-1))

    def update(self, projected: Tensor, hidden: Tensor) -> Tensor:
        """Return the next state."""
        of_z, of_r, of_h = projected.split(self.hidden, dim=-1)
        keep = torch.sigmoid(of_z + self.convolve(hidden, self.gate_weight[:, : self.hidden]))
        reset = torch.sigmoid(of_r + self.convolve(hidden, self.gate_weight[:, self.hidden :]))
        candidate = torch.tanh(of_h + self.convolve(reset * hidden, self.candidate_weight))
        return keep * hidden + (1 - keep) * candidate


def with_literal_cells(model: Model) -> Model:
    """Return a copy of a model with literal cells."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, GCGRUCell):
            module.__class__ = LiteralCell
    return copied


def literal_step(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Return the step graph of the same model with literal cells."""
    return unshared(export_step(with_literal_cells(checkpoint.model), {}))


def unshared(step: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph in which every matrix product has one reader: the exporter merges those that are alike."""
    graph = copy.deepcopy(step)
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    nodes = []
    for node in reversed(graph.graph.node):
        products = [node]
        if node.op_type == PRODUCT:
            for number, (reader, index) in enumerate(readers.get(node.output[0], [])[1:]):
                copied = copy.deepcopy(node)
                copied.name = copied.output[0] = reader.input[index] = f"{node.output[0]}.{number}"
                products.append(copied)
        nodes += products
        for product in products:
            for index, name in enumerate(product.input):
                readers.setdefault(name, []).append((product, index))
    nodes.reverse()
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph
