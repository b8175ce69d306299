"""A step against the least time that the machine could take for it, and against the step as the paper writes it.

    python -m benchmarks.speed.step_floor [--data metr-la.npz] [--hidden 32 96] [--rounds 300]

All on one thread, four in a row and timed in turn, so that a slow minute of the machine meets all of them alike:

    product …   a float32 matrix product through ONNX Runtime; the fastest of several shapes is the ceiling
    step        one step on the backend as it is deployed
    push        Stream.push of one interval, which takes a step
    dense       the step with dense bases (step.onnx), where the bundle has another form of it for processors
    literal     Eq. 2 and Eq. 7 as written: six convolutions a cell, each on its own, copies unpooled before they are
                multiplied; ONNX Runtime is kept from sharing what they have in common
    shared      the same graph with what ONNX Runtime shares by itself

What a push costs beside its step is timed apart, on a graph in which nothing is multiplied. Weights are random
(seeded): time does not depend on them.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime import OrtValue

from benchmarks.harness.command import Command
from benchmarks.harness.networks import START_S, recorded_checkpoint, shortened, st_unet
from benchmarks.harness.page import machine, number, page, table
from benchmarks.harness.sessions import open_session
from benchmarks.speed.literal_graph import literal_step
from benchmarks.speed.ways import burst, microseconds
from export.bundle import export_bundle
from export.cost import graph_cost
from export.floor import ceiling_calls, ceilings_of
from runtime.backends.onnxruntime.cpu import OnnxRuntimeBackend
from runtime.stream import Stream
from runtime.timing import Samples, interleave, paired_ratio
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import StepContract
from stunet_deploy.files import sha256
from stunet_deploy.onnx_graph.step_graph import StepGraph
from stunet_deploy.precisions import CPU_STEP, STEP
from stunet_deploy.series.series import read_series

#: Operations that a step of METR-LA's 207 sensors is taken to need, whatever a graph really does, by hidden channels.
USEFUL = {32: 0.05e9, 96: 0.26e9}
#: Steps in a row that are timed together: after the first the caches hold what a step needs.
ROW = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.step_floor", __doc__)
    command.recording()
    command.option("--hidden", (32, 96), "channels of the models", quick=(4,))
    command.option("--rounds", 300, "how often each is timed", quick=2)
    command.run(measure, report, arguments)


def bound_call(graph: onnx.ModelProto, contract: StepContract, *, sharing: bool) -> Callable[[], object]:
    """Return a call that runs a graph once, its inputs and outputs bound."""
    off = [] if sharing else ["EliminateCommonSubexpression", "CommonSubexpressionElimination"]
    session = open_session(graph, without=off)
    binding, rng = session.io_binding(), np.random.default_rng(0)
    values = {
        node.name: OrtValue.ortvalue_from_numpy(rng.random(node.shape, np.float32))
        for node in (*session.get_inputs(), *session.get_outputs())
    }
    for name in contract.input_names:
        binding.bind_ortvalue_input(name, values[name])
    for name in contract.output_names:
        binding.bind_ortvalue_output(name, values[name])
    return lambda: session.run_with_iobinding(binding)


def model_of(graph: StepGraph) -> onnx.ModelProto:
    """Return a graph of a bundle."""
    return onnx.load_from_string(graph.for_batch(1))


def largest_difference(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """Return how far the outputs of two graphs of one contract lie apart, for random inputs."""
    sessions = [open_session(graph) for graph in (one, other)]
    rng = np.random.default_rng(1)
    fed = {node.name: rng.random((1, *node.shape[1:]), np.float32) for node in sessions[0].get_inputs()}
    results = zip(*(session.run(None, fed) for session in sessions), strict=True)
    return max(float(np.abs(left - right).max()) for left, right in results)


def step_call(bundle: Bundle) -> Callable[[], object]:
    """Return a call of the backend's step."""
    backend = OnnxRuntimeBackend(bundle)
    rng = np.random.default_rng(0)
    inputs = {spec.name: rng.random(spec.with_batch(1), np.float32) for spec in backend.contract.inputs}
    return lambda: backend.step(inputs)


def push_call(bundle: Bundle) -> Callable[[], object]:
    """Return a call that pushes one interval after the other."""
    stream, manifest = Stream.open(bundle), bundle.manifest
    shape = (len(manifest.sensor_ids), len(manifest.features))
    low, high = np.array(manifest.limits).T
    values = np.random.default_rng(0).uniform(low, high, (50, *shape))
    clock = iter(range(10**9))

    def push() -> object:
        t = next(clock)
        return stream.push(values[t % len(values)], START_S + t * manifest.interval_s)

    return push


def without_cpu_graph(bundle: Bundle) -> Bundle:
    """Return a bundle of which the backend runs step.onnx."""
    files = {name: digest for name, digest in bundle.manifest.files.items() if name != CPU_STEP}
    return replace(bundle, manifest=replace(bundle.manifest, files=files))


