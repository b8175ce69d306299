"""The live example without SUMO: four simulated hours of detector messages through the real service.

``readings.ndjson.gz`` is what ``python -m benchmarks.live.simulation --day 1`` printed from 15:30 to 19:30, in which
traffic is held up beyond the map and lanes are blocked; ``roads.csv`` is the graph of its detectors.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.networks import recorded_checkpoint
from benchmarks.live.comparison import UNUSUAL_KMH, compare, read_live_day
from benchmarks.live.demand import TIMEZONE, Incident, midnight
from benchmarks.live.history import FEATURES, INTERVAL_S, UNITS, as_array, intervals
from benchmarks.live.service import drive, read_lines, write_config
from benchmarks.live.simulation import Reading
from export.bundle import export_bundle
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.config import RunConfig, STUNetConfig
from stunet_deploy.errors import CheckFailed
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.site import Site

HERE = Path(__file__).parent
DAY = 1
START, STOP = midnight(DAY) + 31 * 1800, midnight(DAY) + 39 * 1800
WARM_UP = 12


@pytest.fixture(scope="module")
def lines():
    with gzip.open(HERE / "readings.ndjson.gz", "rt", encoding="utf-8") as file:
        return file.readlines()


@pytest.fixture(scope="module")
def messages(lines):
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def names(messages):
    return tuple(dict.fromkeys(message["sensor"] for message in messages))


@pytest.fixture(scope="module")
def singles(messages, names):
    """Return the single readings [period, detector, feature], NaN where there is none."""
    found = [Reading(message["sensor"], message["timestamp"], **message["values"]) for message in messages]
    return as_array(found, names, START, STOP)


@pytest.fixture(scope="module")
def readings(singles):
    """Return the intervals [interval, detector, feature], NaN where unobserved."""
    return intervals(singles)


@pytest.fixture(scope="module")
def past(names, readings):
    """Return the day before, on which nothing was measured but the same afternoon."""
    values = np.full((DAY_S // INTERVAL_S, *readings.shape[1:]), np.nan)
    values[186:234] = readings
    return Series(
        values=np.nan_to_num(values).astype(np.float32),
        observed=np.isfinite(values),
        timestamps=midnight(DAY) - DAY_S + INTERVAL_S * np.arange(len(values)),
        site=Site(names, FEATURES, UNITS, INTERVAL_S, timezone=TIMEZONE),
    )


@pytest.fixture(scope="module")
def forecasts(tmp_path_factory, past, lines):
    """Return the bundle of an untrained model and the forecasts of the service that ran on the excerpt with it."""
    folder = tmp_path_factory.mktemp("live")
    config = RunConfig(model=STUNetConfig(hidden=4), targets=("speed",))
    bundle = export_bundle(recorded_checkpoint(past, HERE / "roads.csv", config), folder / "model.bundle")
    write_config(folder / "service.toml", bundle.path, folder / "state")
    drive(folder / "service.toml", lines, folder / "forecasts.ndjson")
    return bundle, read_lines(folder / "forecasts.ndjson")


def test_the_service_forecasts_from_the_intervals_that_the_readings_make(forecasts, singles):
    bundle, found = forecasts
    low, high = np.array(bundle.manifest.limits).T
    # The assembler drops single readings outside the limits, of a sum only those above.
    inside = (singles >= low) & (singles <= high)
    assert np.isfinite(singles).sum() > inside.sum() > 0.99 * np.isfinite(singles).sum()
    taken = intervals(np.where(inside, singles, np.nan))
    stream = Stream.open(Bundle.load(bundle.path))
    expected = [stream.push(values, START + INTERVAL_S * t) for t, values in enumerate(taken)]
    stream.close()

    assert len(found) == len(taken) - 1  # the last interval is closed by the reading after it
    for line, whole in zip(found, expected, strict=False):
        assert line["issued_at"] == f"{whole.issued_at:%Y-%m-%dT%H:%M:%SZ}"
        assert line["observed_share"] == pytest.approx(whole.observed_share)
        np.testing.assert_allclose(line["values"]["speed"], whole.values[..., 0], rtol=1e-4, atol=1e-3)
    assert [line["degraded"] for line in found] == [t < WARM_UP - 1 for t in range(len(found))]


def test_forecasts_are_compared_with_what_then_happened(forecasts, messages, past, readings):
    _, found = forecasts
    day = read_live_day(messages, found, past)
    mae = compare(day)
    speed = readings[..., 0]

    np.testing.assert_array_equal(day.actual, speed)
    assert day.first == WARM_UP - 1
    for ahead in (1, 3, 12):
        model, last, unusual = [], [], 0
        for t in range(WARM_UP - 1, len(speed) - 12):
            for node in range(speed.shape[1]):
                if np.isnan(label := speed[t + ahead, node]):
                    continue
                seen = speed[: t + 1, node]
                model.append(abs(found[t]["values"]["speed"][ahead - 1][node] - label))
                last.append(abs(seen[np.isfinite(seen)][-1] - label))
                unusual += abs(day.usual[t + ahead, node] - label) >= UNUSUAL_KMH
        assert mae["all day"]["ST-UNet, streamed"][ahead - 1] == pytest.approx(np.mean(model))
        assert mae["all day"]["persistence"][ahead - 1] == pytest.approx(np.mean(last))
        assert mae["all day"]["time of day"][ahead - 1] == pytest.approx(0, abs=1e-4)  # the day before was the same
        assert mae["labels"]["all day"][ahead - 1] == len(model)
        assert mae["labels"]["unusual traffic"][ahead - 1] == unusual == 0


def test_traffic_that_differs_from_the_days_before_is_counted_apart(forecasts, messages, past):
    _, found = forecasts
    calm = np.where(past.observed, past.values, 0.0).astype(np.float32)
    calm[..., 0] = np.where(past.observed[..., 0], 90.0, 0.0)
    day = read_live_day(messages, found, Series(**{**vars(past), "values": calm}))
    mae = compare(day)

    assert (day.usual == 90).all()
    assert 0 < mae["labels"]["unusual traffic"][0] < mae["labels"]["all day"][0]
    assert mae["unusual traffic"]["time of day"][0] >= UNUSUAL_KMH


@pytest.mark.parametrize("incidents", [(), (Incident(3600, 5400, "264308376", speed=2.7),)], ids=["calm", "incident"])
def test_the_picture_is_drawn(forecasts, messages, past, tmp_path, incidents):
    pytest.importorskip("sumolib", reason="the roads in the picture come with SUMO; extra [live]")
    from benchmarks.live.network import read_network
    from benchmarks.live.pictures import draw

    _, found = forecasts
    draw(tmp_path / "live.png", read_live_day(messages, found, past), read_network(), incidents)
    content = (tmp_path / "live.png").read_bytes()

    assert content.startswith(b"\x89PNG")
    assert len(content) < 250_000


def test_a_service_that_fails_is_not_passed_over(tmp_path, lines):
    write_config(tmp_path / "service.toml", tmp_path / "nothing.bundle", tmp_path / "state")

    with pytest.raises(CheckFailed, match="exit code 2"):
        drive(tmp_path / "service.toml", lines, tmp_path / "forecasts.ndjson")


def test_a_simulation_that_cannot_run_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['sumolib'] = sys.modules['sumo'] = None\n"
        "from benchmarks.live.network import read_network\nread_network()"
    )
    root = HERE.parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)

    assert "stunet-deploy[live]" in done.stderr


def test_the_graph_joins_every_detector(names):
    graph = read_graph(HERE / "roads.csv", names)

    weights = graph.adjacency.dense()
    assert ((weights + weights.T).sum(axis=1) > 0).all()
