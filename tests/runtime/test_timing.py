from __future__ import annotations

import json
import platform
import subprocess
import sys

import numpy as np
import pytest

from runtime.timing import Samples, environment, interleave, measure, paired_ratio, rss_mb
from stunet_deploy.errors import ConfigError
from tests.paths import ROOT


def test_percentiles_are_measured_values_and_only_where_there_are_enough():
    samples = Samples(np.arange(1, 1001, dtype=np.int64)[::-1] * 1000)
    assert [samples.percentile(p) for p in (90, 95, 99)] == [900, 950, 990]
    assert samples.percentile(99.9) is None
    assert Samples(np.ones(10_000, np.int64)).percentile(99.9) == 0.001
    assert Samples(np.ones(99, np.int64)).percentile(90) is None
    assert Samples(np.ones(100, np.int64)).percentile(90) == 0.001
    summary = samples.summary()
    assert (summary["count"], summary["min_us"], summary["max_us"]) == (1000, 1, 1000)
    assert (summary["median_us"], summary["mean_us"], summary["jitter_us"]) == (500, 500.5, 490)
    few = Samples(np.array([3000, 1000, 2000])).summary()
    assert (few["median_us"], few["p90_us"], few["jitter_us"]) == (2, None, None)


def test_measure_calls_warm_up_and_repeats():
    calls = []
    samples = measure(lambda: calls.append(0), warm_up=3, repeats=7)
    assert len(calls) == 10
    assert len(samples.nanoseconds) == 7
    assert (samples.nanoseconds >= 0).all()


def test_interleave_takes_turns():
    order = []
    samples = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, warm_up=1)
    assert "".join(order) == "abababab"
    assert [len(each.nanoseconds) for each in samples.values()] == [3, 3]


def test_ratio_is_the_median_of_rounds():
    slower, faster = Samples(np.array([10, 20, 1000])), Samples(np.array([5, 5, 0]))
    assert paired_ratio(slower, faster) == 4
    with pytest.raises(ConfigError, match="same rounds"):
        paired_ratio(slower, Samples(np.array([1])))


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ConfigError, match="at least one"):
        measure(lambda: None, warm_up=0, repeats=0)


def test_environment_is_json_and_names_versions():
    found = json.loads(json.dumps(environment()))
    assert found["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    assert found["cpu"]


def test_memory_grows_with_what_is_held():
    if rss_mb() is None:
        pytest.skip("resident memory is read on Linux only")
    # In a process of its own: one that has held more before may take the array from memory that it has kept.
    held = "before = rss_mb(); held = np.ones(8_000_000); print(rss_mb() - before)"
    code = f"import numpy as np; from runtime.timing import rss_mb; {held}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.8 * 64
