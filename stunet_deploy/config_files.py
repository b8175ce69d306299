"""Config files of training runs."""

from __future__ import annotations

from pathlib import Path

from stunet_deploy.config import RUN_CONFIGS, RunConfig, SRNNRunConfig
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.toml_files import read_toml


def read_run_config(path: Path | None, family: str = "stunet") -> RunConfig | SRNNRunConfig:
    """Read the config of a training run on sensors (targets, protocol, [model], [training]); the defaults without one.

    Args:
        path: a TOML file.
        family: a key of :data:`stunet_deploy.config.RUN_CONFIGS`.

    Raises:
        ConfigError: it cannot be read, or holds something unknown.
    """
    return RUN_CONFIGS[family]() if path is None else from_mapping(RUN_CONFIGS[family], read_toml(path))
