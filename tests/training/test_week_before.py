"""The memory at a training row: that of a stream which has run through the rows before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stunet_deploy.models.memory import DAYS_BEFORE, WeekMemory
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.preparation import prepare_signal
from training.protocols import choose_protocol
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
@pytest.mark.parametrize("interval_s", [300, 600, 1200, 7200])
def test_the_memory_before_a_row_is_that_of_a_stream(interval_s: int, breaks: bool) -> None:
    series = recording(interval_s, 12 if interval_s < 1200 else 24, breaks)
    split = choose_protocol(series, "a", 3, 3)
    signal = prepare_signal(series, split, ("speed",))
    days = UsualDays.of(series, split.train_rows, ("speed",), DAYS_BEFORE)
    memory = WeekMemory(float(interval_s), 3, 1)

    week = WeekBefore.of(memory, signal, series, days)

    first = [0, 1, 6, 150, len(series.timestamps) // 2, len(series.timestamps) - 40]
    looked = week.looked(torch.tensor(first)[:, None])
    nothing = {state.name: torch.zeros(state.with_batch(1)) for state in memory.states(NODES)}
    seconds = torch.from_numpy(series.time_of_week())[None, :, None]
    for place, row in enumerate(first):
        day = int(days.day[row])
        departures = days.departures(days.without(day) if day in days.training else days.table)
        departed = torch.from_numpy(departures / signal.target_scale[0])[None]
        stream, _ = memory.sequence(departed[:, : row + 1], seconds[:, : row + 1], nothing, torch.tensor([row]))
        # Where readings miss, or the slot is not over yet, the change of the table is taken as a whole.
        whole = not breaks and memory.slot_s == interval_s
        tolerance = 1e-5 if whole or day not in days.training else 0.5
        torch.testing.assert_close(looked.departures[place], stream.departures[0], rtol=0, atol=tolerance)
        assert looked.known[place].equal(stream.known[0])
    some = week.looked(torch.tensor(first)[:, None], torch.tensor([False, True] * 3))
    for part, whole in zip(some, looked, strict=True):
        assert not part[::2].any()
        assert part[1::2].equal(whole[1::2])
