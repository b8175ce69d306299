"""Training: this project's against the paper's equations taken interval by interval, and against DCRNN.

    python -m benchmarks.speed.training [--data metr-la.npz] [--rounds 12] [--compile]

One process, one thread, whole updates (draw, loss, gradient, AdamW) timed in turn, so that a slow minute of the machine
meets all alike:

    ours     the sequence at once: inputs projected for all intervals, dilated chains side by side
    literal  Eq. 2 and 7 of Yu, Yin, Zhu (2019), one interval after the other, every Chebyshev product of its own;
             same weights, same chunks, same loss
    preset   ours with as many Chebyshev polynomials as the preset default has
    bf16     ours with precision = "bf16"
    compiled ours through torch.compile, in the window regime, with --compile: that takes minutes
    DCRNN    published size (Li et al. 2018), fed its own forecasts, on the same windows

An interval is one row of one chunk that goes through the network. Memory is the peak of a process of its own that makes
three updates; what Python, torch and the recording take is part of it.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.harness.command import Command
from benchmarks.harness.networks import randomised
from benchmarks.harness.page import machine, milliseconds, number, page, table
from benchmarks.peers.diffusion import DCRNN, random_walks
from benchmarks.speed.large_graphs import in_its_own_process, peak_mb
from benchmarks.speed.literal_graph import with_literal_cells
from benchmarks.speed.ways import microseconds
from runtime.timing import interleave, paired_ratio
from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.graph.files import read_graph
from stunet_deploy.models.forecaster import StepInputs, Teacher
from stunet_deploy.models.memory import Looked
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import read_series
from stunet_deploy.series.wall_clock import DAY_S
from training.evaluation import Regime
from training.loop import Trainer
from training.preparation import build_model, prepare_signal
from training.protocols import protocol_a

Precision = Literal["fp32", "bf16"]
#: Updates of a process whose memory is measured.
UPDATES = 3


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        regime: of the training.
        hidden: channels of every recurrent layer.
        batch: windows or chunks an update.
        precision: of the training.
        polynomials: K of every graph convolution; by default the paper's.
    """

    regime: Regime
    hidden: int
    batch: int
    precision: Precision = "fp32"
    polynomials: int = STUNetConfig.chebyshev_order

    @property
    def config(self) -> RunConfig:
        """The run: the defaults, and nothing that one way could not do."""
        model = STUNetConfig(hidden=self.hidden, chebyshev_order=self.polynomials, basis="dense")
        training = TrainingConfig(regime=self.regime, batch=self.batch, precision=self.precision, average=0.0)
        return RunConfig(model, training)


class LiteralSTUNet(STUNet):
    """An ST-UNet that takes a sequence interval by interval, and forecasts where it is asked to."""

    decoded = True

    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Tensor | None = None,
        teacher: Teacher | None = None,
        looked: Looked | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Step through the sequence; see :class:`STUNet`."""
        if profile is not None or teacher is not None:
            raise TypeError("the literal loop has neither a profile of training nor a teacher")
        intervals = range(inputs.values.shape[1])
        wanted = set(intervals) if issued is None else set(issued.tolist())
        current, forecasts = dict(lines), []
        for interval in intervals:
            self.decoded = interval in wanted
            taps = {tap.name: current[tap.state.name][tap.state.delay - tap.age] for tap in self.contract.taps}
            outputs, written = self.step(inputs.at(interval), taps)
            current = {name: torch.cat([line, written[name][None]])[1:] for name, line in current.items()}
            if self.decoded:
                forecasts.append(outputs.forecast)
        return torch.stack(forecasts, dim=1), current

    def _decode(self, encoded: Tensor | None, recent: Any, filled: Tensor, *others: Any) -> Tensor:
        if self.decoded:
            return super()._decode(encoded, recent, filled, *others)
        return self.targets(filled).unsqueeze(-3).expand(-1, self.config.horizon, -1, -1)  # read by nobody


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.training", __doc__)
    command.recording()
    command.option("--hidden", (64, 32), "channels in the window and in the stream regime", quick=(4, 4))
    command.option("--batch", 50, "windows an update, ours and DCRNN's", quick=3)
    command.option("--rounds", 12, "how often each way is timed", quick=2)
    command.option("--compile", False, "also time torch.compile, which takes minutes")
    command.run(measure, report, arguments)


def trainers(data: Path, case: Case) -> dict[str, Trainer]:
    """Return our trainer and the literal one of a recording's network: same weights, same draws."""
    series = read_series(data)
    split = protocol_a(series)
    torch.manual_seed(0)
    signal = prepare_signal(series, split, ())
    model = randomised(build_model(case.config, read_graph(data, series.sensor_ids), series.sensor_ids, signal))
    literal = with_literal_cells(model)
    literal.__class__ = LiteralSTUNet
    return {
        name: Trainer(one.train(), series, split, case.config.training, seed=0)
        for name, one in (("ours", model), ("literal", literal))
    }


def batches(trainer: Trainer) -> Iterator[Tensor]:
    """Yield random rows, without end."""
    while True:
        yield trainer.sampler.draw(trainer.chunks, trainer.generator)


