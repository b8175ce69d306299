"""Whatever is exported is read: every network, every form and precision, and every preset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.harness.networks import random_adjacency, random_model
from export.cpu_graph import cpu_graph
from export.precision.half import HALVES, half_graph
from export.precision.int8 import calibrated_values, int8_graph
from stunet_deploy.config import STUNetConfig
from stunet_deploy.config_files import PRESETS, read_run_config
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.onnx_graph.cost import FREE_MADE, FREE_WORK, check_cost
from stunet_deploy.onnx_graph.model import read_model
from stunet_deploy.onnx_graph.operators import OPERATORS
from stunet_deploy.onnx_graph.step_graph import StepGraph
from tests.sharing import Shared

from . import test_srnn as structural
from .conftest import NETWORKS, NODES, SPEED, Exported

#: Operators of which one is as harmless as the other: arithmetic on single elements, whichever of it is emitted.
ARITHMETIC = {name for name in OPERATORS if OPERATORS[name].rule in (OPERATORS["Add"].rule, OPERATORS["Abs"].rule)}
#: Those that the exporters write, and no other.
EMITTED = {name for name in OPERATORS if name not in ARITHMETIC} | {"Clip"}


def forms(step: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield a step in every form that a bundle may have."""
    yield "step", step
    for precision in HALVES:
        yield precision, half_graph(step, precision)
    yield "int8", int8_graph(step, dict.fromkeys(calibrated_values(step), 1.0))
    lighter = cpu_graph(step)
    if lighter is not None:
        yield "cpu", lighter


def check(step: onnx.ModelProto) -> set[str]:
    """Check that every form of a step is read, and takes little; return its operators."""
    operators = set()
    for form, proto in forms(step):
        data = proto.SerializeToString(deterministic=True)
        for batch in (1, 64):
            assert StepGraph(Path(f"{form}.onnx"), data).for_batch(batch) is data
        cost = check_cost(read_model(data), 1)
        assert cost.made < FREE_MADE / 10, form
        assert cost.work < FREE_WORK / 10, form
        operators |= {node.op_type for node in proto.graph.node}
    return operators


def structural_step(name: str, shared: Shared) -> onnx.ModelProto:
    return shared.step(structural.make_checkpoint(name).model, {"stunet.model": '"srnn"'})


def test_every_network_in_every_form_is_read(export: Callable[[str], Exported], name: str) -> None:
    assert check(export(name).proto) <= OPERATORS.keys()


@pytest.mark.parametrize("name", structural.NETWORKS)
def test_every_structural_network_in_every_form_is_read(name: str, shared: Shared) -> None:
    assert check(structural_step(name, shared)) <= OPERATORS.keys()


@pytest.mark.parametrize(
    ("family", "preset"),
    [
        pytest.param(family, preset, marks=[] if preset == "best" else pytest.mark.slow)
        for family in PRESETS
        for preset in PRESETS[family]
    ],
)
def test_every_preset_is_read(family: str, preset: str, shared: Shared) -> None:
    """With everything that a preset has for a long recording."""
    config = read_run_config(None, family, preset, days=30).model
    table = torch.zeros(576, NODES, 1) if config.profile else None
    model: Forecaster
    if isinstance(config, STUNetConfig):
        pools = [levels for levels, _ in config.scales]
        adjacency = random_adjacency(NODES, np.random.default_rng(0))
        graph = GraphHierarchy.build(adjacency, pool_levels=pools, chebyshev_order=config.chebyshev_order)
        model = STUNet(config, graph, SPEED, table).eval()
    else:
        model = StructuralRNN(config, structural.sensors(NODES), structural.signal(1), table).eval()

    assert check(shared.step(model, {"stunet.model": json.dumps(family)})) <= OPERATORS.keys()


def test_a_form_for_processors_is_read(shared: Shared) -> None:
    config = read_run_config(None, "stunet", "paper").model
    model = random_model(config, random_adjacency(200, np.random.default_rng(0)))

    found = dict(forms(shared.step(model, {"stunet.model": '"stunet"'})))

    assert "cpu" in found
    assert StepGraph(Path("cpu"), found["cpu"].SerializeToString()).for_batch(1)


@pytest.mark.slow
def test_what_can_be_left_out_of_the_operators_is_left_out(export: Callable[[str], Exported], shared: Shared) -> None:
    steps = [export(name).proto for name in NETWORKS]
    steps += [structural_step(name, shared) for name in structural.NETWORKS]

    emitted = {node.op_type for step in steps for _, proto in forms(step) for node in proto.graph.node}

    assert emitted | {"ReduceMin"} >= EMITTED
    assert emitted <= OPERATORS.keys()
