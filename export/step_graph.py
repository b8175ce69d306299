"""The step graph: a model's step as ONNX, named by its contract, with nothing of the exporting machine in it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import onnx
import onnx_ir
import onnx_ir.passes.common
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BundleError
from stunet_deploy.models.forecaster import Forecaster, StepInputs

OPSET = 20
#: No control flow, and no recurrent operator: TensorRT would turn them into loops.
FORBIDDEN = frozenset({"Loop", "Scan", "If", "GRU", "LSTM", "RNN", "SequenceConstruct"})
#: Batch of the example inputs; neither 0 nor 1, which the exporter would take for constants.
_EXAMPLE_BATCH = 3
_ANY_SIZE = 2**40


def export_step(model: Forecaster, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Export one step with dynamic batch.

    Args:
        model: in evaluation mode; its weights, bases and gather indices become initialisers.
        metadata: the manifest's essentials, so that the file explains itself alone.

    Returns:
        A model whose inputs and outputs are those of ``model.contract``, in its order; equal models give equal bytes.

    Raises:
        BundleError: if the exported graph breaks the contract.
    """
    graph = _trace(model)
    # What every step would compute alike is computed here, fills included: TensorRT refuses a scatter that adds.
    onnxscript.optimizer.optimize_ir(
        graph,
        input_size_limit=_ANY_SIZE,
        output_size_limit=_ANY_SIZE,
        should_fold=lambda node: True if node.op_type == "ConstantOfShape" else None,
    )
    onnx_ir.passes.common.DeduplicateInitializersPass(size_limit=_ANY_SIZE)(graph)
    _strip(graph)
    proto = onnx_ir.to_proto(graph)
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    check_step(proto, model.contract)
    return proto


def check_step(proto: onnx.ModelProto, contract: StepContract) -> None:
    """Check a step graph: valid ONNX, no control flow, names, order, types and shapes of the contract.

    Raises:
        BundleError: naming what differs.
    """
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    forbidden = sorted({node.op_type for node in proto.graph.node} & FORBIDDEN)
    if forbidden:
        raise BundleError(f"a step graph with {', '.join(forbidden)}", "no control flow", "report this model's config")
    wanted = {spec.name: spec.shape for spec in (*contract.step_inputs, *contract.step_outputs)}
    order = [value.name for value in (*inferred.graph.input, *inferred.graph.output)]
    if order != list(wanted):
        raise BundleError(f"a step graph with {order}", "the contract's names", "report this model's config")
    for value in (*inferred.graph.input, *inferred.graph.output):
        shape = tuple(None if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if shape != wanted[value.name]:
            raise BundleError(f"{value.name} of shape {shape}", f"{wanted[value.name]}", "report this model's config")
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise BundleError(f"{value.name} of another type", "float32", "report this model's config")


class _FlatStep(nn.Module):
    """A step whose inputs and outputs are plain tensors in the contract's order."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: Tensor, observed: Tensor, time_of_week: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        contract = self.model.contract
        taps = {tap.name: tensor for tap, tensor in zip(contract.taps, state, strict=True)}
        outputs, written = self.model.step(StepInputs(values, observed, time_of_week), taps)
        return *outputs, *(written[entry.name] for entry in contract.states)


def _trace(model: Forecaster) -> onnx_ir.Model:
    contract = model.contract
    example = tuple(torch.zeros(spec.with_batch(_EXAMPLE_BATCH)) for spec in contract.step_inputs)
    batch = {0: torch.export.Dim("batch", min=1)}
    # Without gradients the exporter traces one graph less; the step graph is the same.
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(StringIO()), _quiet_exporter():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            _FlatStep(model).eval(),
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=contract.input_names,
            output_names=contract.output_names,
            dynamic_shapes=(*(batch for _ in contract.inputs), tuple(batch for _ in contract.taps)),
            verbose=False,
        )
    if program is None:
        raise BundleError("no graph from the exporter", "a step graph", "report this model's config")
    return program.model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's log to errors: it reports optional packages that no step needs."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _strip(model: onnx_ir.Model) -> None:
    """Remove stack traces, source paths and the exporter's notes: privacy, size, reproducible bytes."""
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for value in list(model.graph.initializers.values()):
        value.name = (value.name or "").removeprefix("model.")  # the checkpoint's name of a weight
    _renumber(model)


def _renumber(model: onnx_ir.Model) -> None:
    """Name nodes, values and constants by their order: the exporter's numbers depend on what the process did before."""
    outputs = set(model.graph.outputs)
    constants = set(model.graph.initializers.values())
    named: set[onnx_ir.Value] = set()
    for number, node in enumerate(model.graph):
        node.name = f"node_{number}_{node.op_type}"
        for value in (*node.inputs, *node.outputs):
            made = value is not None and value not in outputs and (value.producer() is node or value in constants)
            if value is not None and made and value not in named and not _is_weight(value):
                value.name = f"value_{len(named)}"
                named.add(value)


def _is_weight(value: onnx_ir.Value) -> bool:
    """Return whether a value has a name of its own, as the weights of a checkpoint do, and no number."""
    return value.is_initializer() and not (value.name or "").startswith("val_")
