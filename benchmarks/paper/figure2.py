"""Figure 2 of the ST-UNet paper: moving digits on a graph of 32 × 32 pixels, the frames that come next.

    python -m benchmarks.paper.figure2 [--seeds 3] [--minutes 10] [--digits 1] [--decoder direct]

Ten frames are seen and ten forecast. The pixels are the nodes of a grid and their intensities what it measures, so that
training and models are those of a sensor network: ST-UNet, the same without its U (a stack of graph GRUs), and what
needs no model. Digits are real ones of MNIST at half their size; those of the test sequences were not seen in training.
Draws paper_figure2.svg beside its page. A run is kept as soon as it is done; runs found with the same settings are not
repeated.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.page import measured_on, write
from benchmarks.harness.store import Run, Store
from benchmarks.harness.workbench import SHARED
from benchmarks.paper.digits import grid, read_digits, recording, small_digits
from benchmarks.paper.figure2_report import MODELS_SHOWN, packed, picture, report
from stunet_deploy.config import VARIANTS, RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.errors import DataError
from stunet_deploy.metrics import ErrorSums
from stunet_deploy.series.series import Series
from training.baselines import historical_average, persistence
from training.evaluation import Predictor
from training.protocols import Split, choose_protocol
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

PAGE = "paper_figure2"
FILE = "mnist-5k.npz"
MODEL: Mapping[str, Any] = {
    "residual": False, "fill": "last", "mask_channel": False, "time_features": "none", "lags": 0, "sensor_scale": False,
}  # fmt: skip
TRAINING: Mapping[str, Any] = {
    "regime": "window", "batch": 8, "epochs": 1000, "patience": 1000, "learning_rate": 3e-3, "loss": "paper",
    "average": 0.98, "weight_decay": 0.0, "threads": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What is to be forecast.

    Attributes:
        path: of MNIST's digits; None for those of scikit-learn.
        sequences: of training, validation and test together.
        seen: frames, and as many forecast.
        side: of a frame in pixels.
        digits: in a frame.
    """

    path: Path | None
    sequences: int
    seen: int
    side: int
    digits: int

    def series(self) -> Series:
        """Return the sequences as a recording."""
        digits = small_digits() if self.path is None else read_digits(self.path)
        return recording(digits, self.sequences, 2 * self.seen, self.side, self.digits, seed=0)

    def split(self, series: Series) -> Split:
        """Return the split of the sequences."""
        return choose_protocol(series, "b", self.seen, self.seen)


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        hidden: channels.
        decoder: of the network.
        minutes: of CPU time.
    """

    hidden: int
    decoder: Literal["recurrent", "direct"]
    minutes: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing, write the page and draw the picture."""
    command = Command("benchmarks.paper.figure2", __doc__, PAGE)
    command.option("--data", SHARED, f"folder of {FILE} (default: STUNET_DATA); --quick has digits of scikit-learn")
    command.option("--sequences", 1100, "sequences, 34/5/5 of 44 for training, validation and test", quick=22)
    command.option("--frames", 10, "frames seen, and as many forecast", quick=4)
    command.option("--side", 32, "of a frame in pixels", quick=12)
    command.option("--digits", 2, "digits in a frame", quick=1)
    command.option("--hidden", 32, "channels of the networks", quick=4)
    decoders = ("recurrent", "direct")
    command.option("--decoder", "recurrent", "the paper's, or all frames at once", choices=decoders)
    command.option("--seeds", 3, "number of seeds", quick=1)
    command.option("--minutes", 10.0, "CPU time of a training", quick=0.02)
    command.option("--jobs", 2, "runs at a time, one thread each")
    options, result = command.run(measure, report, arguments)
    if not options.page_only:
        write(options.out / f"{PAGE}.svg", picture(result))


def config(variant: str, scene: Scene, how: Training) -> RunConfig:
    """Return the configuration of a network."""
    size = {"hidden": how.hidden, "decoder": how.decoder, "window": scene.seen, "horizon": scene.seen}
    model = STUNetConfig(**{**MODEL, **size, **VARIANTS[variant]})
    return RunConfig(model, TrainingConfig(**TRAINING), protocol="b")


def identify(scene: Scene, variant: str, seed: int, how: Training) -> Run:
    """Return what a run is known by."""
    settings = asdict(config(variant, scene, how))
    known = asdict(scene) | {"path": scene.path.name if scene.path else None}
    return {"scene": known, "model": variant, "seed": seed, **asdict(how), "config": settings}


def run(scene: Scene, variant: str, seed: int, how: Training) -> Run:
    """Train and score a network."""
    torch.set_num_threads(1)
    series, begin = scene.series(), time.process_time()
    training = TrainingRun(
        *(series, grid(scene.side), config(variant, scene, how)),
        seed=seed, max_minutes=how.minutes, clock=time.process_time,
    )  # fmt: skip
    checkpoint = training.run()
    seconds = time.process_time() - begin
    model = checkpoint.model.eval()
    return {
        **identify(scene, variant, seed, how),
        **scored(TorchPredictor(model), scene, series),
        "epochs": checkpoint.training["epochs"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cpu_seconds": seconds,
        "environment": measured_on(),
    }


def scored(predictor: Predictor, scene: Scene, series: Series) -> Run:
    """Return the errors of every frame ahead over the test sequences, and the forecast of the first of them."""
    split, sums, done, example = scene.split(series), ErrorSums(), 0, ""
    for forecast in predictor.window(series, split.test, split.window):
        rows = split.test[done : done + len(forecast), None] + np.arange(1, split.horizon + 1)
        sums.add(forecast, series.values[rows], series.observed[rows])
        example = example or packed(forecast[0, ..., 0])
        done += len(forecast)
    scores = sums.scores()
    return {"mae": scores.mae[:, 0].tolist(), "rmse": scores.rmse[:, 0].tolist(), "example": example}


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    store, path = Store(options.out / f"{PAGE}.json"), Path(options.data) / FILE
    if not options.quick and not path.is_file():
        raise DataError(f"no file {path}", FILE, "name its folder with --data or STUNET_DATA")
    scene = Scene(None if options.quick else path, options.sequences, options.frames, options.side, options.digits)
    how = Training(options.hidden, options.decoder, options.minutes)
    wanted = [(scene, variant, seed, how) for seed in range(options.seeds) for variant in MODELS_SHOWN]
    store.complete(wanted, identify, run, options.jobs, lambda one: f"{one['model']}: RMSE {np.mean(one['rmse']):.3f}")
    series = scene.series()
    split = scene.split(series)
    last = split.test[0]
    known = {"copy of the last frame": persistence, "mean frame of training": historical_average}
    return {
        "scene": identify(scene, "ST-UNet", 0, how)["scene"],
        **asdict(how),
        "sequences": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "seen": packed(series.values[last - scene.seen + 1 : last + 1, :, 0]),
        "truth": packed(series.values[last + 1 : last + 1 + scene.seen, :, 0]),
        "still": {name: scored(fit(series, split), scene, series) for name, fit in known.items()},
        "runs": store.runs,
    }


if __name__ == "__main__":
    main()
