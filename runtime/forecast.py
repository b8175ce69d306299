"""A forecast: the values that a stream issues after an interval, with everything needed to use and to judge them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import visible_json
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time


@dataclass(frozen=True)
class Forecast:
    """A forecast of all sensors, issued after one interval.

    Attributes:
        values: [horizon, node, target] float32 in units of the targets.
        issued_s: stamp of the last interval seen, seconds since the epoch, UTC. Forecast step h (from 1) describes
            the interval whose stamp is ``issued_s + h * interval_s``, by the same start or end convention.
        observed_share: share of the sensors' readings that were observed in that interval, 0 … 1.
        reasons: why the forecast may be worse than usual: warming up, a bridged gap, too few sensors, a reset.
        step_us: time the model took, bridged intervals included, in microseconds.
        stream: name of the stream.
        manifest: of the bundle that forecast.
    """

    values: NDArray[np.float32]
    issued_s: int
    observed_share: float
    reasons: tuple[str, ...]
    step_us: float
    stream: str
    manifest: Manifest

    @property
    def degraded(self) -> bool:
        """Whether there is a reason to trust this forecast less."""
        return bool(self.reasons)

    @property
    def bundle_id(self) -> str:
        """Identity of the model."""
        return self.manifest.bundle_id

    @property
    def issued_at(self) -> datetime:
        """Stamp of the last interval seen, in UTC."""
        return _utc(self.issued_s)

    @property
    def valid_at(self) -> tuple[datetime, ...]:
        """Stamp of the interval that each forecast step describes, in UTC."""
        return tuple(
            _utc(self.issued_s + step * self.manifest.interval_s) for step in range(1, self.manifest.horizon + 1)
        )

    def to_json_line(self) -> str:
        """Return the forecast as one line of JSON, the same on every sink, without the line break."""
        # The text of a float32 is its shortest exact form; as a float64 the same number has 17 digits.
        texts = np.moveaxis(self.values, -1, 0).astype(str)
        data = {
            "bundle_id": self.bundle_id,
            "stream": self.stream,
            "issued_at": format_time(self.issued_s),
            "interval_s": self.manifest.interval_s,
            "horizons_min": self.manifest.horizons_min,
            "sensors": self.manifest.sensor_ids,
            "values": dict(zip(self.manifest.targets, texts.astype(np.float64).tolist(), strict=True)),
            "quantiles": None,
            "observed_share": round(self.observed_share, 6),
            "degraded": self.degraded,
            "reasons": self.reasons,
            "step_us": round(self.step_us, 1),
        }
        return visible_json(json.dumps(data, ensure_ascii=False, allow_nan=False))


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
