"""What every step graph must pass on a machine without a GPU: Polygraphy's checks, and a build by TensorRT-RTX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.engine import PORTABLE
from export.engine_compiler import compile_engine
from export.precision.calibrate import calibrate
from export.precision.half import HALVES, half_graph
from export.precision.int8 import calibrated_values, int8_graph
from runtime.backends.gpu.engines import EngineKey, this_system
from runtime.backends.gpu.flavor import RTX, Flavor
from stunet_deploy.contract import StepContract
from stunet_deploy.testing import sample_inputs

#: Both commands in one process, which takes longer to start than to check.
POLYGRAPHY = """
import sys
from polygraphy.tools import main
graph, lint = sys.argv[1:]
sys.argv[1:] = ["check", "lint", graph, "-o", lint]
code = main()
sys.argv[1:] = ["inspect", "capability", graph]
sys.exit(main() or code)
"""
UNUSED_TIME = "Input: 'time_of_week' does not affect outputs, can be removed."


def ranges_of(step: onnx.ModelProto, contract: StepContract) -> dict[str, float]:
    """Return the ranges of a step's activations on random readings."""
    inputs = sample_inputs(contract, np.random.default_rng(6), 1, 3 * contract.slots)
    steps = ({key: array[:, t] for key, array in inputs.items()} for t in range(3 * contract.slots))
    return calibrate(step, contract, steps, calibrated_values(step))


def graphs_of(step: onnx.ModelProto, contract: StepContract) -> Mapping[str, onnx.ModelProto]:
    """Return the graph of every precision."""
    halves = {precision: half_graph(step, precision) for precision in HALVES}
    return {"fp32": step, "tf32": step, **halves, "int8": int8_graph(step, ranges_of(step, contract))}


def key_for(rtx: Flavor, precision: str = "fp32", capabilities: tuple[str, ...] = PORTABLE) -> EngineKey:
    """Return the key of an engine of the default batch profile."""
    return EngineKey(RTX, rtx.version, capabilities, *this_system(), precision, (1, 1, 64))


def assert_clean(step: onnx.ModelProto, folder: Path, *, reads_time: bool) -> None:
    """Check that Polygraphy finds nothing to remark and nothing that TensorRT does not support."""
    graph, lint = folder / "step.onnx", folder / "lint.json"
    onnx.save(step, graph)
    done = subprocess.run(
        [sys.executable, "-c", POLYGRAPHY, graph, lint],
        env=os.environ | {"POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Graph is fully supported by TensorRT" in done.stdout
    remarks = [entry["message"] for entry in json.loads(lint.read_text())["lint_entries"]]
    # The time is an input of every step, so that a runtime feeds all of them alike.
    assert remarks == ([] if reads_time else [UNUSED_TIME])


def assert_builds(step: onnx.ModelProto, contract: StepContract, rtx: Flavor) -> None:
    """Check that the graphs of all precisions build ahead of time, for all kinds of GPU in one engine each."""
    for precision, graph in graphs_of(step, contract).items():
        phases: list[tuple[str, float]] = []
        made = compile_engine(
            rtx,
            graph.SerializeToString(deterministic=True),
            contract,
            key_for(rtx, precision),
            progress=lambda phase, share, phases=phases: phases.append((phase, share)),
        )
        assert len(made.plan) > 10_000
        assert not [line for line in made.log if line.startswith(("error", "internal error"))]
        assert (made.tf32, made.timings) == (precision == "tf32", None)
        assert ("Cloning network graph", 1.0) in phases
        assert all(0 <= share <= 1 for _, share in phases)
