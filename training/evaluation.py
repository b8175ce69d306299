"""Score predictors on one recording, each forecast from a window alone or within a running stream."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError
from stunet_deploy.metrics import FEW, SMALL, STGCN_EPSILON, ErrorSums, far_from_zero, scored_horizons
from stunet_deploy.series.series import Series
from stunet_deploy.series.times import format_time
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.site import Site
from stunet_deploy.wording import in_figures, span_in_words
from training.protocols import Split

Regime = Literal["window", "stream"]
#: The numbers of a result in JSON.
_NUMBERS = ("horizon_minutes", "mae", "wape", "mape", "rmse", "count")


@runtime_checkable
class Predictor(Protocol):
    """An object that forecasts a series: a model in torch, a bundle on a backend, a baseline.

    Both methods yield forecasts ``[chunk, horizon, node, target]`` in physical units, in the order of
    ``issue`` and in chunks of any size. They must not look past the row a forecast is issued at.
    """

    @property
    def name(self) -> str:
        """Name in the results."""

    def window(self, series: Series, issue: NDArray[np.int64], length: int) -> Iterable[NDArray[np.float32]]:
        """Yield forecasts at the rows ``issue``, each from zero state over exactly the last ``length`` rows."""

    def stream(self, series: Series, start: int, issue: NDArray[np.int64]) -> Iterable[NDArray[np.float32]]:
        """Yield forecasts at the rows ``issue`` of one run from zero state at row ``start``, state carried.

        The rows from ``start`` to ``issue[-1]`` are consecutive; all of them are stepped through.
        """


@dataclass(frozen=True)
class Result:
    """Errors of one predictor in one regime at one horizon."""

    model: str
    protocol: Regime
    target: str
    horizon_minutes: float
    mae: float
    """In the target's unit; NaN where no label was observed."""
    wape: float
    """Sum of the absolute errors over that of the absolute labels, in percent."""
    mape: float | None
    """In percent; None where labels come near zero, see :func:`stunet_deploy.metrics.far_from_zero`."""
    rmse: float
    """In the target's unit."""
    count: int
    """Labels that counted."""
    constant: int = 0
    """Sensors whose observed readings of the target do not change in the training span; they count like all others."""
    mae_changing: float | None = None
    """MAE over the other sensors; None where there are no constant ones."""
    hidden: float | None = None
    """Share of the readings that was hidden from the predictor; None where hiding was not asked for."""


def evaluate(
    series: Series,
    split: Split,
    predictors: Iterable[Predictor],
    *,
    targets: Sequence[str] | None = None,
    regimes: Sequence[Regime] = ("window", "stream"),
    warm_up: int | None = None,
    inputs: Series | None = None,
) -> list[Result]:
    """Score predictors on the test windows of a split, over observed labels in physical units.

    ``window`` is the literature's protocol A or B. ``stream`` (protocol S) runs through the test span in
    order with the state carried, warmed up on the rows before it and started anew after every break of the
    recording; it is scored at exactly the same issue times and labels, so that the two compare.

    Args:
        series: the whole recording.
        split: made from it.
        predictors: each is asked once per regime.
        targets: the features forecast, in the order of the forecasts' last axis; None means all.
        regimes: which of ``window`` and ``stream``.
        warm_up: rows to run before the test span in the stream regime; None means a day.
        inputs: given to the predictors instead of the series, row for row; the labels are always the series'.

    Raises:
        ConfigError: a negative warm-up.
        DataError: a forecast of another shape than its labels, or an unknown target.
    """
    seen = series if inputs is None else inputs
    columns = series.site.feature_indices(targets)
    rows_before = DAY_S // series.interval_s if warm_up is None else warm_up
    if rows_before < 0:
        raise ConfigError(f"a warm-up of {rows_before} rows", "none or more", "choose another warm-up")
    percentages = [_percentages_hold(series, split, column) for column in columns]
    constant = constant_in_training(series, split)[:, columns]
    results = []
    for predictor in predictors:
        for regime in regimes:
            if regime == "window":
                forecasts: Iterable[NDArray[np.float32]] = predictor.window(seen, split.test, split.window)
            else:
                forecasts = _stream(predictor, seen, split, rows_before)
            sums = _sum_errors(predictor.name, forecasts, series, split, columns)
            scores, changing = sums.scores(), sums.scores(~constant)
            for horizon in scored_horizons(split.horizon):
                for position, column in enumerate(columns):
                    cell, still = (horizon - 1, position), int(constant[:, position].sum())
                    results.append(
                        Result(
                            model=predictor.name,
                            protocol=regime,
                            target=series.features[column],
                            horizon_minutes=horizon * series.interval_s / 60,
                            mae=float(scores.mae[cell]),
                            wape=float(scores.wape[cell]),
                            mape=float(scores.mape[cell]) if percentages[position] else None,
                            rmse=float(scores.rmse[cell]),
                            count=int(scores.count[cell]),
                            constant=still,
                            mae_changing=float(changing.mae[cell]) if still else None,
                        )
                    )
    return results


