from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.bench.resampling import (
    block_length,
    compare_samples,
    draw_blocks,
    drawn_percentiles,
    percentile_intervals,
)
from runtime.timing import Samples
from stunet_deploy.errors import DataError

CASE = "onnxruntime fp32, 1 thread"
Latencies = dict[tuple[str, str], Samples]


@pytest.fixture(scope="module")
def recorded() -> Latencies:
    """Latencies of 1,000 forecasts for 207 sensors in each loop, on a machine that was busy with other work."""
    text = (Path(__file__).parent / "recorded_latencies.json").read_text(encoding="utf-8")
    return {(CASE, loop): Samples(np.array(values)) for loop, values in json.loads(text).items()}


def test_a_draw_is_made_of_blocks_that_go_on_at_the_beginning() -> None:
    drawn = draw_blocks(100, 50, np.random.default_rng(1))

    assert drawn.shape == (50, 100)
    assert block_length(100) == 10
    inside = np.diff(drawn.reshape(50, 10, 10), axis=2) % 100
    assert (inside == 1).all()
    assert (drawn.reshape(50, 10, 10)[:, :, 0] > 90).any()


def test_drawn_percentiles_are_of_the_rank_that_samples_report() -> None:
    values = np.random.default_rng(2).permutation(np.arange(1, 1001)) * 1000

    (drawn,) = drawn_percentiles([values], [50.0, 99.0], np.random.default_rng(3), 5)

    rng = np.random.default_rng(3)
    for row, index in zip(drawn, draw_blocks(1000, 5, rng), strict=True):
        samples = Samples(values[index])
        assert row.tolist() == [samples.percentile(50), samples.percentile(99)]


def test_a_run_with_itself_differs_in_nothing(recorded: Latencies) -> None:
    found = compare_samples(recorded, recorded, np.random.default_rng(4))

    assert [(each.loop, each.percent) for each in found] == [
        ("closed_loop", 50),
        ("closed_loop", 99),
        ("open_loop", 50),
        ("open_loop", 99),
    ]
    assert all((each.low_us, each.high_us, each.differs) == (0, 0, False) for each in found)


def test_two_draws_of_a_recorded_run_differ_in_five_of_a_hundred_at_most(recorded: Latencies) -> None:
    rng = np.random.default_rng(5)

    def again() -> Latencies:
        return {
            key: Samples(samples.nanoseconds[draw_blocks(len(samples.nanoseconds), 1, rng)[0]])
            for key, samples in recorded.items()
        }

    agreed = sum(
        not any(each.differs for each in compare_samples(again(), again(), rng, repetitions=300)) for _ in range(100)
    )

    assert agreed >= 95


def test_a_slower_run_is_found_and_by_how_much(recorded: Latencies) -> None:
    slower = {key: Samples(samples.nanoseconds * 12 // 10) for key, samples in recorded.items()}

    median, *_ = compare_samples(recorded, slower, np.random.default_rng(6))

    assert median.differs
    assert median.to_json()["ratio"] == pytest.approx(1.2, abs=0.001)
    assert median.low_us <= median.b_us - median.a_us <= median.high_us


def test_runs_of_different_lengths_are_compared(recorded: Latencies) -> None:
    half = {key: Samples(samples.nanoseconds[:400] * 3) for key, samples in recorded.items()}

    found = compare_samples(recorded, half, np.random.default_rng(7))

    assert [(each.loop, each.percent) for each in found] == [("closed_loop", 50), ("open_loop", 50)]
    assert all(each.differs for each in found)


def test_runs_with_nothing_in_common_are_refused(recorded: Latencies) -> None:
    other = {("tensorrt fp16, 1 thread", loop): samples for (_, loop), samples in recorded.items()}

    with pytest.raises(DataError, match="in common"):
        compare_samples(recorded, other, np.random.default_rng(8))


def test_an_interval_surrounds_its_percentile_and_is_missing_without_enough_samples(recorded: Latencies) -> None:
    samples = recorded[CASE, "closed_loop"]

    intervals = percentile_intervals(samples, [50.0, 99.0, 99.9], np.random.default_rng(9))

    for percent in (50.0, 99.0):
        interval, value = intervals[percent], samples.percentile(percent)
        assert interval is not None
        assert value is not None
        assert interval[0] <= value <= interval[1]
    assert intervals[99.9] is None
