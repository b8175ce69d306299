"""The site: a sensor network and its clock, on which recordings, checkpoints and bundles have to agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError

_DAY_S = 86_400
_AT_LEAST, _AT_MOST = 12, 10_000
#: Readings are float32.
LARGEST_READING = float(np.finfo(np.float32).max)
#: Whether the time stamp of an interval is its start or its end.
Stamp = Literal["start", "end"]


@dataclass(frozen=True)
class Site:
    """The sensors of a network, what they measure, and the grid of their intervals.

    Attributes:
        sensor_ids: in the order of the node axis.
        features: names of the quantities, in the order of the feature axis.
        units: unit of each feature; empty where it is unknown.
        interval_s: length of an interval in seconds.
        stamp: whether a time stamp is an interval's ``start`` or ``end``.
        timezone: IANA zone of the local time that the time features follow.
        latitude, longitude: coordinates of the sensors in degrees, or None.
        no_data: numbers of each feature that stand for no reading, such as 2046; empty where no feature has any.

    Raises:
        DataError: if sensor ids are empty or repeat, lengths disagree, or interval, stamp or a code is out of range.
    """

    sensor_ids: tuple[str, ...]
    features: tuple[str, ...]
    units: tuple[str, ...]
    interval_s: int
    stamp: Stamp = "start"
    timezone: str = "UTC"
    latitude: tuple[float, ...] | None = None
    longitude: tuple[float, ...] | None = None
    no_data: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.units) != len(self.features):
            raise DataError(
                f"{len(self.units)} units for {len(self.features)} features",
                "one unit per feature",
                "give an empty unit where none is known",
            )
        if self.no_data and len(self.no_data) != len(self.features):
            raise DataError(
                f"codes for no data of {len(self.no_data)} features",
                f"those of each of the {len(self.features)} features",
                "give an empty list where there is none",
            )
        beyond = [code for codes in self.no_data for code in codes if not abs(code) <= LARGEST_READING]
        if beyond:
            raise DataError(
                f"{beyond[0]:g} as a code for no data",
                "a number that a reading can be, in float32",
                "name the number that the file has",
            )
        for name in ("latitude", "longitude"):
            degrees = getattr(self, name)
            if degrees is not None and len(degrees) != len(self.sensor_ids):
                raise DataError(
                    f"{name} of {len(degrees)} sensors",
                    f"one value for each of the {len(self.sensor_ids)} sensors",
                    f"correct {name} or leave it out",
                )
        _check_ids(self.sensor_ids)
        if self.stamp not in ("start", "end"):
            raise DataError(f"stamp {self.stamp!r}", "'start' or 'end'", "correct the stamp of the series")
        if self.interval_s < 1:
            raise DataError(
                f"an interval of {self.interval_s} s", "at least one second", "give the interval in seconds"
            )

    def feature_indices(self, names: Sequence[str] | None = None) -> list[int]:
        """Positions of the named features on the feature axis, in the order of the names; all for None.

        Raises:
            DataError: a name is no feature of the site.
        """
        wanted = self.features if names is None else names
        unknown = [name for name in wanted if name not in self.features]
        if unknown:
            raise DataError(
                f"feature {unknown[0]!r}",
                f"one of {', '.join(self.features)}",
                "choose another, or data with that feature",
            )
        return [self.features.index(name) for name in wanted]

    def unit_of(self, names: Sequence[str]) -> str:
        """Return the unit that the named features share; empty where it is unknown or they have several."""
        units = {unit for name, unit in zip(self.features, self.units, strict=True) if name in names}
        return units.pop() if len(units) == 1 else ""

    def selected(self, nodes: Sequence[int], features: Sequence[int]) -> Site:
        """Return the site with just these positions of the node and feature axes, in this order."""

        def some(degrees: tuple[float, ...] | None) -> tuple[float, ...] | None:
            return None if degrees is None else tuple(degrees[node] for node in nodes)

        return replace(
            self,
            sensor_ids=tuple(self.sensor_ids[node] for node in nodes),
            features=tuple(self.features[feature] for feature in features),
            units=tuple(self.units[feature] for feature in features),
            latitude=some(self.latitude),
            longitude=some(self.longitude),
            no_data=tuple(self.no_data[feature] for feature in features) if self.no_data else (),
        )

    def code_in(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return where readings ``[..., feature]`` are a code that stands for none; compared as float32."""
        found = np.zeros(values.shape, np.bool_)
        for feature, codes in enumerate(self.no_data):
            with np.errstate(over="ignore"):  # what is beyond float32 is no code
                found[..., feature] = np.isin(values[..., feature].astype(np.float32), np.array(codes, np.float32))
        return found

    def check_interval(self, other: Site, what: str) -> None:
        """Refuse data of intervals of another length than this site's.

        Args:
            other: the site of the data.
            what: names the data in the error.

        Raises:
            DataError: naming both lengths.
        """
        if other.interval_s != self.interval_s:
            raise DataError(
                f"{what} with intervals of {other.interval_s} s",
                f"{self.interval_s} s, as the model was trained",
                "aggregate the readings to the model's interval",
            )

    def check_same(self, other: Site, what: str) -> None:
        """Refuse data of another network, order of sensors or features, or clock than this site's.

        Units and coordinates are descriptions, not compared.

        Args:
            other: the site of the data.
            what: names the data in the error.

        Raises:
            DataError: naming the first difference.
        """
        self.check_interval(other, what)
        if (other.sensor_ids, other.features) != (self.sensor_ids, self.features):
            raise DataError(
                f"{what} of {len(other.sensor_ids)} sensors and the features {', '.join(other.features)}",
                f"the {len(self.sensor_ids)} sensors and {', '.join(self.features)} of the model, in its order",
                "bring it into that order with Series.fitted_to",
            )
        if (other.stamp, other.timezone) != (self.stamp, self.timezone):
            raise DataError(
                f"{what} stamped with the {other.stamp} of intervals, in the time zone {other.timezone}",
                f"the {self.stamp}, in {self.timezone}",
                "bring it onto that clock with Series.fitted_to",
            )


