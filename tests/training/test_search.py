"""Real searches of a few tiny trainings: begun, stopped, gone on with, and what they write."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.harness.weeks import small_recording
from stunet_deploy.config import RunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from training import search as module
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.search import BEST, JOURNAL, MEMORY_DAYS, SPACE, TABLE, Search, best_trial

MINUTES = 0.01


@pytest.fixture
def make(tmp_path: Path, shapes_unchecked: None) -> Callable[..., Search]:
    """Return the function of changes that makes a search on a day and a half of six shipped sensors."""
    data = small_recording(tmp_path / "small.npz")
    series = read_series(data)
    config = read_run_config(None)
    assert isinstance(config, RunConfig)
    search = Search(series, read_graph(data, series.sensor_ids), config, MINUTES, 0, tmp_path / "study")
    return lambda **changes: replace(search, **changes)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_begins_with_the_preset_goes_on_and_its_best_settings_train(
    make: Callable[..., Search],
) -> None:
    reported: list[FrozenTrial] = []
    search = make(report=reported.append)

    before = search.run(2).get_trials()

    assert [trial.number for trial in reported] == [0, 1]
    assert reported[0].params == search.first
    assert reported[1].params != search.first
    assert set(reported[1].params) == set(SPACE) - {"model.memory"}

    again = make(report=reported.append).run(3)

    assert [trial.number for trial in reported] == [0, 1, 2]
    assert [one.params for one in again.trials[:2]] == [one.params for one in before]
    assert again.trials[2].params != again.trials[1].params
    assert [row["trial"] for row in rows(search.folder)] == ["0", "1", "2"]
    best = best_trial(again)
    assert best is not None
    assert best.value == min(float(row["validation_mae"]) for row in rows(search.folder))
    config = read_run_config(search.folder / BEST)
    assert isinstance(config, RunConfig)
    assert config == search.configured(best.params)
    assert f"number {best.number}, validation MAE" in (search.folder / BEST).read_text()
    checkpoint = TrainingRun(search.series, search.graph, config, max_minutes=MINUTES).run()
    assert checkpoint.training["config"]["learning_rate"] == best.params["training.learning_rate"]
    assert make(report=reported.append).run(3).trials == again.trials


def test_a_trial_that_is_interrupted_or_killed_is_the_next_one(
    make: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = make()

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.TrainingRun, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search.run(2)
    opened = search._opened()
    killed = opened.ask(dict(search.space))  # and never told

    study = search.run(1)

    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert [trial.params for trial in study.trials] == [search.first] * 3
    assert killed.number == 1


def test_a_study_of_other_data_or_settings_is_refused_and_left_alone(make: Callable[..., Search]) -> None:
    search = make()
    search.run(1)
    before = (search.folder / JOURNAL).read_bytes()
    series = search.series
    other = replace(series, values=series.values + 1)

    for changes, names in (
        ({"minutes_each": 3.0}, "--minutes-each"),
        ({"seed": 1}, "--seed"),
        ({"series": other}, "data"),
        ({"seed": 1, "minutes_each": 3.0}, "--minutes-each and --seed"),
    ):
        with pytest.raises(ConfigError, match=f"has other {names}; expected what it was begun with"):
            make(**changes).run(2)
    assert (search.folder / JOURNAL).read_bytes() == before


def test_folders_of_something_else_and_damaged_journals_are_refused(make: Callable[..., Search]) -> None:
    search = make()
    search.folder.mkdir()
    (search.folder / BEST).write_text("mine")
    with pytest.raises(ConfigError, match="which holds something else"):
        search.run(1)
    assert (search.folder / BEST).read_text() == "mine"

    (search.folder / JOURNAL).write_text("no journal\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        search.run(1)


def test_a_recording_that_is_too_short_leaves_nothing(make: Callable[..., Search]) -> None:
    search = make()
    with pytest.raises(DataError):
        replace(search, series=search.series.rows(slice(0, 60))).run(1)
    assert not search.folder.exists()


def test_the_test_span_is_not_seen(make: Callable[..., Search]) -> None:
    search = make()
    split = choose_protocol(search.series)

    seen = search._seen

    after = split.test[0] + 1
    assert not seen.observed[after:].any()
    assert not seen.values[after:].any()
    np.testing.assert_array_equal(seen.observed[:after], search.series.observed[:after])
    other = search.series.values.copy()
    other[after:] = 77
    assert make(series=replace(search.series, values=other))._identity == search._identity


def test_a_trial_that_falls_behind_or_diverges_is_pruned(
    make: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_UP", 1)
    monkeypatch.setattr(module, "UNPRUNED", 0)
    search = make()
    unbeatable = {tenth: 0.0 for tenth in range(20)}
    study = search._opened()
    study.add_trial(
        create_trial(value=0.0, params=search.first, distributions=search.space, intermediate_values=unbeatable)
    )
    search.run(2)

    def diverge(*arguments: object) -> None:
        raise ConfigError("a training that diverged at once", "a finite error", "lower learning_rate")

    monkeypatch.setattr(module.TrainingRun, "fit", diverge)
    search.run(3)

    assert sorted(row["state"] for row in rows(search.folder)) == ["complete", "pruned", "pruned"]
    assert [row["validation_mae"] for row in rows(search.folder) if row["state"] == "pruned"] == ["", ""]


def test_the_memory_is_searched_where_the_recording_has_weeks(make: Callable[..., Search]) -> None:
    search = make()
    days = MEMORY_DAYS + 1
    long = replace(
        search.series, timestamps=search.series.timestamps + np.where(np.arange(432) < 400, 0, days * 86_400)
    )

    assert set(replace(search, series=long).space) == set(SPACE)
    assert "model.memory" not in search.space


@pytest.mark.parametrize("days", [0, 6, 20])
def test_the_settings_of_the_preset_are_among_those_searched(days: int, make: Callable[..., Search]) -> None:
    base = read_run_config(None, days=days)
    assert isinstance(base, RunConfig)

    for name, value in make(base=base).first.items():
        assert SPACE[name]._contains(SPACE[name].to_internal_repr(value)), name


def test_a_study_may_be_moved(make: Callable[..., Search], tmp_path: Path) -> None:
    search = make()
    search.run(1)
    search.folder.rename(tmp_path / "moved")

    assert len(make(folder=tmp_path / "moved").run(1).trials) == 1