def constant_in_training(series: Series, split: Split) -> NDArray[np.bool_]:
    """Return which sensors have no two different observed readings in the training span, ``[node, feature]``.

    Where a forecast is scored at many of them, a small mean error says little about the others.
    """
    values, observed = series.values[split.train_rows], series.observed[split.train_rows]
    lowest = values.min(axis=0, where=observed, initial=np.inf)
    constant: NDArray[np.bool_] = lowest >= values.max(axis=0, where=observed, initial=-np.inf)
    return constant


def table(results: Sequence[Result]) -> str:
    """Return the results as aligned text, one line per model and regime, MAE, WAPE, MAPE and RMSE per horizon.

    Where readings were hidden, the line names their share. :func:`remarks` says what the numbers leave open.
    """
    horizons = list(dict.fromkeys(result.horizon_minutes for result in results))
    several = len({result.target for result in results}) > 1
    lines: dict[tuple[str, str], dict[float, str]] = {}
    for result in results:
        model = f"{result.model} ({result.target})" if several else result.model
        if result.hidden is not None:
            model += f", {100 * result.hidden:g} % hidden"
        mape = f"{'–':>7}" if result.mape is None else f"{result.mape:6.1f}%"
        errors = f"{in_figures(result.mae):>7} {result.wape:6.1f}% {mape} {in_figures(result.rmse):>7}"
        lines.setdefault((model, result.protocol), {})[result.horizon_minutes] = errors
    width = max((len(model) for model, _ in lines), default=0)
    blank = " " * len(f"{0:7.2f} {0:6.1f}% {0:6.1f}% {0:7.2f}")
    titles = "  ".join(f"{span_in_words(minutes):^{len(blank)}}" for minutes in horizons)
    units = "  ".join(f"{'MAE':>7} {'WAPE':>7} {'MAPE':>7} {'RMSE':>7}" for _ in horizons)
    text = [f"{'':{width}}  {'':6}  {titles}".rstrip(), f"{'model':{width}}  {'':6}  {units}"]
    text += [
        f"{model:{width}}  {regime:6}  " + "  ".join(errors.get(minutes, blank) for minutes in horizons)
        for (model, regime), errors in lines.items()
    ]
    return "\n".join(text)


def units_in_words(site: Site, targets: Sequence[str]) -> str:
    """Return in which units the errors of targets are: ``mph``, or ``km/h (speed) and veh/h (flow)``."""
    named = [(site.unit_of([target]) or "the unit of the data", target) for target in targets]
    return named[0][0] if len(named) == 1 else " and ".join(f"{unit} ({target})" for unit, target in named)


def remarks(site: Site, results: Sequence[Result]) -> list[str]:
    """Return lines on what a table of results leaves open: MAPE not shown, sensors constant in training.

    Args:
        site: of the recording, for its units.
        results: of any predictors; of those with hidden readings the MAE over other sensors is not told.
    """
    lines = []
    for target in dict.fromkeys(result.target for result in results):
        found = [result for result in results if result.target == target]
        if any(result.mape is None and result.count for result in found):
            lines.append(
                f"MAPE of {target} is not shown: {100 * FEW:g} % or more of the labels are below {100 * SMALL:g} % of "
                "their mean, and percentages of those few would decide it"
            )
        if still := found[0].constant:
            carried: dict[str, list[str]] = {}
            for one in found:
                if one.protocol == "stream" and not one.hidden and one.mae_changing is not None:
                    carried.setdefault(one.model, []).append(in_figures(one.mae_changing))
            errors = ", ".join(f"{model} {' / '.join(numbers)}" for model, numbers in carried.items())
            unit = site.unit_of([target])
            lines.append(
                f"{still} of {len(site.sensor_ids)} sensors are constant in training ({target}); carried MAE over the "
                f"others: {errors}{f' {unit}' if unit else ''}"
            )
    return lines


