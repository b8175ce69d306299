"""The demo's report: one HTML file with everything inside."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.timing import Samples, environment
from runtime.verify import Verification
from stunet_deploy.bundle import Bundle
from stunet_deploy.cli.pictures import forecasts as pictures
from stunet_deploy.files import replacing
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.wording import in_figures, span_in_words
from training.evaluation import Result, remarks
from training.protocols import Split

TEMPLATE = Path(__file__).with_name("report.html")
#: Lead times that the pictures show, in intervals of five minutes.
LEADS = (6, 12)
CORRIDORS = {"A east": "AE", "A west": "AW", "B north": "BN", "B south": "BS"}
MODEL_NAMES = {
    "stunet": "ST-UNet",
    "persistence": "persistence",
    "historical_average": "historical average",
    "time_of_day_average": "time-of-day average",
    "damped_departure": "damped departure",
}


@dataclass(frozen=True)
class DemoResult:
    """The result of a demo.

    Attributes:
        data: file of the recording; it also holds the streets.
        series, split, results: the recording, what was scored and how.
        verification: of the bundle on this machine.
        bundle: what was exported.
        trained: provenance of the training.
        first_row: row of the first streamed forecast.
        forecasts: [time, horizon, node, target] of the rows from ``first_row`` on.
        step_us: [step] time of every step in microseconds.
        stages: seconds by stage.
    """

    data: Path
    series: Series
    split: Split
    results: Sequence[Result]
    verification: Verification
    bundle: Bundle
    trained: Mapping[str, Any]
    first_row: int
    forecasts: NDArray[np.float32]
    step_us: NDArray[np.float64]
    stages: Mapping[str, float]

    def latency(self) -> dict[str, float | int | None]:
        """Return count and percentiles of the steps, in microseconds."""
        return Samples((self.step_us * 1000).astype(np.int64)).summary()

    def busiest_day(self) -> pictures.Day:
        """Return the streamed day with the lowest mean speed, its forecasts set at the times they were made for."""
        rows = np.arange(self.first_row, len(self.series.timestamps))
        column = self.series.features.index(self.bundle.manifest.targets[0])
        whole = pictures.align_forecasts(self.series, rows, self.forecasts, 0, column, LEADS)
        per_day = DAY_S // self.series.interval_s
        means = [np.nanmean(whole.observed[at : at + per_day]) for at in range(0, len(rows), per_day)]
        return whole.cut(slice(per_day * int(np.argmin(means)), per_day * (int(np.argmin(means)) + 1)))


def write_report(path: Path, result: DemoResult) -> None:
    """Write the report."""
    day = result.busiest_day()
    unit, latency = day.unit, result.latency()
    test_start = slice(result.split.test_start, result.split.test_start + 1)
    (date,) = pictures.local_datetimes(day.times[:1], day.zone)
    (first_test,) = pictures.local_datetimes(result.series.timestamps[test_start], day.zone)
    lead = min(day.ahead)
    corridors = {
        name: [node for node, sensor in enumerate(day.sensor_ids) if sensor.startswith(prefix) and "-" not in sensor]
        for name, prefix in CORRIDORS.items()
    }
    named = [replace(r, model=MODEL_NAMES.get(r.model, r.model)) for r in result.results]
    marks = {name: us for name, us in percentiles(latency) if name in ("median", "p99")}
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        sensors=len(day.sensor_ids),
        date=f"{date:%A} {date.day} {date:%B %Y}",
        lead=f"{lead:g}",
        unit=html.escape(unit),
        cards=_cards(result, unit),
        map=json.dumps(_map(result.data, result.series, day, lead), separators=(",", ":")),
        palette=json.dumps(pictures.SPEED_COLOURS),
        day=pictures.to_svg(pictures.draw_day(day, day.liveliest(pictures.SENSORS_SHOWN), "speed")),
        corridors=pictures.to_svg(pictures.draw_corridors(day, corridors, lead)),
        horizons=pictures.to_svg(pictures.draw_horizons(named, unit)),
        accuracy=_accuracy(named),
        remarks="".join(f"<p>{html.escape(line)}.</p>" for line in remarks(result.series.site, named)),
        latency=pictures.to_svg(pictures.draw_latency(result.step_us, marks)),
        timings=_rows([(name, f"{us:.0f}") for name, us in percentiles(latency)]),
        count=latency["count"],
        stages=_rows([(title, f"{seconds:.1f} s") for title, seconds in result.stages.items()]),
        machine=html.escape(_machine()),
        source=html.escape(result.series.source),
        first_test=f"{first_test:%A %d %B}",
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _cards(result: DemoResult, unit: str) -> str:
    """Return the four numbers that matter most."""
    errors = {(r.model, r.horizon_minutes): r.mae for r in result.results if r.protocol == "stream"}
    furthest = max(minutes for _, minutes in errors)
    model = result.bundle.manifest.model
    median = result.latency()["median_us"]
    size = sum((result.bundle.path / name).stat().st_size for name in result.bundle.manifest.files)
    verified = result.verification
    cards = [
        (
            f"{in_figures(errors[model, furthest])} {unit}",
            f"mean error {span_in_words(furthest)} ahead; "
            f"persistence has {in_figures(errors['persistence', furthest])}",
        ),
        (
            f"{median:.0f} µs",
            f"median step: {len(result.series.sensor_ids)} detectors, 12 horizons, ONNX Runtime, one thread",
        ),
        (
            f"{verified.max_abs_error:.0e} {unit}",
            f"largest difference from float64 over {verified.intervals} streamed intervals",
        ),
        (f"{size / 1e6:.1f} MB", "bundle: step graph, manifest and the recording that proves it"),
    ]
    return "".join(
        f"<div class=card><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>" for value, text in cards
    )


def _map(data: Path, series: Series, day: pictures.Day, lead: float) -> dict[str, Any]:
    """Return positions, roads and speeds of a day for the page's script, in whole units."""
    assert series.latitude is not None
    assert series.longitude is not None
    with np.load(data) as arrays:
        edges = arrays["road_edges"].tolist()
    hours = [f"{moment:%H:%M}" for moment in pictures.local_datetimes(day.times, day.zone)]
    worst = int(np.nanargmin(np.nanmean(day.observed, axis=1)))
    return {
        "x": np.round(np.array(series.longitude) * 111.2, 3).tolist(),
        "y": np.round(np.array(series.latitude) * 111.2, 3).tolist(),
        "ids": list(day.sensor_ids),
        "edges": edges,
        "hours": hours,
        "start": worst,
        "observed": _whole(day.observed),
        "forecast": _whole(day.ahead[lead]),
        "top": int(np.nanmax(day.observed)),
    }


