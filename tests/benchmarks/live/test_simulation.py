"""The simulation of the live example: what is drawn for a day, and SUMO's part of it where SUMO is installed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from benchmarks.live.demand import DEMAND, TIMEZONE, midnight, plan_day
from benchmarks.live.history import as_array, intervals
from benchmarks.live.network import CORRIDORS
from benchmarks.live.simulation import PERIOD_S, Reading
from stunet_deploy.series.wall_clock import DAY_S

ROOT = Path(__file__).resolve().parents[3]
UNTIL = 1200


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("libsumo", reason="SUMO simulates the live example; comes with extra [live]")
    from benchmarks.live.network import read_network

    return read_network()


def test_days_are_weekdays_and_differ():
    days = [plan_day(day, 0, 46) for day in range(6)]

    assert [datetime.fromtimestamp(midnight(day), ZoneInfo(TIMEZONE)).strftime("%a %H") for day in range(6)] == [
        "Mon 00", "Tue 00", "Wed 00", "Thu 00", "Fri 00", "Mon 00",
    ]  # fmt: skip
    assert len({len(plan.vehicles) for plan in days}) == 6
    for plan in days:
        assert (np.diff(plan.vehicles) >= 0).all()
        assert 0 <= plan.vehicles[0] <= plan.vehicles[-1] < DAY_S
        assert all(0 <= incident.start < incident.end < DAY_S for incident in plan.incidents)
        assert len(plan.vehicles) == pytest.approx(sum(demand.trips for demand in DEMAND), rel=0.15)


def test_a_weekday_has_two_peaks():
    hourly = np.mean([np.histogram(plan_day(day, 0, 46).vehicles, 24, (0, DAY_S))[0] for day in range(5)], axis=0)

    assert hourly[7] > hourly[10] < hourly[16]
    assert hourly[3] < 0.2 * hourly[7]


def test_equal_seeds_draw_equal_days():
    one, same, other = plan_day(3, 7, 46), plan_day(3, 7, 46), plan_day(3, 8, 46)

    np.testing.assert_array_equal(one.vehicles, same.vehicles)
    assert one.incidents == same.incidents
    assert len(one.vehicles) != len(other.vehicles)


def test_readings_become_intervals_by_hand():
    readings = [Reading("A", 30 * (k + 1), 60.0 + k, k, 2.0) for k in range(10) if k != 9]
    readings += [Reading("A", 300 + 30 * (k + 1), None, 0, 0.0) for k in range(10)]
    readings += [Reading("A", 600 + 30, 50.0, 4, 1.0)]
    found = intervals(as_array(readings, ("A", "B"), 0, 900))

    # 0 + 1 + … + 8 vehicles in nine of ten readings; their mean speed weighs by vehicles.
    np.testing.assert_allclose(found[0, 0], [60 + sum(k * k for k in range(9)) / 36, 36 * 10 / 9, 2.0])
    np.testing.assert_array_equal(found[1, 0], [np.nan, 0, 0])
    np.testing.assert_array_equal(found[2, 0], [50, np.nan, 1])  # of one reading in ten no count can be made
    assert np.isnan(found[:, 1]).all()


def test_every_trip_and_incident_is_in_the_network(network):
    from benchmarks.live.simulation import routes_xml

    plan = plan_day(4, 0, len(network.names))
    few = replace(plan, vehicles=plan.vehicles[:500], demands=plan.demands[:500], trucks=plan.trucks[:500])
    root = ElementTree.parse(io.StringIO(routes_xml(network, few))).getroot()
    vehicles = root.findall("vehicle")

    assert len(root.findall("route")) == len(DEMAND)
    assert len(vehicles) == 500 + sum(incident.lane is not None for incident in plan.incidents)
    assert [float(v.get("depart", "")) for v in vehicles] == sorted(float(v.get("depart", "")) for v in vehicles)
    for incident in plan.incidents:
        assert 0 <= incident.offset_m < network.roads.getEdge(incident.edge).getLength()
        lane = f"{incident.edge}_{incident.lane or 0}"
        assert lane in {lane.getID() for lane in network.roads.getEdge(incident.edge).getLanes()}
        assert lane not in network.closed_lanes()


def test_detectors_lie_on_their_lanes_and_are_joined(network):
    distances = network.distances()

    assert len(set(network.names)) == len(network.names)
    for detector in network.detectors:
        assert detector.lanes
        assert 0 < detector.offset_m < network.roads.getEdge(detector.edge).getLength()
    first, second = (network.names.index(name) for name in ("A10E-1", "A10E-2"))
    eastbound = sum(network.roads.getEdge(edge).getLength() for edge in CORRIDORS[0].edges)
    assert distances[first, second] == pytest.approx(eastbound / CORRIDORS[0].detectors)
    assert np.isinf(distances[second, first])


@pytest.fixture(scope="module")
def twenty_minutes(network):
    command = [sys.executable, "-m", "benchmarks.live.simulation", "--day", "1", "--until", str(UNTIL)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_simulation_prints_readings_of_every_detector(network, twenty_minutes):
    readings = [json.loads(line) for line in twenty_minutes.splitlines()]
    whole = UNTIL // PERIOD_S * len(network.names)

    assert {reading["sensor"] for reading in readings} == set(network.names)
    assert 0.97 * whole < len(readings) < whole
    assert sum(reading["values"]["flow"] for reading in readings) > 0
    for reading in readings:
        values = reading["values"]
        assert midnight(1) < reading["timestamp"] <= midnight(1) + UNTIL
        assert (values["speed"] is None) == (values["flow"] == 0)
        assert values["speed"] is None or 0 < values["speed"] < 200
        assert 0 <= values["occupancy"] <= 100


def test_equal_seeds_simulate_equal_readings(twenty_minutes):
    command = [sys.executable, "-m", "benchmarks.live.simulation", "--day", "1", "--until", str(UNTIL)]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert again == twenty_minutes


def test_behind_a_place_are_the_detectors_that_one_passes_before(network):
    fifth = network.detectors[network.names.index("A10E-5")]
    behind = network.behind(fifth.edge, fifth.offset_m)

    assert [network.names[number] for number in behind] == ["A10E-1", "A10E-2", "A10E-3", "A10E-4"]
    assert network.behind(CORRIDORS[0].edges[0], 0.0) == []
