"""What a person would notice about a recording before training on it, and the verdict that follows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from stunet_deploy.series.times import parse_iso
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.wording import about, exactly, in_share

#: Exact zeros are worth a remark from this share of the readings on.
MANY_ZEROS = 0.05
#: Zeros are a code where they are so many times as frequent as all small readings.
_LONELY_ZEROS = 3
MANY_MISSING = 0.3
#: Of days: with fewer, no day of the week is known twice.
SHORT_DAYS = 14
#: Readings that repeat for hours are worth a remark from this share on.
MANY_STUCK = 0.02

#: What a remark is about: a model that would be wrong, errors that could be smaller, or something to know.
Weight = Literal["wrong", "costs", "know"]
_ORDER: tuple[Weight, ...] = ("wrong", "costs", "know")


class Remark(NamedTuple):
    """A likely mistake or a weakness of data, with what to do about it.

    Attributes:
        weight: how much it matters.
        text: of one sentence.
    """

    weight: Weight
    text: str


def ordered(remarks: Sequence[Remark]) -> list[Remark]:
    """Return remarks with those first that matter most."""
    return sorted(remarks, key=lambda remark: _ORDER.index(remark.weight))


def verdict(remarks: Sequence[Remark]) -> tuple[str, str]:
    """Return whether one would trust a model that is trained on such data: a word, and the same as a sentence."""
    wrong, costs = (sum(remark.weight == weight for remark in remarks) for weight in _ORDER[:2])
    if wrong:
        return "doubtful", f"doubtful: settle the first {wrong} of these before a training"
    if costs:
        return "usable", f"usable: {costs} of these will cost accuracy"
    return "ready", "ready to train on"


def remark_on_series(description: Mapping[str, Any], now_s: float | None = None) -> list[Remark]:
    """Return what stands out in a recording that :func:`~stunet_deploy.series.description.describe_series` described.

    Args:
        description: of the recording.
        now_s: the time of day that is now, in seconds since 1970-01-01; None for that of the clock.
    """
    found = [Remark("wrong", text) for text in _on_times(description, time.time() if now_s is None else now_s)]
    for feature in description["features"]:
        found += _on_feature(feature)
    found += _on_coverage(description)
    if description["timezone"] == "UTC":
        text = "hours of the day are taken from UTC: give --timezone if these are times of another zone"
        found.append(Remark("know", text))
    return ordered(found)


def _on_times(description: Mapping[str, Any], now_s: float) -> list[str]:
    first, last = (parse_iso(description[end]) for end in ("first", "last"))
    found = []
    if last.timestamp() > now_s + DAY_S:
        found.append(f"it ends on {last:%Y-%m-%d}, in the future: are its times read as they are meant?")
    if first.year < 1990:
        found.append(f"it begins on {first:%Y-%m-%d}: are its times read as they are meant?")
    return found


def _on_feature(feature: Mapping[str, Any]) -> list[Remark]:
    name = feature["name"]
    if feature["median"] is None:
        return [Remark("wrong", f"{name} has no reading: leave it out, or choose other targets")]
    found = list[Remark]()
    if feature["missing"] > MANY_MISSING:
        found.append(Remark("costs", f"{in_share(feature['missing'])} of the {name} readings are missing"))
    codes = [code["value"] for code in feature["codes"]]
    for code in feature["codes"]:
        number = exactly(code["value"])
        text = (
            f"{in_share(code['share'])} of the {name} readings are exactly {number}, far from all others (the nearest "
            f"is {code['nearest']:.4g}): if that stands for no data, say --no-data {number}"
        )
        found.append(Remark("wrong", f"{text}; it is left out" if code["certain"] else text))
    negative = [value for value in feature["negative_values"] if value not in codes]
    if negative and feature["negative"]:
        some, options = (
            " and ".join(map(exactly, negative)),
            " ".join(f"--no-data {exactly(one)}" for one in negative),
        )
        text = f"{in_share(feature['negative'])} of the {name} readings are below 0, "
        if feature["only_negative"]:
            found.append(Remark("wrong", f"{text}always {some}: if that stands for no data, say {options}"))
        else:
            found.append(
                Remark("know", f"{text}down to {feature['minimum']:.4g}: name what stands for no data with --no-data")
            )
    if feature["zeros"] >= MANY_ZEROS:
        found.append(_on_zeros(feature))
    if abs(feature["mean"]) < 0.2 and 0.5 < feature["deviation"] < 2 and feature["negative"] > 0.2:
        text = f"{name} looks normalised (mean 0, deviation 1): give it in physical units"
        found.append(Remark("wrong", text))
    if feature["beyond"]:
        low, high = feature["limits"]
        text = (
            f"{feature['beyond']} {name} readings are far beyond all others: left out, limits {low:.4g} to {high:.4g}"
        )
        found.append(Remark("costs", text))
    if feature["unchanging"]:
        found.append(Remark("costs", f"{feature['unchanging']} sensor(s) give one and the same {name} all the time"))
    if feature["stuck"] >= MANY_STUCK:
        text = (
            f"{in_share(feature['stuck'])} of the {name} readings repeat the one before for hours, most of them at "
            f"sensor {feature['stuck_sensor']}: a detector that is stuck? stuck_after drops them in operation"
        )
        found.append(Remark("costs", text))
    return found


def _on_zeros(feature: Mapping[str, Any]) -> Remark:
    """Say which of the two zeros look like: readings, as of counts at night, or a code."""
    name, share = feature["name"], in_share(feature["zeros"])
    if feature["near_zero"] * _LONELY_ZEROS >= feature["zeros"] or feature["whole"]:
        text = f"{share} of the {name} readings are 0; these look like readings (if they mean no data: --no-data 0)"
        return Remark("know", text)
    text = f"{share} of the {name} readings are exactly 0 and few are near it: if 0 means no data, say --no-data 0"
    return Remark("wrong", text)


def _on_coverage(description: Mapping[str, Any]) -> list[Remark]:
    found, minutes = list[str](), description["interval_s"] / 60
    days = description["intervals"] * minutes * 60 / DAY_S
    if description["interval_s"] < DAY_S and days < SHORT_DAYS:
        found.append(f"{days:.1f} days: from {SHORT_DAYS} days on, days of the week can be told apart")
    if description["silent"]:
        found.append(f"{description['silent']} of {description['sensors']} sensors never say anything: leave them out")
    gap = description["longest_gap"]
    if gap is not None and gap["intervals"] * 10 > description["intervals"]:
        span = about(gap["intervals"] * minutes)
        found.append(f"sensor {gap['sensor']} is silent for {span} on end, more than a tenth of the recording")
    closed = description["closed"]
    unheard = description["unheard_intervals"] - (closed["intervals"] if closed else 0)
    if unheard * 10 > description["intervals"]:
        found.append(f"{unheard} of {description['intervals']} intervals without any reading")
    remarks = [Remark("costs", text) for text in found]
    if closed:
        text = f"no readings every day from {' and '.join(closed['from'])} on: closed hours, which are no outages"
        remarks.append(Remark("know", text))
    return remarks
