"""The least time that a step could take on this machine: measured ceilings, and the graph's operations and bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from export.cost import GraphCost, graph_cost
from runtime.backends.onnxruntime.cpu import OnnxRuntimeBackend
from runtime.backends.onnxruntime.session import open_cpu_session
from runtime.timing import Samples, interleave
from stunet_deploy.bundle import Bundle

#: Matrix products [rows, inner] times a constant [inner, columns], among which the fastest is the ceiling.
PRODUCT_SHAPES = ((96, 256, 512), (192, 576, 192), (216, 288, 288), (384, 384, 384))
#: One measured call does about so many operations.
_OPERATIONS = 1e8
#: Bytes of the array that is copied: as much as a layer of some hundred sensors holds, so that it stays in the caches.
_COPIED_BYTES = 200_000


@dataclass(frozen=True)
class Ceilings:
    """The largest rates that one thread of a machine reaches.

    Attributes:
        operations: floating-point operations a second of a float32 matrix product, the fastest of several shapes.
        shape: of that product: rows, inner, columns.
        bytes: a second, read and written, of a copy.
    """

    operations: float
    shape: tuple[int, int, int]
    bytes: float

    def floor_us(self, cost: GraphCost) -> float:
        """Return the least time of a graph in microseconds.

        Every node takes at least its operations at the one ceiling and its bytes at the other, whichever is longer.
        """
        return sum(self.node_us(node.operations, node.bytes) for node in cost.nodes)

    def node_us(self, operations: int, moved: int) -> float:
        """Return the least time of one node in microseconds."""
        return 1e6 * max(operations / self.operations, moved / self.bytes)


def ceiling_calls() -> dict[str, Callable[[], object]]:
    """Return the calls to time for :func:`ceilings_of`: products through ONNX Runtime, and a copy; one thread."""
    calls: dict[str, Callable[[], object]] = {_name(shape): _product(shape) for shape in PRODUCT_SHAPES}
    source, target = np.ones(_COPIED_BYTES // 4, np.float32), np.ones(_COPIED_BYTES // 4, np.float32)
    calls["copy"] = lambda: np.copyto(target, source)
    return calls


def ceilings_of(samples: Mapping[str, Samples]) -> Ceilings:
    """Return the ceilings from times of :func:`ceiling_calls`; a ceiling is the rate of the fastest call."""
    found = {shape: _operations(shape) / _fastest_s(samples[_name(shape)]) for shape in PRODUCT_SHAPES}
    shape = max(found, key=lambda each: found[each])
    return Ceilings(found[shape], shape, 2 * _COPIED_BYTES / _fastest_s(samples["copy"]))


@dataclass(frozen=True)
class StepCost:
    """A step against its floor, measured in one run.

    Attributes:
        graph: file that was run.
        cost: what it needs.
        ceilings: of this machine.
        step: times of the step on one thread.
    """

    graph: str
    cost: GraphCost
    ceilings: Ceilings
    step: Samples

    @property
    def floor_us(self) -> float:
        """Least time of the graph in microseconds."""
        return self.ceilings.floor_us(self.cost)

    @property
    def fastest_us(self) -> float:
        """Fastest measured step in microseconds."""
        return _fastest_s(self.step) * 1e6


def measure_step(bundle: Bundle, rounds: int = 200) -> StepCost:
    """Count the float32 step that a processor runs and time it in turn with the ceilings, on one thread.

    Args:
        bundle: to measure.
        rounds: how often each is timed.

    Raises:
        BundleError, BackendError: if the bundle cannot be run.
    """
    graph = bundle.cpu_graph()
    cost = graph_cost(onnx.load_from_string(graph.for_batch(1)))
    backend = OnnxRuntimeBackend(bundle)
    rng = np.random.default_rng(0)
    inputs = {spec.name: rng.random(spec.with_batch(1), np.float32) for spec in backend.contract.inputs}
    samples = interleave({**ceiling_calls(), "step": lambda: backend.step(inputs)}, rounds, warm_up=10)
    backend.close()
    return StepCost(graph.name, cost, ceilings_of(samples), samples["step"])


def _product(shape: tuple[int, int, int]) -> Callable[[], object]:
    """Return a call of a graph with several products of a shape, each with a constant of its own."""
    rows, inner, columns = shape
    helper, rng = onnx.helper, np.random.default_rng(0)
    count = _count(shape)
    constants = [
        onnx.numpy_helper.from_array(rng.standard_normal((inner, columns), np.float32), f"constant{n}")
        for n in range(count)
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", f"constant{n}"], [f"y{n}"]) for n in range(count)],
        "products",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, inner])],
        [helper.make_tensor_value_info(f"y{n}", onnx.TensorProto.FLOAT, [rows, columns]) for n in range(count)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = open_cpu_session(model.SerializeToString())
    binding = session.io_binding()
    x = onnxruntime.OrtValue.ortvalue_from_numpy(rng.standard_normal((rows, inner), np.float32))
    results = [onnxruntime.OrtValue.ortvalue_from_numpy(np.empty((rows, columns), np.float32)) for _ in range(count)]
    binding.bind_ortvalue_input("x", x)
    for number, result in enumerate(results):
        binding.bind_ortvalue_output(f"y{number}", result)
    return lambda: session.run_with_iobinding(binding)


def _count(shape: tuple[int, int, int]) -> int:
    return max(1, round(_OPERATIONS / (2 * shape[0] * shape[1] * shape[2])))


def _operations(shape: tuple[int, int, int]) -> int:
    return _count(shape) * 2 * shape[0] * shape[1] * shape[2]


def _name(shape: tuple[int, int, int]) -> str:
    return "product " + "×".join(map(str, shape))


def _fastest_s(samples: Samples) -> float:
    return float(samples.nanoseconds.min()) / 1e9
