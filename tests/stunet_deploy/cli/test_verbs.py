"""From files to forecasts through the command line, and the JSON that scripts read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stunet_deploy.bundle import GOLDEN, Bundle
from stunet_deploy.cli import export_main, main
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST

from .conftest import INTERVALS, SENSORS, Place, run_stunet, write_speeds

Answer = Callable[..., Any]
RESULT = {"model", "protocol", "horizon_minutes", "mae", "wape", "mape", "rmse", "count"}
MODELS = ["stunet", "persistence", "historical_average", "time_of_day_average", "damped_departure"]
FORECAST_LINE = [
    "bundle_id", "stream", "issued_at", "interval_s", "horizons_min", "sensors", "values", "quantiles",
    "observed_share", "degraded", "reasons", "step_us",
]  # fmt: skip


def test_train_leaves_a_model_and_a_log_and_no_state(place: Place, tmp_path: Path, answer: Answer) -> None:
    found = answer(*place.train_arguments(tmp_path / "again.pt"))

    keys = {"model", "log", "epochs", "best_epoch", "best_validation_mae", "protocol", "seconds"}
    assert set(found) == keys
    assert found["epochs"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.log.csv", "again.pt"]
    with (tmp_path / "again.log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert min(float(row["validation_mae"]) for row in rows) == found["best_validation_mae"]


def test_the_graph_may_come_with_the_recording(tmp_path: Path, answer: Answer, place: Place) -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "values": rng.integers(30, 60, (300, 3, 1)).astype(np.int16),
        "scale": np.array([1.0]),
        "observed": np.ones((300, 3, 1), bool),
        "timestamps": 1_330_588_800 + 300 * np.arange(300),
        "sensor_ids": np.array(["a", "b", "c"]),
        "features": np.array(["speed"]),
        "units": np.array(["mph"]),
        "timezone": np.array("UTC"),
        "interval_s": np.array(300),
    }
    np.savez(tmp_path / "graph.npz", adjacency=np.eye(3)[[1, 2, 0]], **arrays)
    np.savez(tmp_path / "map.npz", latitude=np.array([0.0, 0.01, 0.02]), longitude=np.zeros(3), **arrays)
    np.savez(tmp_path / "bare.npz", **arrays)

    for name in ("graph", "map"):
        rest = ("--config", place.config, "--out", tmp_path / f"{name}.pt")
        assert answer("train", "--data", tmp_path / f"{name}.npz", *rest)["epochs"] == 2
    bare = ["train", "--data", str(tmp_path / "bare.npz"), "--config", str(place.config)]
    assert main([*bare, "--out", str(tmp_path / "bare.pt")]) == 2


def test_evaluate_prints_the_agreed_results(place: Place, answer: Answer) -> None:
    found = answer("evaluate", place.model, "--data", place.speeds)

    assert set(found) == {"data", "split", "results", "verdict"}
    assert all(set(result) == RESULT for result in found["results"])
    lines = [(r["model"], r["protocol"], r["horizon_minutes"]) for r in found["results"]]
    assert lines == [(m, p, h) for m in MODELS for p in ("window", "stream") for h in (10, 15, 30)]
    assert found["split"]["protocol"] == "a"
    assert found["data"]["timezone"] == "America/Los_Angeles"


def test_trees_are_fitted_once_and_count_in_the_verdict(place: Place, answer: Answer) -> None:
    found = answer(
        *("evaluate", place.bundle, "--data", place.speeds, "--trees", 0.02, "--graph", place.edges, "--hide", 0.3)
    )

    lines = [(r["model"], r["hidden"], r["horizon_minutes"]) for r in found["results"] if r["protocol"] == "stream"]
    assert lines == [(m, s, h) for s in (0, 0.3) for m in (*MODELS, "boosted_trees") for h in (10, 15, 30)]
    assert set(found["trees"]["settings"]["speed"]) == {"sensor", "min_data_in_leaf", "num_leaves", "learning_rate"}
    assert found["trees"]["validation_mae"]["speed"] > 0
    best = {row["horizon_minutes"]: row["baseline_mae"] for row in found["verdict"]["horizons"]}
    trees = [r for r in found["results"] if (r["model"], r["protocol"], r["hidden"]) == ("boosted_trees", "stream", 0)]
    assert all(best[one["horizon_minutes"]] <= one["mae"] for one in trees)


def test_a_bundle_scores_what_its_model_scores(place: Place, answer: Answer) -> None:
    model = answer("evaluate", place.model, "--data", place.speeds)
    bundle = answer("evaluate", place.bundle, "--data", place.speeds)

    assert bundle["data"] == model["data"]
    assert bundle["split"] == model["split"]
    assert len(bundle["results"]) == len(model["results"])
    for ours, theirs in zip(bundle["results"], model["results"], strict=True):
        numbers = ("mae", "wape", "mape", "rmse")
        assert [ours.pop(n) for n in numbers] == pytest.approx([theirs.pop(n) for n in numbers], rel=1e-4)
        assert ours == theirs


@pytest.mark.parametrize("blocks", [(), ("--hide-blocks", "2")], ids=["cells", "blocks"])
def test_a_model_and_its_bundle_are_scored_with_the_same_readings_hidden(
    blocks: tuple[str, ...], place: Place, answer: Answer
) -> None:
    hiding = ("--data", place.speeds, "--hide", 0.5, 0.1, *blocks, "--seed", 4)
    model, bundle = (answer("evaluate", subject, *hiding) for subject in (place.model, place.bundle))
    plain = answer("evaluate", place.bundle, "--data", place.speeds)

    lines = [(r["hidden"], r["model"], r["protocol"], r["horizon_minutes"]) for r in bundle["results"]]
    regimes = ("window", "stream")
    assert lines == [(s, m, p, h) for s in (0, 0.1, 0.5) for m in MODELS for p in regimes for h in (10, 15, 30)]
    assert all(set(result) == RESULT | {"hidden"} for result in bundle["results"])
    assert [r for r in bundle["results"] if r["hidden"] == 0] == [r | {"hidden": 0} for r in plain["results"]]
    assert {r["count"] for r in bundle["results"]} == {r["count"] for r in plain["results"]}
    assert bundle["hiding"] == model["hiding"] == {"block_hours": 2 if blocks else None, "seed": 4}
    for ours, theirs in zip(bundle["results"], model["results"], strict=True):
        numbers = ("mae", "wape", "mape", "rmse")
        assert [ours.pop(n) for n in numbers] == pytest.approx([theirs.pop(n) for n in numbers], rel=1e-4)
        assert ours == theirs
    assert {k: v for k, v in bundle.items() if k not in ("results", "hiding")} == {
        k: v for k, v in plain.items() if k != "results"
    }


def test_hiding_is_a_matter_of_seed_and_worse_for_persistence(place: Place, answer: Answer) -> None:
    def persistence(*options: object) -> dict[float, float]:
        found = answer("evaluate", place.bundle, "--data", place.speeds, "--hide", 0.6, *options)["results"]
        return {r["hidden"]: r["mae"] for r in found if (r["model"], r["horizon_minutes"]) == ("persistence", 10)}

    first, again, other = persistence(), persistence("--seed", 0), persistence("--seed", 1)

    assert first == again
    assert first[0] == other[0]
    assert first[0.6] != other[0.6]
    assert min(first[0.6], other[0.6]) > first[0]


@pytest.mark.slow
def test_the_literature_mode_is_trained_exported_and_reported(
    place: Place, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "zeros.toml"
    settings = place.config.read_text(encoding="utf-8")
    config.write_text(settings.replace("[model]\n", '[model]\nfill = "zeros"\n'), encoding="utf-8")
    model, folder = tmp_path / "zeros.pt", tmp_path / "zeros.bundle"
    run_stunet(place.train_arguments(model, config))
    run_stunet(["export", str(model)])

    found = [answer("evaluate", subject, "--data", place.speeds) for subject in (model, folder)]

    native = answer("evaluate", place.bundle, "--data", place.speeds)
    assert [one["split"] for one in found] == [native["split"] | {"missing": "zeros"}] * 2
    assert native["split"]["missing"] == "unobserved"
    for ours, theirs, other in zip(*(one["results"] for one in (*found, native)), strict=True):
        assert ours["mae"] == pytest.approx(theirs["mae"], rel=1e-4)
        assert ours["count"] == other["count"]  # missing labels count in neither mode
        assert (ours["mae"] == other["mae"]) == (ours["model"] != "stunet")
    signals = [Bundle.load(bundle).manifest for bundle in (folder, place.bundle)]
    assert signals[0].mean[0] < signals[1].mean[0] - 1
    assert main(["evaluate", str(folder), "--data", str(place.speeds)]) == 0
    assert "missing inputs are zeros (literature mode)" in capsys.readouterr().out


def test_a_table_says_protocol_mode_and_share(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(place.bundle), "--data", str(place.speeds), "--hide", "0.3"]) == 0

    table = capsys.readouterr().out
    assert "protocol A" in table
    assert "missing inputs are unobserved (native mode)" in table
    assert sum("stunet, 30 % hidden" in line for line in table.splitlines()) == 2


def test_sensors_are_matched_by_id(place: Place, tmp_path: Path, answer: Answer) -> None:
    write_speeds(tmp_path / "shuffled.csv", order=("ramp", "south", "north", "west", "east"))

    found = answer("evaluate", place.bundle, "--data", tmp_path / "shuffled.csv")

    assert found["results"] == answer("evaluate", place.bundle, "--data", place.speeds)["results"]


def test_evaluate_draws_on_request(place: Place, tmp_path: Path, answer: Answer) -> None:
    answer("evaluate", place.bundle, "--data", place.speeds, "--plots", tmp_path / "plots")

    pictures = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in pictures] == ["error-by-horizon-speed.png", "forecast-speed.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_export_replaces_a_bundle_and_nothing_else(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out.bundle"
    shutil.copytree(place.bundle, out)
    (out / "left-over").write_text("of an older bundle")
    run_stunet(["export", str(place.model), "--out", str(out), "--precision", "tf32"])
    assert not (out / "left-over").exists()
    for name in (MANIFEST, *Bundle.load(out).manifest.files):
        assert (out / name).read_bytes() == (place.bundle / name).read_bytes(), name

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert export_main([str(place.model), "--out", str(tmp_path / "mine")]) == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_stream_may_fill_otherwise_than_its_config_says(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "last.bundle"
    run_stunet(["export", str(place.model), "--out", str(out), "--fill", "last"])

    fills = [Bundle.load(bundle).manifest.config["fill"] for bundle in (place.bundle, out)]
    assert fills == ["usual", "last"]
    assert main(["verify", str(out)]) == 0


def test_verify_names_both_ways_to_go_on(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(place.bundle)]) == 0
    said = capsys.readouterr().err
    assert f"next: stunet run {place.bundle} --replay FILE" in said
    assert "stunet run --config FILE" in said


def test_verify_passes_here_and_fails_on_a_wrong_reference(place: Place, tmp_path: Path, answer: Answer) -> None:
    found = answer("verify", place.bundle)
    keys = {"passed", "backend", "intervals", "max_abs_error", "mean_abs_error", "tolerance", "worst"}
    assert set(found) >= keys
    assert found["passed"]
    assert found["backend"] == "onnxruntime"
    assert found["max_abs_error"] <= found["tolerance"]

    wrong = tmp_path / "wrong.bundle"
    shutil.copytree(place.bundle, wrong)
    golden = Bundle.load(wrong).golden()
    golden.forecast[3, 2, 1] += 1
    golden.save(wrong / GOLDEN)
    manifest = Bundle.load(wrong).manifest
    files = dict(manifest.files) | {GOLDEN: sha256((wrong / GOLDEN).read_bytes())}
    (wrong / MANIFEST).write_text(dataclasses.replace(manifest, files=files).to_json(), encoding="utf-8")

    found = answer("verify", wrong, code=1)
    assert not found["passed"]
    assert found["worst"]["sensor"] == SENSORS[1]
    assert found["max_abs_error"] == pytest.approx(1, abs=1e-3)


def test_run_prints_a_forecast_line_per_interval(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(place.bundle), "--replay", str(place.speeds), "--json-lines"]

    # The bundle's local time, and UTC by an offset.
    assert main([*arguments, "--from", "2012-03-02", "--to", "2012-03-02T08:50Z"]) == 0

    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["issued_at"] for line in lines] == [f"2012-03-02T08:{minute:02}:00Z" for minute in range(0, 50, 5)]
    assert all(list(line) == FORECAST_LINE for line in lines)
    assert lines[0]["sensors"] == list(SENSORS)
    assert np.shape(lines[0]["values"]["speed"]) == (6, len(SENSORS))
    assert [line["degraded"] for line in lines] == [True] * 5 + [False] * 5
    assert "10 forecasts" in captured.err


def test_lines_of_json_give_the_forecasts_of_a_recording(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.speeds.open(newline="") as file:
        rows = list(csv.DictReader(file))[:20]
    lines = []
    for row in rows:
        stamp = row.pop("timestamp").replace(" ", "T") + "-08:00"
        values = {sensor: float(cell) if cell else None for sensor, cell in row.items()}
        lines.append(json.dumps({"timestamp": stamp, "values": values}) + "\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))
    assert main(["run", str(place.bundle), "--replay", "-", "--json-lines"]) == 0
    piped = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(piped) == 20

    span = ["--to", "2012-03-01T01:40"]
    assert main(["run", str(place.bundle), "--replay", str(place.speeds), "--json-lines", *span]) == 0
    replayed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    for line in (*piped, *replayed):
        del line["step_us"]
    assert piped == replayed


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("year", ["2013", "2099"])
def test_one_line_of_a_time_far_in_the_future_is_refused_and_the_others_are_forecast_from(
    at: int, year: str, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(lines: list[str]) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
        assert main(["run", str(place.bundle), "--replay", "-", "--json-lines"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    times = [f"2012-03-05T00:{minute:02}:00Z" for minute in range(0, 20, 5)]
    lines = [json.dumps({"timestamp": time, "values": {"north": 60}}) for time in times]
    right = piped(lines)
    found = piped([*lines[:at], lines[0].replace("2012", year), *lines[at:]])
    for line in (*right, *found):
        del line["step_us"]
    # The first line of all is forecast from before it can be known that it is wrong.
    assert (found if at else found[1:]) == right


@pytest.mark.parametrize(("option", "resets"), [((), 0), (("--max-gap", "3"), 1)])
def test_how_long_a_gap_is_bridged_can_be_said(
    option: tuple[str, ...], resets: int, place: Place, tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        json.dumps({"timestamp": f"2012-03-05T00:{minute:02}:00Z", "values": {"north": 60}})
        for minute in (0, 5, 30, 35)
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    counters = answer("run", place.bundle, "--replay", "-", *option)["counters"]
    assert (counters["resets"], counters["bridged"]) == (resets, 0 if resets else 4)


def test_run_sums_up(place: Place, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("run", place.bundle, "--replay", place.speeds)
    carried = answer(*arguments)
    window = answer(*arguments, "--mode", "window")

    assert carried["intervals"] == INTERVALS
    assert carried["reasons"]["warming up"] == 5
    assert carried["degraded"] >= 5
    assert carried["latency"]["count"] == INTERVALS
    assert list(carried["last_forecast"]) == FORECAST_LINE
    assert carried["last_forecast"]["values"] != window["last_forecast"]["values"]
    assert main([*map(str, arguments)]) == 0
    assert f"{INTERVALS} forecasts on onnxruntime" in capsys.readouterr().out


def test_inspect_describes_bundle_and_model(place: Place, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, model = answer("inspect", place.bundle), answer("inspect", place.model)

    keys = {"contract", "files", "precisions", "engines", "accuracy"}
    assert set(bundle) >= keys
    assert set(model) >= keys
    assert model["contract"] == bundle["contract"]
    for path, words in ((place.bundle, "5 to 30 minutes ahead"), (place.model, "parameters")):
        assert main(["inspect", str(path)]) == 0
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["evaluate", "verify", "run", "inspect"])
def test_each_verb_names_the_next_command(verb: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    rest = {"evaluate": ["--data", str(place.speeds)], "run": ["--replay", str(place.speeds)]}

    assert main([verb, str(place.bundle), *rest.get(verb, [])]) == 0

    # The model of two epochs is not worth deploying.
    assert ("next: train longer" if verb == "evaluate" else "next: stunet") in capsys.readouterr().err


def test_the_gate_is_exit_code_1(place: Place, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(place.bundle), "--data", str(place.speeds)]

    assert main([*arguments, "--gate"]) == 1

    assert "not worth deploying: carried MAE at " in capsys.readouterr().out
    assert answer(*arguments)["verdict"]["worth_deploying"] is False
