"""Small networks of every shape with weights that matter, and one bundle exported as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stunet_deploy.bundle import Bundle
from stunet_deploy.config import VARIANTS, Signal, STUNetConfig
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from tests.sharing import Shared

if TYPE_CHECKING:
    import onnx

    from runtime.backends.gpu.flavor import Flavor
    from stunet_deploy.checkpoint import Checkpoint

NODES = 7
ZONE = "America/Los_Angeles"
SPEED = Signal(("speed",), ("speed",), (45.0,), (12.0,), (0.0,), (90.0,))
SPEED_AND_FLOW = Signal(("flow", "speed"), ("speed",), (30.0, 45.0), (4.0, 12.0), (0.0, 0.0), (60.0, 90.0))
SMALL = {"hidden": 4, "horizon": 3, "window": 6, "lags": 3, "head": 5}
#: A roll-out of two steps: every one takes seconds to export.
ROLLED = {"hidden": 4, "horizon": 2, "window": 6}

#: Every variant of the paper and a deeper U, each with other settings so that all of them are exported once.
NETWORKS: Mapping[str, tuple[STUNetConfig, Signal]] = {
    "ST-UNet": (STUNetConfig(**VARIANTS["ST-UNet"], **SMALL), SPEED),
    "GCGRU": (STUNetConfig(**VARIANTS["GCGRU"], **SMALL, time_features="none", mask_channel=False), SPEED),
    "T-UNet": (STUNetConfig(**VARIANTS["T-UNet"], **SMALL, fill="mean", time_features="fraction"), SPEED),
    "S-UNet": (STUNetConfig(**VARIANTS["S-UNet"], **SMALL, pooling="mean", layer_norm=False, fill="zeros"), SPEED),
    "two scales": (
        STUNetConfig(
            scales=((1, 2), (1, 4)), hidden=5, chebyshev_order=2, horizon=2, window=4, time_features="day", lags=0
        ),
        SPEED_AND_FLOW,
    ),
    "recurrent": (
        STUNetConfig(scales=((1, 3),), **ROLLED, decoder="recurrent", unpooling="ordered_deconv", fill="forecast"),
        SPEED_AND_FLOW,
    ),
    "weighted": (
        STUNetConfig(**VARIANTS["ST-UNet"], **SMALL, unpooling="weighted_deconv", residual=False, partition="pga"),
        SPEED,
    ),
    "recurrent profile": (
        STUNetConfig(**VARIANTS["ST-UNet"], **ROLLED, decoder="recurrent", profile=True, residual=False),
        SPEED,
    ),
    "blocks": (
        STUNetConfig(scales=((1, 2), (1, 3)), **SMALL, profile=True, memory=True, basis="blocks"),
        SPEED_AND_FLOW,
    ),
}


def make_checkpoint(name: str = "ST-UNet", intervals: int = 120) -> Checkpoint:
    """Return an untrained network with random weights everywhere and a random reference stream."""
    import torch

    from stunet_deploy.checkpoint import Checkpoint
    from stunet_deploy.graph.hierarchy import GraphHierarchy
    from stunet_deploy.models.stunet.model import STUNet

    config, signal = NETWORKS[name]
    rng = np.random.default_rng(8)
    adjacency = rng.random((NODES, NODES)) * (rng.random((NODES, NODES)) < 0.4)
    adjacency[-1], adjacency[:, -1] = 0, 0  # an isolated sensor
    hierarchy = GraphHierarchy.build(
        adjacency,
        pool_levels=[levels for levels, _ in config.scales],
        chebyshev_order=config.chebyshev_order,
        partition=config.partition,
        basis=config.basis,
    )
    table = torch.from_numpy(rng.normal(0, 1, (576, NODES, 1)).astype(np.float32)) if config.profile else None
    model = STUNet(config, hierarchy, signal, table).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.4, parameter.shape)))
        model.sensor_mean.copy_(torch.linspace(-1, 1, model.sensor_mean.numel()).reshape(model.sensor_mean.shape))
        if model.static is not None:
            model.static.copy_(torch.from_numpy(rng.normal(0, 1, model.static.shape)))
        if model.scale is not None:
            model.scale.copy_(torch.from_numpy(rng.uniform(0.5, 2, model.scale.shape)))
    shape = (intervals, NODES, len(signal.features))
    observed = rng.random(shape) > 0.15
    values = np.where(observed, rng.uniform(5, 80, shape), 0).astype(np.float32)
    timestamps = 1_330_588_800 + 300 * np.arange(intervals, dtype=np.int64)
    units = tuple({"speed": "mph", "flow": "veh/h"}[feature] for feature in signal.features)
    site = Site(tuple(f"s{node}" for node in range(NODES)), signal.features, units, 300, "end", ZONE)
    return Checkpoint(model, Series(values, observed, timestamps, site), {"seed": 8})


@dataclass(frozen=True)
class Exported:
    """A checkpoint and its step graph."""

    checkpoint: Checkpoint
    proto: onnx.ModelProto

    @property
    def data(self) -> bytes:
        """The bytes of ``step.onnx``."""
        return self.proto.SerializeToString(deterministic=True)


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each network in turn."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _quick(exported_once: None, shapes_unchecked: None) -> None:
    """Take every step graph from those of this run, which the process of ``run_export`` does not; check no shapes."""


@pytest.fixture(scope="session")
def export(shared: Shared) -> Callable[[str], Exported]:
    """Return a function that gives a network by name with its step graph."""

    @cache
    def get(name: str) -> Exported:
        checkpoint = make_checkpoint(name)
        return Exported(checkpoint, shared.step(checkpoint.model, {"stunet.model": '"stunet"'}))

    return get


@pytest.fixture(scope="session")
def rtx() -> Flavor:
    """Return the TensorRT-RTX that is installed."""
    from runtime.backends.gpu.flavor import RTX, find_flavor

    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this Python or is not installed")
    return find_flavor(RTX)


@pytest.fixture
def checkpoint() -> Checkpoint:
    """Return the checkpoint of a small ST-UNet."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def make() -> Callable[..., Checkpoint]:
    """Return the function of a network's name and a number of intervals that makes a checkpoint."""
    return make_checkpoint


EXPORT = """
import sys
from export.bundle import export_bundle
from stunet_deploy.checkpoint import Checkpoint
export_bundle(Checkpoint.load(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope="session")
def run_export(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Callable[[Path, str], Bundle]:
    """Return a function of a folder and a hash seed that exports the small ST-UNet there, in a process of its own."""
    model = tmp_path_factory.mktemp("model") / "model.pt"
    make_checkpoint().save(model)

    def run(out: Path, hash_seed: str) -> Bundle:
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, model, out],
            env=os.environ | {"PYTHONPATH": str(pytestconfig.rootpath), "PYTHONHASHSEED": hash_seed},
            cwd=out.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return Bundle.load(out)

    return run


@pytest.fixture(scope="session")
def exported_bundle(run_export: Callable[[Path, str], Bundle], shared: Shared) -> Bundle:
    """Return the exported bundle; tests must not change its files."""
    folder = shared.folder("exported", lambda folder: run_export(folder / "model.bundle", "1"))
    return Bundle.load(folder / "model.bundle")
