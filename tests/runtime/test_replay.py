from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime.replay import open_replay, replay_golden, replay_series
from runtime.stream import Stream
from stunet_deploy.bundle import GOLDEN
from stunet_deploy.errors import DataError
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site


def make_series(readings, sensors=("s0", "s1", "s2", "s3", "s4"), features=("speed", "trend"), **changes) -> Series:
    values, observed, timestamps = readings
    nodes = [int(sensor[1:]) % 5 for sensor in sensors]
    site = Site(tuple(sensors), tuple(features), ("",) * len(features), **({"interval_s": 300} | changes))
    values, observed = (array[:, nodes][..., : len(features)] for array in (np.nan_to_num(values), observed))
    return Series(values, observed, timestamps, site)


def forecasts(example, records):
    stream = Stream.open(example.bundle)
    return np.stack([stream.push(*record).values for record in records])


def test_a_series_replays_as_its_readings(example, readings):
    found = forecasts(example, replay_series(make_series(readings), example.bundle.manifest))
    np.testing.assert_allclose(found, example.forecast(*readings), rtol=1e-5, atol=1e-5)


def test_sensors_are_matched_by_id_and_absent_ones_are_unobserved(example, readings):
    values, observed, timestamps = readings
    series = make_series(readings, sensors=("s3", "s0", "s4"))
    found = forecasts(example, replay_series(series, example.bundle.manifest))
    seen = observed.copy()
    seen[:, [1, 2]] = False
    np.testing.assert_allclose(found, example.forecast(values, seen, timestamps), rtol=1e-5, atol=1e-5)


def test_features_are_matched_by_name(example, readings):
    series = make_series(readings)
    swapped = series.aligned(series.sensor_ids, ("trend", "speed"))
    manifest = example.bundle.manifest
    np.testing.assert_array_equal(
        forecasts(example, replay_series(swapped, manifest)), forecasts(example, replay_series(series, manifest))
    )


def test_stamps_are_brought_to_the_convention_of_the_bundle(example, readings):
    records = list(replay_series(make_series(readings, stamp="end"), example.bundle.manifest))
    assert [record.timestamp for record in records] == (readings[2] - 300).tolist()


def test_foreign_series_are_refused(example, readings):
    manifest = example.bundle.manifest
    speeds = replace(make_series(readings, features=("speed",)), source="speeds.csv")
    with pytest.raises(DataError, match=r"speeds\.csv with speed and without trend; expected speed, trend"):
        replay_series(speeds, manifest)
    with pytest.raises(DataError, match=r"1 of 3 sensors .* 's9'"):
        replay_series(make_series(readings, sensors=("s0", "s9", "s1")), manifest)
    with pytest.raises(DataError, match="1 of 1 sensors"):
        replay_series(make_series(readings, sensors=("s9",)), manifest, ignore_unknown=True)
    values, observed, timestamps = readings
    slow = (values, observed, timestamps[0] + 600 * np.arange(40))
    with pytest.raises(DataError, match="intervals of 600 s"):
        replay_series(make_series(slow, interval_s=600), manifest)
    records = replay_series(make_series(readings, sensors=("s0", "s9", "s1")), manifest, ignore_unknown=True)
    assert next(records).observed[[2, 3, 4]].sum() == 0


def test_a_golden_stream_replays_from_its_file(example):
    golden = example.bundle.golden()
    found = forecasts(example, open_replay(example.bundle.path / GOLDEN, example.bundle.manifest))
    np.testing.assert_allclose(found[golden.scored], golden.forecast, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found, forecasts(example, replay_golden(golden)))


def test_a_damaged_list_of_an_archives_files_is_said(example, tmp_path):
    content = (example.bundle.path / GOLDEN).read_bytes()
    place = content.index(b"PK\x01\x02")
    path = tmp_path / "recording.npz"
    path.write_bytes(content[:place] + b"XX" + content[place + 2 :])
    with pytest.raises(DataError, match="a damaged npz"):
        open_replay(path, example.bundle.manifest)


def test_a_csv_replays_between_two_times(tmp_path, build_example):
    example = build_example((1,))
    path = tmp_path / "readings.csv"
    rows = ["timestamp,sensor_id,speed,trend"]
    rows += [
        f"2012-03-01T{h:02d}:{m:02d}:00Z,s{n},{40 + n},0.5" for h in (8, 9) for m in range(0, 60, 5) for n in (0, 2)
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    records = list(open_replay(path, example.bundle.manifest, start="2012-03-01T08:30:00Z", stop=1_330_588_800 + 3600))
    assert [record.timestamp for record in records] == [1_330_588_800 + 300 * t for t in range(6, 12)]
    np.testing.assert_array_equal(records[0].observed.any(axis=1), [True, False, True, False, False])
    assert records[0].values[2].tolist() == [42, 0.5]


def test_days_in_a_folder_replay_as_one_recording(tmp_path, build_example):
    example = build_example((1,))
    for day in (2, 1):
        rows = [f"2012-03-0{day}T08:{m:02d}:00Z,s{n},{40 + n},{day}" for m in range(0, 60, 5) for n in range(5)]
        (tmp_path / f"{3 - day}.csv").write_text("\n".join(["timestamp,sensor_id,speed,trend", *rows]), "utf-8")
    records = [record for record in open_replay(tmp_path, example.bundle.manifest) if record.observed.any()]
    assert [record.values[0, 1] for record in records] == [1] * 12 + [2] * 12
