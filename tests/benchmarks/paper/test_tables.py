"""The tables of errors: which recordings they take, how a model is fitted, and what stands beside its errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.five_sets import Recording
from benchmarks.paper import table1, table2
from benchmarks.paper.accuracy import errors
from benchmarks.paper.published import ABLATION as PUBLISHED_ABLATION
from benchmarks.paper.published import TABLES
from benchmarks.paper.recordings import METR_LA, PEMSD7_L, PEMSD7_M, find_all, small
from benchmarks.paper.rows import ABLATION, COMPARISON, Budget, Row, identify, run, settings
from stunet_deploy.errors import DataError

ROWS = {row.title: row for row in (*COMPARISON, *ABLATION)}
LIMITS = {"minutes": 10, "paper_minutes": 60, "epochs": 0}
MACHINE = {"cpu": "a processor", "cores": 2, "commit": "0" * 40}


def entry(row: str, seed: int, mae: float, name: str = "metr-la", rows: int = 2016, minutes: float = 10) -> Any:
    regimes = ROWS[row].regimes
    scores = [
        {"protocol": regime, "horizon_minutes": at, "mae": mae + at / 10, "mape": 2 * mae, "rmse": 3 * mae}
        for regime in regimes
        for at in (15.0, 30.0, 60.0)
    ]
    known = {"set": name, "rows": rows, "row": row, "seed": seed, "minutes": minutes, "epochs": 0}
    if ROWS[row].preset == "paper":
        known["minutes"] = 6 * minutes
    return known | {"cpu_seconds": 90.0, "environment": MACHINE, "results": scores}


def result(runs: list[Any], name: str = "metr-la", rows: int = 2016) -> dict[str, Any]:
    sets = {name: {"title": "A set", "rows": rows}}
    return {"command": "a command", "environment": MACHINE, **LIMITS, "sets": sets, "runs": runs}


def test_a_published_row_follows_its_models_and_says_that_it_does_not_compare() -> None:
    paper = "ST-UNet, preset paper"
    runs = [entry("FNN", 0, 1.0), entry("FNN", 1, 3.0), entry(paper, 0, 2.0), entry("LSVR", 0, 1.0, minutes=9)]

    lines = table1.TABLE.report(result(runs)).splitlines()

    first = next(at for at, line in enumerate(lines) if line.startswith("| FNN | windows |"))
    cells = "3.50 ±1.41 / 4.0 ±2.8 / 6.00 ±4.24 | 5.00 ±1.41 / 4.0 ±2.8 / 6.00 ±4.24 | 8.00 ±1.41 /"
    assert lines[first].startswith(f"| FNN | windows | {cells}")
    assert lines[first].endswith("| 2 | – | 1.5 |")
    assert lines[first + 1].startswith("| FNN, *published, full set: not comparable* | windows | *3.99 / – / –* |")
    assert lines[first + 2].startswith(f"| {paper} | windows | 3.50 / 4.0 / 6.00 |")
    assert lines[first + 3].startswith(f"| {paper} | carried |")
    assert "| *2.72 / 6.9 / 5.13* | *3.12 / 8.4 / 6.16* | *3.55 / 10.0 / 7.40* |" in lines[first + 4]
    assert not any(line.startswith("| LSVR | ") for line in lines)  # a run of another budget
    assert sum("full set: not comparable*" in line for line in lines) == len(TABLES["metr-la"])


def test_beside_the_whole_set_published_figures_compare() -> None:
    page = table1.TABLE.report(result([entry("FNN", 0, 1.0, rows=METR_LA.rows)], rows=METR_LA.rows))

    assert "| FNN, *published* | windows |" in page
    assert "not comparable*" not in page


def test_a_set_that_is_not_at_hand_has_its_published_figures_alone() -> None:
    page = table2.TABLE.report(result([entry("HA", 0, 4.0, "pemsd7-m")], "pemsd7-m"))

    _, absent = page.split("## PeMSD7(L): no series at hand")
    assert "| ST-UNet, *published* | windows | *2.34 / 5.54 / 4.32* |" in absent
    assert "| HA | windows |" not in absent


def test_published_rows_belong_to_rows_of_the_tables() -> None:
    for rows, tables in ((COMPARISON, TABLES), (ABLATION, PUBLISHED_ABLATION)):
        titles = {row.published for row in rows}
        assert all(set(table) <= titles for table in tables.values())
        assert all(len(one.cells()) == 3 for table in tables.values() for one in table.values())


def test_a_cell_of_one_run_has_no_deviation() -> None:
    assert errors([{"mae": 1.234, "mape": 5.67, "rmse": 2.345}]) == "1.23 / 5.7 / 2.35"
    assert errors([{"mae": 1.234, "mape": None, "rmse": 2.345}]) == "1.23 / – / 2.35"


def write_layout(folder: Path, rows: int) -> None:
    """Write files in the layout of PeMSD7(M)."""
    rng = np.random.default_rng(0)
    np.savetxt(folder / "PeMSD7_V_228.csv", rng.uniform(20, 70, (rows, 228)), "%.1f", delimiter=",")
    between = rng.uniform(500, 30_000, (228, 228))
    np.fill_diagonal(between, 0)
    np.savetxt(folder / "PeMSD7_W_228.csv", between, "%.1f", delimiter=",")


def test_recordings_are_found_as_distributed_and_titled_by_their_length(tmp_path: Path) -> None:
    write_layout(tmp_path, 2 * 288)

    (found,) = find_all((PEMSD7_M, PEMSD7_L), tmp_path)
    whole = replace(PEMSD7_M, rows=2 * 288).find(tmp_path)

    assert (found.data.name, found.graph.name) == ("PeMSD7_V_228.csv", "PeMSD7_W_228.csv")
    assert found.title == "2 weekdays of PeMSD7(M) (576 of 12,672 rows)"
    assert whole is not None
    assert whole.title == "PeMSD7(M), whole (576 rows)"


def test_a_folder_without_recordings_is_refused_with_the_files_that_are_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        find_all((METR_LA,), tmp_path)

    assert refused.value.expected == "metr-la.h5 with adj_mx.pkl or metr-la.npz"


def test_the_weeks_are_found(shared_data: Path) -> None:
    titles = [one.title for one in find_all((METR_LA, PEMSD7_M, PEMSD7_L), shared_data)]

    assert titles == [
        "One week of METR-LA (2,016 of 34,272 rows)",
        "Seven weekdays of PeMSD7(M) (2,016 of 12,672 rows)",
    ]


def test_the_papers_preset_has_the_papers_channels_and_the_ablation_none_of_its_tricks(tmp_path: Path) -> None:
    recording = small(tmp_path)
    on = {name: replace(recording, name=name) for name in ("metr-la", "pemsd7-m")}

    channels = [settings(ROWS["ST-UNet, preset paper"], one).model.hidden for one in on.values()]
    plain = settings(ROWS["S-UNet, preset paper without tricks"], on["pemsd7-m"])
    tricky = settings(ROWS["ST-UNet, preset paper"], on["pemsd7-m"])

    assert channels == [96, 64]
    assert (plain.model.layer_norm, plain.training.teacher_forcing) == (False, "always")
    assert (plain.model.scales, plain.model.decoder, plain.model.hidden) == (((2, 1),), "recurrent", 64)
    assert (tricky.model.layer_norm, tricky.training.teacher_forcing) == (True, "scheduled")
    assert (tricky.training.epochs, tricky.training.batch, tricky.training.regime) == (80, 50, "window")


def test_two_budgets_two_lengths_and_two_settings_are_two_runs(tmp_path: Path) -> None:
    recording, row = small(tmp_path), Row("small", preset="paper", model={"hidden": 2})
    known = identify(recording, row, 0, Budget(1, 0))

    assert known != identify(recording, row, 0, Budget(2, 0))
    assert known != identify(recording, replace(row, model={"hidden": 3}), 0, Budget(1, 0))
    assert known["rows"] == 432


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_run_has_its_identity_and_its_scores_in_both_regimes(tmp_path: Path) -> None:
    recording, budget = small(tmp_path), Budget(0, 1)
    row = Row("small", preset="paper", model={"hidden": 2}, training={"batch": 100})

    found = run(recording, row, 0, budget)

    assert identify(recording, row, 0, budget).items() <= found.items()
    assert [score["protocol"] for score in found["results"]] == ["window"] * 3 + ["stream"] * 3
    assert found["trained"]["epochs"] == 1
    assert all(0 < score["mae"] <= score["rmse"] for score in found["results"])


def test_what_has_no_state_is_scored_by_window_alone(tmp_path: Path) -> None:
    recording = small(tmp_path)
    found = run(recording, ROWS["HA"], 0, Budget(0.01, 0))

    assert isinstance(recording, Recording)
    assert [score["protocol"] for score in found["results"]] == ["window"] * 3
    assert "config" not in found
    assert not ROWS["HA"].random
