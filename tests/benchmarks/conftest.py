"""Benchmarks run whole, in their short form: the harness is tested, not the time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.network import small_bundle
from tests.sharing import Shared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the benchmarks' short forms, and the forecasts of the live example's excerpt, to .ci/run."""
    for item in items:
        if "run_benchmark" in getattr(item, "fixturenames", ()) or "live/test_excerpt" in item.nodeid:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def run_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shapes_unchecked: None, exported_once: None
) -> Callable[..., tuple[Any, str]]:
    """A function that runs the short form of a benchmark in the test's folder and returns its JSON and its page."""

    def run(module: str, *options: object, page: str = "") -> tuple[Any, str]:
        page = page or module.rpartition(".")[2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a benchmark is no test of what it measures
            import_module(f"benchmarks.{module}").main(["--quick", *map(str, options), "--out", str(tmp_path)])
        text = (tmp_path / f"{page}.md").read_text(encoding="utf-8")
        assert text in capsys.readouterr().out
        assert f"`python -m benchmarks.{module} --" in text
        return json.loads((tmp_path / f"{page}.json").read_text(encoding="utf-8")), text

    return run


@pytest.fixture(scope="session")
def small(shared: Shared) -> Path:
    """The bundle of an untrained model of a few sensors."""
    return shared.folder("small-bundle", small_bundle) / "small.bundle"


@pytest.fixture(scope="session")
def other(shared: Shared) -> Path:
    """The bundle of another model of the same sensors."""
    return shared.folder("other-bundle", lambda folder: small_bundle(folder, "other", 6)) / "other.bundle"