def empty_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Return a bundle with the same inputs, states and outputs whose step multiplies nothing."""
    contract, helper = bundle.manifest.contract, onnx.helper

    def info(name: str, shape: Sequence[int | None]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape[1:]])

    shapes = {spec.name: spec.shape for spec in (*contract.inputs, *contract.outputs)}
    shapes |= {tap.name: tap.state.shape for tap in contract.taps}
    shapes |= {name: state.shape for name, state in zip(contract.next_state_names, contract.states, strict=True)}
    oldest = [next(tap.name for tap in contract.taps if tap.state is state) for state in contract.states]
    nodes = [helper.make_node("Neg", [old], [new]) for old, new in zip(oldest, contract.next_state_names, strict=True)]
    (forecast,) = contract.outputs
    zeros = onnx.numpy_helper.from_array(np.zeros(forecast.with_batch(1), np.float32), "zeros")
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes += [
        helper.make_node("Unsqueeze", ["time_of_week", "axes"], ["time"]),
        helper.make_node("Add", ["time", "zeros"], [forecast.name]),
    ]
    graph = helper.make_graph(
        nodes,
        "nothing",
        [info(name, shapes[name]) for name in contract.input_names],
        [info(name, shapes[name]) for name in contract.output_names],
        [zeros, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir()
    (folder / STEP).write_bytes(model.SerializeToString())
    files = {STEP: sha256((folder / STEP).read_bytes())}
    return Bundle(folder, replace(bundle.manifest, files=files))


def measure(options: Namespace) -> dict[str, Any]:
    """Time the models in turn, and an empty step."""
    torch.set_num_threads(1)
    calls, graphs = dict[str, Callable[[], object]](), dict[int, dict[str, Any]]()
    differences, series = [], read_series(options.data)
    with tempfile.TemporaryDirectory() as folder:
        for hidden in options.hidden:
            checkpoint = shortened(recorded_checkpoint(series, options.data, st_unet(hidden)), 60)
            bundle = export_bundle(checkpoint, Path(folder) / f"{hidden}.bundle")
            literal, contract = literal_step(checkpoint), checkpoint.model.contract
            differences.append(largest_difference(literal, model_of(bundle.cpu_graph())))
            calls[f"step {hidden}"] = step_call(bundle)
            calls[f"push {hidden}"] = push_call(bundle)
            if bundle.cpu_graph() != bundle.graph():
                calls[f"dense {hidden}"] = step_call(without_cpu_graph(bundle))
            calls[f"literal {hidden}"] = bound_call(literal, contract, sharing=False)
            calls[f"shared {hidden}"] = bound_call(literal, contract, sharing=True)
            counted = {"step": model_of(bundle.cpu_graph()), "dense": model_of(bundle.graph()), "literal": literal}
            graphs[hidden] = {name: graph_cost(proto).operations for name, proto in counted.items()}
        nothing = empty_bundle(bundle, Path(folder) / "nothing.bundle")
        calls |= {"empty step": step_call(nothing), "empty push": push_call(nothing)}
        bursts = {name: burst(call, ROW) for name, call in calls.items()}
        samples = interleave({**ceiling_calls(), **bursts}, options.rounds, warm_up=min(10, options.rounds))
        samples |= {name: Samples(samples[name].nanoseconds // ROW) for name in bursts}
    return {
        "graph": {"data": options.data.name, "sensors": len(series.sensor_ids)},
        "python_us": samples["empty push"].median_us - samples["empty step"].median_us,
        "largest_difference": max(differences),
        **summary(samples, graphs),
        "calls": {name: one.summary() for name, one in samples.items()},
        "samples_us": microseconds(samples),
    }


def summary(samples: dict[str, Samples], graphs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the ceilings and, for each model, times, operations and ratios."""
    ceilings = ceilings_of(samples)
    models = []
    for hidden, operations in graphs.items():
        ways = {name: samples[f"{name} {hidden}"] for name in ("step", "push", "dense", "literal", "shared")
                if f"{name} {hidden}" in samples}  # fmt: skip
        useful = USEFUL.get(hidden)
        models.append(
            {
                "hidden": hidden,
                "operations": operations,
                "fastest_us": {name: float(one.nanoseconds.min()) / 1000 for name, one in ways.items()},
                "median_us": {name: one.median_us for name, one in ways.items()},
                "useful_operations": useful,
                "useful_share": {
                    name: useful / (one.nanoseconds.min() * 1e-9) / ceilings.operations for name, one in ways.items()
                }
                if useful
                else None,
                "times_the_step": {name: paired_ratio(one, ways["step"]) for name, one in ways.items()},
            }
        )
    shape = "×".join(map(str, ceilings.shape))
    return {
        "ceiling": {"operations_per_s": ceilings.operations, "product": shape, "bytes_per_s": ceilings.bytes},
        "models": models,
    }


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    graph, ceiling, rows = result["graph"], result["ceiling"], []
    for model in result["models"]:
        for name, fastest in model["fastest_us"].items():
            operations = model["operations"][{"push": "step", "shared": "literal"}.get(name, name)]
            times = [f"{fastest:.0f}", f"{model['median_us'][name]:.0f}", f"{model['times_the_step'][name]:.2f}"]
            share = (model["useful_share"] or {}).get(name)
            rows.append([model["hidden"], name, f"{operations / 1e6:.0f}", *times, number(share, ".0%")])
    columns = ["hidden", "way", "operations, million", "fastest µs", "median µs", "times the step", "useful share"]
    return page(
        "A step against its floor",
        f"`{result['command']}`: {graph['data']}, {graph['sensors']} sensors, random weights, one thread. Fastest of "
        "all rounds, ratios as medians over rounds.",
        machine(result["environment"]),
        f"Ceiling: {ceiling['operations_per_s'] / 1e9:.1f} Gflop/s in a product of {ceiling['product']}, "
        f"{ceiling['bytes_per_s'] / 1e9:.0f} GB/s in a copy. "
        f"A push costs {result['python_us']:.0f} µs beside its step (medians of an empty one).",
        f"All graphs of a model compute the same: they differ by {result['largest_difference']:.1g} at most.",
        table(columns, rows),
        "Useful share: 0.26 Gflop a step with 96 channels and 0.05 with 32, whatever the graph really does, over the "
        "fastest time and the ceiling.",
    )


if __name__ == "__main__":
    main()
