"""The memory at a training row: that of a stream which has run through the rows before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stunet_deploy.config import RunConfig, STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.memory import DAYS_BEFORE
from stunet_deploy.models.sensors import SensorStatistics
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.protocols import choose_protocol
from training.run import prepare_signal
from training.usual_days import UsualDays
from training.week_before import WeekBefore

NODES = 3


def recording(interval_s: int, days: int, breaks: bool) -> Series:
    """Two features of three sensors; with breaks, nothing is recorded at night, and a third of the readings miss."""
    rng = np.random.default_rng(2)
    times = 1_741_564_800 + interval_s * np.arange(days * 86_400 // interval_s)
    if breaks:
        times = times[times % 86_400 >= 6 * 3600]
    values = rng.uniform(10, 60, (len(times), NODES, 2)).astype(np.float32)
    site = Site(tuple("abc"), ("flow", "speed"), ("", "km/h"), interval_s)
    return Series(values, rng.random(values.shape) < (0.7 if breaks else 1), times, site)


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("interval_s", [1200, 3600, 7200])
def test_the_memory_before_a_row_is_that_of_a_stream(interval_s: int, breaks: bool) -> None:
    series = recording(interval_s, 24, breaks)
    config = RunConfig(STUNetConfig(hidden=0, horizon=3, window=3, profile=True, memory=True), targets=("speed",))
    split = choose_protocol(series, "a", 3, 3)
    signal = prepare_signal(series, split, ("speed",))
    days = UsualDays.of(series, split.train_rows, ("speed",), DAYS_BEFORE)
    sensors = SensorStatistics.neutral(NODES, 2, 1)._replace(scale=torch.tensor([[0.5], [1.0], [2.0]]))
    hierarchy = GraphHierarchy.build(np.eye(NODES), pool_levels=[0], chebyshev_order=1)
    model = STUNet(config.model, hierarchy, signal, torch.zeros(len(days.table), NODES, 1), sensors)
    memory = model.memory
    assert memory is not None

    week = WeekBefore.of(model, memory, series, days)

    first = [0, 1, 6, 150, 600 // (interval_s // 1200), len(series.timestamps) - 40]
    lines = week.lines(torch.tensor(first))
    nothing = {state.name: torch.zeros(state.with_batch(1)) for state in memory.states(NODES)}
    assert {name: line.shape[1] for name, line in lines.items()} == dict.fromkeys(nothing, len(first))
    seconds = torch.from_numpy(series.time_of_week())[None, :, None]
    for place, row in enumerate(first):
        day = int(days.day[row])
        departures = days.departures(days.without(day) if day in days.training else days.table)
        departed = torch.from_numpy(departures / signal.target_scale[0])[None] / model.scale
        _, stream = memory.sequence(departed[:, :row], seconds[:, :row], nothing)
        # Of a slot that is not complete yet, or where readings miss, the change of its table is taken as a whole.
        complete = not breaks and row * interval_s % memory.slot_s == 0
        tolerance = 1e-5 if complete or day not in days.training else 0.5
        for name, line in lines.items():
            torch.testing.assert_close(line[0, place], stream[name][0], rtol=0, atol=tolerance)
    some = week.lines(torch.tensor(first), torch.tensor([False, True] * 3))
    for name, line in lines.items():
        assert not some[name][0, ::2].any()
        assert some[name][0, 1::2].equal(line[0, 1::2])
