"""Precisions through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stunet_deploy.cli import export_main, main

from .conftest import Place

Answer = Callable[..., Any]


def test_precisions_are_exported_verified_run_and_shown(place: Place, tmp_path: Path, answer: Answer) -> None:
    bundle = tmp_path / "precise.bundle"
    exported = answer("export", place.model, "--out", bundle, "--precision", "fp16, int8,tf32", "--max-loss", "50%")

    assert set(exported["loss"]) == {"fp16", "int8", "tf32"}
    assert set(exported["parity"]) == {"fp32", "fp16", "int8", "tf32"}
    for precision in ("fp32", "fp16", "int8"):
        verified = answer("verify", bundle, "--precision", precision)
        assert verified["passed"] is True
        assert verified["precision"] == precision
    assert answer("run", bundle, "--replay", bundle / "golden.npz", "--precision", "int8")["intervals"] > 24
    assert list(answer("inspect", bundle)["precisions"]) == ["fp32", "tf32", "fp16", "int8"]


@pytest.mark.parametrize(
    ("option", "came"),
    [
        ("--precision=fp16,fp4", "precision 'fp4'"),
        ("--max-loss=0.5", "--max-loss 0.5"),
        ("--max-loss=-1%", "--max-loss -1%"),
        ("--max-loss=much%", "--max-loss much%"),
    ],
)
def test_a_wrong_option_is_refused_in_three_clauses(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, came: str
) -> None:
    arguments = [str(place.model), "--out", str(tmp_path / "none.bundle")]
    assert export_main([*arguments, option]) == 2

    assert f"error:    {came}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_names_what_computes_bf16(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "half.bundle"
    assert export_main([str(place.model), "--out", str(bundle), "--precision", "bf16", "--max-loss", "50%"]) == 0
    capsys.readouterr()

    assert main(["verify", str(bundle), "--precision", "bf16"]) == 2
    assert "to do:    use '--precision fp32', or on a GPU '--backend tensorrt'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_precision_that_loses_too_much_ends_with_the_code_of_a_failed_check(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from stunet_deploy.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(place.model)
    model = checkpoint.model
    norm, head = model.encoder.expanding[0].norm, model.decoder.head
    with torch.no_grad():
        # Two channels without information: one of ones, whose weights and the bias cancel, and one of zeros, whose
        # weights are so large that int8 has no levels left for others.
        norm.weight[1:3] = 0
        norm.bias[1], norm.bias[2] = 1, 0
        head.weight[:, 1] = 0
        head.weight[0, 1] = -5
        head.bias += 5
        head.weight[:, 2] = 1e5
    checkpoint.save(tmp_path / "ruined.pt")

    assert export_main([str(tmp_path / "ruined.pt"), "--precision", "int8", "--max-loss", "0%"]) == 1
    assert "failed: precision int8 loses" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ruined.pt"]
    assert export_main([str(tmp_path / "ruined.pt"), "--precision", "int8", "--max-loss", "0%", "--force"]) == 0
    assert "forced" in capsys.readouterr().out