def _whole(values: NDArray[np.float32]) -> list[list[int | None]]:
    return [[None if np.isnan(value) else round(float(value)) for value in row] for row in values]


def _accuracy(results: Sequence[Result]) -> str:
    """Return the table of errors, a row per model and regime; a baseline has no state, so one row says it all."""
    horizons = sorted({result.horizon_minutes for result in results})
    first = results[0].model
    head = "<tr><th>model<th>regime" + "".join(f"<th colspan=4>{span_in_words(minutes)}" for minutes in horizons)
    head += "<tr class=sub><th><th>" + "<th>MAE<th>WAPE<th>MAPE<th>RMSE" * len(horizons)
    body = []
    for model in dict.fromkeys(result.model for result in results):
        for regime in ("stream", "window") if model == first else ("stream",):
            cells = [r for r in results if r.model == model and r.protocol == regime]
            numbers = "".join(
                f"<td>{in_figures(r.mae)}<td>{r.wape:.1f} %"
                f"<td>{'–' if r.mape is None else f'{r.mape:.1f} %'}<td>{in_figures(r.rmse)}"
                for r in cells
            )
            shown = regime if model == first else "either"
            body.append(f"<tr{' class=own' if model == first else ''}><th>{model}<td>{shown}{numbers}")
    return f"<table><thead>{head}<tbody>{''.join(body)}</table>"


def percentiles(latency: Mapping[str, float | int | None]) -> list[tuple[str, float]]:
    """Return (name, microseconds) of those percentiles of a latency that its samples determine."""
    names = ("min", "median", "p90", "p95", "p99", "max")
    return [(name, value) for name in names if (value := latency[f"{name}_us"]) is not None]


def _rows(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in pairs)


def _machine() -> str:
    found = environment()
    return f"{found['cpu']}, {found['cores_allowed'] or found['cores']} cores; ONNX Runtime {found['onnxruntime']}"
