"""The rules of an assembler: what is read of a single reading, and how readings become the values of an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.readings import Reading, read_number
from stunet_deploy.errors import ConfigError, StreamError
from stunet_deploy.manifest import Manifest


@dataclass(frozen=True)
class Rule:
    """How the readings of an interval become one value of a feature.

    Attributes:
        how: their ``mean``, or their ``sum`` (vehicles counted).
        weight: for a mean: the name of the number in each reading by which it is weighted, such as ``flow``. Where all
            weights are 0 nothing was measured, and the value is unobserved.
    """

    how: Literal["mean", "sum"] = "mean"
    weight: str | None = None

    def __post_init__(self) -> None:
        if self.how not in ("mean", "sum") or (self.how == "sum" and self.weight is not None):
            raise ConfigError(
                f"rule {self.how!r} with weight {self.weight!r}",
                "a mean, weighted or not, or a sum",
                "correct the rule",
            )


class Rules:
    """The rules of all features of a bundle.

    Args:
        manifest: sensors, features, limits and codes.
        rules: by feature; a plain mean by default.
        period_s: what one reading covers, in seconds, by which a sum is scaled up; None does not scale.

    Attributes:
        names: the numbers that are read of a reading: the features, and the weights that are no feature.

    Raises:
        ConfigError: if a rule is for no feature.
    """

    def __init__(self, manifest: Manifest, rules: Mapping[str, Rule], period_s: float | None) -> None:
        strange = sorted(rules.keys() - set(manifest.features))
        if strange:
            raise ConfigError(f"a rule for {strange}", f"features among {list(manifest.features)}", "correct its name")
        self._manifest = manifest
        self._rules = [rules.get(feature, Rule()) for feature in manifest.features]
        weights = dict.fromkeys(rule.weight for rule in self._rules if rule.weight is not None)
        self.names = tuple(dict.fromkeys([*manifest.features, *weights]))
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._period_s = period_s

    def gather(self, nodes: NDArray[np.int64], numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
        """Return the values [node, feature] of an interval, NaN where unobserved, and how many numbers had no weight.

        Args:
            nodes: [reading] index of the sensor.
            numbers: [reading, name] NaN where a reading does not have one.
        """
        columns = [self._feature(rule, column, nodes, numbers) for column, rule in enumerate(self._rules)]
        return np.stack([values for values, _ in columns], axis=-1), sum(unweighted for _, unweighted in columns)

    def read(self, sensor: str, reading: Reading) -> tuple[tuple[float, ...], int]:
        """Return a number or NaN for each name, and how many were dropped for the limits.

        Raises:
            StreamError: if it holds what is no number, or a name that is not read.
        """
        if reading is not None and not isinstance(reading, Mapping):
            if len(self.names) > 1:
                raise StreamError(
                    f"one number for sensor {sensor!r}",
                    f"numbers by name, of {list(self.names)}",
                    'name the numbers: {"speed": 61.5, "flow": 12}',
                    reason="reading",
                )
            reading = {self.names[0]: reading}
        values = [math.nan] * len(self.names)
        outside = 0
        for name, raw in (reading or {}).items():
            column = self._columns.get(name)
            if column is None:
                raise StreamError(
                    f"unknown name {name!r} in a reading of sensor {sensor!r}",
                    f"names among {list(self.names)}",
                    "correct the name",
                    reason="unknown_feature",
                )
            if raw is not None:
                values[column] = read_number(sensor, raw)
                if self._is_code(column, values[column]):
                    values[column] = math.nan
                elif not self._inside(column, values[column]):
                    outside += not math.isnan(values[column])
                    values[column] = math.nan
        return tuple(values), outside

    def _is_code(self, column: int, value: float) -> bool:
        """Return whether a number stands for no reading; compared as float32, as recordings are.

        Codes are numbers of an interval: one of many summands may be such a number and a reading.
        """
        if not self._manifest.no_data or column >= len(self._rules):
            return False
        if self._rules[column].how == "sum" and self._inside(column, value):
            return False
        with np.errstate(over="ignore"):
            return any(np.float32(value) == np.float32(code) for code in self._manifest.no_data[column])

    def _inside(self, column: int, value: float) -> bool:
        if column >= len(self._rules):  # a weight that is no feature
            return 0 <= value < math.inf
        low, high = self._manifest.limits[column]
        # Limits are those of the interval's value; one of many summands may be nearer to 0.
        return min(low, 0) <= value <= high if self._rules[column].how == "sum" else low <= value <= high

    def _feature(
        self, rule: Rule, column: int, nodes: NDArray[np.int64], numbers: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], int]:
        """Return one feature [node] of an interval, NaN where unobserved, and how many numbers had no weight."""
        values = numbers[:, column]
        weights = np.ones_like(values) if rule.weight is None else numbers[:, self._columns[rule.weight]]
        came = ~np.isnan(values)
        heard = came & (weights >= 0)
        unweighted = int(np.count_nonzero(came) - np.count_nonzero(heard))
        count = len(self._manifest.sensor_ids)
        weight = np.bincount(nodes[heard], weights[heard], count)
        total = np.bincount(nodes[heard], values[heard] * weights[heard], count)
        if rule.how == "mean":
            return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan), unweighted
        if self._period_s is None:
            return np.where(weight > 0, total, np.nan), unweighted
        expected = self._manifest.interval_s / self._period_s
        scaled = total * np.maximum(1, expected / np.maximum(weight, 1))
        return np.where((weight > 0) & (weight >= expected / 2), scaled, np.nan), unweighted