def to_json(
    series: Series,
    split: Split,
    results: Sequence[Result],
    *,
    missing: Literal["unobserved", "zeros"] = "unobserved",
) -> dict[str, Any]:
    """Return the results as plain JSON values: ``{"data": …, "split": …, "results": [{"model", "protocol", …}]}``.

    A score without labels is null, and so is ``mape`` where labels come near zero; ``target`` is there only where
    results differ in it, ``hidden`` only where readings were hidden. Where sensors are constant in training, the data
    have their number by target as ``constant_in_training`` and every result of the target ``mae_changing``.

    Args:
        series, split, results: the recording, its split and the scores.
        missing: how the model reads a missing reading: as ``unobserved``, or as ``zeros`` with that ``fill``.
    """
    several = len({result.target for result in results}) > 1
    constant = {result.target: result.constant for result in results if result.constant}
    return {
        "data": {
            "source": series.source,
            "sensors": len(series.sensor_ids),
            "intervals": len(series.timestamps),
            "interval_s": series.interval_s,
            "timezone": series.timezone,
            "features": list(series.features),
            "units": list(series.units),
            "observed_share": round(float(series.observed.mean()), 6),
            **({"constant_in_training": constant} if constant else {}),
        },
        "split": {
            "protocol": split.protocol,
            "window": split.window,
            "horizon": split.horizon,
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "first_test_issue": format_time(series.timestamps[split.test[0]]),
            "last_test_issue": format_time(series.timestamps[split.test[-1]]),
            "missing": missing,
        },
        "results": [
            {
                "model": result.model,
                "protocol": result.protocol,
                **({"target": result.target} if several else {}),
                **{name: _plain(getattr(result, name)) for name in _NUMBERS},
                **({"mae_changing": _plain(result.mae_changing)} if result.constant else {}),
                **({} if result.hidden is None else {"hidden": result.hidden}),
            }
            for result in results
        ],
    }


def _percentages_hold(series: Series, split: Split, column: int) -> bool:
    """Return whether the scored labels of a feature are far from zero."""
    rows = np.unique(split.test[:, None] + np.array(scored_horizons(split.horizon)))
    return far_from_zero(series.values[rows, :, column], series.observed[rows, :, column])


def _stream(predictor: Predictor, series: Series, split: Split, warm_up: int) -> Iterator[NDArray[np.float32]]:
    """Yield forecasts at the test issue times, a fresh stream for every unbroken run of rows."""
    for segment in series.segments():
        issue = split.test[(split.test >= segment.start) & (split.test < segment.stop)]
        if len(issue):
            start = max(segment.start, split.test_start - warm_up)
            yield from predictor.stream(series, start, issue)


def _sum_errors(
    name: str, forecasts: Iterable[NDArray[np.float32]], series: Series, split: Split, columns: list[int]
) -> ErrorSums:
    sums = ErrorSums(STGCN_EPSILON if split.protocol == "b" else 0.0)
    ahead = np.arange(1, split.horizon + 1)
    done = 0
    for forecast in forecasts:
        issue = split.test[done : done + len(forecast)]
        rows = issue[:, None] + ahead
        sums.add(forecast, series.values[rows][..., columns], series.observed[rows][..., columns])
        done += len(forecast)
    if done != len(split.test):
        raise RuntimeError(f"{name} gave {done} forecasts for {len(split.test)} issue times")
    return sums


def _plain(number: float | None) -> float | int | None:
    """Return a number for JSON: null for NaN, an integer where it is whole."""
    if number is None or not math.isfinite(number):
        return None
    return int(number) if number == int(number) else number
