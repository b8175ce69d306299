"""Config files: TOML, read whole or refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from stunet_deploy.config import RUN_CONFIGS, RunConfig, SRNNRunConfig, from_mapping
from stunet_deploy.errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # novermin
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config file {path} ({error})", "a TOML file", "check the path and the file") from error


def read_run_config(path: Path | None, family: str = "stunet") -> RunConfig | SRNNRunConfig:
    """Read the config of a training run on sensors (targets, protocol, [model], [training]); the defaults without one.

    Args:
        path: a TOML file.
        family: a key of :data:`stunet_deploy.config.RUN_CONFIGS`.

    Raises:
        ConfigError: it cannot be read, or holds something unknown.
    """
    return RUN_CONFIGS[family]() if path is None else from_mapping(RUN_CONFIGS[family], read_toml(path))
