"""The page of the dialects counts every file that was drawn, and none that was read as something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.files import dialects
from stunet_deploy.series.series import Series, read_series

for module in ("pandas", "openpyxl", "tables"):
    pytest.importorskip(module)


def test_the_page_counts_every_file(tmp_path: Path) -> None:
    dialects.main(["--count", "40", "--seed", "5", "--out", str(tmp_path)])

    result = json.loads((tmp_path / "dialects.json").read_text())
    assert sum(count for *_, count in result["counts"]) == 40
    assert result["different"] == []
    text = (tmp_path / "dialects.md").read_text()
    assert "read as something else" in text
    assert (
        f"| {sum(count for kind, outcome, count in result['counts'] if (kind, outcome) == ('text', 'equal'))} |" in text
    )


def test_a_difference_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(path: Path, *, timezone: str) -> Series:
        series = read_series(path, timezone=timezone)
        return replace(series, values=series.values + series.observed)

    monkeypatch.setattr(dialects, "read_series", off_by_one)
    dialects.main(["--count", "12", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "dialects.json").read_text())["different"]
