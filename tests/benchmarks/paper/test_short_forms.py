"""The tables and the figure of the paper run whole in their short forms, on what ships and on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.paper.rows import ABLATION, COMPARISON

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[Any, str]]


def test_a_table_of_errors_has_every_model_and_repeats_no_run(run_benchmark: Run) -> None:
    titles = [row.title for row in COMPARISON]
    first, _ = run_benchmark("paper.table1", "--row", "HA", "FNN", page="paper_table1")
    result, page = run_benchmark("paper.table1", page="paper_table1")

    assert result["runs"][:2] == first["runs"]
    assert sorted(run["row"] for run in result["runs"]) == sorted(titles)
    assert all(f"| {title} | windows |" in page for title in titles)
    carried = ("GCGRU", "ST-UNet, preset paper", "ST-UNet, preset default")
    assert [title for title in titles if f"| {title} | carried |" in page] == list(carried)


def test_the_second_table_has_two_seeds(run_benchmark: Run) -> None:
    result, page = run_benchmark("paper.table2", "--row", "FNN", "--seeds", 2, page="paper_table2")

    assert {run["seed"] for run in result["runs"]} == {0, 1}
    assert page.count(" ±") == 1 + 3 * 3  # in words once, then three measures at three horizons


def test_the_ablation_has_the_papers_form_and_this_projects(run_benchmark: Run) -> None:
    chosen = [row.title for row in ABLATION if row.title.startswith(("GCGRU", "ST-UNet"))]
    limits = ("--minutes", 0, "--paper-minutes", 0, "--epochs", 1)
    result, page = run_benchmark("paper.table3", "--row", *chosen, *limits, page="paper_table3")

    assert sorted(run["row"] for run in result["runs"]) == sorted(chosen)
    assert all(run["trained"]["epochs"] == 1 for run in result["runs"])
    assert "no limit of time" in page


def test_the_cost_of_every_model_is_measured_in_a_process_of_its_own(run_benchmark: Run) -> None:
    chosen = ("STGCN", "ST-UNet, preset paper", "ST-UNet, preset default")
    result, page = run_benchmark("paper.table4", "--model", *chosen, page="paper_table4")

    assert [run["model"] for run in result["runs"]] == list(chosen)
    for run in result["runs"]:
        assert len(run["update_s"]) == 1
        assert run["peak_mb"] >= run["before_mb"] > 0
        assert f"| {run['model']} | {run['parameters']:,} |" in page


def test_the_figure_has_both_networks_and_what_needs_none(run_benchmark: Run, tmp_path: Any) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, whose digits move, is not installed")
    result, page = run_benchmark("paper.figure2", page="paper_figure2")

    assert sorted(run["model"] for run in result["runs"]) == ["GCGRU", "ST-UNet"]
    assert all(len(run["rmse"]) == len(run["mae"]) == 4 for run in result["runs"])
    assert all(f"| {name} |" in page for name in ("ST-UNet", "copy of the last frame", "mean frame of training"))
    assert (tmp_path / "paper_figure2.svg").read_text(encoding="utf-8").count("<image ") == 1
