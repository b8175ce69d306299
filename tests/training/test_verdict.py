"""The verdict on a model from results made up by hand."""

from __future__ import annotations

import math

import pytest

from training.evaluation import Result
from training.verdict import Verdict


def result(model: str, minutes: float, mae: float, **other: object) -> Result:
    facts = {"protocol": "stream", "target": "speed", "count": 9, "hidden": None} | other
    return Result(model=model, horizon_minutes=minutes, mae=mae, wape=1.0, mape=1.0, rmse=1.0, **facts)  # type: ignore[arg-type]


def test_a_model_below_every_baseline_is_worth_deploying() -> None:
    results = [result("m", 15, 1.8), result("m", 60, 3.0)]
    results += [result("still", 15, 2.0), result("still", 60, 5.0), result("day", 15, 4.0), result("day", 60, 4.0)]

    verdict = Verdict.of(results, "m")

    assert verdict.worth_deploying
    assert str(verdict) == "worth deploying: carried MAE at 15 min 10.0 % below still, 60 min 25.0 % below day"
    assert verdict.to_json()["horizons"][1] == {
        "target": "speed",
        "horizon_minutes": 60,
        "mae": 3.0,
        "best_baseline": "day",
        "baseline_mae": 4.0,
    }


def test_one_horizon_that_is_not_below_is_enough_against_it() -> None:
    results = [result("m", 15, 1.0), result("m", 60, 4.1), result("day", 15, 4.0), result("day", 60, 4.0)]

    verdict = Verdict.of(results, "m")

    assert not verdict.worth_deploying
    assert str(verdict) == "not worth deploying: carried MAE at 60 min 2.5 % above day"
    equal = Verdict.of([result("m", 15, 4.0), result("day", 15, 4.0)], "m")
    assert not equal.worth_deploying


@pytest.mark.parametrize("other", [{"protocol": "window"}, {"hidden": 0.3}, {"count": 0}])
def test_only_carried_forecasts_with_labels_and_nothing_hidden_count(other: dict[str, object]) -> None:
    results = [result("m", 15, 1.0), result("day", 15, 2.0)]
    wrong = [result("m", 30, math.nan if "count" in other else 9.0, **other), result("day", 30, 0.1, **other)]

    assert Verdict.of(results + wrong, "m") == Verdict.of(results, "m")
    assert str(Verdict.of(wrong, "m")).startswith("no verdict")
    assert not Verdict.of(wrong, "m").worth_deploying


def test_targets_are_named_where_there_are_several() -> None:
    results = [result("m", 15, 1.0, target=target) for target in ("speed", "flow")]
    results += [result("day", 15, 2.0, target="speed"), result("day", 15, 0.0, target="flow")]

    assert str(Verdict.of(results, "m")) == "not worth deploying: carried MAE at flow 15 min 1 above day"
