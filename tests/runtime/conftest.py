"""A small step with states of several delays, as real ONNX and as the numpy sum that it is, in a real bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.forecast import Forecast
from stunet_deploy.bundle import GOLDEN, Bundle, Golden
from stunet_deploy.contract import NEXT_STATE, StateSpec, StepContract, TensorSpec
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST, Manifest
from stunet_deploy.precisions import STEP
from stunet_deploy.series.wall_clock import time_of_week
from stunet_deploy.site import Site

NODES, HORIZON, INTERVAL_S = 5, 3, 300
LIMITS = ((0.0, 80.0), (-1.0, 1.0))
START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
ZONE = "America/Los_Angeles"


@dataclass(frozen=True)
class Example:
    """Every state remembers y[t] = x[t] + 0.5 · mean of y[t - tap]; the forecast scales the sum over states."""

    bundle: Bundle

    def forecast(self, values: np.ndarray, observed: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
        """Return [time, horizon, node, target] in float64, from zero state, written without any slots."""
        low, high = np.array(LIMITS).T
        cells = np.where(observed, np.clip(np.where(observed, values, 0), low, high), 0)
        total = np.zeros_like(cells, dtype=np.float64)
        for state in self.bundle.manifest.contract.states:
            memory = np.zeros_like(total)
            for t in range(len(cells)):
                past = [memory[t - age] if t >= age else 0 * memory[t] for age in state.taps]
                memory[t] = cells[t] + 0.5 * np.mean(past, axis=0)
            total += memory
        clock = time_of_week(timestamps, ZONE) / 604_800
        scale = np.arange(1, HORIZON + 1)
        targets = len(self.bundle.manifest.targets)
        return total[:, None, :, :targets] * scale[None, :, None, None] + clock[:, None, None, None]


def make_graph(contract: StepContract, targets: int) -> onnx.ModelProto:
    """Return the step as ONNX."""

    def constant(name: str, values: object) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values), name)

    low, high = np.array(LIMITS, np.float32).T
    constants = [
        constant("low", low),
        constant("high", high),
        constant("zero", np.float32(0)),
        constant("half", np.float32(0.5)),
        constant("week", np.float32(604_800)),
        constant("scale", np.arange(1, HORIZON + 1, dtype=np.float32).reshape(1, HORIZON, 1, 1)),
        constant("axis1", np.array([1])),
        constant("axes23", np.array([2, 3])),
        constant("first", np.array([0])),
        constant("targets", np.array([targets])),
        constant("last", np.array([-1])),
    ]
    nodes = [
        helper.make_node("Greater", ["observed", "half"], ["seen"]),
        helper.make_node("Where", ["seen", "values", "zero"], ["raw"]),
        helper.make_node("Max", ["raw", "low"], ["above"]),
        helper.make_node("Min", ["above", "high"], ["below"]),
        helper.make_node("Where", ["seen", "below", "zero"], ["cells"]),
    ]
    for index, state in enumerate(contract.states):
        names = [tap.name for tap in contract.taps if tap.state is state]
        nodes += [
            helper.make_node("Mean", names, [f"mean{index}"]),
            helper.make_node("Mul", [f"mean{index}", "half"], [f"faded{index}"]),
            helper.make_node("Add", ["cells", f"faded{index}"], [NEXT_STATE + state.name]),
        ]
    nodes += [
        helper.make_node("Sum", [NEXT_STATE + state.name for state in contract.states], ["total"]),
        helper.make_node("Slice", ["total", "first", "targets", "last"], ["target"]),
        helper.make_node("Unsqueeze", ["target", "axis1"], ["row"]),
        helper.make_node("Mul", ["row", "scale"], ["scaled"]),
        helper.make_node("Div", ["time_of_week", "week"], ["share"]),
        helper.make_node("Unsqueeze", ["share", "axes23"], ["clock"]),
        helper.make_node("Add", ["scaled", "clock"], ["forecast"]),
    ]

    def info(name: str, spec: TensorSpec) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *spec.shape[1:]])

    graph = helper.make_graph(
        nodes,
        "step",
        [
            *(info(spec.name, spec) for spec in contract.inputs),
            *(info(tap.name, tap.state) for tap in contract.taps),
        ],
        [
            *(info(spec.name, spec) for spec in contract.outputs),
            *(info(NEXT_STATE + state.name, state) for state in contract.states),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def make_example(
    folder: Path, taps: tuple[tuple[int, ...], ...], *, window: int = 4, targets: tuple[str, ...] = ("speed",)
) -> Example:
    """Write a bundle whose step has one state per entry of ``taps``, its golden stream computed in float64."""
    cell = ("batch", "node", "feature")
    contract = StepContract(
        inputs=(
            TensorSpec("values", cell, (None, NODES, 2)),
            TensorSpec("observed", cell, (None, NODES, 2)),
            TensorSpec("time_of_week", ("batch", "one"), (None, 1)),
        ),
        outputs=(TensorSpec("forecast", ("batch", "horizon", "node", "target"), (None, HORIZON, NODES, len(targets))),),
        states=tuple(
            StateSpec(f"layer{index}.hidden", cell, (None, NODES, 2), delay=ages[0], taps=ages)
            for index, ages in enumerate(taps)
        ),
    )
    folder.mkdir(parents=True)
    step = make_graph(contract, len(targets)).SerializeToString(deterministic=True)
    (folder / STEP).write_bytes(step)
    sensors = tuple(f"s{node}" for node in range(NODES))
    manifest = Manifest(
        contract=contract,
        model="example",
        config={},
        site=Site(sensors, ("speed", "trend"), ("mph", ""), INTERVAL_S, "start", ZONE),
        targets=targets,
        limits=LIMITS,
        mean=(50.0, 0.0),
        std=(10.0, 1.0),
        horizon=HORIZON,
        window=window,
        tolerance=(1e-3, 2e-5)[: len(targets)],
    )
    example = Example(Bundle(folder, manifest))
    rng = np.random.default_rng(7)
    timestamps = START_S + INTERVAL_S * np.arange(60)
    observed = rng.random((60, NODES, 2)) > 0.2
    values = np.where(observed, rng.uniform(0, 1, observed.shape), 0).astype(np.float32)
    scored = np.arange(0, 60, 2)
    forecast = example.forecast(values, observed, timestamps)[scored].astype(np.float32)
    Golden(timestamps, values, observed, scored, forecast).save(folder / GOLDEN)
    files = {name: sha256((folder / name).read_bytes()) for name in (STEP, GOLDEN)}
    whole = replace(manifest, files=files, bundle_id=manifest.identity(step))
    (folder / MANIFEST).write_text(whole.to_json(), encoding="utf-8")
    return Example(Bundle.load(folder))


@pytest.fixture
def build_example(tmp_path: Path) -> Callable[..., Example]:
    """Return a function of taps (and window and targets) that writes an example bundle."""
    count = 0

    def build(*taps: tuple[int, ...], window: int = 4, targets: tuple[str, ...] = ("speed",)) -> Example:
        nonlocal count
        count += 1
        return make_example(tmp_path / f"bundle{count}", taps, window=window, targets=targets)

    return build


@pytest.fixture(scope="session")
def shared_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Return an example bundle with delays 1, 2, 5 and several taps; tests must not change its files."""
    return make_example(tmp_path_factory.mktemp("shared") / "bundle", ((1,), (2,), (5, 3, 1)))


@pytest.fixture
def example(shared_example: Example) -> Example:
    """Return the shared example bundle."""
    return shared_example


@pytest.fixture
def readings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return 40 intervals: values [time, node, feature] with NaN where unobserved, observed, timestamps [time]."""
    rng = np.random.default_rng(11)
    observed = rng.random((40, NODES, 2)) > 0.15
    values = np.stack([rng.uniform(10, 70, (40, NODES)), rng.uniform(-0.9, 0.9, (40, NODES))], axis=-1)
    values = np.where(observed, values, np.nan).astype(np.float32)
    return values, observed, START_S + INTERVAL_S * np.arange(40)


@pytest.fixture
def forecast_of() -> Callable[[Manifest, int, np.ndarray], Forecast]:
    """Return a function of manifest, step and values that makes the forecast issued at that step."""

    def forecast_of(manifest: Manifest, step: int, values: np.ndarray) -> Forecast:
        return Forecast(values, START_S + manifest.interval_s * step, 1.0, (), 0.0, "drift", manifest)

    return forecast_of
