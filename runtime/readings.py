"""Readings of one interval as they come from the field, brought into the order that the model knows."""

from __future__ import annotations

from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.errors import StreamError, shown
from stunet_deploy.manifest import Manifest

#: One sensor's reading: a number, None where unobserved, or numbers by feature.
Reading = float | None | Mapping[str, float | None]
#: One interval's readings: [node, feature], [node] for a single feature, or by sensor id in any order.
Values = ArrayLike | Mapping[str, Reading]
#: Types of readings of a single feature that need no look at each of them; None becomes NaN.
_PLAIN = frozenset({float, int, type(None)})


class Interval(NamedTuple):
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
        manifest: sensors, features, limits and codes for no data.
        ignore_unknown: skip sensor ids that the bundle does not have, instead of refusing them.
    """

    def __init__(self, manifest: Manifest, *, ignore_unknown: bool = False) -> None:
        self._shape = (len(manifest.sensor_ids), len(manifest.features))
        self._nodes = {sensor: node for node, sensor in enumerate(manifest.sensor_ids)}
        self._features = {feature: column for column, feature in enumerate(manifest.features)}
        # Rounded as in the graph; in float64, as readings mostly come, and one per reading: comparing is twice as fast.
        low, high = np.array(manifest.limits, np.float32).astype(np.float64).reshape(-1, 2).T
        self._low, self._high = (np.tile(limit, (self._shape[0], 1)) for limit in (low, high))
        self._ignore_unknown = ignore_unknown
        self._code_in = manifest.site.code_in if manifest.no_data else None

    def nothing(self) -> Interval:
        """Return an interval in which no sensor was heard."""
        return Interval(np.zeros(self._shape, np.float32), np.zeros(self._shape, np.bool_))

    def read(self, values: Values, observed: ArrayLike | None = None) -> Interval:
        """Read one interval; see :data:`Values`.

        NaN, None, what is absent, outside the limits or a code of the manifest's ``no_data`` counts as unobserved.

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
        if self._code_in is not None:
            array = np.where(self._code_in(array), np.nan, array)
        # A push has microseconds for this: NaN is inside no limits, and a full interval needs nothing more.
        seen = (array >= self._low) & (array <= self._high)
        if observed is not None:
            heard = self._to_array(observed, "observed") != 0
            outside_limits = int(np.count_nonzero(heard & ~seen & ~np.isnan(array)))
            seen &= heard
        elif np.count_nonzero(seen) == seen.size:
            return Interval(array.astype(np.float32), seen, 0, unknown)
        else:
            outside_limits = int(np.count_nonzero(~seen & ~np.isnan(array)))
        kept = np.zeros(self._shape, np.float32)
        np.copyto(kept, array, where=seen, casting="unsafe")
        return Interval(kept, seen, outside_limits, unknown)

    def _to_array(self, values: ArrayLike, name: str) -> NDArray[Any]:
        try:
            array = np.asarray(values)
            # None makes an array of objects; text, times and complex numbers would be cast without a word.
            if array.dtype.kind not in "fiubO":
                raise TypeError(f"{array.dtype}")
            array = array.astype(np.float64) if array.dtype.kind == "O" else array
        except (TypeError, ValueError, OverflowError) as error:
            raise self._misshapen(f"{name} that are no array of numbers ({error})") from error
        if self._shape[1] == 1 and array.ndim == 1:
            array = array[:, None]
        if array.shape != self._shape:
            raise self._misshapen(f"{name} of shape {list(array.shape)}")
        return array

    def _misshapen(self, came: str) -> StreamError:
        return StreamError(
            came,
            f"numbers [node, feature] of shape {list(self._shape)} in the order of the manifest",
            "give the readings by sensor id, or in the order that 'stunet inspect' lists",
            reason="shape",
        )

    def _from_mapping(self, values: Mapping[str, Reading]) -> tuple[NDArray[np.float64], int]:
        unknown = [sensor for sensor in values if sensor not in self._nodes]
        if unknown and not self._ignore_unknown:
            raise StreamError(
                f"{len(unknown)} sensor ids that the bundle does not have, such as {unknown[0]!r}",
                f"ids among its {len(self._nodes)} sensors",
                advice_on_unknown(unknown[0], self._nodes),
                reason="unknown_sensor",
            )
        if len(self._features) == 1 and _PLAIN.issuperset(map(type, values.values())):
            with suppress(OverflowError):  # an integer beyond float64, which is refused by name below
                return np.array([*map(values.get, self._nodes)], np.float64)[:, None], len(unknown)
        array = np.full(self._shape, np.nan)
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


def advice_on_unknown(sensor: object, known: Container[str]) -> str:
    """Return the advice for a sensor id that is not among the known ones."""
    if isinstance(sensor, int) and str(sensor) in known:
        return f'write it as text, "{sensor}": ids are text, even if they look like numbers'
    return "correct the id, or have unknown sensors skipped by ignore_unknown = true"


def read_number(sensor: str, reading: object) -> float:
    """Return one reading as a number.

    Raises:
        StreamError: if it is not a number.
    """
    if isinstance(reading, (int, float, np.number)) and not isinstance(reading, bool):
        try:
            return float(reading)
        except (OverflowError, TypeError):  # an integer beyond float64, a complex number
            pass
    raise StreamError(
        f"reading {shown(reading)} of sensor {sensor!r}",
        "a number, or null where unobserved",
        "correct the reading",
        reason="reading",
    )
