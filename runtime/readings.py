"""Readings of one interval as they come from the field, brought into the order that the model knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.bundle import Manifest
from stunet_deploy.errors import StreamError

#: One sensor's reading: a number, None where unobserved, or numbers by feature.
Reading = float | None | Mapping[str, float | None]
#: One interval's readings: [node, feature], [node] for a single feature, or by sensor id in any order.
Values = ArrayLike | Mapping[str, Reading]


@dataclass(frozen=True)
class Interval:
    """Readings of one interval in manifest order.

    Attributes:
        values: [node, feature] float32 in physical units; 0 where unobserved.
        observed: [node, feature] bool.
        outside_limits: number of readings that were dropped because they lie outside the manifest's limits.
        unknown: number of sensor ids that were ignored because the bundle does not have them.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    outside_limits: int = 0
    unknown: int = 0

    def same_readings(self, other: Interval) -> bool:
        """Return whether two intervals hold the same readings, bit for bit."""
        return np.array_equal(self.observed, other.observed) and np.array_equal(self.values, other.values)


class Readings:
    """Reads intervals for one bundle.

    Args:
        manifest: sensors, features and limits.
        ignore_unknown: skip sensor ids that the bundle does not have, instead of refusing them.
    """

    def __init__(self, manifest: Manifest, *, ignore_unknown: bool = False) -> None:
        self._shape = (len(manifest.sensor_ids), len(manifest.features))
        self._nodes = {sensor: node for node, sensor in enumerate(manifest.sensor_ids)}
        self._features = {feature: column for column, feature in enumerate(manifest.features)}
        self._low, self._high = np.array(manifest.limits, np.float32).reshape(-1, 2).T
        self._ignore_unknown = ignore_unknown

    def nothing(self) -> Interval:
        """Return an interval in which no sensor was heard."""
        return Interval(np.zeros(self._shape, np.float32), np.zeros(self._shape, np.bool_))

    def read(self, values: Values, observed: ArrayLike | None = None) -> Interval:
        """Read one interval; see :data:`Values`. NaN, None, absent and outside the limits count as unobserved.

        Raises:
            StreamError: if the shape is wrong, a sensor or feature is unknown, or a reading is not a number.
        """
        unknown = 0
        if isinstance(values, Mapping):
            if observed is not None:
                raise StreamError(
                    "readings by sensor id with an 'observed' array",
                    "one of them",
                    "leave unobserved sensors out",
                    reason="shape",
                )
            array, unknown = self._from_mapping(values)
        else:
            array = self._to_array(values, "values")
        # A push has microseconds for this: NaN is inside no limits, and a full interval needs nothing more.
        seen = (array >= self._low) & (array <= self._high)
        outside_limits = 0
        if observed is not None:
            heard = self._to_array(observed, "observed") != 0
            outside_limits = int(np.count_nonzero(heard & ~seen & ~np.isnan(array)))
            seen &= heard
        elif not seen.all():
            outside_limits = int(np.count_nonzero(~seen & ~np.isnan(array)))
        return Interval(np.where(seen, array, 0).astype(np.float32), seen, outside_limits, unknown)

    def _to_array(self, values: ArrayLike, name: str) -> NDArray[Any]:
        expected = f"numbers [node, feature] of shape {list(self._shape)} in the order of the manifest"
        action = "give the readings by sensor id, or in the order that 'stunet inspect' lists"
        try:
            array = np.asarray(values)
            # None makes an array of objects; text, times and complex numbers would be cast without a word.
            if array.dtype.kind not in "fiubO":
                raise TypeError(f"{array.dtype}")
            array = array.astype(np.float64) if array.dtype.kind == "O" else array
        except (TypeError, ValueError, OverflowError) as error:
            raise StreamError(
                f"{name} that are no array of numbers ({error})", expected, action, reason="shape"
            ) from error
        if self._shape[1] == 1 and array.ndim == 1:
            array = array[:, None]
        if array.shape != self._shape:
            raise StreamError(f"{name} of shape {list(array.shape)}", expected, action, reason="shape")
        return array

    def _from_mapping(self, values: Mapping[str, Reading]) -> tuple[NDArray[np.float64], int]:
        array = np.full(self._shape, np.nan)
        unknown = [sensor for sensor in values if sensor not in self._nodes]
        if unknown and not self._ignore_unknown:
            raise StreamError(
                f"{len(unknown)} sensor ids that the bundle does not have, such as {unknown[0]!r}",
                f"ids among its {len(self._nodes)} sensors",
                "correct the ids, or open the stream with ignore_unknown=True",
                reason="unknown_sensor",
            )
        for sensor, reading in values.items():
            node = self._nodes.get(sensor)
            if node is None or reading is None:
                continue
            if isinstance(reading, Mapping):
                for feature, number in reading.items():
                    if number is not None:
                        array[node, self._column(sensor, feature)] = read_number(sensor, number)
            elif len(self._features) == 1:
                array[node, 0] = read_number(sensor, reading)
            else:
                raise StreamError(
                    f"one number for sensor {sensor!r}",
                    f"a number for each of {list(self._features)}",
                    'name the features: {"' + sensor + '": {"feature": number}}',
                    reason="reading",
                )
        return array, len(unknown)

    def _column(self, sensor: str, feature: str) -> int:
        if feature not in self._features:
            raise StreamError(
                f"unknown feature {feature!r} of sensor {sensor!r}",
                f"one of {list(self._features)}",
                "correct the feature's name",
                reason="unknown_feature",
            )
        return self._features[feature]


def read_number(sensor: str, reading: object) -> float:
    """Return one reading as a number.

    Raises:
        StreamError: if it is none.
    """
    if isinstance(reading, (int, float, np.number)) and not isinstance(reading, bool):
        try:
            return float(reading)
        except (OverflowError, TypeError):  # an integer beyond float64, a complex number
            pass
    raise StreamError(
        f"reading {reading!r} of sensor {sensor!r}",
        "a number, or null where unobserved",
        "correct the reading",
        reason="reading",
    )
