"""Where in a step a precision departs from float32: one step of both, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from export.precision.calibrate import exposed_steps, open_exposed
from export.precision.emulate import emulate_half, emulate_tf32
from export.precision.graphs import PRODUCT, constant
from export.precision.half import HALVES
from export.precision.layers import layers_of_nodes
from runtime.golden_replay import recorded_inputs
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import ConfigError
from stunet_deploy.precisions import FLOAT32


@dataclass(frozen=True)
class Departure:
    """How far one matrix product of a precision is from that of float32.

    Attributes:
        layer: by the name of its weights, as ``encoder.contracting.0.cell.gate_weight``.
        node: name of the product in the graph.
        error: root of the mean squared difference of its result, as a share of the result's size.
        own: that without the error its operands already came with: what the product itself adds.
    """

    layer: str
    node: str
    error: float
    own: float


def bisect(bundle: Bundle, precision: str) -> list[Departure]:
    """Compare every product of a precision with float32 in the last step of the golden stream, the worst first.

    The state before that step is float32's in both. Graphs that ONNX Runtime's CPU does not compute as they are, those
    of fp16, bf16 and tf32, are emulated.

    Args:
        bundle: with the precision.
        precision: any but fp32.

    Raises:
        ConfigError: if ``precision`` is fp32 or unknown.
        BundleError: if it was not exported.
    """
    if precision == FLOAT32:
        raise ConfigError("precision fp32", "one to compare with it", "choose another --precision")
    bundle.manifest.tolerance_of(precision)  # raises if it was not exported
    graph, step = (onnx.load_from_string(bundle.graph(name).for_batch(1)) for name in (precision, FLOAT32))
    if precision in HALVES:
        graph = emulate_half(graph, precision)
    elif precision == "tf32":
        graph = emulate_tf32(step)
    products = _products(step)
    wanted = list(dict.fromkeys(name for product in products for name in (product.result, product.operand)))
    # An operand of a product may be a state or an input, which is the same in both.
    made = {name for node in step.graph.node for name in node.output}
    errors = dict.fromkeys(wanted, 0.0) | _errors(
        step, graph, _last_step(bundle, step), [w for w in wanted if w in made]
    )
    found = [
        Departure(product.layer, product.node, errors[product.result], errors[product.result] - errors[product.operand])
        for product in products
    ]
    return sorted(found, key=lambda departure: -departure.own)


@dataclass(frozen=True)
class _Product:
    layer: str
    node: str
    operand: str
    result: str


def _products(step: onnx.ModelProto) -> list[_Product]:
    """Return the products with a constant operand."""
    graph = ir.from_proto(step).graph
    layers = layers_of_nodes(graph)
    found = []
    for node in graph:
        computed = [str(value.name) for value in node.inputs if value is not None and constant(value) is None]
        if node.op_type == PRODUCT and len(computed) == 1:
            name = str(node.name)
            found.append(_Product(layers.get(name, name), name, computed[0], str(node.outputs[0].name)))
    return found


def _last_step(bundle: Bundle, step: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the inputs and states of the golden stream's last interval, as float32 has them."""
    golden, last = bundle.golden(), dict[str, NDArray[Any]]()
    recording = recorded_inputs(bundle.manifest, golden.timestamps, golden.values, golden.observed)
    for fed in exposed_steps(step, bundle.manifest.contract, recording, bundle.manifest.contract.input_names):
        last = fed
    return last


def _errors(
    step: onnx.ModelProto, graph: onnx.ModelProto, fed: Mapping[str, NDArray[Any]], names: list[str]
) -> dict[str, float]:
    """Return by name how far the values of a graph are from those of the float32 step, as shares of their size."""
    expected, found = (open_exposed(model, names).run(names, fed) for model in (step, graph))
    return {name: _relative(*both) for name, *both in zip(names, found, expected, strict=True)}


def _relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    error = float(np.sqrt(np.mean(np.square(found.astype(np.float64) - expected))))
    return error / size if size > 0 else error