def longest_gap(interval_s: int) -> int:
    """Return how many missing intervals in a row are an outage to bridge: less than a day of them.

    More are a break, after which a recording or a stream begins anew. Of a coarse grid a dozen are bridged, however
    long; of a fine one no more than a stream can catch up with.
    """
    return max(_AT_LEAST, min(_AT_MOST, (_DAY_S - 1) // interval_s))


class AtSite:
    """The facts of a :class:`Site` as properties of what holds one."""

    site: Site

    @property
    def sensor_ids(self) -> tuple[str, ...]:
        """One id per node, in the order of the node axis."""
        return self.site.sensor_ids

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, such as ``("speed",)``."""
        return self.site.features

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each feature; empty where it is unknown."""
        return self.site.units

    @property
    def interval_s(self) -> int:
        """Length of an interval in seconds."""
        return self.site.interval_s

    @property
    def stamp(self) -> Stamp:
        """Whether a time stamp is the start or the end of its interval."""
        return self.site.stamp

    @property
    def timezone(self) -> str:
        """IANA zone of the local time that the time features follow."""
        return self.site.timezone

    @property
    def no_data(self) -> tuple[tuple[float, ...], ...]:
        """Numbers of each feature that stand for no reading; empty where there are none."""
        return self.site.no_data

    @property
    def latitude(self) -> tuple[float, ...] | None:
        """Degrees north of each sensor, where they are known."""
        return self.site.latitude

    @property
    def longitude(self) -> tuple[float, ...] | None:
        """Degrees east of each sensor, where they are known."""
        return self.site.longitude


def _check_ids(sensor_ids: tuple[str, ...]) -> None:
    if "" in sensor_ids:
        raise DataError(
            f"sensor {sensor_ids.index('') + 1} without an id",
            "a name for every sensor",
            "name or drop the column",
        )
    if len(set(sensor_ids)) == len(sensor_ids):
        return
    repeated = next(name for name, count in Counter(sensor_ids).items() if count > 1)
    raise DataError(
        f"sensor id {repeated!r} more than once", "distinct sensor ids", "rename or drop the repeated column"
    )
