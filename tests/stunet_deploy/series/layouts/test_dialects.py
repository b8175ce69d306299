"""What is read of a table is what was meant, whatever the dialect it is written in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stunet_deploy.series.series import read_series
from tests.stunet_deploy.series.layouts.dialects import WIDE_FEATURE, dialects, recordings, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dialects")


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_recording_comes_back_from_every_dialect(folder: Path, data: st.DataObject) -> None:
    recording = data.draw(recordings())
    dialect = data.draw(dialects(recording))

    series = read_series(write(recording, dialect, folder))

    assert sorted(series.sensor_ids) == sorted(recording.sensors)
    assert sorted(series.features) == sorted(recording.features if dialect.long else (WIDE_FEATURE,))
    nodes = [series.sensor_ids.index(sensor) for sensor in recording.sensors]
    features = [series.features.index(name) for name in recording.features] if dialect.long else [0]
    found = np.where(series.observed, series.values, np.nan)[:, nodes][:, :, features]
    np.testing.assert_array_equal(series.timestamps, recording.times)
    np.testing.assert_array_equal(found, recording.values.astype(np.float32))
