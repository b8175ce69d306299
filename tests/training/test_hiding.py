"""Hidden readings: how many, which, and that scores are held to the true values."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from stunet_deploy.errors import ConfigError
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.baselines import baselines
from training.evaluation import evaluate, table, to_json
from training.hiding import evaluate_hidden, hide
from training.protocols import protocol_a, protocol_b

HOURS = 3_600


def make_series(days: int = 12, nodes: int = 7, *, weekend_after: int | None = None) -> Series:
    """Half-hourly readings of two features, a tenth missing, 77 under what is missing."""
    rng = np.random.default_rng(9)
    rows = 48 * days
    timestamps = 1_335_830_400 + 1800 * np.arange(rows)
    if weekend_after is not None:
        timestamps[48 * weekend_after :] += 2 * 86_400
    values = rng.uniform(10, 70, (rows, nodes, 2)).astype(np.float32)
    observed = rng.random(values.shape) > 0.1
    return Series(
        values=np.where(observed, values, np.float32(77)),
        observed=observed,
        timestamps=timestamps,
        site=Site(tuple(f"s{node}" for node in range(nodes)), ("speed", "flow"), ("mph", "veh/h"), 1800),
    )


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.99])
def test_exactly_the_share_of_the_observed_readings_is_hidden(share: float) -> None:
    series = make_series()

    seen = hide(series, share, generator(), first_row=100)

    assert seen.observed[:100].sum() == series.observed[:100].sum()
    count = int(series.observed[100:].sum())
    assert count - seen.observed.sum() + series.observed[:100].sum() == round(share * count)
    assert not (seen.observed & ~series.observed).any()


@pytest.mark.parametrize("block_hours", [None, 0.5, 3, 7.5])
def test_nothing_is_left_under_a_hidden_reading_and_the_rest_is_untouched(block_hours: float | None) -> None:
    series = make_series()
    before = series.values.copy(), series.observed.copy()

    seen = hide(series, 0.4, generator(), block_hours=block_hours)

    assert (seen.values[~seen.observed] == 0).all()
    np.testing.assert_array_equal(seen.values[seen.observed], series.values[seen.observed])
    assert seen.values.dtype == np.float32
    np.testing.assert_array_equal(series.values, before[0])
    np.testing.assert_array_equal(series.observed, before[1])


@pytest.mark.parametrize("block_hours", [None, 6])
def test_shares_of_one_seed_are_nested_and_seeds_differ(block_hours: float | None) -> None:
    series = make_series()
    tenth, third, again, other = (
        hide(series, share, generator(seed), block_hours=block_hours).observed
        for share, seed in ((0.1, 1), (0.3, 1), (0.3, 1), (0.3, 2))
    )

    assert (third <= tenth).all()
    np.testing.assert_array_equal(third, again)
    assert (third != other).mean() > 0.2


def test_random_cells_are_spread_over_time_sensors_and_features() -> None:
    series = make_series(60)

    gone = series.observed & ~hide(series, 0.3, generator()).observed

    for axes in ((0, 1), (0, 2), (1, 2)):
        share = gone.sum(axis=axes) / series.observed.sum(axis=axes)
        assert abs(share.mean() - 0.3) < 0.02
    node_runs = gone[1:] & gone[:-1]
    assert node_runs.sum() / gone[1:].sum() == pytest.approx(0.3 * 0.9, abs=0.03)  # no cell knows its neighbour


def test_blocks_silence_whole_sensors_for_whole_blocks() -> None:
    series = replace(make_series(60), observed=np.ones((48 * 60, 7, 2), np.bool_))

    seen = hide(series, 0.3, generator(), block_hours=6).observed

    np.testing.assert_array_equal(seen[..., 0], seen[..., 1])
    assert 1 - seen.mean() == pytest.approx(0.3, abs=0.01)
    starts = set()
    for node in range(7):
        edges = np.flatnonzero(np.diff(seen[:, node, 0].astype(int))) + 1
        assert set(np.diff(edges) % 12) == {0}  # outages and pauses are whole blocks
        starts.add(int(edges[0] % 12))
    assert len(starts) > 2  # not all sensors at the same hours


def test_blocks_are_hours_on_the_clock_across_a_break() -> None:
    series = replace(make_series(10, 40, weekend_after=5), observed=np.ones((480, 40, 2), np.bool_))
    hours = series.timestamps // HOURS

    seen = hide(series, 0.5, generator(), block_hours=24).observed[..., 0]

    friday_night, monday = 239, 240
    assert hours[monday] - hours[friday_night] > 48
    assert 0.2 < (seen[friday_night] != seen[monday]).mean() < 0.8
    assert 0.35 < seen.mean() < 0.65


def test_what_cannot_be_hidden_is_refused_before_anything_is_scored() -> None:
    series = make_series()
    split = protocol_a(series, 6, 4)
    asked = []
    for shares in ((0.0, 1.0), (0.1, -0.1), (float("nan"),)):
        with pytest.raises(ConfigError, match="hidden share"):
            evaluate_hidden(series, split, lambda seen: asked.append(seen) or (), shares)
    for hours in (0.25, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="blocks of"):
            evaluate_hidden(series, split, lambda seen: asked.append(seen) or (), (0.0, 0.1), block_hours=hours)
    with pytest.raises(ConfigError, match="seed -1"):
        evaluate_hidden(series, split, lambda seen: asked.append(seen) or (), (0.1,), seed=-1)
    assert asked == []


@dataclass
class Oracle:
    """Forecasts the truth, and keeps what it was allowed to see."""

    truth: Series
    horizon: int
    seen: list[Series] = field(default_factory=list)
    name: str = "oracle"

    def window(self, series: Series, issue: np.ndarray, length: int) -> Iterator[np.ndarray]:
        self.seen.append(series)
        yield self.truth.values[issue[:, None] + np.arange(1, self.horizon + 1)]

    def stream(self, series: Series, start: int, issue: np.ndarray) -> Iterator[np.ndarray]:
        yield from self.window(series, issue, 1)


@pytest.mark.parametrize("block_hours", [None, 5])
def test_forecasts_are_held_to_the_truth_at_all_sensors(block_hours: float | None) -> None:
    series = make_series()
    split = protocol_a(series, 6, 4)
    oracle = Oracle(series, 4)

    shares = (0.0, 0.2, 0.5)
    results = evaluate_hidden(series, split, lambda seen: [oracle], shares, block_hours=block_hours)

    whole = evaluate(series, split, [Oracle(series, 4)])
    assert [result.mae for result in results] == [0] * len(results)
    assert [result.count for result in results] == [result.count for result in whole] * 3
    assert [result.hidden for result in results] == [share for share in shares for _ in whole]
    assert (oracle.seen[-1].observed <= oracle.seen[2].observed).all()  # nested
    test_rows = slice(split.test_start, None)
    assert oracle.seen[-1].observed[test_rows].mean() < 0.6 * series.observed[test_rows].mean()
    np.testing.assert_array_equal(oracle.seen[-1].observed[split.train_rows], series.observed[split.train_rows])


def test_baselines_see_the_hidden_inputs_and_are_fitted_on_whole_ones() -> None:
    series = make_series()
    smooth = 40 + 20 * np.sin(np.arange(len(series.values)) / 20)[:, None, None] + 0 * series.values
    series = replace(series, values=smooth.astype(np.float32))
    split = protocol_b(series, (8, 2, 2), window=6, horizon=4)

    results = evaluate_hidden(series, split, lambda seen: baselines(seen, split), (0.0, 0.3, 0.6), regimes=("window",))

    errors = {(r.model, r.hidden): r.mae for r in results if r.target == "speed" and r.horizon_minutes == 120}
    assert errors["persistence", 0.0] < errors["persistence", 0.3] < errors["persistence", 0.6]
    for name in ("historical_average", "time_of_day_average"):  # they do not look at the present
        assert errors[name, 0.6] == errors[name, 0.0]
    plain = evaluate(series, split, baselines(series, split), regimes=("window",))
    assert [r for r in plain if r.model == "persistence"] == [
        replace(r, hidden=None) for r in results if r.model == "persistence" and r.hidden == 0
    ]


def test_table_and_json_say_the_share() -> None:
    series = make_series()
    split = protocol_a(series, 6, 4)
    results = evaluate_hidden(
        series, split, lambda seen: baselines(seen, split, ("speed",)), (0, 0.1), targets=("speed",)
    )

    rows = to_json(series, split, results)["results"]
    assert [row["hidden"] for row in rows] == [0] * (len(rows) // 2) + [0.1] * (len(rows) // 2)
    lines = table(results).splitlines()
    assert len(lines) == 2 + 2 * 4 * 2
    assert len({len(line) for line in lines[1:]}) == 1
    assert sum("persistence, 10 % hidden" in line for line in lines) == 2
    assert sum("persistence, 0 % hidden" in line for line in lines) == 2
