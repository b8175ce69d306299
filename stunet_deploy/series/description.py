"""The content and the gaps of a recording, as numbers for programs and in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.series.series import Series
from stunet_deploy.series.times import format_time, parse_iso
from stunet_deploy.series.wall_clock import DAY_S, find_zone
from stunet_deploy.wording import span_in_words

WORST_SHOWN = 5
#: Exact zeros are worth a remark from this share of the readings on.
MANY_ZEROS = 0.05
#: Quantiles come from at most about this many readings, evenly spread.
SAMPLE = 4_000_000


def describe_series(series: Series) -> dict[str, Any]:
    """Describe a recording, ready for JSON; times are UTC, shares lie from 0 to 1.

    ``longest_gap`` is the longest time that a sensor says nothing while the recording goes on; sensors that
    never say anything are counted in ``silent`` instead.
    """
    heard: NDArray[np.bool_] = np.any(series.observed, axis=2)
    share = (~heard).mean(axis=0)
    worst = [int(node) for node in np.argsort(-share, kind="stable")[:WORST_SHOWN] if share[node] > 0]
    return {
        "source": series.source,
        "sensors": len(series.sensor_ids),
        "first_sensor": series.sensor_ids[0],
        "last_sensor": series.sensor_ids[-1],
        "intervals": len(series.timestamps),
        "interval_s": series.interval_s,
        "first": format_time(series.timestamps[0]),
        "last": format_time(series.timestamps[-1]),
        "timezone": series.timezone,
        "stamp": series.stamp,
        "breaks": len(series.segments()) - 1,
        "coordinates": series.latitude is not None,
        "missing": float((~series.observed).mean()),
        "silent": int((share == 1).sum()),
        "unheard_intervals": int((~heard.any(axis=1)).sum()),
        "longest_gap": _longest_gap(series, heard),
        "worst_sensors": [{"sensor": series.sensor_ids[node], "missing": float(share[node])} for node in worst],
        "features": [_describe_feature(series, feature) for feature in range(len(series.features))],
    }


def explain_series(description: Mapping[str, Any]) -> list[str]:
    """The lines of `describe_series` for people."""
    read, _, assumed = description["source"].partition("; ")
    zone = description["timezone"]
    first, last = (_local(description[end], zone) for end in ("first", "last"))
    minutes = description["interval_s"] / 60
    breaks = f", {description['breaks']} break(s) of a day or more" if description["breaks"] else ""
    lines = [
        f"recording  {read}",
        f"sensors    {description['sensors']:,}, {description['first_sensor']} … {description['last_sensor']}"
        + (", with coordinates" if description["coordinates"] else ""),
        f"time       {first:%a %Y-%m-%d %H:%M} to {last:%a %Y-%m-%d %H:%M} {zone}, "
        f"{description['intervals']:,} intervals of {span_in_words(minutes)}{breaks}",
    ]
    for feature in description["features"]:
        unit = feature["unit"] or "(unit not in the file)"
        if feature["median"] is None:
            lines.append(f"feature    {feature['name']} {unit}: not one reading")
            continue
        lines.append(
            f"feature    {feature['name']} {unit}: {feature['minimum']:.4g} to {feature['maximum']:.4g}, "
            f"median {feature['median']:.4g}, mean {feature['mean']:.4g}; {_share(feature['missing'])} missing"
        )
    lines.append(f"missing    {_explain_missing(description, minutes)}")
    worst = ", ".join(f"{entry['sensor']} {_share(entry['missing'])}" for entry in description["worst_sensors"])
    if worst:
        lines.append(f"worst      {worst} missing")
    if assumed:
        lines.append(f"assumed    {assumed}")
    return lines


def remark_on_series(description: Mapping[str, Any]) -> list[str]:
    """Return the likely mistakes in a described recording, and what to do about them."""
    remarks = []
    for feature in description["features"]:
        name = feature["name"]
        if feature["median"] is None:
            remarks.append(f"{name} has no reading: leave it out, or choose other targets")
            continue
        if feature["negative"]:
            remarks.append(
                f"{_share(feature['negative'])} of the {name} readings are below 0, down to {feature['minimum']:.4g}: "
                "if that is a code for no data, empty those cells"
            )
        if feature["zeros"] >= MANY_ZEROS:
            remarks.append(
                f"{_share(feature['zeros'])} of the {name} readings are exactly 0: "
                "if 0 means no data, empty those cells"
            )
        if abs(feature["mean"]) < 0.2 and 0.5 < feature["deviation"] < 2 and feature["negative"] > 0.2:
            remarks.append(f"{name} looks normalised (mean 0, deviation 1): give it in physical units")
        if feature["unchanging"]:
            remarks.append(f"{feature['unchanging']} sensor(s) give one and the same {name} all the time")
    if description["timezone"] == "UTC":
        remarks.append("hours of the day are taken from UTC: give --timezone if these are times of another zone")
    return remarks


def _describe_feature(series: Series, feature: int) -> dict[str, Any]:
    values, observed = series.values[..., feature], series.observed[..., feature]
    readings = values[observed].astype(np.float64)
    known = {"name": series.features[feature], "unit": series.units[feature], "missing": float((~observed).mean())}
    if not readings.size:
        numbers = ("minimum", "median", "maximum", "mean", "deviation", "zeros", "negative")
        return known | dict.fromkeys(numbers) | {"unchanging": 0}
    high = np.where(observed, values, -np.inf).max(axis=0)
    low = np.where(observed, values, np.inf).min(axis=0)
    return known | {
        "minimum": float(readings.min()),
        "median": float(np.median(readings[:: readings.size // SAMPLE + 1])),
        "maximum": float(readings.max()),
        "mean": float(readings.mean()),
        "deviation": float(readings.std()),
        "zeros": float((readings == 0).mean()),
        "negative": float((readings < 0).mean()),
        "unchanging": int(((high == low) & (observed.sum(axis=0) > 1)).sum()),
    }


def _longest_gap(series: Series, heard: NDArray[np.bool_]) -> dict[str, Any] | None:
    longest, where = 0, (0, 0)
    for run in series.segments():
        for node in np.flatnonzero(heard.any(axis=0)).tolist():
            rows = np.concatenate(([run.start - 1], run.start + np.flatnonzero(heard[run, node]), [run.stop]))
            lengths = np.diff(rows) - 1
            gap = int(lengths.argmax())
            if lengths[gap] > longest:
                longest, where = int(lengths[gap]), (node, int(rows[gap]) + 1)
    if not longest:
        return None
    node, row = where
    return {
        "sensor": series.sensor_ids[node],
        "first": format_time(series.timestamps[row]),
        "last": format_time(series.timestamps[row + longest - 1]),
        "intervals": longest,
    }


def _explain_missing(description: Mapping[str, Any], minutes: float) -> str:
    parts = [f"{_share(description['missing'])} of all readings"]
    gap = description["longest_gap"]
    if gap is not None:
        since = _local(gap["first"], description["timezone"])
        span = gap["intervals"] * minutes
        length = f"{span / 60:.3g} h" if span >= 60 else f"{span:g} min"
        parts.append(f"longest gap {length} at sensor {gap['sensor']} from {since:%Y-%m-%d %H:%M}")
    if description["silent"]:
        parts.append(f"{description['silent']} sensor(s) silent throughout")
    if description["unheard_intervals"]:
        parts.append(f"{description['unheard_intervals']} interval(s) without any reading")
    return "; ".join(parts)


def _share(share: float) -> str:
    """A share in percent that says none only of nothing."""
    if not share:
        return "none"
    return "under 0.1 %" if share < 0.001 else f"{share * 100:.1f} %"


def _local(text: str, zone: str) -> datetime:
    return parse_iso(text).astimezone(find_zone(zone) or timezone.utc)


def mean_day(series: Series, feature: int, slots: int) -> NDArray[np.float64]:
    """Mean of a feature over all sensors and days by slot of the local day, ``[slot]``; NaN where never observed."""
    slot = (series.time_of_week().astype(np.int64) % DAY_S) * slots // DAY_S
    observed = series.observed[..., feature]
    total = np.bincount(slot, np.where(observed, series.values[..., feature], 0).sum(axis=1), slots)
    count = np.bincount(slot, observed.sum(axis=1), slots)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(slots, np.nan), where=count > 0)
    return mean
