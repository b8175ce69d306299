from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime.readings import Readings
from stunet_deploy.errors import StreamError


@pytest.fixture
def reader(example):
    return Readings(example.bundle.manifest)


def test_array_and_mapping_of_the_same_readings_are_the_same_interval(reader):
    array = np.full((5, 2), np.nan)
    array[0] = 40, 0.25
    array[3, 0] = 12.5
    by_id = {"s3": {"speed": 12.5, "trend": None}, "s0": {"trend": 0.25, "speed": 40}, "s1": None}
    found = reader.read(by_id)
    assert found.same_readings(reader.read(array))
    np.testing.assert_array_equal(found.observed, ~np.isnan(array))
    np.testing.assert_array_equal(found.values, np.nan_to_num(array).astype(np.float32))


def test_what_is_marked_unobserved_is_dropped_whatever_it_holds(reader):
    values = np.full((5, 2), 0.5)
    mask = np.ones((5, 2))
    mask[2] = 0
    garbage = values.copy()
    garbage[2] = np.inf, 1e300
    found = reader.read(garbage, mask)
    assert found.same_readings(reader.read(values, mask))
    assert found.outside_limits == 0
    assert not found.observed[2].any()


def test_outside_the_limits_counts_as_unobserved_and_is_counted(reader):
    values = np.full((5, 2), 0.5)
    values[:, 0] = 80, 80.01, -0.01, np.inf, 1e300
    found = reader.read(values)
    assert found.outside_limits == 4
    np.testing.assert_array_equal(found.observed[:, 0], [True, False, False, False, False])
    assert found.observed[:, 1].all()


def test_a_code_for_no_data_counts_as_unobserved_and_not_as_outside_the_limits(example):
    manifest = example.bundle.manifest
    site = replace(manifest.site, no_data=((2046, 0.3), ()))
    reader = Readings(replace(manifest, site=site))
    values = np.full((5, 2), 0.5)
    values[:, 0] = 2046, 0.3, 80.01, 40, np.float32(0.3)
    values[0, 1] = 0.3
    array = reader.read(values)
    by_id = reader.read({f"s{node}": {"speed": speed, "trend": trend} for node, (speed, trend) in enumerate(values)})
    assert array.same_readings(by_id)
    np.testing.assert_array_equal(array.observed[:, 0], [False, False, False, True, False])
    assert array.observed[:, 1].all()
    assert array.outside_limits == by_id.outside_limits == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 2)), r"values of shape \[4, 2\]"),
        (np.zeros(5), r"values of shape \[5\]"),
        (np.zeros((1, 5, 2)), r"shape \[1, 5, 2\]"),
        ([["a", "b"]] * 5, "no array of numbers"),
        ([[1], [1, 2]], "no array of numbers"),
        (None, "values"),
        ({"s9": 1.0}, "'s9'"),
        ({"s0": 1.0}, "one number for sensor 's0'"),
        ({"s0": {"flow": 1.0}}, "unknown feature 'flow'"),
        ({"s0": {"speed": "40"}}, "reading '40'"),
        ({"s0": {"speed": True}}, "reading True"),
        ({"s0": {"speed": 10**400}}, "reading 1000"),
    ],
)
def test_what_cannot_be_read_is_refused(reader, values, message):
    with pytest.raises(StreamError, match=message):
        reader.read(values)


def test_unknown_sensors_may_be_ignored(example):
    reader = Readings(example.bundle.manifest, ignore_unknown=True)
    found = reader.read({"s9": 1.0, "x": "what", "s1": {"speed": 3}})
    assert found.unknown == 2
    assert found.observed.sum() == 1


def test_an_unknown_sensor_is_refused_with_what_to_do(example):
    manifest = example.bundle.manifest
    site = replace(manifest.site, sensor_ids=("773869", "s1", "s2", "s3", "s4"))
    manifest = replace(manifest, site=site)
    for sensor, advice in (("s9", "ignore_unknown = true"), (773869, 'write it as text, "773869"')):
        with pytest.raises(StreamError, match=advice):
            Readings(manifest).read({sensor: 1.0})


def test_mask_beside_a_mapping_or_of_another_shape_is_refused(reader):
    with pytest.raises(StreamError, match="leave unobserved sensors out"):
        reader.read({}, np.ones((5, 2)))
    with pytest.raises(StreamError, match="observed of shape"):
        reader.read(np.zeros((5, 2)), np.ones(5))


def test_nobody_heard_is_an_interval_of_unobserved_readings(reader):
    assert reader.read({}).same_readings(reader.nothing())


@pytest.fixture
def speeds(example):
    """Return a reader of the same sensors with a single feature."""
    manifest = example.bundle.manifest
    site = replace(manifest.site, features=("speed",), units=("mph",))
    return Readings(replace(manifest, site=site, limits=((0.0, 80.0),)))


@pytest.mark.parametrize("kind", [float, int, np.float32])
def test_plain_numbers_by_sensor_are_read_in_any_order(speeds, kind):
    by_id = {"s3": kind(12), "s0": kind(40), "s1": None, "s4": kind(81)}
    found = speeds.read(by_id)
    assert found.same_readings(speeds.read([40, np.nan, np.nan, 12, 81]))
    np.testing.assert_array_equal(found.values[:, 0], np.array([40, 0, 0, 12, 0], np.float32))
    assert (found.outside_limits, found.unknown) == (1, 0)
    assert found.same_readings(speeds.read({sensor: {"speed": number} for sensor, number in by_id.items()}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"s0": 40.0, "s1": True}, "reading True of sensor 's1'"),
        ({"s0": 40.0, "s1": "12"}, "reading '12' of sensor 's1'"),
        ({"s0": 40.0, "s1": 10**400}, "reading 1000.* of sensor 's1'"),
        ({"s0": 40.0, "s9": 12.0}, "'s9'"),
    ],
)
def test_one_reading_that_is_no_number_is_refused_by_name(speeds, values, message):
    with pytest.raises(StreamError, match=message):
        speeds.read(values)
