"""The content and the gaps of a recording, as numbers for programs and in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.series.extremes import credible_range, find_codes, physical_limits, sampled
from stunet_deploy.series.series import Series
from stunet_deploy.series.times import format_time, parse_iso
from stunet_deploy.series.wall_clock import DAY_S, find_zone
from stunet_deploy.wording import about, in_share, span_in_words

WORST_SHOWN = 5
#: Values below 0 that may be codes are named up to this many.
CODES_SHOWN = 3
#: Hours are closed if no sensor is heard in them on this share of the days, of at least so many.
_MOSTLY, _DAYS_OF_CLOSED_HOURS = 0.9, 3
#: A reading that repeats for this long is of a detector that is stuck, if it is not 0.
_STUCK_S = 4 * 3600


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
        "closed": _closed(series, ~np.asarray(heard.any(axis=1))),
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
            f"median {feature['median']:.4g}, mean {feature['mean']:.4g}; {in_share(feature['missing'])} missing"
        )
    lines.append(f"missing    {_explain_missing(description, minutes)}")
    worst = ", ".join(f"{entry['sensor']} {in_share(entry['missing'])}" for entry in description["worst_sensors"])
    if worst:
        lines.append(f"worst      {worst} missing")
    if assumed:
        lines.append(f"assumed    {assumed}")
    return lines


def _describe_feature(series: Series, feature: int) -> dict[str, Any]:
    values, observed = series.values[..., feature], series.observed[..., feature]
    readings = values[observed]
    known = {"name": series.features[feature], "unit": series.units[feature], "missing": float((~observed).mean())}
    if not readings.size:
        numbers = ("minimum", "median", "maximum", "mean", "deviation", "zeros", "near_zero", "whole", "negative")
        others = ("negative_values", "only_negative", "limits", "beyond", "stuck", "stuck_sensor")
        return known | dict.fromkeys((*numbers, *others)) | {"unchanging": 0, "codes": []}
    high = np.where(observed, values, -np.inf).max(axis=0)
    low = np.where(observed, values, np.inf).min(axis=0)
    some = sampled(readings).astype(np.float64)
    median = float(np.median(some))
    limits = physical_limits(*credible_range(values, observed))
    negative = np.unique(some[some < 0])
    codes = find_codes(some)
    beyond = ((readings < limits[0]) | (readings > limits[1])) & ~np.isin(readings, [code.value for code in codes])
    stuck = _repeats(values, observed, _STUCK_S // series.interval_s)
    return known | {
        "minimum": float(readings.min()),
        "median": median,
        "maximum": float(readings.max()),
        "mean": float(readings.mean(dtype=np.float64)),
        "deviation": float(readings.std(dtype=np.float64)),
        "zeros": float((readings == 0).mean()),
        "near_zero": float(((some > 0) & (some <= max(median, float(np.mean(np.abs(some)))) / 10)).mean()),
        "whole": bool((some % 1 == 0).all()),
        "negative": float((readings < 0).mean()),
        "negative_values": negative[:CODES_SHOWN].tolist(),
        "only_negative": 0 < len(negative) <= CODES_SHOWN,
        "codes": [asdict(one) | {"share": one.count / some.size} for one in codes],
        "limits": list(limits),
        "beyond": int(beyond.sum()),
        "unchanging": int(((high == low) & (observed.sum(axis=0) > 1)).sum()),
        "stuck": float(stuck.sum() / readings.size),
        "stuck_sensor": series.sensor_ids[int(stuck.argmax())],
    }


def _repeats(values: NDArray[np.float32], observed: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Count the readings of each sensor, ``[node]``, in runs of so many intervals or more of one value other than 0."""
    found = np.zeros(values.shape[1], np.int64)
    if length < 2 or len(values) < length:
        return found
    same = observed[1:] & observed[:-1] & (values[1:] == values[:-1]) & (values[1:] != 0)
    for node in np.flatnonzero(same.sum(axis=0) >= length - 1).tolist():
        borders = np.flatnonzero(np.diff(np.concatenate(([0], same[:, node].astype(np.int8), [0]))))
        runs = borders[1::2] - borders[::2] + 1
        found[node] = runs[runs >= length].sum()
    return found


def _closed(series: Series, unheard: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Describe the intervals of the day in which, on nearly all days, no sensor was heard; None if there are none."""
    if series.interval_s >= DAY_S or series.days < _DAYS_OF_CLOSED_HOURS or unheard.all():
        return None
    second = series.time_of_week().astype(np.int64) % DAY_S
    slot = second // series.interval_s
    share = np.bincount(slot, unheard) / np.maximum(1, np.bincount(slot))
    closed = (share >= _MOSTLY)[slot]
    if not closed.any():
        return None
    starts = closed & ~np.roll(closed, 1) if not closed.all() else closed
    hours = sorted({int(at) for at in second[starts].tolist()})
    return {
        "from": [f"{at // 3600:02d}:{at % 3600 // 60:02d}" for at in hours[:CODES_SHOWN]],
        "intervals": int((closed & unheard).sum()),
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
    parts = [f"{in_share(description['missing'])} of all readings"]
    gap = description["longest_gap"]
    if gap is not None:
        since = _local(gap["first"], description["timezone"])
        span = gap["intervals"] * minutes
        length = about(span)
        parts.append(f"longest gap {length} at sensor {gap['sensor']} from {since:%Y-%m-%d %H:%M}")
    if description["silent"]:
        parts.append(f"{description['silent']} sensor(s) silent throughout")
    if description["unheard_intervals"]:
        parts.append(f"{description['unheard_intervals']} interval(s) without any reading")
    return "; ".join(parts)


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
