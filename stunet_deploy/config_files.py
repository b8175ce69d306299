"""Config files of training runs, and the presets that they begin from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stunet_deploy.config import RUN_CONFIGS, RunConfig, SRNNRunConfig
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import ConfigError
from stunet_deploy.toml_files import read_toml

_FOLDER = Path(__file__).with_name("presets")
#: Of every model family, the one that a run begins from without a choice first.
PRESETS: Mapping[str, tuple[str, ...]] = {"stunet": ("default", "small", "best", "paper"), "srnn": ("default",)}


def read_run_config(
    path: Path | None,
    family: str = "stunet",
    preset: str = "default",
    *,
    architecture: Mapping[str, Any] | None = None,
    days: float = 0.0,
) -> RunConfig | SRNNRunConfig:
    """Read the config of a training run on sensors: a preset, and what a file says otherwise.

    Args:
        path: a TOML file of targets, protocol, [model] and [training]; None for the preset alone.
        family: a key of :data:`stunet_deploy.config.RUN_CONFIGS`.
        preset: one of the family's :data:`PRESETS`.
        architecture: of a model to start from, in place of the preset's.
        days: from the first to the last interval of the recording, which choose what a preset leaves open.

    Raises:
        ConfigError: no such preset; the file cannot be read, or holds something unknown.
    """
    if preset not in PRESETS[family]:
        raise ConfigError(f"--preset {preset} for {family}", " or ".join(PRESETS[family]), "choose one of them")
    settings = read_toml(_FOLDER / f"{family}-{preset}.toml")
    for least, longer in settings.pop("days", {}).items():  # [days.N]: of a recording of N days or more
        if days >= float(least):
            settings = _over(settings, longer)
    if architecture is not None:
        settings["model"] = architecture
    return from_mapping(RUN_CONFIGS[family], settings if path is None else _over(settings, read_toml(path)))


def _over(settings: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of a file in their place, table by table."""
    merged = {**settings, **file}
    for name, table in settings.items():
        if isinstance(table, Mapping) and isinstance(merged[name], Mapping):
            merged[name] = {**table, **merged[name]}
    # A file that counts epochs does not want the preset's updates.
    training = file.get("training")
    if isinstance(training, Mapping) and "epochs" in training and "updates" not in training:
        merged["training"] = {**merged["training"], "updates": 0}
    return merged
