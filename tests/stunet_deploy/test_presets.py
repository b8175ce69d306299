"""Presets, and config files over them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stunet_deploy.config import RunConfig, SRNNConfig, SRNNRunConfig, STUNetConfig
from stunet_deploy.config_files import PRESETS, read_run_config
from stunet_deploy.errors import ConfigError

EVERY = [(family, preset) for family, presets in PRESETS.items() for preset in presets]


@pytest.mark.parametrize(("family", "preset"), EVERY)
def test_every_preset_is_read_and_is_another(family: str, preset: str) -> None:
    config = read_run_config(None, family, preset)

    assert isinstance(config, RunConfig if family == "stunet" else SRNNRunConfig)
    assert [other for other in PRESETS[family] if read_run_config(None, family, other) == config] == [preset]


def test_a_file_replaces_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('targets = ["speed"]\n[model]\nhidden = 7\n', encoding="utf-8")

    config, preset = read_run_config(file), read_run_config(None)

    assert (config.targets, config.model.hidden) == (("speed",), 7)
    assert config.model.profile
    assert config.training == preset.training


def test_a_file_that_counts_epochs_has_no_limit_of_updates(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for text, expected in (("epochs = 3", (3, 0)), ("epochs = 3\nupdates = 9", (3, 9)), ("updates = 9", (80, 9))):
        file.write_text(f"[training]\n{text}\n", encoding="utf-8")
        training = read_run_config(file).training
        assert (training.epochs, training.updates) == expected


@pytest.mark.parametrize("preset", ["default", "small"])
def test_a_longer_recording_brings_more_unless_a_file_says_otherwise(tmp_path: Path, preset: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[model]\ntime_features = "day"\n', encoding="utf-8")
    settings = {
        (days, named): read_run_config(named, "stunet", preset, days=days).model
        for days in (5.9, 6.0, 8.0, 20.0)
        for named in (None, file)
    }

    assert [model.memory for model in settings.values()] == [False] * 4 + [True] * 4
    assert [model.time_features for model in settings.values()] == ["none", *["day"] * 5, "week", "day"]


def test_a_model_to_start_from_brings_its_architecture(tmp_path: Path) -> None:
    start = STUNetConfig(hidden=7, profile=True, lags=3)
    file = tmp_path / "config.toml"
    file.write_text("[model]\nhidden = 8\n", encoding="utf-8")

    assert read_run_config(None, architecture=asdict(start)).model == start
    assert read_run_config(None, days=99, architecture=asdict(start)).model == start
    assert read_run_config(file, architecture=asdict(start)).model == replace(start, hidden=8)
    assert read_run_config(None, "srnn", architecture=asdict(SRNNConfig())).model == SRNNConfig()


def test_wrong_tables_and_unknown_presets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--preset small for srnn; expected default"):
        read_run_config(None, "srnn", "small")
    file = tmp_path / "config.toml"
    for text, named in (("model = 3", "model = 3"), ("[model]\nhiden = 3", "hiden"), ("[trainin]\n", "trainin")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=named):
            read_run_config(file)
