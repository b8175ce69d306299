"""The ARM builds under emulation; what they need is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.field import arm64


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as ended:
        arm64.main([])

    assert ended.value.code == 2
    assert "apt-get install qemu-user-static mmdebstrap" in capsys.readouterr().err


def test_what_cannot_be_fetched_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(arm64, "KEPT", tmp_path)
    fill = ["sh", "-c", 'mkdir "$0" && echo no route >&2 && exit 1']
    with pytest.raises(arm64.ConfigError, match="no route"):
        arm64._kept("root", lambda folder: [*fill, str(folder)])

    assert not (tmp_path / "root").exists()


@pytest.mark.skipif(
    not arm64.KEPT.is_dir() or any(shutil.which(command) is None for command in arm64.NEEDED),
    reason="what `make arm64` fetches and needs is not here",
)
def test_each_board_verifies_and_serves(run_benchmark: Callable[..., tuple[Any, str]], small: Path) -> None:
    result, page = run_benchmark("field.arm64", "--bundle", small)

    assert [board["right"] for board in result["found"]] == [True] * len(arm64.BOARDS)
    assert "| fp16 | yes |" in page