def updating(trainer: Trainer) -> Callable[[], float]:
    """Return a call that makes the next update."""
    rows = batches(trainer)
    return lambda: trainer.update(trainer.objective.draw(next(rows)))


def dcrnn(data: Path, batch: int) -> Callable[[], float]:
    """Return a call that makes an update of a DCRNN on random windows, by the mean absolute error."""
    trainer = trainers(data, Case("window", 1, batch))["ours"]
    series, output = trainer.objective.series, trainer.model.output
    network = read_graph(data, trainer.series.sensor_ids)
    torch.manual_seed(0)
    model = DCRNN(random_walks(network.adjacency.dense()), horizon=trainer.split.horizon)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    windows = batches(trainer)

    def update() -> float:
        rows = next(windows)
        values, _, seconds = series.inputs(rows)
        time_of_day = (seconds % DAY_S / DAY_S)[..., None].expand_as(values)
        labels, observed = series.labels(rows[:, -1:], trainer.split.horizon)
        optimiser.zero_grad(set_to_none=True)
        error = model(torch.cat([output.normalise(values), time_of_day], dim=-1)) - output.normalise(labels[:, 0])
        loss = torch.where(observed[:, 0], error, 0.0).abs().sum() / observed.sum().clamp(min=1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        return loss.item()

    return update


def calls(data: Path, case: Case) -> dict[str, Callable[[], float]]:
    """Return an update of every way of a case, by name."""
    found = {name: update_of(data, case, name) for name in ("ours", "literal", "preset", "bf16")}
    if case.regime == "window":
        found["DCRNN"] = update_of(data, case, "DCRNN")
    return found


def update_of(data: Path, case: Case, way: str) -> Callable[[], float]:
    """Return an update of one way of a case."""
    if way == "DCRNN":
        return dcrnn(data, case.batch)
    if way == "bf16":
        return updating(trainers(data, replace(case, precision="bf16"))["ours"])
    if way == "preset":
        preset = read_run_config(None, "stunet", "default")
        assert isinstance(preset, RunConfig)
        return updating(trainers(data, replace(case, polynomials=preset.model.chebyshev_order))["ours"])
    return updating(trainers(data, case)[way])


def compiled(data: Path, case: Case) -> Callable[[], float]:
    """Return an update of our model, which the first call compiles."""
    trainer = trainers(data, case)["ours"]
    trainer.model.forward = torch.compile(trainer.model.forward)  # type: ignore[method-assign]
    return updating(trainer)


def measure_memory(data: Path, case: Case, way: str) -> dict[str, Any]:
    """Return the peak memory of this process after some updates."""
    update = update_of(data, case, way)
    before = peak_mb()
    for _ in range(UPDATES):
        update()
    return {"before_mb": before, "peak_mb": peak_mb()}


def measure(options: Namespace) -> dict[str, Any]:
    """Time all ways in turn, and the memory of each."""
    torch.set_num_threads(1)
    found = {}
    for case in (Case("window", options.hidden[0], options.batch), Case("stream", options.hidden[1], 1)):
        ways = calls(options.data, case)
        timed = dict(ways)
        if options.compile and case.regime == "window":
            timed["compiled"] = compiled(options.data, case)
        samples = interleave(timed, options.rounds, warm_up=1)
        length = trainers(options.data, case)["ours"].sampler.length
        found[case.regime] = {
            "hidden": case.hidden,
            "batch": case.batch,
            "intervals": case.batch * length,
            "calls": {name: one.summary() for name, one in samples.items()},
            "ratios": {name: paired_ratio(one, samples["ours"]) for name, one in samples.items() if name != "ours"},
            "of_preset": {name: paired_ratio(one, samples["preset"]) for name, one in samples.items()},
            "memory": {name: in_its_own_process(measure_memory, options.data, case, name) for name in ways},
            "samples_us": microseconds(samples),
        }
    return {"data": options.data.name, "cases": found}


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    rows = []
    for regime, case in result["cases"].items():
        for name, one in case["calls"].items():
            speed, memory = case["intervals"] / one["median_us"] * 1e6, case["memory"].get(name, {}).get("peak_mb")
            ratio = f"{case['ratios'][name]:.2f} ×" if name in case["ratios"] else "1"
            size = "published" if name == "DCRNN" else case["hidden"]
            median = milliseconds(one["median_us"], ".0f")
            of_preset = f"{case['of_preset'][name]:.2f} ×"
            times = [median, f"{speed:,.0f}", ratio, of_preset]
            rows.append([regime, case["batch"], name, size, *times, number(memory, ",.0f")])
    columns = ["regime", "batch", "training", "hidden", "update ms", "intervals/s", "time, of ours (paired median)"]
    columns.append("of the preset's")
    return page(
        "Training",
        f"`{result['command']}`: updates on {result['data']}, one thread, medians of updates timed in turn.",
        machine(result["environment"]),
        table([*columns, "peak MB"], rows),
        "`literal` takes Eq. 2 and 7 of the paper interval by interval, from the same weights and on the same chunks, "
        "with the same loss; a test compares losses and gradients. `preset` is ours with as many Chebyshev polynomials "
        "as the preset default has. An interval is one row of one chunk. Peak memory is that of a process of its own.",
    )


if __name__ == "__main__":
    main()
