"""``stunet demo``: the whole way on the data that ships with the package, in a few minutes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli.console import Console
from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.errors import CheckFailed, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stunet_deploy.bundle import Bundle
    from stunet_deploy.series.series import Series
    from training.evaluation import Predictor

HELP = "Train, export, verify and stream on simulated traffic that ships with the package, and write a report."
EXAMPLE = "example: stunet demo --out demo"

DATA = Path(__file__).resolve().parents[1] / "data" / "freeway.npz"
#: The last days are streamed, after a day to warm up on.
DAYS_STREAMED = 3
#: Found by trial for one to two minutes of training; one thread, as two that wait for each other are slower.
CONFIG = RunConfig(
    STUNetConfig(hidden=16, profile=True),
    TrainingConfig(epochs=20, batch=2, warm_up=12, chunk=48, learning_rate=1e-2, threads=1),
    targets=("speed",),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--out", type=Path, default=Path("stunet-demo"), metavar="DIR", help="(default: stunet-demo)")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="training time (default: 2)")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Train, export, verify, evaluate, stream and report."""
    from export.bundle import export_bundle
    from runtime.predictor import StreamPredictor
    from runtime.verify import verify
    from stunet_deploy.cli.report import DemoResult, percentiles, write_report
    from stunet_deploy.cli.training_log import TrainingLog
    from stunet_deploy.graph.files import read_graph
    from stunet_deploy.series.series import read_series
    from training.baselines import baselines
    from training.evaluation import evaluate, remarks, table, to_json
    from training.protocols import choose_protocol
    from training.run import TrainingRun

    out: Path = arguments.out
    if arguments.minutes <= 0:
        raise ConfigError(f"--minutes {arguments.minutes}", "a positive number", "choose another")
    out.mkdir(parents=True, exist_ok=True)
    stages = Stages(console)
    series = read_series(DATA)
    unit = series.site.unit_of(CONFIG.targets)
    with stages.time(f"training for {arguments.minutes:g} minutes on {len(series.sensor_ids)} simulated detectors"):
        graph = read_graph(DATA, series.sensor_ids)
        with TrainingLog(out / "model.log.csv", console, CONFIG.training.epochs, False, None, unit) as log:
            checkpoint = TrainingRun(series, graph, CONFIG, max_minutes=arguments.minutes, report=log.report).run()
        checkpoint.save(out / "model.pt")
    with stages.time("exporting the step to ONNX"):
        bundle = export_bundle(checkpoint, out / "model.bundle")
    with stages.time("verifying the bundle against the float64 reference"):
        verification = verify(bundle)
        if not verification.passed:
            raise CheckFailed(f"verification: largest error {verification.max_abs_error:g}")
    targets = bundle.manifest.targets
    split = choose_protocol(series, CONFIG.protocol, CONFIG.model.window, CONFIG.model.horizon)
    with stages.time("scoring the bundle on the test span, beside the baselines"):
        predictors: list[Predictor] = [StreamPredictor(bundle), *baselines(series, split, targets)]
        results = evaluate(series, split, predictors, targets=targets)
    with stages.time(f"streaming the last {DAYS_STREAMED} days, one interval at a time"):
        first_row, forecasts, step_us = stream_last_days(bundle, series)
    result = DemoResult(
        data=DATA,
        series=series,
        split=split,
        results=results,
        verification=verification,
        bundle=bundle,
        trained=checkpoint.training,
        first_row=first_row,
        forecasts=forecasts,
        step_us=step_us,
        stages=stages.seconds,
    )
    report = out / "report.html"
    write_report(report, result)
    latency = result.latency()
    data: dict[str, Any] = {
        "report": str(report),
        "model": str(out / "model.pt"),
        "bundle": str(bundle.path),
        "evaluation": to_json(series, split, results),
        "verification": verification.to_json(),
        "latency": latency,
        "seconds": stages.seconds,
    }
    shown = "  ".join(f"{name} {us:.0f}" for name, us in percentiles(latency))
    scores = "\n".join((table(results), f"MAE and RMSE in {unit}, simulated traffic", *remarks(series.site, results)))
    console.answer(
        data,
        f"\n{scores}\n\none step of all {len(series.sensor_ids)} detectors, in µs, n = {latency['count']}: {shown}\n"
        f"verified over {verification.intervals} intervals: largest error {verification.max_abs_error:.1e} {unit}\n"
        f"report: {report}",
    )
    console.next("stunet train --data YOURS.csv --graph YOUR_EDGES.csv --timezone YOUR/ZONE --out model.pt")
    return 0


def stream_last_days(bundle: Bundle, series: Series) -> tuple[int, NDArray[np.float32], NDArray[np.float64]]:
    """Push the last days interval by interval, after a day to warm up on.

    Returns:
        The row of the first forecast that is kept, the forecasts [time, horizon, node, target] from there on, and
        the time of every step in microseconds, those of the warm-up included.
    """
    import numpy as np

    from runtime.replay import replay_series
    from runtime.stream import Stream
    from stunet_deploy.series.wall_clock import DAY_S

    per_day = DAY_S // series.interval_s
    rows = (DAYS_STREAMED + 1) * per_day
    stream = Stream.open(bundle, name="demo")
    try:
        recording = series.rows(slice(len(series.timestamps) - rows, None))
        forecasts = [stream.push(*record) for record in replay_series(recording, bundle.manifest)]
    finally:
        stream.close()
    kept = np.stack([forecast.values for forecast in forecasts[per_day:]])
    return len(series.timestamps) - len(kept), kept, np.array([forecast.step_us for forecast in forecasts])


class Stages:
    """The stages of the demo and how long each took, in seconds."""

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextmanager
    def time(self, title: str) -> Iterator[None]:
        """Announce a stage and time it."""
        self._console.say(f"{len(self.seconds) + 1}. {title}")
        started = time.perf_counter()
        yield
        self.seconds[title] = round(time.perf_counter() - started, 1)
