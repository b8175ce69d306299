"""Models of every task become bundles that prove themselves and stream, rolled out and with slots that come and go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import export_bundle
from runtime.stream import Stream
from runtime.verify import verify
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import SRNNConfig
from stunet_deploy.models.srnn.model import StructuralRNN
from tests.paths import ROOT
from training.tasks.activity.data import AFFORDANCES, SUB_ACTIVITIES, generate
from training.tasks.activity.model import build_activity, channels_of
from training.tasks.anticipation.data import MANOEUVRES, Drives
from training.tasks.anticipation.model import build_anticipation
from training.tasks.learning import task_checkpoint
from training.tasks.motion.data import CHANNELS, Scale, Sequence
from training.tasks.motion.model import build_motion
from training.tasks.settings import TaskConfig
from training.tasks.trajectories.data import recording
from training.tasks.trajectories.model import build_trajectories, seated

SMALL = SRNNConfig(
    edge_embedding=(4,),
    edge_hidden=8,
    node_embedding=(4,),
    node_hidden=8,
    head=(8,),
    fill="mean",
    time_features="none",
    mask_channel=False,
)


def awake(model: StructuralRNN) -> StructuralRNN:
    """Give an untrained model weights that do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def motion() -> Checkpoint:
    frames = 0.3 * np.sin(np.arange(30)[:, None] / 8 + np.arange(CHANNELS))
    settings = TaskConfig("body-five-parts", replace(SMALL, decoder="recurrent", horizon=2, window=50))
    model = awake(build_motion(settings, "srnn", Scale.of([Sequence("train/a_1", "a", frames)])))
    return task_checkpoint(model, ["body"], ["rad"] * CHANNELS, frames[:, None], None, {})


def trajectories() -> Checkpoint:
    rng = np.random.default_rng(0)
    rows = []
    for person in range(6):
        start, velocity = rng.uniform(-4, 4, 2), rng.normal(0, 0.4, 2)
        rows += [(10 * time, person, *(start + time * velocity)) for time in range(4 * person, 4 * person + 25)]
    positions, present = seated(recording("hall", np.array(rows)), 4)
    pairs = replace(
        SMALL,
        edge_features="difference",
        edge_state="per_edge",
        combine="attention",
        decoder="recurrent",
        presence=True,
        horizon=2,
        window=8,
    )
    model = awake(build_trajectories(TaskConfig("pedestrians", pairs), "srnn", 4))
    names = [f"slot{number}" for number in range(4)]
    return task_checkpoint(model, names, ["m", "m"], positions, present[..., None], {})


def anticipation() -> Checkpoint:
    features = np.random.default_rng(0).normal(size=(10, 7, 16))
    drives = Drives(features, np.ones((10, 7), dtype=bool), np.arange(10) % 5)
    classes = replace(
        SMALL, output="classification", residual=False, horizon=1, window=7, classes={"driver": MANOEUVRES}
    )
    model = awake(build_anticipation(TaskConfig("driver-road", classes), "srnn", drives))
    return task_checkpoint(model, ["car"], ["1"] * 16, features.reshape(-1, 1, 16), None, {})


def activity() -> Checkpoint:
    sequences = generate(4, 10, np.random.default_rng(0))
    graph = ROOT / "benchmarks" / "configs" / "tasks" / "human-object-generated.toml"
    heads = replace(
        SMALL,
        output="classification",
        residual=False,
        horizon=2,
        window=12,
        classes={"human": SUB_ACTIVITIES, "object": AFFORDANCES},
    )
    model = awake(build_activity(TaskConfig(str(graph), heads), "srnn"))
    channels = channels_of(sequences).reshape(40, 1, -1)
    return task_checkpoint(model, ["scene"], ["1"] * channels.shape[-1], channels, None, {})


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(motion, id="motion", marks=pytest.mark.slow),
        pytest.param(trajectories, id="trajectories", marks=pytest.mark.slow),
        pytest.param(anticipation, id="anticipation", marks=pytest.mark.slow),
        pytest.param(activity, id="activity"),
    ],
)
def test_a_task_streams_from_its_bundle(tmp_path: Path, make: object) -> None:
    checkpoint: Checkpoint = make()  # type: ignore[operator]
    checkpoint.save(tmp_path / "model.pt")

    bundle = export_bundle(Checkpoint.load(tmp_path / "model.pt"), tmp_path / "model.bundle")

    result = verify(bundle)
    assert result.passed
    assert result.intervals == len(checkpoint.reference.timestamps)
    stream = Stream.open(bundle)
    manifest, reference = bundle.manifest, checkpoint.reference
    for now in range(3):
        readings = {
            sensor: dict(zip(manifest.features, reference.values[now, index].tolist(), strict=True))
            for index, sensor in enumerate(manifest.sensor_ids)
            if reference.observed[now, index].all()
        }
        forecast = stream.push(readings, int(reference.timestamps[now]))
    stream.close()
    assert forecast.values.shape == (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
    assert np.isfinite(forecast.values).all()
